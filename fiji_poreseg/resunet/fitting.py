"""Steps of a training: the optimizer, checks, early stopping, the safety stop, checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fiji_poreseg.journal import Settings
from fiji_poreseg.progress import report
from fiji_poreseg.resunet import checkpoint
from fiji_poreseg.resunet.backend import keras, memory_as_error, tf
from fiji_poreseg.resunet.checkpoint import Row, State
from fiji_poreseg.resunet.context import Channels
from fiji_poreseg.resunet.loss import LabelledMean, PixelWeights, objective
from fiji_poreseg.resunet.sampling import Patches

Validation = tuple[Channels, npt.NDArray[np.int32]]


@dataclass(frozen=True)
class Plan:
    """How long a training takes, and how often it is looked at.

    Parameters
    ----------
    steps
        Batches at most.
    learning_rate
        The highest, after a twentieth of the steps; it falls to a hundredth of that as a cosine.
    steps_per_check
        Batches between two checks of the validation slices.
    patience
        Checks without a better loss after which training stops.
    max_minutes
        Safety stop; None for none.
    """

    steps: int
    learning_rate: float
    steps_per_check: int
    patience: int
    max_minutes: float | None = None


@dataclass(frozen=True)
class Fitted:
    """What `fit` answers with: `rows` measured at each check, steps, and whether it was stopped."""

    rows: tuple[Row, ...]
    steps: int
    stopped_by_max_minutes: bool

    @property
    def best(self) -> Row:
        """The check whose weights are kept: the least validation loss, or the last."""
        return min(self.rows, key=lambda row: row.get("val_loss", -row["step"]))


def make_reproducible(seed: int) -> None:
    """Seed Python, numpy and TensorFlow, and let TensorFlow sum in one order."""
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


def compile_for_training(network: keras.Model, plan: Plan, weights: PixelWeights) -> None:
    """Give a network its optimizer, what it minimises and what is measured."""
    network.compile(
        _optimizer(plan),
        loss=objective(weights),
        metrics=[LabelledMean(name, weights) for name in ("cross_entropy", "accuracy")],
    )
    # A step that makes the optimizer's variables itself is traced twice, which takes seconds.
    network.optimizer.build(network.trainable_variables)


def fit(
    network: keras.Model,
    patches: Patches,
    validation: Validation | None,
    plan: Plan,
    *,
    file: Path | None = None,
    settings: Settings | None = None,
    state: State | None = None,
    checked: Callable[[Sequence[Row]], object] | None = None,
) -> Fitted:
    """Train a compiled network; it ends with the weights that did best.

    Parameters
    ----------
    network
        See `compile_for_training`.
    patches
        What to train on, `plan.steps_per_check` batches long.
    validation
        Inputs and labels of the validation slices; None for none, and no early stopping.
    plan
        How long.
    file, settings
        The model file beside which a checkpoint is kept, and what it was trained with.
    state
        A checkpoint to go on from.
    checked
        Called after each check with what was measured at all checks so far.

    Returns
    -------
    Fitted
    """
    watch = _Watch(plan, checked)
    stopping = None if validation is None else _EarlyStopping(plan.patience)
    keeper = None if file is None else _Keeper(file, settings or {}, watch, stopping)
    if state is not None:
        _restore(state, network, patches, watch, stopping)
    checks = -(-plan.steps // plan.steps_per_check)
    with memory_as_error():
        network.fit(
            patches,
            initial_epoch=len(watch.rows),
            # A finished training, killed before its model was written, has nothing left to do.
            epochs=len(watch.rows) if state is not None and state.finished else checks,
            validation_data=validation,
            validation_batch_size=network.distribute_strategy.num_replicas_in_sync,
            callbacks=[callback for callback in (watch, stopping, keeper) if callback is not None],
            verbose=0,
            shuffle=False,
        )
    return Fitted(tuple(watch.rows), watch.steps, watch.struck)


def _optimizer(plan: Plan) -> keras.optimizers.Optimizer:
    warmup = plan.steps // 20
    schedule = _Schedule(
        initial_learning_rate=plan.learning_rate / 10,
        decay_steps=max(1, plan.steps - warmup),
        alpha=0.01,
        warmup_target=plan.learning_rate,
        warmup_steps=warmup,
    )
    return keras.optimizers.AdamW(schedule, weight_decay=1e-4, clipnorm=1.0)


class _Schedule(keras.optimizers.schedules.CosineDecay):  # type: ignore[misc]
    """Keras' own, traced once in a step: the optimizer asks again for each weight it decays."""

    _graph = _rate = None

    def __call__(self, step: Any) -> Any:
        """The rate at a step, which in one graph is one step."""
        if tf.executing_eagerly():
            return super().__call__(step)
        graph = tf.compat.v1.get_default_graph()
        if graph is not self._graph:
            self._graph, self._rate = graph, super().__call__(step)
        return self._rate


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Reports progress, keeps what is measured, and stops in time."""

    def __init__(self, plan: Plan, checked: Callable[[Sequence[Row]], object] | None) -> None:
        super().__init__()
        self._total, self._checked = plan.steps, checked
        minutes = plan.max_minutes
        self._stop = None if minutes is None else time.monotonic() + 60 * minutes
        self.steps = 0
        self.struck = False
        self.rows: list[Row] = []

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        """Count the step; stop after the last one or when the safety stop strikes."""
        self.steps += 1
        report("Training ResUNet", self.steps, self._total)
        self.struck = self._stop is not None and time.monotonic() > self._stop
        if self.struck or self.steps == self._total:
            self.model.stop_training = True

    def on_test_batch_end(self, *_: Any, **__: Any) -> None:
        """Say the same again: who listens may want to stop, and slices take long to check."""
        report("Training ResUNet", self.steps, self._total)

    def on_epoch_end(self, _: int, logs: Mapping[str, float] | None = None) -> None:
        """Keep the measurements under the names that `evaluate` has for them."""
        measured = {
            name.replace("cross_entropy", "loss"): float(value)
            for name, value in (logs or {}).items()
            if name.endswith(("cross_entropy", "accuracy"))
        }
        self.rows.append({"step": self.steps, **measured})
        if self._checked is not None:
            self._checked(self.rows)


class _EarlyStopping(keras.callbacks.EarlyStopping):  # type: ignore[misc]
    """Stops when the loss of the validation slices no longer falls, with the best weights.

    Its state can be taken and put back.
    """

    def __init__(self, patience: int) -> None:
        super().__init__(
            "val_cross_entropy", mode="min", patience=patience, restore_best_weights=True
        )
        self.kept: State | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Begin, or go on from the state kept."""
        super().on_train_begin(logs)
        if self.kept is not None:
            self.best_weights = list(self.kept.best)
            self.best, self.wait = self.kept.best_loss, self.kept.wait


