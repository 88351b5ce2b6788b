"""What a folder with a Fiji in it says of itself, read off its files; no Java needed."""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from pathlib import Path

from fiji_poreseg.errors import ParameterError, PoreSegWarning

_COORDINATES = re.compile(r"[\w.-]{2,}(:[\w.-]+)+(\+[\w.-]{2,}(:[\w.-]+)+)*")
_HOMES = ("*/*", "*/*/Contents/Home", "*/*/*/Contents/Home")
_HINT = "Name the folder that holds jars and plugins, such as Fiji.app, or sc.fiji:fiji."


def locate(fiji: str | Path | None = None) -> Path | str | None:
    """Find the Fiji that is meant.

    Parameters
    ----------
    fiji
        A Fiji's folder, or Maven coordinates such as ``sc.fiji:fiji`` or ``sc.fiji:fiji:2.17.0``;
        by default what the environment variable FIJI_HOME names.

    Returns
    -------
    Path, str or None
        The folder, or the coordinates; None where no Fiji is named.

    Raises
    ------
    ParameterError
        If the folder holds no Fiji.
    """
    if fiji is not None:
        return _checked("fiji", fiji)
    home = os.environ.get("FIJI_HOME")
    if not home:
        return None
    if not Path(home).expanduser().is_dir():
        warnings.warn(
            f"FIJI_HOME names no folder ({home}), so ImageJ is used without a Fiji's plugins.",
            PoreSegWarning,
            stacklevel=2,
        )
        return None
    return _checked("FIJI_HOME", home)


def _checked(parameter: str, fiji: str | Path) -> Path | str:
    folder = Path(fiji).expanduser()
    # The group of coordinates has two letters or more, so the drive of C:\Fiji is none.
    if isinstance(fiji, str) and not folder.is_dir() and _COORDINATES.fullmatch(fiji):
        return fiji
    if not folder.is_dir():
        raise ParameterError(parameter, "must name a folder that exists", str(fiji), _HINT)
    missing = [part for part in ("jars", "plugins") if not (folder / part).is_dir()]
    if missing:
        rule = f"must be a Fiji's folder, and has no {' and no '.join(missing)} in it"
        raise ParameterError(parameter, rule, str(fiji), _HINT)
    return folder.resolve()


def version(folder: Path) -> str | None:
    """The version of the Fiji, or else of its ImageJ2, as its jars are named."""
    for name in ("fiji", "imagej"):
        for jar in sorted((folder / "jars").glob(f"{name}-*.jar"), reverse=True):
            if found := re.fullmatch(rf"{name}-(\d.*)\.jar", jar.name):
                return found[1]
    return None


def oldest_java(folder: Path) -> int:
    """The oldest Java that can run a Fiji: the newest that one of its core jars was compiled for.

    That of 2025 and later is Java 21, though its launcher still accepts Java 8.
    """
    jars = [jar for name in ("fiji", "imagej", "scijava") for jar in _jars(folder, name)]
    return max((_compiled_for(jar) for jar in jars), default=0)


def own_javas(folder: Path) -> list[Path]:
    """Homes of the Javas that the Fiji brings along, in ``java/PLATFORM/``."""
    return [
        home
        for pattern in _HOMES
        for home in sorted((folder / "java").glob(pattern), reverse=True)
        if (home / "release").is_file()
    ]


def _jars(folder: Path, name: str) -> list[Path]:
    return sorted((folder / "jars").glob(f"{name}-*.jar"))


def _compiled_for(jar: Path) -> int:
    """The version of Java of a jar's first class; 0 where it has none or cannot be read."""
    try:
        with zipfile.ZipFile(jar) as archive:
            for name in archive.namelist():
                if name.endswith(".class") and not name.startswith("META-INF/"):
                    with archive.open(name) as content:
                        # magic (4), minor (2), major (2); major 52 is Java 8.
                        return int.from_bytes(content.read(8)[6:]) - 44
    except (OSError, zipfile.BadZipFile):
        return 0
    return 0
