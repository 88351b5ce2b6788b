"""How few labelled slices a ResUNet needs, beside a plain 2-D one and the forest.

    python benchmarks/few_slices.py table          600 x 256 x 256, three seeds, 100 minutes
    python benchmarks/few_slices.py long           20 slices, twice the steps, and the mean over
                                                   eight flips and turns
    python benchmarks/few_slices.py range          no labels, 17 kinds of phantom, 15 minutes
    python benchmarks/few_slices.py curves         docs/resunet-curves.png and its numbers, 80 min

`table`: 20, 5 and no labelled slices; the plain 2-D ResUNet is the same network without
neighbours (`context=slice`) and without pretraining, with the same 20 slices, loss and
augmentation, for as long as ours took. `range`: `model=pretrained` beside the forest that was
trained on 5 distributed slices. `curves`: a training for each point, so that each has its whole
schedule. `long` and `curves` score every fourth slice. Scores are of slices that were not trained
on; no weight was trained on a phantom of these seeds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import fiji_poreseg as fp
from fiji_poreseg.model import Model
from fiji_poreseg.phantoms import Phantom, make_phantom
from fiji_poreseg.resunet import ResUNetModel

PAPERS_INDICES = (47, 434, 598)
TIMED_STEPS = 160
LONG_STEPS = 800
SLICE_COUNTS, STEP_COUNTS = (1, 2, 5, 10, 20, 40), (25, 50, 100, 200, 400)
SCORED_EACH = 4
FIGURE = Path(__file__).parent.parent / "docs" / "resunet-curves.png"
# A 2-D ResUNet of random weights.
plain_2d = partial(fp.train_resunet, context="slice", start="none")
# What the pretraining drew from, at its middle, at its ends and beyond (scripts/pretrain.py).
INSIDE: Mapping[str, Mapping[str, Any]] = {
    "the default phantom": {},
    "porosity 0.65": {"porosity": 0.65},
    "porosity 0.85": {"porosity": 0.85},
    "features of 200 nm": {"feature_size_nm": 200},
    "features of 500 nm": {"feature_size_nm": 500},
    "attenuation 150 nm": {"attenuation_nm": 150},
    "attenuation 800 nm": {"attenuation_nm": 800},
    "noise 0.15": {"noise": 0.15},
    "slices of 25 nm": {"spacing_nm": (25, 10, 10)},
}
OUTSIDE: Mapping[str, Mapping[str, Any]] = {
    "porosity 0.5": {"porosity": 0.5},
    "porosity 0.9": {"porosity": 0.9},
    "features of 100 nm": {"feature_size_nm": 100},
    "features of 800 nm": {"feature_size_nm": 800},
    "attenuation 80 nm": {"attenuation_nm": 80},
    "attenuation 1500 nm": {"attenuation_nm": 1500},
    "noise 0.25": {"noise": 0.25},
    "slices of 45 nm": {"spacing_nm": (45, 10, 10), "feature_size_nm": 400},
}


@dataclass(frozen=True)
class Score:
    """How right a model is on what it was not trained on.

    Parameters
    ----------
    accuracy, dice
        At the paper's slices, in their order.
    error
        1 - accuracy over the slices that were asked for and not trained on.
    seconds
        What its training took.
    """

    accuracy: tuple[float, ...]
    dice: tuple[float, ...]
    error: float
    seconds: float


def score(
    model: Model | str,
    made: Phantom,
    seconds: float,
    trained_on: Sequence[int],
    each: int = 1,
    **options: Any,
) -> Score:
    """Segment each `each`-th slice of a phantom, and the paper's, and score them."""
    counted = [index for index in range(0, len(made.stack), each) if index not in trained_on]
    unseen = sorted({*counted, *PAPERS_INDICES} - {*trained_on})
    found = fp.segment(made.stack, model=model, indices=unseen, **options).segmentation
    scores = {row.index: row for row in fp.evaluate(found, made.truth, indices=unseen).slices}
    shown = [scores[index] for index in PAPERS_INDICES if index in scores]
    return Score(
        tuple(row.accuracy for row in shown),
        tuple(row.dice_solid for row in shown),
        1 - float(np.mean([scores[index].accuracy for index in counted])),
        seconds,
    )


def trained(
    made: Phantom, count: int, train: Callable[..., Model], each: int = 1, **options: Any
) -> Score:
    """Train on `count` distributed slices, and score the rest."""
    indices = fp.select_slices(made.stack, strategy="distributed", count=count)
    start = time.perf_counter()
    model = train(made.stack, made.truth, indices=indices)
    return score(model, made, time.perf_counter() - start, indices, each, **options)


