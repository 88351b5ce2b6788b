"""TIFF as ImageJ, OME and others write it."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, RLock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tifffile
import xarray as xr

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files.axes import arrange, axis_order
from fiji_poreseg.files.inputs import DAMAGE_ERRORS, PathLike, existing_file, log_records
from fiji_poreseg.files.microscopes import data_bar_rows, pixel_size_nm
from fiji_poreseg.files.planes import PlaneReader
from fiji_poreseg.lazy import LARGE_BYTES, lazy_planes
from fiji_poreseg.stack import ASSUMED, Spacing, make_stack, nm_per, tidy

_listening = RLock()


def read_tiff(path: PathLike, parameter: str) -> xr.DataArray:
    """Read a stack from a TIFF file; see `fiji_poreseg.files.read`.

    ImageJ marks the slices of a stack as time points where nobody told it better, so a time
    axis (or any other single axis besides channels) counts as z when there is no z axis, and so
    do more than seven channels.
    """
    file = existing_file(path, parameter)
    with damage_as_error(file, parameter), tifffile.TiffFile(file) as tiff:
        series = _only_series(tiff, file, parameter)
        order, has_channels = axis_order(series.axes, series.shape, file, parameter)
        _check_extent(tiff, series)
        values = _lazy(file, series) if _is_large(series) else series.asarray()
        metadata = _metadata(tiff)
    planes = arrange(values, order, has_channels)
    return make_stack(
        planes,
        metadata.spacing,
        name=file.stem.removesuffix(".ome"),
        slice_labels=metadata.labels_for(planes.shape),
        attrs=metadata.attrs,
    )


@contextmanager
def _listened() -> Iterator[list[logging.LogRecord]]:
    """Collect what tifffile logs: it tells of some damage in no other way, and goes on."""
    # What listens belongs to the whole process, so that one thread at a time may.
    with (
        _listening,
        warnings.catch_warnings(action="ignore"),
        log_records("tifffile") as records,
    ):
        yield records


@contextmanager
def damage_as_error(file: Path, parameter: str) -> Iterator[None]:
    """Raise what a damaged TIFF raises as a `ParameterError`."""
    try:
        with _listened() as records:
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
        # For Zstandard, tifffile asks for a module of Python 3.14 first.
        if not isinstance(error, ImportError) and "imagecodecs" not in str(error):
            raise _damaged(file, parameter) from error
        raise ParameterError(
            parameter,
            "must be a TIFF without compression, or with that of zlib or PackBits",
            f"{file}, compressed otherwise",
            "Save it again without compression, or install the package imagecodecs.",
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


def is_cut_off(path: PathLike) -> bool:
    """Whether a TIFF ends before its images do, which not all programs notice.

    Parameters
    ----------
    path
        A file; of one that is no TIFF, or damaged otherwise, it is not said.
    """
    try:
        with _listened() as records, tifffile.TiffFile(path) as tiff:
            if any(_end(series) > tiff.filehandle.size for series in tiff.series):
                return True
    except (tifffile.TiffFileError, *DAMAGE_ERRORS):
        return False
    said = " ".join(record.getMessage() for record in records)
    return "invalid page offset" in said or "corrupted file" in said


def _end(series: Any) -> int:
    """Where in the file the images must end."""
    if series.dataoffset is not None:
        return int(series.dataoffset + series.nbytes)
    return max(
        int(offset + count)
        for page in series.pages
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)
    )


def _check_extent(tiff: Any, series: Any) -> None:
    metadata = tiff.imagej_metadata or {}
    planes = int(np.prod(series.shape[:-2]))
    if _end(series) > tiff.filehandle.size or metadata.get("images", planes) != planes:
        raise EOFError


def _is_large(series: Any) -> bool:
    return bool(series.nbytes > LARGE_BYTES) and (
        series.dataoffset is not None or series.pages[0].shape == series.shape[-2:]
    )


def _lazy(file: Path, series: Any) -> Any:
    if series.dataoffset is None:
        return lazy_planes(PageReader(file, series.shape), series.shape, series.dtype)
    dtype = np.dtype(series.pages[0].parent.byteorder + series.dtype.char)
    reader = PlaneReader(file, series.dataoffset, series.shape, dtype)
    return lazy_planes(reader, series.shape, dtype)


class PageReader:
    """Reads planes of a TIFF that is compressed or tiled, by their indices, from any thread.

    The file stays open. Sent to another process, it is opened there.

    Parameters
    ----------
    file
        A TIFF of one image, a plane a page.
    shape
        Its shape.
    """

    def __init__(self, file: Path, shape: Sequence[int]) -> None:
        self._file, self._shape = file.absolute(), tuple(shape)
        self._tiff = tifffile.TiffFile(file)
        self._pages, self._lock = self._tiff.series[0].pages, Lock()

    def __call__(self, *index: int) -> npt.NDArray[Any]:
        """Read a plane."""
        number = int(np.ravel_multi_index(index, self._shape[:-2])) if index else 0
        with self._lock, damage_as_error(self._file, "image"):
            page: Any = self._pages[number]
            values = np.asarray(page.asarray())
        return values.astype(values.dtype.newbyteorder("="), copy=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return PageReader, (self._file, self._shape)

    def __del__(self) -> None:
        # Not there where it could not be opened.
        if hasattr(self, "_tiff"):
            self._tiff.close()


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
    spacing = _imagej_spacing(tiff.pages.first, imagej, unit)
    if spacing and "spacing" not in imagej and imagej.get("images", 1) == 1:
        # ImageJ writes the distance of slices into stacks only.
        spacing = (spacing[2], *spacing[1:])
        attrs["thickness"] = ASSUMED
    pixel = None if spacing else pixel_size_nm(tiff)
    if pixel is not None:
        spacing = (pixel[1], *pixel)
        attrs["thickness"] = ASSUMED
    bar = data_bar_rows(tiff)
    if bar:
        attrs["data_bar"] = (int(tiff.pages.first.imagelength), bar)
    return _Metadata(spacing, (labels,) if isinstance(labels, str) else tuple(labels), attrs)


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
    attrs: dict[str, Any] = {"inverting_lut": False}
    if not sizes[0]:
        sizes[0] = sizes[2]
        attrs["thickness"] = ASSUMED
    units = [str(pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "ZYX"]
    factors = [nm_per(unit) for unit in units]
    if 0 in sizes or None in factors:
        return _Metadata(None, (), {"inverting_lut": False})
    attrs["source_unit"] = units[2]
    return _Metadata(_product(sizes, factors), (), attrs)


def _unescape(text: str) -> str:
    return re.sub(r"\\u([0-9A-Fa-f]{4})", lambda found: chr(int(found[1], 16)), text)
