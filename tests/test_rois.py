"""ROIs as labels: which pixels, which slice, which class, and what is refused.

The masks are drawn by hand; that ImageJ covers the same pixels was checked in ImageJ 1.54p.
"""

from __future__ import annotations

import struct
import zipfile

import numpy as np
import pytest
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi

from fiji_poreseg import files, rois
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.rois import roi_files
from fiji_poreseg.stack import make_labels, make_stack

SPACING = (20.0, 10.0, 10.0)


def stack(slices=1, height=6, width=8, channels=None):
    shape = (slices, height, width)
    return make_stack(np.zeros(shape if channels is None else (channels, *shape), "u1"), SPACING)


def rectangle(left=2, top=1, right=5, bottom=4, **options):
    options = {"group": 2, **options}
    return ImagejRoi(
        roitype=ROI_TYPE.RECT, left=left, top=top, right=right, bottom=bottom, **options
    )


def shape(points, roitype, **options):
    roi = ImagejRoi.frompoints(np.array(points, "f4"))
    roi.roitype = roitype
    roi.group = 2
    for name, value in options.items():
        setattr(roi, name, value)
    return roi


def path(*numbers):
    values = np.array(numbers, "f4")
    return ImagejRoi(
        roitype=ROI_TYPE.RECT, group=2, multi_coordinates=values, shape_roi_size=len(values)
    )


def drawn(roi, **size):
    """Rows of a slice, # where the ROI is."""
    plane = rois.rois_to_labels([roi], stack(**size)).to_numpy()[0]
    assert set(np.unique(plane)) <= {0, 2}
    return ["".join(".#"[int(value > 0)] for value in row) for row in plane]


RECTANGLE = ["........", "..###...", "..###...", "..###...", "........", "........"]
SQUARE_PATH = (0, 1, 1, 1, 6, 1, 1, 6, 5, 1, 1, 5, 4)


@pytest.mark.parametrize(
    ("roi", "expected"),
    [
        (rectangle(), RECTANGLE),
        (rectangle(rounded_rect_arc_size=2), RECTANGLE),
        (
            rectangle(-3, 4, 2, 99),
            ["........", "........", "........", "........", "##......", "##......"],
        ),
        (
            ImagejRoi(
                roitype=ROI_TYPE.RECT,
                group=2,
                options=ROI_OPTIONS.SUB_PIXEL_RESOLUTION,
                xd=1.6,
                yd=0.4,
                widthd=3.0,
                heightd=3.0,
            ),
            ["..###...", "..###...", "..###...", "........", "........", "........"],
        ),
        (
            ImagejRoi(roitype=ROI_TYPE.OVAL, group=2, left=1, top=0, right=7, bottom=5),
            ["..####..", ".######.", ".######.", ".######.", "..####..", "........"],
        ),
        (
            shape([(1, 1), (6, 1), (1, 6)], ROI_TYPE.POLYGON),
            ["........", ".#####..", ".####...", ".###....", ".##.....", ".#......"],
        ),
        (
            shape([(1, 1), (4, 1), (4, 3), (1, 3)], ROI_TYPE.FREEHAND),
            ["........", ".###....", ".###....", "........", "........", "........"],
        ),
        (
            shape([(1, 1), (4, 1), (4, 3), (1, 3)], ROI_TYPE.TRACED),
            ["........", ".###....", ".###....", "........", "........", "........"],
        ),
        (
            path(*SQUARE_PATH, 0, 2, 2, 1, 4, 2, 1, 4, 4, 1, 2, 4, 4),
            ["........", ".#####..", ".#..##..", ".#..##..", ".#####..", "........"],
        ),
        (
            path(0, 0, 0, 2, 4, 6, 8, 0, 4),
            ["########", ".######.", "..####..", "........", "........", "........"],
        ),
        (
            path(0, 0, 0, 3, 0, 4, 8, 4, 8, 0, 4),
            ["########", "########", "..####..", "........", "........", "........"],
        ),
        (
            ImagejRoi(roitype=ROI_TYPE.LINE, group=2, x1=1, y1=2, x2=5, y2=2),
            ["........", "........", ".#####..", "........", "........", "........"],
        ),
        (
            ImagejRoi(roitype=ROI_TYPE.LINE, group=2, x1=1, y1=2, x2=5, y2=2, stroke_width=3),
            ["........", ".#####..", ".#####..", ".#####..", "........", "........"],
        ),
        (
            shape([(1, 1), (5, 1), (5, 4)], ROI_TYPE.POLYLINE),
            ["........", ".#####..", ".....#..", ".....#..", ".....#..", "........"],
        ),
        (
            shape([(1, 1), (5, 1), (5, 4)], ROI_TYPE.FREELINE, float_stroke_width=3.0),
            [".######.", ".######.", ".######.", "....###.", "....###.", "........"],
        ),
        (
            shape([(1, 4), (1, 1), (3, 1)], ROI_TYPE.ANGLE),
            ["........", ".###....", ".#......", ".#......", ".#......", "........"],
        ),
        (
            shape([(0, 0), (3.4, 1.6), (50, 2), (-4, 1)], ROI_TYPE.POINT),
            ["#.......", "........", "...#....", "........", "........", "........"],
        ),
    ],
    ids=[
        "rectangle",
        "rounded",
        "clipped",
        "sub-pixel",
        "oval",
        "polygon",
        "freehand",
        "traced",
        "hole",
        "quadratic",
        "cubic",
        "line",
        "wide line",
        "polyline",
        "wide freeline",
        "angle",
        "points",
    ],
)
def test_pixels(roi, expected):
    assert drawn(roi) == expected


