"""The Fiji engine: a Fiji's folder, or one from Maven, started through PyImageJ."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import imagej
import jpype
import scyjava
import scyjava.config

from fiji_poreseg.bridge import jvm
from fiji_poreseg.bridge.classes import complete_headless_dialog
from fiji_poreseg.errors import EngineError, in_short

_ANOTHER = "Name another Fiji, or leave it out to use ImageJ alone."


def start_imagej(fiji: Path | str, java: jvm.Java, *, headless: bool) -> Any:
    """Start the JVM with a Fiji in it; to be called once in a process.

    Parameters
    ----------
    fiji
        Its folder (a path) or its Maven coordinates (a string), as `fiji_folder.locate` says.
    java
        The Java to start it with.
    headless
        Whether to do without a window. Otherwise Fiji's own window opens.

    Returns
    -------
    net.imagej.ImageJ
        PyImageJ's gateway.

    Raises
    ------
    EngineError
        If the Fiji cannot be fetched or started.
    """
    if isinstance(fiji, Path) and list(fiji.glob("jars/imglib2-imglyb-*.jar")):
        # Importing PyImageJ asks Maven for this jar, and with it for other versions of ImgLib2.
        scyjava.config.endpoints[:] = [
            each for each in scyjava.config.endpoints if "imglib2-imglyb" not in each
        ]
    # Before the ImageJ in it begins to write.
    scyjava.when_jvm_starts(jvm.write_utf8)
    if headless:
        scyjava.when_jvm_starts(_complete_dialog)
    try:
        with jvm.starting(java, headless=headless):
            gateway = imagej.init(str(fiji), mode="headless" if headless else "interactive")
            if not headless:
                gateway.ui().showUI()
    except Exception as error:  # of PyImageJ, jgo, the disk, or any class of Fiji
        raise EngineError(_in_words(fiji, java, error)) from error
    if jvm.jclass("ij.Menus").getCommands() is None:
        raise EngineError(f"The ImageJ of {fiji} has no commands without a window. {_ANOTHER}")
    return gateway


def _complete_dialog() -> None:
    with contextlib.suppress(jpype.JException, TypeError):  # a Fiji with another patcher
        complete_headless_dialog()


def _in_words(fiji: Path | str, java: jvm.Java, error: Exception) -> str:
    what = f"{fiji} cannot be started with the Java {java.version} of {java.source}"
    try:
        if jvm.is_running() and not jvm.has_class("net.imagej.ImageJ"):
            return f"{fiji} holds no ImageJ2 (net.imagej.ImageJ), so it is no Fiji. {_ANOTHER}"
    except jpype.JException as reason:  # PyImageJ hides why it cannot load this class
        error = reason
    if "UnsupportedClassVersionError" in type(error).__name__:
        return f"{what}, which is too old. Set JAVA_HOME to a newer one, such as Java 21."
    said = in_short(error)
    if isinstance(fiji, str):
        return f"{what}, or not be fetched from Maven ({said}). Connect to the internet, once."
    return f"{what} ({said}). Try whether this Fiji starts by itself, and update it."
