"""Selections of ImageJ (ROIs) as labels, by ImageJ's own rules of which pixels they cover.

For areas, pixel (0, 0) reaches from the point (0, 0) to (1, 1). They cover the pixels whose
centres lie inside; a centre on the left or upper edge is outside, on the right or lower edge
inside. For lines and points, whole numbers are the middle of a pixel.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
from roifile import ROI_SUBTYPE, ROI_TYPE, ImagejRoi
from skimage.draw import line
from skimage.measure import find_contours

from fiji_poreseg import labelings
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files import (
    DAMAGE_ERRORS,
    IMAGE_SUFFIXES,
    PathLike,
    check_output,
    existing_file,
    log_records,
    replacing,
    write,
)
from fiji_poreseg.stack import DEFAULT_CLASSES, as_labels, make_labels, to_dataarray

Points = npt.NDArray[np.float64]
"""Corners or points in pixels, shape (n, 2), x before y."""

LOOK = "look at "
"""How the names of regions begin that `suggest` gives: they are no labels."""
ROI_SUFFIXES = (".roi", ".zip")
LABEL_SUFFIXES = (*IMAGE_SUFFIXES, ".zip", labelings.SUFFIX)
_MOST_ENTRIES = 100_000
_MOST_BYTES = 64 * 2**20
_FARTHEST = 1e6
_LINES = (ROI_TYPE.LINE, ROI_TYPE.POLYLINE, ROI_TYPE.FREELINE, ROI_TYPE.ANGLE)
_AREAS = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
# Numbers that follow each operation of a path: move, line, quadratic and cubic curve, close.
_PATH_NUMBERS = (2, 2, 4, 6, 0)
# A curve is cut into so many straight pieces.
_CURVE_STEPS = np.linspace(0, 1, 33)[1:, np.newaxis]


def read_rois(path: PathLike, *, parameter: str = "labels") -> list[ImagejRoi]:
    """Read ROIs from a ``.roi`` file or a ``.zip`` of the ROI Manager.

    Nothing of a zip is written to disk, and it may hold at most 100,000 entries and 64 MiB.

    Parameters
    ----------
    path
        The file.
    parameter
        Name to use in an error.

    Returns
    -------
    list of roifile.ImagejRoi
        In the order of the file.

    Raises
    ------
    ParameterError
        If the file is missing, damaged, too large, or holds no ROI.
    """
    file = existing_file(path, parameter)
    try:
        with log_records("roifile") as records:
            packed = zipfile.is_zipfile(file)
            contents = _unpack(file, parameter) if packed else [_read_bounded(file, parameter)]
            rois = [ImagejRoi.frombytes(content) for content in contents]
    except ParameterError:
        raise
    except DAMAGE_ERRORS as error:
        raise _damaged(file, parameter) from error
    if records:
        raise _damaged(file, parameter)
    if not rois:
        raise ParameterError(
            parameter,
            "must hold at least one ROI",
            f"{file}, a zip without .roi entries",
            "Save with More > Save in ImageJ's ROI Manager.",
        )
    return rois


def write_rois(path: PathLike, rois: Iterable[ImagejRoi], *, parameter: str = "output") -> None:
    """Write ROIs to a ``.zip`` for ImageJ's ROI Manager, replacing an existing one only whole."""
    with (
        replacing(path, parameter) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for number, roi in enumerate(rois, 1):
            archive.writestr(f"{number:05d}.roi", roi.tobytes())


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
        for number, (row, column) in enumerate((contour[:-1] - 0.5).tolist()):
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
            "ROIs that lie outside the image, or none",
            "Check that they belong to this stack.",
        )
    return make_labels(values, stack, classes=classes).assign_attrs(dense=False)


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
    for where in _places(without_looks(rois), parameter):
        label = _label(where, classes)
        for index, patch in _patches(where, stack):
            blank = np.zeros((stack.sizes["y"], stack.sizes["x"]), np.uint8)
            plane = planes.setdefault(index, blank)
            plane[patch.rows, patch.columns][patch.covered] = label
    return planes


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
        for where in _places(region, parameter):
            slices = range(stack.sizes["z"])
            everywhere = _own_position(where.roi, stack.sizes.get("c", 1)) < 1
            for index in slices if everywhere else [_own_index(where, stack)]:
                patch = _covered(where, (inside.sizes["y"], inside.sizes["x"]))
                inside.data[index][patch.rows, patch.columns][patch.covered] = 1
        return _some_of(inside > 0, parameter)
    mask = to_dataarray(region, parameter)
    if mask.shape[-2:] != inside.shape[1:] or mask.shape[0] not in (1, inside.shape[0]):
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


