"""The study of the paper, on any stack: which slices to label, how many, and what each is worth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.evaluation import SliceScore, best_threshold, score_slice
from fiji_poreseg.files import together, write_csv, write_text
from fiji_poreseg.model import digest_of_slices, likeliest
from fiji_poreseg.progress import report, track
from fiji_poreseg.selection import holding
from fiji_poreseg.stack import holds_data, spacing_nm
from fiji_poreseg.studies import summary, tables
from fiji_poreseg.studies.bundle import describe_run
from fiji_poreseg.studies.plan import (
    MODELS,
    STRATEGIES,
    Plan,
    Settings,
    make_plan,
)
from fiji_poreseg.studies.summary import Enough, Finding, Line
from fiji_poreseg.studies.trials import (
    Result,
    only,
    run_trials,
    trained,
    warning_once,
)
from fiji_poreseg.studies.workplace import close_workplace, open_workplace

__all__ = [
    "COMPARISONS",
    "MODELS",
    "STRATEGIES",
    "Settings",
    "Study",
    "make_plan",
    "run",
]

COMPARISONS = ("none", "paper")


@dataclass(frozen=True)
class Study:
    """What `study` answers with; all of it is in its folder, too.

    Parameters
    ----------
    folder
        Where everything is.
    lines
        The rows of the table.
    results
        The scores of each trial, slice by slice.
    errors
        The pore-back report, as `summary.errors` gives it.
    curves
        How many slices are enough; empty where only one number was tried.
    findings
        What of the paper was seen; empty without its four trials.
    human
        The scores of slices that were labelled a second time.
    """

    folder: Path
    lines: Sequence[Line]
    results: Sequence[Result]
    errors: Sequence[Mapping[str, Any]]
    curves: Sequence[Enough]
    findings: Sequence[Finding]
    human: Sequence[SliceScore] = ()

    @property
    def table(self) -> list[dict[str, Any]]:
        """The means: a row for each model, index and score."""
        return tables.short_rows(self.lines)

    @property
    def scores(self) -> list[dict[str, Any]]:
        """A row for each trial, model, repeat and slice, as in ``scores.csv``."""
        return summary.score_rows(self.results, self.human)

    @property
    def verdicts(self) -> list[str]:
        """How many slices are enough, in words."""
        return [curve.verdict for curve in self.curves]


def run(
    stack: xr.DataArray,
    truth: xr.DataArray,
    plan: Plan,
    settings: Settings,
    folder: Path,
    *,
    resume: bool,
    replay: Mapping[str, str],
    relabelled: xr.DataArray | None = None,
) -> Study:
    """Train and score all trials, and leave tables, figures and a report.

    Parameters
    ----------
    stack
        A checked stack.
    truth
        uint8 on its voxels, dims ``("z", "y", "x")``; 0 where nothing is known.
    plan, settings
        What is to be compared: `make_plan` of the settings.
    folder
        Where to write; it exists.
    resume
        Go on with an earlier study of the same images and trainings; trials may be added. Else
        what an earlier one left stays until this one is done.
    replay
        ``command_line`` and ``macro_line`` that do the same.
    relabelled
        Labels of the same slices, or of some of them, made a second time; 0 elsewhere.

    Raises
    ------
    ParameterError
        If what is to be resumed was begun with other images or trainings.
    """
    human = [] if relabelled is None else _labelled_twice(truth, relabelled)
    shared = _shared(stack, truth, settings)
    work = open_workplace(folder, shared, resume=resume)
    results = run_trials(stack, truth, plan, settings, work, resume=resume)
    made = Study(
        folder,
        summary.table(
            plan,
            results,
            _baseline(stack, truth, plan),
            human,
            with_paper=settings.compare == "paper",
        ),
        results,
        summary.errors(plan, results),
        summary.enough(plan, results),
        summary.findings(plan, results),
        human,
    )
    bundle = describe_run(stack, truth, settings, plan, results, shared, replay)
    if relabelled is not None:
        bundle["relabelled"] = {
            "name": str(relabelled.name),
            "slices": [score.index for score in human],
            "sha256": _digest(relabelled, "second labels"),
        }
    _write(made, stack, truth, plan, bundle, work)
    close_workplace(work, folder)
    return made


def _shared(stack: xr.DataArray, truth: xr.DataArray, settings: Settings) -> dict[str, Any]:
    """What every training shares; which trials there are may change, so that more may be asked."""
    return {
        "network": settings.network,
        "context": settings.context,
        "steps": settings.steps,
        "trees": settings.trees,
        "gap": settings.gap,
        "milling": settings.milling,
        "voxel_size_nm": list(spacing_nm(stack)),
        "nodata": stack.attrs.get("nodata"),
        "seed": settings.seed,
        "image": _digest(stack, "image"),
        "truth": _digest(truth, "truth"),
        # Last: whether it fits, and is taken, depends on what stands above.
        "start": None if settings.start is None else settings.start.digest(),
    }


def _digest(image: xr.DataArray, name: str) -> str:
    return digest_of_slices(image, track(range(image.sizes["z"]), f"Reading the {name}"))


def _baseline(stack: xr.DataArray, truth: xr.DataArray, plan: Plan) -> list[SliceScore]:
    """Scores of the best global threshold on the slices that no trial was trained on."""
    threshold = best_threshold(stack, only(truth, plan.unseen))
    grey = stack.isel(c=0) if "c" in stack.dims else stack
    scores = []
    for index in track(plan.unseen, "Scoring the best threshold"):
        true = truth.isel(z=index).to_numpy()
        found = threshold.apply(grey.isel(z=index).to_numpy())
        known = (true > 0) & holds_data(stack, index)
        if known.any():
            scores.append(score_slice(index, found, true, known))
    return scores


def _labelled_twice(truth: xr.DataArray, relabelled: xr.DataArray) -> list[SliceScore]:
    """Scores of a person's second labels of slices, as if they were a prediction."""
    scores = []
    for index in holding(relabelled):
        found, true = (image.isel(z=index).to_numpy() for image in (relabelled, truth))
        known = (found > 0) & (true > 0)
        if known.any():
            scores.append(score_slice(index, found, true, known))
    if not scores:
        raise ParameterError(
            "relabelled",
            "must label slices that the truth labels, too",
            "no pixel that both label",
            "Give the labels that were made a second time of some of the same slices.",
        )
    return scores


