"""The filters against scipy, and the features: the same whatever the cut, and named."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import fiji_poreseg as fp
from fiji_poreseg import compiled, filters
from fiji_poreseg.features import FeatureBank, FeatureReader

RNG = np.random.default_rng(0)
EVERYTHING = {name: place for place, name in enumerate(filters.QUANTITIES)}


@pytest.fixture(scope="module")
def stack():
    return fp.phantom(slices=32, size=48, seed=3).stack


@pytest.fixture(scope="module")
def bank(stack):
    return FeatureBank.for_spacing((10, 10, 10))


@pytest.fixture
def with_scipy(monkeypatch):
    monkeypatch.setenv("FIJI_PORESEG_COMPILED", "0")


def measured(plane, sigma, rows=None, wanted=EVERYTHING):
    rows = rows or slice(0, plane.shape[0])
    out = np.full((len(wanted), rows.stop - rows.start, plane.shape[1]), np.nan, np.float32)
    filters.measure(plane, sigma, wanted, rows, out)
    return out


def by_scipy(plane, sigma):
    """What `measure` documents, in scipy.ndimage's own words and in float64."""
    plane = plane.astype(float)

    def blurred(plane, order=(0, 0)):
        return ndimage.gaussian_filter(plane, sigma, order) * np.prod(np.power(sigma, order))

    def eigenvalues(yy, yx, xx):
        matrix = np.stack([yy, yx, yx, xx], axis=-1).reshape(*plane.shape, 2, 2)
        smaller, larger = np.moveaxis(np.linalg.eigvalsh(matrix), -1, 0)
        return larger, smaller

    y, x = blurred(plane, (1, 0)), blurred(plane, (0, 1))
    yy, yx, xx = (blurred(plane, order) for order in ((2, 0), (1, 1), (0, 2)))
    deviation = np.sqrt(np.maximum(0, blurred(plane**2) - blurred(plane) ** 2))
    tensor = (blurred(y * y), blurred(y * x), blurred(x * x))
    return np.stack(
        [
            blurred(plane),
            deviation,
            np.hypot(y, x),
            yy + xx,
            *eigenvalues(yy, yx, xx),
            *eigenvalues(*tensor),
        ]
    )


def test_numba_runs_the_filters_here():
    assert compiled.is_on()


@pytest.mark.parametrize("engine", ["numba", "scipy"])
@pytest.mark.parametrize("sigma", [(1, 1), (0.7, 2.3), (16, 8), (0.1, 0.4)])
@pytest.mark.parametrize("shape", [(70, 45), (9, 131), (1, 3)])
def test_the_filters_are_scipys_up_to_the_border(shape, sigma, engine, request):
    if engine == "scipy":
        request.getfixturevalue("with_scipy")
    plane = RNG.random(shape, dtype=np.float32)
    difference = np.abs(measured(plane, sigma) - by_scipy(plane, sigma)).max(axis=(1, 2))
    # The standard deviation is the root of a difference, which may be all rounding.
    assert (np.delete(difference, EVERYTHING["deviation"]) < 2e-6).all()
    assert difference[EVERYTHING["deviation"]] < 1e-3


def test_only_what_is_wanted_is_written():
    plane = RNG.random((20, 30), dtype=np.float32)
    whole = measured(plane, (2, 2))
    for name, place in EVERYTHING.items():
        out = np.full((3, 20, 30), 7, np.float32)
        filters.measure(plane, (2, 2), {name: 1}, slice(0, 20), out)
        np.testing.assert_array_equal(out[1], whole[place])
        assert (out[[0, 2]] == 7).all()


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    sigma=st.tuples(st.floats(0.3, 6), st.floats(0.3, 6)),
    data=st.data(),
)
def test_any_rows_of_the_filters_are_those_of_the_whole(shape, sigma, data):
    plane = np.random.default_rng(0).random(shape, dtype=np.float32)
    start = data.draw(st.integers(0, shape[0] - 1))
    stop = data.draw(st.integers(start + 1, shape[0]))
    some = measured(plane, sigma, slice(start, stop))
    np.testing.assert_array_equal(some, measured(plane, sigma)[:, start:stop])