def pace(
    train: Callable[..., Model], stack: xr.DataArray, truth: xr.DataArray, indices: Sequence[int]
) -> float:
    """Seconds that a step of training takes."""
    begun = time.perf_counter()
    train(stack, truth, indices=indices, steps=1)
    prepared = time.perf_counter()
    train(stack, truth, indices=indices, steps=1 + TIMED_STEPS)
    return (time.perf_counter() - prepared - (prepared - begun)) / TIMED_STEPS


def plain(seconds: float) -> Callable[..., ResUNetModel]:
    """A 2-D ResUNet of random weights, trained for about that long."""

    def train(stack: xr.DataArray, truth: xr.DataArray, indices: Sequence[int]) -> ResUNetModel:
        steps = max(1, round(seconds / pace(plain_2d, stack, truth, indices)))
        return plain_2d(stack, truth, indices=indices, steps=steps)

    return train


def table(seeds: Sequence[int]) -> list[str]:
    """Ours, the plain one and the forest, on the default phantom."""
    scores: dict[str, list[Score]] = {}
    for seed in seeds:
        made = fp.phantom(seed=seed)

        def note(name: str, one: Score, seed: int = seed) -> Score:
            log(f"seed {seed}, {name}: {one}")
            scores.setdefault(name, []).append(one)
            return one

        ours = note("ResUNet, 20 slices", trained(made, 20, fp.train_resunet))
        note("plain 2-D ResUNet, 20 slices", trained(made, 20, plain(ours.seconds)))
        note("ResUNet, 5 slices", trained(made, 5, fp.train_resunet))
        note("ResUNet, no slice (pretrained)", score("pretrained", made, 0, ()))
        note("forest, 20 slices", trained(made, 20, fp.train_forest))
        note("forest, 5 slices", trained(made, 5, fp.train_forest))
    lines = tabulated(scores, seeds)
    ratios = [
        one.error / other.error
        for one, other in zip(*(scores[name] for name in tuple(scores)[:2]), strict=True)
    ]
    shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    lines += ["", f"error of ours as a share of the plain 2-D one's, 20 slices: {shown}"]
    return lines


def long(seeds: Sequence[int]) -> list[str]:
    """What 20 slices come to where the time of training does not matter."""
    name = f"ResUNet, 20 slices, {LONG_STEPS} steps, augment"
    scores: dict[str, list[Score]] = {name: []}
    for seed in seeds:
        train = partial(fp.train_resunet, steps=LONG_STEPS)
        made = fp.phantom(seed=seed)
        scores[name].append(trained(made, 20, train, SCORED_EACH, augment=True))
        log(f"seed {seed}, {name}: {scores[name][-1]}")
    return tabulated(scores, seeds)


