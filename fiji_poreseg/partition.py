"""Trees walked by whole blocks of pixels, compiled by numba; imported only when a walk needs it.

A block's pixels go down a tree together: a node splits its list of pixels in two, in place, so
that a node is read once for all of its pixels and no branch hangs on a pixel. Processors with
AVX-512 split sixteen pixels at once.
"""

# ruff: noqa: ARG001 - numba calls intrinsics with arguments that not each of them needs.

from __future__ import annotations

from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from fiji_poreseg.compiled import loop

# A processor set by NUMBA_CPU_NAME may lack what this one has.
WIDE = config.CPU_NAME is None and bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))
LANES = 16
# A list this short is walked pixel by pixel: it costs less than splitting it on and on.
_SHORT = 4
# Between looks for pixels whose majority is fixed.
_TREES_BETWEEN = 4
# Sums of probabilities are off by less than this through rounding.
_ROUNDING = 1e-6


@intrinsic  # type: ignore[untyped-decorator]
def _address(typing: Any, array: Any, offset: Any) -> Any:
    """The address of an element of a C-contiguous array, counted flat."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.gep(data, [arguments[1]])

    return types.CPointer(array.dtype)(array, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def _split_wide(
    typing: Any, pixels: Any, count: Any, row: Any, threshold: Any, nan_left: Any, others: Any
) -> Any:
    """Move the pixels that go left to the front, the others to `others`; answer how many left.

    `pixels` and `others` have room for `LANES` more elements, which this may overwrite in
    `others` and leaves alone in `pixels`.
    """
    pointer = types.CPointer(types.int32)
    signature = types.int64(
        pointer, types.int64, types.CPointer(types.float32), types.float32, types.boolean, pointer
    )
    return signature, _generate_split


def _generate_split(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    pixels, count, row, threshold, nan_left, others = arguments
    int32, int64, bit = ir.IntType(32), ir.IntType(64), ir.IntType(1)
    ints, floats = ir.VectorType(int32, LANES), ir.VectorType(ir.FloatType(), LANES)
    bits, bytes_ = ir.VectorType(bit, LANES), ir.IntType(8).as_pointer()
    lanes = ir.Constant(int64, LANES)

    def spread(value: Any, vector: Any) -> Any:
        undefined = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(undefined, value, ir.Constant(int32, 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(ints, [0] * LANES))

    def declared(name: str, result: Any, *types_: Any) -> Any:
        known = builder.module.globals.get(name)
        return known or ir.Function(builder.module, ir.FunctionType(result, types_), name)

    gather = declared(
        "llvm.x86.avx512.mask.gather.dps.512", floats, floats, bytes_, ints, bits, int32
    )
    # To a register and then to memory: compressing into memory takes AMD a hundred cycles.
    compress = declared("llvm.x86.avx512.mask.compress.v16i32", ints, ints, ints, bits)
    thresholds = spread(threshold, floats)
    nans = spread(builder.trunc(nan_left, bit) if nan_left.type != bit else nan_left, bits)

    def split(done: Any, left: Any, live: Any, whole: bool) -> Any:
        here = builder.load(_at(builder, pixels, done, ints), align=4)
        zeros = ir.Constant(floats, [0.0] * LANES)
        base = builder.bitcast(row, bytes_)
        x = builder.call(gather, [zeros, base, here, live, ir.Constant(int32, 4)])
        missing = builder.and_(builder.fcmp_unordered("uno", x, x), nans)
        goes_left = builder.or_(builder.fcmp_ordered("<=", x, thresholds), missing)
        lefts = builder.and_(goes_left, live)
        rights = builder.and_(builder.not_(goes_left), live)
        none = ir.Constant(ints, [0] * LANES)
        to_right = _at(builder, others, builder.sub(done, left), ints)
        builder.store(builder.call(compress, [here, none, rights]), to_right, align=4)
        to_left = _at(builder, pixels, left, ints)
        packed = builder.call(compress, [here, none, lefts])
        if not whole:  # what lies behind the list is another node's
            packed = builder.select(live, packed, builder.load(to_left, align=4))
        builder.store(packed, to_left, align=4)
        population = builder.ctpop(builder.bitcast(lefts, ir.IntType(LANES)))
        return builder.add(left, builder.zext(population, int64))

    before = builder.block
    test, body, rest = (builder.append_basic_block(f"split.{name}") for name in ("a", "b", "c"))
    builder.branch(test)
    builder.position_at_end(test)
    done, left = builder.phi(int64), builder.phi(int64)
    for counter in (done, left):
        counter.add_incoming(ir.Constant(int64, 0), before)
    after = builder.add(done, lanes)
    builder.cbranch(builder.icmp_signed("<=", after, count), body, rest)
    builder.position_at_end(body)
    left_after = split(done, left, ir.Constant(bits, [1] * LANES), whole=True)
    done.add_incoming(after, body)
    left.add_incoming(left_after, body)
    builder.branch(test)
    builder.position_at_end(rest)
    remaining = spread(builder.trunc(builder.sub(count, done), int32), ints)
    live = builder.icmp_signed("<", ir.Constant(ints, list(range(LANES))), remaining)
    return split(done, left, live, whole=False)


def _at(builder: Any, pointer: Any, offset: Any, vector: Any) -> Any:
    return builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())


def _split_16(
    features: Any, feature: int, threshold: Any, nan_left: Any, pixels: Any,
    start: int, stop: int, others: Any,
) -> int:  # fmt: skip
    row = _address(features, feature * features.shape[1])
    list_ = _address(pixels, start)
    return _split_wide(list_, stop - start, row, threshold, nan_left, _address(others, 0))  # type: ignore[no-any-return]


def _split_1(
    features: Any, feature: int, threshold: Any, nan_left: Any, pixels: Any,
    start: int, stop: int, others: Any,
) -> int:  # fmt: skip
    row = features[feature]
    left = 0
    if nan_left:
        for done in range(stop - start):
            pixel = pixels[start + done]
            others[done - left] = pixel
            pixels[start + left] = pixel
            left += not (row[pixel] > threshold)
    else:
        for done in range(stop - start):
            pixel = pixels[start + done]
            others[done - left] = pixel
            pixels[start + left] = pixel
            left += row[pixel] <= threshold
    return left


_split = loop()(_split_16 if WIDE else _split_1)


@loop()
def _add(values: Any, node: int, pixel: int, sums: Any) -> None:
    if values.shape[1] == 2:
        sums[pixel, 0] += values[node, 0]
        sums[pixel, 1] += values[node, 1]
    else:
        for which in range(values.shape[1]):
            sums[pixel, which] += values[node, which]


@loop()
def _add_tree(
    features: Any, nodes: Any, values: Any, pixels: Any, count: int, others: Any, pending: Any,
    sums: Any,
) -> None:  # fmt: skip
    """Add what one tree says of the first `count` of `pixels` to `sums`; reorders `pixels`."""
    waiting = node = start = 0
    stop = count
    while True:
        here = nodes[node]
        left = 0
        if here.feature < 0:
            for position in range(start, stop):
                _add(values, node, pixels[position], sums)
        elif stop - start <= _SHORT:
            for position in range(start, stop):
                pixel = pixels[position]
                at = node
                while nodes[at].feature >= 0:
                    x = features[nodes[at].feature, pixel]
                    goes_left = x <= nodes[at].threshold or (nodes[at].nan_left and x != x)
                    at = nodes[at].left if goes_left else nodes[at].right
                _add(values, at, pixel, sums)
        else:
            left = _split(
                features, here.feature, here.threshold, here.nan_left, pixels, start, stop, others
            )
            middle = start + left
            for position in range(middle, stop):
                pixels[position] = others[position - middle]
            if left == 0:
                node = here.right
                continue
            if middle < stop:
                pending[waiting, 0] = here.right
                pending[waiting, 1] = middle
                pending[waiting, 2] = stop
                waiting += 1
                stop = middle
            node = here.left
            continue
        if waiting == 0:
            return
        waiting -= 1
        node = pending[waiting, 0]
        start = pending[waiting, 1]
        stop = pending[waiting, 2]


@loop()
def sum_probabilities(
    features: Any, nodes: Any, values: Any, bounds: Any, depth: int, sums: Any
) -> None:
    """Add up what all trees say, in their order.

    Parameters
    ----------
    features
        float32, shape (features, pixels).
    nodes, values
        Nodes of all trees, one tree after another, and the probabilities at each.
    bounds
        Where each tree begins among them, and the last one ends.
    depth
        How many nodes may lie between a root and a leaf at most.
    sums
        float64, shape (pixels, classes), zero; filled.
    """
    count = features.shape[1]
    pixels = np.arange(count + LANES).astype(np.int32)
    others = np.empty(count + LANES, np.int32)
    pending = np.empty((depth + 1, 3), np.int64)
    for tree in range(len(bounds) - 1):
        own = slice(bounds[tree], bounds[tree + 1])
        _add_tree(features, nodes[own], values[own], pixels, count, others, pending, sums)


@loop()
def find_labels(
    features: Any, nodes: Any, values: Any, bounds: Any, depth: int, rest: Any, labels: Any
) -> None:
    """Find the most probable class; a pixel whose majority is fixed goes down no further trees.

    Parameters
    ----------
    features, nodes, values, bounds, depth
        As `sum_probabilities` has them.
    rest
        float64: by how much the trees from each on can change a lead at most; 0 after the last.
    labels
        uint8, shape (pixels,); filled with the class's position.
    """
    count = features.shape[1]
    trees = len(bounds) - 1
    sums = np.zeros((count, values.shape[1]))
    pixels = np.arange(count + LANES).astype(np.int32)
    others = np.empty(count + LANES, np.int32)
    pending = np.empty((depth + 1, 3), np.int64)
    for tree in range(trees):
        own = slice(bounds[tree], bounds[tree + 1])
        _add_tree(features, nodes[own], values[own], pixels, count, others, pending, sums)
        last = tree + 1 == trees
        if not last and ((tree + 1) % _TREES_BETWEEN or rest[tree + 1] >= tree + 1):
            continue
        kept = 0
        for position in range(count):
            pixel = pixels[position]
            best = 0
            first, second = sums[pixel, 0] / trees, -np.inf
            for which in range(1, values.shape[1]):
                mean = sums[pixel, which] / trees
                if mean > first:
                    best, first, second = which, mean, first
                elif mean > second:
                    second = mean
            if last or (first - second) * trees > rest[tree + 1] + _ROUNDING:
                labels[pixel] = best
            else:
                pixels[kept] = pixel
                kept += 1
        count = kept
        if count == 0:
            return
