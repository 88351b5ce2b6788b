"""The filter bank of the forest: each slice in two dimensions, and its neighbours in depth.

A pore-back is solid that lies deeper. What tells it from solid is what becomes of its grey in
the slices below, so the bank holds the neighbours' greys and how far they have fallen. Lengths
are in nm, so that a bank means the same on stacks of another voxel size.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, fields
from threading import Lock
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
# A reader remembers the slices within its reach and those of two threads more; of the slices
# themselves, which are needed once as neighbour and once as slice, only the last.
_SPARE_SLICES = 4
_ROWS_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class FeatureBank:
    """Which features a forest sees; docs/features.md has a table of them.

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
    fading
        Whether there are features of how the grey fades with depth.
    edge_offsets_nm
        Depths out of `offsets_nm` of which there is the edge's strength.
    """

    sigmas_nm: tuple[float, ...]
    derivative_sigmas_nm: tuple[float, ...]
    offsets_nm: tuple[float, ...]
    context_sigma_nm: float
    # The models of version 0.1.0 have none of these.
    laplacian_sigmas_nm: tuple[float, ...] = ()
    structure_sigmas_nm: tuple[float, ...] = ()
    deviation_sigmas_nm: tuple[float, ...] = ()
    fading: bool = False
    edge_offsets_nm: tuple[float, ...] = ()

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
        known = {field.name: settings[field.name] for field in fields(cls) if field.name in settings}
        return cls(
            **{
                name: tuple(map(float, value)) if isinstance(value, (list, tuple)) else value
                for name, value in known.items()
            }
        )

    @property
    def settings(self) -> dict[str, Any]:
        """The bank in JSON's types."""
        return asdict(self)

    def names(self, detectors: int = 1) -> tuple[str, ...]:
        """What each feature is, in order; those of a second detector follow the first's."""
        one = ["grey", *(name for name, _, _ in self._measured()), *self._context_names()]
        return tuple(
            name if detectors == 1 else f"{name}, detector {detector}"
            for detector in range(detectors)
            for name in one
        )

    def _measured(self) -> list[tuple[str, str, float]]:
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

    def _context_names(self) -> list[str]:
        return [
            *(f"grey {offset:+g} nm" for offset in self.offsets_nm),
            *(f"change of grey to {offset:+g} nm" for offset in self.offsets_nm),
            "darkest below",
            "brightest below",
            "darkest above",
            *(("depth of half the grey", "largest fall", "depth of largest fall") * self.fading),
            *(f"gradient magnitude {offset:+g} nm" for offset in self.edge_offsets_nm),
        ]


