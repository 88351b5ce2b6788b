"""The commands. Each is a Python function; the other surfaces follow from its definition.

Images may be given as anything that `fiji_poreseg.stack.as_stack` takes: an xarray DataArray, a
numpy or dask array, a path, an ImagePlus or an ImgLib2 image.
"""

from __future__ import annotations

import json as json_text
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import xarray as xr

import fiji_poreseg.forest
import fiji_poreseg.resunet
from fiji_poreseg import correction, evaluation, files, measurement, phantoms, selection
from fiji_poreseg import model as models
from fiji_poreseg.commands.spec import Catalog, Param, Presentation, Role
from fiji_poreseg.correction import Correction
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.evaluation import Evaluation
from fiji_poreseg.forest import ForestModel
from fiji_poreseg.measurement import Measurement
from fiji_poreseg.model import Model
from fiji_poreseg.phantoms import Phantom
from fiji_poreseg.progress import track
from fiji_poreseg.resunet import FILTERS, ResUNetModel
from fiji_poreseg.rois import labels_from, region_from
from fiji_poreseg.stack import (
    DEFAULT_CLASSES,
    SOLID,
    as_labels,
    as_stack,
    check_indices,
    make_labels,
    to_dataarray,
    valid_pixels,
)

StackLike: TypeAlias = Any
LabelsLike: TypeAlias = Any
ModelLike: TypeAlias = Any

CATALOG = Catalog()

_TIFF = (".tif", ".tiff")

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
        required_on_command_line=True,
    ),
]
Seed = Annotated[int, Param("seed of everything random", ge=0, le=2**32 - 1)]
Classes = Annotated[tuple[str, ...], Param("names of the classes 1, 2, and so on")]
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
    Path | None, Param("file to write the figures to", role=Role.OUTPUT, metavar="FILE")
]


@dataclass(frozen=True)
class Segmentation:
    """What `segment` answers with.

    Parameters
    ----------
    segmentation
        uint8, dims ``("z", "y", "x")``: 1 pore, 2 solid, …; 0 where there is no data and in
        slices that were not asked for.
    probability
        float32: P(solid), dims ``("z", "y", "x")``; for more than two classes dims
        ``("class", "z", "y", "x")``. NaN where the segmentation is 0.
    """

    segmentation: xr.DataArray
    probability: xr.DataArray


def _present_phantom(made: Phantom) -> Presentation:
    share = float((made.truth == SOLID).mean())
    return Presentation(
        images={"phantom-truth": made.truth, "phantom": made.stack},
        lines=[f"Phantom of {_shape(made.stack)} voxels, porosity {1 - share:.4f}"],
    )


@CATALOG.command("PoreSeg Phantom", present=_present_phantom)
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
    ] = 300.0,
    attenuation_nm: Annotated[
        float, Param("depth at which a pore-back's grey has fallen to 1/e", unit="nm", ge=0.1)
    ] = 300.0,
    noise: Annotated[
        float, Param("standard deviation of the noise on a cut face, relative", ge=0, le=2)
    ] = 0.085,
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
    if output is not None:
        _check_folder(output)
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


def _present_model(trained: ForestModel | ResUNetModel) -> Presentation:
    card = trained.card
    scores = [f"{name.replace('_', ' ')} {_number(value)}" for name, value in card.scores.items()]
    return Presentation(
        lines=[f"Trained on slices {_listed(card.training_indices)}: {', '.join(scores)}"]
    )


