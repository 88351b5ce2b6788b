"""What microscopes write into their TIFFs: Thermo Fisher (FEI), Zeiss, Tescan."""

from __future__ import annotations

import math
import re
from typing import Any

from fiji_poreseg.stack import nm_per, tidy

_NM_PER_M = 1e9
_TESCAN_TAG = 50431
_TESCAN_STRIP = re.compile(rb"ImageStripSize\s*=\s*([0-9]{1,6})\b")
_TESCAN_SIZE = re.compile(rb"PixelSize([XY])\s*=\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)")


def pixel_size_nm(tiff: Any) -> tuple[float, float] | None:
    """Size of a pixel in nm, (y, x), from what a microscope wrote down; None if none did.

    Parameters
    ----------
    tiff
        An open `tifffile.TiffFile`.
    """
    for found in (_thermo_fisher(tiff), _zeiss(tiff), _tescan(tiff)):
        if found is not None and min(found) > 0:
            return tidy(found[0]), tidy(found[1])
    return None


def data_bar_rows(tiff: Any) -> int:
    """How many rows at the bottom are not the specimen but the microscope's data bar; 0 for none.

    Parameters
    ----------
    tiff
        An open `tifffile.TiffFile`.
    """
    height = int(tiff.pages.first.imagelength)
    sections = tiff.fei_metadata or {}
    scanned = (sections.get("Image") or {}).get("ResolutionY")
    bar = (sections.get("PrivateFei") or {}).get("DatabarHeight")
    strip = _TESCAN_STRIP.search(_tescan_text(tiff))
    if isinstance(scanned, int):
        rows = height - scanned
    elif isinstance(bar, int):
        rows = bar
    else:
        rows = int(strip[1]) if strip else 0
    return rows if 0 < rows < height / 2 else 0


def _thermo_fisher(tiff: Any) -> tuple[float, float] | None:
    sections = tiff.fei_metadata or {}
    # The beam's own section where there is none of the scan; the ion beam's comes last.
    for name in ("Scan", "EScan", "IScan"):
        section = sections.get(name) or {}
        if section.get("PixelWidth") and section.get("PixelHeight"):
            return (
                float(section["PixelHeight"]) * _NM_PER_M,
                float(section["PixelWidth"]) * _NM_PER_M,
            )
    return None


def _zeiss(tiff: Any) -> tuple[float, float] | None:
    entries = tiff.sem_metadata or {}
    # Of the image as it was saved, else of the scan.
    for name in ("ap_image_pixel_size", "ap_pixel_size"):
        if name in entries:
            try:
                _, length, unit = entries[name]
                size = float(length) * (nm_per(str(unit)) or math.nan)
            except (TypeError, ValueError):  # without a unit, empty, or with a decimal comma
                return None
            return None if math.isnan(size) else (size, size)
    return None


def _tescan(tiff: Any) -> tuple[float, float] | None:
    sizes = _TESCAN_SIZE.findall(_tescan_text(tiff))
    found = {axis: float(length) * _NM_PER_M for axis, length in sizes}
    width = found.get(b"X")
    return None if width is None else (found.get(b"Y", width), width)


def _tescan_text(tiff: Any) -> bytes:
    content = tiff.pages.first.tags.valueof(_TESCAN_TAG, b"")
    return content if isinstance(content, bytes) else b""
