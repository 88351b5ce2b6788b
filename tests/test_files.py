"""Stacks in files: what is written is read again, and damage is told in words."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile

from fiji_poreseg import files, model
from fiji_poreseg.colours import LABEL_COLOURS
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files import tiff_reading, tiff_writing
from fiji_poreseg.files.planes import PlaneReader
from fiji_poreseg.stack import as_stack, make_labels, make_stack, spacing_nm

LABELS = ("first µ é", "", "日本", "d", "last")
SPACING = (20.0, 10.0, 8.0)
MEDULLA = Path(__file__).parent / "data" / "medulla"


def values(dtype="uint8", shape=(5, 7, 4)):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("unit", ["nm", "micron", "µm", "um", "Å", None])
def test_everything_survives_a_file(tmp_path, dtype, unit):
    stack = make_stack(
        values(dtype),
        SPACING if unit else None,
        slice_labels=LABELS,
        attrs={"source_unit": unit, "display_range": (3, 150)} if unit else None,
    )
    files.write(tmp_path / "a b.tif", stack)
    back = files.read(tmp_path / "a b.tif")
    assert back.name == "a b"
    assert back.dtype == dtype
    assert back.dims == ("z", "y", "x")
    np.testing.assert_array_equal(back, stack)
    assert back.slice_label.to_numpy().tolist() == list(LABELS)
    assert back.attrs["unit"] == ("nm" if unit else "pixel")
    assert spacing_nm(back) == (SPACING if unit else (10.0, 10.0, 10.0))
    if unit:
        assert back.attrs["source_unit"] == unit
        assert back.attrs["display_range"] == (3, 150)


@pytest.mark.parametrize("step", [2, -1])
def test_slice_labels_stay_with_their_slices(tmp_path, step):
    stack = make_stack(values(), SPACING, slice_labels=LABELS)[::step]
    files.write(tmp_path / "s.tif", stack)
    files.write(tmp_path / "l.tif", make_labels(values()[::step] % 3, stack))
    for name in ("s.tif", "l.tif"):
        back = files.read(tmp_path / name)
        assert back.slice_label.to_numpy().tolist() == list(LABELS[::step])
        assert spacing_nm(back) == (20.0 * abs(step), 10.0, 8.0)


def test_units_are_written_as_imagej_reads_them(tmp_path):
    files.write(tmp_path / "s.tif", make_stack(values(), SPACING, attrs={"source_unit": "µm"}))
    with tifffile.TiffFile(tmp_path / "s.tif") as tiff:
        assert "unit=\\u00B5m\nspacing=0.02" in tiff.pages.first.description
        numerator, denominator = tiff.pages.first.tags["XResolution"].value
        assert numerator / denominator == 125


def test_channels_keep_their_labels_and_range(tmp_path):
    stack = make_stack(
        values("uint16", (2, 5, 7, 3)),
        SPACING,
        slice_labels=LABELS,
        attrs={"display_range": (3.0, 99.0), "imagej_info": "made by µ"},
    )
    files.write(tmp_path / "s.tif", stack)
    back = files.read(tmp_path / "s.tif")
    assert back.dims == ("c", "z", "y", "x")
    np.testing.assert_array_equal(back, stack)
    assert back.slice_label.to_numpy().tolist() == list(LABELS)
    assert back.attrs["display_range"] == (3.0, 99.0)
    assert back.attrs["imagej_info"] == "made by µ"


def test_labels_carry_their_colours(tmp_path):
    stack = make_stack(values(), SPACING)
    files.write(tmp_path / "l.tif", make_labels(values() % 3, stack))
    np.testing.assert_array_equal(files.read(tmp_path / "l.tif"), values() % 3)
    with tifffile.TiffFile(tmp_path / "l.tif") as tiff:
        assert tiff.pages.first.photometric == tifffile.PHOTOMETRIC.PALETTE
        np.testing.assert_array_equal(tiff.pages.first.colormap.T >> 8, LABEL_COLOURS)


def test_label_colours_differ_also_in_grey():
    grey = LABEL_COLOURS[:3] / 255 @ [0.299, 0.587, 0.114]
    assert np.diff(grey).min() > 0.2


@pytest.mark.parametrize(
    ("highest", "expected"), [(0.7, (0.0, 1.0)), (3.0, (0.0, 3.0))], ids=["probability", "other"]
)
def test_display_range_of_floats(tmp_path, highest, expected):
    stack = make_stack(np.linspace(0, highest, 60, dtype="float64").reshape(3, 4, 5), SPACING)
    files.write(tmp_path / "p.tif", stack)
    back = files.read(tmp_path / "p.tif")
    assert back.dtype == "float32"
    assert back.attrs["display_range"] == expected


def test_probability_of_several_classes(tmp_path):
    stack = make_stack(values("float32", (3, 2, 4, 5)), SPACING)
    files.write(tmp_path / "p.tif", stack.rename(c="class"))
    np.testing.assert_array_equal(files.read(tmp_path / "p.tif"), stack)


def test_inverting_table_survives(tmp_path):
    files.write(tmp_path / "s.tif", make_stack(values(), attrs={"inverting_lut": True}))
    back = files.read(tmp_path / "s.tif")
    assert back.attrs["inverting_lut"] is True
    np.testing.assert_array_equal(back, values())


def test_ome(tmp_path):
    sizes = {"PhysicalSizeX": 0.008, "PhysicalSizeY": 10, "PhysicalSizeYUnit": "nm"}
    tifffile.imwrite(
        tmp_path / "s.ome.tif",
        values(),
        photometric="minisblack",
        metadata={"axes": "ZYX", "PhysicalSizeZ": 0.02, **sizes},
    )
    back = files.read(tmp_path / "s.ome.tif")
    np.testing.assert_array_equal(back, values())
    assert spacing_nm(back) == SPACING
    assert back.attrs["source_unit"] == "µm"


@pytest.mark.parametrize(
    ("shape", "options", "sizes"),
    [
        ((6, 4, 5), {}, {"z": 6, "y": 4, "x": 5}),
        ((4, 5), {}, {"z": 1, "y": 4, "x": 5}),
        ((6, 4, 5), {"imagej": True, "metadata": {"axes": "TYX"}}, {"z": 6, "y": 4, "x": 5}),
        ((9, 4, 5), {"imagej": True, "metadata": {"axes": "CYX"}}, {"z": 9, "y": 4, "x": 5}),
        (
            (3, 4, 5),
            {"imagej": True, "metadata": {"axes": "CYX"}},
            {"c": 3, "z": 1, "y": 4, "x": 5},
        ),
        ((40, 4, 5), {"compression": "zlib"}, {"z": 40, "y": 4, "x": 5}),
    ],
    ids=["plain", "one slice", "time is z", "too many channels", "channels", "compressed"],
)
def test_axes(tmp_path, shape, options, sizes):
    tifffile.imwrite(tmp_path / "s.tif", values("uint16", shape), **options)
    back = files.read(tmp_path / "s.tif")
    assert dict(back.sizes) == sizes
    np.testing.assert_array_equal(back.squeeze(), values("uint16", shape))
    with pytest.warns(UserWarning, match="no voxel size"):
        assert as_stack(str(tmp_path / "s.tif")).attrs["unit"] == "pixel"


def test_a_large_file_is_read_slice_by_slice(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_reading, "LARGE_BYTES", 100)
    files.write(tmp_path / "s.tif", make_stack(values("uint16"), SPACING))
    back = files.read(tmp_path / "s.tif")
    assert back.chunks == ((1, 1, 1, 1, 1), (7,), (4,))
    np.testing.assert_array_equal(back, values("uint16"))


def test_beyond_4_gb_slices_follow_one_header(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_writing, "_ONE_HEADER_BYTES", 100)
    lazy = da.from_array(values("uint16"), chunks=(1, 7, 4))
    files.write(tmp_path / "s.tif", make_stack(lazy, SPACING, slice_labels=LABELS))
    with tifffile.TiffFile(tmp_path / "s.tif") as tiff:
        assert len(tiff.pages) == 1
    back = files.read(tmp_path / "s.tif")
    np.testing.assert_array_equal(back, values("uint16"))
    assert back.slice_label.to_numpy().tolist() == list(LABELS)


def read_plane_700(path):
    return as_stack(files.read(path), voxel_size_nm=SPACING)[700].to_numpy()


def test_a_large_file_is_not_loaded(tmp_path, traced):
    path = tmp_path / "s.tif"
    with tifffile.TiffWriter(path, imagej=True) as tiff:
        place = tiff.write(
            shape=(1500, 1000, 1000), dtype="uint8", returnoffset=True, truncate=True
        )
    with open(path, "r+b") as stream:  # all but one grey value is a hole
        stream.truncate(place[0] + 1500 * 10**6)
        stream.seek(place[0] + 700 * 10**6)
        stream.write(b"\x09")
    plane, peak = traced(read_plane_700, path)
    assert plane[0, 0] == 9
    assert plane.sum() == 9
    assert peak < 50 * 10**6


def broken(kind, folder):
    path = folder / "stack.tif"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("no picture")
    elif kind == "colours":
        tifffile.imwrite(path, values(shape=(2, 6, 5, 3)), photometric="rgb")
    elif kind == "time and depth":
        tifffile.imwrite(path, values(shape=(2, 3, 6, 5)), imagej=True, metadata={"axes": "TZYX"})
    elif kind == "two sizes":
        tifffile.imwrite(path, values())
        tifffile.imwrite(path, values(shape=(9, 9)), append=True)
    return path


@pytest.mark.parametrize(
    ("kind", "rule", "hint"),
    [
        ("missing", "must be a file that exists", "Check the path"),
        ("folder", "must be a file", "Add the file's name"),
        ("empty", "must be a file with content", "Save it again"),
        ("text", "must be a TIFF file", "Open it in ImageJ"),
        ("colours", "must hold grey values", "Image > Type > 8-bit"),
        ("time and depth", "must have one axis of slices", "Reduce Dimensionality"),
        ("two sizes", "must hold slices of one size", "Open the right one"),
    ],
)
def test_refused(tmp_path, kind, rule, hint):
    path = broken(kind, tmp_path)
    with pytest.raises(ParameterError) as caught:
        files.read(path, parameter="truth")
    assert caught.value.parameter == "truth"
    assert rule in caught.value.rule
    assert str(path) in caught.value.value
    assert hint in caught.value.hint


@pytest.mark.parametrize("options", [{"imagej": True}, {}, {"compression": "zlib"}, {"ome": True}])
def test_a_file_cut_off_anywhere_is_complete_or_refused(tmp_path, capfd, options):
    tifffile.imwrite(tmp_path / "whole.tif", values(shape=(12, 20, 10)), **options)
    whole = files.read(tmp_path / "whole.tif")
    content = (tmp_path / "whole.tif").read_bytes()
    refused = 0
    for length in np.linspace(2, len(content) - 1, 60).astype(int):
        (tmp_path / "cut.tif").write_bytes(content[:length])
        try:
            np.testing.assert_array_equal(files.read(tmp_path / "cut.tif"), whole)
        except ParameterError:
            refused += 1
    assert refused > 20
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("dtype", ["bool", "int64", "int16"])
def test_types_that_imagej_lacks_are_refused(tmp_path, dtype):
    with pytest.raises(ParameterError, match=f"uint8, uint16, float32.*{dtype}.*Convert it"):
        files.write(tmp_path / "s.tif", make_stack(values(dtype), SPACING))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("missing/s.tif", "must lie in a folder that exists"),
        ("file/s.tif", "must lie in a folder that exists"),
        ("/proc/s.tif", "must lie in a folder that exists, can be written"),
        ("folder.tif", "must be a file"),
        ("s.png", "must end in .tif or .tiff"),
        ("s", "must end in .tif or .tiff"),
    ],
)
def test_output_that_cannot_be_written(tmp_path, name, rule):
    (tmp_path / "file").touch()
    (tmp_path / "folder.tif").mkdir()
    for attempt in (
        lambda path: files.check_output(path, "probability"),
        lambda path: files.write(path, make_stack(values()), parameter="probability"),
    ):
        with pytest.raises(ParameterError) as caught:
            attempt(tmp_path / name)
        assert caught.value.parameter == "probability"
        assert rule in caught.value.rule
        assert name in caught.value.value
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.tif"]


def test_checking_leaves_everything_as_it_was(tmp_path):
    (tmp_path / "old.tif").write_text("old")
    files.check_output(tmp_path / "old.tif")
    files.check_output(tmp_path / "new.JSON", suffixes=(".json",))
    assert [path.name for path in tmp_path.iterdir()] == ["old.tif"]
    assert (tmp_path / "old.tif").read_text() == "old"


def test_a_failure_while_writing_leaves_the_old_file(tmp_path):
    old = make_stack(values(), SPACING)
    files.write(tmp_path / "s.tif", old)

    def fail(block, block_info=None):
        if block_info[0]["chunk-location"][0] == 3:
            raise RuntimeError("computing failed")
        return block

    lazy = da.from_array(values() + 1, chunks=(1, 7, 4)).map_blocks(fail, dtype="uint8")
    with pytest.raises(RuntimeError, match="computing failed"):
        files.write(tmp_path / "s.tif", make_stack(lazy, SPACING))
    np.testing.assert_array_equal(files.read(tmp_path / "s.tif"), old)
    assert [path.name for path in tmp_path.iterdir()] == ["s.tif"]


def test_a_stack_may_replace_the_file_it_is_read_from(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_reading, "LARGE_BYTES", 100)
    files.write(tmp_path / "s.tif", make_stack(values(), SPACING))
    lazy = files.read(tmp_path / "s.tif")
    files.write(tmp_path / "s.tif", lazy + 1)
    np.testing.assert_array_equal(files.read(tmp_path / "s.tif"), values() + 1)


def test_a_large_file_that_is_cut_off_while_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(tiff_reading, "LARGE_BYTES", 100)
    files.write(tmp_path / "s.tif", make_stack(values("uint16", (5, 70, 200)), SPACING))
    lazy = files.read(tmp_path / "s.tif")
    os.truncate(tmp_path / "s.tif", 90_000)
    np.testing.assert_array_equal(lazy[1], values("uint16", (5, 70, 200))[1])
    with pytest.raises(OSError, match=r"s\.tif was cut off while it was being read"):
        lazy[4].compute()


# A broken disk cannot be made; this file of Linux fails in the same way wherever it is read.
@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that fails")
def test_a_block_that_cannot_be_read_is_said_to_be_of_its_file():
    # Nothing lies at the beginning of a process's memory.
    reader = PlaneReader("/proc/self/mem", 0, (2, 4, 4), np.dtype("uint8"))
    with pytest.raises(OSError, match=r"Input/output error: '/proc/self/mem'"):
        reader(1)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    files.write(tmp_path / "s.tif", make_stack(values(), SPACING))

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    # By root any file may be read.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ParameterError, match="must be a file that exists and can be read"):
        files.read(tmp_path / "s.tif")


def test_slices_are_written_in_any_order_and_read_back(tmp_path):
    stack = make_stack(values("float32", (2, 5, 7, 3)), SPACING, attrs={"display_range": (0, 9)})
    lazy = stack.chunk(z=1)
    files.write(tmp_path / "whole.tif", lazy)
    with files.writing(tmp_path / "s.tif", lazy) as slices:
        for index in (3, 0, 4, 2, 1):
            slices[index] = stack[:, index].to_numpy()
        assert [path.name for path in tmp_path.glob("s.tif")] == []
    assert (tmp_path / "s.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    read = slices.reader()
    np.testing.assert_array_equal(read(2), stack[:, 2])
    np.testing.assert_array_equal(read(2, 1), stack[1, 2])


def test_the_file_that_finds_no_space_is_named(tmp_path, file_size_limit):
    stack = make_stack(values(shape=(5, 70, 200)), SPACING)

    def write_both():
        with (
            files.writing(tmp_path / "s.tif", stack) as slices,
            files.writing(tmp_path / "p.tif", stack, parameter="probability"),
        ):
            file_size_limit(10_000)
            slices[4] = stack[4].to_numpy()

    with pytest.raises(ParameterError, match=r"`output` must lie in .* has space"):
        write_both()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_in_words(tmp_path):
    with (
        pytest.raises(ParameterError, match=r"`json` must lie in a folder.*No space.*free some"),
        files.replacing(tmp_path / "s.json", "json"),
    ):
        raise OSError(28, os.strerror(28))


def test_the_reason_is_told_of_a_long_path_too(tmp_path):
    with (
        pytest.raises(ParameterError, match=r"has space \(No space left on device\), but is: .*s…"),
        files.replacing(tmp_path / ("s" * 200), "json"),
    ):
        raise OSError(28, os.strerror(28))


def test_of_files_that_belong_together_all_are_replaced_or_none(tmp_path, file_size_limit):
    stack = make_stack(values(shape=(5, 70, 200)), SPACING)
    for name in ("a.txt", "s.tif"):
        (tmp_path / name).write_text("old")

    def write_all(text):
        with files.together():
            files.write_text(tmp_path / "a.txt", text)
            assert files.written(tmp_path / "a.txt").read_text() == text
            assert (tmp_path / "a.txt").read_text() == "old"
            with files.together():
                files.write(tmp_path / "s.tif", stack)
            files.write_text(tmp_path / "a.txt", f"{text}er")

    file_size_limit(10_000)
    with pytest.raises(ParameterError, match=r"`output` must lie in .* has space.*s\.tif"):
        write_all("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a.txt": "old",
        "s.tif": "old",
    }
    file_size_limit(-1)
    write_all("new")
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", "s.tif"}
    assert (tmp_path / "a.txt").read_text() == "newer"
    np.testing.assert_array_equal(files.read(tmp_path / "s.tif"), stack)


def test_other_errors_pass_through_replacing(tmp_path):
    with pytest.raises(ConnectionError), files.replacing(tmp_path / "s.json"):
        raise ConnectionError


def test_text_is_replaced_whole(tmp_path):
    (tmp_path / "s.json").write_text("old")
    files.write_text(tmp_path / "s.json", '{"µ": 1}\n')
    assert (tmp_path / "s.json").read_bytes() == '{"µ": 1}\n'.encode()


@dataclass(frozen=True)
class Weights(model.Model):
    """A model that is nothing but an array."""

    arrays: object

    # Only its file is looked at.
    predict = predict_labels = reach = check = None

    def contents(self):
        return model.Contents("forest", {}, self.arrays)


def test_a_model_with_one_wrong_byte_is_whole_or_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(
        model._readers, "forest", lambda card, settings, arrays: Weights(card, arrays)
    )
    card = model.Card(("pore", "solid"), SPACING, 1, "forward", (0, 2), 0, {"image": "ab"})
    weights = np.arange(60.0).reshape(5, 12)
    path = tmp_path / "m.poreseg"
    Weights(card, {"a": weights}).save(path)
    whole = path.read_bytes()
    refused = 0
    for place in np.linspace(0, len(whole) - 1, 200).astype(int):
        for flip in (0x01, 0xFF):
            damaged = bytearray(whole)
            damaged[place] ^= flip
            path.write_bytes(damaged)
            try:
                loaded = model.load(path)
            except ParameterError:
                refused += 1
            else:
                assert loaded.card == card
                for array in loaded.arrays.values():
                    np.testing.assert_array_equal(array, weights)
    assert refused > 100


def test_the_real_crop():
    raw, labels = (files.read(MEDULLA / name) for name in ("raw.tif", "labels.tif"))
    assert raw.shape == labels.shape == (100, 160, 160)
    assert spacing_nm(raw) == spacing_nm(labels) == (10.0, 10.0, 10.0)
    for plane in labels:
        assert np.unique(plane).tolist() == [1, 2]
    # Boundaries are membranes, which are dark.
    assert raw.to_numpy()[labels == 2].mean() < raw.to_numpy()[labels == 1].mean() - 10
