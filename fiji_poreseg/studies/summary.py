"""What the trials of a study come to: the table, the errors, and how many slices are enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from fiji_poreseg.evaluation import KINDS, SliceScore
from fiji_poreseg.studies import paper
from fiji_poreseg.studies.plan import BLOCKS, MODELS, Arm, Plan
from fiji_poreseg.studies.trials import Result, Row

SCORES = {
    "loss": "Loss",
    "accuracy": "Accuracy",
    "dice_solid": "Dice of the solid",
    "iou_solid": "IoU of the solid",
}
SEEN, NOT_SEEN, UNDECIDED = "Seen", "Not seen", "Undecided"
MEAN = "mean"
HUMAN = "human"
# Less is not worth labelling for: half a point of accuracy.
LEAST_GAIN = 0.005
# At the first slice of the paper, 20 initial and 20 distributed differ by 0.002.
_SIMILAR = 0.01


@dataclass(frozen=True, slots=True)
class Spread:
    """A score over the repeats: its mean, the lowest and the highest."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> Spread | None:
        """Of those values that there are; None where there is none."""
        found = [value for value in values if value is not None]
        return cls(float(np.mean(found)), min(found), max(found)) if found else None

    def __str__(self) -> str:
        if self.low == self.high:
            return f"{self.mean:.3f}"
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"

    @property
    def width(self) -> float:
        """From the lowest to the highest."""
        return self.high - self.low


@dataclass(frozen=True)
class Line:
    """A row of the table.

    Parameters
    ----------
    model
        Key of `MODELS`.
    place
        The index asked for; `MEAN` for the mean over all slices that no trial was trained on.
    index
        The slice that stands for it; None for the mean.
    score
        Key of `SCORES`.
    cells
        By the column: the score over the repeats.
    majority, threshold, human
        Of calling every pixel the slice's most frequent class, of the best global threshold, and
        of the person who labelled slices a second time; None where they have no such score.
    paper
        By the column: what the paper has there.
    """

    model: str
    place: int | str
    index: int | None
    score: str
    cells: Mapping[Arm, Spread | None]
    majority: float | None
    threshold: float | None
    human: float | None = None
    paper: Mapping[Arm, float] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """As the paper writes it: ``"Index-47, Loss"``."""
        if self.index is None:
            return f"Mean, {SCORES[self.score]}"
        stand_in = "" if self.index == self.place else f" (slice {self.index})"
        return f"Index-{self.place}{stand_in}, {SCORES[self.score]}"


def table(
    plan: Plan,
    results: Sequence[Result],
    baseline: Sequence[SliceScore],
    human: Sequence[SliceScore] = (),
    *,
    with_paper: bool,
) -> list[Line]:
    """Table 1.

    Parameters
    ----------
    plan, results
        The study.
    baseline
        Scores of the best global threshold on the slices that no trial was trained on.
    human
        Scores of the slices that were labelled twice.
    with_paper
        Whether the paper's numbers stand beside; its slices are then those of the study, in order.
    """
    thresholds = {score.index: score for score in baseline}
    second = {score.index: score for score in human}
    majorities = majority(results)
    lines = []
    places: list[tuple[int | str, int | None]] = [*plan.places.items(), (MEAN, None)]
    for model in _models(results):
        for position, (place, index) in enumerate(places):
            for score in SCORES:
                numbers = paper.SCORES.get(score, {}) if with_paper and index is not None else {}
                lines.append(
                    Line(
                        model,
                        place,
                        index,
                        score,
                        cells(plan, results, model, score, index),
                        _mean(majorities[z] for z in _at(plan, index))
                        if score == "accuracy"
                        else None,
                        _mean(getattr(thresholds[z], score) for z in _at(plan, index)),
                        _mean(
                            getattr(one, score)
                            for z, one in second.items()
                            if index is None or z == index
                        ),
                        {
                            arm: numbers[arm.strategy, arm.count][position]
                            for arm in plan.arms
                            if (arm.strategy, arm.count) in numbers
                        },
                    )
                )
    return lines


def cells(
    plan: Plan, results: Sequence[Result], model: str, score: str, index: int | None
) -> dict[Arm, Spread | None]:
    """A score of a model for each arm, at a slice or, for None, over all unseen ones."""
    at = set(_at(plan, index))
    return {
        arm: Spread.of(
            _mean(row[score] for row in rows if row["index"] in at)
            for rows in _by_repeat(results, model, arm)
        )
        for arm in plan.arms
    }


