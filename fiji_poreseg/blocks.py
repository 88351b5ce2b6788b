"""Regions of a slice that overlap, and what of each is put back, so that no seam shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np


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


def trusted(
    place: Sequence[slice], shape: Sequence[int], margin: int
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """What of a tile counts: all but a margin, where the slice goes on behind it.

    Parameters
    ----------
    place
        Where the tile lies.
    shape
        Shape of the slice, (y, x).
    margin
        In voxels, at most half of what tiles overlap: these parts then cover the slice.

    Returns
    -------
    tuple of tuple of slice
        The part's place in the slice, and in the tile.
    """
    inside = [
        slice(cut.start + margin * (cut.start > 0), cut.stop - margin * (cut.stop < length))
        for cut, length in zip(place, shape, strict=True)
    ]
    return tuple(inside), tuple(
        slice(part.start - cut.start, part.stop - cut.start)
        for part, cut in zip(inside, place, strict=True)
    )