# Files


def _unpack(file: Path, parameter: str) -> list[bytes]:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if len(entries) > _MOST_ENTRIES:
            raise _too_large(file, parameter, f"{len(entries)} entries")
        contents = []
        left = _MOST_BYTES
        for entry in entries:
            if not entry.filename.lower().endswith(".roi"):
                continue
            # The size that the entry claims may be a lie, so count what comes out.
            with archive.open(entry) as stream:
                content = stream.read(left + 1)
            left -= len(content)
            if left < 0:
                raise _too_large(file, parameter, "more once unpacked")
            contents.append(content)
    return contents


def _read_bounded(file: Path, parameter: str) -> bytes:
    if file.stat().st_size > _MOST_BYTES:
        raise _too_large(file, parameter, "a larger file")
    return file.read_bytes()


def _too_large(file: Path, parameter: str, what: str) -> ParameterError:
    return ParameterError(
        parameter,
        f"may hold at most {_MOST_ENTRIES} ROIs and {_MOST_BYTES // 2**20} MiB",
        f"{file} with {what}",
        "Check that it comes from ImageJ's ROI Manager, or paint a label image instead.",
    )


def _damaged(file: Path, parameter: str) -> ParameterError:
    return ParameterError(
        parameter,
        "must be a .roi file or a .zip of ImageJ's ROI Manager",
        f"{file}, which is damaged or something else",
        "Save it again with More > Save in the ROI Manager.",
    )


# Which label, which slice


class _Place(NamedTuple):
    """A ROI and how an error calls it."""

    roi: ImagejRoi
    title: str
    parameter: str

    def error(self, rule: str, value: str, hint: str) -> ParameterError:
        return ParameterError(self.parameter, rule, f"{self.title} {value}", hint)


def _places(rois: Iterable[ImagejRoi], parameter: str) -> Iterator[_Place]:
    for number, roi in enumerate(rois, start=1):
        yield _Place(roi, f"ROI {number} ({roi.name or 'without name'})", parameter)


def _label(where: _Place, classes: Sequence[str]) -> int:
    group = int(where.roi.group)
    if group > len(classes):
        raise where.error(
            f"must have groups from 1 to {len(classes)} ({', '.join(classes)})",
            f"in group {group}",
            "Change the group in Edit > Selection > Properties, or name all classes.",
        )
    if group > 0:
        return group
    name = where.roi.name.strip().casefold()
    names = (name, re.sub(r"-\d+$", "", name))
    for label, class_name in enumerate(classes, start=1):
        if class_name.casefold() in names:
            return label
    raise where.error(
        "must say what each ROI is: by its group, or by its name",
        "with neither",
        f"Set the group ({', '.join(f'{n} {name}' for n, name in enumerate(classes, start=1))}) "
        "in Edit > Selection > Properties, or name the ROI like the class.",
    )


class _Patch(NamedTuple):
    """Part of a slice and which of its pixels are covered, bool, shape (rows, columns)."""

    rows: slice
    columns: slice
    covered: npt.NDArray[np.bool_]


def _patches(where: _Place, stack: xr.DataArray) -> Iterator[tuple[int, _Patch]]:
    """Give the index of each slice that the ROI touches, and what it covers there."""
    shape = (stack.sizes["y"], stack.sizes["x"])
    channels = stack.sizes.get("c", 1)
    positions = where.roi.counter_positions
    if where.roi.roitype != ROI_TYPE.POINT or positions is None or not positions.any():
        yield _own_index(where, stack), _covered(where, shape)
        return
    # The points of one multi-point selection may lie in different slices.
    own = _own_position(where.roi, channels)
    for point, position in zip(_coordinates(where), positions, strict=True):
        number = _slice_of(int(position), channels) if position else own
        yield _index(where, number, stack), _points_patch(point[np.newaxis], shape)


def _own_index(where: _Place, stack: xr.DataArray) -> int:
    return _index(where, _own_position(where.roi, stack.sizes.get("c", 1)), stack)


def _own_position(roi: ImagejRoi, channels: int) -> int:
    if roi.z_position > 0 or roi.t_position > 0:
        # Only one of these axes is longer than 1; the position along the other is 1 or 0.
        return int(max(roi.z_position, roi.t_position))
    return _slice_of(int(roi.position), channels)


