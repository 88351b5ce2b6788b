"""TIFF that ImageJ opens, written slice by slice."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt
import tifffile
import xarray as xr

from fiji_poreseg.colours import LABEL_COLOURS
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files.inputs import PathLike
from fiji_poreseg.files.outputs import (
    begun,
    not_writable_in_words,
    remove,
    replacing,
    scratch,
)
from fiji_poreseg.files.planes import PlaneReader
from fiji_poreseg.stack import Spacing, nm_per, shown_range, slice_labels_of, spacing_nm, tidy

# Offsets in a TIFF have 32 bits. Beyond, ImageJ reads slices that follow one another without a
# gap after a single header; some room is left below for the headers of the single slices.
_ONE_HEADER_BYTES = 2**32 - 2**26
_BYTE_ORDER: Literal[">"] = ">"
# What units are called in OME, by how many nm they are long.
_OME_UNITS = {1e-3: "pm", 0.1: "Å", 1.0: "nm", 1e3: "µm", 1e6: "mm", 1e7: "cm", 1e9: "m"}
_NO_UUID = "00000000-0000-0000-0000-000000000000"
_GREY_TYPES = ("uint8", "uint16", "float32")


class TiffSlices:
    """Takes the slices of a TIFF that is being written, one by one, in any order.

    Parameters
    ----------
    target
        What the file will be called.
    stream
        The file, open for writing.
    offset
        Where its grey values begin.
    shape
        Shape of the image, slices first.
    dtype
        Data type in the file.
    parameter
        Name to use in an error.
    """

    def __init__(
        self,
        target: PathLike,
        stream: BinaryIO,
        offset: int,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        parameter: str,
    ) -> None:
        self._target, self._stream, self._offset = target, stream, offset
        self._shape, self._dtype, self._parameter = shape, dtype, parameter

    def __setitem__(self, index: int, values: npt.NDArray[Any]) -> None:
        """Write slice `index`: shape (y, x), or (channels, y, x)."""
        data = values.astype(self._dtype).tobytes()
        with not_writable_in_words(self._target, self._parameter):
            self._stream.seek(self._offset + index * len(data))
            self._stream.write(data)
            # What a full disk refuses is told here, and not when the file is closed.
            self._stream.flush()

    def read(self, index: int) -> npt.NDArray[Any]:
        """A slice that was written before."""
        shape = self._shape[1:]
        size = math.prod(shape) * self._dtype.itemsize
        self._stream.seek(self._offset + index * size)
        values = np.frombuffer(self._stream.read(size), self._dtype).reshape(shape)
        return values.astype(self._dtype.newbyteorder("="), copy=False)

    def finish(self) -> None:
        """Nothing is left to do."""

    def reader(self) -> Callable[..., npt.NDArray[Any]]:
        """Open the file, once it is in its place: reads a slice, or a plane of it, by index."""
        return PlaneReader(self._target, self._offset, self._shape, self._dtype)


@contextmanager
def writing_tiff(
    path: PathLike, image: xr.DataArray, *, parameter: str, go_on: bool, keep: bool
) -> Iterator[TiffSlices]:
    """Write a TIFF slice by slice; see `fiji_poreseg.files.writing`."""
    dtype = grey_type(image, parameter)
    ordered = image.transpose("z", *(dim for dim in image.dims if dim != "z"))
    with replacing(path, parameter, begun(path), keep=keep) as part:
        header = _write_ome_header if is_ome(path) else _write_header
        offset = _begin(part, partial(header, image=ordered, dtype=dtype), parameter, go_on=go_on)
        with open(part, "r+b") as stream:
            stored = dtype.newbyteorder(_BYTE_ORDER)
            yield TiffSlices(path, stream, offset, ordered.shape, stored, parameter)


def grey_type(image: xr.DataArray, parameter: str) -> np.dtype[Any]:
    """The data type that an image is written with; a `ParameterError` if it has none of them."""
    if image.dtype.kind == "f":
        return np.dtype("float32")
    if image.dtype.name not in _GREY_TYPES:
        raise ParameterError(
            parameter,
            f"can take images of {', '.join(_GREY_TYPES)}, which are those of ImageJ",
            f"an image of {image.dtype}",
            "Convert it first: .astype('float32') or Image > Type > 32-bit keeps up to 24 bits.",
        )
    return image.dtype


def _write_header(part: Path, image: xr.DataArray, dtype: np.dtype[Any]) -> int:
    """Write all but the grey values of `image`, whose first dim is z; answer with their place."""
    channels = image.sizes[image.dims[1]] if image.ndim == 4 else 1
    step, unit = _file_spacing(image)
    is_labels = "classes" in image.attrs and dtype == np.uint8
    with tifffile.TiffWriter(part, byteorder=_BYTE_ORDER, imagej=True) as tiff:
        place = tiff.write(
            shape=image.shape,
            dtype=dtype,
            returnoffset=True,
            truncate=image.size * dtype.itemsize > _ONE_HEADER_BYTES,
            photometric=_photometric(image, is_labels),
            colormap=LABEL_COLOURS.T.astype(np.uint16) * 257 if is_labels else None,
            resolution=(1 / step[2], 1 / step[1]),
            metadata={
                "axes": "ZYX" if image.ndim == 3 else "ZCYX",
                "unit": _escape(unit),
                "spacing": step[0],
                **_display_range(image, channels),
                **_texts(image, channels),
            },
        )
    assert place is not None  # the writer's answer to returnoffset
    return place[0]


def _write_ome_header(part: Path, image: xr.DataArray, dtype: np.dtype[Any]) -> int:
    """Write all but the values of an OME-TIFF, which has no place for slice labels and colours."""
    step, unit = _file_spacing(image)
    size = {} if unit == "pixel" else dict(zip("ZYX", step, strict=True))
    ome_unit = _OME_UNITS[nm_per(unit) or 1.0]
    channels = image[image.dims[1]].to_numpy().tolist() if image.ndim == 4 else []
    metadata = {
        "axes": "ZYX" if image.ndim == 3 else "ZCYX",
        "Name": str(image.name),
        # Else there would be another each time, and nothing to go on with.
        "UUID": _NO_UUID,
        **{f"PhysicalSize{axis}": length for axis, length in size.items()},
        **{f"PhysicalSize{axis}Unit": ome_unit for axis in size},
        **({"Channel": {"Name": [str(name) for name in channels]}} if channels else {}),
    }
    large = image.size * dtype.itemsize > _ONE_HEADER_BYTES
    with tifffile.TiffWriter(part, byteorder=_BYTE_ORDER, bigtiff=large, ome=True) as tiff:
        place = tiff.write(
            shape=image.shape,
            dtype=dtype,
            returnoffset=True,
            photometric="minisblack",
            metadata=metadata,
        )
    assert place is not None  # the writer's answer to returnoffset
    return place[0]


def is_ome(path: PathLike) -> bool:
    """Whether a file is to be an OME-TIFF, by its name."""
    return Path(path).name.lower().endswith((".ome.tif", ".ome.tiff"))


def _begin(part: Path, write_header: Callable[[Path], int], parameter: str, *, go_on: bool) -> int:
    """Begin a file, or find that it was begun alike; answer with the place of its values."""
    fresh = scratch(part)
    try:
        offset = write_header(fresh)
        if not go_on:
            os.replace(fresh, part)
        elif not _begin_alike(part, fresh, offset):
            # Its slices would be lost, or stand in a file that says something else of them.
            raise ParameterError(
                parameter,
                "must describe the image as what was begun of it does, where that is gone on with",
                "another voxel size, slice labels or calibration",
                "Give the stack as it was then, or leave resume out to start anew.",
            )
    finally:
        remove(fresh)
    return offset


def _begin_alike(part: Path, fresh: Path, length: int) -> bool:
    """Whether two files have one size and the same first bytes."""
    if not part.exists() or part.stat().st_size != fresh.stat().st_size:
        return False
    with open(part, "rb") as one, open(fresh, "rb") as other:
        return one.read(length) == other.read(length)


def _photometric(image: xr.DataArray, is_labels: bool) -> str:
    if is_labels:
        return "palette"
    return "miniswhite" if image.attrs.get("inverting_lut", False) else "minisblack"


def _file_spacing(image: xr.DataArray) -> tuple[Spacing, str]:
    """Voxel size (z, y, x) in the unit that comes with it."""
    if image.attrs.get("unit", "nm") == "pixel":
        return (1.0, 1.0, 1.0), "pixel"
    unit = str(image.attrs.get("source_unit", "nm"))
    factor = nm_per(unit)
    if factor is None:
        unit, factor = "nm", 1.0
    z, y, x = (tidy(step / factor) for step in spacing_nm(image))
    return (z, y, x), unit


def _display_range(image: xr.DataArray, channels: int) -> dict[str, Any]:
    # A lazy image is computed once, while it is written; ImageJ then scales it by itself.
    given = shown_range(image, look=isinstance(image.data, np.ndarray))
    if given is None:
        return {}
    low, high = given
    if channels > 1:
        return {"Ranges": (low, high) * channels}
    return {"min": low, "max": high}


def _texts(image: xr.DataArray, channels: int) -> dict[str, Any]:
    texts: dict[str, Any] = {}
    labels = slice_labels_of(image)
    if labels is not None and any(labels):
        texts["Labels"] = [label for label in labels for _ in range(channels)]
    if image.attrs.get("imagej_info"):
        texts["Info"] = str(image.attrs["imagej_info"])
    return texts


def _escape(text: str) -> str:
    """Write letters beyond ASCII as ImageJ does in the description: a backslash, u, four digits."""
    return "".join(letter if letter.isascii() else f"\\u{ord(letter):04X}" for letter in text)
