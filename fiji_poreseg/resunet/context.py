"""What the network sees of a slice: itself, its neighbours in depth, and how far they reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from fiji_poreseg.slices import SliceReader

Channels: TypeAlias = npt.NDArray[np.float32]

# Stands where there is no neighbour: far below the greys of a slice, which lie around 0 to 1.
MISSING = -1.0
_OFFSETS_SLICES = (-4, -2, -1, 1, 2, 3, 4, 6, 8, 11, 14)


@dataclass(frozen=True, slots=True)
class Context:
    """Which neighbours the network sees.

    Parameters
    ----------
    offsets_nm
        Depths relative to the slice, in nm; positive is deeper, milled later.
    """

    offsets_nm: tuple[float, ...]

    @classmethod
    def for_spacing(cls, slice_distance_nm: float) -> Context:
        """The default: from 4 slices above to 14 below."""
        return cls(tuple(offset * slice_distance_nm for offset in _OFFSETS_SLICES))

    def channel_count(self, detectors: int) -> int:
        """Channels in all: slice and neighbours for each detector, and two that tell the reach."""
        return detectors * (1 + len(self.offsets_nm)) + 2


def channels(reader: SliceReader, index: int, offsets: Sequence[int]) -> Channels:
    """The network's view of a slice, before the channels that tell the reach.

    Parameters
    ----------
    reader
        The slices.
    index
        Which one.
    offsets
        The neighbours, in slices of this stack; see `slices.voxel_offsets`.

    Returns
    -------
    numpy.ndarray
        float32, shape (1 + offsets, y, x, detectors), the slice itself first; `MISSING`
        where there is no neighbour.
    """
    planes = [reader[index].values, *reader.neighbours(index, offsets)]
    nothing = np.full_like(planes[0], MISSING)
    return np.stack([np.moveaxis(nothing if plane is None else plane, 0, -1) for plane in planes])


def existing(index: int, offsets: Sequence[int], count: int) -> npt.NDArray[np.bool_]:
    """Which neighbours of a slice lie inside a stack of `count` slices: bool, shape (offsets,)."""
    positions = index + np.asarray(offsets)
    return (positions >= 0) & (positions < count)


def with_reach(
    view: Channels, exists: npt.NDArray[np.bool_], offsets_nm: Sequence[float]
) -> Channels:
    """Take out neighbours that do not exist and add the channels that tell the reach.

    Parameters
    ----------
    view
        float32, shape (1 + offsets, y, x, detectors).
    exists
        bool, shape (offsets,).
    offsets_nm
        Depths of the neighbours.

    Returns
    -------
    numpy.ndarray
        float32, shape (y, x, channels): the last two channels hold the share of the deeper
        and of the higher neighbours that exist.
    """
    count, rows, columns, detectors = view.shape
    whole = np.empty((rows, columns, count * detectors + 2), np.float32)
    planes = whole[..., :-2].reshape(rows, columns, count, detectors)
    planes[...] = np.moveaxis(view, 0, 2)
    planes[:, :, 1:][:, :, ~exists] = MISSING
    whole[..., -2:] = _shares(exists, offsets_nm)
    return whole


def fill(
    planes: Channels,
    reader: SliceReader,
    index: int,
    offsets: Sequence[int],
    offsets_nm: Sequence[float],
    place: Sequence[slice] = (slice(None), slice(None)),
) -> None:
    """Write what the network sees of a slice, or of a part of it, into an array, channels first.

    The same values as `with_reach` makes of `channels`, without the copies in between.

    Parameters
    ----------
    planes
        float32, shape (channels, y, x) of the part that lies inside of the slice.
    reader, index, offsets
        The slices, which one, and the neighbours in slices of this stack.
    offsets_nm
        Depths of the neighbours.
    place
        Which part, rows first; it may go on beyond the slice.
    """
    seen = [reader[index].values, *reader.neighbours(index, offsets)]
    rows, columns = place
    detectors = reader.detectors
    for number, plane in enumerate(seen):
        part = MISSING if plane is None else plane[:, rows, columns]
        planes[number * detectors : (number + 1) * detectors] = part
    shares = _shares(existing(index, offsets, len(reader)), offsets_nm)
    planes[-2:] = shares[:, np.newaxis, np.newaxis]


def _shares(exists: npt.NDArray[np.bool_], offsets_nm: Sequence[float]) -> Channels:
    """The share of the deeper and of the higher neighbours that exist, float32, shape (2,)."""
    offsets = np.asarray(offsets_nm)
    shares = [exists[side].mean() if side.any() else 0.0 for side in (offsets > 0, offsets < 0)]
    return np.array(shares, np.float32)