def _slice_of(position: int, channels: int) -> int:
    """Slice number of a position in the whole stack, where channels lie side by side."""
    return (position - 1) // channels + 1


def _index(where: _Place, number: int, stack: xr.DataArray) -> int:
    slices = stack.sizes["z"]
    if number < 1 and slices == 1:
        return 0
    if number < 1:
        raise where.error(
            "must say in which slice each ROI lies",
            "with position 0",
            "Set the position in Edit > Selection > Properties: the slice number, from 1.",
        )
    if number > slices:
        raise where.error(
            f"must lie in the stack's slices, 1 to {slices}",
            f"in slice {number}",
            "Check that the ROIs belong to this stack.",
        )
    return number - 1


# Which pixels


def _covered(where: _Place, shape: tuple[int, int]) -> _Patch:
    roi = where.roi
    if roi.subtype in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE):
        raise where.error(
            "must hold selections", "that is a text or an image", "Delete it from the ROIs."
        )
    if roi.roitype == ROI_TYPE.POINT:
        return _points_patch(_coordinates(where), shape)
    if roi.roitype in _LINES:
        return _line_patch(_coordinates(where), _stroke_width(where), shape)
    if roi.roitype in _AREAS:
        return _area_patch([_coordinates(where)], shape)
    if roi.roitype == ROI_TYPE.OVAL:
        return _oval_patch(_bounds(where), shape)
    if roi.roitype == ROI_TYPE.RECT and roi.multi_coordinates is not None:
        return _area_patch(_paths(where), shape)
    if roi.roitype == ROI_TYPE.RECT:
        (left, top), (right, bottom) = _bounds(where)
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return _area_patch([np.array(corners)], shape)
    raise where.error(
        "must hold selections", f"of the unknown kind {int(roi.roitype)}", "Draw it again."
    )


def _bounds(where: _Place) -> Points:
    """Upper left and lower right corner."""
    roi = where.roi
    if roi.subpixelrect and roi.widthd > 0 and roi.heightd > 0:
        corners = [(roi.xd, roi.yd), (roi.xd + roi.widthd, roi.yd + roi.heightd)]
    else:
        corners = [(roi.left, roi.top), (roi.right, roi.bottom)]
    return _checked(where, np.array(corners, float))


def _coordinates(where: _Place) -> Points:
    return _checked(where, np.asarray(where.roi.coordinates(), float))


def _stroke_width(where: _Place) -> float:
    width = float(where.roi.float_stroke_width or where.roi.stroke_width)
    return max(1.0, float(_checked(where, np.array([width]))[0]))


def _checked(where: _Place, numbers: Points) -> Points:
    # Also false for NaN.
    if not numbers.size or not (np.abs(numbers) < _FARTHEST).all():
        raise where.error(
            "must have ROIs with coordinates in the image", "without such", "Draw it again."
        )
    return numbers


def _paths(where: _Place) -> list[Points]:
    """Take the closed paths of a composite selection apart, areas and holes alike."""
    numbers = _checked(where, np.asarray(where.roi.multi_coordinates, float))
    paths: list[list[Points]] = []
    position = 0
    while position < len(numbers):
        operation = int(numbers[position])
        end = position + 1 + (_PATH_NUMBERS[operation] if 0 <= operation <= 4 else len(numbers))
        if end > len(numbers) or (operation != 0 and not paths):
            raise where.error("must have complete ROIs", "which is damaged", "Draw it again.")
        points = numbers[position + 1 : end].reshape(-1, 2)
        if operation == 0:
            paths.append([points])
        elif operation in (2, 3):
            paths[-1].append(_curve(np.concatenate([paths[-1][-1][-1:], points])))
        else:
            paths[-1].append(points)
        position = end
    return [np.concatenate(path) for path in paths]


def _curve(controls: Points) -> Points:
    """Points on a Bézier curve, without its start, by de Casteljau's algorithm."""
    levels = [np.broadcast_to(point, (len(_CURVE_STEPS), 2)) for point in controls]
    while len(levels) > 1:
        levels = [
            (1 - _CURVE_STEPS) * one + _CURVE_STEPS * other for one, other in pairwise(levels)
        ]
    return levels[0]


