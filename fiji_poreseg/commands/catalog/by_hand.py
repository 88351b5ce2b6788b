"""What a person does: labels, and corrections."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import xarray as xr

from fiji_poreseg import audit, correction, files
from fiji_poreseg.commands import checks, presentation
from fiji_poreseg.commands.catalog.parameters import (
    CATALOG,
    Classes,
    ImageClasses,
    Json,
    Labels,
    LabelsLike,
    MaskForeground,
    StackLike,
)
from fiji_poreseg.commands.spec import Param, Role
from fiji_poreseg.correction import Correction
from fiji_poreseg.rois import LABEL_SUFFIXES, labels_from, write_labels
from fiji_poreseg.stack import DEFAULT_CLASSES, check_indices, to_dataarray


@CATALOG.command("PoreSeg Save Labels", present=presentation.labels)
def save_labels(
    image: Annotated[
        StackLike, Param("the stack that the labels belong to", role=Role.IMAGE, metavar="STACK")
    ],
    labels: Labels,
    *,
    output: Annotated[
        Path,
        Param(
            "file to write: .zip for the ROI Manager, .labeling for Labkit, .tif a label image",
            role=Role.OUTPUT,
            metavar="FILE",
        ),
    ],
    classes: Classes = DEFAULT_CLASSES,
    mask_foreground: MaskForeground = "solid",
) -> xr.DataArray:
    """Write labels to a file that other programs open, and that `labels` takes again.

    Parameters
    ----------
    image
        The stack.
    labels
        Labels of its shape, or ROIs; in a macro, those of the image's overlay if left out.
    output
        ``.zip``: a selection for each slice and class, for ImageJ's ROI Manager; ``.labeling``: for
        Labkit; ``.tif``, ``.zarr``: an image, 0 unlabelled. Pixel for pixel the same in each.
    classes
        Names of the classes 1, 2, and so on.
    mask_foreground
        What 255 stands for where the labels are a mask.

    Returns
    -------
    xarray.DataArray
        The labels, uint8, dims ``("z", "y", "x")``.

    Raises
    ------
    ParameterError
        If labels and stack do not fit, or the file cannot be written.
    """
    files.check_output(output, suffixes=LABEL_SUFFIXES)
    stack = to_dataarray(image)
    given = labels_from(labels, stack, mask_foreground=mask_foreground, classes=classes)
    write_labels(output, given)
    return given


@CATALOG.command("PoreSeg Correct", present=presentation.correction)
def correct(
    image: Annotated[
        StackLike, Param("the segmentation to correct", role=Role.IMAGE, metavar="SEG")
    ],
    corrections: Annotated[
        LabelsLike,
        Param(
            "what to change: an image (0 leave, 1 pore, 2 solid, …), an edited copy, or ROIs",
            role=Role.LABELS,
            metavar="CORRECTIONS",
        ),
    ],
    *,
    checked: Annotated[
        tuple[int, ...],
        Param(
            "slices that were looked at whole, counted from 0: all else in them is right",
            ge=0,
            metavar="I,J,…",
        ),
    ] = (),
    output: Annotated[
        Path | None,
        Param(
            "TIFF or OME-Zarr to write the corrected segmentation to",
            role=Role.OUTPUT,
            metavar="SEG2",
            suffix=".tif",
            required_on_command_line=True,
        ),
    ] = None,
    hand: Annotated[
        Path | None,
        Param(
            "TIFF or OME-Zarr to write the pixels to that are made or checked by hand: labels",
            role=Role.OUTPUT,
            metavar="FILE",
            suffix=".tif",
        ),
    ] = None,
    history: Annotated[
        Path | None,
        Param(
            "file that keeps all corrections, .npz; gone on with where it is there",
            role=Role.OUTPUT,
            metavar="FILE",
            suffix=audit.SUFFIX,
        ),
    ] = None,
    json: Json = None,
    classes: ImageClasses = None,
    mask_foreground: MaskForeground = "solid",
) -> Correction:
    """Merge hand corrections into a segmentation and keep count of them.

    Parameters
    ----------
    image
        Segmentation, uint8, dims ``("z", "y", "x")``.
    corrections
        Label image of its shape, 0 where it is to stay, or ROIs: all that is painted is made by
        hand, also where it confirms. Or an edited copy of the segmentation, which has a class
        everywhere: what differs is made by hand. A mask is refused: it does not say what to leave
        alone.
    checked
        Slices that were looked at whole: what was left in them is right, and counts as made by
        hand, too.
    output
        TIFF or OME-Zarr to write; the segmentation itself is not changed.
    hand
        TIFF for the pixels that are made or checked by hand, as labels; 0 elsewhere.
    history
        File for all corrections, round after round. Where it exists, the segmentation has to be
        as the last of them left it; where two disagree about a pixel, the later wins, and
        ``overruled`` counts it. `undo_correction` takes the last one back.
    json
        File for ``{"slices": [{"index", "pore_to_solid", "solid_to_pore", "hand_made",
        "overruled", "state"}], "total", "unseen"}``, in pixels; a slice is ``"checked"``,
        ``"touched"``, or one of those that nobody has looked at, ``unseen``.
    classes
        Names of the classes 1, 2, and so on; by default those that the segmentation carries,
        else pore and solid.
    mask_foreground
        What 255 stands for where the segmentation is a mask.

    Returns
    -------
    Correction
        `segmentation`, `hand`, `changes` per slice and their `total`, `states` and `history`.

    Raises
    ------
    ParameterError
        If the shapes differ, a mask is given, or the history is of another segmentation, or
        another command is writing it.
    """
    checks.check_images(output=output, hand=hand)
    checks.check_file(".json", json=json)
    checks.check_file(audit.SUFFIX, history=history)
    found = checks.as_segmentation(image, classes, mask_foreground)
    given = labels_from(
        corrections,
        found,
        classes=found.attrs["classes"],
        parameter="corrections",
        allow_mask=False,
    )
    named = check_indices(checked, found, "checked") if checked else ()
    # Another correction meanwhile would be lost.
    with files.alone({"history": history}):
        merged = correction.merge(
            found,
            given,
            history=audit.read(history).on(found) if history and history.exists() else None,
            checked=named,
            source=checks.called(corrections),
        )
        with audit.appending(history, merged.history, is_written=output is not None):
            if output is not None:
                files.write(output, merged.segmentation)
            _write_correction(merged, hand, json)
    return merged


@CATALOG.command("PoreSeg Undo Correction", present=presentation.undone)
def undo_correction(
    image: Annotated[
        StackLike, Param("the corrected segmentation", role=Role.IMAGE, metavar="SEG2")
    ],
    *,
    history: Annotated[
        Path,
        Param(
            "file that keeps all corrections, as correct wrote it",
            role=Role.OUTPUT,
            metavar="FILE",
            suffix=audit.SUFFIX,
        ),
    ],
    output: Annotated[
        Path | None,
        Param(
            "TIFF or OME-Zarr to write the segmentation before the last correction to",
            role=Role.OUTPUT,
            metavar="SEG",
            suffix=".tif",
            required_on_command_line=True,
        ),
    ] = None,
    json: Json = None,
    classes: ImageClasses = None,
    mask_foreground: MaskForeground = "solid",
) -> Correction:
    """Take the last hand correction of a segmentation back, and out of its history.

    Parameters
    ----------
    image
        Segmentation as the last correction left it, uint8, dims ``("z", "y", "x")``.
    history
        What `correct` keeps there; called again and again, this goes back to the segmentation
        before the first correction.
    output
        TIFF or OME-Zarr to write; the image itself is not changed.
    json
        File for what was taken back, as `correct` writes it.
    classes
        Names of the classes 1, 2, and so on; by default those that the segmentation carries,
        else pore and solid.
    mask_foreground
        What 255 stands for where the segmentation is a mask.

    Returns
    -------
    Correction
        `segmentation` is the one before, bit for bit; one that was given as a mask of 0 and 255
        comes back as labels, 1 pore and 2 solid.

    Raises
    ------
    ParameterError
        If there is nothing to take back, or the history is of another segmentation, or another
        command is writing it.
    """
    checks.check_images(output=output)
    checks.check_file(".json", json=json)
    checks.check_file(audit.SUFFIX, history=history)
    found = checks.as_segmentation(image, classes, mask_foreground)
    with files.alone({"history": history}):
        kept = audit.read(history).on(found)
        before = correction.undo(found, kept)
        with audit.undoing(history, kept, is_written=output is not None):
            if output is not None:
                files.write(output, before.segmentation)
            _write_correction(before, None, json)
    return before


def _write_correction(made: Correction, hand: Path | None, json: Path | None) -> None:
    if hand is not None:
        files.write(hand, made.hand, parameter="hand")
    if json is not None:
        slices = [asdict(one) | {"state": made.states[one.index]} for one in made.changes]
        states = {
            state: [index for index, found in enumerate(made.states) if found == state]
            for state in (audit.CHECKED, audit.UNSEEN)
        }
        checks.write_json(json, {"slices": slices, "total": made.total, **states})
