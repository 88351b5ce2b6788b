"""What was corrected by hand in a segmentation, round after round, and how to go back.

An audit is one file: numpy's `.npz`, read without pickle. It holds, for each correction, the
voxels that a person stated, what they were and what they became.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files import DAMAGE_ERRORS, existing_file, replacing, together

SUFFIX = ".npz"
CHECKED, TOUCHED, UNSEEN = "checked", "touched", "unseen"
_FORMAT_VERSION = 1
_DESCRIPTION = "audit"
_ARRAYS = ("where", "before", "after")
_LARGEST = 16 * 2**30


@dataclass(frozen=True)
class Entry:
    """One correction.

    Parameters
    ----------
    where
        int64, ascending: the voxels that were stated, counted along x, then y, then z.
    before, after
        uint8: their classes.
    checked
        0-based slices that were looked at whole: what is not in `where` is right there.
    source
        Name of the file or image that it came from.
    made
        When, in UTC, ISO 8601.
    digest_before, digest_after
        SHA-256 of the segmentation.
    is_whole
        Whether the segmentation that it led to was written, too. One that was not may have
        been lost with the process that made it, or with the window that showed it.
    """

    where: npt.NDArray[np.int64]
    before: npt.NDArray[np.uint8]
    after: npt.NDArray[np.uint8]
    checked: tuple[int, ...]
    source: str
    made: str
    digest_before: str
    digest_after: str
    is_whole: bool = False


@dataclass(frozen=True)
class Audit:
    """All corrections of one segmentation.

    Parameters
    ----------
    shape
        Of the segmentation, (z, y, x).
    entries
        The corrections, the oldest first. Where two disagree about a voxel, the later wins.
    taken_back
        Those that followed, in their order, and were taken back while the segmentation without
        them was not written: who lost it has them still.
    origin
        SHA-256 of the segmentation before the first correction; empty where there was none yet.
    """

    shape: tuple[int, int, int]
    entries: tuple[Entry, ...] = ()
    taken_back: tuple[Entry, ...] = ()
    origin: str = ""

    def hand_made(self, segmentation: xr.DataArray) -> npt.NDArray[np.uint8]:
        """The class of each voxel that a person stated or looked at, 0 elsewhere.

        Parameters
        ----------
        segmentation
            As the last correction left it, dims ``("z", "y", "x")``.
        """
        found = np.zeros(self.shape, np.uint8)
        for entry in self.entries:
            found.reshape(-1)[entry.where] = entry.after
        for index in {index for entry in self.entries for index in entry.checked}:
            found[index] = segmentation.isel(z=index).to_numpy()
        return found

    def states(self) -> list[str]:
        """What is known of each slice: ``"checked"``, ``"touched"`` or ``"unseen"``."""
        found = [UNSEEN] * self.shape[0]
        for entry in self.entries:
            for index in np.unique(entry.where // (self.shape[1] * self.shape[2])).tolist():
                found[index] = TOUCHED
        for index in {index for entry in self.entries for index in entry.checked}:
            found[index] = CHECKED
        return found

    def on(self, segmentation: xr.DataArray) -> Audit:
        """The audit that fits a segmentation: as it is, or as it was before something got lost.

        What may have got lost is a correction whose segmentation was not written, or that one was
        taken back, where the segmentation without it was not.

        Raises
        ------
        ParameterError
            If the segmentation is not one that the corrections left. One that all of them were
            taken back from goes on with the segmentation that they began with.
        """
        if segmentation.shape != self.shape:
            raise ParameterError(
                "history",
                f"must belong to a segmentation of this shape, {segmentation.shape} (z, y, x)",
                f"one of shape {self.shape}",
                "Name another file, or give the segmentation that it belongs to.",
            )
        everything = (*self.entries, *self.taken_back)
        left = [self.origin, *(entry.digest_after for entry in everything)]
        here = len(self.entries)
        unwritten = takewhile(lambda entry: not entry.is_whole, reversed(self.entries))
        earliest = here - sum(1 for _ in unwritten)
        found = digest(segmentation.to_numpy())
        # The last state first: a correction that changed nothing leaves the same one twice.
        for count in (*range(here, earliest - 1, -1), *range(here + 1, len(left))):
            if left[count] in ("", found):
                return replace(self, entries=everything[:count], taken_back=everything[count:])
        last = self.entries[-1] if self.entries else None
        raise ParameterError(
            "history",
            "must belong to this segmentation, which has to be as the last correction left it",
            f"a history whose last correction was {last.source}, {last.made}"
            if last
            else "a history whose corrections were all taken back, from another segmentation",
            "Give the segmentation that it wrote, or name another file for a new history.",
        )

    def with_entry(self, entry: Entry) -> Audit:
        """The audit and one more correction, in the place of those that were taken back."""
        return replace(
            self,
            entries=(*self.entries, entry),
            taken_back=(),
            origin=self.origin or entry.digest_before,
        )

    def without_last(self) -> Audit:
        """The audit before the last correction, which is said to be taken back."""
        last = self.entries[-1]
        return replace(self, entries=self.entries[:-1], taken_back=(last, *self.taken_back))

    def with_last(self, *, is_whole: bool) -> Audit:
        """The audit whose last correction is said to be whole, or not."""
        last = replace(self.entries[-1], is_whole=is_whole)
        return replace(self, entries=(*self.entries[:-1], last))

    def write(self, path: Path) -> None:
        """Write it, replacing an existing file only whole."""
        arrays: dict[str, npt.NDArray[Any]] = {}
        described = []
        for number, entry in enumerate((*self.entries, *self.taken_back)):
            arrays |= {f"{name}{number}": getattr(entry, name) for name in _ARRAYS}
            described.append({k: v for k, v in vars(entry).items() if k not in _ARRAYS})
        text = json.dumps(
            {
                "format_version": _FORMAT_VERSION,
                "shape": self.shape,
                "origin": self.origin,
                "taken_back": len(self.taken_back),
                "entries": described,
            }
        )
        arrays[_DESCRIPTION] = np.frombuffer(text.encode(), np.uint8)
        with replacing(path, "history") as part, open(part, "wb") as stream:
            np.savez_compressed(stream, allow_pickle=False, **arrays)


@contextmanager
def appending(path: Path | None, audit: Audit, *, is_written: bool) -> Iterator[None]:
    """Write an audit whose last correction is new; inside, the segmentation is written.

    All files are put in their places together, so that on an error all are as they were before.
    Killed while they are, the audit says that the last correction may have got lost; it also says
    so where the segmentation is not written (`is_written`), and whoever gets it may lose it.
    """
    with together():
        if path is not None:
            audit.with_last(is_whole=False).write(path)
        yield
        if path is not None and is_written:
            audit.with_last(is_whole=True).write(path)


@contextmanager
def undoing(path: Path, audit: Audit, *, is_written: bool) -> Iterator[None]:
    """Write an audit without its last correction, as `appending` does with one more."""
    before = audit.without_last()
    with together():
        before.write(path)
        yield
        if is_written:
            replace(before, taken_back=()).write(path)


def read(path: Path) -> Audit:
    """Read an audit.

    Raises
    ------
    ParameterError
        If the file is missing, damaged, too large, or no audit.
    """
    file = existing_file(path, "history")
    try:
        with zipfile.ZipFile(file) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST:
                raise ValueError("it is too large")
        with np.load(file, allow_pickle=False) as arrays:
            description = json.loads(arrays[_DESCRIPTION].tobytes())
            if description["format_version"] > _FORMAT_VERSION:
                raise ValueError("a newer version of fiji-poreseg wrote it")
            z, y, x = map(int, description["shape"])
            entries = tuple(
                _entry(described, [arrays[f"{name}{number}"] for name in _ARRAYS], z * y * x, z)
                for number, described in enumerate(description["entries"])
            )
            # Older files say neither.
            back = int(description.get("taken_back", 0))
            if not 0 <= back <= len(entries):
                raise ValueError("it takes back what there is not")
            origin = str(description.get("origin", entries[0].digest_before if entries else ""))
            here = len(entries) - back
            return Audit((z, y, x), entries[:here], entries[here:], origin)
    except DAMAGE_ERRORS as error:
        raise ParameterError(
            "history",
            "must be a whole file that `correct` wrote",
            str(file),
            f"It cannot be read ({error}). Name another file to begin a new one.",
        ) from error


def digest(segmentation: npt.NDArray[np.uint8]) -> str:
    """SHA-256 of the classes of all voxels."""
    return hashlib.sha256(np.ascontiguousarray(segmentation).data).hexdigest()


def _entry(
    described: Mapping[str, Any], arrays: Sequence[npt.NDArray[Any]], voxels: int, slices: int
) -> Entry:
    """An entry as it was read, checked."""
    where, before, after = arrays
    made = Entry(where, before, after, **{**described, "checked": tuple(described["checked"])})
    dtypes = [array.dtype for array in arrays]
    shapes = {array.shape for array in arrays}
    if dtypes != [np.int64, np.uint8, np.uint8] or shapes != {(len(where),)}:
        raise ValueError("its arrays are of another kind")
    if len(where) and not (where[0] >= 0 and where[-1] < voxels and (np.diff(where) > 0).all()):
        raise ValueError("it names voxels that there are not")
    if not all(isinstance(index, int) and 0 <= index < slices for index in made.checked):
        raise ValueError("it names slices that there are not")
    return made
