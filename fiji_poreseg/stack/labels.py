"""What users call labels, taken and checked."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg.errors import ParameterError, PoreSegWarning
from fiji_poreseg.stack.calibration import AXES
from fiji_poreseg.stack.checking import to_dataarray
from fiji_poreseg.stack.making import DEFAULT_CLASSES, make_labels
from fiji_poreseg.stack.values import depth_blocks

PORE, SOLID = 1, 2
# Files of which no program said what their pages are.
_SLICES_AS_CHANNELS = (
    " The image has channels and a single slice: if they are its slices, say so first (in ImageJ: "
    "Image > Properties)."
)


def as_labels(
    labels: object,
    stack: xr.DataArray,
    *,
    mask_foreground: str = "solid",
    classes: Sequence[str] = DEFAULT_CLASSES,
    parameter: str = "labels",
    allow_mask: bool = True,
) -> xr.DataArray:
    """Take whatever a user calls labels and answer with checked labels on the stack's voxels.

    Parameters
    ----------
    labels
        Label image (0 unlabelled, 1 pore, 2 solid, …) or mask (values 0 and 255, as ImageJ has
        them, or bool), as anything that `as_stack` takes, shape (z, y, x) of the stack.
    stack
        The stack that they belong to.
    mask_foreground
        What 255, or True, stands for in a mask: ``"solid"`` or ``"pore"``. A mask with an inverting
        look-up table (``attrs["inverting_lut"]``) is turned round first.
    classes
        Names of the classes 1, 2, and so on.
    parameter
        Name to use in an error.
    allow_mask
        Whether a mask may be given, where every pixel counts as labelled.

    Returns
    -------
    xarray.DataArray
        uint8, dims ``("z", "y", "x")``; ``attrs["dense"]`` says that a mask was given.

    Raises
    ------
    ParameterError
        If the shape differs, a value is no class, a mask is not allowed or nothing is labelled.

    Warns
    -----
    PoreSegWarning
        If they look like a mask of 0 and 1.
    """
    given = to_dataarray(labels, parameter)
    expected = tuple(stack.sizes[axis] for axis in AXES)
    if given.shape != expected:
        raise ParameterError(
            parameter,
            f"must have the shape of the stack, {expected} (z, y, x)",
            f"shape {given.shape}",
            "Leave slices without labels at 0; crop or resize nothing."
            + (_SLICES_AS_CHANNELS if expected[0] == 1 and stack.sizes.get("c", 1) > 1 else ""),
        )
    values, found = _read_labels(given)
    dense = found.any() and (given.dtype == bool or set(found.tolist()) <= {0, 255})
    if dense:
        if not allow_mask:
            raise ParameterError(
                parameter,
                "must be a label image (0 leave, 1 pore, 2 solid) or ROIs",
                "a mask of two values, in which what is to be left alone cannot be told",
                "Convert it, or draw ROIs.",
            )
        inverted = bool(given.attrs.get("inverting_lut", False))
        values = _from_mask(values, bright_is_solid=(mask_foreground == "solid") != inverted)
    elif found[0] < 0 or found[-1] > len(classes) or not np.array_equal(found, np.round(found)):
        raise ParameterError(
            parameter,
            f"must hold 0 (unlabelled) to {len(classes)} ({', '.join(classes)}), or 0 and 255",
            f"values {', '.join(f'{value:g}' for value in found[:8])}",
            "Renumber the image, or name all classes with classes=pore,solid,….",
        )
    if not dense and not found.any():
        raise ParameterError(
            parameter,
            "must label at least one pixel",
            "0 everywhere",
            "Paint 1 for pore and 2 for solid, or draw ROIs.",
        )
    one_class = allow_mask and not dense and found.tolist() == [0, PORE]
    if one_class and len(values) > 1 and all(plane.any() for plane in values):
        warnings.warn(
            f"`{parameter}` holds 0 (unlabelled) and {PORE} ({classes[PORE - 1]}) alone, in every "
            "slice. If it is a mask, make it 0 and 255, or bool.",
            PoreSegWarning,
            stacklevel=2,
        )
    made = make_labels(values, stack, name=str(given.name), classes=classes)
    return made.assign_attrs(dense=bool(dense))


def _read_labels(given: xr.DataArray) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """The labels as uint8, the array itself if it is that, and all values that occur, sorted."""
    shared = given.dtype == np.uint8 and isinstance(given.data, np.ndarray)
    values = given.data if shared else np.empty(given.shape, np.uint8)
    found = np.empty(0)
    for block in depth_blocks(given):
        part = given.data[block] if shared else given.isel(z=block).to_numpy()
        for plane in part:
            is_small = plane.dtype == np.uint8  # counting is much faster than sorting
            here = np.flatnonzero(np.bincount(plane.ravel())) if is_small else np.unique(plane)
            found = np.union1d(found, here.astype(float))
        if not shared:
            # What does not fit is refused by its value in `found`.
            with np.errstate(invalid="ignore"):
                values[block] = part
    return values, found


def _from_mask(values: npt.NDArray[np.uint8], bright_is_solid: bool) -> npt.NDArray[np.uint8]:
    made = np.empty_like(values)
    for plane, result in zip(values, made, strict=True):
        result[:] = np.where((plane > 0) == bright_is_solid, np.uint8(SOLID), np.uint8(PORE))
    return made


def check_two_classes(found: Sequence[int], classes: Sequence[str]) -> None:
    """Refuse labels of fewer than two classes."""
    if len(found) < 2:
        names = ", ".join(classes[value - 1] for value in found) or "nothing"
        raise ParameterError(
            "labels",
            "must label at least two classes in the slices trained on",
            f"only {names}",
            "Paint the other class, too, or name other slices in indices; a mask holds 0 and 255.",
        )
