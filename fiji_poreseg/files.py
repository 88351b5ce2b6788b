"""Stacks in files: TIFF as ImageJ, OME and others write it, and output that is whole or not there.

Importing this module lets `fiji_poreseg.stack.as_stack` take a path.
"""

from __future__ import annotations

import csv
import errno
import io
import logging
import lzma
import math
import os
import re
import struct
import tokenize
import uuid
import warnings
import weakref
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import tifffile
import xarray as xr

from fiji_poreseg.colours import LABEL_COLOURS
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.lazy import LARGE_BYTES, lazy_planes
from fiji_poreseg.stack import (
    Spacing,
    make_stack,
    nm_per,
    register_converter,
    shown_range,
    slice_labels_of,
    spacing_nm,
    tidy,
)

PathLike = str | os.PathLike[str]

TIFF_SUFFIXES = (".tif", ".tiff")
# Offsets in a TIFF have 32 bits. Beyond, ImageJ reads slices that follow one another without a
# gap after a single header; some room is left below for the headers of the single slices.
_ONE_HEADER_BYTES = 2**32 - 2**26
# ImageJ shows at most so many channels as colours; more are slices that nobody named so.
_MOST_CHANNELS = 7
# What parsers (TIFF, ROI, zip, npy, JSON) stumble over in a damaged file.
DAMAGE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_GREY_TYPES = ("uint8", "uint16", "float32")
_NO_WRITING = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
    errno.ENAMETOOLONG,
)


def read(path: PathLike, *, parameter: str = "image") -> xr.DataArray:
    """Read a stack from a TIFF file.

    ImageJ marks the slices of a stack as time points where nobody told it better, so a time
    axis (or any other single axis besides channels) counts as z when there is no z axis, and so
    do more than seven channels.

    Parameters
    ----------
    path
        TIFF of ImageJ, OME-TIFF or any other multi-page TIFF with one grey value per pixel.
    parameter
        Name to use in an error.

    Returns
    -------
    xarray.DataArray
        Dims ``("z", "y", "x")``, or ``("c", "z", "y", "x")`` for several channels, coordinates
        in nm and perhaps ``slice_label``, the name is the file's without its ending. ``attrs``
        may hold, besides what `fiji_poreseg.stack.make_stack` writes, ``source_unit`` (the unit
        in the file), ``display_range`` (lowest and highest grey value shown),
        ``inverting_lut`` and ``imagej_info``. An uncompressed file beyond 256 MB is not
        loaded: dask reads it slice by slice.

    Raises
    ------
    ParameterError
        If there is no such file, it is no TIFF, damaged, or holds colours.
    """
    file = existing_file(path, parameter)
    with _damage_as_error(file, parameter), tifffile.TiffFile(file) as tiff:
        series = _only_series(tiff, file, parameter)
        order, has_channels = _axis_order(series, file, parameter)
        _check_extent(tiff, series)
        values = _lazy(file, series) if _is_large(series) else series.asarray()
        metadata = _metadata(tiff)
    planes = _arrange(values, order, has_channels)
    return make_stack(
        planes,
        metadata.spacing,
        name=file.stem,
        slice_labels=metadata.labels_for(planes.shape),
        attrs=metadata.attrs,
    )


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
        with _not_writable_in_words(self._target, self._parameter):
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
        return _reader(self._target, self._offset, self._shape, self._dtype)


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


def write_text(path: PathLike, text: str, *, parameter: str = "output") -> None:
    """Write a text file (UTF-8, line ends as they are), replacing an existing one only whole."""
    with replacing(path, parameter) as part:
        part.write_text(text, encoding="utf-8", newline="")


