"""Training of the ResUNet on some slices of a stack, with whole slices held out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg import model, prior
from fiji_poreseg.blocks import tiles
from fiji_poreseg.errors import ParameterError, PoreSegWarning
from fiji_poreseg.model import Arrays
from fiji_poreseg.resunet import (
    FILTERS,
    NEIGHBOURS,
    SLICE,
    ResUNetModel,
    checkpoint,
    fitting,
)
from fiji_poreseg.resunet.checkpoint import Row
from fiji_poreseg.resunet.context import Context, with_reach
from fiji_poreseg.resunet.devices import accelerated
from fiji_poreseg.resunet.fitting import Plan, Validation
from fiji_poreseg.resunet.loss import pixel_weights
from fiji_poreseg.resunet.network import build, set_arrays, to_arrays
from fiji_poreseg.resunet.sampling import Patches, Views
from fiji_poreseg.slices import (
    SliceReader,
    check_spacing,
    evenly,
    training_advice,
    warn_about_milling,
)
from fiji_poreseg.stack import (
    DEFAULT_CLASSES,
    check_two_classes,
    labels_of_slices,
    spacing_nm,
)

PATCH = 128
SMALLEST_SIDE = 16
BATCH = 8
STEPS_PER_CHECK = 40
# Checks of the validation slices without a better loss after which training stops.
PATIENCE = 10
# Slices are held out for validation one in ten, and at least one where there are three.
_VALIDATION_SHARE = 0.1
_LARGEST_GAP = 4
_LARGEST_VALIDATION_SIDE = 512
LEARNING_RATE = 3e-3
# Fewer slices than these show too little to learn from alone; to each, so many are rehearsed.
_FEWEST_SLICES, _REHEARSED = 3, 2


def train(
    stack: xr.DataArray,
    labels: xr.DataArray,
    indices: Sequence[int],
    *,
    classes: Sequence[str] = DEFAULT_CLASSES,
    network: str = "base",
    start: ResUNetModel | None = None,
    context: str = NEIGHBOURS,
    steps: int = 400,
    max_minutes: float | None = None,
    class_weights: str = "auto",
    milling: str = "forward",
    seed: int = 0,
    file: Path | None = None,
    resume: bool = False,
    checked: Callable[[Sequence[Row]], object] | None = None,
    corrections: xr.DataArray | None = None,
    correction_weight: float = 1,
) -> ResUNetModel:
    """Train a ResUNet.

    Parameters
    ----------
    stack
        A checked stack.
    labels
        uint8 labels on its voxels, dims ``("z", "y", "x")``; unlabelled pixels (0) count
        nothing.
    indices
        0-based slices to train on; of three or more, some are held out as whole slices for
        validation (`split`).
    classes
        Names of the classes 1, 2, and so on.
    network
        ``"small"``, ``"base"`` or ``"large"``.
    start
        A model whose weights to start from; None for random ones. Where fewer than three slices
        are labelled, others are trained on beside them as that model labels them: else what is
        seen in one slice, such as the first, which has no neighbours above, would be taken for
        all (learning without forgetting; Li and Hoiem 2016, arXiv 1606.09282).
    context
        ``"neighbours"`` shows the slice's neighbours in depth as further channels; ``"slice"``
        the slice alone, a plain 2-D network.
    steps
        Batches of 8 patches of 128 x 128 voxels to train on at most.
    max_minutes
        Safety stop; the model's card records whether it struck. None for no stop.
    class_weights
        ``"balanced"`` lets each class count the same in the cross-entropy, ``"none"`` each pixel;
        ``"auto"`` balances where less than half of the slices is labelled, and where slices are
        held out, then expects as much of each class as the stack shows (`fiji_poreseg.prior`).
    milling
        ``"forward"`` where a larger index lies deeper, else ``"reverse"``.
    seed
        Seed of the weights, the patches and their augmentation. The same seed gives the same
        weights on one machine, unless the safety stop struck. Python's, numpy's and
        TensorFlow's own generators are seeded with it, too.
    file
        `.poreseg` file to write. At each check a checkpoint is written beside it, which is removed
        when the model is finished.
    resume
        Go on from that checkpoint, to the same weights as an unbroken training; start where there
        is none, and answer with the model in `file` where that is finished.
    checked
        Called after each check with what was measured at all checks so far.
    corrections
        uint8, dims ``("z", "y", "x")``: where `labels` are corrected by hand, else 0.
    correction_weight
        How many times such a pixel counts in the cross-entropy; as many times as often, slices
        are drawn for it.

    Returns
    -------
    ResUNetModel
        With the weights that did best on the validation slices.

    Raises
    ------
    ParameterError
        If fewer than two classes are labelled in those slices, slices are too small, `start` does
        not fit, or what is to be resumed was begun with other images or settings.
    """
    if min(stack.sizes["y"], stack.sizes["x"]) < SMALLEST_SIDE:
        raise ParameterError(
            "image",
            f"must have slices of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} voxels",
            f"{stack.sizes['y']} x {stack.sizes['x']}",
            "Train a forest instead.",
        )
    warn_about_milling(stack, milling, training_advice(milling))
    filters = FILTERS[network]
    detectors = stack.sizes.get("c", 1)
    if start is None:
        seen = Context.for_spacing(spacing_nm(stack)[0]) if context == NEIGHBOURS else Context(())
    else:
        _check_start(start, network, context, detectors, classes)
        if not start.in_slices:
            check_spacing(start.card.spacing_nm, stack)
        seen = start.context_on(stack)
    given, rehearsed = labels, list[int]()
    if start is not None and len(indices) < _FEWEST_SLICES:
        labels, rehearsed = _rehearsal(start, stack, labels, indices)
    views = Views(
        SliceReader(stack),
        labels,
        [*indices, *rehearsed],
        seen,
        milling,
        corrections=corrections,
        correction_weight=correction_weight,
        class_count=len(classes),
    )
    check_two_classes(sorted(views.classes()), classes)
    settings = {
        "indices": list(indices),
        "classes": list(classes),
        "network": network,
        "start": "none" if start is None else checkpoint.digest(start.weights.values()),
        "context": context,
        "steps": steps,
        "class_weights": class_weights,
        "milling": milling,
        "voxel_size_nm": list(spacing_nm(stack)),
        "nodata": stack.attrs.get("nodata"),
        "seed": seed,
        # Last: which slices these are depends on what stands above.
        "image": model.digest_of_slices(stack, views.seen),
        "labels": model.digest_of_slices(given, indices),
        "corrections": None
        if corrections is None
        else model.digest_of_slices(corrections, indices),
        "correction_weight": None if corrections is None else correction_weight,
    }
    state = checkpoint.resumed(file, settings) if file is not None and resume else None
    if isinstance(state, ResUNetModel):
        return state
    trained_on, held_out = split({index: views.classes(index) for index in sorted(indices)})
    trained_on += rehearsed
    share = views.labelled_share(trained_on)
    weights = pixel_weights(
        views.counts(trained_on, len(classes)),
        class_weights,
        share,
        None if corrections is None else correction_weight,
    )
    fitting.make_reproducible(seed)
    side = min(PATCH, *(_whole(stack.sizes[axis], filters) for axis in ("y", "x")))
    check = min(steps, STEPS_PER_CHECK)
    plan = Plan(steps, LEARNING_RATE, check, PATIENCE, max_minutes)
    patches = Patches([(views, trained_on)], side, BATCH, check, seed)
    with accelerated():
        trained = build(seen.channel_count(detectors), len(classes), filters)
        if start is not None:
            set_arrays(trained, start.weights, "start")
        fitting.compile_for_training(trained, plan, weights)
    devices = trained.distribute_strategy.num_replicas_in_sync
    fitted = fitting.fit(
        trained,
        patches,
        _validation(views, held_out, filters, devices) if held_out else None,
        plan,
        file=file,
        settings=settings,
        state=state,
        checked=checked,
    )
    card = model.describe(
        stack,
        given,
        indices,
        classes=classes,
        milling=milling,
        seed=seed,
        scores={
            "steps": fitted.steps,
            "stopped_by_max_minutes": 1 if fitted.stopped_by_max_minutes else None,
            "validation_loss": fitted.best.get("val_loss"),
            "validation_accuracy": fitted.best.get("val_accuracy"),
            "corrected_pixels": views.corrected or None,
        },
        packages=("keras", "tensorflow"),
    )
    made = ResUNetModel(card, seen, filters, to_arrays(trained), fitted.rows, settings)
    if class_weights == "auto" and model.balances(class_weights, share):
        made = replace(made, weights=_expecting(made, stack, given, held_out))
    if file is not None:
        made.save(file)
        # What the safety stop cut short may be gone on with.
        if not fitted.stopped_by_max_minutes:
            checkpoint.place(file).unlink(missing_ok=True)
    return made


def _rehearsal(
    start: ResUNetModel, stack: xr.DataArray, labels: xr.DataArray, indices: Sequence[int]
) -> tuple[xr.DataArray, list[int]]:
    """Labels with those that a model gives evenly spaced other slices, and which these are."""
    others = [index for index in range(stack.sizes["z"]) if index not in set(indices)]
    # Not the first and the last: they lack neighbours, too.
    rehearsed = evenly(others, _REHEARSED * len(indices), inner=True)
    planes = {index: labels.isel(z=index).to_numpy() for index in indices}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoreSegWarning)
        planes |= start.predict_labels(stack, rehearsed)
    return labels_of_slices(planes, stack, classes=start.card.classes), rehearsed


def _expecting(
    made: ResUNetModel, stack: xr.DataArray, labels: xr.DataArray, held_out: Sequence[int]
) -> Arrays:
    """The weights of a network that learnt from scribbles, to expect of each class what is there.

    A factor of a class's probability is a summand of its logit.
    """
    probabilities, truth = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PoreSegWarning)
        for index, planes in made.predict(stack, held_out):
            true = labels.isel(z=index).to_numpy()
            known = (true > 0) & ~np.isnan(planes[0])
            probabilities.append(planes[:, known])
            truth.append(true[known].astype(np.intp) - 1)
    if not truth:
        return made.weights
    factors = prior.class_factors(
        prior.look(made, stack), np.concatenate(probabilities, axis=1), np.concatenate(truth)
    )
    if factors is None:
        return made.weights
    *_, bias = made.weights
    shifted = (made.weights[bias] + np.log(factors)).astype(np.float32)
    return {**made.weights, bias: shifted}


def split(classes: Mapping[int, frozenset[int]]) -> tuple[list[int], list[int]]:
    """Which of the labelled slices to train on, and which to hold out for validation.

    A slice says little about one that it was trained beside. So what lies nearer to a slice held
    out than a fifth of their number, four slices at most, is left out of both.

    Parameters
    ----------
    classes
        By the slice's index, in rising order, which classes are labelled in it.

    Returns
    -------
    trained_on, held_out : list of int
        Held out is one slice in ten, at least one of three, of those in which every class is
        labelled: evenly spaced ones, or the last where those have others near; none where no such
        slice would be left to train on.
    """
    every = frozenset[int]().union(*classes.values())
    complete = [index for index, found in classes.items() if found == every]
    count = max(1, round(len(classes) * _VALIDATION_SHARE))
    if len(classes) < 3 or len(complete) <= count:
        return list(classes), []
    gap = min(_LARGEST_GAP, len(classes) // 5)
    spaced = evenly(complete, count, inner=True)
    for held_out in (spaced, complete[-count:]):
        trained_on = [
            index for index in classes if all(abs(index - other) > gap for other in held_out)
        ]
        if len(trained_on) + count == len(classes):
            break
    if frozenset[int]().union(*(classes[index] for index in trained_on)) != every:
        return list(classes), []
    return trained_on, held_out


def _check_start(
    start: ResUNetModel, network: str, context: str, detectors: int, classes: Sequence[str]
) -> None:
    """Refuse a model to start from whose weights mean something else."""
    card = start.card
    of_start = next(name for name, filters in FILTERS.items() if filters == start.filters)
    for parameter, found, needed in (
        ("network", network, of_start),
        ("context", context, NEIGHBOURS if start.context.offsets_nm else SLICE),
        ("classes", ",".join(classes), ",".join(card.classes)),
    ):
        if found != needed:
            raise ParameterError(
                parameter,
                f"must be {needed}, as in the model to start from",
                found,
                f"Give {parameter}={needed}, or start=none.",
            )
    if detectors != card.detectors:
        raise ParameterError(
            "start",
            f"must have been trained with {detectors} detector(s), as the image has",
            f"a model with {card.detectors}",
            "Choose another model, or give start=none.",
        )


def _validation(
    views: Views, held_out: Sequence[int], filters: Sequence[int], devices: int
) -> Validation:
    """The validation slices as arrays, or what of them is labelled most where they are large.

    They are filled up with unlabelled ones, which count nothing, to as many for each device.
    """
    inputs, truths = [], []
    for index in held_out:
        view, truth = views.view(index)
        window = _most_labelled(truth, filters)
        part = np.moveaxis(view[window], 2, 0)
        inputs.append(with_reach(part, views.exists(index), views.context.offsets_nm))
        truths.append(truth[window].astype(np.int32))
    for _ in range(-len(held_out) % devices):
        inputs.append(inputs[0])
        truths.append(np.zeros_like(truths[0]))
    return np.stack(inputs), np.stack(truths)


def _most_labelled(truth: npt.NDArray[np.uint8], filters: Sequence[int]) -> tuple[slice, ...]:
    """The part of a slice, no larger than can be checked often, that holds most labels."""
    parts = tiles(truth.shape, _LARGEST_VALIDATION_SIDE, 0)
    best = max(parts, key=lambda part: int(np.count_nonzero(truth[part])))
    return tuple(
        slice(side.start, side.start + _whole(side.stop - side.start, filters)) for side in best
    )


def _whole(length: int, filters: Sequence[int]) -> int:
    """The largest side up to `length` that the network can halve as often as it does."""
    multiple = 2 ** (len(filters) - 1)
    return int(length // multiple * multiple)
