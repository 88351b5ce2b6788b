"""Which attributes and coordinates of a stack ImageJ has a place for; docs/exchange.md has all."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

import numpy as np
import xarray as xr

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.stack import AXES, SLICE_LABEL, check_not_empty, spacing_nm

# Image properties of ours.
CLASSES = "poreseg_classes"
DETECTORS = "poreseg_detectors"
DESCENDING = "poreseg_descending"
ATTRS = "poreseg_attrs"
# ImageJ keeps a single image's label there, and a label of its own making in its place.
LABEL_OF_ONE = "Slice_Label"
RESERVED = (CLASSES, DETECTORS, DESCENDING, ATTRS, LABEL_OF_ONE)
MODES = ("composite", "color", "grayscale")
_LUT_DIGITS = 2 * 3 * 256
CHANNEL_DIMS = ("c", "class", "channel")


def check_array(stack: object, parameter: str = "image") -> None:
    """Refuse what is no stack, or an empty one.

    Raises
    ------
    ParameterError
        If it is no `xarray.DataArray`, or holds no voxel.
    """
    if not isinstance(stack, xr.DataArray):
        raise ParameterError(
            parameter,
            "must be an xarray.DataArray",
            f"a {type(stack).__name__}",
            "Use fiji_poreseg.make_stack() for an array.",
        )
    check_not_empty(stack, parameter)


def check(channels: xr.DataArray, parameter: str = "image") -> None:
    """Refuse a stack with coordinates or attributes that ImageJ has no place for.

    Parameters
    ----------
    channels
        The stack, dims (c, z, y, x).
    parameter
        Name to use in an error.

    Raises
    ------
    ParameterError
        If a coordinate has no place, an attribute is not of the kind that its place holds, or
        is one that JSON cannot write.
    """
    places = {axis: (axis,) for axis in ("c", *AXES)} | {SLICE_LABEL: ("c", "z")}
    homeless = [
        str(name)
        for name, coordinate in channels.coords.items()
        if not set(coordinate.dims) <= set(places.get(str(name), ())) or name not in places
    ]
    if homeless:
        raise ParameterError(
            parameter,
            "must have no coordinates but z, y, x, c and slice_label, as ImageJ keeps no others",
            f"the coordinates {', '.join(homeless)}",
            "Leave them out with .drop_vars().",
        )
    spacing_nm(channels, parameter)
    as_json("c", detectors(channels), parameter)
    for name, value in others(channels).items():
        as_json(f'attrs["{name}"]', value, parameter)
    for name, (rule, holds) in _PLACES.items():
        if name in channels.attrs and not holds(channels.attrs[name]):
            raise ParameterError(
                parameter,
                f'must have {rule} in attrs["{name}"]',
                repr(channels.attrs[name]),
                "Correct it, or delete it.",
            )


def others(stack: xr.DataArray) -> dict[str, Any]:
    """The attributes without a place of their own, which go to ImageJ as JSON."""
    ours = {*_PLACES, "spacing_nm"}
    return {str(key): value for key, value in stack.attrs.items() if key not in ours}


def detectors(channels: xr.DataArray) -> list[Any] | None:
    """The names of the detectors, if they have any."""
    return channels["c"].to_numpy().tolist() if "c" in channels.coords else None


def as_json(what: str, value: object, parameter: str = "image") -> str:
    """JSON of an attribute or coordinate, or a `ParameterError` that names it."""
    try:
        return json.dumps(value, default=_plain, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            parameter,
            "must have attributes and names of detectors that can be written as JSON, "
            "as ImageJ keeps texts only",
            f"{what} = {value!r}",
            "Make it a text, a number or a list, or leave it out.",
        ) from error


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_flag(value: object) -> bool:
    return isinstance(value, bool | np.bool_)


def _is_range(value: object) -> bool:
    return _are_numbers(value) and len(value) == 2 and value[0] <= value[1]  # type: ignore[arg-type,index]


def _are_numbers(value: object) -> bool:
    return isinstance(value, list | tuple | np.ndarray) and all(
        isinstance(number, Real) and math.isfinite(number) for number in value
    )


def _are_names(value: object) -> bool:
    return isinstance(value, list | tuple) and all(
        isinstance(name, str) and name and "," not in name for name in value
    )


def _are_texts(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(text, str) and name not in RESERVED
        for name, text in value.items()
    )


def _is_table(value: object) -> bool:
    if not isinstance(value, str) or len(value) != _LUT_DIGITS:
        return False
    return set(value) <= set("0123456789abcdef")


def _are_looks(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and set(value) == {"mode", "luts", "ranges"}
        and value["mode"] in MODES
        and all(isinstance(value[key], list | tuple) for key in ("luts", "ranges"))
        and len(value["luts"]) == len(value["ranges"])
        and all(map(_is_table, value["luts"]))
        and all(map(_is_range, value["ranges"]))
    )


def _is_grey_function(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and set(value) == {"function", "coefficients", "unit", "zero_clip"}
        and isinstance(value["function"], int)
        and (value["coefficients"] is None or _are_numbers(value["coefficients"]))
        and _is_text(value["unit"])
        and _is_flag(value["zero_clip"])
    )


_FROM_IMAGEJ = "what to_xarray finds in an ImagePlus"
# What each attribute with a place of its own has to be, in words and as a check.
_PLACES: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "classes": ("names of classes without commas", _are_names),
    "display_range": ("two finite numbers, the lower first,", _is_range),
    "imagej_channels": (_FROM_IMAGEJ, _are_looks),
    "imagej_grey": (_FROM_IMAGEJ, _is_grey_function),
    "imagej_info": ("a text", _is_text),
    "imagej_lut": (f"a look-up table in {_LUT_DIGITS} hexadecimal digits", _is_table),
    "imagej_properties": (f"texts under names other than {', '.join(RESERVED)}", _are_texts),
    "inverting_lut": ("True or False", _is_flag),
    "source_unit": ("a text", _is_text),
    "unit": ("a text", _is_text),
}
