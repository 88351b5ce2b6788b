"""Regions of a slice that overlap and are blended back, so that no seam shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt


def tiles(
    shape: Sequence[int], size: int, overlap: int, multiple: int | None = None
) -> Iterator[tuple[slice, ...]]:
    """Cut a slice into tiles of one size that overlap and cover it.

    Parameters
    ----------
    shape
        Shape of the slice, (y, x).
    size
        Side of a tile in voxels; a side of the slice that is shorter gives one tile.
    overlap
        Voxels that neighbouring tiles share at least.
    multiple
        If given, tiles begin and end at its multiples, as the slice, `size` and `overlap` must,
        and are no larger than as many tiles must be to cover the slice.

    Yields
    ------
    tuple of slice
        Where the tile lies, rows first.
    """
    yield from product(*(_cuts(length, size, overlap, multiple) for length in shape))


def _cuts(length: int, size: int, overlap: int, multiple: int | None) -> list[slice]:
    if length <= size:
        return [slice(0, length)]
    count = -(-(length - overlap) // (size - overlap))
    if multiple is not None:
        size = -(-(length + (count - 1) * overlap) // (count * multiple)) * multiple
    step = multiple or 1
    starts = np.linspace(0, (length - size) / step, count).round().astype(int) * step
    return [slice(int(start), int(start) + size) for start in starts]


def blend_weights(shape: Sequence[int], overlap: int) -> npt.NDArray[np.float32]:
    """How much each voxel of a tile counts: 1 inside, falling as a Gaussian towards its border.

    Parameters
    ----------
    shape
        Shape of the tile, (y, x).
    overlap
        Over how many voxels the weight rises from the border, where tiles overlap as much. Its
        eighth is the Gaussian's standard deviation, so that of two tiles the one whose border
        is nearer than 3/8 of the overlap counts less than 1 to 2000.

    Returns
    -------
    numpy.ndarray
        float32, positive everywhere.
    """
    ramps = []
    for length in shape:
        near = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
        outside = np.maximum(overlap - near, 0) / (overlap / 8)
        ramps.append(np.exp(-(outside**2) / 2))
    return np.multiply.outer(*ramps).astype(np.float32)
