"""Slices as the models see them: normalised in brightness, with their neighbours in depth.

Brightness and contrast drift along a stack, so each slice is normalised by itself, and robustly:
its own percentiles set the scale, and few very bright edges or dark pixels cannot move it.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.stats import skew

from fiji_poreseg.errors import ParameterError, PoreSegWarning
from fiji_poreseg.stack import Spacing, spacing_nm, valid_pixels

Plane = npt.NDArray[np.float32]

PERCENTILES = (2.0, 98.0)
_FAR_SPACING, _OTHER_UNIT = 1.5, 100
# To tell the direction of milling: how many pairs of slices, and how much of each, in voxels.
_PAIRS, _LOOKED_AT = 24, 256


class Slice(NamedTuple):
    """One slice: `values`, float32, shape (detectors, y, x), and `valid`, bool, shape (y, x)."""

    values: Plane
    valid: npt.NDArray[np.bool_]


class SliceReader:
    """Reads and normalises slices one by one and remembers the last ones.

    Grey values are mapped so that the lower percentile of a slice's valid pixels becomes 0 and
    the upper 1; pixels without data become 0. Safe to use from several threads.

    Parameters
    ----------
    stack
        A checked stack, also a lazy one.
    percentiles
        Which two percentiles.
    remember
        How many slices to keep in memory.
    """

    def __init__(
        self,
        stack: xr.DataArray,
        percentiles: tuple[float, float] = PERCENTILES,
        remember: int = 64,
    ) -> None:
        self._percentiles = percentiles
        self.stack = stack if "c" in stack.dims else stack.expand_dims("c")
        self._remember = remember
        self._kept: OrderedDict[int, Future[Slice]] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        return int(self.stack.sizes["z"])

    @property
    def shape(self) -> tuple[int, int]:
        """Size of a slice in voxels (y, x)."""
        return int(self.stack.sizes["y"]), int(self.stack.sizes["x"])

    @property
    def detectors(self) -> int:
        """Number of detectors."""
        return int(self.stack.sizes["c"])

    def __getitem__(self, index: int) -> Slice:
        with self._lock:
            asked_first = index not in self._kept
            slot = self._kept.setdefault(index, Future())
            self._kept.move_to_end(index)
            while len(self._kept) > self._remember:
                self._kept.popitem(last=False)
        if asked_first:  # another thread that asks meanwhile waits for this one's answer
            try:
                slot.set_result(self._read(index))
            except BaseException as error:
                with self._lock:
                    self._kept.pop(index, None)
                slot.set_exception(error)
        return slot.result()

    def _read(self, index: int) -> Slice:
        raw = np.asarray(self.stack.data[:, index])
        nodata = self.stack.attrs.get("nodata")
        valid = np.logical_and.reduce([valid_pixels(plane, nodata) for plane in raw])
        values = np.zeros(raw.shape, np.float32)
        if valid.any():
            for detector, plane in enumerate(raw):
                values[detector] = np.where(valid, self._normalise(plane, valid), 0)
        return Slice(values, valid)

    def _normalise(self, plane: npt.NDArray[Any], valid: npt.NDArray[np.bool_]) -> Plane:
        low, high = np.percentile(plane[valid], self._percentiles)
        scale = high - low if high > low else 1.0
        return np.asarray((plane.astype(np.float32) - np.float32(low)) / np.float32(scale))

    def neighbours(self, index: int, offsets: Sequence[int]) -> list[Plane | None]:
        """The slices at `index` + each offset; None where the stack has none."""
        return [
            self[index + offset].values if 0 <= index + offset < len(self) else None
            for offset in offsets
        ]


def evenly(candidates: Sequence[int], count: int, *, inner: bool = False) -> list[int]:
    """Evenly spaced ones of some slices: as many as asked for, or all where these are fewer.

    Parameters
    ----------
    candidates
        0-based slices, ascending.
    count
        How many.
    inner
        Take the middles of equal parts, so that the ends are left out, not the first of each.
    """
    slices, shift = len(candidates), int(inner)
    if count >= slices:
        return [*candidates]
    return [candidates[(2 * i + shift) * slices // (2 * count)] for i in range(count)]


def voxel_offsets(offsets_nm: Sequence[float], stack: xr.DataArray, milling: str) -> list[int]:
    """Offsets in nm of depth as offsets in slices of this stack.

    Parameters
    ----------
    offsets_nm
        Depths relative to a slice, in nm; positive is deeper, milled later.
    stack
        The stack, for its slice distance.
    milling
        ``"forward"`` where a larger index lies deeper, else ``"reverse"``.
    """
    exact = depth_offsets(offsets_nm, stack, milling)
    return [int(np.sign(offset) * np.floor(abs(offset) + 0.5)) for offset in exact]


def depth_offsets(offsets_nm: Sequence[float], stack: xr.DataArray, milling: str) -> list[float]:
    """Offsets in nm of depth as slices of this stack, not rounded: 1.5 lies between two slices.

    Parameters
    ----------
    offsets_nm, stack, milling
        As for `voxel_offsets`.

    Returns
    -------
    list of float
        At least one slice away, in the sign of the index.
    """
    direction = 1 if milling == "forward" else -1
    slices = np.abs(offsets_nm) / spacing_nm(stack)[0]
    # On coarser slices a near neighbour is the next slice, not the slice itself.
    away = np.maximum(1, np.round(slices, 3))
    return [float(offset) for offset in direction * np.sign(offsets_nm) * away]


def training_advice(milling: str) -> str:
    """What to do where a stack to train on looks milled the other way."""
    return f"If so, give milling={'reverse' if milling == 'forward' else 'forward'}."


def check_spacing(trained_nm: Spacing, stack: xr.DataArray) -> None:
    """Compare a stack's voxels with those that a model was trained on.

    Parameters
    ----------
    trained_nm
        Those of the model in nm, (z, y, x).
    stack
        A checked stack.

    Raises
    ------
    ParameterError
        If they differ by more than 100x: what the model looks at would not fit in memory.

    Warns
    -----
    PoreSegWarning
        If they differ by more than 1.5x.
    """
    here = spacing_nm(stack)
    ratio = max(max(a / b, b / a) for a, b in zip(trained_nm, here, strict=True))
    if ratio > _OTHER_UNIT:
        raise ParameterError(
            "image",
            f"must have voxels of about {_times(trained_nm)} nm (z,y,x), as the model was trained",
            f"{stack.name} with {_times(here)} nm",
            "Correct their size or unit (Image > Properties in ImageJ).",
        )
    if ratio > _FAR_SPACING:
        warnings.warn(
            f"The model was trained on voxels of {_times(trained_nm)} nm and {stack.name} has "
            f"{_times(here)} nm (z,y,x). Its reach in depth is resampled, its accuracy unknown: "
            "check some slices, or train on this stack.",
            PoreSegWarning,
            stacklevel=3,
        )


def _times(spacing: Spacing) -> str:
    return " x ".join(f"{step:g}" for step in spacing)


def warn_about_milling(stack: xr.DataArray, milling: str, advice: str) -> None:
    """Warn where a stack looks as if it had been milled the other way.

    What lies behind a pore comes nearer slice by slice, and brightens slowly, until it is
    solid; past the solid the grey drops at once. So steps of grey towards depth are skewed to
    the negative. The sign of that skew, over some pairs of slices, tells the direction.

    Parameters
    ----------
    stack
        A checked stack.
    milling
        How it is said to have been milled, ``"forward"`` or ``"reverse"``.
    advice
        What to do where the direction is wrong, as a sentence.
    """
    middle = {
        axis: slice((size - _LOOKED_AT) // 2, (size + _LOOKED_AT) // 2)
        for axis, size in stack.sizes.items()
        if axis in ("y", "x") and size > _LOOKED_AT
    }
    reader = SliceReader(stack.isel(middle), remember=2)
    if len(reader) < 4:
        return
    starts = np.unique(np.linspace(0, len(reader) - 2, _PAIRS).astype(int))
    steps = (reader[z + 1].values[0] - reader[z].values[0] for z in starts)
    skews = np.array([skew(step, axis=None) for step in steps])
    towards_depth = skews if milling == "forward" else -skews
    far = np.abs(skews) > 0.3
    if far.mean() > 0.5 and np.mean(towards_depth[far] > 0) > 0.9:
        end = "smaller" if milling == "forward" else "larger"
        warnings.warn(
            f"{stack.name} looks as if it had been milled the other way: pore-backs come nearer "
            f"towards {end} indices. {advice}",
            PoreSegWarning,
            stacklevel=3,
        )
