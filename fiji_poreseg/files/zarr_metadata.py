"""What an OME-Zarr of version 0.5 says of a stack."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from fiji_poreseg.colours import LABEL_COLOURS
from fiji_poreseg.stack import AXES, shown_range, slice_labels_of, spacing_nm

# Smaller copies are made until a slice is no larger than this.
_SMALLEST = 512


class Level(NamedTuple):
    """A copy of an image: its array, its shape, and by how much it is smaller along each axis."""

    path: str
    shape: tuple[int, ...]
    factors: tuple[int, ...]


def levels_of(image: xr.DataArray) -> list[Level]:
    """The image and its smaller copies, each half as large.

    Parameters
    ----------
    image
        Dims ``("z", "y", "x")``, perhaps with one before. As long as voxels are thicker than they
        are wide, z stays as it is.
    """
    step = spacing_nm(image)
    shape, factors = image.shape, (1,) * image.ndim
    levels = [Level("0", shape, factors)]
    while max(shape[-2:]) > _SMALLEST and min(shape[-2:]) > 1:
        is_thick = step[0] * factors[-3] > 1.5 * step[2] * factors[-1]
        depth = 1 if is_thick or shape[-3] == 1 else 2
        halved = (*(1,) * (image.ndim - 3), depth, 2, 2)
        shape = tuple(length // by for length, by in zip(shape, halved, strict=True))
        factors = tuple(so_far * by for so_far, by in zip(factors, halved, strict=True))
        levels.append(Level(str(len(levels)), shape, factors))
    return levels


def describe(
    image: xr.DataArray, levels: Sequence[Level], dtype: np.dtype[Any], *, inside: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make the metadata of an image.

    Parameters
    ----------
    image
        A stack, labels or a probability.
    levels
        From `levels_of`.
    dtype
        Data type in the arrays.
    inside
        Whether it is labels inside the image that they belong to.

    Returns
    -------
    tuple of dict
        What OME-Zarr has a place for, and what it has none for.
    """
    classes = tuple(image.attrs.get("classes", ()))
    is_labels = bool(classes) and dtype == np.uint8
    shown = shown_range(image, look=isinstance(image.data, np.ndarray))
    metadata: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [
            {
                "name": str(image.name),
                "axes": _axes(image),
                "datasets": [_dataset(image, level, is_labels) for level in levels],
                "type": "nearest" if is_labels else "mean",
            }
        ],
    }
    if is_labels:
        metadata["image-label"] = _image_label(classes, inside=inside)
    elif shown is not None:
        metadata["omero"] = {"channels": _channels(image, shown, dtype)}
    ours = {
        "source_unit": image.attrs.get("source_unit"),
        "slice_labels": slice_labels_of(image),
        "display_range": shown,
        "info": image.attrs.get("imagej_info"),
        "classes": classes or None,
        "channels": _names(image) or None,
    }
    # As it is read again.
    return json.loads(json.dumps(metadata)), json.loads(
        json.dumps({key: value for key, value in ours.items() if value is not None})
    )


def _is_calibrated(image: xr.DataArray) -> bool:
    return bool(image.attrs.get("unit", "nm") != "pixel")


def _axes(image: xr.DataArray) -> list[dict[str, str]]:
    unit = {"unit": "nanometer"} if _is_calibrated(image) else {}
    axes = [{"name": axis, "type": "space", **unit} for axis in AXES]
    return [{"name": "c", "type": "channel"}, *axes] if image.ndim == 4 else axes


def _dataset(image: xr.DataArray, level: Level, is_labels: bool) -> dict[str, Any]:
    is_calibrated = _is_calibrated(image)
    step = spacing_nm(image) if is_calibrated else (1.0, 1.0, 1.0)
    scale = [size * by for size, by in zip(step, level.factors[-3:], strict=True)]
    # A mean lies in the middle of its voxels, a label at the first of them.
    moved = [
        (float(image[axis][0]) if is_calibrated else 0.0)
        + (0.0 if is_labels else (large - small) / 2)
        for axis, large, small in zip(AXES, scale, step, strict=True)
    ]
    several = image.ndim == 4
    transforms: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0] * several + scale}]
    if any(moved):
        transforms.append({"type": "translation", "translation": [0.0] * several + moved})
    return {"path": level.path, "coordinateTransformations": transforms}


def _image_label(classes: Sequence[str], *, inside: bool) -> dict[str, Any]:
    numbers = range(1, len(classes) + 1)
    return {
        "colors": [
            {"label-value": number, "rgba": [*LABEL_COLOURS[number].tolist(), 255]}
            for number in numbers
        ],
        "properties": [
            {"label-value": number, "class": name}
            for number, name in zip(numbers, classes, strict=True)
        ],
        **({"source": {"image": "../../"}} if inside else {}),
    }


def _channels(
    image: xr.DataArray, shown: tuple[float, float], dtype: np.dtype[Any]
) -> list[dict[str, Any]]:
    """How viewers show the channels."""
    low, high = shown
    darkest, brightest = (0.0, 1.0) if dtype.kind == "f" else (0.0, float(np.iinfo(dtype).max))
    window = {"start": low, "end": high, "min": min(darkest, low), "max": max(brightest, high)}
    shared: dict[str, Any] = {"window": window, "color": "FFFFFF", "active": True}
    return [{**shared, "label": name} for name in _names(image)] or [shared]


def _names(image: xr.DataArray) -> list[str]:
    """What the detectors or classes are called, or their numbers; nothing where there is one."""
    return [str(name) for name in image[image.dims[0]].to_numpy()] if image.ndim == 4 else []
