"""Progress in ImageJ's status line and progress bar, where the Esc key is heard, too."""

from __future__ import annotations

import time

import jpype

from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.errors import Canceled

_SHORTEST_PAUSE_S = 0.1


class ImageJReporter:
    """Forwards progress to ImageJ, at most ten times a second, and always the end."""

    def __init__(self) -> None:
        self._ij = jclass("ij.IJ")
        self._ij.resetEscape()
        self._last = float("-inf")

    def update(self, description: str, done: int, total: int) -> None:
        """Show that `done` of `total` units of `description` are finished.

        Raises
        ------
        Canceled
            If Esc was pressed since the command began.
        """
        now = time.monotonic()
        if done < total and now - self._last < _SHORTEST_PAUSE_S:
            return
        self._last = now
        try:
            pressed = self._ij.escapePressed()
            self._ij.showStatus(f"{description}: {done}/{total}")
            self._ij.showProgress(done, total)
        except jpype.JException as error:
            # Two seconds after Esc, ImageJ kills the thread of a macro that has not ended.
            raise Canceled from error
        if pressed:
            raise Canceled
