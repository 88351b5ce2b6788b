"""Our walk of a forest beside scikit-learn's: the same forest, the same features, two threads.

    python benchmarks/trees.py        3 minutes, 1 GB

The forest is trained on three slices of a phantom of 1024 x 1024 and asked about another one. A
time is the median of `--repeats` runs, taken in turns; compiling, or loading what was compiled
before, is timed on its own.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import fiji_poreseg as fp
from fiji_poreseg.features import FeatureReader
from fiji_poreseg.trees import Walk

THREADS = 2
PIXELS_A_TASK = 2**15


def in_threads(ask: Callable[[np.ndarray], np.ndarray], features: np.ndarray) -> np.ndarray:
    """Ask about blocks of pixels in threads; answers joined along their last axis."""
    starts = range(0, features.shape[1], PIXELS_A_TASK)
    with ThreadPoolExecutor(THREADS) as pool:
        blocks = (features[:, start : start + PIXELS_A_TASK] for start in starts)
        return np.concatenate(list(pool.map(ask, blocks)), axis=-1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, help="side of the slice")
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    made = fp.phantom(slices=30, size=asked.size)
    model = fp.train_forest(made.stack, made.truth, indices=[6, 15, 24], trees=asked.trees)
    reader = FeatureReader(made.stack, model.bank, model.card.milling, model.card.normalisation)
    rows = reader.pixels(12, slice(None))
    columns = np.ascontiguousarray(rows.T)
    start = time.perf_counter()
    walk = Walk(model.classifier)
    walk.probabilities(columns[:, :1])
    walk.labels(columns[:, :1])
    compiling = time.perf_counter() - start

    expected = model.classifier.set_params(n_jobs=1).predict_proba(rows)
    model.classifier.set_params(n_jobs=THREADS)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "scikit-learn predict_proba": lambda: model.classifier.predict_proba(rows).T,
        "ours, probabilities": lambda: in_threads(walk.probabilities, columns),
        "ours, labels": lambda: in_threads(walk.labels, columns),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(asked.repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            found = way()
            seconds[name].append(time.perf_counter() - start)
            if name == "ours, probabilities":
                np.testing.assert_array_equal(found, expected.T)
            elif name == "ours, labels":
                np.testing.assert_array_equal(found, expected.argmax(axis=1))
    nodes = np.mean([tree.tree_.node_count for tree in model.classifier.estimators_])
    print_ = sys.stdout.write
    print_(f"{asked.trees} trees of {nodes:.0f} nodes, {len(columns)} features, ")
    print_(f"{columns.shape[1] / 1e6:.2f} Mpx, {THREADS} threads; ")
    print_(f"compiled or loaded in {compiling:.1f} s\n\n")
    print_("| way | s | Mpx/s | ratio |\n|---|---|---|---|\n")
    first = statistics.median(seconds["scikit-learn predict_proba"])
    for name, taken in seconds.items():
        median = statistics.median(taken)
        speed = columns.shape[1] / 1e6 / median
        print_(f"| {name} | {median:.2f} | {speed:.2f} | {first / median:.2f} |\n")


if __name__ == "__main__":
    main()
