"""Training of the ResUNet: masked loss, whole validation slices, early stopping, best weights."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg import model
from fiji_poreseg.blocks import tiles
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.progress import report
from fiji_poreseg.resunet import FILTERS, ResUNetModel
from fiji_poreseg.resunet.backend import keras, tf
from fiji_poreseg.resunet.context import Channels, Context, with_reach
from fiji_poreseg.resunet.network import build, to_arrays
from fiji_poreseg.resunet.sampling import Patches, Views
from fiji_poreseg.slices import SliceReader, training_advice, warn_about_milling
from fiji_poreseg.stack import DEFAULT_CLASSES, check_two_classes, spacing_nm

PATCH = 128
SMALLEST_SIDE = 16
BATCH = 8
STEPS_PER_CHECK = 40
# Checks of the validation slices without a better loss after which training stops.
PATIENCE = 10
# Slices are held out for validation one in ten, and at least one where there are three.
_VALIDATION_SHARE = 0.1
_LARGEST_VALIDATION_SIDE = 512
_LEARNING_RATE = 3e-3


def train(
    stack: xr.DataArray,
    labels: xr.DataArray,
    indices: Sequence[int],
    *,
    classes: Sequence[str] = DEFAULT_CLASSES,
    network: str = "base",
    steps: int = 1000,
    max_minutes: float | None = None,
    milling: str = "forward",
    seed: int = 0,
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
        validation (`validation_slices`).
    classes
        Names of the classes 1, 2, and so on.
    network
        ``"small"``, ``"base"`` or ``"large"``.
    steps
        Batches of 8 patches of 128 x 128 voxels to train on at most.
    max_minutes
        Safety stop; the model's card records whether it struck. None for no stop.
    milling
        ``"forward"`` where a larger index lies deeper, else ``"reverse"``.
    seed
        Seed of the weights, the patches and their augmentation. The same seed gives the same
        weights on one machine, unless the safety stop struck. Python's, numpy's and
        TensorFlow's own generators are seeded with it, too.

    Returns
    -------
    ResUNetModel
        With the weights that did best on the validation slices.

    Raises
    ------
    ParameterError
        If fewer than two classes are labelled in those slices, or slices are too small.
    """
    if min(stack.sizes["y"], stack.sizes["x"]) < SMALLEST_SIDE:
        raise ParameterError(
            "image",
            f"must have slices of at least {SMALLEST_SIDE} x {SMALLEST_SIDE} voxels",
            f"{stack.sizes['y']} x {stack.sizes['x']}",
            "Train a forest instead.",
        )
    warn_about_milling(stack, milling, training_advice(milling))
    context = Context.for_spacing(spacing_nm(stack)[0])
    views = Views(SliceReader(stack), labels, indices, context, milling)
    check_two_classes(sorted(views.classes()), classes)
    held_out = validation_slices({index: views.classes(index) for index in indices})
    # The same seed must give the same weights: Python, numpy and TensorFlow are seeded, and
    # TensorFlow may not sum in whatever order its threads happen to finish.
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()

    filters = FILTERS[network]
    side = min(PATCH, *(_whole(stack.sizes[axis], filters) for axis in ("y", "x")))
    trained_on = [index for index in indices if index not in held_out]
    patches = Patches(views, trained_on, side, BATCH, min(steps, STEPS_PER_CHECK), seed)
    trained = build(context.channel_count(stack.sizes.get("c", 1)), len(classes), filters)
    trained.compile(_optimizer(steps), loss=masked_loss, metrics=[masked_accuracy])
    watch = _Watch(steps, max_minutes)
    history = trained.fit(
        patches,
        epochs=-(-steps // STEPS_PER_CHECK),
        validation_data=_validation(views, held_out, filters) if held_out else None,
        validation_batch_size=1,
        callbacks=[watch, *_early_stopping(bool(held_out))],
        verbose=0,
        shuffle=False,
    ).history
    rows = [{k: float(v[i]) for k, v in history.items()} for i in range(len(history["loss"]))]
    best = min(rows, key=lambda row: row.get("val_loss", -1.0))
    card = model.describe(
        stack,
        labels,
        indices,
        classes=classes,
        milling=milling,
        seed=seed,
        scores={
            "steps": watch.steps,
            "stopped_by_max_minutes": 1 if watch.struck else None,
            "validation_loss": best.get("val_loss"),
            "validation_accuracy": best.get("val_masked_accuracy"),
        },
        packages=("keras", "tensorflow"),
    )
    return ResUNetModel(card, context, filters, to_arrays(trained), tuple(rows))


def validation_slices(classes: Mapping[int, frozenset[int]]) -> tuple[int, ...]:
    """Which of the labelled slices are held out for validation.

    Parameters
    ----------
    classes
        By the slice's index, which classes are labelled in it.

    Returns
    -------
    tuple of int
        One slice in ten, at least one of three, evenly spaced among those in which every class
        is labelled; none where no such slice would be left to train on.
    """
    every = frozenset[int]().union(*classes.values())
    complete = [index for index, found in classes.items() if found == every]
    held = max(1, round(len(classes) * _VALIDATION_SHARE))
    if len(classes) < 3 or len(complete) <= held:
        return ()
    return tuple(complete[(2 * i + 1) * len(complete) // (2 * held)] for i in range(held))


def masked_loss(truth: Any, logits: Any) -> Any:
    """Cross-entropy in nats over the labelled pixels; `truth` is 0 where unlabelled."""
    labelled = keras.ops.cast(truth > 0, "float32")
    losses = keras.losses.sparse_categorical_crossentropy(
        keras.ops.maximum(truth - 1, 0), logits, from_logits=True
    )
    return keras.ops.sum(losses * labelled) / keras.ops.maximum(keras.ops.sum(labelled), 1)


def masked_accuracy(truth: Any, logits: Any) -> Any:
    """Share of the labelled pixels whose likeliest class is the true one."""
    labelled = keras.ops.cast(truth > 0, "float32")
    right = keras.ops.cast(keras.ops.argmax(logits, -1) + 1 == truth, "float32")
    return keras.ops.sum(right * labelled) / keras.ops.maximum(keras.ops.sum(labelled), 1)


def _validation(
    views: Views, held_out: Sequence[int], filters: Sequence[int]
) -> tuple[Channels, npt.NDArray[np.int32]]:
    """The validation slices as arrays, or what of them is labelled most where they are large."""
    inputs, truths = [], []
    for index in held_out:
        view, truth = views.view(index)
        window = _most_labelled(truth, filters)
        inputs.append(with_reach(view[:, *window], views.exists(index), views.context.offsets_nm))
        truths.append(truth[window].astype(np.int32))
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


def _optimizer(steps: int) -> keras.optimizers.Optimizer:
    schedule = keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=_LEARNING_RATE / 10,
        decay_steps=max(1, steps - steps // 20),
        alpha=0.01,
        warmup_target=_LEARNING_RATE,
        warmup_steps=steps // 20,
    )
    return keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=1.0)


def _early_stopping(validated: bool) -> list[keras.callbacks.Callback]:
    if not validated:
        return []
    return [keras.callbacks.EarlyStopping("val_loss", patience=PATIENCE, restore_best_weights=True)]


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports progress, and stops after the last step or when the safety stop strikes."""

    def __init__(self, steps: int, max_minutes: float | None) -> None:
        super().__init__()
        self._total = steps
        self._stop = None if max_minutes is None else time.monotonic() + 60 * max_minutes
        self.steps = 0
        self.struck = False

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Count the step."""
        self.steps += 1
        report("Training ResUNet", self.steps, self._total)
        self.struck = self._stop is not None and time.monotonic() > self._stop
        if self.struck or self.steps == self._total:
            self.model.stop_training = True

    def on_test_batch_end(self, *_: Any, **__: Any) -> None:
        """Say the same again: who listens may want to stop, and slices take long to check."""
        report("Training ResUNet", self.steps, self._total)
