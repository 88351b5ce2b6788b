"""The plugins in a folder of ImageJ or Fiji: written, renewed and removed, nothing else touched."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

from fiji_poreseg import files
from fiji_poreseg.commands.catalog import CATALOG
from fiji_poreseg.commands.plugin_files import (
    is_marked,
    is_unchanged,
    plugin_name,
    plugin_text,
)
from fiji_poreseg.errors import ParameterError

_MARKS = ("ij.jar", "jars", "ImageJ.app", "Fiji.app")


class Installed(NamedTuple):
    """What was done in the folder of the plugins.

    Attributes
    ----------
    folder
        ``plugins/PoreSeg`` of ImageJ.
    written, removed
        Names of files.
    kept
        Names of files that somebody changed; they stay as they are.
    """

    folder: Path
    written: tuple[str, ...]
    removed: tuple[str, ...]
    kept: tuple[str, ...]


def install(fiji: Path | None = None) -> Installed:
    """Write a plugin for each command, and remove those of commands that there are no more.

    Parameters
    ----------
    fiji
        Folder of ImageJ or Fiji; that of the environment variable FIJI_HOME by default.

    Returns
    -------
    Installed
        What was done.

    Raises
    ------
    ParameterError
        If it is no folder of ImageJ, or cannot be written.
    """
    folder = _plugins_folder(fiji)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ParameterError(
            "fiji",
            f"must be a folder that can be written ({error.strerror})",
            str(folder.parent),
            "Ask its owner, or copy ImageJ to a place of your own.",
        ) from error
    wanted = {plugin_name(command): command for command in CATALOG.values()}
    kept = [name for name in wanted if _is_foreign(folder / name)]
    written = [name for name in wanted if name not in kept]
    with files.together():
        for name in written:
            text = plugin_text(wanted[name], sys.executable)
            files.write_text(folder / name, text, parameter="fiji")
    removed, changed = _remove(folder, set(_marked(folder)) - wanted.keys())
    return Installed(folder, tuple(written), removed, (*kept, *changed))


def uninstall(fiji: Path | None = None) -> Installed:
    """Remove the plugins; see `install`. Whatever else is in the folder stays."""
    folder = _plugins_folder(fiji)
    removed, kept = _remove(folder, set(_marked(folder)))
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    return Installed(folder, (), removed, kept)


def _plugins_folder(fiji: Path | None) -> Path:
    given = fiji or os.environ.get("FIJI_HOME")
    if not given:
        raise ParameterError(
            "fiji",
            "is needed, since FIJI_HOME is not set",
            "left out",
            "Give --fiji with the folder of Fiji or ImageJ.",
        )
    home = Path(given).expanduser()
    # On a Mac, ImageJ's folders may lie beside the application.
    for folder in (home, home.parent) if home.suffix == ".app" else (home,):
        marked = any((folder / mark).exists() for mark in _MARKS)
        if marked and (folder / "plugins").is_dir():
            return folder / "plugins" / "PoreSeg"
    raise ParameterError(
        "fiji",
        "must be the folder of Fiji or ImageJ, with the folder plugins in it",
        str(given),
        "In ImageJ, File > Show Folder > ImageJ opens it.",
    )


def _marked(folder: Path) -> list[str]:
    return [path.name for path in sorted(folder.glob("*.ijm")) if is_marked(_read(path))]


def _is_foreign(path: Path) -> bool:
    return path.exists() and not is_unchanged(_read(path))


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _remove(folder: Path, names: set[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Remove files, unless somebody changed them; answers with what is gone and what is left."""
    changed = {name for name in names if not is_unchanged(_read(folder / name))}
    removed = sorted(names - changed)
    for name in removed:
        (folder / name).unlink()
    return tuple(removed), tuple(sorted(changed))