class _Keeper(keras.callbacks.Callback):  # type: ignore[misc]
    """Writes a checkpoint after each check."""

    def __init__(
        self, file: Path, settings: Settings, watch: _Watch, stopping: _EarlyStopping | None
    ) -> None:
        super().__init__()
        self._place, self._settings = checkpoint.place(file), settings
        self._watch, self._stopping = watch, stopping

    def on_epoch_end(self, *_: Any, **__: Any) -> None:
        """Write it, unless the safety stop struck between checks: an unbroken run has no such."""
        if self._watch.struck:
            return
        stopping = self._stopping
        state = State(
            network=self.model.get_weights(),
            optimizer=[variable.numpy() for variable in self.model.optimizer.variables],
            best=[] if stopping is None else stopping.best_weights,
            best_loss=None if stopping is None else stopping.best,
            wait=0 if stopping is None else stopping.wait,
            steps=self._watch.steps,
            rows=self._watch.rows,
            finished=self.model.stop_training,
        )
        checkpoint.write(self._place, self._settings, state)


def _restore(
    state: State,
    trained: keras.Model,
    patches: Patches,
    watch: _Watch,
    stopping: _EarlyStopping | None,
) -> None:
    """Put everything that a training goes on from back in its place."""
    trained.set_weights(state.network)
    trained.optimizer.build(trained.trainable_variables)
    for variable, value in zip(trained.optimizer.variables, state.optimizer, strict=True):
        variable.assign(value)
    patches.epoch = len(state.rows)
    watch.rows, watch.steps = list(state.rows), state.steps
    if stopping is not None:
        stopping.kept = state
