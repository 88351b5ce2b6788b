"""The phantom: repeatable, with an exact truth, physical, and hard enough to mean something."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

import fiji_poreseg as fp
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.phantoms import make_phantom
from fiji_poreseg.stack import PORE, SOLID, spacing_nm

CLEAN = {"curtaining": 0.0, "brightness_drift": 0.0, "blur_nm": 0.0, "noise": 0.0}


def best_global_threshold(stack, truth):
    """Accuracy of the one grey value that separates best, solid being the brighter."""
    solid = np.bincount(stack[truth == SOLID], minlength=256)
    pore = np.bincount(stack[truth == PORE], minlength=256)
    return (np.cumsum(pore) + solid.sum() - np.cumsum(solid)).max() / stack.size


def depth_to_wall(truth):
    """Slices from each voxel down to the first solid; 0 in solid, NaN where none follows."""
    depth = np.full(truth.shape, np.nan)
    below = np.full(truth.shape[1:], np.nan)
    for z in reversed(range(len(truth))):
        below = np.where(truth[z] == SOLID, 0, below + 1)
        depth[z] = below
    return depth


def boundaries_per_nm(truth, axis, step):
    """Density of changes between pore and solid along one axis."""
    return (np.diff(truth.astype(int), axis=axis) != 0).mean() / step


@pytest.fixture(scope="module")
def clean():
    """A phantom without anything that disturbs the picture, and its depths."""
    phantom = make_phantom(80, 128, seed=3, edge_brightening=0.0, **CLEAN)
    truth = phantom.truth.to_numpy()
    return phantom.stack.to_numpy(), truth, depth_to_wall(truth)


def test_same_seed_same_bytes():
    first, second = make_phantom(12, 48, seed=5), make_phantom(12, 48, seed=5)
    assert first.stack.identical(second.stack)
    assert first.truth.identical(second.truth)


def test_other_seed_other_membrane():
    first, second = make_phantom(12, 48, seed=5), make_phantom(12, 48, seed=6)
    assert (first.truth != second.truth).mean() > 0.1
    assert (first.stack != second.stack).mean() > 0.5


def test_truth_does_not_depend_on_the_picture():
    noisy, silent = make_phantom(12, 48), make_phantom(12, 48, **CLEAN, attenuation_nm=100.0)
    assert noisy.truth.equals(silent.truth)
    assert not noisy.stack.equals(silent.stack)


@pytest.mark.parametrize("porosity", [0.3, 0.8, 0.95])
def test_porosity_as_asked(porosity):
    truth = make_phantom(30, 64, porosity=porosity).truth.to_numpy()
    assert set(np.unique(truth)) == {PORE, SOLID}
    assert (truth == PORE).mean() == pytest.approx(porosity, abs=3 / truth.size)


def test_arrays_carry_type_dims_and_spacing():
    phantom = make_phantom(6, 32, spacing_nm=(20, 10, 5))
    for array in (phantom.stack, phantom.truth):
        assert array.dtype == np.uint8
        assert array.dims == ("z", "y", "x")
        assert array.shape == (6, 32, 32)
        assert array.attrs["unit"] == "nm"
        assert spacing_nm(array) == (20, 10, 5)


def test_one_slice():
    assert make_phantom(1, 32).stack.shape == (1, 32, 32)


def test_lengths_are_in_nm_whatever_the_spacing():
    spacing = (20.0, 10.0, 10.0)
    truth = make_phantom(100, 160, spacing_nm=spacing, feature_growth=1.0).truth.to_numpy()
    along_z, along_y, along_x = (
        boundaries_per_nm(truth, axis, step) for axis, step in enumerate(spacing)
    )
    assert along_z == pytest.approx(along_x, rel=0.15)
    assert along_y == pytest.approx(along_x, rel=0.15)


def test_feature_size_sets_the_scale():
    fine, coarse = (
        make_phantom(40, 128, feature_size_nm=length, feature_growth=1.0).truth.to_numpy()
        for length in (150.0, 300.0)
    )
    ratio = boundaries_per_nm(fine, 2, 10) / boundaries_per_nm(coarse, 2, 10)
    assert ratio == pytest.approx(2, rel=0.15)


def test_features_grow_and_porosity_rises_along_the_stack():
    truth = make_phantom(120, 128, feature_growth=2.0, porosity_trend=1.0).truth.to_numpy()
    top, bottom = truth[:30], truth[-30:]
    assert boundaries_per_nm(top, 2, 10) > 1.4 * boundaries_per_nm(bottom, 2, 10)
    assert (bottom == PORE).mean() > (top == PORE).mean() + 0.1


def test_back_wall_darkens_with_depth(clean):
    stack, _, depth = clean
    greys = [stack[depth == d].mean() for d in (0, 1, 3, 6, 12, 24)]
    assert np.all(np.diff(greys) < 0)
    assert greys[0] == 150
    assert greys[1] > 140


def test_narrow_mouth_hides_the_back_wall(clean):
    stack, truth, depth = clean
    openness = gaussian_filter((truth == PORE).astype(float), (0, 5, 5))
    at_depth = depth == 6
    middle = np.median(openness[at_depth])
    wide, narrow = at_depth & (openness > middle), at_depth & (openness <= middle)
    assert stack[wide].mean() > stack[narrow].mean() + 3


def test_last_slice_sees_walls_below_the_stack(clean):
    stack, truth, _ = clean
    last, middle = (stack[z][truth[z] == PORE].mean() for z in (-1, 40))
    assert last == pytest.approx(middle, rel=0.15)


def test_without_shine_through_a_threshold_suffices():
    phantom = make_phantom(40, 96, attenuation_nm=2.0, noise=0.05)
    stack, truth = phantom.stack.to_numpy(), phantom.truth.to_numpy()
    assert best_global_threshold(stack, truth) > 0.97


def test_edges_are_brighter_than_faces():
    phantom = make_phantom(10, 96, edge_brightening=1.0, **CLEAN)
    solid = phantom.truth.to_numpy() == SOLID
    inner = gaussian_filter(solid.astype(float), (0, 2, 2)) > 0.95
    grey = phantom.stack.to_numpy()
    assert grey[solid & ~inner].mean() > grey[inner].mean() + 10


def test_noise_raises_local_variance():
    clean, noisy = (
        make_phantom(6, 96, **(CLEAN | {"noise": noise})).stack.to_numpy().astype(float)
        for noise in (0.0, 0.1)
    )
    face = clean > 140
    added = (noisy - clean)[face].std()
    assert added == pytest.approx(0.1 * 126, rel=0.2)


def test_curtains_are_vertical_stripes():
    plain, striped = (
        make_phantom(6, 96, **(CLEAN | {"curtaining": strength})).stack.to_numpy().astype(float)
        for strength in (0.0, 0.05)
    )
    stripes = striped - plain
    assert stripes.mean(axis=1).std() > 2 * stripes.mean(axis=2).std()


def test_brightness_drifts_along_the_stack():
    phantom = make_phantom(40, 64, edge_brightening=0.0, **(CLEAN | {"brightness_drift": 0.2}))
    grey = phantom.stack.where(phantom.truth == SOLID).mean(("y", "x")).to_numpy()
    assert grey[0] - grey[-1] == pytest.approx(0.2 * 126, abs=4)


@pytest.mark.parametrize(
    ("parameter", "value", "rule"),
    [
        ("slices", 0, "1 to"),
        ("size", 8, "16 to"),
        ("seed", -1, "at least 0"),
        ("porosity", 1.0, "0.05 to 0.99"),
        ("attenuation_nm", 0.0, "0.1 to"),
        ("noise", float("nan"), "0.0 to 2.0"),
        ("spacing_nm", (10, 10), "three positive numbers"),
        ("spacing_nm", (10, 10, -1), "three positive numbers"),
        ("feature_size_nm", 30.0, "40 to 4000"),
    ],
)
def test_bad_parameter_is_named_with_rule_and_value(parameter, value, rule):
    with pytest.raises(ParameterError) as caught:
        make_phantom(**{"slices": 2, "size": 32, parameter: value})
    message = str(caught.value)
    assert caught.value.parameter == parameter
    assert rule in message
    assert str(value) in message


def test_hard_for_a_threshold_and_not_solved_by_a_two_dimensional_forest(benchmark_module):
    hardness = benchmark_module("phantom")
    made = fp.phantom(slices=100, size=192, seed=2)
    assert 0.80 < hardness.threshold_accuracy(made.stack, made.truth) < 0.875
    accuracies = hardness.forest_accuracies(made.stack, made.truth, [8, 41, 72, 98])
    assert 0.91 < np.mean(accuracies) < 0.94
