"""The filter bank of the forest: each slice in two dimensions, and its neighbours in depth.

A pore-back is solid that lies deeper. What tells it from solid is what becomes of its grey in
the slices below, so the bank holds the neighbours' greys and how far they have fallen. Lengths
are in nm, so that a bank means the same on stacks of another voxel size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.ndimage import gaussian_filter
from skimage.feature import hessian_matrix_eigvals

from fiji_poreseg.slices import PERCENTILES, Plane, SliceReader, voxel_offsets
from fiji_poreseg.stack import Spacing, spacing_nm

Features = npt.NDArray[np.float32]

_SIGMAS_VOX = (1.0, 2.0, 4.0, 8.0)
_DERIVATIVE_SIGMAS_VOX = (1.0, 2.0, 4.0)
_OFFSETS_SLICES = (-4, -2, -1, 1, 2, 3, 4, 6, 8, 12)


@dataclass(frozen=True, slots=True)
class FeatureBank:
    """Which features a forest sees.

    Parameters
    ----------
    sigmas_nm
        Standard deviations of the Gaussian blurs in nm.
    derivative_sigmas_nm
        Standard deviations at which the gradient and the Hessian's eigenvalues are taken, in nm.
    offsets_nm
        Depths of the neighbouring slices relative to the slice, in nm; positive is deeper.
    context_sigma_nm
        Standard deviation of the blur of the neighbours, in nm.
    """

    sigmas_nm: tuple[float, ...]
    derivative_sigmas_nm: tuple[float, ...]
    offsets_nm: tuple[float, ...]
    context_sigma_nm: float

    @classmethod
    def for_spacing(cls, spacing: Spacing) -> FeatureBank:
        """The default bank: sigmas of 1 to 8 voxels, neighbours from 4 above to 12 below."""
        depth, *lateral = spacing
        pixel = float(np.mean(lateral))
        return cls(
            tuple(sigma * pixel for sigma in _SIGMAS_VOX),
            tuple(sigma * pixel for sigma in _DERIVATIVE_SIGMAS_VOX),
            tuple(offset * depth for offset in _OFFSETS_SLICES),
            pixel,
        )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> FeatureBank:
        """The bank that `settings` describe, as `dataclasses.asdict` writes them."""
        return cls(
            tuple(map(float, settings["sigmas_nm"])),
            tuple(map(float, settings["derivative_sigmas_nm"])),
            tuple(map(float, settings["offsets_nm"])),
            float(settings["context_sigma_nm"]),
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The bank in JSON's types."""
        return asdict(self)

    def names(self, detectors: int = 1) -> tuple[str, ...]:
        """What each feature is, in order; those of a second detector follow the first's."""
        one = [
            "grey",
            *(f"gaussian {sigma:g} nm" for sigma in self.sigmas_nm),
            *(f"gradient magnitude {sigma:g} nm" for sigma in self.derivative_sigmas_nm),
            *(
                f"{which} Hessian eigenvalue {sigma:g} nm"
                for sigma in self.derivative_sigmas_nm
                for which in ("larger", "smaller")
            ),
            *_context_names(self.offsets_nm),
        ]
        return tuple(
            name if detectors == 1 else f"{name}, detector {detector}"
            for detector in range(detectors)
            for name in one
        )


def _context_names(offsets_nm: Sequence[float]) -> list[str]:
    return [
        *(f"grey {offset:+g} nm" for offset in offsets_nm),
        *(f"change of grey to {offset:+g} nm" for offset in offsets_nm),
        "darkest below",
        "brightest below",
        "darkest above",
    ]


