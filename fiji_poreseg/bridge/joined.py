"""The engine of somebody else: an ImageJ in a JVM that runs already, checked before it is used."""

from __future__ import annotations

from functools import cache

import scyjava

from fiji_poreseg.bridge import embedded, jvm
from fiji_poreseg.errors import EngineError

_OPEN_LANG = "--add-opens=java.base/java.lang=ALL-UNNAMED"


def start_imagej(*, headless: bool) -> None:
    """Prepare the ImageJ of the JVM that runs; the JVM stays its starter's, who ends it.

    Parameters
    ----------
    headless
        Whether to do without a window. Otherwise ImageJ's own window is shown.

    Raises
    ------
    EngineError
        If that JVM lacks ImageJ, or was started with options that do not suffice.
    """
    _check_parts()
    _check_options()
    if not headless:
        _check_display()
    embedded.prepare(headless=headless)
    _have_it_let_go()


@cache
def _have_it_let_go() -> None:
    """Once in a process, however often its ImageJ is joined."""
    scyjava.when_jvm_stops(jvm.let_go)


def has_fiji() -> bool:
    """Whether ImageJ2, which every Fiji is built on, is on the class path of that JVM."""
    return jvm.has_class("net.imagej.ImageJ")


def _check_parts() -> None:
    if not jvm.has_class("net.imagej.patcher.LegacyInjector"):
        raise EngineError(
            "A JVM runs in this process already, and it lacks ImageJ or net.imagej:ij1-patcher. "
            "Start Python anew, and call fiji_poreseg.start() before anything else starts Java, "
            "or imagej.init() with add_legacy=True."
        )


def _check_options() -> None:
    # The first class of ImageJ must not be loaded before it is known that it can be patched.
    patcher = jvm.jclass("net.imagej.patcher.LegacyInjector").class_
    lang = jvm.jclass("java.lang.Object").class_.getModule()
    if not lang.isOpen("java.lang", patcher.getModule()):
        raise EngineError(
            f"The JVM that runs was started without {_OPEN_LANG}, so ImageJ cannot be patched. "
            f'Start Python anew, and call scyjava.config.add_option("{_OPEN_LANG}") before the '
            "JVM starts, or let fiji_poreseg.start() start it."
        )


def _check_display() -> None:
    if jvm.jclass("java.awt.GraphicsEnvironment").isHeadless():
        raise EngineError(
            "The JVM that runs has no display, so ImageJ's window cannot be shown. Start Python "
            'anew where there is a display, with imagej.init(..., mode="interactive") or without '
            "-Djava.awt.headless=true; or use headless=True."
        )
