"""The embedded engine: ImageJ 1 from Maven Central, patched so that it works without a display."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import jpype
import numpy as np

from fiji_poreseg.bridge import jvm
from fiji_poreseg.bridge.classes import complete_headless_dialog
from fiji_poreseg.bridge.metadata import look_up_table
from fiji_poreseg.bridge.window import check_display
from fiji_poreseg.errors import EngineError


def start_imagej(*, headless: bool) -> None:
    """Start the JVM and prepare ImageJ in it; to be called once in a process.

    Parameters
    ----------
    headless
        Whether to do without a window. Otherwise ImageJ's own window opens.
    """
    with jvm.starting_alone():  # the patch reads classes from jars that it opens itself
        jvm.start_jvm(headless=headless)
        jvm.write_utf8()
        if headless:
            complete_headless_dialog()
        prepare(headless=headless)
        _colour_groups()


def prepare(*, headless: bool) -> None:
    """Patch ImageJ, unless that is done, and have its commands ready.

    Raises
    ------
    EngineError
        If ImageJ was loaded without its patch and has no commands, or a window cannot be shown.
    """
    if not headless:
        check_display()
    try:
        # Must come before any class of ImageJ is loaded.
        jvm.jclass("net.imagej.patcher.LegacyInjector").preinit()
    except jpype.JException as error:
        if jvm.jclass("ij.Menus").getCommands() is None:
            raise EngineError(
                "ImageJ was loaded before it was patched, so it has no commands without a window. "
                "Start Python anew, and call fiji_poreseg.start() or imagej.init() before anything "
                "uses a class of ImageJ."
            ) from error
    if headless:
        _fill_command_table()
    else:
        _show_window()


def _fill_command_table() -> None:
    """Let ImageJ read its menu, from which its commands come, without showing it."""
    if jvm.jclass("ij.Menus").getCommands() is None:
        # Otherwise ImageJ does it on its first run(), which would be too late to add commands.
        prepare = jvm.jclass("ij.IJ").class_.getDeclaredMethod("init")
        prepare.setAccessible(True)
        prepare.invoke(None)
        # Relative paths of a macro start here, as those of the commands do, and not where
        # somebody opened a file in a window the last time.
        jvm.jclass("ij.io.OpenDialog").setDefaultDirectory(f"{Path.cwd()}{os.sep}")


def _show_window() -> None:
    window = jvm.jclass("ij.IJ").getInstance()
    if window is None:
        jvm.jclass("ij.ImageJ")()
    elif not window.isVisible():
        window.setVisible(True)


def _colour_groups() -> None:
    """Let selections in a group have the colour of all others, where ImageJ has no other ones.

    Those are in a file of a Fiji's folder, without which it prints a line for each selection. The
    colours of the classes would not do: a selection over a segmentation would not be seen. Only
    for the ImageJ whose version we choose: the table is its private field.
    """
    folder = jvm.jclass("ij.IJ").getDirectory("luts")
    if folder is None or not (Path(str(folder)) / "glasbey.lut").exists():
        selections = jvm.jclass("ij.gui.Roi")
        colour = selections.getColor()
        values = [int(colour.getRed()), int(colour.getGreen()), int(colour.getBlue())]
        table = selections.class_.getDeclaredField("glasbeyLut")
        table.setAccessible(True)
        table.set(None, look_up_table(np.repeat(np.array(values, np.uint8), 256)))


def flush_python() -> None:
    """Write out what Python has printed before Java prints."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, ValueError):  # none, or closed
            stream.flush()
