"""Images between ImageJ and xarray: ImagePlus by fast copies, ImgLib2 images by shared memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jpype
import jpype.nio
import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.colours import LABEL_COLOURS
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.stack import (
    DEFAULT_SPACING_NM,
    Spacing,
    make_stack,
    nm_per,
    register_converter,
    shown_range,
    slice_labels_of,
    spacing_nm,
    tidy,
)

_CLASSES_PROPERTY = "poreseg_classes"
_GRAY8, _GRAY16, _GRAY32 = 0, 1, 2
_DTYPES: dict[int, npt.DTypeLike] = {_GRAY8: np.uint8, _GRAY16: np.uint16, _GRAY32: np.float32}


class _Kind(NamedTuple):
    """How a grey value is called in Java: in arrays, buffers and ImgLib2."""

    java: Callable[[], Any]
    buffer: str
    access: str
    imglib2: str
    factory: str


_NIO = "net.imglib2.img.basictypeaccess.nio"
_INTEGER = "net.imglib2.type.numeric.integer"
_KINDS: dict[np.dtype[Any], _Kind] = {
    np.dtype(np.uint8): _Kind(
        lambda: jpype.JByte,
        "",
        f"{_NIO}.ByteBufferAccess",
        f"{_INTEGER}.UnsignedByteType",
        "unsignedBytes",
    ),
    np.dtype(np.uint16): _Kind(
        lambda: jpype.JShort,
        "asShortBuffer",
        f"{_NIO}.ShortBufferAccess",
        f"{_INTEGER}.UnsignedShortType",
        "unsignedShorts",
    ),
    np.dtype(np.float32): _Kind(
        lambda: jpype.JFloat,
        "asFloatBuffer",
        f"{_NIO}.FloatBufferAccess",
        "net.imglib2.type.numeric.real.FloatType",
        "floats",
    ),
}


def to_imageplus(stack: xr.DataArray) -> Any:
    """Copy a stack into an ImagePlus.

    Parameters
    ----------
    stack
        Dims ``(z, y, x)``, ``(y, x)``, or with a further axis first, which becomes ImageJ's
        channels; uint8, uint16 or float32; may be lazy. A segmentation
        (``attrs["classes"]``) gets the look-up table of the classes.

    Returns
    -------
    ij.ImagePlus
        With the voxel size, unit, slice labels, display range and Info of the stack.

    Raises
    ------
    ParameterError
        If ImageJ has no such kind of pixels or axes.
    """
    channels = _as_channels(stack)
    kind = _kind_of(channels)
    count, slices, height, width = channels.shape
    labels = slice_labels_of(stack) or ("",) * slices
    image_stack = jclass("ij.ImageStack")(width, height)
    for index in range(slices):
        for channel in range(count):
            plane = np.asarray(channels.data[channel, index])
            pixels = jpype.JArray(kind.java())(plane.size)
            _buffer(plane, kind).get(pixels)
            image_stack.addSlice(labels[index] or None, pixels)
    image = jclass("ij.ImagePlus")(str(stack.name or "stack"), image_stack)
    image.setDimensions(count, slices, 1)
    image.setOpenAsHyperStack(count > 1)
    _set_calibration(image, channels)
    _set_looks(image, channels)
    return image


def _as_channels(stack: xr.DataArray) -> xr.DataArray:
    """Give a stack its four axes, the channels first."""
    if stack.ndim == 2:
        stack = stack.expand_dims("z")
    if stack.ndim == 3:
        stack = stack.expand_dims("c")
    if stack.ndim != 4 or stack.dims[1:] != ("z", "y", "x"):
        raise ParameterError(
            "image",
            "must have the dims (z, y, x) or (c, z, y, x)",
            f"dims {stack.dims}",
            "Use .rename() and .transpose().",
        )
    return stack


def _kind_of(stack: xr.DataArray) -> _Kind:
    kind = _KINDS.get(stack.dtype.newbyteorder("="))
    if kind is None:
        raise ParameterError(
            "image",
            "must be uint8, uint16 or float32 to become an image of ImageJ",
            f"{stack.dtype}",
            "Use .astype() with the type that keeps your values.",
        )
    return kind


def _buffer(array: npt.NDArray[Any], kind: _Kind) -> Any:
    """Lay a direct buffer of Java over the memory of an array, and keep that alive."""
    array = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    raw = jpype.nio.convertToDirectBuffer(array.reshape(-1).view(np.uint8))
    # Java's buffers are big-endian until told otherwise.
    raw = raw.order(jclass("java.nio.ByteOrder").nativeOrder())
    return getattr(raw, kind.buffer)() if kind.buffer else raw


def _set_calibration(image: Any, stack: xr.DataArray) -> None:
    calibration = image.getCalibration()
    unit, size = _unit_of(stack)
    steps = [tidy(step / size) for step in spacing_nm(stack)]
    calibration.pixelDepth, calibration.pixelHeight, calibration.pixelWidth = steps
    calibration.setUnit(unit)
    starts = [float(stack[axis][0]) if axis in stack.coords else 0.0 for axis in ("z", "y", "x")]
    # ImageJ's origin is the pixel that lies at 0.
    origin = [tidy(0.0 - start / size / step) for start, step in zip(starts, steps, strict=True)]
    calibration.zOrigin, calibration.yOrigin, calibration.xOrigin = origin


def _unit_of(stack: xr.DataArray) -> tuple[str, float]:
    """ImageJ's unit for a stack, and how many nm it is long."""
    if stack.attrs.get("unit", "nm") != "nm":
        return "pixel", DEFAULT_SPACING_NM[0]
    unit = str(stack.attrs.get("source_unit") or "nm")
    size = nm_per(unit)
    return (unit, size) if size else ("nm", 1.0)


