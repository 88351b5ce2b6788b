"""Values that lie in a file one after another, read plane by plane when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from fiji_poreseg.files.inputs import PathLike


class PlaneReader:
    """Reads values[index] of a file by as many indices as it is given, from any thread.

    The file stays open: its values stay the same where another file takes its place. It is not
    mapped, since what is mapped and was read once counts as memory of the process. Sent to
    another process, it opens the file there, if it is still the same.

    Parameters
    ----------
    file
        The file.
    offset
        Where the values begin, in bytes.
    shape, dtype
        Shape of the whole, and the data type in the file.

    Raises
    ------
    OSError
        If the file cannot be read, or ends before a plane does.
    """

    def __init__(
        self, file: PathLike, offset: int, shape: Sequence[int], dtype: np.dtype[Any]
    ) -> None:
        self._file, self._offset = Path(os.path.abspath(file)), offset
        self._shape, self._dtype = tuple(shape), dtype
        self._stream = open(self._file, "rb")  # noqa: SIM115 - closed when the reader is gone
        self._lock = Lock()

    def __call__(self, *index: int) -> npt.NDArray[Any]:
        """Read a plane, or all planes of a slice, in the machine's byte order."""
        shape = self._shape
        values = np.empty(shape[len(index) :], self._dtype)
        number = int(np.ravel_multi_index(index, shape[: len(index)])) if index else 0
        try:
            with self._lock:
                self._stream.seek(self._offset + number * values.nbytes)
                found = self._stream.readinto(values.data)
        except OSError as error:
            # A block that cannot be read: the system does not say of which file.
            raise OSError(error.errno, error.strerror, str(self._file)) from error
        if found != values.nbytes:
            raise OSError(f"{self._file} was cut off while it was being read")
        return values.astype(self._dtype.newbyteorder("="), copy=False)

    def _state(self) -> tuple[int, int]:
        found = os.fstat(self._stream.fileno())
        return found.st_size, found.st_mtime_ns

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened_again, (
            self._file,
            self._offset,
            self._shape,
            self._dtype,
            self._state(),
        )

    def __del__(self) -> None:
        # Not there where it could not be opened.
        if hasattr(self, "_stream"):
            self._stream.close()


def _opened_again(
    file: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[Any], state: tuple[int, int]
) -> PlaneReader:
    reader = PlaneReader(file, offset, shape, dtype)
    if reader._state() != state:
        raise OSError(f"{file} was changed while it was being read")
    return reader
