"""OME-Zarr, OME-TIFF, BigTIFF, folders of slices, and what microscopes write into their TIFFs."""

import errno
import json
import logging
import pickle
import shutil
import sys
import threading
import time
import warnings

import cloudpickle
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from PIL import Image
from yaozarrs import validate_zarr_store

import fiji_poreseg as fp
from fiji_poreseg import files
from fiji_poreseg.cli import main
from fiji_poreseg.errors import ParameterError, PoreSegWarning
from fiji_poreseg.files import folders, tiff_reading, zarr_reading, zarr_writing
from fiji_poreseg.lazy import lazy_planes
from fiji_poreseg.stack import as_stack, make_labels, make_stack, spacing_nm

SPACING = (20.0, 10.0, 8.0)


def grey(shape=(5, 60, 70), dtype="uint8", **more):
    values = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    return make_stack(values, SPACING, name="stack", **more)


class TestOmeZarr:
    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
    def test_everything_survives(self, tmp_path, dtype):
        stack = grey(
            dtype=dtype,
            origin_nm=(100.0, 0.0, 0.0),
            slice_labels=["first µ", "", "日本", "d", "last"],
            attrs={"source_unit": "µm", "display_range": (3.0, 150.0), "imagej_info": "a\nb"},
        )
        fp.write(tmp_path / "stack.ome.zarr", stack)
        back = fp.read(tmp_path / "stack.ome.zarr")
        assert back.drop_attrs().identical(stack.drop_attrs())
        assert {**back.attrs} == {**stack.attrs, "inverting_lut": False}
        validate_zarr_store(str(tmp_path / "stack.ome.zarr"))

    def test_detectors_keep_their_names(self, tmp_path):
        stack = grey((2, 3, 40, 30)).assign_coords(c=["SE", "BSE"])
        fp.write(tmp_path / "s.zarr", stack)
        back = fp.read(tmp_path / "s.zarr")
        assert back.c.to_numpy().tolist() == ["SE", "BSE"]
        np.testing.assert_array_equal(back, stack)

    def test_without_calibration(self, tmp_path):
        fp.write(tmp_path / "s.zarr", make_stack(grey().to_numpy()))
        assert fp.read(tmp_path / "s.zarr").attrs["unit"] == "pixel"

    def test_smaller_copies_lie_where_they_belong(self, tmp_path):
        stack = make_stack(np.full((4, 1101, 600), 10, "uint8"), (20, 10, 10))
        stack[:2, :2, :2] = 50
        fp.write(tmp_path / "s.zarr", stack)
        group = zarr.open_group(tmp_path / "s.zarr", mode="r")
        assert [group[name].shape for name in "012"] == [
            (4, 1101, 600),
            (4, 550, 300),
            (2, 275, 150),
        ]
        assert group["1"][0, 0, :2].tolist() == [50, 10]
        assert group["2"][0, 0, 0] == 20
        first, second, third = (
            {one["type"]: one[one["type"]] for one in level["coordinateTransformations"]}
            for level in group.attrs["ome"]["multiscales"][0]["datasets"]
        )
        assert first == {"scale": [20, 10, 10]}
        assert second == {"scale": [20, 20, 20], "translation": [0, 5, 5]}
        assert third == {"scale": [40, 40, 40], "translation": [10, 15, 15]}

    def test_labels_lie_inside_of_their_image(self, tmp_path):
        stack = grey()
        fp.write(tmp_path / "s.zarr", stack)
        labels = make_labels(stack.to_numpy() % 4, stack, classes=("pore", "solid", "resin"))
        for name in ("pores", "again", "pores"):
            fp.write(tmp_path / "s.zarr" / "labels" / name, labels)
        back = fp.read(tmp_path / "s.zarr" / "labels" / "pores")
        np.testing.assert_array_equal(back, labels)
        assert back.attrs["classes"] == ("pore", "solid", "resin")
        np.testing.assert_array_equal(fp.read(tmp_path / "s.zarr"), stack)
        validate_zarr_store(str(tmp_path / "s.zarr"))
        listed = json.loads((tmp_path / "s.zarr" / "labels" / "zarr.json").read_text())
        assert listed["attributes"]["ome"]["labels"] == ["again", "pores"]

    @pytest.mark.parametrize("chunks", [(2, 30, 40), (1, 60, 70), (4, 100, 100)])
    @pytest.mark.parametrize("version", [2, 3])
    def test_others_are_read(self, tmp_path, monkeypatch, chunks, version):
        monkeypatch.setattr(zarr_reading, "LARGE_BYTES", 100)
        values = np.random.default_rng(0).integers(0, 999, (1, 2, 7, 60, 70)).astype(">u2")
        axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
        axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}, *axes]
        scale = {"type": "scale", "scale": [1, 1, 0.02, 0.01, 0.01]}
        moved = {"type": "translation", "translation": [0, 0, 0, 1, 0]}
        twice = {"type": "scale", "scale": [1, 1, 1, 2, 2]}
        multiscales = {
            "axes": axes,
            "datasets": [{"path": "full", "coordinateTransformations": [scale, moved]}],
            "coordinateTransformations": [twice],
        }
        if version == 2:
            attributes = {"multiscales": [{**multiscales, "version": "0.4"}]}
        else:
            attributes = {"ome": {"version": "0.5", "multiscales": [multiscales]}}
        group = zarr.create_group(tmp_path / "s.zarr", zarr_format=version, attributes=attributes)
        group.create_array("full", data=values, chunks=(1, 1, *chunks))
        stack = fp.read(tmp_path / "s.zarr")
        assert stack.dims == ("c", "z", "y", "x")
        assert stack.dtype == np.dtype("uint16").newbyteorder("=")
        assert spacing_nm(stack) == (20, 20, 20)
        assert float(stack.y[0]) == 2000
        assert stack.chunks is not None
        for one in (stack, pickle.loads(cloudpickle.dumps(stack))):
            np.testing.assert_array_equal(one, values[0])

    def test_an_old_one_is_replaced_only_whole(self, tmp_path):
        stack = grey()
        fp.write(tmp_path / "s.zarr", stack)
        with pytest.raises(RuntimeError, match="stopped"):
            fp.write(tmp_path / "s.zarr", breaking(stack))
        np.testing.assert_array_equal(fp.read(tmp_path / "s.zarr"), stack)
        fp.write(tmp_path / "s.zarr", stack[:2])
        np.testing.assert_array_equal(fp.read(tmp_path / "s.zarr"), stack[:2])
        assert [path.name for path in tmp_path.iterdir()] == ["s.zarr"]

    @pytest.mark.parametrize("is_file", [True, False])
    def test_something_else_is_not_replaced(self, tmp_path, is_file):
        kept = tmp_path / "s.zarr"
        if not is_file:
            kept.mkdir()
            kept = kept / "thesis.txt"
        kept.write_text("three years of work")
        with pytest.raises(ParameterError, match=r"must not be .* something else, which would be"):
            fp.write(tmp_path / "s.zarr", grey())
        assert kept.read_text() == "three years of work"

    def test_one_with_labels_is_not_replaced(self, tmp_path):
        fp.write(tmp_path / "s.zarr", grey())
        labels = make_labels(grey().to_numpy() % 3, grey())
        fp.write(tmp_path / "s.zarr" / "labels" / "mine", labels)
        with pytest.raises(ParameterError, match=r"must not hold labels, which would be lost"):
            fp.convert(tmp_path / "s.zarr", output=tmp_path / "s.zarr", voxel_size_nm=(1, 1, 1))
        np.testing.assert_array_equal(fp.read(tmp_path / "s.zarr" / "labels" / "mine"), labels)

    def test_a_group_of_images_is_not_replaced(self, tmp_path):
        zarr.open_group(tmp_path / "plate.zarr", mode="w")
        with pytest.raises(ParameterError, match=r"a folder of something else"):
            fp.write(tmp_path / "plate.zarr", grey())

    def test_three_slices_are_halved(self, tmp_path):
        stack = make_stack(np.zeros((3, 1100, 1100), "uint8"), (10, 10, 10))
        stack[2] = 90
        fp.write(tmp_path / "s.zarr", stack)
        assert not zarr.open_array(tmp_path / "s.zarr" / "1", mode="r")[...].any()

    def test_labels_do_not_lie_in_an_old_version(self, tmp_path):
        zarr.create_group(tmp_path / "s.zarr", zarr_format=2)
        with pytest.raises(ParameterError, match=r"version 0\.5 only"):
            fp.write(tmp_path / "s.zarr" / "labels" / "pores", grey())

    @pytest.mark.parametrize("resume", [False, True])
    def test_a_segmentation_goes_through_it(self, tmp_path, resume):
        made = fp.phantom(slices=6, size=32, feature_size_nm=150, attenuation_nm=150)
        forest = fp.train_forest(made.stack, made.truth, indices=(0, 5), trees=4, folds=0)
        fp.write(tmp_path / "raw.zarr", made.stack)
        for output, probability in (
            (tmp_path / "seg.tif", tmp_path / "p.tif"),
            (tmp_path / "raw.zarr" / "labels" / "pores", tmp_path / "p.zarr"),
        ):
            fp.segment(
                tmp_path / "raw.zarr",
                model=forest,
                output=output,
                probability=probability,
                resume=resume,
            )
        labels = fp.read(tmp_path / "raw.zarr" / "labels" / "pores")
        np.testing.assert_array_equal(labels, fp.read(tmp_path / "seg.tif"))
        np.testing.assert_array_equal(fp.read(tmp_path / "p.zarr"), fp.read(tmp_path / "p.tif"))
        # Its provenance is in either file.
        for one in (labels, fp.read(tmp_path / "seg.tif")):
            assert f"model: forest, SHA-256 {forest.digest()}" in one.attrs["imagej_info"]
        assert fp.evaluate(labels, made.truth).mean["accuracy"] > 0.8

    def test_what_was_begun_is_gone_on_with(self, tmp_path):
        made = fp.phantom(slices=6, size=32, feature_size_nm=150, attenuation_nm=150)
        forest = fp.train_forest(made.stack, made.truth, indices=(0, 5), trees=4, folds=0)
        given = {"model": forest, "output": tmp_path / "seg.zarr", "resume": True}

        class Stopped(type(forest)):
            def predict_labels(self, stack, indices, **options):
                for count, answer in enumerate(forest.predict_labels(stack, indices, **options)):
                    if count == 3:
                        raise RuntimeError("stopped")
                    yield answer

        stopped = Stopped(**{name: getattr(forest, name) for name in vars(forest)})
        with pytest.raises(RuntimeError, match="stopped"):
            fp.segment(made.stack, **{**given, "model": stopped})
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            ".seg.zarr.begun",
            ".seg.zarr.journal",
        ]
        answer = fp.segment(made.stack, **given).segmentation
        np.testing.assert_array_equal(answer, fp.segment(made.stack, model=forest).segmentation)
        np.testing.assert_array_equal(answer, fp.read(tmp_path / "seg.zarr"))
        assert [path.name for path in tmp_path.iterdir()] == ["seg.zarr"]

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("zarr.json", "{", "JSON|Expecting"),
            ("zarr.json", '{"zarr_format": 3, "node_type": "group"}', "without `multiscales`"),
            ("zarr.json", "[1]", "holds a list"),
            ("0/zarr.json", "{}", "codecs"),
            ("0/zarr.json", None, "No such file"),
        ],
    )
    def test_damage_is_told(self, tmp_path, name, content, said):
        fp.write(tmp_path / "s.zarr", grey())
        file = tmp_path / "s.zarr" / name
        file.unlink()
        if content is not None:
            file.write_text(content)
        elif name == "0/zarr.json":
            assert not file.exists()
        with pytest.raises(ParameterError, match=f"`image` must be .*({said})"):
            fp.read(tmp_path / "s.zarr")

    def test_a_number_of_slices_that_no_memory_holds_is_refused(self, tmp_path):
        fp.write(tmp_path / "s.zarr", grey())
        file = tmp_path / "s.zarr" / "0" / "zarr.json"
        metadata = json.loads(file.read_text())
        metadata["shape"][0] = 2**31 - 1
        file.write_text(json.dumps(metadata))
        with pytest.raises(ParameterError, match="more than 1000000 slices"):
            fp.read(tmp_path / "s.zarr")

    def test_a_path_does_not_lead_out(self, tmp_path):
        fp.write(tmp_path / "other.zarr", grey())
        fp.write(tmp_path / "s.zarr", grey())
        file = tmp_path / "s.zarr" / "zarr.json"
        metadata = json.loads(file.read_text())
        level = metadata["attributes"]["ome"]["multiscales"][0]["datasets"][0]
        shutil.rmtree(tmp_path / "s.zarr" / "0")
        for path, said in (("../other.zarr/0", "datasets.0.path: "), ("0", "0 leads out of the")):
            level["path"] = path
            file.write_text(json.dumps(metadata))
            (tmp_path / "s.zarr" / "0").unlink(missing_ok=True)
            (tmp_path / "s.zarr" / "0").symlink_to(tmp_path / "other.zarr" / "0")
            with pytest.raises(ParameterError, match=said):
                fp.read(tmp_path / "s.zarr")

    def test_no_code_of_a_file_is_run(self, tmp_path):
        class Harm:
            def __reduce__(self):
                return open, (str(tmp_path / "harmed"), "w")

        folder = tmp_path / "s.zarr"
        level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}]}
        axes = [{"name": name, "type": "space"} for name in "zyx"]
        attributes = {"multiscales": [{"version": "0.4", "axes": axes, "datasets": [level]}]}
        group = zarr.create_group(folder, zarr_format=2, attributes=attributes)
        group.create_array("0", data=np.ones((1, 4, 4), "uint8"), compressors=None)
        array = json.loads((folder / "0" / ".zarray").read_text())
        array["compressor"] = {"id": "pickle", "protocol": 5}
        (folder / "0" / ".zarray").write_text(json.dumps(array))
        chunk = next(path for path in (folder / "0").rglob("*") if not path.name.startswith("."))
        chunk.write_bytes(pickle.dumps(Harm()))
        with pytest.raises(ParameterError, match="compressed with pickle"):
            fp.read(folder)
        assert not (tmp_path / "harmed").exists()
        with pickle.loads(chunk.read_bytes()):
            assert (tmp_path / "harmed").exists()


