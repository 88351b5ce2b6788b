"""The model that ships with the package: for stacks without labels, and to start from."""

from pathlib import Path

import numpy as np
import pytest

import fiji_poreseg as fp
from fiji_poreseg import resunet
from fiji_poreseg.commands.checks import resunet_to_start_from

SHIPPED = Path(resunet.__file__).with_name("pretrained.poreseg")
INDICES = (0, 6, 12, 18)


@pytest.fixture(scope="module")
def made():
    """A phantom with features and a porosity inside the pretraining, and a seed of its own."""
    return fp.phantom(slices=24, size=96, seed=77, porosity=0.75, feature_size_nm=250)


@pytest.fixture(scope="module")
def found(made):
    return fp.segment(made.stack, model="pretrained")


def accuracy(segmentation, made):
    return fp.evaluate(segmentation, made.truth).mean["accuracy"]


def test_it_is_small_and_says_what_it_was_trained_on():
    assert SHIPPED.stat().st_size < 5e6
    shipped = fp.load("pretrained")
    assert shipped.in_slices
    assert shipped.card.classes == ("pore", "solid")
    assert shipped.training["even"]["porosity"] == [0.6, 0.88]
    assert shipped.history[-1]["step"] == shipped.training["steps"]


def test_without_labels_it_does_better_than_a_forest_with_five_labelled_slices(made, found):
    forest = fp.train_forest(made.stack, made.truth, indices=(0, 5, 10, 15, 20), folds=0, trees=50)
    by_forest = fp.segment(made.stack, model=forest).segmentation
    assert accuracy(found.segmentation, made) > accuracy(by_forest, made)


def test_it_knows_slices_and_no_nanometres(made, found):
    for voxels in ((30, 30, 30), (4, 4, 4)):
        other = fp.segment(made.stack, model="pretrained", voxel_size_nm=voxels)
        np.testing.assert_array_equal(other.segmentation, found.segmentation)


def test_a_file_of_it_does_the_same(tmp_path, made, found):
    fp.load("pretrained").save(tmp_path / "copy.poreseg")
    copied = fp.segment(made.stack, model=tmp_path / "copy.poreseg", indices=(3,))
    np.testing.assert_array_equal(copied.segmentation[3], found.segmentation[3])


def test_a_macro_needs_no_labels(ij, tmp_path, made, found):
    fp.write(tmp_path / "stack.tif", made.stack)
    ij.run_macro(
        f'open("{tmp_path / "stack.tif"}");'
        f'run("PoreSeg Segment", "model=pretrained output=[{tmp_path / "seg.tif"}]");'
        'run("Close All");'
    )
    np.testing.assert_array_equal(fp.read(tmp_path / "seg.tif"), found.segmentation)


def test_several_detectors_are_refused(made):
    two = fp.make_stack(np.stack([made.stack, made.stack]), (10, 10, 10))
    with pytest.raises(fp.ParameterError, match="`image` must have 1 detector"):
        fp.segment(two, model="pretrained")


def train(made, **options):
    return fp.train_resunet(made.stack, made.truth, indices=INDICES, steps=1, **options)


@pytest.fixture(scope="class")
def by_default(made, untraced):
    return train(made, voxel_size_nm=(20, 10, 10))


@pytest.mark.usefixtures("untraced")
class TestStart:
    def test_a_training_starts_from_it_unless_told_not_to(self, made, by_default):
        anew = train(made, start="none")
        losses = [each.card.scores["validation_loss"] for each in (by_default, anew)]
        assert losses[0] < 0.2 < losses[1]
        assert anew.training["start"] == "none"

    def test_neighbours_are_as_many_slices_away_as_in_it(self, by_default):
        shipped = fp.load("pretrained").context.offsets_nm
        assert by_default.context.offsets_nm == tuple(2 * offset for offset in shipped)
        assert not by_default.in_slices

    def test_classes_of_other_names_are_learnt(self, made, by_default):
        tuned = train(made, start="pretrained", classes=("air", "fibre"))
        assert tuned.card.classes == ("air", "fibre")
        assert tuned.training["start"] == by_default.training["start"]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"network": "small"}, "`network` must be base, as in the model to start from"),
            ({"classes": ("a", "b", "c")}, "`classes` must be pore,solid, as in the model"),
        ],
        ids=["network", "classes"],
    )
    def test_where_it_does_not_fit_it_is_refused(self, options, message, made):
        with pytest.raises(fp.ParameterError, match=message):
            train(made, start="pretrained", **options)

    def test_where_it_does_not_fit_and_nobody_asked_for_it_another_start_is_taken(self, made):
        assert train(made, network="small").training["start"] == "none"


def test_tiles_leave_no_seam_in_a_large_slice(made, monkeypatch):
    values = np.tile(made.stack.to_numpy(), (1, 11, 11))[:, :1024, :1024]
    large = fp.make_stack(values, (10, 10, 10))

    def solid():
        return fp.segment(large, model="pretrained", indices=(4,)).probability[4].to_numpy()

    whole = solid()
    monkeypatch.setattr("fiji_poreseg.resunet.inference.LARGEST_TILE", 512)
    tiled = solid()
    assert not np.array_equal(tiled, whole)
    assert np.abs(tiled - whole).max() < 1e-2


def test_a_start_looks_the_way_that_this_stack_is_milled(phantom):
    found = resunet_to_start_from(
        None, "base", "neighbours", phantom.stack, ("pore", "solid"), "reverse"
    )
    assert found.card.milling == "reverse"
    assert found.reach(phantom.stack) == resunet.pretrained().reach(phantom.stack)[::-1]