@pytest.mark.parametrize(
    ("options", "channels", "index"),
    [
        ({"position": 3}, None, 2),
        ({"z_position": 2, "position": 0}, None, 1),
        ({"c_position": 2, "z_position": 4, "t_position": 1}, 2, 3),
        ({"z_position": 1, "t_position": 4}, None, 3),
        ({"position": 5}, 2, 2),
        ({"position": 6}, 2, 2),
    ],
)
def test_slice(options, channels, index):
    labels = rois.rois_to_labels([rectangle(**options)], stack(4, channels=channels))
    assert labels.any(("y", "x")).to_numpy().nonzero()[0].tolist() == [index]
    assert labels.dims == ("z", "y", "x")


def test_points_of_one_selection_in_several_slices():
    points = shape([(1, 1), (2, 2), (3, 3)], ROI_TYPE.POINT, position=4)
    points.counter_positions = np.array([1, 3, 0], "u4")
    labels = rois.rois_to_labels([points], stack(4))
    assert np.argwhere(labels.to_numpy()).tolist() == [[0, 1, 1], [2, 2, 2], [3, 3, 3]]


@pytest.mark.parametrize(
    ("group", "name", "label"),
    [(1, "", 1), (2, "pore", 2), (0, "Pore", 1), (0, "SOLID-12", 2), (3, "", 3), (0, "a-1", 3)],
)
def test_class(group, name, label):
    labels = rois.rois_to_labels(
        [rectangle(group=group, name=name)], stack(), classes=("pore", "solid", "a-1")
    )
    assert np.unique(labels).tolist() == [0, label]
    assert labels.attrs["classes"] == ("pore", "solid", "a-1")


def test_later_rois_cover_earlier_ones():
    labels = rois.rois_to_labels([rectangle(group=1), rectangle(3, 2, 4, 3)], stack())
    assert labels.to_numpy()[0, 1:4, 2:5].tolist() == [[1, 1, 1], [1, 2, 1], [1, 1, 1]]
    assert labels.attrs["dense"] is False
    np.testing.assert_array_equal(labels["z"], stack()["z"])


@pytest.mark.parametrize(
    ("roi", "rule", "value", "hint"),
    [
        (rectangle(position=0), "in which slice", "position 0", "Set the position"),
        (rectangle(position=5), "slices, 1 to 4", "slice 5", "belong to this stack"),
        (rectangle(group=0, position=1), "what each ROI is", "neither", "1 pore, 2 solid"),
        (
            rectangle(group=0, name="solid part", position=1),
            "what each ROI is",
            "ROI 1 (solid part)",
            "Properties",
        ),
        (rectangle(group=7, position=1), "groups from 1 to 2", "group 7", "Change the group"),
        (rectangle(subtype=ROI_SUBTYPE.TEXT, position=1), "selections", "a text", "Delete it"),
        (rectangle(subtype=ROI_SUBTYPE.IMAGE, position=1), "selections", "image", "Delete it"),
        (
            ImagejRoi(roitype=ROI_TYPE.NOROI, group=1, position=1),
            "selections",
            "unknown kind 6",
            "Draw it again",
        ),
        (
            ImagejRoi(roitype=ROI_TYPE.LINE, group=1, position=1, x1=float("nan")),
            "coordinates",
            "ROI 1",
            "Draw it again",
        ),
        (rectangle(90, 90, 99, 99, position=1), "at least one pixel", "outside", "belong"),
    ],
)
def test_refused(roi, rule, value, hint):
    with pytest.raises(ParameterError) as caught:
        rois.rois_to_labels([roi], stack(4), parameter="corrections")
    assert caught.value.parameter == "corrections"
    assert rule in caught.value.rule
    assert value in caught.value.value
    assert hint in caught.value.hint


