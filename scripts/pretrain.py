"""Train the weights that ship with the package: a ResUNet "base" on many varied phantoms.

    python scripts/pretrain.py FOLDER        75 minutes to 2 hours on 2 cores; goes on after a kill

FOLDER takes the phantoms, the checkpoint, the curve and the model; copy `pretrained.poreseg` to
`fiji_poreseg/resunet/` to ship it. The phantoms are drawn from the ranges below, which are wide
round the defaults of `make_phantom`: voxels are 10 nm wide throughout and 5 to 30 nm deep, so a
stack of other voxels is inside the ranges if it is so in voxels (`docs/resunet.md`). No phantom
has the seed or the settings of one that a test or a benchmark scores.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import fiji_poreseg as fp
from fiji_poreseg.figures import learning_curve
from fiji_poreseg.model import Card
from fiji_poreseg.phantoms import Phantom, make_phantom
from fiji_poreseg.resunet import FILTERS, ResUNetModel, checkpoint, fitting
from fiji_poreseg.resunet.context import Context, with_reach
from fiji_poreseg.resunet.devices import accelerated
from fiji_poreseg.resunet.fitting import Plan
from fiji_poreseg.resunet.loss import pixel_weights
from fiji_poreseg.resunet.network import build, to_arrays
from fiji_poreseg.resunet.sampling import Patches, Views
from fiji_poreseg.resunet.training import BATCH, LEARNING_RATE, PATCH
from fiji_poreseg.slices import SliceReader

SEED = 20_000_000
CLASSES = ("pore", "solid")
SLICES, SIDE, PIXEL_NM = 48, 160, 10.0
TRAINED_ON, VALIDATED_ON = range(2, SLICES, 6), (8, 40)
PHANTOMS, VALIDATION_PHANTOMS = 400, 20
STEPS, STEPS_PER_CHECK = 7000, 200
# What is drawn evenly, and what is drawn evenly by its logarithm.
EVEN = {
    "porosity": (0.6, 0.88),
    "feature_growth": (0.8, 1.4),
    "porosity_trend": (-0.3, 0.3),
    "mouth_nm": (20.0, 90.0),
    "edge_brightening": (0.1, 1.1),
    "curtaining": (0.0, 0.1),
    "brightness_drift": (0.0, 0.25),
    "blur_nm": (3.0, 13.0),
}
BY_LOGARITHM = {
    "feature_size_nm": (150.0, 550.0),
    "attenuation_nm": (130.0, 900.0),
    "noise": (0.03, 0.18),
}
SLICE_DISTANCE_NM = (5.0, 30.0)
# Share of the phantoms whose voxels are cubes, as most people mill them.
CUBES = 0.5


@dataclass(frozen=True)
class Recipe:
    """What a pretraining is made of, by the names in the model's `training`."""

    phantoms: int
    steps: int

    def settings(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            "seed": SEED,
            "phantoms": self.phantoms,
            "phantom_shape": [SLICES, SIDE, SIDE],
            "slices": list(TRAINED_ON),
            "steps": self.steps,
            "batch": BATCH,
            "patch": PATCH,
            "pixel_nm": PIXEL_NM,
            "slice_distance_nm": list(SLICE_DISTANCE_NM),
            "even": {name: list(ends) for name, ends in EVEN.items()},
            "by_logarithm": {name: list(ends) for name, ends in BY_LOGARITHM.items()},
        }


def drawn(number: int) -> dict[str, Any]:
    """The parameters of one phantom, from its number alone."""
    rng = np.random.default_rng([SEED, number])
    distance = PIXEL_NM if rng.random() < CUBES else by_logarithm(rng, SLICE_DISTANCE_NM)
    varied = {name: float(rng.uniform(*ends)) for name, ends in EVEN.items()}
    varied |= {name: by_logarithm(rng, ends) for name, ends in BY_LOGARITHM.items()}
    return {"seed": SEED + number, "spacing_nm": (distance, PIXEL_NM, PIXEL_NM), **varied}


