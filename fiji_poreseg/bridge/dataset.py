"""Datasets, the images of ImageJ2, which only the Fiji engine has."""

from __future__ import annotations

from functools import cache
from typing import Any

import xarray as xr

from fiji_poreseg.bridge import imglib2
from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.stack import AXES, Spacing, make_stack, nm_per, spacing_nm, tidy

# Slowest first, as in a stack.
_LABELS = ("Channel", "Z", "Y", "X")


@cache
def _dataset_class() -> Any:
    try:
        return jclass("net.imagej.Dataset")
    except TypeError:  # the embedded engine is ImageJ 1 alone
        return None


def is_dataset(image: object) -> bool:
    """Tell whether an image is a Dataset."""
    kind = _dataset_class()
    return kind is not None and isinstance(image, kind)


def to_xarray(image: Any, parameter: str) -> xr.DataArray:
    """Take a Dataset as a stack.

    Parameters
    ----------
    image
        Axes X, Y and perhaps Z and Channel, in any order; any other of length 1 is left out.
    parameter
        Name to use in an error.

    Returns
    -------
    xarray.DataArray
        With the Dataset's name, voxel size and origin; its values as `imglib2.values_of` gives
        them, for which they must lie in the order X, Y, Z, Channel to be shared.

    Raises
    ------
    ParameterError
        If it has a time axis or another one, or other types than 8, 16 and 32 bit.
    """
    axes = {str(image.axis(d).type().getLabel()): image.axis(d) for d in range(len(_axes(image)))}
    values = imglib2.values_of(_ordered(image, parameter), parameter)
    spacing, origin = _calibration([axes.get(label) for label in _LABELS[1:]])
    return make_stack(values, spacing, name=str(image.getName() or "stack"), origin_nm=origin)


def _axes(image: Any) -> list[str]:
    return [str(image.axis(d).type().getLabel()) for d in range(image.numDimensions())]


def _ordered(image: Any, parameter: str) -> Any:
    """The image as a view with the axes X, Y and, if there are any, Z and Channel."""
    views = jclass("net.imglib2.view.Views")
    labels = _axes(image)
    view = image.getImgPlus().getImg()
    for label in [label for label in labels if label not in _LABELS]:
        axis = labels.index(label)
        if view.dimension(axis) > 1:
            raise ParameterError(
                parameter,
                "must have the axes X, Y, Z and Channel",
                f"{image.getName()} with {view.dimension(axis)} of {label}",
                "Keep one of them with Image > Crop, or rename the axis in Image > Axes.",
            )
        view = views.hyperSlice(view, axis, view.min(axis))
        labels.remove(label)
    # A channel without slices is a channel of one slice.
    if "Channel" in labels and "Z" not in labels:
        view = views.addDimension(view, 0, 0)
        labels.append("Z")
    for axis, label in enumerate(label for label in reversed(_LABELS) if label in labels):
        other = labels.index(label)
        if other != axis:
            view = views.permute(view, axis, other)
            labels[axis], labels[other] = labels[other], labels[axis]
    return view


def _calibration(axes: list[Any]) -> tuple[Spacing | None, Spacing]:
    """Voxel size and position in nm, z first; no voxel size where one of x and y has none."""
    z_axis, y_axis, x_axis = axes
    sizes = [nm_per(str(axis.unit())) if axis.unit() else None for axis in (y_axis, x_axis)]
    if None in sizes:
        return None, (0.0, 0.0, 0.0)
    steps, starts = [], []
    for axis in (z_axis or x_axis, y_axis, x_axis):
        size = (nm_per(str(axis.unit())) if axis.unit() else None) or sizes[1] or 1.0
        steps.append(tidy(abs(float(axis.averageScale(0, 1))) * size))
        starts.append(tidy(float(axis.calibratedValue(0)) * size))
    if not all(0 < step < float("inf") for step in steps):
        return None, (0.0, 0.0, 0.0)
    return (steps[0], steps[1], steps[2]), (starts[0] if z_axis else 0.0, starts[1], starts[2])


def to_imgplus(stack: xr.DataArray) -> Any:
    """Hand a stack to ImageJ2 without a copy, as an ImgPlus with its axes.

    Parameters
    ----------
    stack
        Dims ``(z, y, x)`` or ``(c, z, y, x)``; see `imglib2.to_imglib2`.

    Returns
    -------
    net.imagej.ImgPlus
        In nm. PyImageJ's ``ij.dataset().create()`` makes a Dataset of it.
    """
    image = imglib2.to_imglib2(stack)
    types, linear = jclass("net.imagej.axis.Axes"), jclass("net.imagej.axis.DefaultLinearAxis")
    unit = str(stack.attrs.get("unit", "nm"))
    axes = [
        linear(getattr(types, axis.upper()), unit, step, float(stack[axis][0]))
        for axis, step in zip(AXES, spacing_nm(stack), strict=True)
    ][::-1]
    if "c" in stack.dims:
        axes.append(linear(types.CHANNEL))
    return jclass("net.imagej.ImgPlus")(image, str(stack.name or "stack"), *axes)