@pytest.mark.parametrize("engine", ["numba", "scipy"])
@pytest.mark.parametrize("height", [1, 2, 3, 4, 5, 6, 7, 20, 48])
def test_any_cut_of_the_features_gives_the_same_bits(height, engine, stack, bank, request):
    if engine == "scipy":
        request.getfixturevalue("with_scipy")
    reader = FeatureReader(stack, bank, "forward")
    for index in (0, 11, 31):
        whole = reader.plane(index)
        bands = [
            reader.rows(index, slice(start, min(start + height, 48)))
            for start in range(0, 48, height)
        ]
        assert all(band.flags.c_contiguous and band.dtype == np.float32 for band in bands)
        np.testing.assert_array_equal(np.concatenate(bands, axis=1), whole)


def test_pixels_are_those_of_the_plane(stack, bank):
    reader = FeatureReader(stack, bank, "forward")
    where = np.sort(RNG.choice(48 * 48, 100, replace=False))
    flat = reader.plane(9).reshape(len(bank.names()), -1)
    np.testing.assert_array_equal(reader.pixels(9, where), flat[:, where].T)
    np.testing.assert_array_equal(reader.pixels(9, slice(None)), flat.T)


def test_scipy_gives_the_same_features(stack, bank, monkeypatch):
    fast = FeatureReader(stack, bank, "forward").plane(12)
    monkeypatch.setenv("FIJI_PORESEG_COMPILED", "0")
    slow = FeatureReader(stack, bank, "forward").plane(12)
    # Which of two depths it is may hang on the last bit of a grey.
    counted = np.array([name.startswith("depth of") for name in bank.names()])
    np.testing.assert_allclose(fast[~counted], slow[~counted], atol=1e-5)
    assert (fast[counted] == slow[counted]).mean() > 0.999


def test_threads_give_the_same_features(stack, bank):
    alone = FeatureReader(stack, bank, "forward")
    together = FeatureReader(stack, bank, "forward")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(together.plane, range(32)))
    for index, features in enumerate(found):
        np.testing.assert_array_equal(features, alone.plane(index))


def test_a_slice_is_read_once_and_few_are_kept(stack, bank, monkeypatch):
    made = []
    reader = FeatureReader(stack, bank, "forward")
    read = reader.slices._read
    monkeypatch.setattr(reader.slices, "_read", lambda index: made.append(index) or read(index))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(reader.plane, [4, 4, 5, 5]))
    assert len(made) == len(set(made))
    for index in range(6, 32):
        reader.plane(index)
    assert sorted(made) == list(range(32))
    assert len(reader.slices._kept) <= 12 + 4 + 1 + 4


def test_a_neighbour_that_cannot_be_read_is_asked_for_again(stack, bank, monkeypatch):
    reader = FeatureReader(stack, bank, "forward")
    read = reader.slices._read

    def failing(index):
        raise OSError("the disk is gone")

    monkeypatch.setattr(reader.slices, "_read", failing)
    with pytest.raises(OSError, match="the disk is gone"):
        reader.plane(5)
    monkeypatch.setattr(reader.slices, "_read", read)
    assert reader.plane(5).shape[1:] == (48, 48)


def test_missing_and_hidden_neighbours_are_nan_and_nothing_else_is(stack, bank):
    reader = FeatureReader(stack, bank, "forward")
    names = np.array(bank.names())
    last = np.isnan(reader.plane(31)).all(axis=(1, 2))
    hidden = np.array(bank.offsets_nm)[:, np.newaxis] > np.zeros(48 * 48)
    hid = np.isnan(reader.pixels(11, slice(None), hidden)).all(axis=0)
    np.testing.assert_array_equal(names[last], names[hid])
    assert set(names[last]) == {
        name for name in names
        if name in {"darkest below", "brightest below", *FADING}
        or any(f"{offset:+g} nm" in name for offset in bank.offsets_nm if offset > 0)
    }  # fmt: skip
    assert not np.isnan(reader.plane(11)).any()


FADING = ("depth of half the grey", "largest fall", "depth of largest fall")


