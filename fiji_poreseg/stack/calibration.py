"""Units of length, and the size of a voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import xarray as xr

from fiji_poreseg.errors import ParameterError

Spacing: TypeAlias = tuple[float, float, float]

AXES = ("z", "y", "x")
DEFAULT_SPACING_NM: Spacing = (10.0, 10.0, 10.0)
_NM_PER_UNIT = {
    "nm": 1.0,
    "nanometer": 1.0,
    "nanometre": 1.0,
    "å": 0.1,
    "angstrom": 0.1,
    "um": 1e3,
    "µm": 1e3,
    "μm": 1e3,
    "micron": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "pm": 1e-3,
    "picometer": 1e-3,
    "mm": 1e6,
    "millimeter": 1e6,
    "cm": 1e7,
    "centimeter": 1e7,
    "m": 1e9,
    "meter": 1e9,
}


_LONGEST_SYMBOL = 3


def nm_per(unit: str) -> float | None:
    """How many nm a unit of length is long, in any way that ImageJ writes it; None if unknown.

    Words in the plural are taken, too.
    """
    name = unit.strip()
    if name == "A":  # as ImageJ itself takes it
        return 0.1
    name = name.lower()
    # Not symbols: ms is no length.
    return _NM_PER_UNIT.get(name.removesuffix("s") if len(name) > _LONGEST_SYMBOL else name)


def known_units() -> str:
    """Those units, for an error."""
    return ", ".join(_NM_PER_UNIT)


def tidy(length: float) -> float:
    """Drop the last digits, in which converting leaves noise: 0.02 µm are 20 nm, not 20 and a bit.

    Twelve digits stay; a negative zero becomes zero.
    """
    return float(f"{length:.12g}") + 0.0


def spacing_nm(stack: xr.DataArray, parameter: str = "image") -> Spacing:
    """Voxel size in nm (z, y, x), from the coordinates.

    Raises
    ------
    ParameterError
        If slices or pixels are not evenly spaced, or coordinates or ``attrs["spacing_nm"]`` are
        no lengths.
    """
    stored = check_spacing(stack.attrs.get("spacing_nm", DEFAULT_SPACING_NM), parameter)
    return tuple(  # type: ignore[return-value]
        _step(stack, axis, fallback, parameter) for axis, fallback in zip(AXES, stored, strict=True)
    )


def _step(stack: xr.DataArray, axis: str, fallback: float, parameter: str) -> float:
    if axis not in stack.coords:
        return fallback
    places = stack[axis].to_numpy()
    if not np.issubdtype(places.dtype, np.number) or not np.isfinite(places).all():
        raise ParameterError(
            parameter,
            f"must have finite numbers as coordinates along {axis}",
            f"{places.dtype}, {places.ravel()[:3]} …",
            f'Use .drop_vars("{axis}") and set attrs["spacing_nm"].',
        )
    if places.size < 2:
        return fallback
    steps = np.diff(places)
    if not np.allclose(steps, steps[0], rtol=1e-3) or steps[0] == 0:
        raise ParameterError(
            parameter,
            f"must be evenly spaced along {axis}",
            f"steps from {steps.min():g} to {steps.max():g} nm",
            "Give the whole stack and name the slices as indices.",
        )
    return abs(float(steps[0]))


def with_spacing(stack: xr.DataArray, spacing: Spacing) -> xr.DataArray:
    """The same stack with another voxel size in nm (z, y, x), its first voxel at 0."""
    coords = {
        axis: step * np.arange(stack.sizes[axis]) for axis, step in zip(AXES, spacing, strict=True)
    }
    made = stack.assign_coords(coords).assign_attrs(unit="nm", spacing_nm=spacing)
    made.attrs.pop("thickness", None)  # which was assumed
    return made


def check_spacing(spacing: Sequence[float], parameter: str = "voxel_size_nm") -> Spacing:
    """Three positive finite numbers, or a `ParameterError`."""
    values = tuple(float(step) for step in spacing)
    if len(values) != 3 or not all(0 < step < np.inf for step in values):
        raise ParameterError(
            parameter,
            "must give a voxel size of three positive numbers in nm (z,y,x)",
            str(values),
            "Give for example 20,10,10.",
        )
    return values
