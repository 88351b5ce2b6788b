"""What users call a stack, taken and checked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg.errors import ParameterError, PoreSegWarning
from fiji_poreseg.stack.calibration import (
    AXES,
    Spacing,
    check_spacing,
    known_units,
    nm_per,
    spacing_nm,
    tidy,
    with_spacing,
)
from fiji_poreseg.stack.making import SLICE_LABEL, label_coordinate, make_stack, slice_labels_of
from fiji_poreseg.stack.values import depth_blocks

# Of `attrs["thickness"]`, where a file says how large its pixels are, and no more.
ASSUMED = "assumed"

Converter: TypeAlias = Callable[[object, str], xr.DataArray | None]
_converters: list[Converter] = []


def register_converter(converter: Converter) -> None:
    """Let `as_stack` accept more kinds of objects.

    Parameters
    ----------
    converter
        Is called with the object and the name of the parameter, for its errors; answers with a
        stack, or with None for an object that it does not know.
    """
    _converters.append(converter)


def as_stack(
    image: object,
    *,
    voxel_size_nm: Spacing | None = None,
    nodata: float | None = None,
    parameter: str = "image",
) -> xr.DataArray:
    """Take whatever a user calls a stack and answer with one that is checked.

    Parameters
    ----------
    image
        A DataArray, a numpy or dask array, or anything that a registered converter knows: a
        path, an ImagePlus, an ImgLib2 image. Coordinates of a DataArray count as nm, or as
        what its ``attrs["unit"]`` says.
    voxel_size_nm
        Voxel size in nm (z, y, x) that overrides the image's own.
    nodata
        Grey value of pixels that hold no data, such as the border that alignment leaves.
    parameter
        Name to use in an error.

    Returns
    -------
    xarray.DataArray
        Dims ``("z", "y", "x")`` or ``("c", "z", "y", "x")``, coordinates in nm.

    Raises
    ------
    ParameterError
        If it is no grey-value stack: wrong axes, colours, NaN or infinity, uneven spacing, an
        unknown unit.

    Warns
    -----
    PoreSegWarning
        If the image carries no voxel size.
    """
    stack = to_dataarray(image, parameter)
    if stack.dtype.kind not in "uif":
        raise ParameterError(
            parameter,
            "must hold grey values (8, 16 or 32 bit)",
            f"{stack.dtype} values",
            "Convert it to a grey image first.",
        )
    check_not_empty(stack, parameter)
    if stack.dtype.kind == "f" and (wrong := _count_not_finite(stack)):
        raise ParameterError(
            parameter,
            "must hold finite grey values (no NaN, no infinity)",
            f"{wrong} voxels that are not",
            "Fill them first, for example with 0, and name that value as nodata=0.",
        )
    if voxel_size_nm is not None:
        stack = with_spacing(stack, check_spacing(voxel_size_nm))
    elif stack.attrs.get("unit") != "nm":
        warnings.warn(
            f"{stack.name} has no voxel size: a voxel is taken as 10 nm. "
            "Set Image > Properties in ImageJ, or give voxel_size_nm=z,y,x.",
            PoreSegWarning,
            stacklevel=3,
        )
    elif stack.attrs.get("thickness") == ASSUMED and stack.sizes["z"] > 1:
        warnings.warn(
            f"{stack.name} does not say how thick its slices are: they are taken to be as thick "
            f"as pixels are wide, {spacing_nm(stack)[2]:g} nm. Give voxel_size_nm=z,y,x.",
            PoreSegWarning,
            stacklevel=3,
        )
    elif unknown := _axes_without_size(image):
        warnings.warn(
            f"{stack.name} has no voxel size along {', '.join(unknown)}: a voxel is taken as "
            "10 nm there. Give it coordinates, or voxel_size_nm=z,y,x.",
            PoreSegWarning,
            stacklevel=3,
        )
    height, bar = stack.attrs.get("data_bar", (0, 0))
    if height == stack.sizes["y"]:
        warnings.warn(
            f"{stack.name}: the last {bar} of {height} rows are the microscope's data bar, as the "
            "file says. Cut them off all slices alike, with Image > Crop in ImageJ.",
            PoreSegWarning,
            stacklevel=3,
        )
    if nodata is not None:
        stack = stack.assign_attrs(nodata=nodata)
    spacing_nm(stack)
    return stack


def _count_not_finite(stack: xr.DataArray) -> int:
    blocks = (stack.isel(z=block).to_numpy() for block in depth_blocks(stack))
    return sum(block.size - int(np.count_nonzero(np.isfinite(block))) for block in blocks)


def _axes_without_size(image: object) -> list[str]:
    if not isinstance(image, xr.DataArray) or "spacing_nm" in image.attrs:
        return []
    return [axis for axis in AXES if axis in image.dims and axis not in image.coords]


def check_not_empty(stack: xr.DataArray, parameter: str = "image") -> None:
    """Raise a `ParameterError` where a stack holds no voxel."""
    if 0 in stack.shape:
        raise ParameterError(
            parameter, "must hold at least one voxel", f"shape {stack.shape}", "Give another."
        )


def to_dataarray(image: object, parameter: str = "image") -> xr.DataArray:
    """Turn any image into a DataArray with a stack's dims, its values unchecked.

    Raises
    ------
    ParameterError
        If it is not an image, or its axes are not a stack's.
    """
    if isinstance(image, xr.DataArray):
        return _from_dataarray(image, parameter)
    for converter in _converters:
        converted = converter(image, parameter)
        if converted is not None:
            return converted
    if hasattr(image, "shape") and hasattr(image, "dtype"):
        return make_stack(image)  # type: ignore[arg-type]
    raise ParameterError(
        parameter,
        "must be a stack: a DataArray, an array, a path or an image of ImageJ",
        f"a {type(image).__name__}",
        "Open the image first.",
    )


def _from_dataarray(array: xr.DataArray, parameter: str) -> xr.DataArray:
    if array.dims == ("y", "x"):
        array = array.expand_dims("z")
    if array.dims not in (AXES, ("c", *AXES)):
        raise ParameterError(
            parameter,
            "must have the dims (z, y, x) or (c, z, y, x)",
            f"dims {array.dims}",
            "Use .rename() and .transpose().",
        )
    names = slice_labels_of(array)
    unit = _known_unit(array, parameter)
    present = [axis for axis in AXES if axis in array.coords]
    if not present:
        made = make_stack(
            array.data,
            None if unit == "pixel" else array.attrs.get("spacing_nm"),
            name=str(array.name or "stack"),
            slice_labels=names,
            attrs=dict(array.attrs),
        )
        return made.assign_coords({**array.coords, **made.coords})
    if names is not None and "c" not in array[SLICE_LABEL].dims:
        array = array.assign_coords({SLICE_LABEL: label_coordinate(names)})
    if unit not in ("nm", "pixel"):
        array = array.assign_coords({axis: _in_nm(array[axis], unit) for axis in present})
        array = array.assign_attrs(source_unit=unit)
        unit = "nm"
    spacing = spacing_nm(array, parameter)
    missing = {
        axis: step * np.arange(array.sizes[axis])
        for axis, step in zip(AXES, spacing, strict=True)
        if axis not in present
    }
    return array.assign_coords(missing).assign_attrs(unit=unit, spacing_nm=spacing)


def _known_unit(array: xr.DataArray, parameter: str) -> str:
    """The unit of an array's coordinates: nm if it has none, another known one, or pixel."""
    unit = str(array.attrs.get("unit") or "nm").strip()
    if unit.lower() in ("pixel", "pixels"):
        return "pixel"
    if nm_per(unit) is None:
        raise ParameterError(
            parameter,
            f"must have coordinates in a known unit ({known_units()})",
            f'attrs["unit"] = "{unit}"',
            'Convert its coordinates to nm and set attrs["unit"] = "nm".',
        )
    return unit


def _in_nm(coordinate: xr.DataArray, unit: str) -> npt.NDArray[np.float64]:
    scale = nm_per(unit) or 1.0
    return np.array([tidy(value * scale) for value in coordinate.to_numpy()])


def check_indices(
    indices: Sequence[int], stack: xr.DataArray, parameter: str = "indices"
) -> tuple[int, ...]:
    """Sorted 0-based indices without repetition, each inside the stack, or a `ParameterError`."""
    count = stack.sizes["z"]
    outside = [index for index in indices if not 0 <= index < count]
    if outside or not len(indices):
        raise ParameterError(
            parameter,
            f"must lie from 0 to {count - 1}, since the stack has {count} slices",
            ",".join(map(str, outside)) or "empty",
            "An index is ImageJ's slice number minus 1.",
        )
    return tuple(sorted({int(index) for index in indices}))
