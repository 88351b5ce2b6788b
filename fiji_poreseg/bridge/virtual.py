"""Lazy images: ImageJ's virtual stacks as dask arrays, and lazy stacks as its virtual stacks."""

from __future__ import annotations

from functools import lru_cache
from threading import Lock
from typing import Any

import dask.array as da
import jpype
import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg.bridge.classes import virtual_stack_class
from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.bridge.pixels import from_java, java_threads, kind_of, to_java
from fiji_poreseg.lazy import lazy_planes

_MOST_SLICES_KEPT = 16
_MOST_BYTES_KEPT = 2**28


def lazy_values(image_stack: Any, channels: int, dtype: np.dtype[Any]) -> da.Array:
    """An ImageStack as a lazy array, shape (c, z, y, x), that reads it plane by plane.

    Parameters
    ----------
    image_stack
        Virtual or not, its planes in ImageJ's order, the channels first.
    channels
        How many of its planes make a slice.
    dtype
        uint8, uint16 or float32, as its planes are.
    """
    count = int(image_stack.getSize())
    height, width = int(image_stack.getHeight()), int(image_stack.getWidth())
    # Closing an image empties its stack, but not a virtual one.
    arrays = None
    if not image_stack.isVirtual():
        arrays = [image_stack.getPixels(number) for number in range(1, count + 1)]
    # ImageJ's readers are not made for several threads.
    lock, in_java = Lock(), java_threads()

    def read(channel: int, index: int) -> npt.NDArray[Any]:
        number = index * channels + channel
        plane = np.empty((height, width), dtype)
        with lock, in_java():
            # Named nowhere: to let go of it later would make the thread known to Java again.
            from_java(arrays[number] if arrays else image_stack.getPixels(number + 1), plane)
        return plane

    return lazy_planes(read, (channels, count // channels, height, width), dtype)


def virtual_stack(channels: xr.DataArray) -> Any:
    """A stack, dims (c, z, y, x), as a virtual ImageStack that computes a plane when asked.

    As in every virtual stack of ImageJ, what is drawn into a plane is gone when another is shown.
    """
    count, slices, height, width = channels.shape
    kind = kind_of(channels.dtype)
    planes = channels.data
    bytes_each = height * width * channels.dtype.itemsize

    @lru_cache(maxsize=max(1, min(_MOST_SLICES_KEPT, _MOST_BYTES_KEPT // bytes_each)))
    def computed(channel: int, index: int) -> npt.NDArray[Any]:
        return np.asarray(planes[channel, index])

    def processor(number: int) -> Any:
        index, channel = divmod(int(number) - 1, count)
        try:
            plane = computed(channel, index)
        except Exception as error:
            _tell(f"Slice {index + 1} of {channels.name} cannot be computed: {error}")
            raise
        return jclass(kind.processor)(width, height, to_java(plane), None)

    made = virtual_stack_class()(width, height, count * slices, f"{kind.bits}-bit")
    made.python = jpype.JProxy("java.util.function.IntFunction", dict={"apply": processor})
    return made


def _tell(message: str) -> None:
    """Stop a macro, or show a window; ImageJ prints an exception and goes on."""
    running = jclass("ij.macro.Interpreter").getInstance() is not None
    if running or jclass("ij.IJ").getInstance() is not None:
        jclass("ij.IJ").error("PoreSeg", message)