def write_csv(
    path: PathLike, rows: Sequence[Mapping[str, object]], *, parameter: str = "output"
) -> None:
    """Write a table (UTF-8, a first line of names), replacing an existing one only whole."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(path, text.getvalue(), parameter=parameter)


def begun(path: PathLike) -> Path:
    """Where an image lies that `writing` has begun, until it is whole: beside it, hidden."""
    target = Path(os.path.realpath(path))
    return target.with_name(f".{target.name}.begun")


@contextmanager
def replacing(
    path: PathLike, parameter: str = "output", part: Path | None = None, *, keep: bool = False
) -> Iterator[Path]:
    """Give a path beside `path` to write to, and put that file in its place on success.

    On an exception the part written is removed and an older file stays as it was.

    Parameters
    ----------
    path
        The file to be replaced.
    parameter
        Name to use in an error.
    part
        The path to write to; by default one that no other file has.
    keep
        Whether the part stays on an exception.

    Raises
    ------
    ParameterError
        If the folder cannot be written or the disk is full.
    """
    target = Path(os.path.realpath(path))
    part = part or _scratch(target)
    try:
        with _not_writable_in_words(path, parameter):
            yield part
            os.replace(part, target)
    finally:
        if not keep:
            _remove(part)


def _scratch(target: Path) -> Path:
    """A path beside `target` that no other file has."""
    # Not tempfile: its files may be read by their owner only, whatever the umask.
    return target.with_name(f".{uuid.uuid4().hex}{target.suffix}")


def _remove(part: Path) -> None:
    # A folder that vanished has no part to remove, and must not hide the first error.
    if part.exists():
        part.unlink()


def check_output(
    path: PathLike, parameter: str = "output", suffixes: Sequence[str] = TIFF_SUFFIXES
) -> None:
    """Find out before long work whether its result can be written.

    Parameters
    ----------
    path
        The file to be written.
    parameter
        Name to use in an error.
    suffixes
        Endings that the file may have, in lower case; empty for any.

    Raises
    ------
    ParameterError
        If the ending is another, the path is a folder, or its folder cannot be written.
    """
    target = Path(path)
    if suffixes and target.suffix.lower() not in suffixes:
        raise ParameterError(
            parameter,
            f"must end in {' or '.join(suffixes)}",
            str(path),
            f"Name the file for example {target.stem or 'result'}{suffixes[0]}.",
        )
    if target.is_dir():
        raise ParameterError(
            parameter, "must be a file", f"the folder {path}", "Add a file name to the path."
        )
    # Permissions tell little: root has them all, and a file system may be read-only.
    try:
        with replacing(path, parameter) as part:
            part.touch()
            raise _WritableError
    except _WritableError:
        return


class _WritableError(Exception):
    """Leaves `replacing` without replacing."""


def existing_file(path: PathLike, parameter: str) -> Path:
    """Answer with the path of a file that is there and not empty, or raise a `ParameterError`."""
    file = Path(path)
    try:
        found = file.stat()
    # ValueError: a path with a character that no path has.
    except (OSError, ValueError) as error:
        raise ParameterError(
            parameter,
            "must be a file that exists and can be read",
            str(path),
            f"Check the path; a relative one starts from {Path.cwd()}.",
        ) from error
    if file.is_dir():
        raise ParameterError(
            parameter, "must be a file", f"the folder {path}", "Add the file's name."
        )
    if found.st_size == 0:
        raise ParameterError(
            parameter, "must be a file with content", f"the empty {path}", "Save it again."
        )
    return file


@contextmanager
def log_records(logger_name: str) -> Iterator[list[logging.LogRecord]]:
    """Collect what a library logs inside the block instead of letting it reach the terminal."""
    handler = _Collector()
    logger = logging.getLogger(logger_name)
    propagated, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield handler.records
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def _not_writable_in_words(path: PathLike, parameter: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Other errors of this kind (a lost connection, say) have nothing to do with the output.
        if error.errno not in _NO_WRITING:
            raise
        raise ParameterError(
            parameter,
            "must lie in a folder that exists, can be written and has space",
            f"{path} ({error.strerror})",
            "Create the folder, free some space or choose another folder.",
        ) from error


# Reading


@contextmanager
def _damage_as_error(file: Path, parameter: str) -> Iterator[None]:
    # tifffile tells of damage partly by exceptions and partly by the log, and goes on then.
    try:
        with warnings.catch_warnings(), log_records("tifffile") as records:
            warnings.simplefilter("ignore")
            yield
    except ParameterError:
        raise
    except tifffile.TiffFileError as error:
        if "not a TIFF" not in str(error):
            raise _damaged(file, parameter) from error
        raise ParameterError(
            parameter, "must be a TIFF file", str(file), "Open it in ImageJ and save it as TIFF."
        ) from error
    except (ValueError, ImportError) as error:
        if "imagecodecs" not in str(error):
            raise _damaged(file, parameter) from error
        raise ParameterError(
            parameter,
            "must be a TIFF without compression, or with that of zlib",
            f"{file} ({str(error).split('requires')[0].strip()})",
            "Open it in ImageJ and save it as TIFF, or install the package imagecodecs.",
        ) from error
    except DAMAGE_ERRORS as error:
        raise _damaged(file, parameter) from error
    if any(record.levelno >= logging.ERROR for record in records):
        raise _damaged(file, parameter)


def _damaged(file: Path, parameter: str) -> ParameterError:
    return ParameterError(
        parameter,
        "must be a complete TIFF file",
        f"{file}, which is damaged or cut off",
        "Copy it again, or save it again in ImageJ.",
    )


def _only_series(tiff: Any, file: Path, parameter: str) -> Any:
    if not tiff.series:
        raise EOFError
    if len(tiff.series) > 1:
        raise ParameterError(
            parameter,
            "must hold slices of one size and type",
            f"{file} with {len(tiff.series)} different images",
            "Open the right one in ImageJ and save it as TIFF.",
        )
    return tiff.series[0]


def _axis_order(series: Any, file: Path, parameter: str) -> tuple[list[int], bool]:
    """Where c (if any), z (if any), y and x are, and whether there is c."""
    axes = series.axes
    if "S" in axes:
        raise ParameterError(
            parameter,
            "must hold grey values",
            f"{file} with colours (RGB)",
            "Convert it with Image > Type > 8-bit in ImageJ.",
        )
    stacked = [axis for axis in axes if axis not in "CYX"]
    if len(stacked) > 1:
        raise ParameterError(
            parameter,
            "must have one axis of slices",
            f"{file} with the axes {','.join(axes)} of {series.shape}",
            "Keep one time point with Image > Hyperstacks > Reduce Dimensionality in ImageJ.",
        )
    channels = [axis for axis in axes if axis == "C"]
    if channels and not stacked and series.shape[axes.index("C")] > _MOST_CHANNELS:
        channels, stacked = stacked, channels
    return [axes.index(axis) for axis in (*channels, *stacked, "Y", "X")], bool(channels)


def _check_extent(tiff: Any, series: Any) -> None:
    size = tiff.filehandle.size
    if series.dataoffset is not None:
        ends = [series.dataoffset + series.nbytes]
    else:
        ends = [
            offset + count
            for page in series.pages
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
        ]
    metadata = tiff.imagej_metadata or {}
    planes = int(np.prod(series.shape[:-2]))
    if max(ends) > size or metadata.get("images", planes) != planes:
        raise EOFError


def _is_large(series: Any) -> bool:
    return series.dataoffset is not None and series.nbytes > LARGE_BYTES


def _lazy(file: Path, series: Any) -> Any:
    dtype = np.dtype(series.pages[0].parent.byteorder + series.dtype.char)
    return lazy_planes(_reader(file, series.dataoffset, series.shape, dtype), series.shape, dtype)


def _reader(
    file: PathLike, offset: int, shape: Sequence[int], dtype: np.dtype[Any]
) -> Callable[..., npt.NDArray[Any]]:
    """A function that reads values[index] of a file by as many indices as it is given.

    The file stays open: its values stay the same where another file takes its place. It is not
    mapped, since what is mapped and was read once counts as memory of the process.
    """
    stream = open(file, "rb")  # noqa: SIM115 - closed when the reader is gone
    lock, native = Lock(), dtype.newbyteorder("=")

    def read(*index: int) -> npt.NDArray[Any]:
        values = np.empty(shape[len(index) :], dtype)
        number = int(np.ravel_multi_index(index, shape[: len(index)])) if index else 0
        with lock:
            stream.seek(offset + number * values.nbytes)
            found = stream.readinto(values.data)
        if found != values.nbytes:
            raise OSError(f"{file} was cut off while it was being read")
        return values.astype(native, copy=False)

    weakref.finalize(read, stream.close)
    return read


def _arrange(values: Any, order: list[int], has_channels: bool) -> Any:
    """Axes (c, z, y, x) or (z, y, x), with the machine's byte order; bits become 0 and 255."""
    arranged = values.transpose(order)
    if arranged.ndim == 2 + has_channels:
        arranged = arranged[..., np.newaxis, :, :]
    if arranged.dtype == bool:
        return arranged.astype(np.uint8) * np.uint8(255)
    return arranged.astype(arranged.dtype.newbyteorder("="), copy=False)