class _Contexts:
    """What neighbours are seen by, kept for the last slices; each is made by one thread only."""

    def __init__(self, make: Any, remember: int) -> None:
        self._make, self._remember = make, remember
        self._kept: OrderedDict[int, Future[Features]] = OrderedDict()
        self._lock = Lock()

    def __getitem__(self, index: int) -> Features:
        with self._lock:
            known = index in self._kept
            future = self._kept.setdefault(index, Future())
            self._kept.move_to_end(index)
            while len(self._kept) > self._remember:
                self._kept.popitem(last=False)
        if not known:
            try:
                future.set_result(self._make(index))
            except BaseException as error:
                with self._lock:
                    self._kept.pop(index, None)
                future.set_exception(error)
        return future.result()


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
        self.slices = SliceReader(stack, percentiles, remember=_SPARE_SLICES)
        self.bank = bank
        self._pixel_nm = spacing_nm(stack)[1:]
        self._offsets = depth_offsets(bank.offsets_nm, stack, milling)
        window = math.ceil(max(0, *self._offsets)) - math.floor(min(0, *self._offsets)) + 1
        self._contexts = _Contexts(self._context, window + _SPARE_SLICES)
        self._scales: dict[float, dict[str, int]] = {}
        for place, (_, quantity, sigma_nm) in enumerate(bank._measured(), start=1):
            self._scales.setdefault(sigma_nm, {})[quantity] = place
        self._in_plane_count = 1 + len(bank._measured())

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
        found = [
            part
            for detector in range(self.slices.detectors)
            for part in (
                self._in_plane(index, detector, rows),
                self._in_depth(*self._around(index, detector, rows)),
            )
        ]
        return np.concatenate(found)

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
        # Some rows at a time: whole, the features of a large slice would fill the memory.
        for start in range(0, height, _ROWS_AT_ONCE):
            rows = slice(start, min(start + _ROWS_AT_ONCE, height))
            chosen = np.flatnonzero((places >= start * width) & (places < rows.stop * width))
            if not len(chosen):
                continue
            at = places[chosen] - start * width
            parts: list[Features] = []
            for detector in range(self.slices.detectors):
                flat = self._in_plane(index, detector, rows)
                parts.append(flat.reshape(len(flat), -1)[:, at])
                here, neighbours = (
                    part.reshape(*part.shape[:-2], -1)[..., at]
                    for part in self._around(index, detector, rows)
                )
                if hidden is not None:
                    neighbours[:, hidden[:, chosen]] = np.nan
                parts.append(self._in_depth(here, neighbours))
            found[chosen] = np.concatenate(parts).T
        return found

    def _sigma(self, sigma_nm: float) -> tuple[float, float]:
        y, x = (sigma_nm / step for step in self._pixel_nm)
        return y, x

    def _in_plane(self, index: int, detector: int, rows: slice) -> Features:
        plane = self.slices[index].values[detector]
        found = np.empty((self._in_plane_count, rows.stop - rows.start, plane.shape[1]), np.float32)
        found[0] = plane[rows]
        for sigma_nm, wanted in self._scales.items():
            filters.measure(plane, self._sigma(sigma_nm), wanted, rows, found)
        return found

    def _context(self, index: int) -> Features:
        """A slice as its neighbours see it: shape (detectors, quantities, y, x)."""
        wanted = {"gaussian": 0, "gradient": 1} if self.bank.edge_offsets_nm else {"gaussian": 0}
        values = self.slices[index].values
        found = np.empty((len(values), len(wanted), *self.slices.shape), np.float32)
        whole = slice(0, self.slices.shape[0])
        for plane, into in zip(values, found, strict=True):
            filters.measure(plane, self._sigma(self.bank.context_sigma_nm), wanted, whole, into)
        return found

    def _around(self, index: int, detector: int, rows: slice) -> tuple[Features, Features]:
        """The slice and its neighbours: shapes (quantities, …) and (quantities, offsets, …)."""
        here = self._contexts[index][detector][:, rows]
        neighbours = np.full((len(here), len(self._offsets), *here.shape[1:]), np.nan, np.float32)
        for place, offset in enumerate(self._offsets):
            nearer, farther = math.floor(index + offset), math.ceil(index + offset)
            if nearer >= 0 and farther < len(self.slices):
                found = self._contexts[nearer][detector][:, rows]
                if farther > nearer:
                    share = np.float32(index + offset - nearer)
                    other = self._contexts[farther][detector][:, rows]
                    found = found + share * (other - found)
                neighbours[:, place] = found
        return here, neighbours

    def _in_depth(self, here: Features, neighbours: Features) -> Features:
        """Context features, shape (features, …); NaN where there is no neighbour."""
        grey, greys = here[0], neighbours[0]
        offsets_nm = self.bank.offsets_nm
        below = greys[[place for place, offset in enumerate(offsets_nm) if offset > 0]]
        above = greys[[place for place, offset in enumerate(offsets_nm) if offset < 0]]
        extremes = [
            np.fmin.reduce(below, initial=np.nan) - grey,
            np.fmax.reduce(below, initial=np.nan) - grey,
            np.fmin.reduce(above, initial=np.nan) - grey,
        ]
        parts = [greys, greys - grey, np.stack(extremes)]
        if self.bank.fading:
            parts.append(_fading(grey, below, [offset for offset in offsets_nm if offset > 0]))
        if self.bank.edge_offsets_nm:
            parts.append(neighbours[1, [offsets_nm.index(o) for o in self.bank.edge_offsets_nm]])
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
