"""What a stack, labels and a segmentation are: make them, check them, measure them.

A stack is an `xarray.DataArray` with dims ``("z", "y", "x")``, or ``("c", "z", "y", "x")`` for
several detectors, and coordinates in nm; where its slices have labels, as in ImageJ, they are
the coordinate ``slice_label`` along z (along c and z where the detectors have labels of their
own), so that they stay with their slices. Names of the detectors are the coordinate ``c``.

Labels and segmentations are ``uint8``: 0 unlabelled (or no data), 1 pore, 2 solid, 3 and up
further classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr
from skimage.measure import label
from skimage.segmentation import clear_border

from fiji_poreseg.errors import ParameterError, PoreSegWarning
from fiji_poreseg.lazy import lazy_planes

Spacing: TypeAlias = tuple[float, float, float]

UNLABELLED, PORE, SOLID = 0, 1, 2
DEFAULT_CLASSES = ("pore", "solid")
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
    "microns": 1e3,
    "micrometer": 1e3,
    "micrometre": 1e3,
    "picometer": 1e-3,
    "mm": 1e6,
    "millimeter": 1e6,
    "cm": 1e7,
    "centimeter": 1e7,
    "m": 1e9,
    "meter": 1e9,
}
AXES = ("z", "y", "x")
SLICE_LABEL = "slice_label"
# Of `attrs["thickness"]`, where a file says how large its pixels are, and no more.
ASSUMED = "assumed"
_CALIBRATION = ("unit", "spacing_nm", "source_unit")

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


def make_stack(
    values: npt.ArrayLike,
    spacing_nm: Spacing | None = None,
    *,
    name: str = "stack",
    origin_nm: Spacing = (0.0, 0.0, 0.0),
    slice_labels: Sequence[str] | None = None,
    attrs: dict[str, Any] | None = None,
) -> xr.DataArray:
    """Make a stack from an array.

    Parameters
    ----------
    values
        Grey values, shape (z, y, x), (c, z, y, x) or (y, x); numpy or dask; unsigned 8 or 16
        bit or 32-bit float.
    spacing_nm
        Voxel size in nm (z, y, x). None for a stack without calibration: a voxel then counts
        as 10 nm and ``attrs["unit"]`` is ``"pixel"``.
    name
        Title of the image.
    origin_nm
        Position of the first voxel in nm (z, y, x).
    slice_labels
        A label for each slice, as in ImageJ, for the coordinate ``slice_label``.
    attrs
        Further attributes, kept as they are.

    Returns
    -------
    xarray.DataArray
        The stack, sharing the memory of `values`.

    Raises
    ------
    ParameterError
        If the shape, the voxel size or the number of labels is impossible.
    """
    array: Any = values if hasattr(values, "ndim") else np.asarray(values)
    if array.ndim == 2:
        array = array[np.newaxis]
    if array.ndim not in (3, 4):
        raise ParameterError(
            "image",
            "must have the axes z, y, x (or c, z, y, x)",
            f"an array of shape {array.shape}",
            "Give one grey value per voxel.",
        )
    spacing = DEFAULT_SPACING_NM if spacing_nm is None else check_spacing(spacing_nm)
    kept = {
        **(attrs or {}),
        "unit": "pixel" if spacing_nm is None else "nm",
        "spacing_nm": spacing,
    }
    shape = array.shape[-3:]
    coords: dict[str, Any] = {
        axis: start + step * np.arange(count)
        for axis, start, step, count in zip(AXES, origin_nm, spacing, shape, strict=True)
    }
    if slice_labels is not None:
        if len(slice_labels) != shape[0]:
            raise ParameterError(
                "slice_labels",
                f"must have one label for each of the {shape[0]} slices",
                f"{len(slice_labels)} labels",
                "Give as many labels as slices.",
            )
        coords[SLICE_LABEL] = _label_coordinate(slice_labels)
    dims = AXES if array.ndim == 3 else ("c", *AXES)
    return xr.DataArray(array, dims=dims, coords=coords, name=name, attrs=kept)


def make_labels(
    values: npt.ArrayLike,
    like: xr.DataArray,
    *,
    name: str | None = None,
    classes: Sequence[str] = DEFAULT_CLASSES,
) -> xr.DataArray:
    """Make labels or a segmentation that lie on the voxels of a stack.

    Parameters
    ----------
    values
        Class numbers, shape (z, y, x), numpy or dask, cast to uint8.
    like
        The stack; its calibration and slice labels are taken over.
    name
        Title; the stack's name by default.
    classes
        Names of the classes 1, 2, and so on.

    Returns
    -------
    xarray.DataArray
        uint8, dims ``("z", "y", "x")``, ``attrs["classes"]`` set.
    """
    array: Any = values if hasattr(values, "ndim") else np.asarray(values)
    grid = like.isel(c=0, drop=True) if "c" in like.dims else like
    coords: dict[str, Any] = {axis: grid[axis] for axis in AXES}
    names = slice_labels_of(like)
    if names is not None:
        coords[SLICE_LABEL] = _label_coordinate(names)
    kept = {key: like.attrs[key] for key in _CALIBRATION if key in like.attrs}
    return xr.DataArray(
        array.astype(np.uint8, copy=False),
        dims=AXES,
        coords=coords,
        name=name or like.name,
        attrs={**kept, "classes": tuple(classes)},
    )


def labels_of_slices(
    planes: Mapping[int, npt.NDArray[np.uint8]],
    like: xr.DataArray,
    *,
    classes: Sequence[str] = DEFAULT_CLASSES,
) -> xr.DataArray:
    """Make labels of a few slices, without memory for the others.

    Parameters
    ----------
    planes
        By the 0-based slice: class numbers, shape (y, x).
    like, classes
        As for `make_labels`.

    Returns
    -------
    xarray.DataArray
        As from `make_labels`, lazy.
    """
    shape = tuple(like.sizes[axis] for axis in AXES)
    nothing = np.zeros(shape[1:], np.uint8)
    lazy = lazy_planes(lambda index: planes.get(index, nothing), shape, np.uint8)
    return make_labels(lazy, like, name="labels", classes=classes)


def slice_labels_of(stack: xr.DataArray) -> tuple[str, ...] | None:
    """The label of each slice, empty where one has none; None if the stack has no labels.

    Where the detectors have labels of their own, those of the first.
    """
    labels = stack.coords.get(SLICE_LABEL)
    if labels is not None and "c" in labels.dims:
        labels = labels.isel(c=0)
    if labels is None or not set(labels.dims) <= {"z"}:
        return None
    # A slice taken out of a stack keeps its label without the axis.
    return tuple(str(text) for text in np.atleast_1d(labels.to_numpy()))


def _label_coordinate(labels: Sequence[str]) -> tuple[str, npt.NDArray[np.str_]]:
    return "z", np.array([str(text) for text in labels], np.str_)


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
    if 0 in stack.shape:
        raise ParameterError(
            parameter, "must hold at least one voxel", f"shape {stack.shape}", "Open another."
        )
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


def _depth_blocks(stack: xr.DataArray) -> Iterator[slice]:
    """Cut z into single slices, or a lazy stack into its chunks, so that each is read once."""
    start = 0
    for depth in stack.chunksizes.get("z", (1,) * stack.sizes["z"]):
        yield slice(start, start + depth)
        start += depth


def _count_not_finite(stack: xr.DataArray) -> int:
    blocks = (stack.isel(z=block).to_numpy() for block in _depth_blocks(stack))
    return sum(block.size - int(np.count_nonzero(np.isfinite(block))) for block in blocks)


def _axes_without_size(image: object) -> list[str]:
    if not isinstance(image, xr.DataArray) or "spacing_nm" in image.attrs:
        return []
    return [axis for axis in AXES if axis in image.dims and axis not in image.coords]


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
            array.attrs.get("spacing_nm"),
            name=str(array.name or "stack"),
            slice_labels=names,
            attrs=dict(array.attrs),
        )
        return made.assign_coords({**array.coords, **made.coords})
    if names is not None and "c" not in array[SLICE_LABEL].dims:
        array = array.assign_coords({SLICE_LABEL: _label_coordinate(names)})
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
            f"must have coordinates in a known unit ({', '.join(_NM_PER_UNIT)})",
            f'attrs["unit"] = "{unit}"',
            'Convert its coordinates to nm and set attrs["unit"] = "nm".',
        )
    return unit


def _in_nm(coordinate: xr.DataArray, unit: str) -> npt.NDArray[np.float64]:
    scale = nm_per(unit) or 1.0
    return np.array([tidy(value * scale) for value in coordinate.to_numpy()])


def nm_per(unit: str) -> float | None:
    """How many nm a unit of length is long, in any way that ImageJ writes it; None if unknown."""
    name = unit.strip()
    # ImageJ itself takes a bare A for Å.
    return 0.1 if name == "A" else _NM_PER_UNIT.get(name.lower())


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
        If slices or pixels are not evenly spaced.
    """
    stored = stack.attrs.get("spacing_nm", DEFAULT_SPACING_NM)
    return tuple(  # type: ignore[return-value]
        _step(stack, axis, float(fallback), parameter)
        for axis, fallback in zip(AXES, stored, strict=True)
    )


