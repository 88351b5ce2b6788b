"""The commands. Each is a Python function; the other surfaces follow from its definition.

Images may be given as anything that `fiji_poreseg.stack.as_stack` takes: an xarray DataArray, a
numpy or dask array, a path, an ImagePlus or an ImgLib2 image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import xarray as xr

import fiji_poreseg.forest
import fiji_poreseg.resunet
from fiji_poreseg import (
    audit,
    automatic,
    correction,
    evaluation,
    files,
    measurement,
    phantoms,
    segmentation,
    selection,
    studies,
    suggestion,
)
from fiji_poreseg import model as models
from fiji_poreseg.automatic import Automatic
from fiji_poreseg.commands import checks, presentation
from fiji_poreseg.commands.replay import replay
from fiji_poreseg.commands.spec import Catalog, Param, Role
from fiji_poreseg.correction import Correction
from fiji_poreseg.evaluation import Evaluation
from fiji_poreseg.forest import ForestModel
from fiji_poreseg.measurement import Measurement
from fiji_poreseg.model import Model
from fiji_poreseg.phantoms import Phantom
from fiji_poreseg.resunet import (
    CONTEXTS,
    FILTERS,
    NEIGHBOURS,
    PRECISIONS,
    PRETRAINED,
    ResUNetModel,
)
from fiji_poreseg.rois import (
    LABEL_SUFFIXES,
    labels_from,
    rectangle,
    region_from,
    write_labels,
    write_rois,
)
from fiji_poreseg.segmentation import Segmentation
from fiji_poreseg.stack import DEFAULT_CLASSES, as_stack, check_indices, to_dataarray
from fiji_poreseg.studies import Study
from fiji_poreseg.suggestion import Suggestion

StackLike: TypeAlias = Any
LabelsLike: TypeAlias = Any
ModelLike: TypeAlias = Any

CATALOG = Catalog()

Image = Annotated[StackLike, Param("the grey-value stack", role=Role.IMAGE, metavar="STACK")]
Labels = Annotated[
    LabelsLike,
    Param(
        "labels of the stack: an image (0 unlabelled, 1 pore, 2 solid, …), a mask, or ROIs",
        role=Role.LABELS,
        metavar="LABELS",
    ),
]
Indices = Annotated[
    tuple[int, ...] | None,
    Param("slices, counted from 0, with commas between them", ge=0, metavar="I,J,…"),
]
ModelFile = Annotated[
    Path | None,
    Param(
        "file to write the model to, .poreseg",
        role=Role.OUTPUT,
        metavar="FILE",
        suffix=models.SUFFIX,
        required_on_command_line=True,
    ),
]
AnyModel = Annotated[
    ModelLike,
    Param(
        "a trained model: its .poreseg file, or pretrained, which needs no labels",
        role=Role.MODEL,
        metavar="FILE|pretrained",
    ),
]
SeenContext = Annotated[
    str,
    Param("what a ResUNet sees: the slice and its neighbours, or the slice", choices=CONTEXTS),
]
ClassWeights = Annotated[
    str,
    Param(
        "balanced: each class counts the same, none: each pixel; auto balances scribbles and "
        "then expects as much of each class as the stack shows",
        choices=models.CLASS_WEIGHTS,
    ),
]
Corrections = Annotated[
    LabelsLike,
    Param(
        "labels made by hand that win over the others: an image, such as hand= of correct, or ROIs",
        role=Role.IMAGE,
        metavar="CORRECTIONS",
    ),
]
CorrectionWeight = Annotated[
    float, Param("how many times a pixel counts that is made by hand", ge=1, le=1000)
]
Seed = Annotated[int, Param("seed of everything random", ge=0, le=2**32 - 1)]
Classes = Annotated[tuple[str, ...], Param("names of the classes 1, 2, and so on")]
ImageClasses = Annotated[
    tuple[str, ...] | None,
    Param("names of the classes 1, 2, and so on; the image's own by default"),
]
MaskForeground = Annotated[
    str, Param("what 255 stands for where a mask is given", choices=("solid", "pore"))
]
Milling = Annotated[
    str, Param("forward where a larger index lies deeper", choices=("forward", "reverse"))
]
VoxelSize = Annotated[
    tuple[float, float, float] | None,
    Param("voxel size z,y,x where the image's own is missing or wrong", unit="nm", ge=0),
]
NoData = Annotated[
    float | None,
    Param("grey value of the empty border that alignment leaves"),
]
Json = Annotated[
    Path | None,
    Param("JSON file to write the numbers to", role=Role.OUTPUT, metavar="FILE", suffix=".json"),
]


@CATALOG.command("PoreSeg Phantom", present=presentation.phantom)
def phantom(
    output: Annotated[
        Path | None,
        Param(
            "folder to write stack.tif and truth.tif to",
            role=Role.OUTPUT,
            metavar="OUT_DIR",
            required_on_command_line=True,
        ),
    ] = None,
    *,
    slices: Annotated[int, Param("number of slices", ge=1, le=100_000)] = 600,
    size: Annotated[int, Param("side of a slice", unit="voxels", ge=16, le=16_384)] = 256,
    seed: Seed = 0,
    porosity: Annotated[float, Param("share of the pore", ge=0.05, le=0.99)] = 0.8,
    spacing_nm: Annotated[
        tuple[float, float, float], Param("voxel size z,y,x", unit="nm", ge=0.1)
    ] = (10.0, 10.0, 10.0),
    feature_size_nm: Annotated[
        float, Param("mean wavelength of the structure", unit="nm", ge=1)
    ] = phantoms.FEATURE_SIZE_NM,
    attenuation_nm: Annotated[
        float, Param("depth at which a pore-back's grey has fallen to 1/e", unit="nm", ge=0.1)
    ] = phantoms.ATTENUATION_NM,
    noise: Annotated[
        float, Param("standard deviation of the noise on a cut face, relative", ge=0, le=2)
    ] = phantoms.NOISE,
) -> Phantom:
    """Make a synthetic FIB-SEM stack of a porous membrane with pore-backs, and its exact truth.

    Parameters
    ----------
    output
        Folder for ``stack.tif`` and ``truth.tif``; made if it does not exist.
    slices, size
        Shape: `slices` of `size` x `size` voxels.
    seed
        Seed; the same parameters give the same bytes.
    porosity
        Share of the pore, 0.05 to 0.99.
    spacing_nm
        Voxel size in nm (z, y, x).
    feature_size_nm
        Mean wavelength of the structure in nm.
    attenuation_nm
        Depth in nm at which the grey of a pore's back wall has fallen to 1/e.
    noise
        Standard deviation of the noise on a cut face, relative to its grey.

    Returns
    -------
    Phantom
        `stack` (uint8 grey values) and `truth` (uint8, 1 pore, 2 solid).

    Raises
    ------
    ParameterError
        If a value is out of range or the folder cannot be written.
    """
    phantoms.check_lengths(spacing_nm, feature_size_nm)
    if output is not None:
        checks.make_folder(output)
    made = phantoms.make_phantom(
        slices,
        size,
        seed=seed,
        porosity=porosity,
        spacing_nm=spacing_nm,
        feature_size_nm=feature_size_nm,
        attenuation_nm=attenuation_nm,
        noise=noise,
    )
    if output is not None:
        files.write(output / "stack.tif", made.stack)
        files.write(output / "truth.tif", made.truth)
    return made


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
    of three, is held out whole for validation; training stops early when their loss no longer
    falls, and the best weights are kept.

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
    began = checks.resunet_to_start_from(start, network, context, stack, classes)
    # TensorFlow is loaded by the one command that trains with it, not by importing the package.
    from fiji_poreseg.resunet.training import train

    def draw(rows: Sequence[Mapping[str, float]]) -> None:
        if curve is not None:
            # Matplotlib, like TensorFlow, is loaded by those who need it.
            from fiji_poreseg.figures import learning_curve

            learning_curve(curve, rows)
            files.write_csv(curve.with_suffix(".csv"), rows, parameter="curve")

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


@CATALOG.command("PoreSeg Segment", present=presentation.segmentation)
def segment(
    image: Image,
    *,
    model: AnyModel,
    output: Annotated[
        Path | None,
        Param(
            "TIFF to write the segmentation to",
            role=Role.OUTPUT,
            metavar="SEG",
            suffix=".tif",
            required_on_command_line=True,
        ),
    ] = None,
    probability: Annotated[
        Path | None,
        Param(
            "TIFF to write the probability of solid to",
            role=Role.OUTPUT,
            metavar="P",
            suffix=".tif",
        ),
    ] = None,
    uncertainty: Annotated[
        Path | None,
        Param(
            "TIFF to write the uncertainty to, 0 where the model is sure and 1 on a tie",
            role=Role.OUTPUT,
            metavar="U",
            suffix=".tif",
        ),
    ] = None,
    precision: Annotated[
        str,
        Param(
            "of a ResUNet: fast is sooner on some processors, and off by some 0.01",
            choices=PRECISIONS,
        ),
    ] = "exact",
    augment: Annotated[
        bool, Param("mean of a ResUNet's answers to eight flips and turns, in eight times the time")
    ] = False,
    resume: Annotated[bool, Param("go on with a segmentation that was stopped or killed")] = False,
    indices: Indices = None,
    voxel_size_nm: VoxelSize = None,
    nodata: NoData = None,
) -> Segmentation:
    """Apply a forest or a ResUNet to a stack.

    Parameters
    ----------
    image
        Stack, dims ``("z", "y", "x")`` or ``("c", "z", "y", "x")``.
    model
        A `.poreseg` file, or what `train_forest` or `train_resunet` answered with; or
        ``"pretrained"``, the ResUNet that ships with the package, for a stack without labels.
    output, probability, uncertainty
        TIFFs to write, slice by slice: what takes more than 256 MB is not held in memory. They
        are there when all are whole; on an error or a cancellation, none is.
    precision
        ``"fast"`` lets a ResUNet compute in bfloat16 where the processor has it. A forest is
        always exact.
    augment
        Let a ResUNet predict each slice in its eight flips and quarter turns, and take the mean.
    resume
        Go on where a killed segmentation with these files was, to the same images; start where
        there is none. What there is of them lies hidden beside them, as ``.NAME.begun``, and stays
        there on an error or a cancellation, too. Images without a file are not made.
    indices
        Slices to segment; all by default. The others are 0 in the segmentation.
    voxel_size_nm
        Voxel size in nm (z, y, x) that overrides the image's own.
    nodata
        Grey value of pixels without data; 0 in the segmentation.

    Returns
    -------
    Segmentation
        `segmentation` (uint8), `probability` (float32) and `uncertainty` (float32).

    Raises
    ------
    ParameterError
        If the model cannot be read or does not fit the stack, a file cannot be written, `augment`
        is asked of a forest, or what is to be resumed was begun with something else.

    Warns
    -----
    PoreSegWarning
        If the voxel size is far from the one trained on, or the stack looks milled the other
        way.
    """
    checks.check_images(output=output, probability=probability, uncertainty=uncertainty)
    checks.check_resume(resume, "output", output)
    loaded = load(model)
    options = checks.prediction_options(loaded, precision, augment)
    stack = as_stack(image, voxel_size_nm=voxel_size_nm, nodata=nodata)
    return segmentation.apply(
        loaded,
        stack,
        checks.all_or(indices, stack),
        options=options,
        output=output,
        probability=probability,
        uncertainty=uncertainty,
        resume=resume,
    )


def load(model: ModelLike) -> Model:
    """Read a `.poreseg` file; a model that is loaded already passes through.

    Parameters
    ----------
    model
        Path of the file, a model, or ``"pretrained"``: the ResUNet that ships with the package.

    Returns
    -------
    ForestModel or ResUNetModel
        ``.predict`` and ``.save`` are common to both, and ``.card`` says what it was trained on.

    Raises
    ------
    ParameterError
        If the file is missing, is no model, is damaged, or was written by a newer version.
    """
    if isinstance(model, Model):
        return model
    if str(model) == PRETRAINED:
        return fiji_poreseg.resunet.pretrained()
    return models.load(Path(model).expanduser())


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
        Labkit; ``.tif``: an image, 0 unlabelled. Pixel for pixel the same in each.
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
            "TIFF to write the corrected segmentation to",
            role=Role.OUTPUT,
            metavar="SEG2",
            suffix=".tif",
            required_on_command_line=True,
        ),
    ] = None,
    hand: Annotated[
        Path | None,
        Param(
            "TIFF to write the pixels to that are made or checked by hand: labels",
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
        TIFF to write; the segmentation itself is not changed.
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
        If the shapes differ, a mask is given, or the history is of another segmentation.
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
    earlier = audit.read(history).on(found) if history and history.exists() else None
    merged = correction.merge(
        found,
        given,
        history=earlier,
        checked=check_indices(checked, found) if checked else (),
        source=checks.called(corrections),
    )
    with audit.appending(history, merged.history):
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
            "TIFF to write the segmentation before the last correction to",
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
        TIFF to write; the image itself is not changed.
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
        `segmentation` is the one before, bit for bit.

    Raises
    ------
    ParameterError
        If there is nothing to take back, or the history is of another segmentation.
    """
    checks.check_images(output=output)
    checks.check_file(".json", json=json)
    checks.check_file(audit.SUFFIX, history=history)
    found = checks.as_segmentation(image, classes, mask_foreground)
    kept = audit.read(history).on(found)
    before = correction.undo(found, kept)
    with audit.undoing(history, kept):
        if output is not None:
            files.write(output, before.segmentation)
    _write_correction(before, None, json)
    return before


