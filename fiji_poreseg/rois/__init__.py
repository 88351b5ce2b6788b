"""Selections of ImageJ (ROIs) as labels, and labels in any other form."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from roifile import ImagejRoi

from fiji_poreseg import labelings
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files import IMAGE_SUFFIXES, PathLike, check_output, write
from fiji_poreseg.rois.coverage import covered
from fiji_poreseg.rois.drawing import LOOK, labels_to_rois, rectangle, without_looks
from fiji_poreseg.rois.painting import painted, rois_to_labels
from fiji_poreseg.rois.places import own_index, own_position, places
from fiji_poreseg.rois.roi_files import ROI_SUFFIXES, read_rois, write_rois
from fiji_poreseg.stack import DEFAULT_CLASSES, as_labels, make_labels, to_dataarray

__all__ = [
    "LABEL_SUFFIXES",
    "LOOK",
    "ROI_SUFFIXES",
    "labels_from",
    "labels_to_rois",
    "painted",
    "read_rois",
    "rectangle",
    "region_from",
    "rois_to_labels",
    "without_looks",
    "write_labels",
    "write_rois",
]

LABEL_SUFFIXES = (*IMAGE_SUFFIXES, ".zip", labelings.SUFFIX)


def write_labels(path: PathLike, labels: xr.DataArray, *, parameter: str = "output") -> None:
    """Write labels for another program, replacing an existing file only whole.

    Parameters
    ----------
    path
        ``.tif``, ``.zarr``: a label image; ``.zip``: ROIs for ImageJ's ROI Manager
        (`labels_to_rois`); ``.labeling``: for Labkit. `labels_from` takes each of them.
    labels
        uint8, dims ``("z", "y", "x")``, 0 unlabelled, ``attrs["classes"]`` set.
    parameter
        Name to use in an error.

    Raises
    ------
    ParameterError
        If the file cannot be written.
    """
    check_output(path, parameter, suffixes=LABEL_SUFFIXES)
    suffix = Path(path).suffix.lower()
    if suffix == ".zip":
        write_rois(path, labels_to_rois(labels), parameter=parameter)
    elif suffix == labelings.SUFFIX:
        labelings.write_labeling(path, labels, parameter=parameter)
    else:
        write(path, labels, parameter=parameter)


def labels_from(
    labels: object,
    stack: xr.DataArray,
    *,
    mask_foreground: str = "solid",
    classes: Sequence[str] = DEFAULT_CLASSES,
    parameter: str = "labels",
    allow_mask: bool = True,
) -> xr.DataArray:
    """Take labels in any form: ROIs, a file of ROIs, or what `fiji_poreseg.stack.as_labels` takes.

    Parameters
    ----------
    labels
        Path of a ``.roi``, ``.zip`` or ``.labeling`` file, a list of `roifile.ImagejRoi`, a label
        image or a mask.
    stack
        The stack that they belong to.
    mask_foreground
        What 255 stands for in a mask: ``"solid"`` or ``"pore"``.
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
        If they do not fit the stack, or label nothing.
    """
    if isinstance(labels, str | os.PathLike):
        suffix = Path(labels).suffix.lower()
        if suffix == labelings.SUFFIX:
            return labelings.read_labeling(labels, stack, classes=classes, parameter=parameter)
        if suffix in ROI_SUFFIXES:
            labels = read_rois(labels, parameter=parameter)
    if isinstance(labels, Sequence) and labels and _all_rois(labels):
        return rois_to_labels(labels, stack, classes=classes, parameter=parameter)
    return as_labels(
        labels,
        stack,
        mask_foreground=mask_foreground,
        classes=classes,
        parameter=parameter,
        allow_mask=allow_mask,
    )


def region_from(region: object, stack: xr.DataArray, *, parameter: str = "roi") -> xr.DataArray:
    """Take a region of interest: ROIs, a file of ROIs, or a mask image.

    Parameters
    ----------
    region
        Path of a ``.roi`` or ``.zip`` file, a list of `roifile.ImagejRoi` (one without a
        position counts in every slice), or an image of the stack's shape or of one slice, whose
        pixels above 0 count.
    stack
        The stack that it belongs to.
    parameter
        Name to use in an error.

    Returns
    -------
    xarray.DataArray
        bool, dims ``("z", "y", "x")``.

    Raises
    ------
    ParameterError
        If it does not fit the stack or holds no pixel.
    """
    if isinstance(region, str | os.PathLike) and Path(region).suffix.lower() in ROI_SUFFIXES:
        region = read_rois(region, parameter=parameter)
    shape = [stack.sizes[axis] for axis in ("z", "y", "x")]
    inside = make_labels(np.zeros(shape, np.uint8), stack)
    if isinstance(region, Sequence) and region and _all_rois(region):
        for where in places(region, parameter):
            slices = range(stack.sizes["z"])
            everywhere = own_position(where.roi, stack.sizes.get("c", 1)) < 1
            for index in slices if everywhere else [own_index(where, stack)]:
                patch = covered(where, (inside.sizes["y"], inside.sizes["x"]))
                inside.data[index][patch.rows, patch.columns][patch.covered] = 1
        return _some_of(inside > 0, parameter)
    mask = to_dataarray(region, parameter)
    if mask.shape not in (inside.shape, (1, *inside.shape[1:])):
        raise ParameterError(
            parameter,
            f"must have the shape of the segmentation, {inside.shape}, or of one slice",
            f"shape {mask.shape}",
            "Give the mask that belongs to it.",
        )
    return _some_of(inside.copy(data=np.broadcast_to(mask.to_numpy() > 0, inside.shape)), parameter)


def _some_of(region: xr.DataArray, parameter: str) -> xr.DataArray:
    if not region.any():
        raise ParameterError(
            parameter,
            "must hold at least one pixel of the image",
            "an empty region",
            "Check that it belongs to this image.",
        )
    return region


def _all_rois(items: Iterable[object]) -> bool:
    return all(isinstance(item, ImagejRoi) for item in items)
