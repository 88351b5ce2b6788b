"""Hand corrections: merged into a segmentation, and counted slice by slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from fiji_poreseg.progress import track
from fiji_poreseg.stack import PORE, SOLID, make_labels


@dataclass(frozen=True, slots=True)
class Change:
    """What a correction changed in one slice, in pixels."""

    index: int
    pore_to_solid: int
    solid_to_pore: int


@dataclass(frozen=True, slots=True)
class Correction:
    """A corrected segmentation and what was changed.

    Parameters
    ----------
    segmentation
        uint8, dims ``("z", "y", "x")``.
    changes
        One entry for each slice that holds a correction.
    """

    segmentation: xr.DataArray
    changes: tuple[Change, ...]

    @property
    def total(self) -> dict[str, int]:
        """Pixels changed in all slices, by direction."""
        return {
            "pore_to_solid": sum(change.pore_to_solid for change in self.changes),
            "solid_to_pore": sum(change.solid_to_pore for change in self.changes),
        }


def merge(segmentation: xr.DataArray, corrections: xr.DataArray) -> Correction:
    """Lay corrections over a segmentation.

    Parameters
    ----------
    segmentation
        uint8, dims ``("z", "y", "x")``; not changed.
    corrections
        uint8 labels on the same voxels: 0 leaves a pixel as it is, any other class replaces it.
    """
    merged = segmentation.to_numpy().copy()
    changes = []
    for index in track(range(len(merged)), "Correcting"):
        by_hand = corrections.isel(z=index).to_numpy()
        if not by_hand.any():
            continue
        before = merged[index].copy()
        merged[index] = np.where(by_hand > 0, by_hand, before)
        changes.append(
            Change(
                index,
                int(np.count_nonzero((before == PORE) & (merged[index] == SOLID))),
                int(np.count_nonzero((before == SOLID) & (merged[index] == PORE))),
            )
        )
    name = f"{str(segmentation.name).removesuffix('-segmentation')}-corrected"
    classes = segmentation.attrs["classes"]
    return Correction(make_labels(merged, segmentation, name=name, classes=classes), tuple(changes))
