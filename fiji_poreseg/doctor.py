"""What is found on this machine, what is missing, and what to do about it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from functools import partial
from importlib import metadata
from pathlib import Path

import psutil
from packaging.requirements import Requirement

from fiji_poreseg import bridge
from fiji_poreseg.bridge import fiji_folder
from fiji_poreseg.errors import EngineError, MacroError, ParameterError, PoreSegWarning, in_short

_GB = 1e9
_LITTLE_MEMORY = 4 * _GB
_LITTLE_DISK = 2 * _GB
_PROGRAM = re.compile(r"^// program: (.+?)\s*$", re.MULTILINE)
_REINSTALL = "Install it again, in a clone: python -m pip install --force-reinstall ."


class Status(Enum):
    """How it stands with one thing."""

    GOOD = "good"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Parameters
    ----------
    name
        What was looked at.
    status
        `NOTE` where something can be done better, `BAD` where something essential fails.
    detail
        What is there.
    advice
        What to do; empty where nothing needs doing.
    """

    name: str
    status: Status
    detail: str
    advice: str = ""


def examine(fiji: str | Path | None = None) -> Iterator[Finding]:
    """Look at everything that the program needs; starts ImageJ, without a window.

    Parameters
    ----------
    fiji
        A Fiji's folder or Maven coordinates; by default what FIJI_HOME names.

    Yields
    ------
    Finding
        One after another, as each check ends.
    """
    checks: dict[str, Callable[[], Finding]] = {
        "Python": python,
        "Packages": packages,
        "TensorFlow": tensorflow,
        "Memory": memory,
        "Disk": disk,
        "Display": display,
        "Fiji": partial(fiji_found, fiji),
        "Plugins": partial(plugins, fiji),
        "Java": partial(java, fiji),
        "ImageJ": partial(imagej, fiji),
    }
    for name, check in checks.items():
        try:
            yield check()
        except ParameterError as error:
            yield Finding(name, Status.BAD, str(error))
        except Exception as error:  # whatever a broken installation raises is a finding, too
            yield Finding(name, Status.BAD, in_short(error), _REINSTALL)


def python() -> Finding:
    """Which Python runs, and where."""
    return Finding("Python", Status.GOOD, f"{platform.python_version()} ({sys.executable})")


def packages() -> Finding:
    """Whether every package that is needed is there, and new enough."""
    needed = [Requirement(line) for line in metadata.requires("fiji-poreseg") or ()]
    needed = [each for each in needed if not each.marker or each.marker.evaluate({"extra": ""})]
    found = {each.name: _version(each.name) for each in needed}
    wrong = [each for each in needed if not _satisfies(found[each.name], each)]
    if wrong:
        detail = ", ".join(f"{each}, but found {found[each.name]}" for each in wrong)
        advice = "Run: pip install " + " ".join(f'"{each}"' for each in wrong)
        return Finding("Packages", Status.BAD, f"needed are {detail}", advice)
    return Finding("Packages", Status.GOOD, ", ".join(f"{n} {v}" for n, v in found.items()))


def tensorflow() -> Finding:
    """Whether TensorFlow can be imported, and on what it computes."""
    from fiji_poreseg.resunet.backend import tf

    what = f"{tf.__version__} on "
    devices = tf.config.list_physical_devices("GPU")
    if devices:
        names = (tf.config.experimental.get_device_details(each) for each in devices)
        shown = ", ".join(str(each.get("device_name", "a GPU")) for each in names)
        return Finding("TensorFlow", Status.GOOD, what + shown)
    what += f"{os.cpu_count()} cores, no GPU"
    if not shutil.which("nvidia-smi"):
        return Finding("TensorFlow", Status.GOOD, what)
    advice = 'Run: pip install "tensorflow[and-cuda]"'
    if sys.platform == "win32":
        advice = "On Windows, TensorFlow uses a GPU inside WSL2 only: install fiji-poreseg there."
    return Finding("TensorFlow", Status.NOTE, f"{what}, though this machine has one", advice)


def memory() -> Finding:
    """How much memory there is, and how much of it is free."""
    found = psutil.virtual_memory()
    detail = f"{found.available / _GB:.1f} GB free of {found.total / _GB:.1f} GB"
    if found.available < _LITTLE_MEMORY:
        return Finding(
            "Memory", Status.NOTE, detail, "Close other programs before a large stack is opened."
        )
    return Finding("Memory", Status.GOOD, detail)


