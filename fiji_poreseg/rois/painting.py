"""ROIs painted as labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr
from roifile import ROI_TYPE, ImagejRoi

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.rois.coverage import Patch, coordinates, covered, points_patch
from fiji_poreseg.rois.drawing import without_looks
from fiji_poreseg.rois.places import (
    Place,
    index_of,
    label_of,
    own_index,
    own_position,
    places,
    slice_of,
)
from fiji_poreseg.stack import DEFAULT_CLASSES, make_labels


def rois_to_labels(
    rois: Iterable[ImagejRoi],
    stack: xr.DataArray,
    *,
    classes: Sequence[str] = DEFAULT_CLASSES,
    parameter: str = "labels",
) -> xr.DataArray:
    """Paint ROIs as labels; see `painted`.

    Parameters
    ----------
    rois, stack, classes, parameter
        As there.

    Returns
    -------
    xarray.DataArray
        uint8, dims ``("z", "y", "x")``, 0 where no ROI is.

    Raises
    ------
    ParameterError
        As there, or if no pixel is covered.
    """
    values = np.zeros(tuple(stack.sizes[axis] for axis in ("z", "y", "x")), np.uint8)
    for index, plane in painted(rois, stack, classes=classes, parameter=parameter).items():
        values[index] = plane
    if not values.any():
        raise ParameterError(
            parameter,
            "must cover at least one pixel of the stack",
            "ROIs that lie outside the image, that suggest marked to look at, or none",
            "Check that they belong to this stack; draw your own where suggest points.",
        )
    return make_labels(values, stack, classes=classes).assign_attrs(dense=False, painted=True)


def painted(
    rois: Iterable[ImagejRoi],
    stack: xr.DataArray,
    *,
    classes: Sequence[str] = DEFAULT_CLASSES,
    parameter: str = "labels",
) -> dict[int, npt.NDArray[np.uint8]]:
    """Paint ROIs as labels, slice by slice.

    The label is the ROI's group, else the class whose name the ROI has (ImageJ's ``-1``,
    ``-2`` after it do not matter). The slice is the ROI's position, counted from 1; in a
    hyperstack its position along z, or along t where the slices were taken for time points.
    Later ROIs cover earlier ones. Parts outside the image, and the regions to look at that
    `suggest` gave, are left out.

    Parameters
    ----------
    rois
        Any kind of selection but text and pasted images. Lines are as wide as their stroke, at
        least one pixel; each point is one pixel.
    stack
        The stack on which they were drawn.
    classes
        Names of the classes 1, 2, and so on.
    parameter
        Name to use in an error.

    Returns
    -------
    dict
        By the index of each slice that a ROI touches: uint8, shape (y, x), 0 where none is.

    Raises
    ------
    ParameterError
        If a ROI has no class or no slice, lies outside the stack's slices, or is a text or an
        image.
    """
    planes: dict[int, npt.NDArray[np.uint8]] = {}
    for where in places(without_looks(rois), parameter):
        label = label_of(where, classes)
        for index, patch in _patches(where, stack):
            blank = np.zeros((stack.sizes["y"], stack.sizes["x"]), np.uint8)
            plane = planes.setdefault(index, blank)
            plane[patch.rows, patch.columns][patch.covered] = label
    return planes


def _patches(where: Place, stack: xr.DataArray) -> Iterator[tuple[int, Patch]]:
    """Give the index of each slice that the ROI touches, and what it covers there."""
    shape = (stack.sizes["y"], stack.sizes["x"])
    channels = stack.sizes.get("c", 1)
    positions = where.roi.counter_positions
    if where.roi.roitype != ROI_TYPE.POINT or positions is None or not positions.any():
        yield own_index(where, stack), covered(where, shape)
        return
    # The points of one multi-point selection may lie in different slices.
    own = own_position(where.roi, channels)
    for point, position in zip(coordinates(where), positions, strict=True):
        number = slice_of(int(position), channels) if position else own
        yield index_of(where, number, stack), points_patch(point[np.newaxis], shape)
