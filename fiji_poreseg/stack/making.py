"""Stacks and labels made from arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.lazy import lazy_planes
from fiji_poreseg.stack.calibration import AXES, DEFAULT_SPACING_NM, Spacing, check_spacing

DEFAULT_CLASSES = ("pore", "solid")
SLICE_LABEL = "slice_label"
_CALIBRATION = ("unit", "spacing_nm", "source_unit")


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
        coords[SLICE_LABEL] = label_coordinate(slice_labels)
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
        coords[SLICE_LABEL] = label_coordinate(names)
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


def label_coordinate(labels: Sequence[str]) -> tuple[str, npt.NDArray[np.str_]]:
    """Labels of slices, as what `xarray.DataArray.assign_coords` takes for `SLICE_LABEL`."""
    return "z", np.array([str(text) for text in labels], np.str_)
