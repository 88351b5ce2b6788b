# mypy: disable-error-code="untyped-decorator"
"""The loops of `filters`, compiled by numba; importing this module compiles or loads them.

Each loop runs along x and writes to one array from at most eight others: beyond that LLVM would
not check whether they overlap, and not vectorise. Every sum has one order, whatever the rows
asked for, so that a cut changes no bit.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt

from fiji_poreseg.compiled import loop

Plane = npt.NDArray[np.float32]

TAPS_AT_ONCE = 4
"""Kernels are padded with zeros to a multiple of this, beside the tap in the middle."""

# Positions of what `measure` can write, as in `filters.QUANTITIES`.
_GAUSSIAN, _DEVIATION, _GRADIENT, _LAPLACIAN = 0, 1, 2, 3
_HESSIAN_LARGER, _HESSIAN_SMALLER, _STRUCTURE_LARGER, _STRUCTURE_SMALLER = 4, 5, 6, 7
# The Gaussian and its second derivative are even, the first is odd.
_EVEN, _ODD = np.float32(1), np.float32(-1)

# Contracting a product and a sum into one instruction is the only liberty given: it depends on
# the place in the row alone.
_compiled = partial(loop, fastmath={"contract"})

_ROW, _ROWS = "f4[::1]", "f4[:, ::1]"
_FOUR_WEIGHTS = "f4, f4, f4, f4"
_EIGHT_SLOTS = "i8, i8, i8, i8, i8, i8, i8, i8"


@_compiled(f"void({_ROW}, f4, {_FOUR_WEIGHTS}, {_ROWS}, {_EIGHT_SLOTS})")
def _add_across(
    total: Plane,
    sign: float, k0: float, k1: float, k2: float, k3: float,
    rows: Plane,
    a0: int, b0: int, a1: int, b1: int, a2: int, b2: int, a3: int, b3: int,
) -> None:  # fmt: skip
    for x in range(total.size):
        total[x] += (
            k0 * (rows[b0, x] + sign * rows[a0, x])
            + k1 * (rows[b1, x] + sign * rows[a1, x])
            + k2 * (rows[b2, x] + sign * rows[a2, x])
            + k3 * (rows[b3, x] + sign * rows[a3, x])
        )


@_compiled(f"void({_ROW}, f4, {_FOUR_WEIGHTS}, {_ROW}, {_ROW})")
def _add_along(
    total: Plane,
    sign: float, k0: float, k1: float, k2: float, k3: float,
    before: Plane,
    after: Plane,
) -> None:  # fmt: skip
    for x in range(total.size):
        total[x] += (
            k0 * (after[x] + sign * before[x + 3])
            + k1 * (after[x + 1] + sign * before[x + 2])
            + k2 * (after[x + 2] + sign * before[x + 1])
            + k3 * (after[x + 3] + sign * before[x])
        )


@_compiled("i8(i8, i8)")
def _reflected(position: int, size: int) -> int:
    """Where `position` is found in a line of `size` that is mirrored at its ends, edge twice."""
    position %= 2 * size
    return position if position < size else 2 * size - 1 - position


@_compiled(f"void({_ROW}, {_ROW})")
def _pad(row: Plane, padded: Plane) -> None:
    margin = (padded.size - row.size) // 2
    padded[margin : margin + row.size] = row
    for x in range(margin):
        padded[margin - 1 - x] = row[_reflected(-1 - x, row.size)]
        padded[margin + row.size + x] = row[_reflected(row.size + x, row.size)]


@_compiled(f"void({_ROW}, {_ROW}, f4, {_ROW})")
def _along(padded: Plane, kernel: Plane, sign: float, total: Plane) -> None:
    """Convolve a padded row with half a kernel: element j is the weight at distance j.

    `sign` is that of the other half: `_EVEN` or `_ODD`.
    """
    radius, size = kernel.size - 1, total.size
    middle = kernel[0]
    for x in range(size):
        total[x] = middle * padded[radius + x]
    for j in range(1, radius + 1, 4):
        weights = kernel[j], kernel[j + 1], kernel[j + 2], kernel[j + 3]
        before, after = padded[radius - j - 3 :], padded[radius + j :]
        _add_along(total, sign, *weights, before, after)


@_compiled("void(i8, i8, i8, i8[::1])")
def _place(row: int, rows: int, slots: int, places: npt.NDArray[np.int64]) -> None:
    """Where the rows about `row` of a plane of `rows` are: row r in slot r % slots."""
    radius = places.size // 2
    for distance in range(-radius, radius + 1):
        places[radius + distance] = _reflected(row + distance, rows) % slots


@_compiled(f"void({_ROWS}, i8[::1], {_ROW}, f4, {_ROW})")
def _across(
    ring: Plane, places: npt.NDArray[np.int64], kernel: Plane, sign: float, total: Plane
) -> None:
    """Convolve the rows at `places` with half a kernel, as `_along` does."""
    radius = kernel.size - 1
    middle, here = kernel[0], ring[places[radius]]
    for x in range(total.size):
        total[x] = middle * here[x]
    for j in range(1, radius + 1, 4):
        weights = kernel[j], kernel[j + 1], kernel[j + 2], kernel[j + 3]
        a, b = radius - j, radius + j
        eight = (
            places[a], places[b], places[a - 1], places[b + 1],
            places[a - 2], places[b + 2], places[a - 3], places[b + 3],
        )  # fmt: skip
        _add_across(total, sign, *weights, ring, *eight)


@_compiled(f"void({_ROW}, {_ROW}, {_ROW}, {_ROW}, {_ROW})")
def _eigenvalues(xx: Plane, xy: Plane, yy: Plane, larger: Plane, smaller: Plane) -> None:
    for x in range(xx.size):
        middle = np.float32(0.5) * (xx[x] + yy[x])
        half = np.float32(0.5) * (xx[x] - yy[x])
        away = np.sqrt(half * half + xy[x] * xy[x])
        larger[x] = middle + away
        smaller[x] = middle - away


@_compiled("i8(i8, i8)")
def slots(rows: int, radius: int) -> int:
    """How many rows must be remembered to convolve one of them."""
    needed: int = min(rows, 2 * radius + 1)
    return needed


@_compiled("i8(i8, i8, i8, i8)")
def scratch_size(rows: int, columns: int, radius_y: int, radius_x: int) -> int:
    """How many numbers `measure` needs room for."""
    size: int = columns * (7 * slots(rows, radius_y) + 16) + 2 * radius_x
    return size


@_compiled("void(f4[:, ::1], i8, i8, f4[:, ::1], f4[:, ::1], i8[::1], f4[::1], f4[:, :, ::1])")
def measure(
    plane: Plane,
    start: int,
    stop: int,
    across: Plane,
    along: Plane,
    wanted: npt.NDArray[np.int64],
    scratch: Plane,
    out: Plane,
) -> None:
    """Write what is wanted of rows `start` to `stop` of a plane.

    Parameters
    ----------
    plane
        The whole plane.
    start, stop
        Which rows.
    across, along
        Half kernels along y and x of a Gaussian, its first and second derivative, shape
        (3, radius + 1).
    wanted
        For each quantity the position in `out` to write it to, or -1.
    scratch
        Room for `scratch_size` numbers.
    out
        Shape (quantities wanted, stop - start, x).
    """
    rows, columns = plane.shape
    radius_y, radius_x = across.shape[1] - 1, along.shape[1] - 1
    count = slots(rows, radius_y)
    used = 4 * count * columns
    ring = scratch[:used].reshape(4, count, columns)
    products = scratch[used : used + 3 * count * columns].reshape(3, count, columns)
    used += 3 * count * columns
    lines = scratch[used : used + 15 * columns].reshape(15, columns)
    used += 15 * columns
    padded = scratch[used : used + columns + 2 * radius_x]
    g, gx, gy, gxx, gxy, gyy = lines[0], lines[1], lines[2], lines[3], lines[4], lines[5]
    square, one, other, spare = lines[6], lines[7], lines[8], lines[9]
    deviation = wanted[_DEVIATION] >= 0
    structure = wanted[_STRUCTURE_LARGER] >= 0 or wanted[_STRUCTURE_SMALLER] >= 0
    hessian = wanted[_HESSIAN_LARGER] >= 0 or wanted[_HESSIAN_SMALLER] >= 0
    first = structure or wanted[_GRADIENT] >= 0
    second = hessian or wanted[_LAPLACIAN] >= 0
    halo = radius_y if structure else 0
    begin, end = max(0, start - halo), min(rows, stop + halo)
    smoothed, squares = ring[0], ring[3]
    read = max(0, begin - radius_y)
    smooth_y, slope_y, bend_y = across[0], across[1], across[2]
    smooth_x, slope_x, bend_x = along[0], along[1], along[2]
    places = np.empty(2 * radius_y + 1, np.int64)
    ready = start
    for row in range(begin, end):
        while read < min(rows, row + radius_y + 1):
            slot = read % count
            _pad(plane[read], padded)
            _along(padded, smooth_x, _EVEN, smoothed[slot])
            if first or second:
                _along(padded, slope_x, _ODD, ring[1, slot])
            if second:
                _along(padded, bend_x, _EVEN, ring[2, slot])
            if deviation:
                for x in range(padded.size):
                    padded[x] = padded[x] * padded[x]
                _along(padded, smooth_x, _EVEN, squares[slot])
            read += 1
        inside = start <= row < stop
        _place(row, rows, count, places)
        if inside:
            if wanted[_GAUSSIAN] >= 0 or deviation:
                _across(smoothed, places, smooth_y, _EVEN, g)
            if wanted[_GAUSSIAN] >= 0:
                out[wanted[_GAUSSIAN], row - start] = g
            if deviation:
                _across(squares, places, smooth_y, _EVEN, square)
                into = out[wanted[_DEVIATION], row - start]
                for x in range(columns):
                    into[x] = np.sqrt(max(np.float32(0), square[x] - g[x] * g[x]))
        if first:
            _across(ring[1], places, smooth_y, _EVEN, gx)
            _across(smoothed, places, slope_y, _ODD, gy)
        if inside and wanted[_GRADIENT] >= 0:
            into = out[wanted[_GRADIENT], row - start]
            for x in range(columns):
                into[x] = np.sqrt(gx[x] * gx[x] + gy[x] * gy[x])
        if inside and second:
            _across(ring[2], places, smooth_y, _EVEN, gxx)
            _across(smoothed, places, bend_y, _EVEN, gyy)
            if wanted[_LAPLACIAN] >= 0:
                into = out[wanted[_LAPLACIAN], row - start]
                for x in range(columns):
                    into[x] = gxx[x] + gyy[x]
            if hessian:
                _across(ring[1], places, slope_y, _ODD, gxy)
                _eigenvalues(gxx, gxy, gyy, one, other)
                if wanted[_HESSIAN_LARGER] >= 0:
                    out[wanted[_HESSIAN_LARGER], row - start] = one
                if wanted[_HESSIAN_SMALLER] >= 0:
                    out[wanted[_HESSIAN_SMALLER], row - start] = other
        if not structure:
            continue
        slot = row % count
        for which in range(3):
            left, right = (gx if which < 2 else gy), (gx if which < 1 else gy)
            for x in range(columns):
                spare[x] = left[x] * right[x]
            _pad(spare, padded)
            _along(padded, smooth_x, _EVEN, products[which, slot])
        while ready < stop and row >= min(rows - 1, ready + radius_y):
            _place(ready, rows, count, places)
            for which in range(3):
                _across(products[which], places, smooth_y, _EVEN, lines[10 + which])
            _eigenvalues(lines[10], lines[11], lines[12], one, other)
            if wanted[_STRUCTURE_LARGER] >= 0:
                out[wanted[_STRUCTURE_LARGER], ready - start] = one
            if wanted[_STRUCTURE_SMALLER] >= 0:
                out[wanted[_STRUCTURE_SMALLER], ready - start] = other
            ready += 1