def _set_looks(image: Any, channels: xr.DataArray) -> None:
    attrs = channels.attrs
    if attrs.get("imagej_info"):
        image.setProperty("Info", attrs["imagej_info"])
    if attrs.get("classes"):
        image.setProp(_CLASSES_PROPERTY, ",".join(attrs["classes"]))
        image.setLut(_label_table())
    elif attrs.get("inverting_lut"):
        _invert_table(image)
    limits = shown_range(channels)
    if limits is not None:
        image.setDisplayRange(*limits)


def _label_table() -> Any:
    columns = LABEL_COLOURS.astype(np.uint8).view(np.int8).T
    return jclass("ij.process.LUT")(
        *(jpype.JArray(jpype.JByte)(column.tolist()) for column in columns)
    )


def _invert_table(image: Any) -> None:
    processor = image.getProcessor()
    processor.invertLut()
    if image.getStackSize() > 1:
        image.getStack().setColorModel(processor.getColorModel())


def to_xarray(image: Any, *, parameter: str = "image") -> xr.DataArray:
    """Copy an ImagePlus, or share the memory of an ImgLib2 image, as a stack.

    Parameters
    ----------
    image
        An ImagePlus with grey values of 8, 16 or 32 bit: an image, a stack, or a hyperstack of
        channels and slices. Or an ImgLib2 image, axes x, y, z and channel.
    parameter
        Name to use in an error.

    Returns
    -------
    xarray.DataArray
        Coordinates in nm; what else ImageJ knows of the image lies in ``attrs``. An ImgLib2
        image that lives in a direct buffer shares its memory with the result.

    Raises
    ------
    ParameterError
        If it has colours, a time axis, or is of another kind.
    """
    if isinstance(image, jclass("ij.ImagePlus")):
        return _from_imageplus(image, parameter)
    if isinstance(image, jclass("net.imglib2.RandomAccessibleInterval")):
        return _from_imglib2(image, parameter)
    raise ParameterError(
        parameter,
        "must be an ImagePlus or an ImgLib2 image",
        f"a {type(image).__name__}",
        "Convert it in ImageJ first.",
    )


def _from_imageplus(image: Any, parameter: str) -> xr.DataArray:
    dtype = np.dtype(_check_pixels(image, parameter))
    _check_time(image, parameter)
    channels, slices = int(image.getNChannels()), int(image.getNSlices())
    shape = (channels, slices, int(image.getHeight()), int(image.getWidth()))
    values = np.empty(shape, dtype)
    image_stack = image.getStack()
    for index in range(slices):
        for channel in range(channels):
            number = image.getStackIndex(channel + 1, index + 1, 1)
            pixels = image_stack.getPixels(number)
            _buffer(values[channel, index], _KINDS[dtype]).put(pixels)
    spacing, origin, calibration = _read_calibration(image)
    stack = make_stack(
        values if channels > 1 else values[0],
        spacing,
        name=str(image.getTitle()),
        origin_nm=origin,
        slice_labels=_slice_labels(image),
        attrs=_read_looks(image),
    )
    return stack.assign_attrs(calibration)


def _check_pixels(image: Any, parameter: str) -> npt.DTypeLike:
    dtype = _DTYPES.get(int(image.getType()))
    if dtype is None:
        raise ParameterError(
            parameter,
            "must hold grey values (8, 16 or 32 bit)",
            f"{image.getTitle()}, with {image.getBitDepth()}-bit colours",
            "Use Image > Type > 8-bit first.",
        )
    return dtype


def _check_time(image: Any, parameter: str) -> None:
    if image.getNFrames() > 1:
        raise ParameterError(
            parameter,
            "must be a stack of slices, without a time axis",
            f"{image.getTitle()}, with {image.getNFrames()} frames",
            "If they are slices, swap frames and slices in Image > Properties.",
        )


