"""Output that is whole or not there, and what is said where it cannot be written."""

from __future__ import annotations

import csv
import errno
import io
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files.inputs import PathLike, is_zarr, is_zarr_image

TIFF_SUFFIXES = (".tif", ".tiff")
ZARR_SUFFIX = ".zarr"
IMAGE_SUFFIXES = (*TIFF_SUFFIXES, ZARR_SUFFIX)
_LONGEST_REMOVAL_S = 5.0
_SETTLED_S = 0.1
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


class _Written(NamedTuple):
    part: Path
    path: PathLike
    parameter: str


_waiting: ContextVar[list[_Written] | None] = ContextVar("_waiting", default=None)


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
def alone(paths: Mapping[str, PathLike | None]) -> Iterator[None]:
    """Let no other command write the same files meanwhile.

    Parameters
    ----------
    paths
        By the parameter's name; None for none.

    Raises
    ------
    ParameterError
        If one is doing so.
    """
    with ExitStack() as stack:
        for parameter, path in paths.items():
            if path is not None:
                stack.enter_context(_locked(path, parameter))
        yield


@contextmanager
def _locked(path: PathLike, parameter: str) -> Iterator[None]:
    # One for each path, so that who has it may take it again.
    lock = FileLock(begun(path).with_suffix(".lock"), is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ParameterError(
            parameter,
            "must not be a file that another command is writing",
            str(path),
            "Wait until that has ended, or choose another name.",
        ) from error
    except (NotImplementedError, OSError):
        pass  # not all file systems of clusters have locks
    try:
        yield
    finally:
        held = lock.is_locked
        lock.release()
        if held and not lock.is_locked:
            with suppress(OSError):
                os.unlink(lock.lock_file)


@contextmanager
def replacing(
    path: PathLike, parameter: str = "output", part: Path | None = None, *, keep: bool = False
) -> Iterator[Path]:
    """Give a path beside `path` for a file or a folder, and put that in its place on success.

    On an exception the part written is removed and an older one stays as it was.

    Parameters
    ----------
    path
        What is to be replaced; inside `together` at the end of that.
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
    part = part or scratch(target)
    waiting = _waiting.get()
    is_whole = False
    try:
        with not_writable_in_words(path, parameter):
            yield part
        is_whole = True
        if waiting is None:
            _put_in_place(part, path, parameter)
        else:
            waiting.append(_Written(part, path, parameter))
    finally:
        if not keep and not (is_whole and waiting is not None):
            remove(part)


def _put_in_place(part: Path, path: PathLike, parameter: str) -> None:
    target = Path(os.path.realpath(path))
    with not_writable_in_words(path, parameter):
        if not target.is_dir():
            os.replace(part, target)
            return
        # A folder is not replaced in one step: for a moment the old and the new one are both
        # beside the place, whole and hidden.
        old = scratch(target)
        os.replace(target, old)
        try:
            os.replace(part, target)
        except OSError:
            os.replace(old, target)
            raise
        remove(old)


@contextmanager
def together() -> Iterator[None]:
    """Put what is written inside in its place when all of it is whole, in the order of writing.

    On an exception, a full disk say, all older files stay as they were. A TIFF may be written once
    only, since all of one name are begun in one place.
    """
    if _waiting.get() is not None:
        yield
        return
    waiting: list[_Written] = []
    token = _waiting.set(waiting)
    try:
        yield
        for one in waiting:
            _put_in_place(*one)
    finally:
        _waiting.reset(token)
        for one in waiting:
            remove(one.part)


def written(path: PathLike) -> Path:
    """Where a file lies that was written: its place, or beside it while others are waited for."""
    for one in reversed(_waiting.get() or ()):
        if os.path.realpath(one.path) == os.path.realpath(path):
            return one.part
    return Path(path)


def host_of_labels(path: PathLike) -> Path | None:
    """The OME-Zarr that a path of the form ``IMAGE.zarr/labels/NAME`` leads into, else None."""
    target = Path(path)
    host = target.parent.parent
    return host if target.parent.name == "labels" and is_zarr(host) else None


def scratch(target: Path) -> Path:
    """A path beside `target` that no other file has."""
    # Not tempfile: its files may be read by their owner only, whatever the umask.
    return target.with_name(f".{uuid.uuid4().hex}{target.suffix}")


def remove(part: Path) -> None:
    """Remove a part that may be gone."""
    # A folder that vanished has no part to remove, and must not hide the first error. Where a
    # chunk of a Zarr could not be written, others may still come meanwhile.
    deadline = time.monotonic() + _LONGEST_REMOVAL_S
    while part.is_dir() and time.monotonic() < deadline:
        shutil.rmtree(part, ignore_errors=True)
        time.sleep(_SETTLED_S)
    if part.is_file():
        part.unlink()


def check_output(
    path: PathLike, parameter: str = "output", suffixes: Sequence[str] = IMAGE_SUFFIXES
) -> None:
    """Find out before long work whether its result can be written.

    Parameters
    ----------
    path
        The file to be written, or the folder of an OME-Zarr.
    parameter
        Name to use in an error.
    suffixes
        Endings that the file may have, in lower case; empty for any.

    Raises
    ------
    ParameterError
        If the ending is another, the path is a folder of something else, or its folder cannot be
        written.
    """
    target = Path(path)
    host = host_of_labels(target) if ZARR_SUFFIX in suffixes else None
    if host is not None:
        _check_host(host, target, parameter)
    elif suffixes and target.suffix.lower() not in suffixes:
        raise ParameterError(
            parameter,
            f"must end in {' or '.join(suffixes)}",
            str(path),
            f"Name the file for example {target.stem or 'result'}{suffixes[0]}.",
        )
    is_folder = host is not None or target.suffix.lower() == ZARR_SUFFIX
    if target.is_dir() and not is_folder:
        raise ParameterError(
            parameter, "must be a file", f"the folder {path}", "Add a file name to the path."
        )
    if is_folder and target.exists() and not is_zarr_image(target):
        raise ParameterError(
            parameter,
            "must not be a file or a folder of something else, which would be lost",
            str(path),
            "Choose another name.",
        )
    if is_folder and any((target / "labels").glob("*/")):
        raise ParameterError(
            parameter,
            "must not hold labels, which would be lost",
            str(path),
            "Choose another name, or move its folder labels elsewhere first.",
        )
    # Permissions tell little: root has them all, and a file system may be read-only.
    try:
        with replacing(path, parameter) as part:
            part.touch()
            raise _WritableError
    except _WritableError:
        return


def _check_host(host: Path, target: Path, parameter: str) -> None:
    if not (host / "zarr.json").is_file():
        raise ParameterError(
            parameter,
            "can lie in an OME-Zarr of version 0.5 only",
            f"{target} in one of Zarr 2",
            f"Give it a place of its own, for example {host.stem}-{target.name}.zarr.",
        )
    target.parent.mkdir(exist_ok=True)


class _WritableError(Exception):
    """Leaves `replacing` without replacing."""


@contextmanager
def not_writable_in_words(path: PathLike, parameter: str) -> Iterator[None]:
    """Raise what a full disk or a missing folder raises as a `ParameterError`."""
    try:
        yield
    except OSError as error:
        # Other errors of this kind (a lost connection, say) have nothing to do with the output.
        if error.errno not in _NO_WRITING:
            raise
        raise ParameterError(
            parameter,
            # Not beside the path: what is beyond a certain length is cut off there.
            f"must lie in a folder that exists, can be written and has space ({error.strerror})",
            str(path),
            "Create the folder, free some space or choose another folder.",
        ) from error
