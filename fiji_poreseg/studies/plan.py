"""What a study trains and scores: its trials, and the slices of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from fiji_poreseg import selection
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.progress import track
from fiji_poreseg.resunet import ResUNetModel
from fiji_poreseg.stack import check_indices, holds_data

BLOCKS = "blocks"
STRATEGIES = (*selection.STRATEGIES, BLOCKS)
MODELS = {"forest": "Random forest", "resunet": "ResUNet"}
# Where in a stack the paper scored: its slices 47, 434 and 598 of 600.
_PAPERS_PLACES = (0.08, 0.72, 0.998)
_PAPERS_INDICES, _PAPERS_SLICES = (47, 434, 598), 600


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked of a study, beside the images.

    Parameters
    ----------
    strategies, counts
        How to choose the slices to train on, and how many; with `BLOCKS` among the strategies
        there is a cross-validation, too.
    models
        Keys of `MODELS`.
    repeats
        Trainings of each kind; they differ in their seeds, which are `seed`, `seed` + 1, ….
    folds, gap
        Of the cross-validation: into how many blocks the labelled slices are cut along z, and
        how many slices beside a block are not trained on, either.
    indices
        0-based slices that the table and the figures show; None for the paper's places.
    compare
        ``"paper"`` puts the paper's numbers beside ours.
    network, context, start, steps
        Of the ResUNet, as `fiji_poreseg.resunet.training.train` takes them.
    trees
        Of the forest.
    milling
        ``"forward"`` or ``"reverse"``.
    seed
        Seed of the first repeat.
    """

    strategies: tuple[str, ...]
    counts: tuple[int, ...]
    models: tuple[str, ...]
    repeats: int
    folds: int
    gap: int
    indices: tuple[int, ...] | None
    compare: str
    network: str
    context: str
    start: ResUNetModel | None
    steps: int
    trees: int
    milling: str
    seed: int


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to choose the slices to train on: a column of the table.

    Parameters
    ----------
    strategy
        One of `STRATEGIES`.
    count
        Slices trained on; for a cross-validation, its blocks.
    """

    strategy: str
    count: int

    @property
    def name(self) -> str:
        """Such as ``"20 initial"``."""
        return f"{self.count} {self.strategy}"

    @property
    def title(self) -> str:
        """As the paper writes it: ``"20 Initial"``."""
        return f"{self.count} {self.strategy.capitalize()}"


@dataclass(frozen=True, slots=True)
class Trial:
    """One training, and the slices that it is scored on.

    Parameters
    ----------
    arm
        How its slices were chosen.
    model
        Key of `MODELS`.
    repeat
        Which of the repeats, from 1.
    fold
        Which block of the cross-validation is scored, from 1; 0 where there is none.
    seed
        Seed of everything random.
    training
        0-based slices that it is trained on.
    scored
        0-based slices that it is scored on: labelled, and none of `training`.
    """

    arm: Arm
    model: str
    repeat: int
    fold: int
    seed: int
    training: tuple[int, ...]
    scored: tuple[int, ...]

    @property
    def title(self) -> str:
        """What a user calls it: ``"20 initial, ResUNet, repeat 1"``."""
        fold = f", block {self.fold}" if self.fold else ""
        return f"{self.arm.name}{fold}, {MODELS[self.model]}, repeat {self.repeat}"

    def file(self, folder: Path, suffix: str) -> Path:
        """One of the files that it leaves."""
        fold = f"-block{self.fold}" if self.fold else ""
        name = f"{self.arm.strategy}-{self.arm.count}{fold}-{self.model}-{self.repeat}"
        return folder / f"{name}{suffix}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All trials of a study, and what they are compared on.

    Parameters
    ----------
    arms
        The columns of the table, in the paper's order: most slices first.
    trials
        Every training.
    labelled
        Slices with a truth.
    unseen
        Those of them that no trial trains on, a cross-validation's aside: the means are over
        these, so that all trials are compared on the same slices.
    places
        By the index asked for, the slice that stands for it: the nearest of `unseen`.
    """

    arms: tuple[Arm, ...]
    trials: tuple[Trial, ...]
    labelled: tuple[int, ...]
    unseen: tuple[int, ...]
    places: Mapping[int, int]

    @property
    def figure2_index(self) -> int:
        """The slice of Figure 2: the last of the table's, as in the paper."""
        return list(self.places.values())[-1]