def _read_calibration(image: Any) -> tuple[Spacing, Spacing, dict[str, str]]:
    """Voxel size and position in nm, and what to remember of the unit."""
    calibration = image.getCalibration()
    unit = str(calibration.getUnit() or "pixel")
    size = nm_per(unit)
    steps = [
        float(step)
        for step in (calibration.pixelDepth, calibration.pixelHeight, calibration.pixelWidth)
    ]
    scaled = all(0 < step < math.inf for step in steps)
    if not scaled or (size is None and not unit.startswith("pixel")):
        # A unit such as inch is what a scanner's driver wrote, not a voxel size.
        steps, size = [1.0, 1.0, 1.0], None
    spacing = _triple(tidy(step * (size or DEFAULT_SPACING_NM[0])) for step in steps)
    pixels = [
        float(start) for start in (calibration.zOrigin, calibration.yOrigin, calibration.xOrigin)
    ]
    origin = _triple(tidy(-start * step) for start, step in zip(pixels, spacing, strict=True))
    return spacing, origin, {"unit": "nm" if size else "pixel", "source_unit": unit}


def _triple(values: Iterator[float]) -> Spacing:
    z, y, x = values
    return z, y, x


def _slice_labels(image: Any) -> tuple[str, ...] | None:
    """Read each slice's label, empty where it has none; None if no slice has one."""
    image_stack = image.getStack()
    numbers = [image.getStackIndex(1, z + 1, 1) for z in range(int(image.getNSlices()))]
    labels = tuple(str(image_stack.getSliceLabel(number) or "") for number in numbers)
    return labels if any(labels) else None


def _read_looks(image: Any) -> dict[str, Any]:
    attrs: dict[str, Any] = {
        "display_range": (float(image.getDisplayRangeMin()), float(image.getDisplayRangeMax())),
        "inverting_lut": bool(image.isInvertedLut()),
    }
    if image.getProperty("Info") is not None:
        attrs["imagej_info"] = str(image.getProperty("Info"))
    classes = image.getProp(_CLASSES_PROPERTY)
    if classes is not None:
        attrs["classes"] = tuple(str(classes).split(","))
    return attrs


def to_imglib2(stack: xr.DataArray) -> Any:
    """Hand a stack to ImgLib2 without a copy: a change on either side shows on the other.

    Parameters
    ----------
    stack
        uint8, uint16 or float32; a lazy, read-only or non-contiguous one is copied.

    Returns
    -------
    net.imglib2.img.array.ArrayImg
        Axes x, y, z and, where there are several, channel. It keeps the memory alive.
    """
    kind = _kind_of(stack)
    values = np.require(stack.to_numpy(), requirements=["C", "W"])
    access = jclass(kind.access)(_buffer(values, kind), True)
    sizes = jpype.JArray(jpype.JLong)([int(size) for size in reversed(stack.shape)])
    return getattr(jclass("net.imglib2.img.array.ArrayImgs"), kind.factory)(access, sizes)


def _from_imglib2(image: Any, parameter: str) -> xr.DataArray:
    dtype = _imglib2_dtype(image, parameter)
    sizes = [int(image.dimension(axis)) for axis in reversed(range(image.numDimensions()))]
    if not 2 <= len(sizes) <= 4:
        raise ParameterError(
            parameter,
            "must have the axes x, y, z and perhaps channel",
            f"{len(sizes)} axes",
            "Slice it with Views.hyperSlice.",
        )
    values = _shared_values(image, dtype)
    if values is None:
        values = np.empty(sizes, dtype)
        target = to_imglib2(xr.DataArray(values))
        jclass("net.imglib2.util.ImgUtil").copy(_at_zero(image), target)
    return make_stack(values.reshape(sizes))


def _imglib2_dtype(image: Any, parameter: str) -> np.dtype[Any]:
    element = image.getType()
    for dtype, kind in _KINDS.items():
        if isinstance(element, jclass(kind.imglib2)):
            return dtype
    raise ParameterError(
        parameter,
        "must hold UnsignedByteType, UnsignedShortType or FloatType",
        str(element.getClass().getSimpleName()),
        "Convert it with RealTypeConverters.",
    )


def _shared_values(image: Any, dtype: np.dtype[Any]) -> npt.NDArray[Any] | None:
    """Share an ImgLib2 image's memory where it is a direct buffer in our byte order."""
    if not isinstance(image, jclass("net.imglib2.img.array.ArrayImg")):
        return None
    storage = image.update(None)
    if not isinstance(storage, jclass(_KINDS[dtype].access)):
        return None
    buffer = storage.getCurrentStorageArray()
    if not buffer.isDirect():
        return None
    values = np.asarray(memoryview(buffer)).view()
    if dtype == np.uint8:
        return values.view(np.uint8)
    native = buffer.order() == jclass("java.nio.ByteOrder").nativeOrder()
    return values.view(dtype) if native else None


def _at_zero(image: Any) -> Any:
    return jclass("net.imglib2.view.Views").zeroMin(image)


def _convert(image: object, parameter: str) -> xr.DataArray | None:
    """Answer `as_stack`: a stack for an image of ImageJ, None for anything else."""
    if not jpype.isJVMStarted() or not isinstance(image, jpype.JObject):
        return None
    return to_xarray(image, parameter=parameter)


register_converter(_convert)
