"""What is asked of the values of a stack: which are shown, and which are data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from skimage.measure import label
from skimage.segmentation import clear_border


def depth_blocks(stack: xr.DataArray) -> Iterator[slice]:
    """Cut z into single slices, or a lazy stack into its chunks, so that each is read once."""
    start = 0
    for depth in stack.chunksizes.get("z", (1,) * stack.sizes["z"]):
        yield slice(start, start + depth)
        start += depth


def shown_range(stack: xr.DataArray, *, look: bool = True) -> tuple[float, float] | None:
    """Which grey values ImageJ is to show as black and as white.

    Parameters
    ----------
    stack
        A stack, labels or a probability.
    look
        Whether its values may be read to find out.

    Returns
    -------
    tuple of float or None
        ``attrs["display_range"]`` if it has one; 0 to 255 for labels, whose colours another
        range would stretch, and for other 8-bit images; 0 to 1 for floating point within it;
        else the lowest and the highest finite value. None where that would take a look.
    """
    is_labels = stack.dtype == np.uint8 and "classes" in stack.attrs
    given = None if is_labels else stack.attrs.get("display_range")
    if given is not None:
        return float(given[0]), float(given[1])
    if stack.dtype == np.uint8:
        return 0.0, 255.0
    limits = [
        (float(finite.min()), float(finite.max()))
        for block in (depth_blocks(stack) if look else ())
        for values in [stack.isel(z=block).to_numpy()]
        if (finite := values[np.isfinite(values)]).size
    ]
    if not limits:
        return None
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    return (0.0, 1.0) if stack.dtype.kind == "f" and low >= 0 and high <= 1 else (low, high)


def holds_data(stack: xr.DataArray, index: int) -> npt.NDArray[np.bool_]:
    """Where a slice holds data in all detectors: bool, shape (y, x); see `valid_pixels`."""
    nodata = stack.attrs.get("nodata")
    planes = stack.isel(z=index).to_numpy()
    planes = planes.reshape(-1, *planes.shape[-2:])
    valid: npt.NDArray[np.bool_] = np.logical_and.reduce(
        [valid_pixels(plane, nodata) for plane in planes]
    )
    return valid


def valid_pixels(plane: npt.NDArray[Any], nodata: float | None) -> npt.NDArray[np.bool_]:
    """Where a slice holds data.

    Parameters
    ----------
    plane
        One slice, shape (y, x).
    nodata
        The grey value that stands for no data, or None. Only areas of it that touch the edge
        of the slice count: inside, a pore may be as dark.

    Returns
    -------
    numpy.ndarray
        bool, shape (y, x).
    """
    if nodata is None:
        return np.ones(plane.shape, bool)
    empty: npt.NDArray[np.bool_] = plane == nodata
    if not empty.any():
        return ~empty
    inner: npt.NDArray[np.bool_] = clear_border(label(empty, connectivity=1)) > 0
    return ~empty | inner