def _step(stack: xr.DataArray, axis: str, fallback: float, parameter: str) -> float:
    if axis not in stack.coords or stack.sizes.get(axis, 1) < 2:
        return fallback
    steps = np.diff(stack[axis].to_numpy())
    if not np.allclose(steps, steps[0], rtol=1e-3) or steps[0] == 0:
        raise ParameterError(
            parameter,
            f"must be evenly spaced along {axis}",
            f"steps from {steps.min():g} to {steps.max():g} nm",
            "Give the whole stack and name the slices as indices.",
        )
    return abs(float(steps[0]))


def shown_range(stack: xr.DataArray, *, look: bool = True) -> tuple[float, float] | None:
    """Which grey values ImageJ is to show as black and as white.

    Parameters
    ----------
    stack
        A stack, labels or a probability.
    look
        Whether its values may be read to find out.

    Returns
    -------
    tuple of float or None
        ``attrs["display_range"]`` if it has one; 0 to 255 for labels, whose colours another
        range would stretch, and for other 8-bit images; 0 to 1 for floating point within it;
        else the lowest and the highest finite value. None where that would take a look.
    """
    is_labels = stack.dtype == np.uint8 and "classes" in stack.attrs
    given = None if is_labels else stack.attrs.get("display_range")
    if given is not None:
        return float(given[0]), float(given[1])
    if stack.dtype == np.uint8:
        return 0.0, 255.0
    limits = [
        (float(finite.min()), float(finite.max()))
        for block in (_depth_blocks(stack) if look else ())
        for values in [stack.isel(z=block).to_numpy()]
        if (finite := values[np.isfinite(values)]).size
    ]
    if not limits:
        return None
    low, high = min(low for low, _ in limits), max(high for _, high in limits)
    return (0.0, 1.0) if stack.dtype.kind == "f" and low >= 0 and high <= 1 else (low, high)


