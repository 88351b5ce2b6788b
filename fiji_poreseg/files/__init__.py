"""Stacks in files, and output that is whole or not there.

Importing this package lets `fiji_poreseg.stack.as_stack` take a path.
"""

from __future__ import annotations

import os

import xarray as xr

from fiji_poreseg.files.inputs import DAMAGE_ERRORS, PathLike, existing_file, log_records
from fiji_poreseg.files.outputs import (
    TIFF_SUFFIXES,
    begun,
    check_output,
    not_writable_in_words,
    replacing,
    together,
    write_csv,
    write_text,
    written,
)
from fiji_poreseg.files.tiff_reading import read
from fiji_poreseg.files.tiff_writing import SliceWriter, write, writing
from fiji_poreseg.stack import register_converter

__all__ = [
    "DAMAGE_ERRORS",
    "TIFF_SUFFIXES",
    "PathLike",
    "SliceWriter",
    "begun",
    "check_output",
    "existing_file",
    "log_records",
    "not_writable_in_words",
    "read",
    "replacing",
    "together",
    "write",
    "write_csv",
    "write_text",
    "writing",
    "written",
]


def _read_path(image: object, parameter: str) -> xr.DataArray | None:
    if not isinstance(image, str | os.PathLike):
        return None
    return read(image, parameter=parameter)


register_converter(_read_path)
