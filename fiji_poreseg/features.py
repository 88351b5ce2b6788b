"""The filter bank of the forest: each slice in two dimensions, and its neighbours in depth.

A pore-back is solid that lies deeper. What tells it from solid is what becomes of its grey in
the slices below, so the bank holds the neighbours' greys and how far they have fallen. Lengths
are in nm, so that a bank means the same on stacks of another voxel size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg import filters
from fiji_poreseg.slices import PERCENTILES, Plane, SliceReader, depth_offsets
from fiji_poreseg.stack import Spacing, spacing_nm

Features = npt.NDArray[np.float32]

_SIGMAS_VOX = (1.0, 2.0, 4.0, 8.0)
_DERIVATIVE_SIGMAS_VOX = (1.0, 2.0, 4.0)
_OFFSETS_SLICES = (-4, -2, 2, 4, 6, 8, 12)
_WIDE_SIGMA_VOX = 2.0
_LAPLACIAN_SIGMAS_VOX = (2.0,)
_STRUCTURE_SIGMAS_VOX = (2.0,)
_DEVIATION_SIGMAS_VOX = (4.0,)
# A reader remembers the slices within its reach, and a few for threads that are ahead.
_SPARE_SLICES = 4
# Features take some 200 bytes a pixel, in each thread; more leave the processor's cache.
_PIXELS_AT_ONCE = 2**16


@dataclass(frozen=True, slots=True)
class FeatureBank:
    """Which features a forest sees; docs/forest.md has a table of them.

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
    laplacian_sigmas_nm, structure_sigmas_nm, deviation_sigmas_nm
        Standard deviations at which the Laplacian, the structure tensor's eigenvalues and the
        local standard deviation are taken, in nm.
    wide_sigma_nm
        Standard deviation of a second, wider blur of the neighbours, in nm; 0 for none.
    edges
        Whether the gradient of the neighbours is looked at, at `context_sigma_nm`.
    fading
        Whether there are features of how the grey fades with depth.
    """

    sigmas_nm: tuple[float, ...]
    derivative_sigmas_nm: tuple[float, ...]
    offsets_nm: tuple[float, ...]
    context_sigma_nm: float
    # The models of version 0.1.0 have none of these.
    laplacian_sigmas_nm: tuple[float, ...] = ()
    structure_sigmas_nm: tuple[float, ...] = ()
    deviation_sigmas_nm: tuple[float, ...] = ()
    wide_sigma_nm: float = 0.0
    edges: bool = False
    fading: bool = False

    @classmethod
    def for_spacing(cls, spacing: Spacing) -> FeatureBank:
        """The default bank: sigmas of 1 to 8 voxels, neighbours from 4 above to 12 below.

        Only every second slice: sampled by two in depth, a stack keeps all of them.
        """
        depth, *lateral = spacing
        pixel = float(np.mean(lateral))

        def in_nm(sigmas: tuple[float, ...]) -> tuple[float, ...]:
            return tuple(sigma * pixel for sigma in sigmas)

        return cls(
            in_nm(_SIGMAS_VOX),
            in_nm(_DERIVATIVE_SIGMAS_VOX),
            tuple(offset * depth for offset in _OFFSETS_SLICES),
            pixel,
            in_nm(_LAPLACIAN_SIGMAS_VOX),
            in_nm(_STRUCTURE_SIGMAS_VOX),
            in_nm(_DEVIATION_SIGMAS_VOX),
            wide_sigma_nm=_WIDE_SIGMA_VOX * pixel,
            edges=True,
            fading=True,
        )

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> FeatureBank:
        """The bank that `settings` describe, as `dataclasses.asdict` writes them.

        Raises
        ------
        ValueError
            If a sigma is not positive.
        """
        known: dict[str, Any] = {
            field.name: settings[field.name] for field in fields(cls) if field.name in settings
        }
        for name, value in known.items():
            if not isinstance(value, bool):
                one = isinstance(value, (int, float))
                known[name] = float(value) if one else tuple(map(float, value))
        bank = cls(**known)
        sigmas = [bank.context_sigma_nm, *bank.sigmas_nm, *bank.derivative_sigmas_nm]
        sigmas += [*bank.laplacian_sigmas_nm, *bank.structure_sigmas_nm, *bank.deviation_sigmas_nm]
        if not min(sigmas) > 0 or bank.wide_sigma_nm < 0:
            raise ValueError("a sigma is not positive")
        return bank

    @property
    def lengths_nm(self) -> tuple[float, ...]:
        """All sigmas and offsets."""
        every = [value for value in asdict(self).values() if not isinstance(value, bool)]
        return tuple(np.hstack(every).tolist())

    @property
    def settings(self) -> dict[str, Any]:
        """The bank in JSON's types."""
        return asdict(self)

    def names(self, detectors: int = 1) -> tuple[str, ...]:
        """What each feature is, in order; those of a second detector follow the first's."""
        one = ["grey", *(name for name, _, _ in self.measured()), *self._context_names()]
        return tuple(
            name if detectors == 1 else f"{name}, detector {detector}"
            for detector in range(detectors)
            for name in one
        )

    def measured(self) -> list[tuple[str, str, float]]:
        """Name, quantity as `filters` calls it, and sigma in nm, of the features in the plane."""
        groups = (
            (self.sigmas_nm, {"gaussian": "gaussian"}),
            (self.derivative_sigmas_nm, {"gradient magnitude": "gradient"}),
            (
                self.derivative_sigmas_nm,
                {
                    "larger Hessian eigenvalue": "hessian_larger",
                    "smaller Hessian eigenvalue": "hessian_smaller",
                },
            ),
            (self.laplacian_sigmas_nm, {"Laplacian": "laplacian"}),
            (
                self.structure_sigmas_nm,
                {
                    "larger structure-tensor eigenvalue": "structure_larger",
                    "smaller structure-tensor eigenvalue": "structure_smaller",
                },
            ),
            (self.deviation_sigmas_nm, {"standard deviation": "deviation"}),
        )
        return [
            (f"{name} {sigma:g} nm", quantity, sigma)
            for sigmas, quantities in groups
            for sigma in sigmas
            for name, quantity in quantities.items()
        ]

    def reach(self, stack: xr.DataArray, milling: str) -> tuple[int, int]:
        """How many slices before, and how many after a slice of this stack are looked at."""
        offsets = (0, *depth_offsets(self.offsets_nm, stack, milling))
        return -math.floor(min(offsets)), math.ceil(max(offsets))

    def _context_names(self) -> list[str]:
        to = [f"{offset:+g} nm" for offset in self.offsets_nm]
        return [
            *(f"grey {offset}" for offset in to),
            *(f"change of grey to {offset}" for offset in to),
            "darkest below",
            "brightest below",
            "darkest above",
            *(f"wide grey {offset}" for offset in to if self.wide_sigma_nm),
            *(f"change of wide grey to {offset}" for offset in to if self.wide_sigma_nm),
            *(f"gradient magnitude {offset}" for offset in to if self.edges),
            *(("depth of half the grey", "largest fall", "depth of largest fall") * self.fading),
        ]


