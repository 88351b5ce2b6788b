"""Gaussian filters of a plane and what is made of their derivatives, row by row or whole.

The filters are scipy.ndimage's: cut off at four standard deviations, the plane mirrored at its
border. numba runs them where it can be imported and `FIJI_PORESEG_COMPILED` is not 0, else
scipy, with the same result but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from threading import local

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from fiji_poreseg import compiled

Plane = npt.NDArray[np.float32]
Sigma = tuple[float, float]

QUANTITIES = (
    "gaussian",
    "deviation",
    "gradient",
    "laplacian",
    "hessian_larger",
    "hessian_smaller",
    "structure_larger",
    "structure_smaller",
)
"""What can be measured, by name; see `measure`."""

_TRUNCATE = 4.0
_STRUCTURE = ("structure_larger", "structure_smaller")
_scratch = local()


def measure(plane: Plane, sigma: Sigma, wanted: Mapping[str, int], rows: slice, out: Plane) -> None:
    """Measure a plane about each pixel, at one scale.

    Derivatives are in units of sigma, so that they mean the same on other voxels. With G the
    Gaussian of `sigma` and f the plane: ``gaussian`` is G*f; ``deviation``
    sqrt(G*f² - (G*f)²); ``gradient`` the magnitude of the gradient of G*f; ``laplacian`` the
    trace of its Hessian matrix, ``hessian_larger`` and ``hessian_smaller`` that matrix's
    eigenvalues; ``structure_larger`` and ``structure_smaller`` those of the structure tensor,
    the products of the gradient's components smoothed by G.

    Parameters
    ----------
    plane
        float32, shape (y, x), C-contiguous.
    sigma
        Standard deviations along y and x in voxels, positive.
    wanted
        Names out of `QUANTITIES`, and where in `out` to write each.
    rows
        Which rows to measure, start and stop given. A row's values do not depend on it.
    out
        float32, shape (any, rows, x), C-contiguous; what is not wanted is left as it is.
    """
    if compiled.is_on():
        _measure_compiled(plane, sigma, wanted, rows, out)
    else:
        _measure_with_scipy(plane, sigma, wanted, rows, out)


def _radius(sigma: float) -> int:
    """How far a Gaussian of `sigma` sees, in voxels."""
    return int(_TRUNCATE * sigma + 0.5)


def _measure_compiled(
    plane: Plane, sigma: Sigma, wanted: Mapping[str, int], rows: slice, out: Plane
) -> None:
    from fiji_poreseg import filter_loops

    across, along = map(_half_kernels, sigma)
    size = filter_loops.scratch_size(*plane.shape, across.shape[1] - 1, along.shape[1] - 1)
    room = getattr(_scratch, "room", None)
    if room is None or room.size < size:
        room = _scratch.room = np.empty(size, np.float32)
    positions = np.array([wanted.get(name, -1) for name in QUANTITIES])
    filter_loops.measure(plane, rows.start, rows.stop, across, along, positions, room, out)


@lru_cache(maxsize=64)
def _half_kernels(sigma: float) -> npt.NDArray[np.float32]:
    """Weights at distances 0, 1, … of a Gaussian and its derivatives in units of sigma."""
    from fiji_poreseg.filter_loops import TAPS_AT_ONCE

    radius = _radius(sigma)
    distance = np.arange(radius + 1) / sigma
    gaussian = np.exp(-0.5 * distance**2)
    gaussian /= gaussian[0] + 2 * gaussian[1:].sum()
    kernels = np.zeros((3, 1 + -(-radius // TAPS_AT_ONCE) * TAPS_AT_ONCE), np.float32)
    kernels[:, : radius + 1] = gaussian * [distance**0, distance, distance**2 - 1]
    return kernels


def _measure_with_scipy(
    plane: Plane, sigma: Sigma, wanted: Mapping[str, int], rows: slice, out: Plane
) -> None:
    far = _radius(sigma[0]) * (2 if set(wanted) & set(_STRUCTURE) else 1)
    above = min(rows.start, far)
    part = plane[rows.start - above : rows.stop + far]
    kept = slice(above, above + rows.stop - rows.start)
    # Each pair of eigenvalues is computed once, and only where one of them is wanted.
    hessian = cache(lambda: _eigenvalues(*_hessian(part, sigma)))
    structure = cache(lambda: _eigenvalues(*_structure_tensor(part, sigma)))
    makers: dict[str, Callable[[], Plane]] = {
        "gaussian": lambda: _filtered(part, sigma, (0, 0)),
        "deviation": lambda: np.sqrt(
            np.maximum(0, _filtered(part**2, sigma, (0, 0)) - _filtered(part, sigma, (0, 0)) ** 2)
        ),
        "gradient": lambda: np.hypot(*_gradient(part, sigma)),
        "laplacian": lambda: _filtered(part, sigma, (2, 0)) + _filtered(part, sigma, (0, 2)),
        "hessian_larger": lambda: hessian()[0],
        "hessian_smaller": lambda: hessian()[1],
        "structure_larger": lambda: structure()[0],
        "structure_smaller": lambda: structure()[1],
    }
    for name, position in wanted.items():
        out[position] = makers[name]()[kept]


def _filtered(plane: Plane, sigma: Sigma, order: tuple[int, int]) -> Plane:
    unit = np.float32(np.prod(np.power(sigma, order)))
    found: Plane = gaussian_filter(plane, sigma, order, truncate=_TRUNCATE)
    return found * unit


def _gradient(plane: Plane, sigma: Sigma) -> tuple[Plane, Plane]:
    return _filtered(plane, sigma, (1, 0)), _filtered(plane, sigma, (0, 1))


def _hessian(plane: Plane, sigma: Sigma) -> tuple[Plane, Plane, Plane]:
    yy, yx, xx = (_filtered(plane, sigma, order) for order in ((2, 0), (1, 1), (0, 2)))
    return yy, yx, xx


def _structure_tensor(plane: Plane, sigma: Sigma) -> tuple[Plane, Plane, Plane]:
    y, x = _gradient(plane, sigma)
    yy, yx, xx = (_filtered(product, sigma, (0, 0)) for product in (y * y, y * x, x * x))
    return yy, yx, xx


def _eigenvalues(yy: Plane, yx: Plane, xx: Plane) -> Plane:
    """Eigenvalues of a symmetric matrix at each pixel, the larger first: shape (2, y, x)."""
    # Only where numba is missing: the compiled filters need nothing of scikit-image.
    from skimage.feature import hessian_matrix_eigvals

    found: Plane = hessian_matrix_eigvals([yy, yx, xx])
    return found
