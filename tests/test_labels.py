"""Labels written for other programs and taken again: class, slice and pixels are the same."""

import json

import numpy as np
import pytest
import roifile
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

import fiji_poreseg as fp
from fiji_poreseg.errors import ParameterError, PoreSegWarning
from fiji_poreseg.rois import labels_from, labels_to_rois

often = settings(max_examples=60, deadline=None, derandomize=True)
CLASSES = ("pore", "solid", "glue")


@st.composite
def labellings(draw):
    """Labels of three classes: blots, single pixels, holes, whole slices and empty ones."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 14), st.integers(2, 14)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    share = draw(st.sampled_from((0.02, 0.3, 0.7, 1)))
    values = np.where(rng.random(shape) < share, rng.integers(1, 4, shape), 0).astype(np.uint8)
    grain = draw(st.integers(1, 4))
    values = np.repeat(np.repeat(values, grain, 1), grain, 2)
    values[rng.integers(shape[0]), 0, 0] = 1
    stack = fp.make_stack(np.zeros(values.shape, np.uint8), (20, 10, 5), name="s")
    return stack, fp.make_labels(values, stack, classes=CLASSES)


@pytest.mark.parametrize("suffix", [".zip", ".tif", ".labeling"])
@given(made=labellings())
@often
def test_labels_come_back_from_each_format(tmp_path_factory, suffix, made):
    stack, labels = made
    path = tmp_path_factory.mktemp("l") / f"labels{suffix}"
    fp.save_labels(stack, labels, output=path, classes=CLASSES)
    back = labels_from(path, stack, classes=CLASSES)
    np.testing.assert_array_equal(back, labels)
    assert back.attrs["classes"] == CLASSES


@pytest.mark.parametrize("number", range(4))
def test_imagej_paints_the_same_pixels(ij, tmp_path, number):
    rng = np.random.default_rng(number)
    values = np.repeat(np.repeat(rng.integers(0, 3, (3, 20, 24)), 1 + number, 1), 1 + number, 2)
    stack = fp.make_stack(np.zeros(values.shape, np.uint8), (10, 10, 10), name="s")
    labels = fp.make_labels(values.astype(np.uint8), stack)
    fp.save_labels(stack, labels, output=tmp_path / "labels.zip")
    painted = ij.to_imageplus(stack)
    decode = ij.java("ij.io.RoiDecoder").openFromByteArray
    for encoded in roifile.ImagejRoi.fromfile(tmp_path / "labels.zip"):
        selection = decode(encoded.tobytes())
        processor = painted.getStack().getProcessor(selection.getPosition())
        processor.setRoi(selection)
        processor.setValue(selection.getGroup())
        processor.fill(processor.getMask())
    np.testing.assert_array_equal(ij.to_xarray(painted), labels)


@pytest.mark.parametrize("bounds", [(3, 4, 20, 11), (0, 0, 9, 30), (5, 2, 40, 40), (1, 1, 3, 2)])
@pytest.mark.parametrize("diameter", [1, 5, 8, 13, 60])
def test_rounded_rectangles_are_those_of_imagej(ij, tmp_path, bounds, diameter):
    stack = fp.make_stack(np.zeros((1, 50, 50), np.uint8), (10, 10, 10), name="s")
    selection = ij.java("ij.gui.Roi")(*bounds, diameter)
    selection.setGroup(2)
    selection.setPosition(1)
    path = tmp_path / "one.roi"
    ij.java("ij.io.RoiEncoder").save(selection, str(path))
    painted = ij.to_imageplus(stack)
    processor = painted.getProcessor()
    processor.setRoi(selection)
    processor.setValue(2)
    processor.fill(processor.getMask())
    np.testing.assert_array_equal(labels_from(path, stack), ij.to_xarray(painted))


def test_an_overlay_is_saved_in_one_line_and_taken_again(ij, phantom, tmp_path):
    fp.write(tmp_path / "stack.tif", phantom.stack)
    said = ij.run_macro(
        """
        folder = getArgument();
        open(folder + "/stack.tif");
        makeOval(3, 4, 20, 11);
        Roi.setGroup(2);
        Roi.setPosition(5);
        Overlay.addSelection;
        makeLine(30, 3, 50, 40);
        Roi.setStrokeWidth(3);
        Roi.setName("pore");
        Roi.setPosition(9);
        Overlay.addSelection;
        makePoint(12, 50);
        Roi.setGroup(1);
        Roi.setPosition(9);
        Overlay.addSelection;
        run("PoreSeg Save Labels", "output=[" + folder + "/labels.labeling]");
        run("PoreSeg Save Labels", "output=[" + folder + "/labels.zip]");
        rows = "" + nResults + " " + getResult("index", 1) + " " + (getResult("pore", 1) > 60);
        Overlay.remove;
        run("PoreSeg Train Forest", "labels=[" + folder + "/labels.zip] trees=2 folds=0");
        return rows;
        """,
        str(tmp_path),
    )
    assert said == "2 8 1"
    one, other = (labels_from(tmp_path / f"labels.{s}", phantom.stack) for s in ("zip", "labeling"))
    np.testing.assert_array_equal(one, other)
    assert one[8, 50, 12] == 1
    assert (one[4] == 2).sum() > 150


def test_a_group_is_drawn_without_a_word(ij, capfd):
    said = ij.run_macro(
        """
        newImage("an image", "8-bit", 20, 20, 1);
        makeRectangle(2, 3, 4, 5);
        Roi.setGroup(2);
        colour = "" + Roi.getStrokeColor;
        close();
        return colour;
        """
    )
    assert said == "yellow"
    assert "LUT not found" not in capfd.readouterr().out


def test_a_labeling_as_labkit_writes_it(tmp_path):
    stack = fp.make_stack(np.zeros((3, 4, 5), np.uint8), (10, 10, 10), name="s")
    written = {
        "interval": {"n": 3, "min": [0, 0, 0], "max": [4, 3, 2]},
        "pixelSizes": [{"size": 1.0, "unit": "pixel"}] * 3,
        "labels": {"Pore": [[4, 0, 2], [3, 0, 2]], "solid ": [[0, 3, 1]], "nothing": []},
        "colors": {"Pore": "#FF0000", "solid ": "#00FF00", "nothing": "#0000FF"},
    }
    path = tmp_path / "l.labeling"
    path.write_text(json.dumps(written))
    found = labels_from(path, stack).to_numpy()
    expected = np.zeros((3, 4, 5))
    expected[2, 0, [4, 3]] = 1
    expected[1, 3, 0] = 2
    np.testing.assert_array_equal(found, expected)
    numbers = {"min": [0.0, 0.0, 0.0], "max": ["4", "3", "2"]}
    path.write_text(json.dumps({**written, "interval": numbers}))
    np.testing.assert_array_equal(labels_from(path, stack), expected)
    flat = {**written, "interval": {"min": [0, 0], "max": [4, 3]}, "labels": {"pore": [[4, 1]]}}
    path.write_text(json.dumps(flat))
    assert labels_from(path, stack[:1])[0, 1, 4] == 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": {"Fore": [[0, 0, 0]]}}, "called pore or solid.*Fore.*Rename it"),
        ({"labels": {"pore": [[0, 0, 0]], "solid": [[0, 0, 0]]}}, "one label at most"),
        ({"labels": {"pore": [[5, 0, 0]]}}, "its pixels in the stack"),
        ({"labels": {"pore": [[0, 0]]}}, "whole labeling"),
        ({"labels": {"pore": [[0.5, 0, 0]]}}, "whole labeling"),
        ({"labels": {"pore": []}}, "label at least one pixel"),
        ({"labels": 3}, "whole labeling"),
        ({"interval": {"min": [0, 0, 0], "max": [9, 3, 2]}}, r"5 x 4 x 3 \(x, y, z\).*10 x 4 x 3"),
        ({"interval": None}, "whole labeling"),
        ({"interval": {"min": [0.5, 0, 0], "max": [4.5, 3, 2]}}, "whole labeling"),
        ({"interval": {"min": ["a", 0, 0], "max": [4, 3, 2]}}, "whole labeling"),
        ({"interval": {"min": [1e300, 0, 0], "max": [1e300, 3, 2]}}, "whole labeling"),
        ({"interval": {"min": [0, 0], "max": [4, 3, 2]}}, "whole labeling"),
    ],
)
def test_a_labeling_that_does_not_fit_is_refused(tmp_path, change, reason):
    stack = fp.make_stack(np.zeros((3, 4, 5), np.uint8), (10, 10, 10), name="s")
    good = {"interval": {"min": [0] * 3, "max": [4, 3, 2]}, "labels": {"pore": [[0, 0, 0]]}}
    path = tmp_path / "l.labeling"
    path.write_text(json.dumps(good | change))
    with pytest.raises(ParameterError, match=reason) as caught:
        labels_from(path, stack)
    assert caught.value.parameter == "labels"


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "uint32", "int64", "float32"])
def test_label_images_of_other_programs_are_taken(tmp_path, dtype):
    """Ilastik and napari write labels in as many bits as they count in."""
    stack = fp.make_stack(np.zeros((5, 9, 8), np.uint8), (10, 10, 10), name="s")
    values = np.random.default_rng(0).integers(0, 3, stack.shape)
    tifffile.imwrite(tmp_path / "l.tif", values.astype(dtype), metadata={"axes": "ZYX"})
    np.testing.assert_array_equal(labels_from(tmp_path / "l.tif", stack), values)
    values[0, 0, 0] = 7
    tifffile.imwrite(tmp_path / "l.tif", values.astype(dtype), metadata={"axes": "ZYX"})
    with pytest.raises(ParameterError, match=r"0 \(unlabelled\) to 2 \(pore, solid\).*7"):
        labels_from(tmp_path / "l.tif", stack)


def test_a_mask_of_0_and_1_is_told_from_labels():
    stack = fp.make_stack(np.zeros((3, 6, 6), np.uint8), (10, 10, 10))
    values = np.random.default_rng(0).integers(1, 3, stack.shape)
    truth = fp.make_labels(values.astype(np.uint8), stack)
    with pytest.warns(PoreSegWarning, match=r"`truth` holds 0 .* and 1 \(pore\) alone"):
        fp.evaluate(truth, (truth == 2).astype(np.uint8))
    pores_of_one_slice = np.zeros((3, 6, 6), np.uint8)
    pores_of_one_slice[1, 2] = 1
    assert fp.correct(truth, pores_of_one_slice).total["hand_made"] == 6


def test_a_selection_for_each_slice_and_class():
    values = np.zeros((3, 8, 8), np.uint8)
    values[1, 2:6, 2:6] = 1
    values[1, 3, 3] = 0
    values[1, 7] = 2
    stack = fp.make_stack(values, (10, 10, 10), name="s")
    rois = labels_to_rois(fp.make_labels(values, stack))
    assert [(r.position, r.group, r.name) for r in rois] == [(2, 1, "pore"), (2, 2, "solid")]
    again = roifile.ImagejRoi.frombytes(rois[0].tobytes())
    assert (again.left, again.top, again.right, again.bottom) == (2, 2, 6, 6)


def test_only_files_that_can_be_taken_again_are_written(phantom, tmp_path):
    with pytest.raises(
        ParameterError, match=r"must end in .tif or .tiff or .zarr or .zip or .labeling"
    ):
        fp.save_labels(phantom.stack, phantom.truth, output=tmp_path / "labels.png")