def by_logarithm(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    """A number between two, its logarithm drawn evenly."""
    return math.exp(rng.uniform(*np.log(ends)))


def phantoms(numbers: Sequence[int], folder: Path) -> Iterator[Phantom]:
    """Phantoms by number: made, or read where an earlier run made them."""
    for number in numbers:
        files = [folder / f"{number:04d}-{name}.tif" for name in ("stack", "truth")]
        if not all(file.exists() for file in files):
            made = make_phantom(SLICES, SIDE, **drawn(number))
            for file, image in zip(files, (made.stack, made.truth), strict=True):
                fp.write(file, image)
        yield Phantom(*map(fp.read, files))


def views(phantom: Phantom, indices: Sequence[int]) -> Views:
    """What the network sees of some slices of a phantom; neighbours are counted in slices."""
    context = Context.for_spacing(phantom.stack.attrs["spacing_nm"][0])
    reader = SliceReader(phantom.stack, remember=len(context.offsets_nm))
    return Views(reader, phantom.truth, indices, context, "forward")


def validation(folder: Path) -> fitting.Validation:
    """Whole slices of phantoms that are not trained on."""
    inputs, truths = [], []
    for phantom in phantoms(range(10_000, 10_000 + VALIDATION_PHANTOMS), folder):
        seen = views(phantom, VALIDATED_ON)
        for index in VALIDATED_ON:
            view, truth = seen.view(index)
            planes = np.moveaxis(view, 2, 0)
            inputs.append(with_reach(planes, seen.exists(index), seen.context.offsets_nm))
            truths.append(truth.astype(np.int32))
    return np.stack(inputs), np.stack(truths)


def pretrain(folder: Path, recipe: Recipe) -> ResUNetModel:
    """Train, or go on training, and write `pretrained.poreseg`."""
    begun = time.monotonic()
    stacks = folder / "phantoms"
    stacks.mkdir(parents=True, exist_ok=True)
    sources = [
        (views(each, TRAINED_ON), TRAINED_ON) for each in phantoms(range(recipe.phantoms), stacks)
    ]
    held_out = validation(stacks)
    log(f"{recipe.phantoms} phantoms after {time.monotonic() - begun:.0f} s")

    context = Context.for_spacing(PIXEL_NM)
    plan = Plan(recipe.steps, LEARNING_RATE, STEPS_PER_CHECK, patience=recipe.steps)
    file, settings = folder / "pretrained.poreseg", recipe.settings()
    fitting.make_reproducible(SEED)
    with accelerated():
        network = build(context.channel_count(1), len(CLASSES), FILTERS["base"])
        weights = pixel_weights(np.ones(len(CLASSES), np.int64), "none", 1)
        fitting.compile_for_training(network, plan, weights)

    def checked(rows: Sequence[checkpoint.Row]) -> None:
        shown = ", ".join(
            f"{name} {value:.4f}" for name, value in rows[-1].items() if name != "step"
        )
        log(f"step {rows[-1]['step']}: {shown}; {time.monotonic() - begun:.0f} s")
        learning_curve(folder / "curve.png", rows)

    place = checkpoint.place(file)
    fitted = fitting.fit(
        network,
        Patches(sources, PATCH, BATCH, STEPS_PER_CHECK, SEED),
        held_out,
        plan,
        file=file,
        settings=settings,
        state=checkpoint.read(place, settings) if place.exists() else None,
        checked=checked,
    )
    card = Card(
        classes=CLASSES,
        spacing_nm=(PIXEL_NM,) * 3,
        detectors=1,
        milling="forward",
        training_indices=(),
        seed=SEED,
        scores={
            "steps": fitted.steps,
            "validation_loss": fitted.best["val_loss"],
            "validation_accuracy": fitted.best["val_accuracy"],
        },
        versions={name: version(name) for name in ("fiji-poreseg", "numpy", "keras", "tensorflow")},
    )
    trained = ResUNetModel(
        card,
        context,
        FILTERS["base"],
        to_arrays(network),
        fitted.rows,
        settings,
        in_slices=True,
    )
    trained.save(file)
    return trained


def log(text: str) -> None:
    """Tell what is being done."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Train what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--phantoms", type=int, default=PHANTOMS)
    parser.add_argument("--steps", type=int, default=STEPS)
    asked = parser.parse_args()
    made = pretrain(asked.folder, Recipe(asked.phantoms, asked.steps))
    log(f"validation accuracy {made.card.scores['validation_accuracy']:.4f}")


if __name__ == "__main__":
    main()