def breaking(stack):
    """The same stack, whose third slice cannot be read."""

    def read(index):
        if index == 2:
            raise RuntimeError("stopped")
        return stack[index].to_numpy()

    return stack.copy(data=lazy_planes(read, stack.shape, stack.dtype))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [None, ["SE", "BSE"]])
def test_ome_tiff(tmp_path, dtype, channels):
    stack = grey(dtype=dtype, attrs={"source_unit": "micron"})
    if channels:
        stack = grey((2, 5, 60, 70), dtype).assign_coords(c=channels)
    fp.write(tmp_path / "stack.ome.tif", stack)
    back = fp.read(tmp_path / "stack.ome.tif")
    np.testing.assert_array_equal(back, stack)
    assert back.dims == stack.dims
    assert spacing_nm(back) == SPACING
    assert back.name == "stack"
    with tifffile.TiffFile(tmp_path / "stack.ome.tif") as tiff:
        assert tiff.is_ome
        if channels:
            found = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]["Pixels"]["Channel"]
            assert [one["Name"] for one in found] == channels


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_any_large_tiff_is_read_slice_by_slice(tmp_path, monkeypatch, compression, tile, bigtiff):
    monkeypatch.setattr(tiff_reading, "LARGE_BYTES", 100)
    values = grey((7, 60, 70), "uint16").to_numpy()
    tifffile.imwrite(
        tmp_path / "s.tif",
        values,
        bigtiff=bigtiff,
        compression=compression,
        tile=tile,
        photometric="minisblack",
        metadata={"axes": "ZYX"},
        byteorder=">",
    )
    stack = fp.read(tmp_path / "s.tif")
    assert stack.chunks is not None
    sent = pickle.loads(cloudpickle.dumps(stack))
    for one in (stack, sent):
        assert one.dtype == np.dtype("uint16").newbyteorder("=")
        np.testing.assert_array_equal(one[5:2:-1], values[5:2:-1])
        np.testing.assert_array_equal(one, values)


