"""ImageJ's own window: the menu of the commands, and the wait until it is closed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable

import jpype

from fiji_poreseg.bridge import jvm
from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.errors import EngineError

_MENU = "PoreSeg"
_PAUSE_S = 0.1


def check_display() -> None:
    """Refuse to open a window where none can be shown; the JVM must run, ImageJ not yet.

    Raises
    ------
    EngineError
        If there is no display, or this Java cannot draw.
    """
    environment = jclass("java.awt.GraphicsEnvironment")
    try:
        if environment.isHeadless():
            raise EngineError(_without_display("there is none"))
        environment.getLocalGraphicsEnvironment().getDefaultScreenDevice()
        font = jclass("java.awt.Font")("SansSerif", 0, 12)
        jclass("java.awt.Canvas")().getFontMetrics(font)
    except jpype.JException as error:
        kind, reason = str(error.getClass().getSimpleName()), str(error.getMessage())
        if kind == "AWTError":
            raise EngineError(_without_display(reason)) from error
        raise EngineError(
            f"This Java cannot show windows ({kind}: {reason}). Install a whole Java, not a "
            "headless one, and fontconfig with a font (Debian: apt install default-jre fontconfig "
            "fonts-dejavu), or run macros without a window: fiji-poreseg macro FILE.ijm."
        ) from error


def _without_display(reason: str) -> str:
    return (
        f"ImageJ's window needs a display ({reason.rstrip('.')}). Log in with `ssh -X`, or set "
        "DISPLAY to a display that runs, such as one of Xvfb (`xvfb-run fiji-poreseg gui`); or do "
        "without the window: fiji-poreseg macro FILE.ijm."
    )


def add_to_menu(titles: Iterable[str]) -> None:
    """Put commands into Plugins > PoreSeg, those that are not there yet."""
    plugins = jclass("ij.Menus").getImageJMenu("Plugins")
    entries = [plugins.getItem(position) for position in range(plugins.getItemCount())]
    menu = next((entry for entry in entries if str(entry.getLabel()) == _MENU), None)
    if menu is None:
        menu = jclass("java.awt.Menu")(_MENU)
        plugins.add(menu)
    present = {str(menu.getItem(position).getLabel()) for position in range(menu.getItemCount())}
    for title in titles:
        if title not in present:
            item = jclass("java.awt.MenuItem")(title)
            # ImageJ runs the command of that name, in a thread of its own.
            item.addActionListener(jclass("ij.IJ").getInstance())
            menu.add(item)


def wait_until_quit() -> None:
    """Wait until the user quits ImageJ; Ctrl-C ends the wait as well."""
    # Looked at, not waited for: a wait inside Java would keep Python from hearing Ctrl-C.
    while jclass("ij.IJ").getInstance() is not None:
        time.sleep(_PAUSE_S)


def beside_event_loop(work: Callable[[], None]) -> None:
    """Run `work` where it may open windows: on macOS those need the main thread for their events.

    Raises
    ------
    EngineError
        If that needs PyObjC, and it is not there.
    """
    if sys.platform != "darwin":
        work()
        return
    # Written after JPype's manual; it was not run on macOS.
    failure: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:  # raised again on the main thread
            failure.append(error)
        finally:
            jpype.shutdownGuiEnvironment()

    jvm.start_jvm(headless=False)
    try:
        jpype.setupGuiEnvironment(run)
    except ImportError as error:
        raise EngineError(
            "ImageJ's window needs PyObjC on macOS: pip install pyobjc-framework-Cocoa."
        ) from error
    if failure:
        raise failure[0]
