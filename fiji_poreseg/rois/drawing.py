"""ROIs that are made here, for ImageJ."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import xarray as xr
from roifile import ROI_TYPE, ImagejRoi
from skimage.measure import find_contours

LOOK = "look at "
"""How the names of regions begin that `suggest` gives: they are no labels."""


def labels_to_rois(labels: xr.DataArray) -> list[ImagejRoi]:
    """Labels as ROIs: for each slice and class one selection, with holes where it has some.

    Parameters
    ----------
    labels
        uint8, dims ``("z", "y", "x")``, 0 unlabelled, ``attrs["classes"]`` set.

    Returns
    -------
    list of roifile.ImagejRoi
        Painted, they cover the same pixels. Group and name are the class, the position is the
        slice, counted from 1.
    """
    names = labels.attrs["classes"]
    return [
        _selection(plane == label, index, label, names[label - 1])
        for index, plane in enumerate(labels.to_numpy())
        for label in np.unique(plane[plane > 0]).tolist()
    ]


def _selection(mask: npt.NDArray[np.bool_], index: int, label: int, name: str) -> ImagejRoi:
    """A composite selection round the pixels of a mask."""
    path: list[float] = []
    # Contours run half-way between pixels, whose middles lie at half numbers in a selection.
    for contour in find_contours(np.pad(mask, 1).astype(np.float32), 0.5):
        for number, (row, column) in enumerate(_corners(contour[:-1] - 0.5).tolist()):
            path += (min(number, 1), column, row)
        path.append(4)
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return ImagejRoi(
        roitype=ROI_TYPE.RECT,
        top=rows[0],
        left=columns[0],
        bottom=rows[-1] + 1,
        right=columns[-1] + 1,
        shape_roi_size=len(path),
        multi_coordinates=np.array(path, np.float32),
        position=index + 1,
        group=label,
        name=name,
    )


def _corners(points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Those points of a closed contour where its direction changes."""
    before, after = points - np.roll(points, 1, axis=0), np.roll(points, -1, axis=0) - points
    turns: npt.NDArray[np.bool_] = (before != after).any(axis=1)
    return points[turns]


def rectangle(index: int, x: int, y: int, width: int, height: int, name: str) -> ImagejRoi:
    """A rectangle, corner and sides in pixels, in slice `index`."""
    return ImagejRoi(
        roitype=ROI_TYPE.RECT,
        top=y,
        left=x,
        bottom=y + height,
        right=x + width,
        position=index + 1,
        name=name,
    )


def without_looks(rois: Iterable[ImagejRoi]) -> list[ImagejRoi]:
    """ROIs but for the regions to look at that `suggest` gave."""
    return [roi for roi in rois if not roi.name.startswith(LOOK)]