class TestFolder:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path):
        folder = tmp_path / "run 7"
        folder.mkdir()
        for number in (10, 9, 1):
            fp.write(folder / f"slice {number}.tif", grey((1, 20, 30)) + np.uint8(number))
        (folder / "._slice 9.tif").write_text("of a Mac")
        (folder / "notes.txt").write_text("pale")
        (folder / "older.tif").mkdir()
        return folder

    @pytest.mark.parametrize("most", [100, 1e6])
    def test_slices_are_in_the_order_of_their_numbers(self, folder, monkeypatch, most):
        monkeypatch.setattr(folders, "LARGE_BYTES", most)
        stack = fp.read(folder)
        assert (stack.chunks is None) == (most > 1e5)
        assert stack.name == "run 7"
        assert stack.slice_label.to_numpy().tolist() == ["slice 1", "slice 9", "slice 10"]
        assert spacing_nm(stack) == SPACING
        stack = pickle.loads(cloudpickle.dumps(stack))
        for plane, brighter in zip(stack, (0, 8, 9), strict=True):
            np.testing.assert_array_equal(plane, stack[0] + np.uint8(brighter))

    def test_others_are_refused(self, folder):
        fp.write(folder / "slice 2.tif", grey((1, 20, 31)))
        with pytest.raises(ParameterError, match=r"one size and type.*slice 2\.tif.*\(20, 31\)"):
            fp.read(folder)
        fp.write(folder / "slice 2.tif", grey((2, 20, 30)))
        with pytest.raises(ParameterError, match=r"slice 2\.tif: .* in 2 slices"):
            fp.read(folder)

    def test_of_imagej_says_nothing_of_the_distance_of_slices(self, tmp_path):
        for number in range(2):
            # ImageJ writes `spacing` where a file has several slices only.
            tifffile.imwrite(
                tmp_path / f"{number}.tif",
                np.zeros((20, 30), "uint8"),
                imagej=True,
                resolution=(0.2, 0.25),
                metadata={"unit": "nm"},
            )
        with pytest.warns(PoreSegWarning, match=r"how thick its slices are: .* 5 nm"):
            stack = as_stack(tmp_path)
        assert spacing_nm(stack) == (5, 4, 5)

    def test_read_in_threads_leaves_warnings_as_they_were(self, folder, monkeypatch):
        monkeypatch.setattr(folders, "LARGE_BYTES", 0)
        before = list(warnings.filters), logging.getLogger("tifffile").propagate
        for _ in range(20):
            fp.read(folder).to_numpy()
        assert (list(warnings.filters), logging.getLogger("tifffile").propagate) == before

    def test_one_without_slices_is_refused(self, tmp_path):
        (tmp_path / "empty").mkdir()
        with pytest.raises(ParameterError, match=r"a folder of slices as TIFF.*there is none"):
            fp.read(tmp_path / "empty")


