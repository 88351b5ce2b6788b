"""Make the pictures of ImageJ's menu and of the dialogs in `docs/window/`.

It presses keys, so give it a display of its own, and a window manager that draws the frames of
the windows (Debian: apt install xvfb xauth openbox):

    xvfb-run -s "-screen 0 1280x1024x24" sh -c "openbox & python scripts/screenshots.py [FOLDER]"
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import image as pictures

import fiji_poreseg as fp
from fiji_poreseg import bridge

DOCS = Path(__file__).parent.parent / "docs" / "window"
DIALOGS = ("PoreSeg Train Forest", "PoreSeg Train ResUNet", "PoreSeg Segment", "PoreSeg Evaluate")
PAUSE_S = 1.0
# Keys that follow too soon on one that opens a menu are lost.
KEY_DELAY_MS = 500


class Photographer:
    """Opens the menu and the dialogs of a running ImageJ, and writes what the screen shows."""

    def __init__(self, ij: bridge.ImageJ, folder: Path) -> None:
        self._ij = ij
        self._folder = folder
        self._robot = ij.java("java.awt.Robot")()
        self._robot.setAutoDelay(KEY_DELAY_MS)

    def menu(self) -> None:
        """Open Plugins > PoreSeg by its keys."""
        keys = self._ij.java("java.awt.event.KeyEvent")
        window = self._ij.java("ij.IJ").getInstance()
        window.toFront()
        time.sleep(PAUSE_S)
        # To the left, since Right would open the first entry's own menu: past Help and Window.
        self._type(keys.VK_F10, *[keys.VK_LEFT] * 3)
        # Up to the last entry, which is ours.
        self._type(keys.VK_UP, keys.VK_RIGHT)
        time.sleep(PAUSE_S)
        self._write("menu", self._ij.java("java.awt.Toolkit").getDefaultToolkit().getScreenSize())
        self._type(*[keys.VK_ESCAPE] * 3)

    def dialog(self, title: str) -> None:
        """Open a command's dialog, and cancel it."""
        self._ij.java("ij.IJ").doCommand(title)
        time.sleep(PAUSE_S)
        (dialog,) = (
            window
            for window in self._ij.java("java.awt.Window").getWindows()
            if window.isShowing() and isinstance(window, self._ij.java("ij.gui.GenericDialog"))
        )
        self._write(title.lower().replace(" ", "-"), dialog.getBounds())
        cancel = dialog.getButtons()[1]
        action = self._ij.java("java.awt.event.ActionEvent")
        dialog.actionPerformed(action(cancel, action.ACTION_PERFORMED, cancel.getLabel()))
        time.sleep(PAUSE_S)

    def labelling(self, stack: xr.DataArray, truth: xr.DataArray) -> None:
        """Label a slice in pore and solid, and write what the forest answers."""
        image = self._ij.to_imageplus(stack.rename("stack"))
        image.show()
        for title in ("Results", "Log"):
            self._ij.java("ij.WindowManager").getFrame(title).dispose()
        self._ij.java("ij.IJ").doCommand("PoreSeg Label")
        time.sleep(PAUSE_S)
        place = self._ij.java("ij.IJ").getInstance().getBounds()
        image.getWindow().setLocation(place.x + 400, place.y + place.height + 20)
        keys = self._ij.java("java.awt.event.KeyEvent")
        for label, key in ((1, keys.VK_1), (2, keys.VK_2)):
            for line in lines_in(truth.to_numpy()[0] == label):
                image.setRoi(self._ij.java("ij.gui.Line")(*line))
                image.getWindow().toFront()
                image.getCanvas().requestFocus()
                time.sleep(PAUSE_S / 2)
                self._type(key)
        time.sleep(4 * PAUSE_S)
        size = self._ij.java("java.awt.Toolkit").getDefaultToolkit().getScreenSize()
        self._write("label", size)
        image.changes = False
        image.close()

    def _type(self, *keys: int) -> None:
        for key in keys:
            self._robot.keyPress(key)
            self._robot.keyRelease(key)

    def _write(self, name: str, area: Any) -> None:
        rectangle = self._ij.java("java.awt.Rectangle")(area)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "screen.png"
            file = self._ij.java("java.io.File")(str(path))
            screen = self._robot.createScreenCapture(rectangle)
            self._ij.java("javax.imageio.ImageIO").write(screen, "png", file)
            shown = pictures.imread(path)
        pictures.imsave(self._folder / f"{name}.png", without_background(shown))


def without_background(shown: np.ndarray) -> np.ndarray:
    """Cut off the rows and columns at the border that are all as the last pixel is."""
    differs = (shown != shown[-1, -1]).any(axis=-1)
    rows, columns = (np.flatnonzero(differs.any(axis=axis)) for axis in (1, 0))
    cut = shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.ascontiguousarray(cut)


def take_pictures(folder: Path) -> None:
    """Take all of them once ImageJ is there, and quit it."""
    try:
        ij = wait_for_imagej()
        photographer = Photographer(ij, folder)
        photographer.menu()
        made = fp.phantom(slices=12, size=256)
        ij.to_imageplus(made.truth.rename("labels.tif")).show()
        ij.to_imageplus(made.stack.rename("stack.tif")).show()
        ij.run_macro('run("PoreSeg Train Forest", "labels=labels.tif indices=0,6 trees=4");')
        for title in DIALOGS:
            photographer.dialog(title)
        ij.close()
        photographer.labelling(made.stack, made.truth)
        ij.close()
        ij.java("ij.IJ").getInstance().quit()
    except Exception:  # whatever it is, the window would stay open for ever
        traceback.print_exc()
        os._exit(1)


def lines_in(mask: np.ndarray) -> list[tuple[int, int, int, int]]:
    """The longest level lines in each fourth of a mask: x, y of both ends."""
    found = []
    for band in np.array_split(np.arange(len(mask)), 4):
        runs = []
        for row in band:
            edges = np.flatnonzero(np.diff([0, *mask[row], 0]))
            runs += [(stop - start, row, start, stop) for start, stop in edges.reshape(-1, 2)]
        _, row, start, stop = max(runs)
        found.append((int(start) + 2, int(row), int(stop) - 3, int(row)))
    return found


def wait_for_imagej() -> bridge.ImageJ:
    """Wait until ImageJ has its commands; it is started by the main thread."""
    while bridge._running is None:
        time.sleep(0.1)
    time.sleep(3 * PAUSE_S)
    return bridge.start()


def main() -> None:
    """Take the pictures beside ImageJ's window."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS
    threading.Thread(target=take_pictures, args=(folder,), daemon=True).start()
    bridge.run_window()
    bridge.shutdown()


if __name__ == "__main__":
    main()