def _write_correction(made: Correction, hand: Path | None, json: Path | None) -> None:
    if hand is not None:
        files.write(hand, made.hand, parameter="hand")
    if json is not None:
        slices = [asdict(one) | {"state": made.states[one.index]} for one in made.changes]
        unseen = [index for index, state in enumerate(made.states) if state == audit.UNSEEN]
        checks.write_json(json, {"slices": slices, "total": made.total, "unseen": unseen})


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

    Returns
    -------
    Evaluation
        Accuracy, loss (nats), the majority's accuracy, Dice and IoU of the solid and porosity
        of each slice, and their mean.

    Raises
    ------
    ParameterError
        If shapes differ or no slice has both a segmentation and a truth.
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
    if json is not None:
        checks.write_json(json, made.as_json())
    if rois is not None:
        boxes = [rectangle(*astuple(box)) for box in presentation.boxes(made)]
        write_rois(rois, boxes, parameter="rois")
    return made


@CATALOG.command("PoreSeg Auto", present=presentation.automatic)
def auto(
    image: Image,
    labels: Labels,
    *,
    output: Annotated[
        Path,
        Param("folder for models, images and report", role=Role.OUTPUT, metavar="DIR"),
    ],
    indices: Indices = None,
    count: Annotated[int, Param("how many slices to train the ResUNet on", ge=2)] = 20,
    steps: Annotated[int, Param("steps of training of the ResUNet at most", ge=1)] = 200,
    trees: Annotated[
        int, Param("number of trees of the forest", ge=1, le=10_000)
    ] = train_forest.parameters["trees"].default,
    network: Annotated[str, Param("size of the ResUNet", choices=tuple(FILTERS))] = "base",
    anyway: Annotated[
        bool, Param("segment the stack although there is an alarm; no figure is promised then")
    ] = False,
    resume: Annotated[bool, Param("go on where a killed call was")] = False,
    classes: Classes = DEFAULT_CLASSES,
    mask_foreground: MaskForeground = "solid",
    milling: Milling = "forward",
    voxel_size_nm: VoxelSize = None,
    nodata: NoData = None,
    seed: Seed = 0,
) -> Automatic:
    """Segment a stack by a few labels, check it, and say how good it is; or stop and say why not.

    A forest learns from the labels. On other slices, it and the ResUNet that ships with the
    package label what both agree about, less what may be a pore-back, and a ResUNet learns from
    that. The labels, which it has not seen, then tell how good it is.

    Parameters
    ----------
    image
        Stack, dims ``("z", "y", "x")`` or ``("c", "z", "y", "x")``.
    labels
        Labels of some slices, such as scribbles on five, spread along the stack; an image of the
        stack's shape, or ROIs.
    output
        Folder for ``forest.poreseg``, ``resunet.poreseg``, ``segmentation.tif``,
        ``probability.tif`` and ``report.json``; made if it does not exist.
    indices
        Slices to take labels from; all that hold labels by default. Needed with a mask.
    count, steps, network
        Of the ResUNet: evenly spaced slices without labels to train on, length and size.
    trees
        Of the forest.
    anyway
        By default it stops where slices look unlike the labelled ones, where forest and ResUNet
        disagree, or where too much is expected to be wrong: no segmentation is left then, and the
        report says which slices to label. With it, there is one, without any promise.
    resume
        Go on where a killed call with this folder was; start where there is none; answer with what
        is there where all is done.
    classes
        Names of the classes 1, 2, and so on.
    mask_foreground
        What 255 stands for in a mask.
    milling
        Direction of milling; kept in the models.
    voxel_size_nm
        Voxel size in nm (z, y, x) that overrides the image's own.
    nodata
        Grey value of pixels without data; left out.
    seed
        The same seed gives the same outcome on one machine.

    Returns
    -------
    Automatic
        `trusted`, `alarms`, `accuracy` and `porosity` with 95 % intervals (Rogan and Gladen 1978,
        doi 10.1093/oxfordjournals.aje.a112510), `to_label`, `segmentation` and `probability`.

    Raises
    ------
    ParameterError
        If stack and labels do not fit, fewer than two classes are labelled, all slices are, the
        folder cannot be written, or what is to be resumed was begun with something else.
    """
    stack = as_stack(image, voxel_size_nm=voxel_size_nm, nodata=nodata)
    given = labels_from(labels, stack, mask_foreground=mask_foreground, classes=classes)
    labelled = selection.labelled(given, indices)
    settings = automatic.Settings(
        count=count,
        trees=trees,
        network=network,
        start=checks.resunet_to_start_from(None, network, NEIGHBOURS, stack, classes),
        steps=steps,
        anyway=anyway,
        milling=milling,
        seed=seed,
    )
    checks.make_folder(output)
    return automatic.run(stack, given, labelled, settings, output, resume=resume)


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