def disk() -> Finding:
    """Whether there is room for temporary files and for results."""
    places = {Path(tempfile.gettempdir()), Path.cwd()}
    free = {place: shutil.disk_usage(place).free for place in sorted(places)}
    detail = ", ".join(f"{size / _GB:.0f} GB free in {place}" for place, size in free.items())
    if min(free.values()) < _LITTLE_DISK:
        return Finding(
            "Disk", Status.NOTE, detail, "Make room, or set TMPDIR to a folder on another disk."
        )
    return Finding("Disk", Status.GOOD, detail)


def display() -> Finding:
    """Whether a window can be shown."""
    if sys.platform in {"win32", "darwin"}:
        return Finding("Display", Status.GOOD, "that of the system")
    name = os.environ.get("DISPLAY")
    if name:
        return Finding("Display", Status.GOOD, name)
    return Finding(
        "Display",
        Status.NOTE,
        "none (DISPLAY is not set)",
        "Macros run without one. For ImageJ's window, log in with ssh -X, or use xvfb-run.",
    )


def fiji_found(fiji: str | Path | None = None) -> Finding:
    """Which Fiji is named, and which Java it needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", PoreSegWarning)
        try:
            place = fiji_folder.locate(fiji)
        except PoreSegWarning as warning:
            return Finding("Fiji", Status.NOTE, str(warning), "Correct or unset FIJI_HOME.")
    if place is None:
        return Finding("Fiji", Status.GOOD, "none named, so ImageJ alone is used")
    if isinstance(place, str):
        return Finding("Fiji", Status.GOOD, f"{place}, from Maven")
    version = fiji_folder.version(place) or "of unknown version"
    oldest = fiji_folder.oldest_java(place)
    return Finding(
        "Fiji", Status.GOOD, f"{version} in {place}, made for Java {oldest or '?'} or newer"
    )


def plugins(fiji: str | Path | None = None) -> Finding:
    """Whether the commands are installed in the Fiji, for when it is started by itself."""
    place = _folder(fiji)
    if place is None:
        return Finding("Plugins", Status.GOOD, "none needed without a Fiji's folder")
    files = sorted(place.glob("plugins/**/PoreSeg_*.ijm"))
    install = f'Run: fiji-poreseg install --fiji "{place}"'
    if not files:
        return Finding("Plugins", Status.NOTE, "none in this Fiji, when started by itself", install)
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    named = {found[1] for text in texts if (found := _PROGRAM.search(text))}
    gone = sorted(program for program in named if not Path(program).is_file())
    if gone:
        detail = f"{len(files)}, which call a program that is gone: {', '.join(gone)}"
        return Finding("Plugins", Status.NOTE, detail, install)
    return Finding("Plugins", Status.GOOD, f"{len(files)} in {files[0].parent}")


def java(fiji: str | Path | None = None) -> Finding:
    """Which Java is used."""
    from fiji_poreseg.bridge.engines import java_for

    try:
        found = java_for(_folder(fiji))
    except EngineError as error:
        return Finding("Java", Status.BAD, str(error))
    detail = f"{found.version} of {found.source} ({found.home})"
    home = os.environ.get("JAVA_HOME")
    if home and found.source != "JAVA_HOME":
        return Finding(
            "Java",
            Status.NOTE,
            f"{detail}, since JAVA_HOME holds none that does: {home}",
            "Correct or unset JAVA_HOME.",
        )
    return Finding("Java", Status.GOOD, detail)


def imagej(fiji: str | Path | None = None) -> Finding:
    """Whether ImageJ starts, and a macro runs in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoreSegWarning)  # said by `fiji_found`
        try:
            ij = bridge.start(fiji=fiji)
            answer = ij.run_macro('newImage("a", "8-bit ramp", 3, 3, 1); return "" + getWidth();')
            ij.close()
        except ParameterError:
            return Finding("ImageJ", Status.BAD, "not started, since what is named is no Fiji")
        except (EngineError, MacroError) as error:
            return Finding("ImageJ", Status.BAD, str(error))
    if answer != "3":
        return Finding("ImageJ", Status.BAD, f"a macro answers {answer} for 3", _REINSTALL)
    version = ij.java("ij.IJ").getVersion()
    heap = ij.java("java.lang.Runtime").getRuntime().maxMemory() / _GB
    detail = f"{version} ({ij.engine.kind}), a macro ran, up to {heap:.1f} GB for images"
    return Finding("ImageJ", Status.GOOD, detail)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _satisfies(version: str | None, needed: Requirement) -> bool:
    return version is not None and needed.specifier.contains(version, prereleases=True)


def _folder(fiji: str | Path | None) -> Path | None:
    """The Fiji's folder; None where there is none, or what is named is none, as `Fiji` says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoreSegWarning)
        try:
            place = fiji_folder.locate(fiji)
        except ParameterError:
            return None
    return place if isinstance(place, Path) else None
