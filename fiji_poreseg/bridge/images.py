"""Images between ImageJ and xarray: whatever ImageJ calls an image, and stacks as an ImagePlus."""

from __future__ import annotations

from typing import Any

import jpype
import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg.bridge import attributes, dataset, imglib2, metadata
from fiji_poreseg.bridge.imglib2 import to_imglib2
from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.bridge.pixels import (
    MOST_COPIED_BYTES,
    borrowed_buffer,
    for_each,
    kind_of,
    to_java,
)
from fiji_poreseg.bridge.virtual import lazy_values, virtual_stack
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.stack import register_converter, to_dataarray

__all__ = ["to_imageplus", "to_imglib2", "to_xarray"]

_GRAY8, _GRAY16, _GRAY32 = 0, 1, 2
_DTYPES: dict[int, npt.DTypeLike] = {_GRAY8: np.uint8, _GRAY16: np.uint16, _GRAY32: np.float32}


def to_imageplus(stack: xr.DataArray) -> Any:
    """Copy a stack into an ImagePlus; a lazy one becomes a virtual stack.

    Parameters
    ----------
    stack
        Dims ``(z, y, x)``, ``(y, x)``, or with ``c``, ``class`` or ``channel`` first, which
        become ImageJ's channels; uint8, uint16 or float32. A segmentation
        (``attrs["classes"]``) gets the look-up table of the classes. Where it is lazy, or
        larger than half of Java's memory, a slice is computed when ImageJ asks for it, and what
        is drawn into it is not kept.

    Returns
    -------
    ij.ImagePlus
        With all that docs/exchange.md names: voxel size, unit, origin, labels, names of
        detectors, display range, Info, properties, further attributes.

    Raises
    ------
    ParameterError
        If ImageJ has no such pixels or axes, or no place for a coordinate or an attribute; or if
        Java's memory is full.
    """
    channels = _as_channels(stack)
    attributes.check(channels)
    count, slices = channels.shape[:2]
    kind_of(channels.dtype)
    half = int(jclass("java.lang.Runtime").getRuntime().maxMemory()) // 2
    if channels.chunks is not None or channels.nbytes > half:
        image_stack = virtual_stack(channels)
    else:
        image_stack = _filled_stack(channels.to_numpy())
    image = jclass("ij.ImagePlus")(str(channels.name or "stack"), image_stack)
    image.setDimensions(count, slices, 1)
    image.setOpenAsHyperStack(count > 1)
    return metadata.write(image, channels)


def _as_channels(stack: xr.DataArray) -> xr.DataArray:
    """Give a stack its four axes, the channels first, and coordinates in nm."""
    attributes.check_array(stack)
    others = [dim for dim in attributes.CHANNEL_DIMS[1:] if dim in stack.dims[:-3]]
    if others and "c" in stack.coords:
        raise ParameterError(
            "image",
            f"must have no coordinate c beside the dim {others[0]}: both are ImageJ's channels",
            f"coordinates {tuple(map(str, stack.coords))}",
            'Use .drop_vars("c").',
        )
    stack = to_dataarray(stack.rename(dict.fromkeys(others, "c")))
    return stack if stack.ndim == 4 else stack.expand_dims("c")


def _filled_stack(values: npt.NDArray[Any]) -> Any:
    """An ImageStack with copies of the planes, in ImageJ's order: the channels first."""
    channels, slices, height, width = values.shape

    def copy(number: int) -> Any:
        return to_java(values[number % channels, number // channels])

    made = jclass("ij.ImageStack")(width, height)
    try:
        planes = for_each(copy, channels * slices, values.nbytes)
    except jclass("java.lang.OutOfMemoryError") as error:
        raise ParameterError(
            "image",
            "must fit into Java's memory beside what is there",
            f"{values.nbytes / 1e6:.0f} MB",
            "Close some images, or give it lazily, with .chunk(): its slices are then copied one "
            "by one.",
        ) from error
    for pixels in planes:
        made.addSlice(None, pixels)
    return made


def to_xarray(image: Any, *, parameter: str = "image") -> xr.DataArray:
    """Take an image of ImageJ as a stack.

    Parameters
    ----------
    image
        An ImagePlus with grey values of 8, 16 or 32 bit: an image, a stack, or a hyperstack of
        channels and slices. Or an ImgLib2 image, axes x, y, z and channel. Or, in Fiji, a
        Dataset with such axes in any order.
    parameter
        Name to use in an error.

    Returns
    -------
    xarray.DataArray
        Coordinates in nm; what else ImageJ knows of the image lies in ``attrs``, see
        docs/exchange.md. A virtual stack, or an ImagePlus beyond 1 GB, is lazy (dask): its
        slices are read when they are asked for. An ImgLib2 image that lives in a direct buffer
        shares its memory with the result.

    Raises
    ------
    ParameterError
        If it has colours, a time axis, or is of another kind.
    """
    if isinstance(image, jclass("ij.ImagePlus")):
        return _from_imageplus(image, parameter)
    if dataset.is_dataset(image):
        return dataset.to_xarray(image, parameter)
    if isinstance(image, jclass("net.imglib2.RandomAccessibleInterval")):
        return imglib2.to_xarray(image, parameter)
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
    image_stack = image.getStack()
    shape = (channels, slices, int(image.getHeight()), int(image.getWidth()))
    if image_stack.isVirtual() or np.prod(shape) * dtype.itemsize > MOST_COPIED_BYTES:
        return metadata.read(image, lazy_values(image_stack, channels, dtype), parameter)
    values = np.empty(shape, dtype)
    whole, size = borrowed_buffer(values), shape[-2] * shape[-1]

    def copy(number: int) -> None:
        index, channel = divmod(number, channels)
        place = whole.duplicate().position((channel * slices + index) * size)
        place.put(image_stack.getPixels(number + 1), 0, size)

    for_each(copy, channels * slices, values.nbytes)
    return metadata.read(image, values, parameter)


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


def _convert(image: object, parameter: str) -> xr.DataArray | None:
    """Answer `as_stack`: a stack for an image of ImageJ, None for anything else."""
    if not jpype.isJVMStarted() or not isinstance(image, jpype.JObject):
        return None
    return to_xarray(image, parameter=parameter)


register_converter(_convert)
