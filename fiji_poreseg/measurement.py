"""What is measured on a segmentation: its porosity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from fiji_poreseg.progress import track
from fiji_poreseg.stack import PORE


@dataclass(frozen=True, slots=True)
class Porosity:
    """Share of the pore in one slice: `porosity` from 0 to 1, over `pixels` that hold data."""

    index: int
    porosity: float
    pixels: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """Porosity of each segmented slice, and of the whole.

    Parameters
    ----------
    slices
        One entry for each slice that is segmented.
    """

    slices: tuple[Porosity, ...]

    @property
    def porosity(self) -> float:
        """Share of the pore among all pixels that hold data."""
        pixels = [entry.pixels for entry in self.slices]
        return float(np.average([entry.porosity for entry in self.slices], weights=pixels))


def measure(segmentation: xr.DataArray, indices: Sequence[int]) -> Measurement:
    """Measure the porosity of some slices.

    Parameters
    ----------
    segmentation
        uint8, dims ``("z", "y", "x")``; pixels of 0 hold no data and count nothing.
    indices
        0-based slices; those without a segmented pixel are left out.
    """
    found = []
    for index in track(indices, "Measuring"):
        plane = segmentation.isel(z=index).to_numpy()
        pixels = int(np.count_nonzero(plane))
        if pixels:
            found.append(Porosity(index, np.count_nonzero(plane == PORE) / pixels, pixels))
    return Measurement(tuple(found))
