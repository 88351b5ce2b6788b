"""Regions of a slice that overlap and are blended back, so that no seam shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
import numpy.typing as npt


def tiles(shape: Sequence[int], size: int, overlap: int) -> Iterator[tuple[slice, ...]]:
    """Cut a slice into tiles of one size that overlap and cover it.

    Parameters
    ----------
    shape
        Shape of the slice, (y, x).
    size
        Side of a tile in voxels; a side of the slice that is shorter gives one tile.
    overlap
        Voxels that neighbouring tiles share at least.

    Yields
    ------
    tuple of slice
        Where the tile lies, rows first.
    """
    yield from product(*(_cuts(length, size, overlap) for length in shape))


def _cuts(length: int, size: int, overlap: int) -> list[slice]:
    if length <= size:
        return [slice(0, length)]
    count = -(-(length - overlap) // (size - overlap))
    starts = np.linspace(0, length - size, count).round().astype(int)
    return [slice(int(start), int(start) + size) for start in starts]


def blend_weights(shape: Sequence[int], overlap: int) -> npt.NDArray[np.float32]:
    """How much each voxel of a tile counts: 1 inside, falling linearly towards its border.

    Parameters
    ----------
    shape
        Shape of the tile, (y, x).
    overlap
        Over how many voxels the weight rises from the border, where tiles overlap as much.

    Returns
    -------
    numpy.ndarray
        float32, positive everywhere.
    """
    ramps = []
    for length in shape:
        near = np.minimum(np.arange(length), np.arange(length)[::-1]) + 1
        ramps.append(np.minimum(near / (overlap + 1), 1))
    return np.multiply.outer(*ramps).astype(np.float32)