THERMO_FISHER = "[User]\r\nDate=1\r\n[Scan]\r\nPixelWidth=4e-09\r\nPixelHeight=5e-09\r\n\r\n"
ZEISS = "\r\n".join(["", "AP_IMAGE_PIXEL_SIZE", "Image Pixel Size = 12.5 nm", ""])
TESCAN = b"\x00\x01junk[MAIN]\r\nPixelSizeX=1.25E-8\r\nPixelSizeY=1.5E-8\r\n"


@pytest.mark.parametrize(
    ("tag", "kind", "content", "spacing"),
    [
        (34682, "s", THERMO_FISHER, (4.0, 5.0, 4.0)),
        (34118, "s", ZEISS, (12.5, 12.5, 12.5)),
        (50431, "B", TESCAN, (12.5, 15.0, 12.5)),
    ],
)
def test_the_pixel_size_of_a_microscope(tmp_path, tag, kind, content, spacing):
    for number in range(2):
        tifffile.imwrite(
            tmp_path / f"{number}.tif",
            np.zeros((20, 30), "uint8"),
            extratags=[(tag, kind, len(content) if kind == "B" else 0, content, True)],
            metadata=None,
        )
    assert spacing_nm(fp.read(tmp_path / "0.tif")) == spacing
    with pytest.warns(PoreSegWarning, match=rf"how thick its slices are: .* {spacing[2]:g} nm"):
        stack = as_stack(tmp_path)
    assert spacing_nm(stack) == spacing
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert spacing_nm(as_stack(tmp_path, voxel_size_nm=(20, 5, 4))) == (20, 5, 4)


