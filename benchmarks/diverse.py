"""Whether looking at the stack helps to choose which slices to label.

    python benchmarks/diverse.py        three phantoms, three seeds each, 10 minutes on 2 cores

Each phantom changes along z in one part of it only. A forest is trained on 5 slices chosen by each
strategy; scores are of the slices that none of them was trained on.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import fiji_poreseg as fp
from fiji_poreseg.phantoms import Phantom, make_phantom

# Pieces of a stack, one below the other: their share of the slices, and how they are made.
KINDS: Mapping[str, Sequence[tuple[float, Mapping[str, Any]]]] = {
    "coarse, then ever finer in the last quarter": (
        (0.75, {"feature_size_nm": 400, "feature_growth": 1}),
        (0.25, {"feature_size_nm": 400, "feature_growth": 0.3}),
    ),
    "ever denser in the first quarter, then even": (
        (0.25, {"feature_size_nm": 250, "porosity": 0.8, "porosity_trend": -2}),
        (0.75, {"feature_size_nm": 250, "porosity": 0.65, "feature_growth": 1}),
    ),
    "a fine layer in the middle": (
        (0.4, {"feature_size_nm": 400, "feature_growth": 1}),
        (0.1, {"feature_size_nm": 400, "feature_growth": 0.3}),
        (0.1, {"feature_size_nm": 120, "feature_growth": 3.3}),
        (0.4, {"feature_size_nm": 400, "feature_growth": 1}),
    ),
}
STRATEGIES = ("initial", "distributed", "diverse")


def layered(
    pieces: Sequence[tuple[float, Mapping[str, Any]]], slices: int, size: int, seed: int
) -> Phantom:
    """A phantom of several pieces, one below the other."""
    made = [
        make_phantom(round(share * slices), size, seed=100 * seed + number, **options)
        for number, (share, options) in enumerate(pieces)
    ]
    stack = np.concatenate([piece.stack.to_numpy() for piece in made])
    truth = np.concatenate([piece.truth.to_numpy() for piece in made])
    image = fp.make_stack(stack, (10, 10, 10), name="phantom")
    return Phantom(image, fp.make_labels(truth, image, name="truth"))


def accuracies(made: Phantom, count: int) -> dict[str, float]:
    """Mean accuracy over the slices that no forest was trained on, by strategy."""
    with tempfile.TemporaryDirectory() as folder:
        study = fp.study(
            made.stack,
            made.truth,
            output=folder,
            strategies=STRATEGIES,
            counts=[count],
            repeats=1,
            models=["forest"],
        )
    (mean,) = (row for row in study.table if (row["index"], row["score"]) == ("mean", "accuracy"))
    return {strategy: mean[f"{count} {strategy}"] for strategy in STRATEGIES}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=120)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--seeds", default="0,1,2")
    asked = parser.parse_args()
    lines = [f"| phantom | seed | {' | '.join(STRATEGIES)} |", "|---|---|---|---|---|"]
    found = []
    for name, pieces in KINDS.items():
        for seed in map(int, asked.seeds.split(",")):
            made = layered(pieces, asked.slices, asked.size, seed)
            scores = accuracies(made, asked.count)
            found.append(scores)
            cells = " | ".join(f"{score:.4f}" for score in scores.values())
            lines.append(f"| {name} | {seed} | {cells} |")
            sys.stderr.write(lines[-1] + "\n")
    means = " | ".join(f"{np.mean([one[name] for one in found]):.4f}" for name in STRATEGIES)
    sys.stdout.write("\n".join([*lines, f"| mean | | {means} |"]) + "\n")


if __name__ == "__main__":
    main()