def _blank(points: Points, margin: float, shape: tuple[int, int]) -> tuple[_Patch, Points]:
    """Smallest part of a slice around the points, nothing covered, and its corner (x, y)."""
    limits = np.array(shape[::-1])
    start = np.clip(np.floor(points.min(axis=0) - margin), 0, limits).astype(int)
    stop = np.clip(np.ceil(points.max(axis=0) + margin) + 1, start, limits).astype(int)
    rows, columns = slice(start[1], stop[1]), slice(start[0], stop[0])
    return _Patch(rows, columns, np.zeros((stop - start)[::-1], bool)), start.astype(float)


def _area_patch(paths: Sequence[Points], shape: tuple[int, int]) -> _Patch:
    patch, corner = _blank(np.concatenate(paths), 0, shape)
    patch.covered[:] = _inside([path - corner for path in paths], patch.covered.shape)
    return patch


def _inside(paths: Iterable[Points], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Pixels inside an odd number of paths.

    Every edge turns over, in each row whose centre line it crosses, the pixels to the right of
    the crossing; rounding is that of ImageJ's ``PolygonFiller``.
    """
    height, width = shape
    crossings = np.zeros((height, width + 1), bool)
    for path in paths:
        for one, other in zip(path, np.roll(path, -1, axis=0), strict=True):
            (x1, y1), (x2, y2) = (one, other) if one[1] < other[1] else (other, one)
            first, last = np.clip(np.floor(np.array([y1, y2]) + 0.5), 0, height).astype(int)
            if first == last:
                continue
            rows = np.arange(first, last)
            x = x1 + (rows + 0.5 - y1) * (x2 - x1) / (y2 - y1) + 1e-8
            crossings[rows, np.clip(np.floor(x + 0.5), 0, width).astype(int)] ^= True
    return np.logical_xor.accumulate(crossings, axis=1)[:, :width]


def _oval_patch(bounds: Points, shape: tuple[int, int]) -> _Patch:
    patch, corner = _blank(bounds, 0, shape)
    patch.covered[:] = _inside_oval(bounds - corner, patch.covered.shape)
    return patch


def _inside_oval(bounds: Points, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    middle_x, middle_y = bounds.mean(axis=0)
    # An oval without extent, which ImageJ does not make, covers nothing.
    radius_x, radius_y = np.maximum((bounds[1] - bounds[0]) / 2, 1e-9)
    y, x = np.ogrid[: shape[0], : shape[1]]
    distance = ((x + 0.5 - middle_x) / radius_x) ** 2 + ((y + 0.5 - middle_y) / radius_y) ** 2
    inside: npt.NDArray[np.bool_] = distance <= 1
    return inside


def _points_patch(points: Points, shape: tuple[int, int]) -> _Patch:
    patch, corner = _blank(points, 0, shape)
    _mark(patch.covered, _pixels(points - corner))
    return patch


def _pixels(points: Points) -> npt.NDArray[np.int_]:
    # In points and lines, unlike areas, whole numbers are the middle of a pixel in ImageJ.
    return np.floor(points + 0.5).astype(int)


def _mark(covered: npt.NDArray[np.bool_], pixels: npt.NDArray[np.int_]) -> None:
    """Cover those of the pixels (x, y) that lie in the patch."""
    here = pixels[((pixels >= 0) & (pixels < covered.shape[::-1])).all(axis=1)]
    covered[here[:, 1], here[:, 0]] = True


def _line_patch(points: Points, width: float, shape: tuple[int, int]) -> _Patch:
    patch, corner = _blank(points, width, shape)
    points = points - corner
    pixels = _pixels(points)
    for start, end in pairwise(pixels):
        rows, columns = line(start[1], start[0], end[1], end[0])
        _mark(patch.covered, np.column_stack([columns, rows]))
    if width > 1:
        _thicken(patch.covered, points + 0.5, width)
    return patch


def _thicken(covered: npt.NDArray[np.bool_], points: Points, width: float) -> None:
    for start, end in pairwise(points):
        covered |= _inside([_band(start, end, width)], covered.shape)
    for joint in points[1:-1]:
        bounds = np.array([joint - width / 2, joint + width / 2])
        covered |= _inside_oval(bounds, covered.shape)


def _band(start: Points, end: Points, width: float) -> Points:
    """Corners of a thick line; it reaches to the far edges of the pixels at its ends."""
    length = float(np.hypot(*(end - start)))
    along = (end - start) / length if length else np.array([1.0, 0.0])
    across = np.array([-along[1], along[0]]) * width / 2
    start, end = start - along / 2, end + along / 2
    return np.array([start + across, end + across, end - across, start - across])
