"""What is done of a long work, on disk, so that it is gone on with after a kill."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files import DAMAGE_ERRORS, begun, not_writable_in_words, write_text

Settings: TypeAlias = Mapping[str, Any]
# Settings that are kept as a digest, which says nothing to who reads it.
_DIGESTS = ("image", "labels", "model", "truth", "corrections", "start")
# Of a list of all slices, this much is shown.
_MOST_SHOWN = 60


class Journal:
    """Which slices are whole in the files that were begun.

    Parameters
    ----------
    stream
        Where to write what is done, not buffered; None for nowhere.
    file
        What is made, for an error.
    done
        The slices that were whole at the beginning.
    """

    def __init__(
        self,
        stream: BinaryIO | None = None,
        file: Path | None = None,
        done: Collection[int] = (),
    ) -> None:
        self._stream, self._file = stream, file
        self.done = frozenset(done)

    def add(self, index: int) -> None:
        """Say that a slice is whole."""
        if self._stream is None or self._file is None:
            return
        left = f"{index}\n".encode()
        with not_writable_in_words(self._file, "output"):
            # A disk that is almost full takes a part, and refuses the rest.
            while left:
                left = left[self._stream.write(left) :]


@contextmanager
def keeping(
    files: Collection[Path], settings: Settings, *, resume: bool, work: str
) -> Iterator[Journal]:
    """Keep a journal beside the first of some files while their slices are made.

    It is removed at the end, and on an exception unless the work is resumable.

    Parameters
    ----------
    files
        What is made, by `files.writing`; none for no journal.
    settings
        What it is made with.
    resume
        Go on where an earlier work of these settings was killed, if there was one.
    work
        What to call it in an error, such as ``"segmentation"``.

    Raises
    ------
    ParameterError
        If that had other settings.
    """
    if not files:
        yield Journal()
        return
    first = next(iter(files))
    place = begun(first).with_suffix(".journal")
    done = _read(place, settings, work) if resume else frozenset[int]()
    if not all(begun(file).exists() for file in files):
        done = frozenset()
    finished = False
    lines = "".join(f"{index}\n" for index in sorted(done))
    write_text(place, f"{json.dumps(settings)}\n{lines}")
    try:
        with place.open("ab", buffering=0) as stream:
            yield Journal(stream, first, done)
        finished = True
    finally:
        if finished or not resume:
            place.unlink(missing_ok=True)


def _read(place: Path, settings: Settings, work: str) -> frozenset[int]:
    """The slices that a journal says are whole; of a line that was cut off, nothing."""
    if not place.exists():
        return frozenset()
    first, *lines = place.read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        kept = json.loads(first)
    except DAMAGE_ERRORS:
        kept = None
    if not isinstance(kept, dict):
        # It was killed before it wrote down what it was about to do, or the power went.
        return frozenset()
    check_same(kept, settings, work)
    # A power cut may leave anything: of what is not a number, nothing is known.
    return frozenset(int(line) for line in lines[:-1] if line.isascii() and line.isdigit())


def read_kept(place: Path, work: str) -> dict[str, Any]:
    """Read a JSON file in which a work wrote down what it does, or has done.

    Parameters
    ----------
    place
        The file.
    work
        What to call it, such as ``"study"``.

    Raises
    ------
    ParameterError
        If it is damaged.
    """
    try:
        kept = json.loads(place.read_text(encoding="utf-8"))
        if not isinstance(kept, dict):
            raise TypeError("it holds no names")
        return kept
    except DAMAGE_ERRORS as error:
        raise ParameterError(
            "resume",
            f"needs a whole {work}",
            f"{place} ({type(error).__name__})",
            "It is damaged; delete it, or leave resume out to start anew.",
        ) from error


def check_same(kept: Settings, settings: Settings, work: str) -> None:
    """Refuse to go on with another image, other labels or another setting.

    Parameters
    ----------
    kept, settings
        By the parameter's name: its value, or a digest, of the work to be resumed and of
        this call.
    work
        What to call it, such as ``"training"``.

    Raises
    ------
    ParameterError
        Names the parameter that changed.
    """
    for name, value in settings.items():
        before = kept.get(name)
        if json.loads(json.dumps(value)) == before:
            continue
        shown = "left out" if value is None else _show(value)
        if name in _DIGESTS:
            rule, shown = f"must be what it was in the {work} to be resumed", "another"
            hint = "Give the one from then"
        elif before is None:
            rule, hint = f"must be left out, as in the {work} to be resumed", "Leave it out"
        else:
            rule = f"must be {_show(before)}, as in the {work} to be resumed"
            hint = f"Give {name}={_show(before)}"
        raise ParameterError(name, rule, shown, f"{hint}, or leave resume out to start anew.")


def _show(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"