def with_spacing(stack: xr.DataArray, spacing: Spacing) -> xr.DataArray:
    """The same stack with another voxel size in nm (z, y, x), its first voxel at 0."""
    coords = {
        axis: step * np.arange(stack.sizes[axis]) for axis, step in zip(AXES, spacing, strict=True)
    }
    return stack.assign_coords(coords).assign_attrs(unit="nm", spacing_nm=spacing)


def check_spacing(spacing: Sequence[float]) -> Spacing:
    """Three positive finite numbers, or a `ParameterError`."""
    values = tuple(float(step) for step in spacing)
    if len(values) != 3 or not all(0 < step < np.inf for step in values):
        raise ParameterError(
            "voxel_size_nm",
            "must be three positive numbers in nm (z,y,x)",
            str(values),
            "Give for example 20,10,10.",
        )
    return values


def check_indices(indices: Sequence[int], stack: xr.DataArray) -> tuple[int, ...]:
    """Sorted 0-based indices without repetition, each inside the stack, or a `ParameterError`."""
    count = stack.sizes["z"]
    outside = [index for index in indices if not 0 <= index < count]
    if outside or not len(indices):
        raise ParameterError(
            "indices",
            f"must lie from 0 to {count - 1}, since the stack has {count} slices",
            ",".join(map(str, outside)) or "empty",
            "An index is ImageJ's slice number minus 1.",
        )
    return tuple(sorted({int(index) for index in indices}))


def valid_pixels(plane: npt.NDArray[Any], nodata: float | None) -> npt.NDArray[np.bool_]:
    """Where a slice holds data.

    Parameters
    ----------
    plane
        One slice, shape (y, x).
    nodata
        The grey value that stands for no data, or None. Only areas of it that touch the edge
        of the slice count: inside, a pore may be as dark.

    Returns
    -------
    numpy.ndarray
        bool, shape (y, x).
    """
    if nodata is None:
        return np.ones(plane.shape, bool)
    empty: npt.NDArray[np.bool_] = plane == nodata
    if not empty.any():
        return ~empty
    inner: npt.NDArray[np.bool_] = clear_border(label(empty, connectivity=1)) > 0
    return ~empty | inner