def make_plan(stack: xr.DataArray, truth: xr.DataArray, settings: Settings) -> Plan:
    """Plan a study.

    Parameters
    ----------
    stack
        A checked stack.
    truth
        uint8, dims ``("z", "y", "x")``, 0 where nothing is known.
    settings
        What is asked for.

    Raises
    ------
    ParameterError
        If there are too few labelled slices for that, or a training would see one class only.
    """
    asked = _asked(stack, settings)
    classes = _classes(stack, truth)
    labelled = tuple(z for z, found in enumerate(classes) if found)
    chosen = {
        Arm(strategy, count): selection.select(stack, strategy, count, labelled)
        for count in sorted(set(_checked_counts(settings, labelled)), reverse=True)
        for strategy in dict.fromkeys(settings.strategies)
        if strategy != BLOCKS
    }
    unseen = tuple(sorted({*labelled}.difference(*chosen.values())))
    if not unseen:
        raise ParameterError(
            "counts",
            "must leave labelled slices that no trial is trained on",
            ",".join(map(str, settings.counts)),
            f"{len(labelled)} slices are labelled: give fewer, or label more.",
        )
    parts = {
        arm: [(0, training, tuple(z for z in labelled if z not in training))]
        for arm, training in chosen.items()
    }
    if BLOCKS in settings.strategies:
        blocks = _blocks(labelled, settings.folds, settings.gap)
        parts[Arm(BLOCKS, settings.folds)] = [
            (fold, training, scored) for fold, (training, scored) in enumerate(blocks, 1)
        ]
    for arm, of_arm in parts.items():
        for _, training, _ in of_arm:
            _check_two(arm, training, classes)
    trials = tuple(
        Trial(arm, model, repeat, fold, settings.seed + repeat - 1, training, scored)
        for repeat in range(1, settings.repeats + 1)
        for arm, of_arm in parts.items()
        for fold, training, scored in of_arm
        for model in dict.fromkeys(settings.models)
    )
    places = {index: min(unseen, key=lambda z: (abs(z - index), z)) for index in asked}
    return Plan(tuple(parts), trials, labelled, unseen, places)


def _asked(stack: xr.DataArray, settings: Settings) -> tuple[int, ...]:
    """The indices of the table: those given, else the paper's, or the like in another stack."""
    slices = stack.sizes["z"]
    if settings.indices is not None:
        asked = check_indices(settings.indices, stack)
    elif slices == _PAPERS_SLICES:
        asked = _PAPERS_INDICES
    else:
        asked = tuple(dict.fromkeys(round(place * (slices - 1)) for place in _PAPERS_PLACES))
    is_papers = settings.indices in (None, _PAPERS_INDICES) and len(asked) == len(_PAPERS_PLACES)
    if settings.compare == "paper" and not is_papers:
        raise ParameterError(
            "compare",
            "needs the paper's three indices",
            f"paper with indices={','.join(map(str, asked))}",
            "Leave indices out.",
        )
    return asked


def _classes(stack: xr.DataArray, truth: xr.DataArray) -> list[frozenset[int]]:
    """Which classes are labelled in each slice, where it holds data."""
    found = []
    for index in track(range(stack.sizes["z"]), "Looking for labels"):
        true = truth.isel(z=index).to_numpy()
        if true.any():
            true = np.where(holds_data(stack, index), true, 0)
        found.append(frozenset(np.unique(true).tolist()) - {0})
    return found


def _checked_counts(settings: Settings, labelled: Sequence[int]) -> tuple[int, ...]:
    if set(settings.strategies) == {BLOCKS}:
        return ()
    if max(settings.counts) >= len(labelled):
        raise ParameterError(
            "counts",
            f"must each be below {len(labelled)}, the number of labelled slices",
            ",".join(map(str, settings.counts)),
            "Give fewer, or strategies=blocks, which leaves out the labelled slices in turn.",
        )
    return settings.counts


def _blocks(
    labelled: Sequence[int], folds: int, gap: int
) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Training and scored slices of each fold of a cross-validation in blocks along z.

    A slice says much about the next ones, so what lies within `gap` of a block is not trained on
    (Roberts et al., Ecography 40 (2017), doi 10.1111/ecog.02881).
    """
    if folds > len(labelled):
        raise ParameterError(
            "folds",
            f"must be at most {len(labelled)}, the number of labelled slices",
            folds,
            "Give fewer, or label more slices.",
        )
    found = []
    for block in np.array_split(np.asarray(labelled), folds):
        training = tuple(z for z in labelled if z < block[0] - gap or z > block[-1] + gap)
        if not training:
            raise ParameterError(
                "gap",
                "must leave labelled slices to train on beside each block",
                gap,
                "Give a smaller gap or more folds, or label slices further apart.",
            )
        found.append((training, tuple(block.tolist())))
    return found


def _check_two(arm: Arm, training: Sequence[int], classes: Sequence[frozenset[int]]) -> None:
    if len(frozenset[int]().union(*(classes[z] for z in training))) < 2:
        raise ParameterError(
            "truth",
            f"must hold pore and solid in the slices that each trial is trained on ({arm.name})",
            f"one class only in {','.join(map(str, training[:20]))}",
            "Give larger counts, another strategy or fewer folds.",
        )
