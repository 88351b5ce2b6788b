"""Which pixels a ROI covers, by ImageJ's own rules.

For areas, pixel (0, 0) reaches from the point (0, 0) to (1, 1). They cover the pixels whose
centres lie inside; a centre on the left or upper edge is outside, on the right or lower edge
inside. For lines and points, whole numbers are the middle of a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from roifile import ROI_SUBTYPE, ROI_TYPE
from skimage.draw import line

from fiji_poreseg.rois.places import Place

Points = npt.NDArray[np.float64]
"""Corners or points in pixels, shape (n, 2), x before y."""

_FARTHEST = 1e6
_LINES = (ROI_TYPE.LINE, ROI_TYPE.POLYLINE, ROI_TYPE.FREELINE, ROI_TYPE.ANGLE)
_AREAS = (ROI_TYPE.POLYGON, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED)
# Numbers that follow each operation of a path: move, line, quadratic and cubic curve, close.
_PATH_NUMBERS = (2, 2, 4, 6, 0)
# How far towards the corner the controls of a quarter of a circle lie.
_QUARTER = 4 / 3 * (np.sqrt(2) - 1)
# A curve is cut into so many straight pieces.
_CURVE_STEPS = np.linspace(0, 1, 33)[1:, np.newaxis]
_EDGES_AT_ONCE = 1024


class Patch(NamedTuple):
    """Part of a slice and which of its pixels are covered, bool, shape (rows, columns)."""

    rows: slice
    columns: slice
    covered: npt.NDArray[np.bool_]


def covered(where: Place, shape: tuple[int, int]) -> Patch:
    """The pixels of a slice of a shape, (y, x), that a ROI covers; its own position aside.

    Raises
    ------
    ParameterError
        If it is a text, an image, damaged, or of no known kind.
    """
    roi = where.roi
    if roi.subtype in (ROI_SUBTYPE.TEXT, ROI_SUBTYPE.IMAGE):
        raise where.error(
            "must hold selections", "that is a text or an image", "Delete it from the ROIs."
        )
    if roi.roitype == ROI_TYPE.POINT:
        return points_patch(coordinates(where), shape)
    if roi.roitype in _LINES:
        return _line_patch(coordinates(where), _stroke_width(where), shape)
    if roi.roitype in _AREAS:
        return _area_patch([coordinates(where)], shape)
    if roi.roitype == ROI_TYPE.OVAL:
        return _oval_patch(_bounds(where), shape)
    if roi.roitype == ROI_TYPE.RECT and roi.multi_coordinates is not None:
        return _area_patch(_paths(where), shape)
    if roi.roitype == ROI_TYPE.RECT and roi.rounded_rect_arc_size > 0:
        return _area_patch([_rounded(_bounds(where), roi.rounded_rect_arc_size)], shape)
    if roi.roitype == ROI_TYPE.RECT:
        (left, top), (right, bottom) = _bounds(where)
        corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
        return _area_patch([np.array(corners)], shape)
    raise where.error(
        "must hold selections", f"of the unknown kind {int(roi.roitype)}", "Draw it again."
    )


def _bounds(where: Place) -> Points:
    """Upper left and lower right corner."""
    roi = where.roi
    if roi.subpixelrect and roi.widthd > 0 and roi.heightd > 0:
        corners = [(roi.xd, roi.yd), (roi.xd + roi.widthd, roi.yd + roi.heightd)]
    else:
        corners = [(roi.left, roi.top), (roi.right, roi.bottom)]
    return _checked(where, corners)


def coordinates(where: Place) -> Points:
    """The corners or points of a ROI; a `ParameterError` where they are no numbers of an image."""
    return _checked(where, where.roi.coordinates())


def _stroke_width(where: Place) -> float:
    width = float(where.roi.float_stroke_width or where.roi.stroke_width)
    return max(1.0, float(_checked(where, [width])[0]))


def _checked(where: Place, given: npt.ArrayLike | None) -> Points:
    with np.errstate(invalid="ignore"):  # numpy warns of some NaN, which are refused here
        numbers = np.asarray(given, float)
    # Also false for NaN.
    if not numbers.size or not (np.abs(numbers) < _FARTHEST).all():
        raise where.error(
            "must have ROIs with coordinates in the image", "without such", "Draw it again."
        )
    return numbers


def _paths(where: Place) -> list[Points]:
    """Take the closed paths of a composite selection apart, areas and holes alike."""
    numbers = _checked(where, where.roi.multi_coordinates)
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


def _rounded(bounds: Points, diameter: float) -> Points:
    """Points on a rectangle whose corners are quarters of an ellipse, as Java draws them."""
    (left, top), (right, bottom) = bounds
    radii = np.minimum(diameter, bounds[1] - bounds[0]) / 2
    pieces: list[Points] = []
    for corner in ((right, top), (right, bottom), (left, bottom), (left, top)):
        towards = radii * np.sign(bounds.mean(axis=0) - corner)
        ends = [corner + towards * (1, 0), corner + towards * (0, 1)]
        # Every second corner is gone round from its vertical side to its horizontal one.
        start, end = ends if len(pieces) % 2 == 0 else ends[::-1]
        controls = [point + _QUARTER * (corner - point) for point in (start, end)]
        pieces.append(np.array([start, *_curve(np.array([start, *controls, end]))]))
    return np.concatenate(pieces)


def _curve(controls: Points) -> Points:
    """Points on a Bézier curve, without its start, by de Casteljau's algorithm."""
    levels = [np.broadcast_to(point, (len(_CURVE_STEPS), 2)) for point in controls]
    while len(levels) > 1:
        levels = [
            (1 - _CURVE_STEPS) * one + _CURVE_STEPS * other for one, other in pairwise(levels)
        ]
    return levels[0]