def _write(
    made: Study,
    stack: xr.DataArray,
    truth: xr.DataArray,
    plan: Plan,
    bundle: Mapping[str, Any],
    work: Path,
) -> None:
    """Write what a study leaves, the report last, and all of it or nothing."""
    # Matplotlib, like TensorFlow, is loaded by those who need it.
    from fiji_poreseg.studies import drawing
    from fiji_poreseg.studies.html_report import render

    folder, results = made.folder, made.results
    with together():
        write_csv(folder / "scores.csv", made.scores)
        write_csv(folder / "table1.csv", tables.csv_rows(made.lines))
        write_text(folder / "table1.md", tables.markdown(made.lines))
        write_text(folder / "table1.tex", tables.latex(made.lines))
        report("Drawing", 0, 4)
        drawing.scores_by_index(folder / "figure1", plan, results, made.human)
        report("Drawing", 1, 4)
        index = plan.figure2_index
        grey = stack.isel(c=0) if "c" in stack.dims else stack
        drawing.predictions(
            folder / "figure2",
            grey.isel(z=index).to_numpy(),
            truth.isel(z=index).to_numpy(),
            _predicted(work, stack, results, index),
            pixel_nm=spacing_nm(stack)[2],
            title=f"Slice {index} of {stack.name}",
        )
        report("Drawing", 2, 4)
        if made.curves:
            drawing.labels_against_score(folder / "figure3", made.curves)
        report("Drawing", 3, 4)
        drawing.porosity_by_index(folder / "figure4", plan, results)
        report("Drawing", 4, 4)
        write_text(folder / "run.json", json.dumps(bundle, indent=1) + "\n")
        page = render(folder, made.lines, made.errors, made.curves, made.findings, bundle)
        write_text(folder / "report.html", page)
    if not made.curves:
        for suffix in drawing.SUFFIXES:
            (folder / "figure3").with_suffix(suffix).unlink(missing_ok=True)


def _predicted(
    folder: Path, stack: xr.DataArray, results: Sequence[Result], index: int
) -> dict[str, dict[str, np.ndarray[Any, np.dtype[np.uint8]]]]:
    """By model and trial: what the first repeat makes of a slice that it was not trained on."""
    found: dict[str, dict[str, np.ndarray[Any, np.dtype[np.uint8]]]] = {}
    for result in results:
        trial = result.trial
        if trial.repeat == 1 and index in trial.scored:
            with warning_once(results):
                ((_, probabilities),) = trained(trial, folder).predict(stack, [index])
            of_model = found.setdefault(MODELS[trial.model], {})
            of_model[trial.arm.title] = likeliest(probabilities)
    return found
