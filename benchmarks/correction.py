"""How many pixels somebody corrects until a stack is right: where `suggest` points, or slices.

    python benchmarks/correction.py        4 minutes on 2 cores

A forest learns from scribbles on 5 slices and segments the stack. Then, round after round, a
simulated person who knows the truth corrects at most so many regions where `suggest` points, or
the next of evenly spaced whole slices; the corrections are merged by `correct`, and the forest is
trained again with them. Counted are the pixels that the person changed, until the corrected
segmentation reaches the accuracy that is asked for in the mean of all slices.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

import numpy as np
import xarray as xr
from scribbles import scribbles

import fiji_poreseg as fp
from fiji_poreseg.forest import ForestModel
from fiji_poreseg.phantoms import Phantom, make_phantom

Where = dict[int, np.ndarray]


def pointed_at(
    made: Phantom, model: ForestModel, hand: xr.DataArray, slices: int, regions: int, side: int
) -> Where:
    """The regions that `suggest` names: by the slice, which pixels to look at."""
    labels = hand if hand.any() else None
    asked = fp.suggest(
        made.stack, model=model, labels=labels, count=slices, regions=regions, side=side
    )
    found: Where = {}
    for advice in asked.slices:
        mask = np.zeros(made.truth.shape[1:], bool)
        for box in advice.regions:
            mask[box.y : box.y + box.height, box.x : box.x + box.width] = True
        found[advice.index] = mask
    return found


def evenly(slices: int) -> Iterator[int]:
    """Slices from one end to the other, so that those so far are always spread."""
    seen = set()
    for halvings in range(1, 20):
        for i in range(2**halvings):
            index = i * slices // 2**halvings
            if index not in seen:
                seen.add(index)
                yield index


def correct_until(
    made: Phantom, target: float, rounds: int, way: str, slices: int, regions: int, side: int
) -> list[tuple[int, float]]:
    """Changed pixels and the accuracy of the corrected segmentation, after each round."""
    labels, truth = scribbles(made), made.truth.to_numpy()
    hand = fp.make_labels(np.zeros(truth.shape, np.uint8), made.stack)
    model = fp.train_forest(made.stack, labels, folds=3)
    segmentation = fp.segment(made.stack, model=model).segmentation
    done = [(0, float((segmentation == made.truth).mean()))]
    order = evenly(len(truth))
    while done[-1][1] < target and len(done) <= rounds:
        if way == "suggest":
            where = pointed_at(made, model, hand, slices, regions, side)
        else:
            where = {next(order): np.ones(truth.shape[1:], bool)}
        painted = np.zeros(truth.shape, np.uint8)
        for index, mask in where.items():
            painted[index] = np.where(mask, truth[index], 0)
        merged = fp.correct(segmentation, fp.make_labels(painted, made.stack))
        counted = merged.total["pore_to_solid"] + merged.total["solid_to_pore"]
        hand = hand.copy(data=np.where(painted > 0, painted, hand))
        model = fp.train_forest(made.stack, labels, corrections=hand, folds=3)
        found = fp.segment(made.stack, model=model).segmentation
        segmentation = fp.correct(found, hand).segmentation
        done.append((done[-1][0] + counted, float((segmentation == made.truth).mean())))
        sys.stderr.write(f"{way}: {done[-1][0]} pixels changed, accuracy {done[-1][1]:.4f}\n")
    return done


def main() -> None:
    """Print what both ways need."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--feature-size-nm", type=float, default=400)
    parser.add_argument("--target", type=float, default=0.97)
    parser.add_argument("--rounds", type=int, default=20, help="after which it is given up")
    parser.add_argument("--regions", type=int, default=48, help="regions a round; 3 of a slice")
    parser.add_argument("--side", type=int, default=16, help="their sides, in voxels")
    asked = parser.parse_args()
    made = make_phantom(
        asked.slices, asked.size, seed=asked.seed, feature_size_nm=asked.feature_size_nm
    )
    lines = [
        f"phantom of {asked.slices} x {asked.size} x {asked.size}, seed {asked.seed}, features of "
        f"{asked.feature_size_nm:g} nm; until an accuracy of {asked.target:g}, at most "
        f"{asked.rounds} rounds",
        "",
        "| corrected | rounds | pixels changed | accuracy before | after |",
        "|---|---|---|---|---|",
    ]
    needed = {}
    for way, name in (
        ("suggest", f"{asked.regions} regions a round, where `suggest` points"),
        ("slices", "evenly spaced slices, one a round"),
    ):
        done = correct_until(
            made, asked.target, asked.rounds, way, asked.regions // 3, 3, asked.side
        )
        needed[way], reached = done[-1]
        shown = f"{needed[way]}" if reached >= asked.target else f"more than {needed[way]}"
        lines.append(f"| {name} | {len(done) - 1} | {shown} | {done[0][1]:.4f} | {reached:.4f} |")
    lines += ["", f"share of the pixels: {needed['suggest'] / max(1, needed['slices']):.2f}"]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
