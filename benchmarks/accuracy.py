"""The README's figures: forest, ResUNet and the best global threshold, side by side.

    python benchmarks/accuracy.py phantom   600 x 256 x 256, 20 distributed slices, 11 to 15 minutes
    python benchmarks/accuracy.py medulla   a real FIB-SEM stack, 5 distributed slices, 5 minutes

Scores are taken on slices that nothing was trained on; times are of this machine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import xarray as xr

import fiji_poreseg as fp
from fiji_poreseg.evaluation import Evaluation, best_threshold

MEDULLA = Path(__file__).parent.parent / "tests" / "data" / "medulla"
PAPERS_INDICES = (47, 434, 598)
Comparison = tuple[dict[str, Evaluation], dict[str, float]]
COLUMNS = ("accuracy", "loss", "majority_accuracy", "dice_solid", "iou_solid")


def phantom(seed: int = 0) -> Comparison:
    """Score all on the default phantom at the paper's slices; 20 distributed slices, and none."""
    made = fp.phantom(seed=seed)
    scores, seconds = compare(made.stack, made.truth, 20, PAPERS_INDICES, by="accuracy")
    found = fp.segment(made.stack, model="pretrained", indices=PAPERS_INDICES)
    scores["ResUNet, no labels"] = fp.evaluate(
        found.segmentation, made.truth, probability=found.probability, indices=PAPERS_INDICES
    )
    return scores, seconds


def medulla() -> Comparison:
    """Score all three on a real stack; 5 distributed slices. "Solid" is the cell boundary."""
    stack, labels = fp.read(MEDULLA / "raw.tif"), fp.read(MEDULLA / "labels.tif")
    trained_on = fp.select_slices(stack, strategy="distributed", count=5)
    unseen = [index for index in range(len(stack)) if index not in trained_on]
    return compare(stack, labels, 5, unseen, by="dice_solid")


def compare(
    stack: xr.DataArray, truth: xr.DataArray, count: int, indices: Sequence[int], *, by: str
) -> Comparison:
    """Train on `count` distributed slices, score on `indices`; the threshold is best in `by`.

    Answers with the scores by method, and the seconds that each took to train.
    """
    trained_on = fp.select_slices(stack, strategy="distributed", count=count)
    threshold = best_threshold(stack, truth, by=by).apply(stack.to_numpy())
    seconds: dict[str, float] = {}
    scores = {"best global threshold": fp.evaluate(like(stack, threshold), truth, indices=indices)}
    for name, train in (("forest", fp.train_forest), ("ResUNet", fp.train_resunet)):
        start = time.perf_counter()
        model = train(stack, truth, indices=trained_on)
        trained = time.perf_counter()
        made = fp.segment(stack, model=model, indices=indices)
        done = time.perf_counter()
        seconds[name] = trained - start
        scores[name] = fp.evaluate(
            made.segmentation, truth, probability=made.probability, indices=indices
        )
        log(
            f"{name}: trained in {trained - start:.0f} s ({dict(model.card.scores)}), "
            f"segmented {len(indices)} slices in {done - trained:.1f} s"
        )
    return scores, seconds


def like(stack: xr.DataArray, values: object) -> xr.DataArray:
    """The stack's voxels with other values."""
    return fp.make_labels(values, stack)


def table(scores: dict[str, Evaluation], *, each: bool) -> str:
    """A Markdown table: a row for each method, for `each` slice or their mean."""
    lines = [
        f"| index | method | {' | '.join(name.replace('_', ' ') for name in COLUMNS)} |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for position in range(len(next(iter(scores.values())).slices) if each else 1):
        for method, evaluation in scores.items():
            row = asdict(evaluation.slices[position]) if each else {"index": "mean"}
            values = row if each else evaluation.mean
            cells = ["" if values[name] is None else f"{values[name]:.3f}" for name in COLUMNS]
            lines.append(f"| {row['index']} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def log(text: str) -> None:
    """Tell what is being done, on standard error."""
    sys.stderr.write(text + "\n")


def main() -> None:
    """Print the table that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stack", choices=("phantom", "medulla"))
    parser.add_argument("--seed", type=int, default=0, help="seed of the phantom")
    asked = parser.parse_args()
    scores, _ = phantom(asked.seed) if asked.stack == "phantom" else medulla()
    sys.stdout.write(table(scores, each=asked.stack == "phantom") + "\n")


if __name__ == "__main__":
    main()
