"""What `auto` makes of scribbles, how well it knows that, and where it stops.

    python benchmarks/automatic.py        half an hour on 2 cores

Scribbles on 5 slices of phantoms inside and outside of the range that the shipped weights were
trained on; beside it the ResUNet that is trained on 20 true slices, and the forest of the
scribbles alone. Accuracies are of all slices that hold no scribbles and were not trained on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scribbles import scribbles

import fiji_poreseg as fp
from fiji_poreseg.phantoms import Phantom, make_phantom

PHANTOMS: Mapping[str, Mapping[str, Any]] = {
    "the default phantom, inside": {},
    "noise 0.15, inside": {"noise": 0.15},
    "features of 100 nm, outside": {"feature_size_nm": 100},
    "attenuation 4000 nm, far outside": {"attenuation_nm": 4000},
}


def accuracy(segmentation: Any, made: Phantom, left_out: Sequence[int]) -> float:
    """Share of the pixels that is right, in slices that are not left out."""
    unseen = [index for index in range(len(made.stack)) if index not in left_out]
    scores = fp.evaluate(segmentation, made.truth, indices=unseen).slices
    return float(np.mean([row.accuracy for row in scores]))


def row(name: str, made: Phantom, folder: Path) -> str:
    """What became of one phantom."""
    labels = scribbles(made)
    labelled = fp.select_slices(made.stack, strategy="distributed", count=5)
    begun = time.perf_counter()
    # Where it stops, it is asked to go on: how good would it have been?
    outcome = fp.auto(made.stack, labels, output=folder, anyway=True)
    seconds = time.perf_counter() - begun
    found = accuracy(outcome.segmentation, made, labelled)
    forest = fp.segment(made.stack, model=folder / "forest.poreseg").segmentation
    slices = fp.select_slices(made.stack, strategy="distributed", count=20)
    trained = fp.train_resunet(made.stack, made.truth, indices=slices)
    with_truth = fp.segment(made.stack, model=trained).segmentation
    if outcome.accuracy is None or outcome.porosity is None:
        expected, porosity = "none: " + "; ".join(outcome.alarms), ""
    else:
        low, high = outcome.porosity[1:]
        expected = f"{outcome.accuracy:.4f}"
        porosity = f"{outcome.porosity.value:.4f} ({low:.4f} to {high:.4f})"
    return (
        f"| {name} | {accuracy(forest, made, labelled):.4f} | {found:.4f} ({outcome.model}) "
        f"| {expected} | {accuracy(with_truth, made, slices):.4f} | {porosity} "
        f"| {float((made.truth == 1).mean()):.4f} | {seconds:.0f} |"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=120)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--seed", type=int, default=5)
    asked = parser.parse_args()
    lines = [
        f"phantoms of {asked.slices} x {asked.size} x {asked.size}, seed {asked.seed}",
        "",
        "| phantom | forest, scribbles on 5 slices | `auto`, the same | accuracy that it expects "
        "| ResUNet, 20 true slices | porosity that `auto` gives, 95 % interval | true | s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, options in PHANTOMS.items():
        made = make_phantom(asked.slices, asked.size, seed=asked.seed, **options)
        with tempfile.TemporaryDirectory() as folder:
            lines.append(row(name, made, Path(folder)))
        sys.stderr.write(lines[-1] + "\n")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