def curves(
    plan: Plan, results: Sequence[Result], model: str, arm: Arm, score: str
) -> tuple[list[int], list[Spread | None]]:
    """A score at every slice that the arm was scored on: indices, and the spread over repeats."""
    by_index: dict[int, list[float | None]] = {index: [] for index in plan.labelled}
    for rows in _by_repeat(results, model, arm):
        for row in rows:
            by_index[row["index"]].append(row[score])
    found = {index: Spread.of(values) for index, values in by_index.items()}
    return list(found), list(found.values())


def majority(results: Sequence[Result]) -> dict[int, float]:
    """Accuracy, in each slice that was scored, of calling every pixel its most frequent class.

    It depends on the truth only, so that any trial has it.
    """
    found = {row["index"]: row["majority_accuracy"] for one in results for row in one.rows}
    return dict(sorted(found.items()))


def errors(plan: Plan, results: Sequence[Result]) -> list[dict[str, Any]]:
    """The pore-back report: where each model errs, over the slices that no trial was trained on.

    Returns
    -------
    list of dict
        A row for each model and arm: ``model``, ``trial``, for each of `evaluation.KINDS` the
        share of its pixels that is wrong, ``persistent`` (share of the pixels that are wrong as
        they are in the slice before), ``porosity`` and ``porosity_truth`` of all these slices,
        ``porosity_error`` (the difference) and ``porosity_error_per_slice`` (mean of its size
        in each slice); means over the repeats.
    """
    at = set(plan.unseen)
    made = []
    for model in _models(results):
        for arm in plan.arms:
            of_repeats = [
                _errors([row for row in rows if row["index"] in at])
                for rows in _by_repeat(results, model, arm)
            ]
            made.append(
                {"model": model, "trial": arm.name}
                | {name: _mean(one[name] for one in of_repeats) for name in of_repeats[0]}
            )
    return made


def _errors(rows: Sequence[Row]) -> dict[str, float | None]:
    pixels = [row["pixels"] for row in rows]
    porosity, true = (
        float(np.average([row[name] for row in rows], weights=pixels))
        for name in ("porosity", "porosity_truth")
    )
    shares = {kind: _share(rows, f"{kind}_wrong", f"{kind}_pixels") for kind in KINDS}
    return {
        **shares,
        "persistent": _share(rows, "persistent_wrong", "persistent_pixels"),
        "porosity": porosity,
        "porosity_truth": true,
        "porosity_error": porosity - true,
        "porosity_error_per_slice": _mean(
            abs(row["porosity"] - row["porosity_truth"]) for row in rows
        ),
    }


def _share(rows: Sequence[Row], wrong: str, pixels: str) -> float | None:
    whole = sum(row[pixels] or 0 for row in rows)
    return sum(row[wrong] or 0 for row in rows) / whole if whole else None


@dataclass(frozen=True)
class Enough:
    """How the accuracy of a model grows with the slices that one strategy chooses.

    Parameters
    ----------
    model, strategy
        Which.
    points
        By the number of slices: the accuracy over all slices that no trial was trained on.
    """

    model: str
    strategy: str
    points: Mapping[int, Spread]

    def gain(self, count: int, more: int) -> float:
        """How much more slices gain."""
        return self.points[more].mean - self.points[count].mean

    def matters(self, count: int, more: int) -> bool:
        """Whether more slices gain more than `LEAST_GAIN` and than the repeats differ."""
        spread = max(self.points[count].width, self.points[more].width)
        return self.gain(count, more) > max(LEAST_GAIN, spread)

    @property
    def count(self) -> int:
        """The stop rule: the fewest slices beyond which no tried number gains what matters."""
        return next(
            count
            for count in self.points
            if not any(more > count and self.matters(count, more) for more in self.points)
        )

    @property
    def is_settled(self) -> bool:
        """Whether more were tried, and gained too little."""
        return self.count < max(self.points)

    @property
    def verdict(self) -> str:
        """The answer in a sentence."""
        count, most = self.count, max(self.points)
        who = f"{MODELS[self.model]}, {self.strategy}"
        if self.is_settled:
            gains = " and ".join(
                f"{more} gain {_points(self.gain(count, more))}"
                for more in self.points
                if more > count
            )
            return f"{who}: {count} slices are enough here: {gains}."
        before = max(other for other in self.points if other < most)
        return (
            f"{who}: {most} slices are not shown to be enough: they still gain "
            f"{_points(self.gain(before, most))} over {before}. Try more, such as counts="
            f"{','.join(map(str, self.points))},{2 * most} with resume."
        )