class FeatureReader:
    """Computes the features of a stack slice by slice. Safe to use from several threads.

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
        self.bank = bank
        self._pixel_nm = spacing_nm(stack)[1:]
        self._offsets = depth_offsets(bank.offsets_nm, stack, milling)
        reach = sum(bank.reach(stack, milling))
        self.slices = SliceReader(stack, percentiles, remember=1 + reach + _SPARE_SLICES)
        # By scale, as the filters work: which quantities, and at which place of the features.
        self._in_plane_count = 1 + len(bank.measured())
        self._scales: dict[float, dict[str, int]] = {}
        for place, (_, quantity, sigma_nm) in enumerate(bank.measured(), start=1):
            self._scales.setdefault(sigma_nm, {})[quantity] = place
        self._context_scales = {bank.context_sigma_nm: {"gaussian": 0}}
        if bank.wide_sigma_nm:
            self._context_scales[bank.wide_sigma_nm] = {"gaussian": 1}
        if bank.edges:
            self._context_scales[bank.context_sigma_nm]["gradient"] = 1 + bool(bank.wide_sigma_nm)
        self._context_count = 1 + bool(bank.wide_sigma_nm) + bank.edges

    def plane(self, index: int) -> Features:
        """Features of one slice: float32, shape (features, y, x), NaN where a neighbour lacks."""
        return self.rows(index, slice(0, self.slices.shape[0]))

    def rows(self, index: int, rows: slice) -> Features:
        """Features of some rows of one slice, the same whichever rows are asked for together.

        Parameters
        ----------
        index
            The slice.
        rows
            Which rows, start and stop given.

        Returns
        -------
        numpy.ndarray
            float32, shape (features, rows, x), C-contiguous; NaN where a neighbour lacks.
        """
        return self._seen(index, rows, lambda part: part)

    def bands(self) -> Iterator[slice]:
        """Rows, from the first to the last, as many at once as leave room for their features."""
        rows, columns = self.slices.shape
        height = max(1, _PIXELS_AT_ONCE // columns)
        for start in range(0, rows, height):
            yield slice(start, min(start + height, rows))

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
        height, width = self.slices.shape
        places = np.arange(height * width)[where]
        found = np.empty((len(places), len(self.bank.names(self.slices.detectors))), np.float32)
        for rows in self.bands():
            chosen = np.flatnonzero((places >= rows.start * width) & (places < rows.stop * width))
            if not len(chosen):
                continue
            at = places[chosen] - rows.start * width

            def picked(part: Features, at: npt.NDArray[np.intp] = at) -> Features:
                return part.reshape(*part.shape[:-2], -1)[..., at]

            some = None if hidden is None else hidden[:, chosen]
            found[chosen] = self._seen(index, rows, picked, some).T
        return found

    def _seen(
        self,
        index: int,
        rows: slice,
        pick: Callable[[Features], Features],
        hidden: npt.NDArray[np.bool_] | None = None,
    ) -> Features:
        """Features of the pixels that `pick` takes from shape (…, rows, x): shape (features, …)."""
        parts = []
        for detector in range(self.slices.detectors):
            parts.append(pick(self._in_plane(index, detector, rows)))
            here, neighbours = map(pick, self._around(index, detector, rows))
            if hidden is not None:
                np.moveaxis(neighbours, 1, 0)[:, hidden] = np.nan
            parts.append(self._in_depth(here, neighbours))
        return np.concatenate(parts)

    @property
    def reach(self) -> int:
        """How many slices away the farthest neighbour lies that is looked at."""
        return max((math.ceil(abs(offset)) for offset in self._offsets), default=0)

    def _sigma(self, sigma_nm: float) -> tuple[float, float]:
        y, x = (sigma_nm / step for step in self._pixel_nm)
        return y, x

    def _measured(
        self, plane: Plane, scales: Mapping[float, Mapping[str, int]], rows: slice, into: Features
    ) -> None:
        for sigma_nm, wanted in scales.items():
            filters.measure(plane, self._sigma(sigma_nm), wanted, rows, into)

    def _in_plane(self, index: int, detector: int, rows: slice) -> Features:
        plane = self.slices[index].values[detector]
        found = np.empty((self._in_plane_count, rows.stop - rows.start, plane.shape[1]), np.float32)
        found[0] = plane[rows]
        self._measured(plane, self._scales, rows, found)
        return found

    def _as_neighbour(self, index: int, detector: int, rows: slice) -> Features:
        """A slice as its neighbours see it: shape (quantities, rows, x)."""
        plane = self.slices[index].values[detector]
        found = np.empty((self._context_count, rows.stop - rows.start, plane.shape[1]), np.float32)
        self._measured(plane, self._context_scales, rows, found)
        return found

    def _around(self, index: int, detector: int, rows: slice) -> tuple[Features, Features]:
        """The slice and its neighbours: shapes (quantities, …) and (offsets, quantities, …)."""
        here = self._as_neighbour(index, detector, rows)
        neighbours = np.full((len(self._offsets), *here.shape), np.nan, np.float32)
        for into, offset in zip(neighbours, self._offsets, strict=True):
            lower, upper = math.floor(index + offset), math.ceil(index + offset)
            if lower < 0 or upper >= len(self.slices):
                continue
            into[:] = self._as_neighbour(lower, detector, rows)
            if upper > lower:
                share = np.float32(index + offset - lower)
                into += share * (self._as_neighbour(upper, detector, rows) - into)
        return here, neighbours

    def _in_depth(self, here: Features, neighbours: Features) -> Features:
        """Context features, shape (features, …); NaN where there is no neighbour."""
        bank = self.bank
        grey, greys = here[0], neighbours[:, 0]
        below = greys[[place for place, offset in enumerate(bank.offsets_nm) if offset > 0]]
        above = greys[[place for place, offset in enumerate(bank.offsets_nm) if offset < 0]]
        extremes = [
            np.fmin.reduce(below, initial=np.nan) - grey,
            np.fmax.reduce(below, initial=np.nan) - grey,
            np.fmin.reduce(above, initial=np.nan) - grey,
        ]
        parts = [greys, greys - grey, np.stack(extremes)]
        if bank.wide_sigma_nm:
            parts += [neighbours[:, 1], neighbours[:, 1] - here[1]]
        if bank.edges:
            parts.append(neighbours[:, -1])
        if bank.fading:
            parts.append(_fading(grey, below, [o for o in bank.offsets_nm if o > 0]))
        return np.concatenate(parts)


def _fading(grey: Plane, below: Features, depths_nm: Sequence[float]) -> Features:
    """How the grey fades with depth: three features, NaN where the stack ends before."""
    half = np.full_like(grey, np.nan)
    fall, where = np.full_like(grey, -np.inf), np.full_like(grey, np.nan)
    last = grey
    for plane, depth in zip(below, depths_nm, strict=True):
        half[np.isnan(half) & (plane < grey / 2)] = depth
        lost = last - plane
        larger = lost > fall
        fall[larger], where[larger] = lost[larger], depth
        last = plane
    half[np.isnan(half) & ~np.isnan(last)] = 2 * depths_nm[-1]
    fall[np.isinf(fall)] = np.nan
    return np.stack([half, fall, where])