@pytest.mark.parametrize("size", ["= 2.5", "=", "= 5,000 nm", "= 3 furlong"])
def test_a_microscope_that_gives_no_size_is_read_without(tmp_path, size):
    content = "\r\n".join(["", "AP_IMAGE_PIXEL_SIZE", f"Image Pixel Size {size}", ""])
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((20, 30), "uint8"), extratags=[(34118, "s", 0, content, True)])
    stack = fp.read(path)
    assert stack.attrs["unit"] == "pixel"
    assert stack.shape == (1, 20, 30)


def test_a_size_that_is_given_is_not_said_to_be_assumed(tmp_path):
    stack = make_stack(np.ones((3, 4, 5), np.uint8), (5, 5, 5), attrs={"thickness": "assumed"})
    given = as_stack(stack, voxel_size_nm=(20, 5, 5))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_stack(given)


@pytest.mark.parametrize("name", ["s.tif", "s.ome.tif", "s.zarr"])
class TestWhatIsWritten:
    def test_is_in_the_unit_that_it_is_given_in(self, tmp_path, name):
        stack = make_stack(np.ones((3, 4, 5), np.uint8), (20, 10, 5))
        of_micrometres = stack.assign_coords({axis: stack[axis] / 1000 for axis in "zyx"})
        files.write(tmp_path / name, of_micrometres.assign_attrs(unit="um"))
        assert spacing_nm(files.read(tmp_path / name)) == pytest.approx((20, 10, 5))
        with pytest.raises(ParameterError, match="furlong"):
            files.write(tmp_path / name, stack.assign_attrs(unit="furlong"))

    @pytest.mark.parametrize("dims", ["xyz", "zyxc", "zcyx", "yx"])
    def test_has_its_axes_in_order(self, tmp_path, name, dims):
        image = xr.DataArray(np.zeros([2] * len(dims), np.uint8), dims=list(dims))
        with pytest.raises(ParameterError, match=r"`image` must be .* the dims .*transpose"):
            files.write(tmp_path / name, image)
        with pytest.raises(ParameterError, match="a ndarray"):
            files.write(tmp_path / name, image.to_numpy())
        assert list(tmp_path.iterdir()) == []


