"""When the out-of-range alarm sounds, and what a model makes of such slices.

    python benchmarks/alarm.py        5 minutes on 2 cores

A forest is trained on 5 slices of the default phantom and applied to phantoms and images of other
looks. Beside its accuracy there stands that of a forest that was trained on those, and of the
pretrained ResUNet: what the change itself costs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter

import fiji_poreseg as fp
from fiji_poreseg.model import Model
from fiji_poreseg.phantoms import Phantom, make_phantom

SLICES, SIZE = 60, 160
PHANTOMS: Mapping[str, Mapping[str, Any]] = {
    "another one of the kind": {"seed": 1},
    "porosity 0.65": {"porosity": 0.65},
    "porosity 0.5": {"porosity": 0.5},
    "porosity 0.9": {"porosity": 0.9},
    "features of 200 nm": {"feature_size_nm": 200},
    "features of 500 nm": {"feature_size_nm": 500},
    "attenuation 150 nm": {"attenuation_nm": 150},
    "attenuation 800 nm": {"attenuation_nm": 800},
    "noise 0.15": {"noise": 0.15},
    "noise 0.25": {"noise": 0.25},
}


def looks(made: Phantom) -> dict[str, Phantom]:
    """The same phantom as other detectors would show it."""
    grey = made.stack.to_numpy().astype(np.float32)

    def shown(values: np.ndarray) -> Phantom:
        pixels = values.round().clip(0, 255).astype(np.uint8)
        return Phantom(made.stack.copy(data=pixels), made.truth)

    return {
        "half the contrast": shown(grey / 2),
        "brighter by 50": shown(grey + 50),
        "gamma 2": shown(255 * (grey / 255) ** 2),
        "blurred by 1 voxel": shown(gaussian_filter(grey, (0, 1, 1))),
        "blurred by 2 voxels": shown(gaussian_filter(grey, (0, 2, 2))),
    }


def accuracy(model: Model | str, made: Phantom, indices: list[int]) -> float:
    """Share of the pixels of some slices that a model has right."""
    found = fp.segment(made.stack, model=model, indices=indices).segmentation
    return float((found == made.truth).isel(z=indices).mean())


def alarm(model: Model, stack: xr.DataArray, indices: list[int]) -> str:
    """In what share of some slices the alarm sounds, and why in most of them."""
    found = fp.suggest(stack, model=model, indices=indices, count=1, regions=0).alarms
    reasons = [why[0].what for why in found.values()]
    most = max(set(reasons), key=reasons.count) if reasons else "none"
    return f"{len(found) / len(indices):.0%} | {most}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=11)
    seed = parser.parse_args().seed
    made = make_phantom(SLICES, SIZE, seed=seed)
    trained_on = fp.select_slices(made.stack, strategy="distributed", count=5)
    forest = fp.train_forest(made.stack, made.truth, indices=trained_on, folds=0)
    shown = {
        "trained on": made,
        **{
            name: make_phantom(SLICES, SIZE, **{"seed": seed, **options})
            for name, options in PHANTOMS.items()
        },
        **looks(made),
    }
    unseen = [index for index in range(6, 54, 4) if index not in trained_on]
    sys.stdout.write(
        f"phantoms of {SLICES} x {SIZE} x {SIZE}, seed {seed}; accuracy on {len(unseen)} slices\n\n"
        "| stack | forest | forest trained on it | pretrained | slices with an alarm | why |\n"
        "|---|---|---|---|---|---|\n"
    )
    for name, other in shown.items():
        own = fp.train_forest(other.stack, other.truth, indices=trained_on, folds=0)
        scores = (accuracy(model, other, unseen) for model in (forest, own, "pretrained"))
        cells = " | ".join(f"{score:.3f}" for score in scores)
        sys.stdout.write(f"| {name} | {cells} | {alarm(forest, other.stack, unseen)} |\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
