"""The trials of a study: trained, scored slice by slice, and kept so that none is done twice."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg import evaluation, forest
from fiji_poreseg import model as models
from fiji_poreseg.errors import PoreSegWarning
from fiji_poreseg.evaluation import KINDS, Threshold, best_threshold
from fiji_poreseg.files import write_text
from fiji_poreseg.journal import read_kept
from fiji_poreseg.model import Model, likeliest
from fiji_poreseg.progress import part_of, track
from fiji_poreseg.stack import SOLID
from fiji_poreseg.studies.plan import MODELS, Plan, Settings, Trial

Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What a trial came to.

    Parameters
    ----------
    trial
        The trial.
    rows
        Scores of each slice: those of `evaluation.SliceScore`, ``pixels`` scored, for each of
        `evaluation.KINDS` its pixels and the wrong ones, and ``persistent_wrong`` of
        ``persistent_pixels``: pixels that are wrong as they are in the slice before, of those
        scored in both; None where that one is not scored.
    seconds
        What it took; None where it was done before.
    """

    trial: Trial
    rows: Sequence[Row]
    seconds: float | None = None


def run_trials(
    stack: xr.DataArray,
    truth: xr.DataArray,
    plan: Plan,
    settings: Settings,
    folder: Path,
    *,
    resume: bool,
) -> list[Result]:
    """Train and score every trial that is not done.

    Parameters
    ----------
    stack, truth
        The images.
    plan, settings
        The trials, and how they are trained.
    folder
        Where the model and the scores of each are kept.
    resume
        Whether a training that was begun is gone on with.

    Returns
    -------
    list of Result
        In the plan's order.
    """
    done = [_kept(trial, folder) for trial in plan.trials]
    thresholds: dict[tuple[int, ...], Threshold] = {}
    results: list[Result] = []
    for number, trial in enumerate(plan.trials, 1):
        result = done[number - 1]
        if result is None:
            with part_of(_title(number, plan.trials, done)), warning_once(results):
                result = _run(trial, stack, truth, settings, folder, thresholds, resume=resume)
            _keep(result, folder)
            done[number - 1] = result
        results.append(result)
    return results


def trained(trial: Trial, folder: Path) -> Model:
    """The model of a trial that is done."""
    return models.load(trial.file(folder, models.SUFFIX))


def only(truth: xr.DataArray, indices: Sequence[int]) -> xr.DataArray:
    """The truth of some slices; 0 in all others."""
    made = xr.zeros_like(truth)
    made[list(indices)] = truth[list(indices)]
    return made


def _run(
    trial: Trial,
    stack: xr.DataArray,
    truth: xr.DataArray,
    settings: Settings,
    folder: Path,
    thresholds: dict[tuple[int, ...], Threshold],
    *,
    resume: bool,
) -> Result:
    begun = time.monotonic()
    made = _train(trial, stack, truth, settings, trial.file(folder, models.SUFFIX), resume=resume)
    if trial.scored not in thresholds:
        # Without the truth of the slices trained on: nothing of it enters the scores.
        thresholds[trial.scored] = best_threshold(stack, only(truth, trial.scored))
    rows = _score(made, trial, stack, truth, thresholds[trial.scored])
    return Result(trial, rows, time.monotonic() - begun)