class _Metadata(NamedTuple):
    spacing: Spacing | None
    labels: tuple[str, ...]
    attrs: dict[str, Any]

    def labels_for(self, shape: Sequence[int]) -> tuple[str, ...] | None:
        """One label per slice; ImageJ has one per slice and channel, the channels side by side."""
        slices = shape[-3]
        channels = shape[0] if len(shape) == 4 else 1
        if len(self.labels) != slices * channels:
            return None
        return self.labels[::channels]


def _metadata(tiff: Any) -> _Metadata:
    if tiff.is_ome:
        return _ome_metadata(tiff)
    imagej = tiff.imagej_metadata or {}
    labels = imagej.get("Labels", ())
    attrs: dict[str, Any] = {"inverting_lut": _is_inverting(tiff.pages.first, imagej)}
    ranges = imagej.get("Ranges") or (imagej.get("min"), imagej.get("max"))
    if ranges[0] is not None and ranges[1] is not None:
        attrs["display_range"] = (float(ranges[0]), float(ranges[1]))
    if imagej.get("Info"):
        attrs["imagej_info"] = str(imagej["Info"])
    unit = _unescape(str(imagej.get("unit", "")))
    if unit:
        attrs["source_unit"] = unit
    return _Metadata(
        _imagej_spacing(tiff.pages.first, imagej, unit),
        (labels,) if isinstance(labels, str) else tuple(labels),
        attrs,
    )


