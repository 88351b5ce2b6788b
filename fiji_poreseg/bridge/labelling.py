"""Labelling in ImageJ's window: draw, press a key, and see what a forest makes of the slice.

Selections become labels in the image's overlay, where every command finds them. What the forest
makes of the slice that is shown lies below them, as an image that no command takes for a label.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import jpype
import numpy as np
import numpy.typing as npt

from fiji_poreseg.bridge.dialogs import log_bug
from fiji_poreseg.bridge.images import to_xarray
from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.bridge.overlays import (
    is_look,
    lay_below,
    place,
    selections,
    shown_index,
    to_roifile,
)
from fiji_poreseg.colours import LABEL_COLOURS
from fiji_poreseg.errors import EngineError, ParameterError, in_words
from fiji_poreseg.labelling import Learnt, Workbench
from fiji_poreseg.rois import LOOK, painted
from fiji_poreseg.stack import DEFAULT_CLASSES, as_stack

TITLE = "PoreSeg Label"
_ANSWER = f"{LOOK}what the forest answers"
_OPACITY = 0.4
_ERASE, _SHOW = "0", "9"
_FIRST = "Draw a selection inside pore or solid, then press its key in the image's window."

_open: dict[int, Labeller] = {}


def label_current_image(classes: Sequence[str] = DEFAULT_CLASSES) -> None:
    """Start to label the current image; one that is being labelled stays as it is.

    Raises
    ------
    EngineError
        If ImageJ has no window, or no image is open.
    ParameterError
        If its slices are too large.
    """
    if jclass("ij.IJ").getInstance() is None:
        raise EngineError(
            "Labelling needs ImageJ's window: fiji-poreseg gui. Without one, draw labels elsewhere "
            "and give them to PoreSeg Train Forest."
        )
    image = jclass("ij.WindowManager").getCurrentImage()
    if image is None or image.getWindow() is None:
        raise EngineError("Labelling needs an image that is open: open the stack first.")
    if int(image.getID()) not in _open:
        _open[int(image.getID())] = Labeller(image, classes)


class Labeller:
    """An image that is being labelled: it hears the keys, and answers in a thread of its own.

    Parameters
    ----------
    image
        An ImagePlus that is shown.
    classes
        Names of the classes 1, 2, and so on.
    """

    def __init__(self, image: Any, classes: Sequence[str]) -> None:
        self._image = image
        self._stack = as_stack(to_xarray(image))
        self._bench = Workbench(self._stack, classes=classes)
        self._shown = True
        self._closed = False
        self._found: Any = None
        self._showing = jpype.JProxy("java.lang.Runnable", dict={"run": self._show})
        self._wanted = threading.Event()
        self._learnt: Learnt | None = None
        self._learnt_from: object = None
        self._done: object = None
        self._panel = _Panel(str(image.getTitle()), classes, self.close)
        self._keys = jpype.JProxy("java.awt.event.KeyListener", inst=_Keys(self._press))
        # Whichever of them has the focus.
        self._hearing = (image.getCanvas(), image.getWindow())
        for part in self._hearing:
            # ImageJ has commands on the digits; what is not for us is passed on to it.
            part.removeKeyListener(jclass("ij.IJ").getInstance())
            part.addKeyListener(self._keys)
        self._images = jpype.JProxy("ij.ImageListener", inst=_Images(self._changed))
        jclass("ij.ImagePlus").addImageListener(self._images)
        self._worker = threading.Thread(target=self._work, name=TITLE, daemon=True)
        self._worker.start()
        self._wanted.set()

    def close(self) -> None:
        """Stop: the labels stay in the overlay, the answer goes."""
        if self._closed:
            return
        self._closed = True
        self._wanted.set()
        for part in self._hearing:
            part.removeKeyListener(self._keys)
            part.addKeyListener(jclass("ij.IJ").getInstance())
        jclass("ij.ImagePlus").removeImageListener(self._images)
        self._panel.close()
        self._show_soon(None)
        _open.pop(int(self._image.getID()), None)

    def _press(self, key: str) -> bool:
        """Do what a key is for; False where it is not for us."""
        if key.isascii() and key.isdigit() and 1 <= int(key) <= len(self._bench.classes):
            self._add(int(key))
        elif key == _ERASE:
            try:
                self._erase()
            except ParameterError as error:
                self._panel.say(in_words(error))
        elif key == _SHOW:
            self._shown = not self._shown
        else:
            return False
        self._wanted.set()
        return True

    def _changed(self, image: Any, *, is_open: bool) -> None:
        if image is not None and image.getID() == self._image.getID():
            if is_open:
                self._wanted.set()
            else:
                self.close()

    def _add(self, label: int) -> None:
        """Put the selection into the overlay, as a label of the slice that is shown."""
        selection = self._image.getRoi()
        if selection is None:
            self._panel.say(f"Nothing is selected. {_FIRST}")
            return
        roi = self._called(selection, label)
        red, green, blue = (int(value) for value in LABEL_COLOURS[label])
        roi.setStrokeColor(jclass("java.awt.Color")(red, green, blue))
        place(roi, self._image, shown_index(self._image))
        overlay = self._image.getOverlay() or jclass("ij.gui.Overlay")()
        overlay.add(roi)
        self._image.deleteRoi()
        self._image.setOverlay(overlay)

    def _erase(self) -> None:
        """Take labels of the slice that is shown out of the overlay: those that are touched."""
        selection, overlay = self._image.getRoi(), self._image.getOverlay()
        if selection is None or overlay is None:
            self._panel.say("Select what to erase: labels that the selection touches go.")
            return
        index = shown_index(self._image)
        marked = self._called(selection, 1)
        place(marked, self._image, index)
        touched = self._covered(marked, index)
        gone = [
            number
            for number, roi in enumerate(overlay.toArray())
            if not is_look(roi) and (touched & self._covered(roi, index)).any()
        ]
        # By their places: ImageJ takes selections of the same kind and bounds for equal.
        for number in reversed(gone):
            overlay.remove(number)
        self._image.deleteRoi()
        self._image.setOverlay(overlay)

    def _called(self, selection: Any, label: int) -> Any:
        """A copy of a selection that is of a class, whichever group it was drawn in."""
        roi = selection.clone()
        # A group would say more than the name.
        roi.setGroup(0)
        roi.setName(self._bench.classes[label - 1])
        return roi

    def _labels(self) -> list[Any]:
        """What is in the overlay, but for what is to be looked at only."""
        return [roi for roi in selections(self._image) if not is_look(roi)]

    def _painted(self, rois: Sequence[Any]) -> dict[int, npt.NDArray[np.uint8]]:
        copies = [to_roifile(roi) for roi in rois]
        return painted(copies, self._stack, classes=self._bench.classes)

    def _covered(self, roi: Any, index: int) -> npt.NDArray[np.bool_]:
        """Which pixels of a slice a selection covers."""
        plane = self._painted([roi]).get(index)
        return np.zeros(1, bool) if plane is None else plane > 0

    def _work(self) -> None:
        """Learn and answer whenever something may have changed."""
        while True:
            self._wanted.wait()
            self._wanted.clear()
            if self._closed:
                self._bench.close()
                return
            try:
                self._answer()
            except Exception as error:  # whatever it is, the next label may put it right
                if not self._closed:  # else the image is gone
                    log_bug(error)
                    self._panel.say(in_words(error))

    def _answer(self) -> None:
        index, labels = shown_index(self._image), self._painted(self._labels())
        given = {z: plane.tobytes() for z, plane in labels.items()}
        # Once, since a key may change it at any moment.
        shown = self._shown
        if (index, shown, given) == self._done:
            return
        if given != self._learnt_from:
            self._learnt, self._learnt_from = self._bench.learn(labels), given
        answer = self._bench.answer(index) if shown else None
        found = None if answer is None else self._as_roi(answer, index)
        if self._closed:
            return
        self._show_soon(found)
        self._done = (index, shown, given)
        # Where nothing is learnt yet, it will be.
        self._bench.look_at(index)
        if self._learnt is None:
            counted = sum(int(np.count_nonzero(plane)) for plane in labels.values())
            self._panel.say(f"{counted} pixels are labelled. {_FIRST}")
        else:
            pixels, slices, seconds = self._learnt
            self._panel.say(
                f"Learnt from {pixels} pixels in {slices} slice{'s' * (slices > 1)} within "
                f"{seconds:.1f} s."
            )

    def _show_soon(self, found: Any) -> None:
        """Show an answer, or none, from AWT's thread: labels come and go there, and none is lost.

        This thread does not wait for that one, which may be waiting for Python.
        """
        self._found = found
        jclass("java.awt.EventQueue").invokeLater(self._showing)

    def _show(self) -> None:
        is_wanted = self._shown and not self._closed
        lay_below(self._image, _ANSWER, self._found if is_wanted else None)

    def _as_roi(self, answer: npt.NDArray[np.uint8], index: int) -> Any:
        """The classes in their colours, but for the first, pore, which stays as it is."""
        colours = (LABEL_COLOURS.astype(np.int32) @ (1 << 16, 1 << 8, 1)).astype(np.int32)
        pixels = np.where(answer > 1, colours[answer], 0).ravel()
        height, width = answer.shape
        shown = jclass("ij.process.ColorProcessor")(width, height, jpype.JArray(jpype.JInt)(pixels))
        roi = jclass("ij.gui.ImageRoi")(0, 0, shown)
        roi.setZeroTransparent(True)
        roi.setOpacity(_OPACITY)
        roi.setName(_ANSWER)
        place(roi, self._image, index)
        return roi


class _Panel:
    """A small window that says which key does what, and what was learnt."""

    def __init__(self, title: str, classes: Sequence[str], close: Callable[[], None]) -> None:
        frame = jclass("java.awt.Frame")(f"{TITLE}: {title}")
        keys = [f"{n}: label as {name}" for n, name in enumerate(classes, start=1)]
        keys += [f"{_ERASE}: erase the labels that it touches", f"{_SHOW}: show or hide the answer"]
        lines = jclass("java.awt.Panel")(jclass("java.awt.GridLayout")(0, 1))
        lines.add(jclass("java.awt.Label")("Draw a selection, then press"))
        for key in keys:
            lines.add(jclass("java.awt.Label")(f"    {key}"))
        self._status = jclass("java.awt.TextArea")(
            _FIRST, 4, 44, jclass("java.awt.TextArea").SCROLLBARS_NONE
        )
        self._status.setEditable(False)
        done = jclass("java.awt.Button")("Done")
        self._done = jpype.JProxy(
            "java.awt.event.ActionListener", dict={"actionPerformed": lambda _: close()}
        )
        done.addActionListener(self._done)
        layout = jclass("java.awt.BorderLayout")
        frame.add(lines, layout.NORTH)
        frame.add(self._status, layout.CENTER)
        frame.add(done, layout.SOUTH)
        frame.pack()
        place = jclass("ij.IJ").getInstance().getBounds()
        frame.setLocation(int(place.x), int(place.y + place.height + 20))
        # The image keeps the keys.
        frame.setFocusableWindowState(False)
        self._window = jpype.JProxy("java.awt.event.WindowListener", inst=_Window(close))
        frame.addWindowListener(self._window)
        frame.setVisible(True)
        self._frame = frame

    def say(self, text: str) -> None:
        self._status.setText(text)

    def close(self) -> None:
        self._frame.dispose()


class _Keys:
    """java.awt.event.KeyListener in the place of ImageJ's own."""

    def __init__(self, press: Callable[[str], bool]) -> None:
        self._press = press
        self._imagej = jclass("ij.IJ").getInstance()

    def keyPressed(self, event: Any) -> None:  # noqa: N802
        # With Shift, since digits need it on some keyboards.
        modifiers = int(event.getModifiersEx()) & ~int(event.SHIFT_DOWN_MASK)
        if modifiers or not self._press(str(event.getKeyChar())):
            self._imagej.keyPressed(event)

    def keyReleased(self, event: Any) -> None:  # noqa: N802
        self._imagej.keyReleased(event)

    def keyTyped(self, event: Any) -> None:  # noqa: N802
        self._imagej.keyTyped(event)


class _Window:
    """java.awt.event.WindowListener: closing the panel is the same as its button."""

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close

    def windowClosing(self, event: Any) -> None:  # noqa: N802
        del event
        self._close()

    def _ignore(self, event: Any) -> None:
        pass

    windowOpened = windowClosed = windowActivated = windowDeactivated = _ignore  # noqa: N815
    windowIconified = windowDeiconified = _ignore  # noqa: N815


class _Images:
    """ij.ImageListener."""

    def __init__(self, changed: Callable[..., None]) -> None:
        self._changed = changed

    def imageOpened(self, image: Any) -> None:  # noqa: N802
        pass

    def imageClosed(self, image: Any) -> None:  # noqa: N802
        self._changed(image, is_open=False)

    def imageUpdated(self, image: Any) -> None:  # noqa: N802
        self._changed(image, is_open=True)