@pytest.mark.parametrize("numbers", [(1, 2, 3), (0, 1), (0, 1, 1, 9, 2, 2), (0, 1, 1, 3, 2, 2)])
def test_a_damaged_path_is_refused(numbers):
    with pytest.raises(ParameterError, match="must have complete ROIs"):
        rois.rois_to_labels([path(*numbers)], stack())


def test_a_path_with_a_signalling_nan_is_refused_without_a_warning():
    roi = path(0, 1, 1, 1, 2, 2)
    roi.multi_coordinates = np.array(roi.multi_coordinates, np.float32)
    roi.multi_coordinates.view(np.uint32)[1] = 0x7F800001
    with pytest.raises(ParameterError, match="coordinates in the image"):
        rois.rois_to_labels([roi], stack())


def test_files_of_the_roi_manager(tmp_path):
    first, second = rectangle(position=1, name="one"), rectangle(position=3, group=1, name="zwei µ")
    first.tofile(tmp_path / "one.roi")
    for roi in (first, second):
        roi.tofile(tmp_path / "RoiSet.zip")
    assert [roi.name for roi in rois.read_rois(tmp_path / "one.roi")] == ["one"]
    assert [roi.name for roi in rois.read_rois(tmp_path / "RoiSet.zip")] == ["one", "zwei µ"]
    from_zip = rois.labels_from(str(tmp_path / "RoiSet.zip"), stack(4))
    from_list = rois.labels_from([first, second], stack(4))
    assert from_zip.identical(from_list)
    assert from_zip.max(("y", "x")).to_numpy().tolist() == [2, 0, 1, 0]


def test_a_region_takes_one_byte_a_voxel(traced):
    large = stack(slices=40, height=200, width=250)
    inside, peak = traced(rois.region_from, [rectangle(position=0)], large)
    assert inside.dtype == bool
    assert int(inside.sum()) == 40 * 9
    assert peak < 2.5 * inside.size


def test_one_door_for_all_labels(tmp_path):
    painted = np.zeros((4, 6, 8), "u1")
    painted[1, 2, 3] = 1
    files.write(tmp_path / "labels.tif", make_stack(painted, SPACING))
    for given in (painted, tmp_path / "labels.tif"):
        np.testing.assert_array_equal(rois.labels_from(given, stack(4)), painted)
    with pytest.raises(ParameterError, match=r"`corrections` must be a label image.*or draw ROIs"):
        rois.labels_from(
            np.where(painted, 255, 0), stack(4), allow_mask=False, parameter="corrections"
        )


def damaged(kind, folder):
    file = folder / ("x.roi" if kind in ("noise", "short", "points missing") else "x.zip")
    whole = shape([(1, 1), (5, 1), (5, 4)], ROI_TYPE.POLYGON, name="solid").tobytes()
    if kind == "noise":
        file.write_bytes(bytes(range(256)))
    elif kind == "short":
        file.write_bytes(whole[:40])
    elif kind == "points missing":
        file.write_bytes(whole[:16] + struct.pack(">H", 60_000) + whole[18:])
    elif kind == "no zip":
        file.write_bytes(b"PK\x03\x04" + bytes(100))
    elif kind == "zip of noise":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("a.roi", bytes(range(256)))
    elif kind == "cut zip":
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.roi", whole)
        content = bytearray(file.read_bytes())
        content[40:80] = bytes(40)
        file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    "kind", ["noise", "short", "points missing", "no zip", "zip of noise", "cut zip"]
)
def test_damaged_files_are_refused(tmp_path, capfd, kind):
    file = damaged(kind, tmp_path)
    with pytest.raises(ParameterError) as caught:
        rois.read_rois(file, parameter="corrections")
    assert caught.value.parameter == "corrections"
    assert "must be a .roi file or a .zip" in caught.value.rule
    assert str(file) in caught.value.value
    assert "ROI Manager" in caught.value.hint
    assert capfd.readouterr() == ("", "")