class TestLazyZarr:
    @pytest.fixture
    def stack(self, tmp_path, monkeypatch):
        monkeypatch.setattr(zarr_reading, "LARGE_BYTES", 10)
        files.write(tmp_path / "a.zarr", make_stack(np.ones((3, 4, 5), np.uint8), (20, 10, 5)))
        stack = files.read(tmp_path / "a.zarr")
        assert stack.chunks is not None
        return stack

    def test_that_is_gone_is_not_black(self, tmp_path, stack):
        (tmp_path / "a.zarr").rename(tmp_path / "b.zarr")
        with pytest.raises(OSError, match=r"a\.zarr was changed or removed"):
            stack.compute()

    def test_that_is_replaced_is_not_the_new_one(self, tmp_path, stack):
        sent = cloudpickle.dumps(stack)
        files.write(tmp_path / "a.zarr", make_stack(np.zeros((3, 4, 5), np.uint8), (20, 10, 5)))
        for old in (stack, pickle.loads(sent)):
            with pytest.raises(OSError, match=r"a\.zarr was changed or removed"):
                old.compute()


def test_a_disk_that_is_full_for_some_chunks_leaves_nothing(tmp_path, monkeypatch):
    put = zarr.storage._local._put

    def on_a_full_disk(path, *args, **options):
        if str(path).endswith("/3/0/0"):
            raise OSError(errno.ENOSPC, "No space left on device")
        time.sleep(0.02 * ("/3/" in str(path)))
        return put(path, *args, **options)

    monkeypatch.setattr(zarr.storage._local, "_put", on_a_full_disk)
    values = np.random.default_rng(0).integers(0, 255, (6, 32, 3000), np.uint8)
    for _ in range(8):
        with pytest.raises(ParameterError, match="full"):
            files.write(tmp_path / "a.zarr", make_stack(values, SPACING))
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("tag", "kind", "content"),
    [
        (34682, "s", THERMO_FISHER + "[Image]\r\nResolutionX=30\r\nResolutionY=17\r\n"),
        (34682, "s", THERMO_FISHER + "[PrivateFei]\r\nDatabarHeight=3\r\n"),
        (50431, "B", TESCAN + b"ImageStripSize=3\r\n"),
    ],
)
def test_the_data_bar_of_a_microscope_is_told_of_until_it_is_cut_off(tmp_path, tag, kind, content):
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.zeros((20, 30), "uint8"),
        extratags=[(tag, kind, len(content) if kind == "B" else 0, content, True)],
        metadata=None,
    )
    stack = fp.read(tmp_path / "a.tif")
    with pytest.warns(PoreSegWarning, match=r"the last 3 of 20 rows .* data bar"):
        as_stack(stack)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        as_stack(stack[:, :17])


