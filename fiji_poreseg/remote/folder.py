"""The folder that a plugin and Python share: files that are whole, and whether ImageJ still waits.

Everything in it is ASCII: texts are percent-encoded, as Java's URLEncoder and URLDecoder do.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from urllib.parse import quote_plus, unquote_plus

_PAUSE_S = 0.05
_LOOK_EVERY_S = 0.5
_LONGEST_SILENCE_S = 6.0
_LAST_SECONDS = 2.0
_GONE = "ImageJ no longer waits for this command: it was closed or killed, or Esc was pressed."


def encode(text: str) -> str:
    """Write a text as ImageJ's side reads it."""
    return quote_plus(text)


def decode(text: str) -> str:
    """Read a text that ImageJ's side wrote."""
    return unquote_plus(text)


class Folder:
    """The folder of one request; `path` is where it is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_given_up = False
        self._awaited = path / "no image yet"

    def lines(self, name: str) -> list[str]:
        """Read a file's lines."""
        return (self.path / name).read_text(encoding="ascii").splitlines()

    def publish(self, name: str, text: str) -> None:
        """Write a file that the plugin sees only whole."""
        part = self.path / f".{name}"
        part.write_text(text, encoding="ascii")
        os.replace(part, self.path / name)

    def tell(self, name: str, text: str) -> None:
        """Write a file of news, unless the plugin reads the last ones at this moment."""
        with contextlib.suppress(PermissionError):  # only Windows minds
            self.publish(name, text)

    def fetch(self, image: str) -> Path:
        """Ask the plugin for an open image, by its id, and wait for the file.

        Raises
        ------
        OSError
            If ImageJ could not save it.
        """
        file = self.path / f"{image}.tif"
        if not file.exists():
            self._awaited = file
            self.publish("wanted.txt", image)
            while (self.path / "wanted.txt").exists():
                time.sleep(_PAUSE_S)
        if not file.exists():
            raise OSError(f"ImageJ could not save the image to {self.path}")
        return file

    def watch(self) -> None:
        """End this process, from now on, when ImageJ no longer waits for it."""
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        last, silence = self._signs_of_life(), 0.0
        while silence < _LONGEST_SILENCE_S:
            time.sleep(_LOOK_EVERY_S)
            news = self._signs_of_life()
            # Not by the clock, which may have gone on while the computer slept.
            silence = silence + _LOOK_EVERY_S if news == last else 0.0
            last = news
        self._end()

    def _signs_of_life(self) -> list[tuple[int, int]]:
        """What changes as long as the plugin runs: its pulse, and an image while it is saved."""
        found = []
        for file in (self.path / "alive.txt", self._awaited):
            with contextlib.suppress(OSError):  # not there yet, or no more
                state = file.stat()
                found.append((state.st_mtime_ns, state.st_size))
        return found

    def _end(self) -> None:
        try:
            sys.stderr.write(f"fiji-poreseg: {_GONE}\n")
            sys.stderr.flush()
        except OSError:  # nobody reads it any more, so leave it where somebody may look
            self.path.with_suffix(".txt").write_text(f"{_GONE}\n", encoding="ascii")
        self._is_given_up = True
        # What is being written removes its parts now; then the process ends whatever it does.
        _thread.interrupt_main()
        time.sleep(_LAST_SECONDS)
        self.leave(1)

    def leave(self, status: int = 0) -> None:
        """End this process, and the folder with it where nobody waits for an answer."""
        if self._is_given_up:
            # Not while the work goes on, whose news would come into it meanwhile.
            shutil.rmtree(self.path, ignore_errors=True)
        # As in fiji_poreseg.cli: Python's own way out would take TensorFlow seconds.
        os._exit(status)
