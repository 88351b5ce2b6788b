"""Train models, and choose the slices to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import fiji_poreseg.forest
import fiji_poreseg.resunet
from fiji_poreseg import files, selection
from fiji_poreseg import model as models
from fiji_poreseg.commands import checks, presentation
from fiji_poreseg.commands.catalog.parameters import (
    CATALOG,
    Classes,
    ClassWeights,
    Corrections,
    CorrectionWeight,
    Image,
    Indices,
    Labels,
    MaskForeground,
    Milling,
    ModelFile,
    NoData,
    Seed,
    SeenContext,
    VoxelSize,
)
from fiji_poreseg.commands.spec import Param, Role
from fiji_poreseg.forest import ForestModel
from fiji_poreseg.resunet import FILTERS, NEIGHBOURS, ResUNetModel
from fiji_poreseg.rois import labels_from
from fiji_poreseg.stack import DEFAULT_CLASSES, as_stack, to_dataarray


@CATALOG.command("PoreSeg Train Forest", present=presentation.forest)
def train_forest(
    image: Image,
    labels: Labels,
    *,
    model: ModelFile = None,
    indices: Indices = None,
    trees: Annotated[int, Param("number of trees", ge=1, le=10_000)] = 100,
    pixels: Annotated[int, Param("labelled pixels to train on at most", ge=100)] = 100_000,
    corrections: Corrections = None,
    correction_weight: CorrectionWeight = 5,
    class_weights: ClassWeights = "auto",
    folds: Annotated[
        int,
        Param("blocks of slices to leave out for a held-out score; 0 for none", ge=0, le=20),
    ] = 3,
    importances: Annotated[
        Path | None,
        Param(
            "CSV file to write the importance of each feature to",
            role=Role.OUTPUT,
            metavar="FILE",
            suffix=".csv",
        ),
    ] = None,
    classes: Classes = DEFAULT_CLASSES,
    mask_foreground: MaskForeground = "solid",
    milling: Milling = "forward",
    voxel_size_nm: VoxelSize = None,
    nodata: NoData = None,
    seed: Seed = 0,
) -> ForestModel:
    """Train a random forest from sparse or dense labels.

    The forest sees a bank of filters on each slice and the neighbouring slices, mostly the
    deeper ones. See Breiman (2001), doi 10.1023/A:1010933404324.

    Parameters
    ----------
    image
        Stack, dims ``("z", "y", "x")`` or ``("c", "z", "y", "x")``.
    labels
        Labels of the stack's shape, or ROIs.
    model
        `.poreseg` file to write.
    indices
        Slices to take labels from; all that hold labels by default. Needed with a mask.
    trees, pixels
        Number of trees, and of labelled pixels to draw at most.
    corrections
        Labels made by hand, such as ``hand`` of `correct`: they win over `labels`, and slices that
        hold some are trained on, too.
    correction_weight
        How many times a pixel of theirs counts.
    class_weights
        ``"balanced"`` lets each class count the same, ``"none"`` each pixel; ``"auto"`` balances
        where less than half of the slices is labelled, as by scribbles; if enough of them is held
        out to know how sure the forest may be, it then expects as much of each class as the stack
        itself shows (doi 10.1162/089976602753284446).
    folds
        Number of blocks of labelled slices that are left out in turn, each with all slices that
        its features reach, for an accuracy on slices that were not trained on.
    importances
        CSV file to write how much each feature mattered to.
    classes
        Names of the classes 1, 2, and so on.
    mask_foreground
        What 255 stands for in a mask.
    milling
        Direction of milling; kept in the model.
    voxel_size_nm
        Voxel size in nm (z, y, x) that overrides the image's own.
    nodata
        Grey value of pixels without data; left out.
    seed
        The same seed gives the same forest.

    Returns
    -------
    ForestModel
        ``.save(path)`` writes it; ``.classifier`` is scikit-learn's forest.

    Raises
    ------
    ParameterError
        If stack and labels do not fit or fewer than two classes are labelled.
    """
    checks.check_file(models.SUFFIX, model=model)
    checks.check_file(".csv", importances=importances)
    stack = as_stack(image, voxel_size_nm=voxel_size_nm, nodata=nodata)
    given = labels_from(labels, stack, mask_foreground=mask_foreground, classes=classes)
    trained_on = selection.labelled(given, indices)
    by_hand = checks.as_corrections(corrections, stack, classes)
    if by_hand is not None:
        given, trained_on = selection.with_corrections(given, trained_on, by_hand)
    trained = fiji_poreseg.forest.train(
        stack,
        given,
        trained_on,
        classes=classes,
        trees=trees,
        pixels=pixels,
        class_weights=class_weights,
        folds=folds,
        milling=milling,
        seed=seed,
        corrections=by_hand,
        correction_weight=correction_weight,
    )
    with files.together():
        if model is not None:
            trained.save(model)
        if importances is not None:
            rows = presentation.importances(trained)
            files.write_csv(importances, rows, parameter="importances")
    return trained


@CATALOG.command("PoreSeg Select Slices", present=presentation.indices)
def select_slices(
    image: Image,
    *,
    strategy: Annotated[
        str,
        Param(
            "initial: the first ones; distributed: evenly spaced; diverse: more where the stack "
            "changes",
            choices=selection.STRATEGIES,
        ),
    ] = "distributed",
    count: Annotated[int, Param("how many slices", ge=1)] = 20,
) -> tuple[int, ...]:
    """Choose which slices to label.

    Parameters
    ----------
    image
        Stack, dims ``("z", "y", "x")`` or ``("c", "z", "y", "x")``.
    strategy
        ``"initial"`` takes the first slices, ``"distributed"`` slice ``i * N // count``;
        ``"diverse"`` looks at the grey values, no label needed, and takes the slices that all
        others are nearest to, where depth and change of the morphology both count as distance.
    count
        How many.

    Returns
    -------
    tuple of int
        0-based indices; ImageJ's slice numbers are one larger.

    Raises
    ------
    ParameterError
        If the stack has fewer slices.
    """
    return selection.select(to_dataarray(image), strategy, count)


@CATALOG.command("PoreSeg Train ResUNet", present=presentation.model)
def train_resunet(
    image: Image,
    labels: Labels,
    *,
    model: ModelFile = None,
    indices: Indices = None,
    strategy: Annotated[
        str | None,
        Param("choose the slices as select_slices does", choices=selection.STRATEGIES),
    ] = None,
    count: Annotated[int | None, Param("how many slices the strategy chooses", ge=1)] = None,
    network: Annotated[str, Param("size of the network", choices=tuple(FILTERS))] = "base",
    steps: Annotated[int, Param("batches of 8 patches to train on at most", ge=1)] = 400,
    max_minutes: Annotated[float | None, Param("safety stop", unit="minutes", ge=0.01)] = None,
    start: Annotated[
        Path | None,
        Param(
            "what to start from: pretrained, none, or a ResUNet's file; by default pretrained, if "
            "it fits",
            metavar="pretrained|none|FILE",
        ),
    ] = None,
    context: SeenContext = NEIGHBOURS,
    corrections: Corrections = None,
    correction_weight: CorrectionWeight = 5,
    class_weights: ClassWeights = "auto",
    resume: Annotated[bool, Param("go on with a training that was stopped or killed")] = False,
    curve: Annotated[
        Path | None,
        Param(
            "PNG to draw loss and accuracy in while it trains, with a CSV beside it",
            role=Role.OUTPUT,
            metavar="FILE",
            suffix=".png",
        ),
    ] = None,
    classes: Classes = DEFAULT_CLASSES,
    mask_foreground: MaskForeground = "solid",
    milling: Milling = "forward",
    voxel_size_nm: VoxelSize = None,
    nodata: NoData = None,
    seed: Seed = 0,
) -> ResUNetModel:
    """Train a residual U-Net on the labels of a few slices.

    Pre-activation residual units after Zhang et al. (2018), arXiv 1711.10684; the slice's
    neighbours in depth are further channels (`context`). One labelled slice in ten, at least one
    of three, is held out whole for validation, and the best weights are kept; training stops early
    when their loss has not fallen for 400 steps, so only where `steps` is larger than by default.

    Parameters
    ----------
    image
        Stack, dims ``("z", "y", "x")`` or ``("c", "z", "y", "x")``.
    labels
        Labels of the stack's shape, or ROIs; pixels of 0 count nothing.
    model
        `.poreseg` file to write.
    indices
        Slices to train on; all that hold labels by default.
    strategy, count
        Instead of `indices`: how to choose them, as `select_slices` does.
    network
        ``"small"``, ``"base"`` or ``"large"``.
    steps
        Length of the training; the default takes at most 10 minutes on 2 cores.
    max_minutes
        Stops after that time, and is recorded in the model if it does.
    start
        Fine-tuning: the `.poreseg` file of a ResUNet of this `network`, these `classes` and as
        many detectors; its neighbours, in nm, are taken over. ``pretrained`` starts from the
        weights that ship with the package, which are for ``network="base"``, two classes and one
        detector; ``none`` from random ones. By default the first of the two, if it fits. Where
        fewer than three slices are labelled, what it started from labels some more beside them.
    context
        ``"neighbours"`` shows the neighbours of a slice, too; ``"slice"`` the slice alone, as the
        paper's ResUNet sees it.
    corrections
        Labels made by hand, such as ``hand`` of `correct`: they win over `labels`, and slices that
        hold some are trained on, too.
    correction_weight
        How many times a pixel of theirs counts.
    class_weights
        ``"balanced"`` lets each class count the same in the loss, ``"none"`` each pixel; ``"auto"``
        balances where less than half of the slices is labelled, as by scribbles; if there are
        validation slices with enough of them, the network then expects as much of each class as
        the stack itself shows (doi 10.1162/089976602753284446).
    resume
        Go on where a killed training of the same images and settings was, to the same weights as
        an unbroken one: every 40 steps, ``NAME.checkpoint.npz`` is written beside
        `model`. Starts where there is none; where all is done, the finished model is the answer.
    curve
        PNG of loss (nats) and accuracy of training and validation slices against the steps,
        renewed every 40 steps; the numbers are in a CSV of the same name.
    classes
        Names of the classes 1, 2, and so on.
    mask_foreground
        What 255 stands for in a mask.
    milling
        Direction of milling; kept in the model.
    voxel_size_nm
        Voxel size in nm (z, y, x) that overrides the image's own.
    nodata
        Grey value of pixels without data; left out.
    seed
        The same seed gives the same weights on one machine, unless `max_minutes` struck.

    Returns
    -------
    ResUNetModel
        ``.save(path)`` writes it; ``.history`` holds the losses.

    Raises
    ------
    ParameterError
        If stack and labels do not fit, both `indices` and `strategy` are given, a chosen slice
        holds no label, fewer than two classes are labelled, `start` does not fit, or what is to
        be resumed was begun with other images or settings.
    """
    checks.check_file(models.SUFFIX, model=model)
    checks.check_resume(resume, "model", model)
    checks.check_curve(curve)
    stack = as_stack(image, voxel_size_nm=voxel_size_nm, nodata=nodata)
    chosen = selection.chosen(stack, indices, strategy, count)
    given = labels_from(labels, stack, mask_foreground=mask_foreground, classes=classes)
    trained_on = selection.labelled(given, chosen)
    by_hand = checks.as_corrections(corrections, stack, classes)
    if by_hand is not None:
        given, trained_on = selection.with_corrections(given, trained_on, by_hand)
    began = checks.resunet_to_start_from(start, network, context, stack, classes, milling)
    # TensorFlow is loaded by the one command that trains with it, not by importing the package.
    from fiji_poreseg.resunet.training import train

    drawn = 0

    def draw(rows: Sequence[Mapping[str, float]]) -> None:
        nonlocal drawn
        if curve is not None and len(rows) != drawn:
            # Matplotlib, like TensorFlow, is loaded by those who need it.
            from fiji_poreseg.figures import learning_curve

            with files.together():
                learning_curve(curve, rows)
                files.write_csv(curve.with_suffix(".csv"), rows, parameter="curve")
            drawn = len(rows)

    trained = train(
        stack,
        given,
        trained_on,
        classes=classes,
        network=network,
        start=began,
        context=context,
        steps=steps,
        max_minutes=max_minutes,
        class_weights=class_weights,
        milling=milling,
        seed=seed,
        file=model,
        resume=resume,
        checked=draw,
        corrections=by_hand,
        correction_weight=correction_weight,
    )
    # Of a training that was finished before, too.
    draw(trained.history)
    return trained