def _train(
    trial: Trial,
    stack: xr.DataArray,
    truth: xr.DataArray,
    settings: Settings,
    file: Path,
    *,
    resume: bool,
) -> Model:
    if trial.model == "forest":
        if resume and file.exists():
            return models.load(file)
        made = forest.train(
            stack,
            truth,
            trial.training,
            trees=settings.trees,
            folds=0,
            milling=settings.milling,
            seed=trial.seed,
        )
        made.save(file)
        return made
    # TensorFlow is loaded by what trains with it.
    from fiji_poreseg.resunet.training import train

    return train(
        stack,
        truth,
        trial.training,
        network=settings.network,
        context=settings.context,
        start=settings.start,
        steps=settings.steps,
        milling=settings.milling,
        seed=trial.seed,
        file=file,
        resume=resume,
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """A slice that was scored: which, what is known of it, and what was found where it is wrong."""

    index: int
    known: npt.NDArray[np.bool_]
    wrong: npt.NDArray[np.uint8]


def _score(
    made: Model,
    trial: Trial,
    stack: xr.DataArray,
    truth: xr.DataArray,
    threshold: Threshold,
) -> list[Row]:
    """Score the slices one by one; no segmentation is kept."""
    grey = stack.isel(c=0) if "c" in stack.dims else stack
    rows: list[Row] = []
    before: _Seen | None = None
    predicted = made.predict(stack, trial.scored)
    for index, probabilities in track(predicted, "Scoring", len(trial.scored)):
        found, true = likeliest(probabilities), truth.isel(z=index).to_numpy()
        known = (found > 0) & (true > 0)
        score = evaluation.score_slice(index, found, true, known, probabilities[SOLID - 1])
        simple = threshold.apply(grey.isel(z=index).to_numpy())
        kinds = evaluation.errors_by_kind(found, true, known, simple)
        here = _Seen(index, known, np.where(found != true, found, 0))
        rows.append(
            asdict(score)
            | {"pixels": int(np.count_nonzero(known))}
            | {f"{kind}_pixels": kinds[kind][0] for kind in KINDS}
            | {f"{kind}_wrong": kinds[kind][1] for kind in KINDS}
            | _persistent(before, here)
        )
        before = here
    return rows


def _persistent(before: _Seen | None, here: _Seen) -> dict[str, int | None]:
    """Pixels that are scored here and in the slice before, and those wrong alike in both."""
    if before is None or before.index != here.index - 1:
        return {"persistent_pixels": None, "persistent_wrong": None}
    both = before.known & here.known
    alike = both & (here.wrong > 0) & (here.wrong == before.wrong)
    return {
        "persistent_pixels": int(np.count_nonzero(both)),
        "persistent_wrong": int(np.count_nonzero(alike)),
    }


def _keep(result: Result, folder: Path) -> None:
    """Write down that a trial is done, last of all."""
    content = {
        "training_indices": result.trial.training,
        "seed": result.trial.seed,
        "slices": result.rows,
    }
    write_text(result.trial.file(folder, ".json"), json.dumps(content) + "\n")


def _kept(trial: Trial, folder: Path) -> Result | None:
    """A trial that was done before, on the same slices; what is left of another one is removed."""
    place = trial.file(folder, ".json")
    if not place.exists():
        return None
    content = read_kept(place, "study")
    scored = tuple(row["index"] for row in content["slices"])
    same = tuple(content["training_indices"]) == trial.training and scored == trial.scored
    if same and trial.file(folder, models.SUFFIX).exists():
        return Result(trial, content["slices"])
    place.unlink()
    trial.file(folder, models.SUFFIX).unlink(missing_ok=True)
    return None


def _title(number: int, trials: Sequence[Trial], done: Sequence[Result | None]) -> str:
    """Which trial is at work, and how long all may still take, by those done in this run."""
    title = f"Trial {number} of {len(trials)} ({trials[number - 1].title})"
    left = 0.0
    for model in MODELS:
        taken = [
            one.seconds
            for one in done
            if one is not None and one.seconds is not None and one.trial.model == model
        ]
        waiting = sum(
            one is None and trial.model == model for one, trial in zip(done, trials, strict=True)
        )
        if waiting and not taken:
            return title
        if waiting:
            left += waiting * sum(taken) / len(taken)
    return f"{title}, about {_duration(left)} left"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"


@contextmanager
def warning_once(results: Sequence[Result]) -> Iterator[None]:
    """Let what is done when there are no results yet say what there is to say of the stack."""
    with warnings.catch_warnings():
        if results:
            # The first trial has said it, and each would say the same again.
            warnings.simplefilter("ignore", PoreSegWarning)
        yield
