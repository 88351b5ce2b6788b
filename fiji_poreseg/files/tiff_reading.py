"""TIFF as ImageJ, OME and others write it."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tifffile
import xarray as xr

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files.inputs import DAMAGE_ERRORS, PathLike, existing_file, log_records
from fiji_poreseg.files.planes import PlaneReader
from fiji_poreseg.lazy import LARGE_BYTES, lazy_planes
from fiji_poreseg.stack import Spacing, make_stack, nm_per, tidy

# ImageJ shows at most so many channels as colours; more are slices that nobody named so.
_MOST_CHANNELS = 7


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
    return lazy_planes(
        PlaneReader(file, series.dataoffset, series.shape, dtype), series.shape, dtype
    )


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


def _unescape(text: str) -> str:
    return re.sub(r"\\u([0-9A-Fa-f]{4})", lambda found: chr(int(found[1], 16)), text)
