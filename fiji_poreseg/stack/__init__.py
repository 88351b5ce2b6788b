"""What a stack, labels and a segmentation are: make them, check them, measure them.

A stack is an `xarray.DataArray` with dims ``("z", "y", "x")``, or ``("c", "z", "y", "x")`` for
several detectors, and coordinates in nm; where its slices have labels, as in ImageJ, they are
the coordinate ``slice_label`` along z (along c and z where the detectors have labels of their
own), so that they stay with their slices. Names of the detectors are the coordinate ``c``.

Labels and segmentations are ``uint8``: 0 unlabelled (or no data), 1 pore, 2 solid, 3 and up
further classes.
"""

from __future__ import annotations

from fiji_poreseg.stack.calibration import (
    AXES,
    DEFAULT_SPACING_NM,
    Spacing,
    check_spacing,
    nm_per,
    spacing_nm,
    tidy,
    with_spacing,
)
from fiji_poreseg.stack.checking import (
    ASSUMED,
    as_stack,
    check_indices,
    check_not_empty,
    register_converter,
    to_dataarray,
)
from fiji_poreseg.stack.labels import PORE, SOLID, as_labels, check_two_classes
from fiji_poreseg.stack.making import (
    DEFAULT_CLASSES,
    SLICE_LABEL,
    labels_of_slices,
    make_labels,
    make_stack,
    slice_labels_of,
)
from fiji_poreseg.stack.values import holds_data, shown_range, valid_pixels

__all__ = [
    "ASSUMED",
    "AXES",
    "DEFAULT_CLASSES",
    "DEFAULT_SPACING_NM",
    "PORE",
    "SLICE_LABEL",
    "SOLID",
    "Spacing",
    "as_labels",
    "as_stack",
    "check_indices",
    "check_not_empty",
    "check_spacing",
    "check_two_classes",
    "holds_data",
    "labels_of_slices",
    "make_labels",
    "make_stack",
    "nm_per",
    "register_converter",
    "shown_range",
    "slice_labels_of",
    "spacing_nm",
    "tidy",
    "to_dataarray",
    "valid_pixels",
    "with_spacing",
]