def as_labels(
    labels: object,
    stack: xr.DataArray,
    *,
    mask_foreground: str = "solid",
    classes: Sequence[str] = DEFAULT_CLASSES,
    parameter: str = "labels",
    allow_mask: bool = True,
) -> xr.DataArray:
    """Take whatever a user calls labels and answer with checked labels on the stack's voxels.

    Parameters
    ----------
    labels
        Label image (0 unlabelled, 1 pore, 2 solid, …) or ImageJ mask (values 0 and 255), as
        anything that `as_stack` takes, shape (z, y, x) of the stack.
    stack
        The stack that they belong to.
    mask_foreground
        What 255 stands for in a mask: ``"solid"`` or ``"pore"``. A mask with an inverting
        look-up table (``attrs["inverting_lut"]``) is turned round first.
    classes
        Names of the classes 1, 2, and so on.
    parameter
        Name to use in an error.
    allow_mask
        Whether a mask may be given, where every pixel counts as labelled.

    Returns
    -------
    xarray.DataArray
        uint8, dims ``("z", "y", "x")``; ``attrs["dense"]`` says that a mask was given.

    Raises
    ------
    ParameterError
        If the shape differs, a value is no class, a mask is not allowed or nothing is labelled.
    """
    given = to_dataarray(labels, parameter)
    expected = tuple(stack.sizes[axis] for axis in AXES)
    if given.shape != expected:
        raise ParameterError(
            parameter,
            f"must have the shape of the stack, {expected} (z, y, x)",
            f"shape {given.shape}",
            "Leave slices without labels at 0; crop or resize nothing.",
        )
    values, found = _read_labels(given)
    dense = found[-1] == 255 and set(found.tolist()) <= {0, 255}
    if dense:
        if not allow_mask:
            raise ParameterError(
                parameter,
                "must be a label image (0 leave, 1 pore, 2 solid) or ROIs",
                "a mask of 0 and 255, in which what is to be left alone cannot be told",
                "Convert it, or draw ROIs.",
            )
        inverted = bool(given.attrs.get("inverting_lut", False))
        values = _from_mask(values, bright_is_solid=(mask_foreground == "solid") != inverted)
    elif found[0] < 0 or found[-1] > len(classes) or not np.array_equal(found, np.round(found)):
        raise ParameterError(
            parameter,
            f"must hold 0 (unlabelled) to {len(classes)} ({', '.join(classes)}), or 0 and 255",
            f"values {', '.join(f'{value:g}' for value in found[:8])}",
            "Renumber the image, or name all classes with classes=pore,solid,….",
        )
    if not dense and not found.any():
        raise ParameterError(
            parameter,
            "must label at least one pixel",
            "0 everywhere",
            "Paint 1 for pore and 2 for solid, or draw ROIs.",
        )
    made = make_labels(values, stack, name=str(given.name), classes=classes)
    return made.assign_attrs(dense=bool(dense))


def _read_labels(given: xr.DataArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """The labels as uint8, the array itself if it is that, and all values that occur, sorted."""
    shared = given.dtype == np.uint8 and isinstance(given.data, np.ndarray)
    values = given.data if shared else np.empty(given.shape, np.uint8)
    found = np.empty(0)
    for block in _depth_blocks(given):
        part = given.data[block] if shared else given.isel(z=block).to_numpy()
        for plane in part:
            is_small = plane.dtype == np.uint8  # counting is much faster than sorting
            here = np.flatnonzero(np.bincount(plane.ravel())) if is_small else np.unique(plane)
            found = np.union1d(found, here.astype(float))
        if not shared:
            # What does not fit is refused by its value in `found`.
            with np.errstate(invalid="ignore"):
                values[block] = part
    return values, found


def _from_mask(values: npt.NDArray[np.uint8], bright_is_solid: bool) -> npt.NDArray[np.uint8]:
    made = np.empty_like(values)
    for plane, result in zip(values, made, strict=True):
        result[:] = np.where((plane == 255) == bright_is_solid, np.uint8(SOLID), np.uint8(PORE))
    return made


def check_two_classes(found: Sequence[int], classes: Sequence[str]) -> None:
    """Refuse labels of fewer than two classes."""
    if len(found) < 2:
        names = ", ".join(classes[value - 1] for value in found) or "nothing"
        raise ParameterError(
            "labels",
            "must label at least two classes in the slices trained on",
            f"only {names}",
            "Paint some of the other class, or name other slices in indices.",
        )
