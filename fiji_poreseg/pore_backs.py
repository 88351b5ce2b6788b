"""Where a segmentation contradicts the depth of what it shows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.ndimage import gaussian_filter

from fiji_poreseg.slices import Plane, SliceReader, voxel_offsets
from fiji_poreseg.stack import SOLID, spacing_nm

# Solid that shows before it is reached is darker than when it is milled, at one of these depths.
_DEPTHS_NM = (20.0, 50.0, 80.0, 140.0)
_SMOOTHED_NM = 15.0
# Of the contrast of a slice.
_DARKER = 0.05


class Suspects:
    """Finds solid that may be a pore-back: it brightens before it is gone.

    Parameters
    ----------
    stack
        A checked stack; of several detectors the first is looked at.
    normalisation
        Percentiles of a slice's grey values that are mapped to 0 and 1.
    milling
        ``"forward"`` where a larger index lies deeper, else ``"reverse"``.
    """

    def __init__(
        self, stack: xr.DataArray, normalisation: tuple[float, float], milling: str
    ) -> None:
        self._reader = SliceReader(stack, normalisation)
        self._offsets = voxel_offsets(_DEPTHS_NM, stack, milling)
        self._sigma = [_SMOOTHED_NM / step for step in spacing_nm(stack)[1:]]

    def __call__(self, index: int, found: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Where a slice's segmentation, shape (y, x), has solid that is brighter deeper down."""
        here = self._grey(index)
        deeper = [
            self._grey(index + offset)
            for offset in self._offsets
            if 0 <= index + offset < len(self._reader)
        ]
        if not deeper:
            return np.zeros(found.shape, bool)
        return np.asarray((found == SOLID) & (np.max(deeper, axis=0) - here > _DARKER))

    def _grey(self, index: int) -> Plane:
        return gaussian_filter(self._reader[index].values[0], self._sigma)
