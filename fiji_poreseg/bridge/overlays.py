"""An image's overlay: labels, regions to look at, and the slice that each of them is on."""

from __future__ import annotations

from typing import Any

import numpy as np
import roifile

from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.rois import LOOK


def selections(image: Any) -> list[Any]:
    """All that is in an image's overlay."""
    overlay = image.getOverlay()
    return [] if overlay is None else list(overlay.toArray())


def is_look(roi: Any) -> bool:
    """Whether it is something to look at, which no command takes for a label."""
    return str(roi.getName()).startswith(LOOK)


def place(roi: Any, image: Any, index: int) -> None:
    """Put a selection on a slice of an image, 0-based; in a hyperstack, on all its channels."""
    if not image.isHyperStack():
        roi.setPosition(index + 1)
    elif image.getNSlices() > 1:
        roi.setPosition(0, index + 1, 0)
    else:
        roi.setPosition(0, 0, index + 1)


def shown_index(image: Any) -> int:
    """The slice of an image that is shown, 0-based."""
    if image.isHyperStack():
        return int(max(image.getZ(), image.getT())) - 1
    return int(image.getCurrentSlice()) - 1


def lay_below(image: Any, name: str, roi: Any) -> None:
    """Put a selection below all that is in an image's overlay, in the place of that of its name.

    The overlay stays the same one, with its settings. Whoever reads it meanwhile finds each of the
    others in its order, and what is added meanwhile stays. With None for the selection, that of the
    name goes.
    """
    overlay = image.getOverlay()
    if overlay is None:
        if roi is not None:
            image.setOverlay(jclass("ij.gui.Overlay")(roi))
        return
    # By their places: ImageJ takes selections of the same kind and bounds for equal.
    place_of_it = int(overlay.getIndex(name))
    if roi is None:
        if place_of_it >= 0:
            overlay.remove(place_of_it)
    elif place_of_it >= 0:
        overlay.set(roi, place_of_it)
    else:
        others = list(overlay.toArray())
        # From above, each moves up by one: until the next one does, it is in both places.
        overlay.add(others[-1] if others else roi)
        for number in range(len(others) - 1, -1, -1):
            overlay.set(others[number - 1] if number else roi, number)
    image.draw()


def to_roifile(roi: Any) -> roifile.ImagejRoi:
    """Copy a selection with its name, group and position."""
    encoded = jclass("ij.io.RoiEncoder").saveAsByteArray(roi)
    return roifile.ImagejRoi.frombytes(bytes(np.asarray(encoded).astype(np.uint8)))
