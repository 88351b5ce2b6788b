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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import image as pictures

import fiji_poreseg as fp
from fiji_poreseg import bridge

DOCS = Path(__file__).parent.parent / "docs" / "window"
DIALOGS = ("PoreSeg Train Forest", "PoreSeg Train ResUNet", "PoreSeg Segment", "PoreSeg Evaluate")
OK, CANCEL = 0, 1
PAUSE_S, LONGEST_S = 1.0, 60.0
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
        self._screen("menu")
        self._type(*[keys.VK_ESCAPE] * 3)

    def dialog(self, title: str) -> None:
        """Open a command's dialog, and cancel it."""
        dialog = self._open(title)
        # Its fields are drawn one by one.
        time.sleep(3 * PAUSE_S)
        self._write(title.lower().replace(" ", "-"), dialog.getBounds())
        self._press(dialog, CANCEL)

    def suggesting(self, stack: xr.DataArray) -> None:
        """Ask what to look at next, and write the regions and the table."""
        image = self._ij.to_imageplus(stack.rename("stack"))
        image.show()
        self._press(self._open("PoreSeg Suggest"), OK)
        wait_for("regions", lambda: image.getOverlay() is not None)
        self._arrange(image)
        results = self._ij.java("ij.WindowManager").getFrame("Results")
        below = image.getWindow().getBounds()
        results.setBounds(below.x, below.y + below.height + 10, 520, 200)
        image.setPosition(image.getOverlay().get(0).getPosition())
        self._screen("suggest")
        self._close_tables()
        self._close(image)

    def correcting(self, stack: xr.DataArray) -> None:
        """Paint over a segmentation, correct it, and write both."""
        image = self._ij.to_imageplus(stack.rename("stack"))
        image.show()
        self._press(self._open("PoreSeg Segment"), OK)
        segmentation = self._wait_for_image("stack-segmentation")
        roi = self._ij.java("ij.gui.OvalRoi")(150, 60, 70, 50)
        roi.setPosition(1)
        roi.setGroup(1)
        overlay = self._ij.java("ij.gui.Overlay")(roi)
        segmentation.setOverlay(overlay)
        self._ij.java("ij.IJ").selectWindow(segmentation.getID())
        self._press(self._open("PoreSeg Correct"), OK)
        corrected = self._wait_for_image("stack-segmentation-corrected")
        probability = self._ij.java("ij.WindowManager").getImage("stack-probability")
        self._close(*(one for one in (image, probability) if one is not None))
        self._arrange(segmentation, corrected)
        for one in (segmentation, corrected):
            one.setSlice(1)
        self._ij.java("ij.WindowManager").getFrame("Log").close(False)
        self._screen("correct")
        self._close_tables()
        self._close(segmentation, corrected)

    def _open(self, title: str) -> Any:
        """Open a command's dialog."""
        self._ij.java("ij.IJ").doCommand(title)
        return wait_for(f"the dialog of {title}", self._dialog)

    def _dialog(self) -> Any:
        kind = self._ij.java("ij.gui.GenericDialog")
        windows = self._ij.java("java.awt.Window").getWindows()
        return next((one for one in windows if one.isShowing() and isinstance(one, kind)), None)

    def _press(self, dialog: Any, number: int) -> None:
        time.sleep(PAUSE_S)
        button = dialog.getButtons()[number]
        action = self._ij.java("java.awt.event.ActionEvent")
        dialog.actionPerformed(action(button, action.ACTION_PERFORMED, button.getLabel()))
        time.sleep(PAUSE_S)

    def _wait_for_image(self, title: str) -> Any:
        return wait_for(title, lambda: self._ij.java("ij.WindowManager").getImage(title))

    def _arrange(self, *images: Any) -> None:
        """Put the windows of images side by side below ImageJ's own."""
        place = self._ij.java("ij.IJ").getInstance().getBounds()
        left = place.x
        for image in images:
            window = image.getWindow()
            window.setLocation(left, place.y + place.height + 20)
            window.toFront()
            left += window.getWidth() + 10

    def _screen(self, name: str) -> None:
        time.sleep(PAUSE_S)
        size = self._ij.java("java.awt.Toolkit").getDefaultToolkit().getScreenSize()
        self._write(name, size)

    def _close_tables(self) -> None:
        for title in ("Results", "Log"):
            frame = self._ij.java("ij.WindowManager").getFrame(title)
            if frame is not None:
                frame.close(False)

    def _close(self, *images: Any) -> None:
        for image in images:
            image.changes = False
            image.close()

    def labelling(self, stack: xr.DataArray, truth: xr.DataArray) -> None:
        """Label a slice in pore and solid, and write what the forest answers."""
        image = self._ij.to_imageplus(stack.rename("stack"))
        image.show()
        self._close_tables()
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
        self._screen("label")
        self._close(image)

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
        ij.run_macro('run("PoreSeg Train Forest", "labels=labels.tif indices=0,6,11 trees=30");')
        for title in DIALOGS:
            photographer.dialog(title)
        ij.close()
        photographer.labelling(made.stack, made.truth)
        photographer.suggesting(made.stack)
        photographer.correcting(made.stack)
        ij.close()
        ij.java("ij.IJ").getInstance().quit()
    except Exception:  # whatever it is, the window would stay open for ever
        traceback.print_exc()
        os._exit(1)


def wait_for(what: str, found: Callable[[], Any]) -> Any:
    """Answer with what is there at last; a TimeoutError if it does not come."""
    deadline = time.monotonic() + LONGEST_S
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(PAUSE_S / 10)
    raise TimeoutError(what)


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