@CATALOG.command("PoreSeg Study", present=presentation.study)
def study(
    image: Image,
    truth: Annotated[
        LabelsLike,
        Param(
            "what is true, of all slices or of some: an image or ROIs",
            role=Role.LABELS,
            metavar="TRUTH",
        ),
    ],
    *,
    output: Annotated[
        Path,
        Param("folder for tables, figures, report and models", role=Role.OUTPUT, metavar="DIR"),
    ],
    strategies: Annotated[
        tuple[str, ...],
        Param(
            "how to choose the slices to train on, as select_slices does; blocks: "
            "cross-validation, which leaves out blocks of labelled slices in turn",
            choices=studies.STRATEGIES,
        ),
    ] = ("initial", "distributed"),
    counts: Annotated[
        tuple[int, ...], Param("how many slices to train on; each with each strategy", ge=1)
    ] = (5, 20),
    repeats: Annotated[int, Param("trainings of each kind, in other seeds", ge=1, le=100)] = 3,
    models: Annotated[
        tuple[str, ...], Param("what to train", choices=tuple(studies.MODELS))
    ] = tuple(studies.MODELS),
    indices: Annotated[
        tuple[int, ...] | None,
        Param(
            "slices that the table shows, counted from 0; by default 47,434,598 of 600, and the "
            "like in another stack",
            ge=0,
            metavar="I,J,…",
        ),
    ] = None,
    relabelled: Annotated[
        LabelsLike,
        Param(
            "labels of some of these slices that were made a second time: an image or ROIs",
            role=Role.IMAGE,
            metavar="LABELS",
        ),
    ] = None,
    compare: Annotated[
        str,
        Param("paper: its numbers beside those of the study", choices=studies.COMPARISONS),
    ] = "none",
    folds: Annotated[int, Param("blocks of the cross-validation", ge=2, le=100)] = 5,
    gap: Annotated[int, Param("slices beside a block that are not trained on, either", ge=0)] = 14,
    network: Annotated[str, Param("size of the ResUNet", choices=tuple(FILTERS))] = "base",
    context: SeenContext = NEIGHBOURS,
    steps: Annotated[
        int, Param("steps of training of a ResUNet at most", ge=1)
    ] = train_resunet.parameters["steps"].default,
    trees: Annotated[
        int, Param("number of trees of a forest", ge=1, le=10_000)
    ] = train_forest.parameters["trees"].default,
    resume: Annotated[
        bool, Param("go on with a study that was stopped or killed, or add trials to it")
    ] = False,
    mask_foreground: MaskForeground = "solid",
    milling: Milling = "forward",
    voxel_size_nm: VoxelSize = None,
    nodata: NoData = None,
    seed: Seed = 0,
) -> Study:
    """Find out which slices to label, and how many: the paper's study on this stack.

    Trains a forest and a ResUNet on the slices that each strategy chooses, and scores every slice
    that has a truth and was not trained on.

    Parameters
    ----------
    image
        Stack, dims ``("z", "y", "x")`` or ``("c", "z", "y", "x")``.
    truth
        Labels of its shape, 1 pore and 2 solid; or ROIs. Where only some slices, or pixels, are
        labelled, the strategies choose among those slices, and only those pixels are scored.
    output
        Folder, made if it does not exist: ``table1.csv``, ``.md`` and ``.tex``, ``figure1`` to
        ``figure4`` as ``.png`` and ``.svg`` (``figure3`` where there are two counts),
        ``scores.csv``, ``report.html``, ``run.json``, and in ``trials`` the models.
    strategies
        ``"initial"``, ``"distributed"`` and ``"diverse"`` as in `select_slices`; ``"blocks"`` is
        a cross-validation for labels on a few slices only.
    counts
        Numbers of slices to train on.
    repeats
        The table shows means, lowest and highest of so many trainings, with the seeds `seed`,
        `seed` + 1, ….
    models
        ``"forest"`` and ``"resunet"``, each trained as its own command does by default.
    indices
        Slices for the table and figures. For one that a trial was trained on, the nearest that
        none was trained on stands in, and the table says so.
    relabelled
        The human ceiling: labels of slices that `truth` labels, too, made a second time, by the
        same person or by another one. They are scored like a prediction and stand beside the
        models.
    compare
        ``"paper"`` adds the paper's Table 1, whose three slices are then those of the study.
    folds, gap
        Of ``"blocks"``: number of blocks, and how many slices beside each are left out, too.
    network, steps, trees
        Size and length of the trainings.
    context
        ``"slice"`` trains plain 2-D ResUNets from random weights, the paper's recipe.
    resume
        Go on where a killed study of the same images was, or start where there is none. Other
        strategies, counts, repeats, models and indices may be asked for: what is done stays.
    mask_foreground
        What 255 stands for in a mask.
    milling
        Direction of milling.
    voxel_size_nm
        Voxel size in nm (z, y, x) that overrides the image's own.
    nodata
        Grey value of pixels without data; left out.
    seed
        Seed of the first repeat; the same seed gives the same tables.

    Returns
    -------
    Study
        ``.table`` and ``.scores`` are rows, ``.verdicts`` says how many slices are enough.

    Raises
    ------
    ParameterError
        If stack and truth do not fit, too few slices are labelled, the folder cannot be written,
        or what is to be resumed was begun with other images or settings.
    """
    again = replay(CATALOG["study"], locals())
    stack = as_stack(image, voxel_size_nm=voxel_size_nm, nodata=nodata)
    given = labels_from(truth, stack, mask_foreground=mask_foreground, parameter="truth")
    second = None
    if relabelled is not None:
        second = labels_from(
            relabelled, stack, mask_foreground=mask_foreground, parameter="relabelled"
        )
    settings = studies.Settings(
        strategies=strategies,
        counts=counts,
        models=models,
        repeats=repeats,
        folds=folds,
        gap=gap,
        indices=indices,
        compare=compare,
        network=network,
        context=context,
        start=checks.resunet_to_start_from(None, network, context, stack, DEFAULT_CLASSES),
        steps=steps,
        trees=trees,
        milling=milling,
        seed=seed,
    )
    plan = studies.make_plan(stack, given, settings)
    checks.make_folder(output)
    return studies.run(
        stack, given, plan, settings, output, resume=resume, replay=again, relabelled=second
    )
