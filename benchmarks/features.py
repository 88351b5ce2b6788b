"""How fast the filters of the forest's features are, beside OpenCV and scipy.ndimage.

    python -m pip install -e ".[bench]"
    python benchmarks/features.py --sizes 512,1024

One bank for all: Gaussian, gradient magnitude, Laplacian, both eigenvalues of the Hessian matrix
and of the structure tensor at sigmas of 1, 2, 4, 8 and 16 voxels, 35 channels of float32. Two
planes at a time, each in a thread; ms per plane, the best of some runs. Differences from scipy
are shares of the plane's grey range. Then the forest's own default bank, context included.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

import fiji_poreseg as fp
from fiji_poreseg import compiled, filters
from fiji_poreseg.features import FeatureBank, FeatureReader

SIGMAS = (1, 2, 4, 8, 16)
NAMES = [name for name in filters.QUANTITIES if name != "deviation"]
THREADS = 2


def ours(plane: np.ndarray) -> np.ndarray:
    """The bank by our filters."""
    out = np.empty((len(SIGMAS) * len(NAMES), *plane.shape), np.float32)
    for scale, sigma in enumerate(SIGMAS):
        wanted = {name: scale * len(NAMES) + place for place, name in enumerate(NAMES)}
        filters.measure(plane, (sigma, sigma), wanted, slice(0, len(plane)), out)
    return out


def by_opencv(plane: np.ndarray) -> np.ndarray:
    """The bank by OpenCV's separable filters and its arithmetic, with the same kernels."""
    found = []
    for sigma in SIGMAS:
        distance = np.arange(-4 * sigma, 4 * sigma + 1) / sigma
        smooth = np.exp(-0.5 * distance**2)
        smooth /= smooth.sum()
        kernels = [smooth, smooth * distance, smooth * (distance**2 - 1)]

        def convolved(plane, order_y=0, order_x=0, kernels=kernels):
            along, across = kernels[order_x], kernels[order_y]
            return cv2.sepFilter2D(plane, cv2.CV_32F, along, across, borderType=cv2.BORDER_REFLECT)

        y, x = convolved(plane, 1, 0), convolved(plane, 0, 1)
        yy, yx, xx = (convolved(plane, *order) for order in ((2, 0), (1, 1), (0, 2)))
        tensor = [convolved(cv2.multiply(a, b)) for a, b in ((y, y), (y, x), (x, x))]
        found += [convolved(plane), cv2.magnitude(y, x), cv2.add(yy, xx)]
        found += [*_eigenvalues(yy, yx, xx), *_eigenvalues(*tensor)]
    return np.stack(found)


def _eigenvalues(yy: np.ndarray, yx: np.ndarray, xx: np.ndarray) -> tuple[np.ndarray, ...]:
    middle = cv2.addWeighted(yy, 0.5, xx, 0.5, 0)
    away = cv2.magnitude(cv2.addWeighted(yy, 0.5, xx, -0.5, 0), yx)
    return cv2.add(middle, away), cv2.subtract(middle, away)


def by_scipy(plane: np.ndarray) -> np.ndarray:
    """The bank by scipy.ndimage, each derivative once."""
    found = []
    for sigma in SIGMAS:
        convolved = filters._filtered
        both = (sigma, sigma)
        y, x = filters._gradient(plane, both)
        yy, yx, xx = filters._hessian(plane, both)
        tensor = [convolved(product, both, (0, 0)) for product in (y * y, y * x, x * x)]
        found += [convolved(plane, both, (0, 0)), np.hypot(y, x), yy + xx]
        found += [*_eigenvalues(yy, yx, xx), *_eigenvalues(*tensor)]
    return np.stack(found)


def milliseconds(bank: Callable[[np.ndarray], np.ndarray], plane: np.ndarray, runs: int) -> float:
    """Time per plane, two at a time."""
    best = np.inf
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(runs):
            started = time.perf_counter()
            list(pool.map(bank, [plane] * (2 * THREADS)))
            best = min(best, (time.perf_counter() - started) / (2 * THREADS))
    return best * 1000


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="512,1024")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    write = sys.stdout.write
    started = time.perf_counter()
    if not compiled.is_on():
        sys.exit("numba is missing, or FIJI_PORESEG_COMPILED is 0")
    write(f"Compiling the filters, or loading them: {time.perf_counter() - started:.1f} s\n\n")
    cv2.setNumThreads(1)
    write("| plane | filters | ms | ratio | largest difference inside | at the border |\n")
    write("|---|---|---|---|---|---|\n")
    for size in map(int, options.sizes.split(",")):
        stack = fp.phantom(slices=20, size=size, seed=0).stack
        plane = FeatureReader(stack, FeatureBank.for_spacing((10, 10, 10)), "forward").slices[9]
        grey = np.ascontiguousarray(plane.values[0])
        expected = by_scipy(grey)
        first = None
        for name, bank in (("ours", ours), ("OpenCV", by_opencv), ("scipy.ndimage", by_scipy)):
            taken = milliseconds(bank, grey, options.runs)
            first = first or taken
            off = np.abs(bank(grey) - expected).max(axis=0) / np.ptp(grey)
            edge = 4 * max(SIGMAS)
            inside = off[edge:-edge, edge:-edge].max()
            off[edge:-edge, edge:-edge] = 0
            write(
                f"| {size} x {size} | {name} | {taken:.1f} | {taken / first:.2f} "
                f"| {inside:.1e} | {off.max():.1e} |\n"
            )
            sys.stdout.flush()
        bank = FeatureBank.for_spacing((10, 10, 10))
        reader = FeatureReader(stack, bank, "forward")
        best = np.inf
        for _ in range(options.runs):
            started = time.perf_counter()
            with ThreadPoolExecutor(THREADS) as pool:
                list(pool.map(reader.plane, (8, 9, 10, 11)))
            best = min(best, (time.perf_counter() - started) / 4)
        speed = size**2 / best / 1e6
        write(
            f"| {size} x {size} | default bank, {len(bank.names())} features with context "
            f"| {best * 1000:.1f} | {speed:.1f} Mpx/s | | |\n"
        )


if __name__ == "__main__":
    main()