def test_between_two_slices_a_neighbour_is_interpolated():
    grey = np.arange(8, dtype=np.float32)[:, np.newaxis, np.newaxis]
    ramp = np.linspace(0, 1, 12, dtype=np.float32)
    stack = fp.make_stack(grey * 0 + ramp * np.ones((8, 12, 1), np.float32), (20, 10, 10))
    stack[4] = stack[4].data[:, ::-1]
    bank = FeatureBank((), (), (-30.0, 30.0, 60.0), 10.0)
    reader = FeatureReader(stack, bank, "forward")
    names = bank.names()
    found = reader.plane(2)
    once, twice, thrice = (
        FeatureReader(stack, FeatureBank((), (), (depth,), 10.0), "forward").plane(2)[1]
        for depth in (20.0, 40.0, 60.0)
    )
    np.testing.assert_allclose(found[names.index("grey +30 nm")], (once + twice) / 2, atol=1e-6)
    np.testing.assert_array_equal(found[names.index("grey +60 nm")], thrice)
    assert np.isnan(reader.plane(1)[names.index("grey -30 nm")]).all()


def test_the_models_of_before_keep_their_features():
    settings = {
        "sigmas_nm": [10.0, 20.0],
        "derivative_sigmas_nm": [10.0],
        "offsets_nm": [-20.0, 20.0],
        "context_sigma_nm": 10.0,
    }
    assert FeatureBank.from_settings(settings).names() == (
        "grey", "gaussian 10 nm", "gaussian 20 nm", "gradient magnitude 10 nm",
        "larger Hessian eigenvalue 10 nm", "smaller Hessian eigenvalue 10 nm",
        "grey -20 nm", "grey +20 nm", "change of grey to -20 nm", "change of grey to +20 nm",
        "darkest below", "brightest below", "darkest above",
    )  # fmt: skip


def test_a_bank_comes_back_from_its_settings(bank):
    assert FeatureBank.from_settings(json.loads(json.dumps(bank.settings))) == bank


@pytest.mark.parametrize("milling", ["forward", "reverse"])
def test_sampled_by_two_in_depth_the_features_change_little(milling, bank):
    stack = fp.phantom(slices=40, size=64, seed=1).stack
    half = stack[::2].assign_coords(z=stack.z[::2])
    ours, theirs = (FeatureReader(each, bank, milling) for each in (stack, half))
    pairs = [(ours.plane(2 * index), theirs.plane(index)) for index in (2, 7, 13, 17)]
    fine, coarse = (np.stack(planes) for planes in zip(*pairs, strict=True))
    assert (np.isnan(fine) == np.isnan(coarse)).all()
    extent = np.nanmax(fine, axis=(0, 2, 3)) - np.nanmin(fine, axis=(0, 2, 3))
    error = np.nanmean((fine - coarse) ** 2, axis=(0, 2, 3)) / extent**2
    assert error.max() <= 10 ** (-35 / 10), bank.names()[error.argmax()]


def run(code, cwd=None, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment}, cwd=cwd,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


BLURRED = """
import sys
import numpy as np
from fiji_poreseg import filters
before = "numba" in sys.modules
out = np.empty((1, 9, 9), np.float32)
filters.measure(np.eye(9, dtype=np.float32), (1, 1), {"gaussian": 0}, slice(0, 9), out)
print(filters.__file__, before, "fiji_poreseg.filter_loops" in sys.modules, round(out.sum(), 2))
"""


def test_the_filters_can_be_left_to_scipy():
    assert run(BLURRED, FIJI_PORESEG_COMPILED="0") == f"{filters.__file__} False False 9.0"
    assert run(BLURRED, FIJI_PORESEG_COMPILED="1") == f"{filters.__file__} False True 9.0"
    absent = f"import sys\nsys.modules['numba'] = None\n{BLURRED}"
    assert run(absent) == f"{filters.__file__} True False 9.0"


def test_without_a_place_for_numbas_cache_the_filters_run(tmp_path):
    package = tmp_path / "fiji_poreseg"
    shutil.copytree(Path(fp.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "__pycache__").touch()
    told = run(BLURRED, tmp_path, PYTHONPATH=str(tmp_path), HOME=str(package / "__pycache__"))
    assert told == f"{package / 'filters.py'} False True 9.0"
