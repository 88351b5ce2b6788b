"""The state of a training beside its model file: a killed training goes on from it, to the bit.

Keras's own BackupAndRestore is not used: it writes weights and epoch to two files in place, so a
kill between them leaves a pair that do not belong together; it forgets the best weights and how
long early stopping has waited; and it would go on with changed images or settings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from fiji_poreseg import model
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files import DAMAGE_ERRORS, begun, replacing
from fiji_poreseg.journal import Settings, check_same
from fiji_poreseg.resunet import ResUNetModel

Row: TypeAlias = Mapping[str, float]


@dataclass(frozen=True)
class State:
    """A training after a check.

    Parameters
    ----------
    network, optimizer, best
        Arrays in the order of Keras: all weights, the optimizer's variables, and the weights that
        did best (none without validation).
    best_loss, wait
        For early stopping: the best loss, and the checks since.
    steps
        Steps done.
    rows
        What was measured at each check so far.
    finished
        Whether the last step was done or early stopping struck.
    """

    network: Sequence[Any]
    optimizer: Sequence[Any]
    best: Sequence[Any]
    best_loss: float | None
    wait: int
    steps: int
    rows: Sequence[Row]
    finished: bool


_ARRAYS = ("network", "optimizer", "best")


def place(file: Path) -> Path:
    """Where the checkpoint of a model file lies."""
    return file.with_suffix(".checkpoint.npz")


def digest(arrays: Iterable[Any]) -> str:
    """SHA-256 of the values of some arrays."""
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def resumed(file: Path, settings: Settings) -> State | ResUNetModel | None:
    """What there is of a training with these settings: a checkpoint, its result or nothing.

    A model whose training the safety stop cut short, before the first checkpoint, is nothing.

    Raises
    ------
    ParameterError
        If that training had other settings, or a file is damaged.
    """
    if place(file).exists():
        return read(place(file), settings)
    if not file.exists():
        return None
    made = model.load(file)
    if not isinstance(made, ResUNetModel):
        raise ParameterError(
            "model",
            "must be a ResUNet where a training is resumed",
            f"another model in {file}",
            "Name another file, or leave resume out to replace it.",
        )
    check_same(made.training, settings, "training")
    return None if made.card.scores["stopped_by_max_minutes"] else made


def write(path: Path, settings: Settings, state: State) -> None:
    """Write a checkpoint, whole or not at all: plain arrays, and JSON in one of them."""
    arrays = {
        f"{name}.{i:03d}": array for name in _ARRAYS for i, array in enumerate(getattr(state, name))
    }
    told = {name: value for name, value in vars(state).items() if name not in _ARRAYS}
    # In one place, so that what a kill leaves of it goes with the next one.
    with replacing(path, "model", begun(path)) as part, part.open("wb") as stream:
        np.savez(stream, allow_pickle=False, told=np.array(json.dumps([settings, told])), **arrays)


def read(path: Path, settings: Settings) -> State:
    """Read the checkpoint of a training with these settings.

    Raises
    ------
    ParameterError
        If it is damaged, or that training had other settings.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            kept, told = json.loads(str(archive["told"]))
            lists: dict[str, Any] = {
                kind: [archive[name] for name in sorted(archive.files) if name.startswith(kind)]
                for kind in _ARRAYS
            }
        state = State(**lists, **told)
    except DAMAGE_ERRORS as error:
        raise ParameterError(
            "resume",
            "needs a whole checkpoint",
            f"{path} ({type(error).__name__})",
            "It is damaged; delete it, or leave resume out to start anew.",
        ) from error
    check_same(kept, settings, "training")
    return state
