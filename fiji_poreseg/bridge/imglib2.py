"""ImgLib2 images and stacks: by shared memory where it can be, else by copies, or lazily.

ImgLib2's axes are x, y, z and channel, in this order. Its images are grey values and no more:
voxel size, labels and names stay behind.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from threading import Lock
from typing import Any

import jpype
import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg.bridge.attributes import CHANNEL_DIMS, check_array
from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.bridge.pixels import (
    KINDS,
    MOST_COPIED_BYTES,
    ONE_BUFFER_BYTES,
    borrowed_buffer,
    for_each,
    from_java,
    java_threads,
    kind_of,
    shared_buffer,
)
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.lazy import lazy_planes
from fiji_poreseg.stack import AXES, make_stack

_DIMS = (("y", "x"), AXES, *((channel, *AXES) for channel in CHANNEL_DIMS))


def to_imglib2(stack: xr.DataArray) -> Any:
    """Hand a stack to ImgLib2 without a copy: a change on either side shows on the other.

    Parameters
    ----------
    stack
        Dims ``(z, y, x)``, ``(y, x)``, or with ``c``, ``class`` or ``channel`` first; uint8, uint16
        or float32; a lazy, read-only or non-contiguous one is copied.

    Returns
    -------
    net.imglib2.img.array.ArrayImg
        Axes x, y, z and, where there are several, channel. It keeps the memory alive. Beyond
        2 GB it is a `net.imglib2.img.planar.PlanarImg`.

    Raises
    ------
    ParameterError
        If its type or its dims are others, or a slice is larger than 2 GB.
    """
    check_array(stack)
    if stack.dims not in _DIMS:
        raise ParameterError(
            "image",
            "must have the dims (z, y, x), (y, x), or a channel before (z, y, x)",
            f"dims {stack.dims}",
            "Use .rename() and .transpose().",
        )
    kind_of(stack.dtype)
    native = stack.dtype.newbyteorder("=")
    values = np.require(stack.to_numpy(), dtype=native, requirements=["C", "W"])
    if values.nbytes > ONE_BUFFER_BYTES:
        return _planar_image(values)
    return _array_image(values, shared_buffer(values))


def _array_image(values: npt.NDArray[Any], buffer: Any) -> Any:
    kind = KINDS[values.dtype]
    factory = getattr(jclass("net.imglib2.img.array.ArrayImgs"), kind.factory)
    return factory(jclass(kind.access)(buffer, True), _dimensions(values))


def _planar_image(values: npt.NDArray[Any]) -> Any:
    kind = KINDS[values.dtype]
    if values[(0,) * (values.ndim - 2)].nbytes > ONE_BUFFER_BYTES:
        raise ParameterError(
            "image",
            "must have slices below 2 GB to become an image of ImgLib2",
            f"{values.shape[-2]} x {values.shape[-1]} {values.dtype}",
            "Give a part of it.",
        )
    planes = jclass("java.util.ArrayList")()
    for plane in values.reshape(-1, *values.shape[-2:]):
        planes.add(jclass(kind.access)(shared_buffer(plane), True))
    one = jclass("net.imglib2.util.Fraction")()
    image = jclass("net.imglib2.img.planar.PlanarImg")(planes, _dimensions(values), one)
    image.setLinkedType(jclass(kind.imglib2)(image))
    return image


def _dimensions(values: npt.NDArray[Any]) -> Any:
    return jpype.JArray(jpype.JLong)([int(size) for size in reversed(values.shape)])


def to_xarray(image: Any, parameter: str) -> xr.DataArray:
    """Take an ImgLib2 image as a stack; see `images.to_xarray`."""
    return make_stack(values_of(image, parameter))


def values_of(image: Any, parameter: str) -> Any:
    """The grey values of an ImgLib2 image.

    Parameters
    ----------
    image
        A RandomAccessibleInterval, axes x, y, z and channel; z and channel may be absent.
    parameter
        Name to use in an error.

    Returns
    -------
    numpy.ndarray or dask.array.Array
        Shape (y, x), (z, y, x) or (c, z, y, x). An image in a direct buffer shares its memory;
        one of Java's arrays is copied in bulk; others are read through their cursors. An image
        beyond 1 GB, but for those in one array, is read plane by plane when asked for.

    Raises
    ------
    ParameterError
        If it has other types or more axes.
    """
    dtype = _dtype_of(image, parameter)
    shape = tuple(int(image.dimension(axis)) for axis in reversed(range(image.numDimensions())))
    if len(shape) not in {len(dims) for dims in _DIMS}:
        raise ParameterError(
            parameter,
            "must have the axes x, y, z and perhaps channel",
            f"{len(shape)} axes",
            "Slice it with Views.hyperSlice.",
        )
    storage = _single_storage(image)
    if storage is not None:
        shared = _shared_values(storage, dtype)
        if shared is not None:
            return shared[: math.prod(shape)].reshape(shape)
        values = np.empty(shape, dtype)
        from_java(storage, values)
        return values
    read = _plane_reader(image, shape, dtype)
    if math.prod(shape) * dtype.itemsize > MOST_COPIED_BYTES:
        return lazy_planes(read, shape, dtype)
    planes = for_each(
        lambda number: read(*np.unravel_index(number, shape[:-2])),
        math.prod(shape[:-2]),
        math.prod(shape) * dtype.itemsize,
    )
    return np.stack(planes).reshape(shape)


def _dtype_of(image: Any, parameter: str) -> np.dtype[Any]:
    element = jclass("net.imglib2.util.Util").getTypeFromInterval(image)
    for dtype, kind in KINDS.items():
        if isinstance(element, jclass(kind.imglib2)):
            return dtype
    raise ParameterError(
        parameter,
        "must hold UnsignedByteType, UnsignedShortType or FloatType",
        str(element.getClass().getSimpleName()),
        "Convert it with RealTypeConverters.",
    )


def _single_storage(image: Any) -> Any:
    """The one array or buffer that an image lies in, or None."""
    if not isinstance(image, jclass("net.imglib2.img.array.ArrayImg")):
        return None
    return _storage(image.update(None))


def _storage(access: Any) -> Any:
    if not isinstance(access, jclass("net.imglib2.img.basictypeaccess.array.ArrayDataAccess")):
        return None
    return access.getCurrentStorageArray()


def _shared_values(storage: Any, dtype: np.dtype[Any]) -> npt.NDArray[Any] | None:
    """The memory of a direct buffer in our byte order, shared; None for anything else."""
    if not isinstance(storage, jclass("java.nio.Buffer")) or not storage.isDirect():
        return None
    swapped = storage.order() != jclass("java.nio.ByteOrder").nativeOrder()
    if swapped and dtype.itemsize > 1:
        return None
    return np.asarray(memoryview(storage)).view(dtype)


def _plane_reader(
    image: Any, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Callable[..., npt.NDArray[Any]]:
    """Make a function that copies the plane of some indices, slowest axis first."""
    planar = jclass("net.imglib2.img.planar.PlanarImg")
    views = jclass("net.imglib2.view.Views")
    copy = jclass("net.imglib2.util.ImgUtil").copy
    at_zero = views.zeroMin(image)
    # An image may load its parts from a file, by a reader that is not made for several threads.
    lock, in_java = Lock(), java_threads()

    # A function of its own, whose variables are gone before the thread is forgotten: to let go of
    # them later would make it known to Java again.
    def fill(plane: npt.NDArray[Any], index: tuple[int, ...]) -> None:
        if isinstance(image, planar):
            number = int(np.ravel_multi_index(index, shape[:-2])) if index else 0
            storage = _storage(image.getPlane(number))
            if storage is not None:
                from_java(storage, plane)
                return
        view = at_zero
        for position in index:
            view = views.hyperSlice(view, view.numDimensions() - 1, int(position))
        copy(view, _array_image(plane, borrowed_buffer(plane)))

    def read(*index: int) -> npt.NDArray[Any]:
        plane = np.empty(shape[-2:], dtype)
        with lock, in_java():
            fill(plane, index)
        return plane

    return read