def _blank(points: Points, margin: float, shape: tuple[int, int]) -> tuple[Patch, Points]:
    """Smallest part of a slice around the points, nothing covered, and its corner (x, y)."""
    limits = np.array(shape[::-1])
    start = np.clip(np.floor(points.min(axis=0) - margin), 0, limits).astype(int)
    stop = np.clip(np.ceil(points.max(axis=0) + margin) + 1, start, limits).astype(int)
    rows, columns = slice(start[1], stop[1]), slice(start[0], stop[0])
    return Patch(rows, columns, np.zeros((stop - start)[::-1], bool)), start.astype(float)


def _area_patch(paths: Sequence[Points], shape: tuple[int, int]) -> Patch:
    patch, corner = _blank(np.concatenate(paths), 0, shape)
    patch.covered[:] = _inside([path - corner for path in paths], patch.covered.shape)
    return patch


def _inside(paths: Sequence[Points], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Pixels inside an odd number of paths.

    Every edge turns over, in each row whose centre line it crosses, the pixels to the right of
    the crossing; rounding is that of ImageJ's ``PolygonFiller``.
    """
    height, width = shape
    edges = np.concatenate([np.stack([path, np.roll(path, -1, axis=0)], axis=1) for path in paths])
    upward = edges[:, 0, 1] >= edges[:, 1, 1]
    edges[upward] = edges[upward, ::-1]
    limits = np.clip(np.floor(edges[:, :, 1] + 0.5), 0, height).astype(int)
    turned = np.zeros((height, width + 1), bool)
    # Some at once: a damaged file may have a million edges, each through all rows.
    for start in range(0, len(edges), _EDGES_AT_ONCE):
        some = slice(start, start + _EDGES_AT_ONCE)
        first, last = limits[some].T
        edge, nth = _runs(last - first)
        rows = first[edge] + nth
        (x1, y1), (x2, y2) = edges[some][edge].transpose(1, 2, 0)
        x = x1 + (rows + 0.5 - y1) * (x2 - x1) / (y2 - y1) + 1e-8
        columns = np.clip(np.floor(x + 0.5), 0, width).astype(int)
        np.logical_xor.at(turned, (rows, columns), True)
    return np.logical_xor.accumulate(turned, axis=1)[:, :width]


def _runs(lengths: npt.NDArray[np.int_]) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.int_]]:
    """For each element of runs of some lengths: which run it lies in, and its place there."""
    run = np.repeat(np.arange(len(lengths)), lengths)
    return run, np.arange(len(run)) - (np.cumsum(lengths) - lengths)[run]


def _oval_patch(bounds: Points, shape: tuple[int, int]) -> Patch:
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


def points_patch(points: Points, shape: tuple[int, int]) -> Patch:
    """The pixels of a slice of a shape, (y, x), in which points lie."""
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


def _line_patch(points: Points, width: float, shape: tuple[int, int]) -> Patch:
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