def tabulated(scores: Mapping[str, Sequence[Score]], seeds: Sequence[int]) -> list[str]:
    """A row for each model: its scores over the seeds."""
    lines = [
        f"phantoms of 600 x 256 x 256, seeds {', '.join(map(str, seeds))}: mean and, in brackets, "
        "the lowest and the highest",
        "",
        "| model | accuracy at 47 | 434 | 598 | Dice of the solid at 47 | 434 | 598 "
        "| error, unseen slices | training, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, of_name in scores.items():
        columns = np.array([[*one.accuracy, *one.dice, one.error] for one in of_name]).T
        cells = " | ".join(map(spread, columns))
        seconds = np.mean([one.seconds for one in of_name])
        lines.append(f"| {name} | {cells} | {seconds:.0f} |")
    return lines


def spread(values: np.ndarray) -> str:
    """Mean, lowest and highest."""
    return f"{values.mean():.3f} ({values.min():.3f} to {values.max():.3f})"


def ranges(slices: int, size: int, seed: int) -> list[str]:
    """No labels beside five labelled slices, inside and outside of what was pretrained on."""
    lines = [
        f"phantoms of {slices} x {size} x {size}, seed {seed}: error on all slices but the 5 that "
        "the forest was trained on",
        "",
        "| phantom | | best threshold | forest, 5 slices | pretrained, no slice |",
        "|---|---|---|---|---|",
    ]
    for where, kinds in (("inside", INSIDE), ("outside", OUTSIDE)):
        for name, options in kinds.items():
            made = make_phantom(slices, size, seed=seed, **options)
            indices = fp.select_slices(made.stack, strategy="distributed", count=5)
            unseen = [index for index in range(slices) if index not in indices]
            forest = fp.train_forest(made.stack, made.truth, indices=indices, folds=0)
            errors, threshold = [], 0.0
            for model in (forest, "pretrained"):
                found = fp.segment(made.stack, model=model, indices=unseen).segmentation
                scored = fp.evaluate(found, made.truth, stack=made.stack, indices=unseen)
                errors.append(1 - scored.mean["accuracy"])
                threshold = 1 - scored.baseline.mean["accuracy"]
            cells = " | ".join(f"{error:.4f}" for error in (threshold, *errors))
            lines.append(f"| {name} | {where} | {cells} |")
            log(lines[-1])
    return lines


def curves(seed: int) -> list[str]:
    """Error against the number of labelled slices and against the time of training."""
    made = fp.phantom(seed=seed)
    rows: list[tuple[str, str, int, Score]] = []

    def note(axis: str, name: str, amount: int, one: Score) -> None:
        rows.append((axis, name, amount, one))
        log(f"{name}, {amount} {axis}: error {one.error:.4f} after {one.seconds:.0f} s")

    note("slices", "ResUNet", 0, score("pretrained", made, 0, (), SCORED_EACH))
    for count in SLICE_COUNTS:
        note("slices", "ResUNet", count, trained(made, count, fp.train_resunet, SCORED_EACH))
        forest = partial(fp.train_forest, folds=0)
        note("slices", "forest", count, trained(made, count, forest, SCORED_EACH))
    ways: dict[str, Callable[..., Model]] = {
        "from the shipped weights": fp.train_resunet,
        "from random weights": partial(fp.train_resunet, start="none"),
        "plain 2-D": plain_2d,
    }
    # Timed once for each of the two networks: other work beside would bend the curves.
    indices = fp.select_slices(made.stack, strategy="distributed", count=20)
    ours = pace(fp.train_resunet, made.stack, made.truth, indices)
    paces = dict.fromkeys(ways, ours)
    paces["plain 2-D"] = pace(plain_2d, made.stack, made.truth, indices)
    for steps in STEP_COUNTS:
        for name, train in ways.items():
            one = trained(made, 20, partial(train, steps=steps), SCORED_EACH)
            note("steps", name, steps, replace(one, seconds=steps * paces[name]))
    draw(rows)
    return [
        f"phantom of 600 x 256 x 256, seed {seed}; error on every fourth "
        "slice that was not trained on; by steps: 20 distributed slices",
        "",
        "| by | model | amount | error | training, s |",
        "|---|---|---|---|---|",
        *(
            f"| {axis} | {name} | {amount} | {one.error:.4f} | {one.seconds:.0f} |"
            for axis, name, amount, one in rows
        ),
    ]


def draw(rows: Sequence[tuple[str, str, int, Score]]) -> None:
    """The curves as a figure."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for panel, axis in ((left, "slices"), (right, "steps")):
        for name in dict.fromkeys(row[1] for row in rows if row[0] == axis):
            points = [(amount, one) for kind, of, amount, one in rows if (kind, of) == (axis, name)]
            x = [amount if axis == "slices" else one.seconds / 60 for amount, one in points]
            panel.plot(x, [one.error for _, one in points], marker="o", label=name)
        panel.set_yscale("log")
        panel.grid(alpha=0.3, which="both")
        panel.legend()
    ticks = (0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3)
    left.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    left.minorticks_off()
    left.set_xscale("symlog", linthresh=1)
    left.set_xticks((0, *SLICE_COUNTS), (0, *SLICE_COUNTS))
    left.set_xlim(-0.2, 1.2 * SLICE_COUNTS[-1])
    left.set_xlabel("labelled slices")
    left.set_ylabel("error on slices that were not trained on")
    right.set_xlabel("training with 20 slices, minutes")
    right.set_xlim(left=0)
    figure.savefig(FIGURE, dpi=150)


def log(text: str) -> None:
    """Tell what is being done, on standard error."""
    sys.stderr.write(text + "\n")


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("table", "long", "range", "curves"))
    parser.add_argument("--seeds", default="5,6,7")
    asked = parser.parse_args()
    seeds = tuple(map(int, asked.seeds.split(",")))
    if asked.what == "table":
        lines = table(seeds)
    elif asked.what == "long":
        lines = long(seeds)
    elif asked.what == "range":
        lines = ranges(150, 160, seeds[0])
    else:
        lines = curves(seeds[0])
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
