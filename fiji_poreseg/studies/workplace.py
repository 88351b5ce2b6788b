"""Where the trials of a study are kept, so that nothing of an earlier study is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files import begun, write_text
from fiji_poreseg.journal import Settings, check_same, read_kept

_TRIALS, _SETTINGS = "trials", "settings.json"


def open_workplace(folder: Path, settings: Settings, *, resume: bool) -> Path:
    """Make the folder that trials are to be kept in, or find the one to go on with.

    Parameters
    ----------
    folder
        The study's.
    settings
        What all its trainings share, and digests of the images.
    resume
        Go on with the trials that are there, which must share all that.

    Returns
    -------
    pathlib.Path
        ``trials`` in that folder; beside it, hidden, where an earlier study's trials are there
        that are not to be gone on with: they stay until `close_workplace`.

    Raises
    ------
    ParameterError
        If the trials that are there are of other images or settings, or damaged, or ``trials``
        was made by something else.
    """
    finished = folder / _TRIALS
    aside = begun(finished)
    if _is_foreign(finished):
        raise ParameterError(
            "output",
            f"must not hold a {_TRIALS} that no study made",
            str(finished),
            "Choose another folder.",
        )
    there = aside if aside.exists() else finished
    if resume and (there / _SETTINGS).exists():
        check_same(read_kept(there / _SETTINGS, "study"), settings, "study")
        return there
    if aside.exists():
        shutil.rmtree(aside)
    work = aside if (finished / _SETTINGS).exists() else finished
    work.mkdir(exist_ok=True)
    write_text(work / _SETTINGS, json.dumps(settings, indent=1) + "\n")
    return work


def close_workplace(work: Path, folder: Path) -> None:
    """Put the trials of a finished study in the place of an earlier one's."""
    finished = folder / _TRIALS
    if work != finished:
        # A kill just after this leaves the new ones, which `resume` finds.
        if finished.exists():
            shutil.rmtree(finished)
        work.rename(finished)


def _is_foreign(place: Path) -> bool:
    """Whether something is there that is not a study's."""
    if not place.is_dir():
        return place.exists()
    return not (place / _SETTINGS).exists() and any(place.iterdir())
