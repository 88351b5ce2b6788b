"""Which slices to label: the strategies that the paper compares, and one that looks at greys."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.ndimage import gaussian_filter1d, median_filter
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from fiji_poreseg.appearance import grains, middle
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.progress import track
from fiji_poreseg.slices import SliceReader, evenly
from fiji_poreseg.stack import check_indices

STRATEGIES = ("initial", "distributed", "diverse")
# Of a stack of more slices, as many are looked at.
_LOOKED_AT = 200
_PERCENTILES = (10, 25, 50, 75, 90)
# How much of the way from one slice to the next is their distance; the rest is how they differ.
_DEPTH_SHARE = 0.5


def select(
    stack: xr.DataArray, strategy: str, count: int, among: Sequence[int] | None = None
) -> tuple[int, ...]:
    """Choose slices of a stack.

    Parameters
    ----------
    stack
        Dims ``("z", "y", "x")`` or ``("c", "z", "y", "x")``. Only ``"diverse"`` looks at its grey
        values, one slice at a time.
    strategy
        ``"initial"`` takes the first ones, 0 to count - 1; ``"distributed"`` takes evenly
        spaced ones, ``i * slices // count``; ``"diverse"`` those that all slices of the stack
        are nearest to, in the mean square of the distance along `unrolled` (k-means; Lloyd, 1982,
        doi 10.1109/TIT.1982.1056489).
    count
        How many.
    among
        The slices to choose from, ascending; all by default.

    Returns
    -------
    tuple of int
        0-based indices, ascending.

    Raises
    ------
    ParameterError
        If there are fewer slices than that.
    """
    candidates = list(range(stack.sizes["z"])) if among is None else list(among)
    slices = len(candidates)
    if not 1 <= count <= slices:
        has = f"the stack has {slices}" if among is None else f"there are {slices} labelled"
        raise ParameterError(
            "count",
            f"must be from 1 to {slices}, since {has} slices",
            count,
            "Choose fewer slices.",
        )
    if strategy == "initial":
        return tuple(candidates[:count])
    if strategy == "distributed":
        return tuple(evenly(candidates, count))
    places = unrolled(stack)
    begin = np.linspace(0, 1, 2 * count + 1)[1::2]
    groups = KMeans(count, init=begin[:, np.newaxis], n_init=1, tol=0).fit(places[:, np.newaxis])
    # A slice for each group, near its middle, and no two the same.
    distances = cdist(groups.cluster_centers_, places[candidates, np.newaxis], "sqeuclidean")
    return tuple(sorted(candidates[i] for i in linear_sum_assignment(distances)[1]))


def unrolled(stack: xr.DataArray) -> npt.NDArray[np.float64]:
    """How far each slice lies along the stack, where both depth and change count as distance.

    Each slice is described, without any label, by numbers that follow its morphology and not its
    brightness: percentiles of its normalised greys, the mean steepness, and how much structure
    there is at each of several sizes. Half of the whole way is the depth, the other half the
    length of the path that these numbers take, smoothed along z and each in units of its own
    noise.

    Parameters
    ----------
    stack
        Dims ``("z", "y", "x")`` or ``("c", "z", "y", "x")``; of several detectors the first is
        looked at.

    Returns
    -------
    numpy.ndarray
        float64, shape (z,), rising strictly from 0 to 1.
    """
    slices = stack.sizes["z"]
    depth = np.linspace(0, 1, slices)
    spread = np.unique(np.linspace(0, slices - 1, min(slices, _LOOKED_AT)).astype(int))
    reader = SliceReader(stack.isel(middle(stack)), remember=2)
    found = {z: _described(reader, z) for z in track(spread, "Looking at slices")}
    looked_at = [z for z, numbers in found.items() if numbers is not None]
    if len(looked_at) < 4:
        return depth
    described = np.array([found[z] for z in looked_at])
    calm = median_filter(described, (5, 1), mode="nearest")
    smooth = gaussian_filter1d(calm, max(1.0, len(looked_at) / 40), axis=0, mode="nearest")
    noise = np.median(np.abs(described - smooth), axis=0)
    steps = np.diff(smooth, axis=0)[:, noise > 0] / noise[noise > 0]
    way = np.concatenate([[0], np.cumsum(np.linalg.norm(steps, axis=1))])
    if way[-1] == 0:
        return depth
    change = np.interp(np.arange(slices), looked_at, way / way[-1])
    return np.asarray(_DEPTH_SHARE * depth + (1 - _DEPTH_SHARE) * change)


def _described(reader: SliceReader, index: int) -> npt.NDArray[np.float64] | None:
    """A slice in a few numbers; None where it holds no data."""
    values, valid = reader[index]
    plane = values[0]
    if not valid.any():
        return None
    blurred = grains(plane)
    steepness = np.hypot(*np.gradient(blurred[0])) if min(plane.shape) > 1 else np.zeros((1, 1))
    sizes = [np.std((fine - coarse)[valid]) for fine, coarse in pairwise(blurred)]
    return np.array([*np.percentile(plane[valid], _PERCENTILES), np.mean(steepness), *sizes])


def chosen(
    stack: xr.DataArray, indices: tuple[int, ...] | None, strategy: str | None, count: int | None
) -> tuple[int, ...] | None:
    """Slices that are named, or that a strategy chooses; None where neither is given.

    Raises
    ------
    ParameterError
        If both are given, or only half of the second.
    """
    if strategy is None and count is None:
        return indices
    if indices is not None:
        raise ParameterError(
            "indices",
            "cannot be given together with strategy and count",
            ",".join(map(str, indices)),
            "Give either the slices or how to choose them.",
        )
    if strategy is None or count is None:
        raise ParameterError(
            "strategy" if strategy is None else "count",
            "is needed where the slices are to be chosen",
            "left out",
            "Give both, for example strategy=distributed count=20.",
        )
    return select(stack, strategy, count)


def with_corrections(
    labels: xr.DataArray, indices: Sequence[int], corrections: xr.DataArray
) -> tuple[xr.DataArray, tuple[int, ...]]:
    """Labels to train on and hand corrections in one, and the slices that hold some.

    Parameters
    ----------
    labels
        uint8, dims ``("z", "y", "x")``.
    indices
        0-based slices whose labels are to be trained on.
    corrections
        uint8, its shape, 0 where there is none. They win over the labels; those of other slices
        are trained on, too.
    """
    values = np.zeros(labels.shape, np.uint8)
    values[list(indices)] = labels.to_numpy()[list(indices)]
    by_hand = corrections.to_numpy()
    merged = labels.copy(data=np.where(by_hand > 0, by_hand, values))
    return merged, tuple(sorted({*indices, *holding(corrections)}))


def holding(labels: xr.DataArray) -> list[int]:
    """The slices that hold labels."""
    found: list[int] = np.flatnonzero(labels.any(dim=("y", "x")).to_numpy()).tolist()
    return found


def labelled(labels: xr.DataArray, indices: tuple[int, ...] | None) -> tuple[int, ...]:
    """Slices to train on: those named, each of which must hold labels, or all that do.

    Parameters
    ----------
    labels
        uint8, dims ``("z", "y", "x")``; ``attrs["dense"]`` where they were a mask.
    indices
        0-based slices, or None.

    Raises
    ------
    ParameterError
        If a named slice holds no label, or none is named although the labels are a mask.
    """
    labelled_ones = holding(labels)
    if indices is None:
        if labels.attrs["dense"]:
            raise ParameterError(
                "indices",
                "is needed where the labels are a mask",
                "left out",
                "A mask labels every pixel: name the slices where that is meant, as indices=0,30.",
            )
        return tuple(labelled_ones)
    named = check_indices(indices, labels)
    empty = sorted(set(named) - set(labelled_ones))
    if empty:
        raise ParameterError(
            "indices",
            "must name slices that hold labels",
            ",".join(map(str, empty)),
            f"Labels are in slices {','.join(map(str, labelled_ones[:20]))}.",
        )
    return named
