"""The compiled walk of a forest gives scikit-learn's own answers."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from fiji_poreseg.trees import Walk

PLACES = (0.0, 0.1, 0.25, 0.5, np.nan)


def make_features(rng, features, pixels):
    """Values that meet often, so that ties and values on thresholds are common; some missing."""
    values = rng.normal(size=(features, pixels)).round(1).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    return values


def fit(features, labels, trees=30, **options):
    forest = RandomForestClassifier(trees, random_state=0, n_jobs=1, **options)
    return forest.fit(features.T, labels)


def example(classes=2, trees=30, pixels=600, seed=0, **options):
    rng = np.random.default_rng(seed)
    features = make_features(rng, 5, pixels)
    signal = np.nan_to_num(features).sum(axis=0) + rng.normal(size=pixels)
    labels = np.digitize(signal, np.quantile(signal, np.linspace(0, 1, classes + 1)[1:-1])) + 1
    forest = fit(features, labels.astype(np.uint8), trees, **options)
    return forest, make_features(rng, 5, 10_000)


def check(forest, features):
    theirs = forest.predict_proba(features.T)
    walk = Walk(forest)
    ours = walk.probabilities(features)
    assert ours.dtype == np.float64
    np.testing.assert_array_equal(ours, theirs.T)
    labels = walk.labels(features)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, theirs.argmax(axis=1))


@pytest.fixture(params=["compiled", "scikit-learn"], autouse=True)
def way(request, monkeypatch):
    monkeypatch.setenv("FIJI_PORESEG_COMPILED", "1" if request.param == "compiled" else "0")
    return request.param


def test_the_switch_chooses_the_way(way):
    assert (Walk(example()[0])._loops is not None) == (way == "compiled")


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("options", [{}, {"max_leaf_nodes": 20}, {"class_weight": "balanced"}])
def test_answers_are_scikit_learn_s(classes, options):
    check(*example(classes, **options))


@pytest.mark.parametrize("classes", [2, 4])
def test_factors_weigh_the_classes(classes):
    forest, features = example(classes)
    factors = np.linspace(1, 0.1, classes)
    weighted = forest.predict_proba(features.T) * factors
    weighted /= weighted.sum(axis=1, keepdims=True)
    walk = Walk(forest, factors)
    np.testing.assert_allclose(walk.probabilities(features), weighted.T, rtol=1e-12)
    first, second = np.sort(weighted, axis=1)[:, :-3:-1].T
    clear = first - second > 1e-9
    labels = walk.labels(features)
    np.testing.assert_array_equal(labels[clear], weighted.argmax(axis=1)[clear])
    assert (labels != forest.predict_proba(features.T).argmax(axis=1)).any()


def test_a_forest_that_saw_no_missing_values_is_asked_about_some():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(4, 300)).astype(np.float32)
    forest = fit(features, features[0] > 0)
    check(forest, make_features(rng, 4, 2000))


def test_values_on_and_beside_a_threshold():
    forest, _ = example(trees=10)
    found = np.concatenate([e.tree_.threshold[e.tree_.feature >= 0] for e in forest.estimators_])
    near = found[np.isfinite(found)].astype(np.float32)
    values = [near, np.nextafter(near, np.float32(9)), np.nextafter(near, np.float32(-9))]
    check(forest, np.tile(np.concatenate(values), (5, 1)))


def test_thresholds_between_two_floats_are_kept_apart():
    low = np.float32(1)
    high = np.nextafter(low, np.float32(2))
    features = np.array([[low, high] * 20])
    forest = fit(features, [1, 2] * 20, trees=20)
    check(forest, features)


def test_trees_of_one_leaf():
    features = np.zeros((2, 10), np.float32)
    check(fit(features, [1, 2] * 5), features)
    check(fit(features, [1] * 10), features)


def test_a_tie_goes_to_the_first_class():
    features = np.array([[0.0, 1.0, 0.0, 1.0]], np.float32)
    forest = fit(features, [2, 1, 1, 2], trees=40, bootstrap=False)
    assert (forest.predict_proba(features.T) == 0.5).all()
    check(forest, features)


def test_opposed_trees_tie():
    x = np.array([[0.0, 1.0] * 10], np.float32)
    forest, opposed = (fit(x, y, trees=10, bootstrap=False) for y in ([1, 2] * 10, [2, 1] * 10))
    forest.estimators_ += opposed.estimators_
    assert (forest.predict_proba(x.T) == 0.5).all()
    check(forest, x)


def test_one_pixel_and_none():
    forest, features = example()
    check(forest, np.ascontiguousarray(features[:, :1]))
    walk = Walk(forest)
    assert walk.labels(features[:, :0]).shape == (0,)
    assert walk.probabilities(features[:, :0]).shape == (2, 0)


def test_features_need_not_be_contiguous():
    forest, features = example()
    walk = Walk(forest)
    np.testing.assert_array_equal(
        walk.probabilities(features[:, ::3]), walk.probabilities(features)[:, ::3]
    )


def test_threads_and_cuts_change_nothing():
    forest, features = example(3)
    walk = Walk(forest)
    whole = walk.probabilities(features), walk.labels(features)
    cuts = [slice(start, start + 777) for start in range(0, features.shape[1], 777)]
    with ThreadPoolExecutor(4) as pool:
        probabilities = pool.map(lambda cut: walk.probabilities(features[:, cut]), cuts)
        labels = pool.map(lambda cut: walk.labels(features[:, cut]), cuts)
        np.testing.assert_array_equal(np.concatenate(list(probabilities), axis=1), whole[0])
        np.testing.assert_array_equal(np.concatenate(list(labels)), whole[1])


@settings(max_examples=60, deadline=None)
@given(
    cells=st.lists(st.tuples(*[st.sampled_from(PLACES)] * 2), min_size=2, max_size=60),
    classes=st.integers(1, 4),
    trees=st.integers(1, 12),
    seed=st.integers(0, 9),
)
def test_small_forests(cells, classes, trees, seed):
    features = np.array(cells, np.float32).T
    labels = np.random.default_rng(seed).integers(0, classes, len(cells))
    forest = RandomForestClassifier(trees, random_state=seed, n_jobs=1).fit(features.T, labels)
    check(forest, np.tile(features, 3))


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"FIJI_PORESEG_COMPILED": "1"} | environment,
        capture_output=True, text=True, check=True, timeout=120,
    ).stdout.strip()  # fmt: skip


CHECK = "import sys; sys.path.insert(0, 'tests'); import test_trees as t; t.check(*t.example(3))"


@pytest.mark.parametrize("way", ["compiled"], indirect=True)
def test_a_processor_without_wide_vectors(way):
    code = f"{CHECK}; from fiji_poreseg import partition; print(partition.WIDE)"
    environment = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert run(code, **environment) == "False"


@pytest.mark.parametrize("way", ["compiled"], indirect=True)
def test_without_a_place_for_compiled_code(way):
    code = (
        "from numba.core import caching; caching.CacheImpl._locator_classes = []; "
        f"{CHECK}; from fiji_poreseg import partition; print(partition._split.stats.cache_path)"
    )
    assert run(code) == "None"


@pytest.mark.parametrize("way", ["compiled"], indirect=True)
def test_without_numba(way):
    code = f"import sys; sys.modules['numba'] = None; {CHECK}; print('llvmlite' in sys.modules)"
    assert run(code) == "False"


@pytest.mark.parametrize("way", ["compiled"], indirect=True)
def test_importing_it_does_not_import_numba(way):
    assert run("import fiji_poreseg.trees, sys; print('numba' in sys.modules)") == "False"