def test_missing_and_foreign_files(tmp_path):
    with pytest.raises(ParameterError, match="`labels` must be a file that exists"):
        rois.labels_from(tmp_path / "missing.zip", stack())
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(ParameterError, match="must hold at least one ROI"):
        rois.read_rois(tmp_path / "other.zip")


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", bytes(65 * 2**20))
    assert (tmp_path / "bomb.zip").stat().st_size < 10**5
    with pytest.raises(ParameterError, match=r"of 64 MiB each and 256 MiB in all.*paint a"):
        rois.read_rois(tmp_path / "bomb.zip")


def test_limits_of_entries_and_size(tmp_path, monkeypatch):
    for _ in range(3):
        rectangle(name="solid").tofile(tmp_path / "RoiSet.zip", name=f"{_}.roi")
    monkeypatch.setattr(roi_files, "_MOST_ENTRIES", 2)
    with pytest.raises(ParameterError, match="3 entries"):
        rois.read_rois(tmp_path / "RoiSet.zip")
    rectangle().tofile(tmp_path / "one.roi")
    monkeypatch.setattr(roi_files, "_MOST_BYTES_EACH", 20)
    with pytest.raises(ParameterError, match="a larger file"):
        rois.read_rois(tmp_path / "one.roi")


def test_the_labels_of_a_large_stack_are_read_again(tmp_path):
    """Those of each voxel of 120 slices of 512 x 512 take 78 MiB."""
    large = path(*np.tile(np.array(SQUARE_PATH, "f4"), 2**18))
    large.position = 1
    rois.write_rois(tmp_path / "labels.zip", [large] * 7)
    found = rois.read_rois(tmp_path / "labels.zip")
    assert sum(roi.multi_coordinates.nbytes for roi in found) > 78 * 2**20
    np.testing.assert_array_equal(found[6].multi_coordinates, large.multi_coordinates)


@pytest.mark.parametrize("limit", ["_MOST_ENTRIES", "_MOST_BYTES_EACH", "_MOST_BYTES"])
def test_nothing_is_written_that_would_not_be_read(tmp_path, monkeypatch, limit):
    image = stack(3)
    values = np.zeros(image.shape, "u1")
    values[:, 2:4] = 1, 2, 1, 2, 1, 2, 1, 2
    labels = make_labels(values, image)
    rois.write_labels(tmp_path / "labels.zip", labels)
    with zipfile.ZipFile(tmp_path / "labels.zip") as archive:
        sizes = [entry.file_size for entry in archive.infolist()]
    most = {"_MOST_ENTRIES": len(sizes), "_MOST_BYTES_EACH": max(sizes), "_MOST_BYTES": sum(sizes)}
    monkeypatch.setattr(roi_files, limit, most[limit])
    rois.write_labels(tmp_path / "labels.zip", labels)
    assert len(rois.read_rois(tmp_path / "labels.zip")) == len(sizes)
    monkeypatch.setattr(roi_files, limit, most[limit] - 1)
    with pytest.raises(ParameterError, match=r"`output` may hold.*as \.tif, \.zarr or \.labeling"):
        rois.write_labels(tmp_path / "more.zip", labels)
    assert [found.name for found in tmp_path.iterdir()] == ["labels.zip"]
    with pytest.raises(ParameterError, match="`labels` may hold"):
        rois.read_rois(tmp_path / "labels.zip")


def test_nothing_of_a_zip_reaches_the_disk(tmp_path):
    content = rectangle(name="solid").tobytes()
    (tmp_path / "in").mkdir()
    with zipfile.ZipFile(tmp_path / "in" / "x.zip", "w") as archive:
        archive.writestr("../../escaped.roi", content)
    assert len(rois.read_rois(tmp_path / "in" / "x.zip")) == 1
    assert [found.name for found in tmp_path.rglob("*")] == ["in", "x.zip"]