def _imagej_spacing(page: Any, imagej: dict[str, Any], unit: str) -> Spacing | None:
    pixels = [_resolution(page, name) for name in ("YResolution", "XResolution")]
    # ImageJ leaves yunit and zunit out where they are the same, and spacing where it is 1.
    units = [_unescape(str(imagej.get(name, unit))) for name in ("zunit", "yunit")] + [unit]
    factors = [nm_per(name) for name in units]
    if 0 in pixels or None in factors:
        return None
    steps = (abs(float(imagej.get("spacing", 1))), 1 / pixels[0], 1 / pixels[1])
    return _product(steps, factors)


def _product(steps: Iterable[float], factors: Iterable[float | None]) -> Spacing | None:
    z, y, x = (tidy(step * (factor or 0)) for step, factor in zip(steps, factors, strict=True))
    return (z, y, x) if min(z, y, x) > 0 and max(z, y, x) < np.inf else None


def _resolution(page: Any, name: str) -> float:
    """Pixels per unit, 0 where the file does not say."""
    numerator, denominator = page.tags.valueof(name, (0, 1))
    return float(numerator / denominator) if denominator else 0.0


def _is_inverting(page: Any, imagej: dict[str, Any]) -> bool:
    tables = imagej.get("LUTs", page.colormap)
    if tables is None:
        return bool(page.photometric == tifffile.PHOTOMETRIC.MINISWHITE)
    first = np.asarray(tables[0] if isinstance(tables, list) else tables, np.int64)
    return bool((np.diff(first) < 0).all())


def _ome_metadata(tiff: Any) -> _Metadata:
    image = tifffile.xml2dict(tiff.ome_metadata)["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    sizes = [float(pixels.get(f"PhysicalSize{axis}", 0)) for axis in "ZYX"]
    # A single slice has no PhysicalSizeZ; it is as thick as its pixels are wide.
    sizes[0] = sizes[0] or sizes[2]
    units = [str(pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "ZYX"]
    factors = [nm_per(unit) for unit in units]
    if 0 in sizes or None in factors:
        return _Metadata(None, (), {"inverting_lut": False})
    attrs = {"inverting_lut": False, "source_unit": units[2]}
    return _Metadata(_product(sizes, factors), (), attrs)


# Writing


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
    fresh = _scratch(part)
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
        _remove(fresh)
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


def _unescape(text: str) -> str:
    return re.sub(r"\\u([0-9A-Fa-f]{4})", lambda found: chr(int(found[1], 16)), text)


def _read_path(image: object, parameter: str) -> xr.DataArray | None:
    if not isinstance(image, str | os.PathLike):
        return None
    return read(image, parameter=parameter)


register_converter(_read_path)
