"""Find out how good a segmentation is, and what to look at next."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from typing import Annotated

from fiji_poreseg import evaluation, files, measurement, selection, suggestion
from fiji_poreseg import model as models
from fiji_poreseg.cluster import place_of
from fiji_poreseg.commands import checks, presentation
from fiji_poreseg.commands.catalog.applying import load
from fiji_poreseg.commands.catalog.parameters import (
    CATALOG,
    AnyModel,
    Image,
    ImageClasses,
    Indices,
    Json,
    LabelsLike,
    MaskForeground,
    NoData,
    Scheduler,
    StackLike,
    VoxelSize,
    Workers,
)
from fiji_poreseg.commands.spec import Param, Role
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.evaluation import Evaluation
from fiji_poreseg.measurement import Measurement
from fiji_poreseg.rois import labels_from, rectangle, region_from, write_rois
from fiji_poreseg.stack import as_stack, check_indices
from fiji_poreseg.suggestion import Suggestion


@CATALOG.command("PoreSeg Evaluate", present=presentation.evaluation)
def evaluate(
    image: Annotated[StackLike, Param("the segmentation to score", role=Role.IMAGE, metavar="SEG")],
    truth: Annotated[
        LabelsLike,
        Param("what is true: an image or ROIs", role=Role.LABELS, metavar="TRUTH"),
    ],
    *,
    probability: Annotated[
        StackLike, Param("probability of solid, for the loss", role=Role.IMAGE, metavar="P")
    ] = None,
    stack: Annotated[
        StackLike,
        Param(
            "the raw stack, for the best global threshold and the pore-backs",
            role=Role.IMAGE,
            metavar="STACK",
        ),
    ] = None,
    indices: Indices = None,
    roi: Annotated[
        LabelsLike,
        Param("where to look only: a mask image or ROIs", role=Role.IMAGE, metavar="ROI"),
    ] = None,
    json: Json = None,
    classes: ImageClasses = None,
    mask_foreground: MaskForeground = "solid",
    workers: Workers = None,
    scheduler: Scheduler = None,
) -> Evaluation:
    """Score a segmentation against the truth, slice by slice.

    Parameters
    ----------
    image
        Segmentation, uint8, dims ``("z", "y", "x")``; its pixels of 0 are left out.
    truth
        Labels of its shape; pixels of 0 are left out.
    probability
        float32: P(solid), or one image per class; for the loss.
    stack
        The raw stack: adds the best global threshold (one grey value for the whole stack,
        picked with the truth) and the error inside pore-backs.
    indices
        Slices to score; by default all that have both a segmentation and a truth.
    roi
        Mask image (pixels above 0 count) or ROIs (those of a slice, or of all slices where
        they have no position).
    json
        File for the scores.
    classes
        Names of the classes 1, 2, and so on; by default those that the segmentation carries,
        else pore and solid.
    mask_foreground
        What 255 stands for where the segmentation or the truth is a mask.
    workers, scheduler
        Processes of this machine, or a Dask cluster, that share the work, as for `segment`.

    Returns
    -------
    Evaluation
        Accuracy, loss (nats), the majority's accuracy, Dice and IoU of the solid and porosity
        of each slice, and their mean.

    Raises
    ------
    ParameterError
        If shapes differ, no slice has both a segmentation and a truth, or the workers cannot be
        reached or differ from here.
    """
    checks.check_file(".json", json=json)
    found = checks.as_segmentation(image, classes, mask_foreground)
    true = labels_from(
        truth,
        found,
        classes=found.attrs["classes"],
        mask_foreground=mask_foreground,
        parameter="truth",
    )
    scored = evaluation.evaluate(
        found,
        true,
        None if indices is None else check_indices(indices, found),
        probability=checks.as_probability(probability, found),
        stack=checks.as_raw(stack, found),
        region=None if roi is None else region_from(roi, found),
        place=place_of(workers, scheduler),
    )
    if json is not None:
        checks.write_json(json, scored.as_json())
    return scored


@CATALOG.command("PoreSeg Suggest", present=presentation.suggestion)
def suggest(
    image: Image,
    *,
    model: AnyModel,
    labels: Annotated[
        LabelsLike,
        Param(
            "labels that there are already: an image or ROIs",
            role=Role.LABELS,
            metavar="LABELS",
        ),
    ] = None,
    count: Annotated[int, Param("how many slices to suggest", ge=1)] = 10,
    regions: Annotated[int, Param("how many regions of each slice to name", ge=0, le=1000)] = 3,
    side: Annotated[int, Param("length of a region's sides", unit="voxels", ge=4)] = 32,
    indices: Annotated[
        tuple[int, ...] | None,
        Param(
            "slices to choose from, counted from 0; by default 100, evenly spaced",
            ge=0,
            metavar="I,J,…",
        ),
    ] = None,
    json: Json = None,
    rois: Annotated[
        Path | None,
        Param(
            "zip to write the regions to, for ImageJ's ROI Manager",
            role=Role.OUTPUT,
            metavar="FILE",
            suffix=".zip",
        ),
    ] = None,
    voxel_size_nm: VoxelSize = None,
    nodata: NoData = None,
) -> Suggestion:
    """Say which slices to label or to check next, and where to look in them.

    Ranks slices by the share of their pixels that the model expects to have wrong: by the margin
    of its answer, by whether it answers otherwise in the mirrored slice (a ResUNet), and by solid
    that may be a pore-back; a slice near a labelled one counts less, down to a quarter. Sounds an
    alarm for slices that look unlike those that the model was trained on.

    Parameters
    ----------
    image
        Stack, dims ``("z", "y", "x")`` or ``("c", "z", "y", "x")``.
    model
        A `.poreseg` file, what `train_forest` or `train_resunet` answered with, or
        ``"pretrained"``.
    labels
        Labels that there are already; slices that hold some count as labelled. By default those
        that the model was trained on. In a macro, those of the image's overlay.
    count, regions, side
        How many slices, how many squares of each, and the length of their sides in voxels.
    indices
        Slices to choose from; by default 100, evenly spaced, or all of a shorter stack.
    json
        File for ``{"slices": [{"index", "score", "why", …}], "alarms": […]}``, best first.
    rois
        Zip of the regions; `labels` takes no notice of such ROIs.
    voxel_size_nm
        Voxel size in nm (z, y, x) that overrides the image's own.
    nodata
        Grey value of pixels without data; left out.

    Returns
    -------
    Suggestion
        `slices`, the first one first, each with `score`, `why` and `regions`; and `alarms`.

    Raises
    ------
    ParameterError
        If the model cannot be read or does not fit the stack, or no slice holds data.
    """
    checks.check_file(".json", json=json)
    checks.check_file(".zip", rois=rois)
    loaded = load(model)
    stack = as_stack(image, voxel_size_nm=voxel_size_nm, nodata=nodata)
    if labels is None:
        known = loaded.card.training_indices if models.was_trained_on(loaded.card, stack) else ()
    else:
        given = labels_from(labels, stack, classes=loaded.card.classes, allow_mask=False)
        known = tuple(selection.holding(given))
    made = suggestion.suggest(
        loaded,
        stack,
        known,
        count,
        indices=None if indices is None else check_indices(indices, stack),
        regions=regions,
        side=side,
    )
    if not made.looked_at:
        raise ParameterError(
            "indices", "must name slices that hold data", "empty ones", "Name others."
        )
    with files.together():
        if json is not None:
            checks.write_json(json, made.as_json())
        if rois is not None:
            boxes = [rectangle(*astuple(box)) for box in presentation.boxes(made)]
            write_rois(rois, boxes, parameter="rois")
    return made


@CATALOG.command("PoreSeg Measure", present=presentation.measurement)
def measure(
    image: Annotated[
        StackLike, Param("the segmentation to measure", role=Role.IMAGE, metavar="SEG")
    ],
    *,
    scores: Annotated[
        Path | None,
        Param(
            "JSON file that evaluate wrote of held-out slices, to correct the porosity by",
            metavar="FILE",
        ),
    ] = None,
    json: Json = None,
    classes: ImageClasses = None,
    mask_foreground: MaskForeground = "solid",
) -> Measurement:
    """Measure the porosity of each slice and of the whole stack.

    Parameters
    ----------
    image
        Segmentation, uint8, dims ``("z", "y", "x")``; its pixels of 0 hold no data.
    scores
        What `evaluate` wrote of this model's segmentation on slices that it was not trained on.
        With it, the porosity of the whole is also given as it would be without the model's errors
        (Rogan and Gladen 1978, doi 10.1093/oxfordjournals.aje.a112510), with a 95 % interval from
        how much those slices differ.
    json
        File for ``{"slices": [{"index", "porosity", "pixels"}], "porosity", "corrected"}``;
        ``corrected`` is null without `scores`, else ``{"value", "low", "high"}``.
    classes
        Names of the classes 1, 2, and so on; by default those that the segmentation carries,
        else pore and solid.
    mask_foreground
        What 255 stands for where the segmentation is a mask.

    Returns
    -------
    Measurement
        `slices`, `porosity` and `corrected`, each from 0 to 1.

    Raises
    ------
    ParameterError
        If the image is no segmentation, or the scores cannot be read, or say that it is hardly
        better than guessing.
    """
    checks.check_file(".json", json=json)
    found = checks.as_segmentation(image, classes, mask_foreground)
    confusion = None if scores is None else checks.read_scores(scores, found)
    made = measurement.measure(found, range(found.sizes["z"]), confusion)
    if json is not None:
        checks.write_json(json, made.as_json())
    return made