class FeatureReader:
    """Computes the features of a stack slice by slice.

    Parameters
    ----------
    stack
        A checked stack.
    bank
        Which features.
    milling
        ``"forward"`` or ``"reverse"``.
    percentiles
        How slices are normalised.
    """

    def __init__(
        self,
        stack: xr.DataArray,
        bank: FeatureBank,
        milling: str,
        percentiles: tuple[float, float] = PERCENTILES,
    ) -> None:
        self.slices = SliceReader(stack, percentiles)
        self.bank = bank
        self._pixel_nm = spacing_nm(stack)[1:]
        self._offsets = voxel_offsets(bank.offsets_nm, stack, milling)
        self._context = lru_cache(maxsize=64)(self._blurred_for_context)

    def plane(self, index: int) -> Features:
        """Features of one slice: float32, shape (features, y, x), NaN where a neighbour lacks."""
        flat = self.pixels(index, slice(None))
        return flat.T.reshape(-1, *self.slices.shape)

    def pixels(
        self,
        index: int,
        where: slice | npt.NDArray[np.intp],
        hidden: npt.NDArray[np.bool_] | None = None,
    ) -> Features:
        """Features of some pixels of one slice.

        Parameters
        ----------
        index
            The slice.
        where
            Flat positions of the pixels in it.
        hidden
            bool, shape (offsets, pixels): neighbours to treat as missing although they are
            there, so that a forest learns the ends of the stack.

        Returns
        -------
        numpy.ndarray
            float32, shape (pixels, features).
        """
        columns = []
        for detector in range(self.slices.detectors):
            flat = self._in_plane(self.slices[index].values[detector]).reshape(-1, self._size)
            around = [
                np.full(self._size, np.nan, np.float32)
                if not 0 <= index + offset < len(self.slices)
                else self._context(index + offset)[detector].ravel()
                for offset in self._offsets
            ]
            here = self._context(index)[detector].ravel()[where]
            neighbours = np.stack(around)[:, where]
            if hidden is not None:
                neighbours = np.where(hidden, np.float32(np.nan), neighbours)
            columns += [flat[:, where], self._in_depth(here, neighbours)]
        return np.ascontiguousarray(np.concatenate(columns).T)

    @property
    def reach(self) -> int:
        """How many slices away the farthest neighbour lies that is looked at."""
        return max(map(abs, self._offsets), default=0)

    @property
    def _size(self) -> int:
        rows, columns = self.slices.shape
        return rows * columns

    def _sigma(self, sigma_nm: float) -> tuple[float, ...]:
        return tuple(sigma_nm / step for step in self._pixel_nm)

    def _blurred_for_context(self, index: int) -> Plane:
        sigma = (0.0, *self._sigma(self.bank.context_sigma_nm))
        return np.asarray(gaussian_filter(self.slices[index].values, sigma), np.float32)

    def _in_plane(self, plane: Plane) -> Features:
        found = [plane]
        found += [gaussian_filter(plane, self._sigma(sigma)) for sigma in self.bank.sigmas_nm]
        gradients, curvatures = [], []
        for sigma_nm in self.bank.derivative_sigmas_nm:
            sigma = self._sigma(sigma_nm)
            orders = ((1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
            # In units of sigma, so that a derivative means the same on other voxels.
            dy, dx, dyy, dyx, dxx = (
                gaussian_filter(plane, sigma, order) * np.prod(np.power(sigma, order))
                for order in orders
            )
            gradients.append(np.hypot(dy, dx))
            curvatures += list(hessian_matrix_eigvals([dyy, dyx, dxx]))
        return np.stack([*found, *gradients, *curvatures]).astype(np.float32, copy=False)

    def _in_depth(self, here: Plane, neighbours: Plane) -> Features:
        """Context features, shape (features, pixels); NaN where there is no neighbour."""
        below = neighbours[[i for i, offset in enumerate(self.bank.offsets_nm) if offset > 0]]
        above = neighbours[[i for i, offset in enumerate(self.bank.offsets_nm) if offset < 0]]
        extremes = [
            np.fmin.reduce(below) - here,
            np.fmax.reduce(below) - here,
            np.fmin.reduce(above) - here,
        ]
        return np.concatenate([neighbours, neighbours - here, np.stack(extremes)])
