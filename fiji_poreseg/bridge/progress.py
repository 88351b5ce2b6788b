"""Progress in ImageJ's status line and progress bar."""

from __future__ import annotations

import time

from fiji_poreseg.bridge.jvm import jclass

_SHORTEST_PAUSE_S = 0.1


class ImageJReporter:
    """Forwards progress to ImageJ, at most ten times a second, and always the end."""

    def __init__(self) -> None:
        self._ij = jclass("ij.IJ")
        self._last = float("-inf")

    def update(self, description: str, done: int, total: int) -> None:
        """Show that `done` of `total` units of `description` are finished."""
        now = time.monotonic()
        if done < total and now - self._last < _SHORTEST_PAUSE_S:
            return
        self._last = now
        self._ij.showStatus(f"{description}: {done}/{total}")
        self._ij.showProgress(done, total)
