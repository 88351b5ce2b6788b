"""Which axes of a file are channels, slices, rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiji_poreseg.errors import ParameterError

# ImageJ shows at most so many channels as colours; more are slices that nobody named so.
_MOST_CHANNELS = 7


def axis_order(
    axes: str, shape: Sequence[int], file: Path, parameter: str
) -> tuple[list[int], bool]:
    """Find out where c (if any), z (if any), y and x are, and whether there is c.

    Parameters
    ----------
    axes
        A letter for each axis.
    shape
        Their lengths. Axes of one voxel are passed over where they are neither y nor x.
    file
        Where the image is from, for an error.
    parameter
        Name to use in an error.

    Raises
    ------
    ParameterError
        If there are colours, or more than one axis of slices.
    """
    if "S" in axes:
        raise ParameterError(
            parameter,
            "must hold grey values",
            f"{file} with colours (RGB)",
            "Convert it with Image > Type > 8-bit in ImageJ.",
        )
    long = [axis for axis, length in zip(axes, shape, strict=True) if length > 1]
    stacked = [axis for axis in long if axis not in "CYX"]
    if len(stacked) > 1 or not {"Y", "X"} <= set(axes):
        raise ParameterError(
            parameter,
            "must have one axis of slices, rows and columns",
            f"{file} with the axes {','.join(axes)} of {tuple(shape)}",
            "Keep one time point with Image > Hyperstacks > Reduce Dimensionality in ImageJ.",
        )
    channels = [axis for axis in long if axis == "C"]
    if channels and not stacked and shape[axes.index("C")] > _MOST_CHANNELS:
        channels, stacked = stacked, channels
    # A single slice has a place along z, too.
    stacked = stacked or [axis for axis in axes if axis == "Z"]
    return [axes.index(axis) for axis in (*channels, *stacked, "Y", "X")], bool(channels)


def arrange(values: Any, order: Sequence[int], has_channels: bool) -> Any:
    """Lay out an image, numpy or dask, as a stack.

    Returns
    -------
    array
        Axes (c, z, y, x) or (z, y, x), in the machine's byte order; bits became 0 and 255.
    """
    passed_over = [axis for axis in range(values.ndim) if axis not in order]
    arranged = values.transpose([*passed_over, *order])[(0,) * len(passed_over)]
    if arranged.ndim == 2 + has_channels:
        arranged = arranged[..., np.newaxis, :, :]
    if arranged.dtype == bool:
        return arranged.astype(np.uint8) * np.uint8(255)
    return arranged.astype(arranged.dtype.newbyteorder("="), copy=False)
