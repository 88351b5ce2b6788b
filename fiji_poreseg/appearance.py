"""What slices look like, in a few numbers, and where that lies outside what a model has seen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.ndimage import gaussian_filter

from fiji_poreseg.slices import PERCENTILES, SliceReader
from fiji_poreseg.stack import spacing_nm

GRAINS_VOX = (1.0, 2.0, 4.0, 8.0, 16.0)
# Of each slice at most such a square in its middle is looked at, in voxels.
LARGEST_SIDE = 512
# How far beyond what was trained on one number alone may lie: brightness in units of the contrast,
# the others as a factor. It is about as far as slices of one stack lie apart.
_MARGINS: Mapping[str, float] = {
    "brightness": 0.15,
    "contrast": 1.1,
    "noise": 1.1,
    "sharpness": 1.08,
    "bright share": 1.2,
    "feature size": 1.15,
}
MEASURED = tuple(_MARGINS)
"""What is measured of a slice, by name."""
# Of what lies beyond, that is named which lies at least as far, as a share of the farthest.
_WORTH_NAMING = 0.5
_LOWER = {"brightness": "darker", "contrast": "flatter", "noise": "smoother"}
_LOWER |= {"sharpness": "blurrier", "bright share": "emptier", "feature size": "finer"}
_HIGHER = {"brightness": "brighter", "contrast": "of more contrast", "noise": "noisier"}
_HIGHER |= {"sharpness": "sharper", "bright share": "fuller", "feature size": "coarser"}

Ranges: TypeAlias = Mapping[str, tuple[float, float]]
"""The lowest and the highest of each number in the slices that a model was trained on."""


class Outside(NamedTuple):
    """Something about a slice that lies outside of what a model was trained on.

    Parameters
    ----------
    what
        One of the numbers of `appearance`.
    value
        Of the slice.
    lowest, highest
        Of the slices that were trained on.
    """

    what: str
    value: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        words = _LOWER if self.value < self.lowest else _HIGHER
        return f"{words[self.what]} than what was trained on"


def middle(stack: xr.DataArray) -> dict[str, slice]:
    """The middle of large slices: enough to tell how one differs from the next."""
    return {
        axis: slice(
            (stack.sizes[axis] - LARGEST_SIDE) // 2, (stack.sizes[axis] + LARGEST_SIDE) // 2
        )
        for axis in ("y", "x")
        if stack.sizes[axis] > LARGEST_SIDE
    }


def grains(plane: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float32]]:
    """A plane blurred by each of `GRAINS_VOX`: from one to the next, that size is lost."""
    return [gaussian_filter(plane, sigma) for sigma in GRAINS_VOX]


def appearance(stack: xr.DataArray, indices: Iterable[int]) -> dict[int, dict[str, float]]:
    """Describe slices of a stack, without any label.

    Parameters
    ----------
    stack
        Dims ``("z", "y", "x")`` or ``("c", "z", "y", "x")``; of several detectors the first is
        looked at, and of each slice the middle 512 x 512 pixels.
    indices
        0-based slices.

    Returns
    -------
    dict
        For each slice that holds data: ``brightness`` (median grey value), ``contrast`` (from the
        2nd to the 98th percentile, in grey values), ``noise`` (standard deviation of what a
        Gaussian of 1 voxel removes) and ``sharpness`` (98th percentile of the gradient, after
        it), both per voxel and relative to the contrast, ``bright share`` (of the pixels, above
        the middle of the contrast) and ``feature size`` (mean size of structure, in nm).
    """
    reader = SliceReader(stack.isel(middle(stack)), PERCENTILES, remember=2)
    step = float(np.mean(spacing_nm(stack)[1:]))
    found = {}
    for index in indices:
        values, valid = reader[index]
        if not valid.any():
            continue
        raw = np.asarray(reader.stack.isel(z=index, c=0))[valid]
        low, mid, high = np.percentile(raw, (PERCENTILES[0], 50, PERCENTILES[1]))
        plane = values[0]
        blurred = grains(plane)
        lost = [float(np.var((fine - coarse)[valid])) for fine, coarse in pairwise(blurred)]
        slope = np.hypot(*np.gradient(blurred[0])) if min(plane.shape) > 1 else np.zeros_like(plane)
        sizes = np.log(GRAINS_VOX[1:])
        found[index] = {
            "brightness": float(mid),
            "contrast": float(high - low),
            "noise": float(np.std((plane - blurred[0])[valid])),
            "sharpness": float(np.percentile(slope[valid], 98)),
            "bright share": float(np.mean(plane[valid] > 0.5)),
            "feature size": step * float(np.exp(np.average(sizes, weights=lost)))
            if sum(lost) > 0
            else step,
        }
    return found


def ranges(described: Iterable[Mapping[str, float]]) -> dict[str, tuple[float, float]]:
    """The lowest and the highest of each number; what a model keeps of its training slices."""
    rows = list(described)
    return {
        what: (min(row[what] for row in rows), max(row[what] for row in rows))
        for what in (rows[0] if rows else ())
    }


def outside(described: Mapping[str, float], trained_on: Ranges) -> tuple[Outside, ...]:
    """What about a slice lies outside of a model's training.

    Parameters
    ----------
    described
        The slice, as `appearance` describes it.
    trained_on
        As the model's card keeps it; what it does not hold is not compared.

    Returns
    -------
    tuple of Outside
        The farthest first. Each number is taken in units of how far it alone may lie beyond; they
        are outside where the square root of the sum of their squares is more than 1.
    """
    beyond = {}
    for what, (lowest, highest) in trained_on.items():
        value, margin = described[what], _MARGINS[what]
        if lowest <= value <= highest:  # also where it is 0, of which there is no ratio
            beyond[what] = 0.0
        elif what == "brightness":
            contrast = trained_on["contrast"][1] or 1.0
            beyond[what] = max(lowest - value, value - highest, 0.0) / contrast / margin
        else:
            ratio = max(lowest / value, value / highest, 1.0) if min(value, highest) > 0 else 1e9
            beyond[what] = float(np.log(ratio) / np.log(margin))
    if np.linalg.norm(list(beyond.values())) <= 1:
        return ()
    most = max(beyond.values())
    return tuple(
        Outside(what, described[what], *trained_on[what])
        for what in sorted(beyond, key=lambda what: -beyond[what])
        if beyond[what] >= _WORTH_NAMING * most
    )
