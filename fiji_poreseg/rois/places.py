"""Which class a ROI is of, and in which slice it lies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import xarray as xr
from roifile import ImagejRoi

from fiji_poreseg.errors import ParameterError


class Place(NamedTuple):
    """A ROI and how an error calls it."""

    roi: ImagejRoi
    title: str
    parameter: str

    def error(self, rule: str, value: str, hint: str) -> ParameterError:
        """What to raise where the ROI breaks a rule."""
        return ParameterError(self.parameter, rule, f"{self.title} {value}", hint)


def places(rois: Iterable[ImagejRoi], parameter: str) -> Iterator[Place]:
    """ROIs with what an error calls each of them."""
    for number, roi in enumerate(rois, start=1):
        yield Place(roi, f"ROI {number} ({roi.name or 'without name'})", parameter)


def label_of(where: Place, classes: Sequence[str]) -> int:
    """Its class, counted from 1: its group, or that whose name it has; else a `ParameterError`."""
    group = int(where.roi.group)
    if group > len(classes):
        raise where.error(
            f"must have groups from 1 to {len(classes)} ({', '.join(classes)})",
            f"in group {group}",
            "Change the group in Edit > Selection > Properties, or name all classes.",
        )
    if group > 0:
        return group
    name = where.roi.name.strip().casefold()
    names = (name, re.sub(r"-\d+$", "", name))
    for label, class_name in enumerate(classes, start=1):
        if class_name.casefold() in names:
            return label
    raise where.error(
        "must say what each ROI is: by its group, or by its name",
        "with neither",
        f"Set the group ({', '.join(f'{n} {name}' for n, name in enumerate(classes, start=1))}) "
        "in Edit > Selection > Properties, or name the ROI like the class.",
    )


def own_index(where: Place, stack: xr.DataArray) -> int:
    """The 0-based slice of a stack that a ROI lies in; a `ParameterError` where it has none."""
    return index_of(where, own_position(where.roi, stack.sizes.get("c", 1)), stack)


def own_position(roi: ImagejRoi, channels: int) -> int:
    """The number of the slice that a ROI lies in, from 1; less where it does not say."""
    if roi.z_position > 0 or roi.t_position > 0:
        # Only one of these axes is longer than 1; the position along the other is 1 or 0.
        return int(max(roi.z_position, roi.t_position))
    return slice_of(int(roi.position), channels)


def slice_of(position: int, channels: int) -> int:
    """Slice number of a position in the whole stack, where channels lie side by side."""
    return (position - 1) // channels + 1


def index_of(where: Place, number: int, stack: xr.DataArray) -> int:
    """The 0-based slice that has a number, from 1; a `ParameterError` where the stack has none."""
    slices = stack.sizes["z"]
    if number < 1 and slices == 1:
        return 0
    if number < 1:
        raise where.error(
            "must say in which slice each ROI lies",
            "with position 0",
            "Set the position in Edit > Selection > Properties: the slice number, from 1.",
        )
    if number > slices:
        raise where.error(
            f"must lie in the stack's slices, 1 to {slices}",
            f"in slice {number}",
            "Check that the ROIs belong to this stack.",
        )
    return number - 1