@CATALOG.command("PoreSeg Train Forest", present=_present_model)
def train_forest(
    image: Image,
    labels: Labels,
    *,
    model: ModelFile = None,
    indices: Indices = None,
    trees: Annotated[int, Param("number of trees", ge=1, le=10_000)] = 100,
    pixels: Annotated[int, Param("labelled pixels to train on at most", ge=2)] = 100_000,
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
    _check_model_file(model)
    stack = as_stack(image, voxel_size_nm=voxel_size_nm, nodata=nodata)
    given = labels_from(labels, stack, mask_foreground=mask_foreground, classes=classes)
    trained = fiji_poreseg.forest.train(
        stack,
        given,
        _labelled(given, stack, indices),
        classes=classes,
        trees=trees,
        pixels=pixels,
        milling=milling,
        seed=seed,
    )
    if model is not None:
        trained.save(model)
    return trained


def _present_indices(indices: tuple[int, ...]) -> Presentation:
    return Presentation(
        rows=[{"index": index, "slice": index + 1} for index in indices], numbers=_listed(indices)
    )


@CATALOG.command("PoreSeg Select Slices", present=_present_indices)
def select_slices(
    image: Image,
    *,
    strategy: Annotated[
        str,
        Param("initial: the first ones; distributed: evenly spaced", choices=selection.STRATEGIES),
    ] = "distributed",
    count: Annotated[int, Param("how many slices", ge=1)] = 20,
) -> tuple[int, ...]:
    """Choose which slices to label.

    Parameters
    ----------
    image
        Stack, dims ``("z", "y", "x")`` or ``("c", "z", "y", "x")``.
    strategy
        ``"initial"`` takes the first slices, ``"distributed"`` slice ``i * N // count``.
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
    return selection.select(as_stack(image).sizes["z"], strategy, count)


@CATALOG.command("PoreSeg Train ResUNet", present=_present_model)
def train_resunet(
    image: Image,
    labels: Labels,
    *,
    model: ModelFile = None,
    indices: Indices = None,
    strategy: Annotated[
        str | None,
        Param("choose the slices: initial or distributed", choices=selection.STRATEGIES),
    ] = None,
    count: Annotated[int | None, Param("how many slices the strategy chooses", ge=1)] = None,
    network: Annotated[str, Param("size of the network", choices=tuple(FILTERS))] = "base",
    steps: Annotated[int, Param("batches of 8 patches to train on at most", ge=1)] = 1000,
    max_minutes: Annotated[float | None, Param("safety stop", unit="minutes", ge=0.01)] = None,
    classes: Classes = DEFAULT_CLASSES,
    mask_foreground: MaskForeground = "solid",
    milling: Milling = "forward",
    voxel_size_nm: VoxelSize = None,
    nodata: NoData = None,
    seed: Seed = 0,
) -> ResUNetModel:
    """Train a residual U-Net on the labels of a few slices.

    Pre-activation residual units after Zhang et al. (2018), arXiv 1711.10684; the slice's
    neighbours in depth are further channels. One labelled slice in ten, at least one of three,
    is held out whole for validation; training stops early when their loss no longer falls, and
    the best weights are kept.

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
        holds no label, or fewer than two classes are labelled.
    """
    _check_model_file(model)
    stack = as_stack(image, voxel_size_nm=voxel_size_nm, nodata=nodata)
    chosen = _chosen(stack, indices, strategy, count)
    given = labels_from(labels, stack, mask_foreground=mask_foreground, classes=classes)
    trained_on = _labelled(given, stack, chosen)
    # TensorFlow is loaded by the one command that trains with it, not by importing the package.
    from fiji_poreseg.resunet.training import train

    trained = train(
        stack,
        given,
        trained_on,
        classes=classes,
        network=network,
        steps=steps,
        max_minutes=max_minutes,
        milling=milling,
        seed=seed,
    )
    if model is not None:
        trained.save(model)
    return trained


def _present_segmentation(made: Segmentation) -> Presentation:
    return Presentation(
        images={"probability": made.probability, "segmentation": made.segmentation},
        lines=[f"{made.segmentation.name}: {_shape(made.segmentation)} voxels"],
    )


@CATALOG.command("PoreSeg Segment", present=_present_segmentation)
def segment(
    image: Image,
    *,
    model: Annotated[
        ModelLike, Param("a trained model: its .poreseg file", role=Role.MODEL, metavar="FILE")
    ],
    output: Annotated[
        Path | None,
        Param(
            "TIFF to write the segmentation to",
            role=Role.OUTPUT,
            metavar="SEG",
            required_on_command_line=True,
        ),
    ] = None,
    probability: Annotated[
        Path | None,
        Param("TIFF to write the probability of solid to", role=Role.OUTPUT, metavar="P"),
    ] = None,
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
        A `.poreseg` file, or what `train_forest` or `train_resunet` answered with.
    output, probability
        TIFFs to write.
    indices
        Slices to segment; all by default. The others are 0 in the segmentation.
    voxel_size_nm
        Voxel size in nm (z, y, x) that overrides the image's own.
    nodata
        Grey value of pixels without data; 0 in the segmentation.

    Returns
    -------
    Segmentation
        `segmentation` (uint8) and `probability` (float32).

    Raises
    ------
    ParameterError
        If the model cannot be read or does not fit the stack.

    Warns
    -----
    PoreSegWarning
        If the voxel size is far from the one trained on, or the stack looks milled the other
        way.
    """
    _check_images(output=output, probability=probability)
    loaded = load(model)
    stack = as_stack(image, voxel_size_nm=voxel_size_nm, nodata=nodata)
    made = _segment(stack, loaded, _all_or(indices, stack))
    if output is not None:
        files.write(output, made.segmentation)
    if probability is not None:
        # In a file, classes are channels.
        channels = {"class": "c"} if "class" in made.probability.dims else {}
        files.write(probability, made.probability.rename(channels))
    return made


def load(model: ModelLike) -> Model:
    """Read a `.poreseg` file; a model that is loaded already passes through.

    Parameters
    ----------
    model
        Path of the file, or a model.

    Returns
    -------
    ForestModel or ResUNetModel
        ``.predict`` and ``.save`` are common to both, and ``.card`` says what it was trained on.

    Raises
    ------
    ParameterError
        If the file is missing, is no model, is damaged, or was written by a newer version.
    """
    return model if isinstance(model, Model) else models.load(Path(model).expanduser())


def _present_correction(made: Correction) -> Presentation:
    total = made.total
    return Presentation(
        images={"corrected": made.segmentation},
        rows=[asdict(change) for change in made.changes],
        lines=[
            f"Corrected {len(made.changes)} slices: {total['pore_to_solid']} pixels from pore to "
            f"solid, {total['solid_to_pore']} from solid to pore"
        ],
    )


@CATALOG.command("PoreSeg Correct", present=_present_correction)
def correct(
    image: Annotated[
        StackLike, Param("the segmentation to correct", role=Role.IMAGE, metavar="SEG")
    ],
    corrections: Annotated[
        LabelsLike,
        Param(
            "what to change: an image (0 leave, 1 pore, 2 solid, …) or ROIs",
            role=Role.LABELS,
            metavar="CORRECTIONS",
        ),
    ],
    *,
    output: Annotated[
        Path | None,
        Param(
            "TIFF to write the corrected segmentation to",
            role=Role.OUTPUT,
            metavar="SEG2",
            required_on_command_line=True,
        ),
    ] = None,
    json: Json = None,
    classes: Classes = DEFAULT_CLASSES,
) -> Correction:
    """Merge hand corrections into a segmentation and count what they changed.

    Parameters
    ----------
    image
        Segmentation, uint8, dims ``("z", "y", "x")``.
    corrections
        Label image of its shape, 0 where it is to stay, or ROIs. A mask is refused: it does
        not say what to leave alone.
    output
        TIFF to write; the segmentation itself is not changed.
    json
        File for ``{"slices": [{"index", "pore_to_solid", "solid_to_pore"}], "total"}``, in
        pixels.
    classes
        Names of the classes 1, 2, and so on.

    Returns
    -------
    Correction
        `segmentation`, `changes` per slice and their `total`.

    Raises
    ------
    ParameterError
        If the shapes differ, or a mask is given.
    """
    _check_images(output=output)
    _check_json(json)
    segmentation = _as_segmentation(image, "image", classes)
    merged = correction.merge(
        segmentation,
        labels_from(
            corrections, segmentation, classes=classes, parameter="corrections", allow_mask=False
        ),
    )
    if output is not None:
        files.write(output, merged.segmentation)
    if json is not None:
        slices = [asdict(change) for change in merged.changes]
        _write_json(json, {"slices": slices, "total": merged.total})
    return merged


def _present_evaluation(made: Evaluation) -> Presentation:
    rows: list[dict[str, object]] = [asdict(score) for score in made.slices]
    lines = [f"Mean over {len(rows)} slices: {_scores(made.mean)}"]
    if made.baseline is not None:
        grey = made.baseline.threshold.grey
        lines.append(f"Best global threshold ({grey:g}): {_scores(made.baseline.mean)}")
        for row, score in zip(rows, made.baseline.slices, strict=True):
            row["threshold_accuracy"] = score.accuracy
            row["threshold_dice_solid"] = score.dice_solid
    if made.pore_back is not None:
        errors = [f"{name} {_number(entry['error'])}" for name, entry in made.pore_back.items()]
        lines.append(f"Error inside: {', '.join(errors)}".replace("_", "-"))
    return Presentation(rows=rows, lines=lines)


@CATALOG.command("PoreSeg Evaluate", present=_present_evaluation)
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
    classes: Classes = DEFAULT_CLASSES,
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
        Names of the classes 1, 2, and so on.
    mask_foreground
        What 255 stands for where the truth is a mask.

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
    _check_json(json)
    segmentation = _as_segmentation(image, "image", classes)
    true = labels_from(
        truth, segmentation, classes=classes, mask_foreground=mask_foreground, parameter="truth"
    )
    scored = evaluation.evaluate(
        segmentation,
        true,
        _all_or(indices, segmentation),
        probability=_like(probability, segmentation, "probability"),
        stack=_like(stack, segmentation, "stack"),
        region=None if roi is None else region_from(roi, segmentation),
    )
    if json is not None:
        _write_json(json, scored.as_json())
    return scored


def _present_measurement(made: Measurement) -> Presentation:
    return Presentation(
        rows=[asdict(entry) for entry in made.slices],
        lines=[f"Porosity of the whole: {made.porosity:.4f}"],
    )


@CATALOG.command("PoreSeg Measure", present=_present_measurement)
def measure(
    image: Annotated[
        StackLike, Param("the segmentation to measure", role=Role.IMAGE, metavar="SEG")
    ],
    *,
    json: Json = None,
    classes: Classes = DEFAULT_CLASSES,
) -> Measurement:
    """Measure the porosity of each slice and of the whole stack.

    Parameters
    ----------
    image
        Segmentation, uint8, dims ``("z", "y", "x")``; its pixels of 0 hold no data.
    json
        File for ``{"slices": [{"index", "porosity", "pixels"}], "porosity"}``.
    classes
        Names of the classes 1, 2, and so on.

    Returns
    -------
    Measurement
        `slices` and `porosity`, each from 0 to 1.

    Raises
    ------
    ParameterError
        If the image is no segmentation.
    """
    _check_json(json)
    segmentation = _as_segmentation(image, "image", classes)
    made = measurement.measure(segmentation, range(segmentation.sizes["z"]))
    if json is not None:
        slices = [asdict(entry) for entry in made.slices]
        _write_json(json, {"slices": slices, "porosity": made.porosity})
    return made


def _segment(stack: xr.DataArray, model: Model, indices: Sequence[int]) -> Segmentation:
    """Predict slice by slice; the likeliest class of each pixel is its segmentation."""
    classes = model.card.classes
    shape = tuple(stack.sizes[axis] for axis in ("z", "y", "x"))
    several = len(classes) > 2
    chances = np.full((len(classes), *shape) if several else shape, np.nan, np.float32)
    found = np.zeros(shape, np.uint8)
    nodata = stack.attrs.get("nodata")
    predicted = track(model.predict(stack, indices), "Segmenting", len(indices))
    for index, chance in predicted:
        grey = stack.isel(z=index).to_numpy().reshape(-1, *shape[1:])
        valid = np.logical_and.reduce([valid_pixels(plane, nodata) for plane in grey])
        found[index] = np.where(valid, chance.argmax(axis=0) + 1, 0)
        chances[..., index, :, :] = np.where(
            valid, chance if several else chance[SOLID - 1], np.nan
        )
    segmentation = make_labels(found, stack, name=f"{stack.name}-segmentation", classes=classes)
    calibration = {key: kept for key, kept in segmentation.attrs.items() if key != "classes"}
    probability = xr.DataArray(
        chances,
        dims=("class", *segmentation.dims) if several else segmentation.dims,
        coords={**segmentation.coords, **({"class": list(classes)} if several else {})},
        name=f"{stack.name}-probability",
        attrs={**calibration, "display_range": (0.0, 1.0)},
    )
    return Segmentation(segmentation, probability)


def _all_or(indices: tuple[int, ...] | None, stack: xr.DataArray) -> Sequence[int]:
    return range(stack.sizes["z"]) if indices is None else check_indices(indices, stack)


def _chosen(
    stack: xr.DataArray,
    indices: tuple[int, ...] | None,
    strategy: str | None,
    count: int | None,
) -> tuple[int, ...] | None:
    """The slices named, those that a strategy chooses, or None for all that hold labels."""
    if strategy is None and count is None:
        return indices
    if indices is not None:
        raise ParameterError(
            "indices",
            "cannot be given together with strategy and count",
            _listed(indices),
            "Give either the slices or how to choose them.",
        )
    if strategy is None or count is None:
        raise ParameterError(
            "strategy" if strategy is None else "count",
            "is needed where the slices are to be chosen",
            "left out",
            "Give both, for example strategy=distributed count=20.",
        )
    return selection.select(stack.sizes["z"], strategy, count)


def _labelled(
    labels: xr.DataArray, stack: xr.DataArray, indices: tuple[int, ...] | None
) -> tuple[int, ...]:
    """The slices to train on: those named, each of which must hold labels, or all that do."""
    holding = np.flatnonzero(labels.any(dim=("y", "x")).to_numpy()).tolist()
    if indices is None:
        if labels.attrs["dense"]:
            raise ParameterError(
                "indices",
                "is needed where the labels are a mask",
                "left out",
                "A mask labels every pixel: name the slices where that is meant, as indices=0,30.",
            )
        return tuple(holding)
    named = check_indices(indices, stack)
    empty = sorted(set(named) - set(holding))
    if empty:
        raise ParameterError(
            "indices",
            "must name slices that hold labels",
            _listed(empty),
            f"Labels are in slices {_listed(holding[:20])}.",
        )
    return named


def _as_segmentation(image: StackLike, parameter: str, classes: Sequence[str]) -> xr.DataArray:
    stack = as_stack(image, parameter=parameter)
    return as_labels(stack, stack, classes=classes, parameter=parameter).assign_attrs(stack.attrs)


def _like(image: StackLike, like: xr.DataArray, parameter: str) -> xr.DataArray | None:
    """An image that belongs to another: of the same slices, rows and columns."""
    if image is None:
        return None
    array = to_dataarray(image, parameter)
    if array.shape[-3:] != like.shape:
        raise ParameterError(
            parameter,
            f"must have the shape of the segmentation, {like.shape} (z, y, x)",
            f"shape {array.shape}",
            "Give the images that belong together.",
        )
    return array


def _check_model_file(model: Path | None) -> None:
    if model is not None:
        files.check_output(model, "model", suffixes=(models.SUFFIX,))


def _check_images(**outputs: Path | None) -> None:
    for parameter, path in outputs.items():
        if path is not None:
            files.check_output(path, parameter, suffixes=_TIFF)


def _check_json(json: Path | None) -> None:
    if json is not None:
        files.check_output(json, "json", suffixes=(".json",))


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(
            "output", "must be a folder that can be made", str(folder), f"{error.strerror}."
        ) from error
    files.check_output(folder / "stack.tif", "output", suffixes=_TIFF)


def _write_json(path: Path, content: object) -> None:
    files.write_text(path, json_text.dumps(content, indent=1) + "\n", parameter="json")


def _listed(indices: Iterable[int]) -> str:
    return ",".join(map(str, indices))


def _shape(stack: xr.DataArray) -> str:
    return " x ".join(str(stack.sizes[axis]) for axis in ("z", "y", "x"))


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "none" if value is None else str(value)


def _scores(scores: dict[str, Any]) -> str:
    shown = ("accuracy", "loss", "majority_accuracy", "dice_solid", "iou_solid")
    return ", ".join(
        f"{name.replace('_', ' ')} {_number(scores[name])}"
        for name in shown
        if scores[name] is not None
    )
