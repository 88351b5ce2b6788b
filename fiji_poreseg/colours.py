"""Colours of the classes: one look-up table for every label image, here and in ImageJ.

The colours are those of Okabe and Ito, which people with any colour vision tell apart, in an
order in which pore and solid also differ in grey: luminance 0 for unlabelled, 0.27 for pore,
0.76 for solid.

References
----------
M. Okabe and K. Ito, "Color Universal Design", 2008, https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_UNLABELLED = (0, 0, 0)
_CLASSES = (
    (0, 90, 142),  # 1 pore: Okabe and Ito's blue, a little darker
    (240, 196, 66),  # 2 solid: between their orange and yellow
    (204, 121, 167),
    (0, 158, 115),
    (213, 94, 0),
    (86, 180, 233),
    (230, 230, 230),
)


def _label_colours() -> npt.NDArray[np.uint8]:
    repeated = [_CLASSES[index % len(_CLASSES)] for index in range(255)]
    table = np.array([_UNLABELLED, *repeated], np.uint8)
    table.flags.writeable = False
    return table


LABEL_COLOURS: npt.NDArray[np.uint8] = _label_colours()
"""Red, green and blue of each label, uint8, shape (256, 3), read-only; classes beyond the seventh
begin again with the colour of the first."""
