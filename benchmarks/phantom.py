"""How hard the default phantom is: the figures of docs/phantom.md.

    python benchmarks/phantom.py --seeds 0,1,2        600 x 256 x 256, about 2 minutes a seed

The best global threshold is one grey value for the whole stack, picked with the truth. The 2-D
forest is that of scikit-image's example of trainable segmentation, with default features.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import xarray as xr
from skimage.feature import multiscale_basic_features
from sklearn.ensemble import RandomForestClassifier

import fiji_poreseg as fp
from fiji_poreseg.evaluation import best_threshold

PAPERS_INDICES = (47, 434, 598)
OTHERS = (100, 200, 250, 345, 505, 575)


def threshold_accuracy(stack: xr.DataArray, truth: xr.DataArray) -> float:
    """Accuracy of the best global threshold over the whole stack."""
    found = best_threshold(stack, truth).apply(stack.to_numpy())
    return float((found == truth.to_numpy()).mean())


def forest_accuracies(
    stack: xr.DataArray, truth: xr.DataArray, indices: Sequence[int], count: int = 20
) -> list[float]:
    """Accuracy of scikit-image's 2-D forest on some slices, trained on distributed ones."""
    grey, labels = stack.to_numpy(), truth.to_numpy()
    trained_on = list(fp.select_slices(stack, strategy="distributed", count=count))
    forest = RandomForestClassifier(
        n_estimators=50, n_jobs=-1, max_depth=10, max_samples=0.05, random_state=0
    )
    features = np.concatenate([_pixels(grey[z]) for z in trained_on])
    forest.fit(features, labels[trained_on].ravel())
    return [float((forest.predict(_pixels(grey[z])) == labels[z].ravel()).mean()) for z in indices]


def _pixels(plane: np.ndarray) -> np.ndarray:
    """scikit-image's default features of a slice, shape (pixels, features)."""
    return multiscale_basic_features(plane).reshape(plane.size, -1)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2")
    sys.stdout.write(
        "| seed | best global threshold | 2-D forest, slices 47 / 434 / 598 | mean of 9 slices |\n"
        "|---|---|---|---|\n"
    )
    for seed in map(int, parser.parse_args().seeds.split(",")):
        made = fp.phantom(seed=seed)
        accuracies = forest_accuracies(made.stack, made.truth, PAPERS_INDICES + OTHERS)
        three = " / ".join(f"{accuracy:.3f}" for accuracy in accuracies[:3])
        sys.stdout.write(
            f"| {seed} | {threshold_accuracy(made.stack, made.truth):.3f} | {three} "
            f"| {np.mean(accuracies):.3f} |\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
