"""The way as a whole: without a hand in between, and the paper's study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fiji_poreseg import automatic, selection, studies
from fiji_poreseg.automatic import Automatic
from fiji_poreseg.commands import checks, presentation
from fiji_poreseg.commands.catalog.parameters import (
    CATALOG,
    Classes,
    Image,
    Indices,
    Labels,
    LabelsLike,
    MaskForeground,
    Milling,
    NoData,
    Seed,
    SeenContext,
    VoxelSize,
)
from fiji_poreseg.commands.catalog.training import train_forest, train_resunet
from fiji_poreseg.commands.replay import replay
from fiji_poreseg.commands.spec import Param, Role
from fiji_poreseg.resunet import FILTERS, NEIGHBOURS
from fiji_poreseg.rois import labels_from
from fiji_poreseg.stack import DEFAULT_CLASSES, as_stack
from fiji_poreseg.studies import Study


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
    package say what is likeliest by both, and a ResUNet learns from that, less what may be a
    pore-back. The labels, which it has not seen, then tell how good it is.

    Parameters
    ----------
    image
        Stack, dims ``("z", "y", "x")`` or ``("c", "z", "y", "x")``.
    labels
        Labels of some slices, such as scribbles on five, spread along the stack; an image of the
        stack's shape, or ROIs.
    output
        Folder for ``forest.poreseg``, ``resunet.poreseg``, ``segmentation.tif``,
        ``probability.tif`` and ``report.json``; made if it does not exist. At the end, they replace
        those of an earlier call, which go also where this one stopped before it made some.
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
        `trusted`, `alarms`, `accuracy`, `accuracy_by_labels` and `porosity` with 95 % intervals
        (Rogan and Gladen 1978, doi 10.1093/oxfordjournals.aje.a112510), `to_label`,
        `segmentation` and `probability`.

    Raises
    ------
    ParameterError
        If stack and labels do not fit, fewer than two classes are labelled, all slices are, the
        folder cannot be written, another command is at work in it, or what is to be resumed was
        begun with something else.
    """
    stack = as_stack(image, voxel_size_nm=voxel_size_nm, nodata=nodata)
    given = labels_from(labels, stack, mask_foreground=mask_foreground, classes=classes)
    labelled = selection.labelled(given, indices)
    settings = automatic.Settings(
        count=count,
        trees=trees,
        network=network,
        start=checks.resunet_to_start_from(None, network, NEIGHBOURS, stack, classes, milling),
        steps=steps,
        anyway=anyway,
        milling=milling,
        seed=seed,
    )
    checks.make_folder(output)
    return automatic.run(stack, given, labelled, settings, output, resume=resume)


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
        start=checks.resunet_to_start_from(None, network, context, stack, DEFAULT_CLASSES, milling),
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
