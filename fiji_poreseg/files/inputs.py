"""Files that come from anybody: whether they are there, and what a damaged one raises."""

from __future__ import annotations

import json
import logging
import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fiji_poreseg.errors import ParameterError

PathLike = str | os.PathLike[str]
# What parsers (TIFF, ROI, zip, npy, JSON) stumble over in a damaged file.
DAMAGE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


def is_zarr(folder: PathLike) -> bool:
    """Whether a folder is a group or an array of Zarr."""
    return any(Path(folder, name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def is_zarr_image(folder: PathLike) -> bool:
    """Whether a folder is one image of OME-Zarr, and not a plate, say, or a group of images."""
    for name, keys in (("zarr.json", ("attributes", "ome")), (".zattrs", ())):
        try:
            found = json.loads(Path(folder, name).read_text(encoding="utf-8"))
            for key in keys:
                found = found[key]
            if "multiscales" in found:
                return True
        except (OSError, ValueError, LookupError, TypeError):
            continue
    return False


def existing_file(path: PathLike, parameter: str) -> Path:
    """Answer with the path of a file that is there and not empty, or raise a `ParameterError`."""
    file = Path(path)
    try:
        found = file.stat()
        if file.is_file():
            # Whoever may not read it is told so, and not that it is damaged.
            file.open("rb").close()
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