def enough(plan: Plan, results: Sequence[Result]) -> list[Enough]:
    """The curve of labels against score of each model and strategy, where there are two counts."""
    found = []
    for model in _models(results):
        scores = cells(plan, results, model, "accuracy", None)
        for strategy in dict.fromkeys(arm.strategy for arm in plan.arms):
            points = {
                arm.count: spread
                for arm, spread in sorted(scores.items(), key=lambda item: item[0].count)
                if arm.strategy == strategy != BLOCKS and spread is not None
            }
            if len(points) > 1:
                found.append(Enough(model, strategy, points))
    return found


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding of the paper, and whether the study saw it.

    Parameters
    ----------
    model
        Key of `MODELS`.
    text
        What the paper found.
    verdict
        ``"Seen"``; ``"Not seen"``, where the contrary was; or ``"Undecided"``, where the repeats
        differ among themselves by more.
    numbers
        The accuracies that it was read off: mean, and the lowest and the highest of the repeats.
    """

    model: str
    text: str
    verdict: str
    numbers: str


def findings(plan: Plan, results: Sequence[Result]) -> list[Finding]:
    """What the paper found, checked against this study; nothing without its four trials."""
    four = [Arm(strategy, count) for count in (20, 5) for strategy in ("initial", "distributed")]
    if not set(four) <= set(plan.arms) or len(plan.places) < 2:
        return []
    initial, distributed, few_initial, few_distributed = four
    first, *later = plan.places.values()
    checks: list[tuple[str, tuple[Arm, Arm], Sequence[int], Callable[[Spread, Spread], str]]] = [
        (
            f"With 20 slices, initial and distributed ones do alike near the first slices (here "
            f"slice {first}; alike: within {_points(_SIMILAR)}).",
            (initial, distributed),
            (first,),
            _alike,
        ),
        (
            "With 20 slices, distributed ones do better than initial ones farther on (here slices "
            f"{' and '.join(map(str, later))}).",
            (distributed, initial),
            later,
            _better,
        ),
        (
            "With 5 slices, initial ones do better than distributed ones everywhere (here at "
            "every slice of the table).",
            (few_initial, few_distributed),
            (first, *later),
            _better,
        ),
    ]
    found = []
    for model in _models(results):
        for text, (one, other), at, compare in checks:
            pairs = []
            for index in at:
                of_arms = cells(plan, results, model, "accuracy", index)
                left, right = of_arms[one], of_arms[other]
                assert left is not None  # every slice of the table is scored by every arm
                assert right is not None
                pairs.append((index, left, right))
            numbers = "; ".join(
                f"slice {index}: {one.name} {left}, {other.name} {right}"
                for index, left, right in pairs
            )
            verdicts = {compare(left, right) for _, left, right in pairs}
            worst = next(word for word in (NOT_SEEN, UNDECIDED, SEEN) if word in verdicts)
            found.append(Finding(model, text, worst, numbers))
    return found


def _alike(one: Spread, other: Spread) -> str:
    return SEEN if abs(one.mean - other.mean) <= _SIMILAR else NOT_SEEN


def _better(one: Spread, other: Spread) -> str:
    if one.low > other.high:
        return SEEN
    return NOT_SEEN if one.high < other.low else UNDECIDED


def score_rows(results: Sequence[Result], human: Sequence[SliceScore] = ()) -> list[dict[str, Any]]:
    """A row for each trial, model, repeat and slice, as in ``scores.csv``; the person's last."""
    rows = [
        {
            "strategy": result.trial.arm.strategy,
            "count": result.trial.arm.count,
            "block": result.trial.fold or None,
            "model": result.trial.model,
            "repeat": result.trial.repeat,
            "seed": result.trial.seed,
            **row,
            "porosity_error": row["porosity"] - row["porosity_truth"],
        }
        for result in results
        for row in result.rows
    ]
    second = [
        dict.fromkeys(rows[0])
        | asdict(score)
        | {"model": HUMAN, "porosity_error": score.porosity - score.porosity_truth}
        for score in human
    ]
    return [*rows, *second]


def _models(results: Sequence[Result]) -> list[str]:
    return list(dict.fromkeys(result.trial.model for result in results))


def _by_repeat(results: Sequence[Result], model: str, arm: Arm) -> list[list[Row]]:
    """The slices' scores in each repeat; of a cross-validation those of all its blocks."""
    by_repeat: dict[int, list[Row]] = {}
    for result in results:
        if result.trial.model == model and result.trial.arm == arm:
            by_repeat.setdefault(result.trial.repeat, []).extend(result.rows)
    return list(by_repeat.values())


def _at(plan: Plan, index: int | None) -> tuple[int, ...]:
    return plan.unseen if index is None else (index,)


def _mean(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return float(np.mean(found)) if found else None


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"
