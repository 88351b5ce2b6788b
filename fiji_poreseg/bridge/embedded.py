"""The embedded engine: ImageJ 1 from Maven Central, patched so that it works without a display."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from fiji_poreseg.bridge import jvm
from fiji_poreseg.bridge.window import check_display


def start_imagej(*, headless: bool) -> None:
    """Start the JVM and prepare ImageJ in it; to be called once in a process.

    Parameters
    ----------
    headless
        Whether to do without a window. Otherwise ImageJ's own window opens.
    """
    jvm.start_jvm(headless=headless)
    if not headless:
        check_display()
    # Must come before any class of ImageJ is loaded.
    jvm.jclass("net.imagej.patcher.LegacyInjector").preinit()
    _write_utf8()
    if headless:
        _fill_command_table()
    elif jvm.jclass("ij.IJ").getInstance() is None:
        jvm.jclass("ij.ImageJ")()


def _write_utf8() -> None:
    """Let Java write UTF-8, unbuffered, so that its lines and Python's stay in order."""
    descriptor = jvm.jclass("java.io.FileDescriptor")
    system = jvm.jclass("java.lang.System")
    system.setOut(_printer(descriptor.out))
    system.setErr(_printer(descriptor.err))


def _printer(descriptor: Any) -> Any:
    stream = jvm.jclass("java.io.FileOutputStream")(descriptor)
    return jvm.jclass("java.io.PrintStream")(stream, True, "UTF-8")


def _fill_command_table() -> None:
    """Let ImageJ read its menu, from which its commands come, without showing it."""
    if jvm.jclass("ij.Menus").getCommands() is None:
        # Otherwise ImageJ does it on its first run(), which would be too late to add commands.
        prepare = jvm.jclass("ij.IJ").class_.getDeclaredMethod("init")
        prepare.setAccessible(True)
        prepare.invoke(None)


def flush_python() -> None:
    """Write out what Python has printed before Java prints."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # none, or closed
            stream.flush()
