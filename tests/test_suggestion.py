"""What to look at next, and what lies outside of a model's training."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import roifile

import fiji_poreseg as fp
from fiji_poreseg import suggestion
from fiji_poreseg.appearance import appearance
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.rois import labels_from

NOISY = range(20, 25)


@pytest.fixture(scope="module")
def forest(phantom):
    return fp.train_forest(phantom.stack, phantom.truth, indices=[0, 4, 8], trees=20, folds=0)


@pytest.fixture(scope="module")
def noisy(phantom):
    """The stack, and some slices of it with a detector that failed."""
    values = phantom.stack.to_numpy().astype(float)
    noise = np.random.default_rng(0).normal(0, 40, values[NOISY].shape)
    values[NOISY] += noise
    return phantom.stack.copy(data=values.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def found(noisy, forest):
    return fp.suggest(noisy, model=forest, labels=labels_in(noisy, 0, 4, 8), count=4)


def labels_in(stack, *slices):
    values = np.zeros(stack.shape, np.uint8)
    for index in slices:
        values[index, 0, :2] = 1, 2
    return fp.make_labels(values, stack)


def test_what_looks_otherwise_comes_first_and_sounds_the_alarm(found):
    assert found.slices[0].index in NOISY
    assert "noisier than what was trained on" in found.slices[0].why
    noisier = {z for z, why in found.alarms.items() if any(o.what == "noise" for o in why)}
    assert set(NOISY) <= noisier
    # Small slices differ from each other: a few more may lie just outside.
    assert len(found.alarms) <= len(NOISY) + 3


def test_it_points_where_the_model_is_wrong(noisy, phantom, forest, found):
    everything = fp.suggest(noisy, model=forest, count=30, regions=0).slices
    segmentation = fp.segment(noisy, model=forest).segmentation
    wrong = (segmentation != phantom.truth).mean(dim=("y", "x")).to_numpy()
    doubt = [one.doubt for one in everything]
    assert np.corrcoef(doubt, [wrong[one.index] for one in everything])[0, 1] > 0.5
    inside = outside = 0
    for one in found.slices:
        missed = (segmentation != phantom.truth)[one.index].to_numpy()
        for r in one.regions:
            inside += missed[r.y : r.y + r.height, r.x : r.x + r.width].mean()
            outside += missed.mean()
    assert inside > outside


def test_suggestions_spread_along_the_stack(phantom, forest):
    chosen = [one.index for one in fp.suggest(phantom.stack, model=forest, count=5).slices]
    assert min(np.diff(sorted([*chosen, 0, 4, 8]))) >= 2


def test_labelled_slices_are_passed_over(phantom, forest):
    first = fp.suggest(phantom.stack, model=forest, count=1).slices[0].index
    again = fp.suggest(
        phantom.stack, model=forest, labels=labels_in(phantom.stack, first), count=1
    ).slices[0]
    assert again.index != first
    assert again.distance_nm == 10 * abs(again.index - first)
    # Of another stack, the slices that the model was trained on say nothing.
    other = fp.suggest(phantom.stack[1:], model=forest, count=1).slices[0]
    assert other.distance_nm is None


def test_a_resunet_is_asked_twice_and_a_forest_once(phantom, forest, resunet):
    asked = {"indices": [3, 15], "count": 2, "regions": 1, "side": 16}
    by_net = fp.suggest(phantom.stack, model=resunet, **asked).slices
    by_forest = fp.suggest(phantom.stack, model=forest, **asked).slices
    assert all(one.disagreement > 0 for one in by_net)
    assert all(one.disagreement == 0 for one in by_forest)
    assert {(r.width, r.height) for one in by_net for r in one.regions} == {(16, 16)}


def test_files_hold_what_is_answered(noisy, forest, tmp_path):
    paths = {"json": tmp_path / "s.json", "rois": tmp_path / "s.zip"}
    made = fp.suggest(noisy, model=forest, count=3, side=20, **paths)
    written = json.loads(paths["json"].read_text())
    assert [one["index"] for one in written["slices"]] == [one.index for one in made.slices]
    assert [one["why"] for one in written["slices"]] == [one.why for one in made.slices]
    assert {entry["index"] for entry in written["alarms"]} == set(made.alarms)
    rois = roifile.ImagejRoi.fromfile(paths["rois"])
    expected = [
        (one.index + 1, r.x, r.y, r.x + r.width, r.y + r.height)
        for one in made.slices
        for r in one.regions
    ]
    assert [(r.position, r.left, r.top, r.right, r.bottom) for r in rois] == expected
    # They are no labels, wherever they stand among them.
    painted = roifile.ImagejRoi(roitype=1, left=2, top=2, right=9, bottom=9, position=1, group=2)
    both = labels_from([painted, *rois], noisy)
    np.testing.assert_array_equal(both, labels_from([painted], noisy))


def test_a_macro_gets_a_table_and_an_overlay(ij, noisy, forest, tmp_path):
    fp.write(tmp_path / "stack.tif", noisy)
    forest.save(tmp_path / "m.poreseg")
    said = ij.run_macro(
        """
        folder = getArgument();
        open(folder + "/stack.tif");
        makeRectangle(0, 0, 9, 9);
        Roi.setGroup(1);
        Roi.setPosition(30);
        Overlay.addSelection;
        run("Select None");
        run("PoreSeg Suggest", "model=[" + folder + "/m.poreseg] count=5 side=16 regions=2");
        run("PoreSeg Suggest", "model=[" + folder + "/m.poreseg] count=2 side=16 regions=3");
        Overlay.activateSelection(1);
        getSelectionBounds(x, y, w, h);
        Roi.getPosition(c, z, t);
        box = "" + Overlay.size + ";" + getSliceNumber() + ";" + Roi.getName + ";" + w + "x" + h;
        why = getResultString("why", 0);
        return box + ";" + nResults + ";" + getResult("slice", 0) + ";" + why;
        """,
        str(tmp_path),
    )
    painted = np.zeros(noisy.shape, np.uint8)
    painted[29, :9, :9] = 1
    expected = fp.suggest(
        noisy, model=forest, labels=fp.make_labels(painted, noisy), count=2
    ).slices
    size, place, name, sides, rows, first, why = said.split(";", 6)
    assert (size, rows, sides) == ("7", "2", "16x16")
    assert int(place) == int(first) == expected[0].index + 1
    assert name.startswith("look at 1, ")
    assert why == expected[0].why


@pytest.mark.parametrize("shape", [(3, 1, 5), (1, 4, 4), (4, 20, 600)])
def test_slices_of_any_shape_are_described(shape):
    values = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    for numbers in appearance(fp.make_stack(values), range(shape[0])).values():
        assert all(np.isfinite(value) for value in numbers.values())


def test_what_holds_no_data_is_not_suggested(phantom, forest):
    values = phantom.stack.to_numpy().copy()
    values[10:20] = 0
    found = fp.suggest(phantom.stack.copy(data=values), model=forest, nodata=0, count=30)
    assert set(found.looked_at) == {*range(10), *range(20, 30)}
    with pytest.raises(ParameterError, match="slices that hold data"):
        fp.suggest(phantom.stack.copy(data=0 * values), model=forest, nodata=0, indices=[1, 2])


def test_regions_hold_data(phantom, forest):
    values = phantom.stack.to_numpy().copy()
    values[:, 20:] = 0
    asked = {"model": forest, "nodata": 0, "side": 8}
    found = fp.suggest(phantom.stack.copy(data=values), count=3, regions=8, **asked)
    for one in found.slices:
        # 16 squares of the upper rows are full and 8 are half full; 40 hold nothing.
        assert len(one.regions) == 8
        assert all(r.y <= 16 for r in one.regions)
    # Where no square is as full as that, the fullest are taken.
    values[:, 3:] = 0
    (thin,) = fp.suggest(phantom.stack.copy(data=values), count=1, regions=2, **asked).slices
    assert {r.y for r in thin.regions} == {0}
    assert all(0 < r.doubt <= 1 for r in thin.regions)


class Guess:
    """A model that is unsure everywhere, and takes no memory."""

    depends_on_direction = False
    card = SimpleNamespace(appearance={}, normalisation=(2.0, 98.0), milling="forward")

    def predict(self, stack, indices):
        for index in indices:
            yield index, np.full((2, stack.sizes["y"], stack.sizes["x"]), 0.5, np.float32)


def look_at(stack, count):
    suggestion.suggest(Guess(), stack, (), 2, indices=range(count))


def test_slices_that_are_looked_at_do_not_pile_up(traced):
    """Else those of a stack that is larger than memory would fill it."""
    values = np.random.default_rng(0).integers(0, 255, (160, 64, 64)).astype(np.uint8)
    stack = fp.make_stack(values, (10, 10, 10))
    # More than the slices that are remembered while their neighbours are looked at.
    few, many = (traced(look_at, stack, count)[1] for count in (80, 160))
    assert many - few < 80 * 64 * 64


def test_a_model_keeps_the_looks_of_its_training(phantom, forest, tmp_path):
    forest.save(tmp_path / "m.poreseg")
    kept = fp.load(tmp_path / "m.poreseg").card.appearance
    assert kept == forest.card.appearance
    seen = appearance(phantom.stack, [0, 4, 8])
    assert kept["noise"] == (
        min(one["noise"] for one in seen.values()),
        max(one["noise"] for one in seen.values()),
    )


@pytest.mark.parametrize("grey", [0, 100])
def test_a_slice_of_the_training_sounds_no_alarm_whatever_it_shows(phantom, grey):
    """Of one grey value alone, there is no contrast, no noise and no edge."""
    values = phantom.stack.to_numpy().copy()
    values[3] = grey
    stack = phantom.stack.copy(data=values)
    forest = fp.train_forest(stack, phantom.truth, indices=[3, 10], trees=3, folds=0)
    found = fp.suggest(stack, model=forest, indices=[3, 10], regions=0)
    assert not found.alarms
    # What was never seen still does.
    forest = fp.train_forest(stack, phantom.truth, indices=[5, 10], trees=3, folds=0)
    assert 3 in fp.suggest(stack, model=forest, indices=[3, 10], regions=0).alarms
