"""The forest beside scikit-image's trainable segmentation: how fast, how large, how right.

    python benchmarks/forest.py speed                  512 x 512 x 16, 2 minutes
    python benchmarks/forest.py speed --size 1024      how it grows
    python benchmarks/forest.py accuracy               600 x 256 x 256, 40 minutes
    python benchmarks/forest.py accuracy --labels scribbles            one kind of labels only
    python benchmarks/forest.py accuracy --slices 200 --size 128       3 minutes
    python benchmarks/forest.py features               the worth of each group, 8 minutes

`speed`, like for like: one forest of 100 trees and one matrix of our features, walked by
scikit-learn's `predict_proba` and by ours, both with two threads; medians of seven, in turns.
Tool for tool: a stack through `multiscale_basic_features`, scikit-learn's trees and
`predict_segmenter`, and through `segment`, each trained on the same pixels by a forest of 100
trees, each in a process of its own.
`accuracy`: on all slices but those trained on, with the labels of distributed slices, and with
scribbles alone. The forest of scikit-image is that of its example, but for 100 trees.
`features`: the same error where a group of features is left out, over three phantoms.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import xarray as xr
from scribbles import SCRIBBLED_SHARE, scribbles
from skimage.feature import multiscale_basic_features
from skimage.future import fit_segmenter, predict_segmenter
from sklearn.ensemble import RandomForestClassifier

import fiji_poreseg as fp
from fiji_poreseg import forest
from fiji_poreseg.features import FeatureBank, FeatureReader
from fiji_poreseg.trees import Walk

THREADS = 2
TENTHS = 10


def their_forest(
    stack: xr.DataArray, labels: xr.DataArray, share: float | None
) -> RandomForestClassifier:
    """A forest over scikit-image's features, each tree from a `share` of the labelled pixels."""
    classes, features = [], []
    for index in np.flatnonzero(labels.any(("y", "x"))):
        plane = labels.to_numpy()[index]
        classes.append(plane[plane > 0])
        features.append(multiscale_basic_features(stack.to_numpy()[index])[plane > 0])
    classifier = RandomForestClassifier(
        100, n_jobs=THREADS, max_depth=10, max_samples=share, random_state=0
    )
    return fit_segmenter(np.concatenate(classes), np.concatenate(features), classifier)


def their_labels(plane: np.ndarray, classifier: RandomForestClassifier) -> np.ndarray:
    """Labels of a slice."""
    return predict_segmenter(multiscale_basic_features(plane), classifier)


# Speed


def like_for_like(size: int) -> list[str]:
    """Walk one forest over one slice's features, both ways."""
    made = fp.phantom(slices=24, size=size, seed=0)
    model = fp.train_forest(made.stack, made.truth, indices=[2, 12, 20])
    features = FeatureReader(made.stack, model.bank, "forward").plane(8)
    columns = features.reshape(len(features), -1)
    rows = np.ascontiguousarray(columns.T)
    classifier = model.classifier
    walk, compiling = timed(lambda: warmed(Walk(classifier), columns))
    classifier.set_params(n_jobs=THREADS)
    ways: tuple[Callable[[], np.ndarray], ...] = (
        lambda: classifier.predict_proba(rows),
        lambda: np.hstack(halves(walk.probabilities, columns)),
        lambda: np.hstack(halves(walk.labels, columns)),
    )
    # In turns, so that a moment in which the machine is slow does not meet one way alone.
    rounds = [[timed(way) for way in ways] for _ in range(7)]
    theirs, probabilities, labels = (answer for answer, _ in rounds[-1])
    base, soft, hard = np.median([[seconds for _, seconds in each] for each in rounds], axis=0)
    difference = float(np.abs(probabilities.T - theirs).max())
    unequal = int(np.count_nonzero(labels != theirs.argmax(axis=1)))
    rate = columns.shape[1] / 1e6
    nodes = np.mean([tree.tree_.node_count for tree in classifier.estimators_])
    return [
        f"100 trees of {nodes:.0f} nodes, {len(columns)} features, {rate:.2f} Mpx, "
        f"{THREADS} threads; compiled, or loaded, in {compiling:.1f} s",
        "",
        "| way | s | Mpx/s | ratio | difference |",
        "|---|---|---|---|---|",
        f"| scikit-learn predict_proba | {base:.2f} | {rate / base:.2f} | 1.00 | |",
        f"| ours, probabilities | {soft:.2f} | {rate / soft:.2f} | {base / soft:.2f} "
        f"| at most {difference:.1g} |",
        f"| ours, labels | {hard:.2f} | {rate / hard:.2f} | {base / hard:.2f} | {unequal} labels |",
    ]


def warmed(walk: Walk, columns: np.ndarray) -> Walk:
    """A walk that is compiled."""
    walk.labels(columns[:, :64])
    walk.probabilities(columns[:, :64])
    return walk