@pytest.mark.parametrize("compression", ["tiff_lzw", "zstd"])
def test_a_compression_that_is_not_known_is_named(tmp_path, monkeypatch, compression):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    Image.fromarray(np.zeros((64, 64), "uint8")).save(tmp_path / "a.tif", compression=compression)
    with pytest.raises(ParameterError, match=r"without compression.*compressed otherwise"):
        fp.read(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", [".tif", ".zarr"])
def test_two_do_not_write_one_image(tmp_path, suffix):
    path, said = tmp_path / f"s{suffix}", []

    def second():
        try:
            fp.write(path, grey())
        except ParameterError as error:
            said.append(str(error))

    with files.writing(path, grey()) as slices:
        other = threading.Thread(target=second)
        other.start()
        other.join()
        for index, plane in enumerate(grey().to_numpy()):
            slices[index] = plane
    assert len(said) == 1
    assert "must not be a file that another command is writing" in said[0]
    np.testing.assert_array_equal(fp.read(path), grey())
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_a_stack_is_converted_there_and_back(tmp_path, capsys):
    fp.write(tmp_path / "a.tif", grey(slice_labels=list("abcde")))
    for before, after in (("a.tif", "b.zarr"), ("b.zarr", "c.ome.tif"), ("b.zarr", "d.tif")):
        assert main(["convert", str(tmp_path / before), "--output", str(tmp_path / after)]) == 0
        assert "5 x 60 x 70 voxels of 20 x 10 x 8 nm, uint8" in capsys.readouterr().out
        np.testing.assert_array_equal(fp.read(tmp_path / after), grey())
    assert (tmp_path / "d.tif").read_bytes() == (tmp_path / "a.tif").read_bytes()


def test_labels_are_saved_beside_their_stack(tmp_path):
    fp.write(tmp_path / "s.zarr", grey())
    labels = make_labels(grey().to_numpy() % 3, grey())
    fp.save_labels(tmp_path / "s.zarr", labels, output=tmp_path / "s.zarr" / "labels" / "mine")
    np.testing.assert_array_equal(fp.read(tmp_path / "s.zarr" / "labels" / "mine"), labels)


def test_labels_do_not_come_where_they_cannot_be_listed(tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    fp.write(tmp_path / "s.zarr", grey())
    labels = make_labels(grey().to_numpy() % 3, grey())
    monkeypatch.setattr(zarr_writing, "write_text", refuse)
    with pytest.raises(ParameterError, match="has space"):
        fp.write(tmp_path / "s.zarr" / "labels" / "pores", labels)
    assert list((tmp_path / "s.zarr" / "labels").iterdir()) == []
