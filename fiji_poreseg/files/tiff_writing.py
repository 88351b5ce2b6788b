"""TIFF that ImageJ opens, written slice by slice."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import tifffile
import xarray as xr

from fiji_poreseg.colours import LABEL_COLOURS
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files.inputs import PathLike
from fiji_poreseg.files.outputs import (
    begun,
    check_output,
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
_GREY_TYPES = ("uint8", "uint16", "float32")


def write(path: PathLike, image: xr.DataArray, *, parameter: str = "output") -> None:
    """Write a stack, labels or a probability as a TIFF of ImageJ.

    The file carries voxel size, unit (that of the file the stack came from, else nm), slice
    labels and display range; labels (``attrs["classes"]``) the colours of
    `fiji_poreseg.colours.LABEL_COLOURS`. It is not compressed, so that ImageJ can open it as a
    virtual stack, and may be larger than 4 GB. A lazy stack is computed slice by slice.

    Parameters
    ----------
    path
        Where to; an existing file is replaced, at the end and only on success.
    image
        Dims ``("z", "y", "x")``, with ``"c"`` or ``"class"`` first for several channels; uint8,
        uint16 or floating point, which is written as float32.
    parameter
        Name to use in an error.

    Raises
    ------
    ParameterError
        If the data type is none of ImageJ's or the file cannot be written.
    """
    with writing(path, image, parameter=parameter) as slices:
        for index in range(image.sizes["z"]):
            slices[index] = image.isel(z=index).to_numpy()


class SliceWriter:
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

    def reader(self) -> Callable[..., npt.NDArray[Any]]:
        """Open the file, once it is in its place: reads a slice, or a plane of it, by index."""
        return PlaneReader(self._target, self._offset, self._shape, self._dtype)


@contextmanager
def writing(
    path: PathLike,
    image: xr.DataArray,
    *,
    parameter: str = "output",
    go_on: bool = False,
    keep: bool = False,
) -> Iterator[SliceWriter]:
    """Write a TIFF like `write`, but slice by slice, as they come.

    Until it is whole, what there is of it lies in the file that `begun` names.

    Parameters
    ----------
    path
        Where to; an existing file is replaced on leaving the block, and only on success.
    image
        What the file is to describe; of its values none is read, but the display range of a
        numpy array of floating point or 16 bits that has none in its attributes.
    parameter
        Name to use in an error.
    go_on
        Whether slices in what there is of it already are to stay.
    keep
        Whether what there is of it stays on an exception.

    Raises
    ------
    ParameterError
        If the data type is none of ImageJ's, the file cannot be written, or what is to be gone on
        with describes another image: another voxel size, say, or other slice labels.
    """
    check_output(path, parameter)
    dtype = _grey_type(image, parameter)
    ordered = image.transpose("z", *(dim for dim in image.dims if dim != "z"))
    with replacing(path, parameter, begun(path), keep=keep) as part:
        offset = _begin(part, ordered, dtype, parameter, go_on=go_on)
        with open(part, "r+b") as stream:
            stored = dtype.newbyteorder(">")
            yield SliceWriter(path, stream, offset, ordered.shape, stored, parameter)


def _grey_type(image: xr.DataArray, parameter: str) -> np.dtype[Any]:
    if image.dtype.kind == "f":
        return np.dtype("float32")
    if image.dtype.name not in _GREY_TYPES:
        raise ParameterError(
            parameter,
            f"can take images of {', '.join(_GREY_TYPES)}, which are those of ImageJ",
            f"an image of {image.dtype}",
            "Convert it first, for example with .astype('uint8').",
        )
    return image.dtype


def _write_header(part: Path, image: xr.DataArray, dtype: np.dtype[Any]) -> int:
    """Write all but the grey values of `image`, whose first dim is z; answer with their place."""
    channels = image.sizes[image.dims[1]] if image.ndim == 4 else 1
    step, unit = _file_spacing(image)
    is_labels = "classes" in image.attrs and dtype == np.uint8
    with tifffile.TiffWriter(part, byteorder=">", imagej=True) as tiff:
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


def _begin(
    part: Path, image: xr.DataArray, dtype: np.dtype[Any], parameter: str, *, go_on: bool
) -> int:
    """Begin a file, or find that it was begun alike; answer with the place of its values."""
    fresh = scratch(part)
    try:
        offset = _write_header(fresh, image, dtype)
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