def halves(work: Callable[[np.ndarray], np.ndarray], columns: np.ndarray) -> list[np.ndarray]:
    """Some work on two halves of the pixels at once."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(work, np.array_split(columns, THREADS, axis=1)))


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What some work answers, and its seconds."""
    start = time.perf_counter()
    answer = work()
    return answer, time.perf_counter() - start


class Run(NamedTuple):
    """What a tool did with a stack."""

    training: float
    compiling: float
    predicting: float
    peak: int
    accuracy: float
    dice: float


def tool_for_tool(slices: int, size: int) -> list[str]:
    """A stack through both tools, each in a process of its own."""
    given = task(slices, size)
    lines = [
        f"{slices} x {size} x {size}, trained on 20,000 labelled pixels of 5 slices",
        "",
        "| tool | train s | compile s | segment s | Mpx/s | peak MB | accuracy | Dice |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rates = []
    for name, tool in (("scikit-image", scikit_image), ("fiji-poreseg", ours)):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            run = pool.submit(tool, *given).result()
        rates.append(slices * size**2 / 1e6 / run.predicting)
        lines.append(
            f"| {name} | {run.training:.1f} | {run.compiling:.1f} | {run.predicting:.1f} "
            f"| {rates[-1]:.2f} | {run.peak / 1e6:.0f} | {run.accuracy:.3f} | {run.dice:.3f} |"
        )
    return [*lines, "", f"fiji-poreseg segments {rates[1] / rates[0]:.2f} times as many pixels a s"]


def task(slices: int, size: int) -> tuple[fp.Phantom, xr.DataArray, list[int]]:
    """A stack, labels of 20,000 pixels of five slices, and the slices without labels."""
    made = fp.phantom(slices=slices, size=size, seed=0)
    trained_on = fp.select_slices(made.stack, strategy="distributed", count=5)
    keep = np.random.default_rng(0).random(made.truth.shape) < 4000 / size**2
    keep[[z for z in range(slices) if z not in trained_on]] = False
    labels = fp.make_labels(np.where(keep, made.truth, 0).astype(np.uint8), made.stack)
    return made, labels, [z for z in range(slices) if z not in trained_on]


def scikit_image(made: fp.Phantom, labels: xr.DataArray, unseen: list[int]) -> Run:
    """Time and score scikit-image's way."""
    theirs, training = timed(lambda: their_forest(made.stack, labels, None))
    planes = made.stack.to_numpy()
    found, predicting = timed(lambda: np.stack([their_labels(plane, theirs) for plane in planes]))
    return scored(made, found, unseen, training, 0.0, predicting)


def ours(made: fp.Phantom, labels: xr.DataArray, unseen: list[int]) -> Run:
    """Time and score ours: labels alone, as the other."""
    model, training = timed(lambda: fp.train_forest(made.stack, labels, folds=0))
    small = made.stack.isel(y=slice(64), x=slice(64))
    _, compiling = timed(lambda: list(model.predict_labels(small, [0])))
    planes, predicting = timed(
        lambda: list(model.predict_labels(made.stack, range(len(made.stack))))
    )
    return scored(
        made, np.stack([plane for _, plane in planes]), unseen, training, compiling, predicting
    )


def scored(
    made: fp.Phantom,
    found: np.ndarray,
    unseen: Sequence[int],
    training: float,
    compiling: float,
    predicting: float,
) -> Run:
    """A run with its scores, and what its process took at most."""
    segmentation = fp.make_labels(found.astype(np.uint8), made.stack)
    mean = fp.evaluate(segmentation, made.truth, indices=unseen).mean
    return Run(
        training,
        compiling,
        predicting,
        peak_of_this_process(),
        float(mean["accuracy"]),
        float(mean["dice_solid"]),
    )


def peak_of_this_process() -> int:
    """Bytes of memory that this process held at most."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS counts in bytes
    # On Linux that would be the peak of the process that started this one, where it is larger.
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


# Accuracy


def compare(
    made: fp.Phantom, labels: xr.DataArray, *, share: float | None
) -> tuple[np.ndarray, np.ndarray]:
    """Mean error in each tenth of the stack, on slices without labels: scikit-image's and ours."""
    unseen = unlabelled(labels)
    theirs = their_forest(made.stack, labels, share)
    grey, truth = made.stack.to_numpy(), made.truth.to_numpy()
    errors = [np.mean(their_labels(grey[z], theirs) != truth[z]) for z in unseen]
    model = fp.train_forest(made.stack, labels, folds=0)
    return by_tenth(errors, unseen, len(grey)), errors_by_tenth(model, made, labels)


def errors_by_tenth(
    model: forest.ForestModel, made: fp.Phantom, labels: xr.DataArray
) -> np.ndarray:
    """Mean error in each tenth of the stack of a model of ours."""
    unseen = unlabelled(labels)
    truth = made.truth.to_numpy()
    planes = model.predict_labels(made.stack, unseen)
    return by_tenth([np.mean(plane != truth[z]) for z, plane in planes], unseen, len(truth))


def unlabelled(labels: xr.DataArray) -> list[int]:
    """The slices without labels."""
    return np.flatnonzero(~labels.any(("y", "x")).to_numpy()).tolist()


def by_tenth(errors: Sequence[float], indices: Sequence[int], slices: int) -> np.ndarray:
    """Means over the tenths of a stack."""
    tenths = np.array(indices) * TENTHS // slices
    return np.array([np.mean(np.array(errors)[tenths == tenth]) for tenth in range(TENTHS)])


def dense(made: fp.Phantom, count: int) -> xr.DataArray:
    """The truth of some distributed slices."""
    trained_on = list(fp.select_slices(made.stack, strategy="distributed", count=count))
    values = np.zeros(made.truth.shape, np.uint8)
    values[trained_on] = made.truth.to_numpy()[trained_on]
    return fp.make_labels(values, made.stack)


def accuracy(slices: int, size: int, seed: int, labels_of: str = "") -> list[str]:
    """Errors by tenth of the stack, ours as a share of scikit-image's."""
    made = fp.phantom(slices=slices, size=size, seed=seed)
    tasks = {
        "20 slices": (dense(made, 20), 0.05),
        "5 slices": (dense(made, 5), 0.05),
        f"scribbles, {SCRIBBLED_SHARE:.1%} of 5 slices": (scribbles(made), None),
    }
    lines = [
        f"phantom of {slices} x {size} x {size}, seed {seed}: error (1 - accuracy) on all slices "
        "not trained on, whole and by tenth of the stack",
        "",
        "| labels | tool | error | " + " | ".join(map(str, range(1, TENTHS + 1))) + " |",
        "|---|---|---|" + "---|" * TENTHS,
    ]
    for name, (labels, share) in tasks.items():
        if labels_of not in name:
            continue
        theirs, own = compare(made, labels, share=share)
        for tool, errors in (("scikit-image", theirs), ("fiji-poreseg", own)):
            cells = " | ".join(f"{error:.4f}" for error in errors)
            lines.append(f"| {name} | {tool} | {errors.mean():.4f} | {cells} |")
        cells = " | ".join(f"{ratio:.2f}" for ratio in own / theirs)
        lines.append(f"| {name} | ratio | {own.mean() / theirs.mean():.2f} | {cells} |")
    return lines


# Features


def worth(slices: int, size: int, seed: int) -> list[str]:
    """Errors of the default features, and without some; means over three phantoms."""
    every = FeatureBank.for_spacing((10, 10, 10))
    banks = {
        "all": every,
        "without the wide greys of neighbours": replace(every, wide_sigma_nm=0.0),
        "without the gradients of neighbours": replace(every, edges=False),
        "without how the grey fades": replace(every, fading=False),
        "without Laplacian, structure tensor, deviation": replace(
            every, laplacian_sigmas_nm=(), structure_sigmas_nm=(), deviation_sigmas_nm=()
        ),
        "every second neighbour": replace(every, offsets_nm=every.offsets_nm[::2]),
        "all, each tree on all pixels": every,
    }
    errors: dict[str, list[np.ndarray]] = {name: [] for name in banks}
    for phantom in range(seed, seed + 3):
        made = fp.phantom(slices=slices, size=size, seed=phantom)
        labels = dense(made, 5)
        trained_on = np.flatnonzero(labels.any(("y", "x"))).tolist()
        for name, bank in banks.items():
            cap = len(trained_on) * size**2 if "each tree" in name else forest.PIXELS_A_TREE
            with mock.patch.object(forest.training, "PIXELS_A_TREE", cap):
                model = forest.train(made.stack, labels, trained_on, folds=0, bank=bank)
            errors[name].append(errors_by_tenth(model, made, labels))
    lines = [
        f"phantoms of {slices} x {size} x {size}, seeds {seed} to {seed + 2}, 5 distributed "
        "slices: error on all others, and in the last tenth of the stack",
        "",
        "| features | how many | error | last tenth |",
        "|---|---|---|---|",
    ]
    for name, found in errors.items():
        mean = np.mean(found, axis=0)
        count = len(banks[name].names())
        lines.append(f"| {name} | {count} | {mean.mean():.4f} | {mean[-1]:.4f} |")
    return lines


def main() -> None:
    """Print the tables that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "accuracy", "features"))
    parser.add_argument("--slices", type=int, help="slices of the stack")
    parser.add_argument("--size", type=int, help="its rows and columns")
    parser.add_argument("--seed", type=int, default=0, help="seed of the phantom")
    parser.add_argument("--labels", default="", help="of accuracy: kinds whose name holds this")
    asked = parser.parse_args()
    if asked.what == "speed":
        size = asked.size or 512
        lines = [*like_for_like(size), "", *tool_for_tool(asked.slices or 16, size)]
    elif asked.what == "accuracy":
        lines = accuracy(asked.slices or 600, asked.size or 256, asked.seed, asked.labels)
    else:
        lines = worth(asked.slices or 100, asked.size or 128, asked.seed)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
