"""What speaks against an outcome, and how good it may be expected to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import tee

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg import measurement
from fiji_poreseg.appearance import appearance, outside
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.forest import ForestModel
from fiji_poreseg.measurement import Confusion, Estimate
from fiji_poreseg.model import likeliest
from fiji_poreseg.progress import track
from fiji_poreseg.resunet import ResUNetModel
from fiji_poreseg.slices import evenly
from fiji_poreseg.stack import PORE

# Evenly spaced slices whose looks are compared.
_LOOKED_AT = 100
# Alarms: share of slices unlike the labelled ones, of pixels to which the models give different
# classes, and of pixels that are expected to be wrong.
_MOST_OUTSIDE = 0.3
_MOST_DIFFERENT = 0.15
_MOST_WRONG = 0.07
# By how much better, by the labels, the ResUNet must be that was not trained, to be taken.
_CLEARLY = 0.005


def unlike(stack: xr.DataArray, grown: ForestModel) -> tuple[str, ...]:
    """An alarm, in words, where many slices look unlike those that the forest learnt from."""
    looked_at = evenly(range(stack.sizes["z"]), _LOOKED_AT)
    seen = appearance(stack, track(looked_at, "Looking at slices"))
    how: dict[str, int] = {}
    strange = []
    for index, numbers in seen.items():
        found = outside(numbers, grown.card.appearance)
        if found:
            strange.append(index)
        for one in found:
            how[str(one)] = how.get(str(one), 0) + 1
    if len(strange) <= _MOST_OUTSIDE * len(seen):
        return ()
    words = ", ".join(sorted(how, key=lambda what: -how[what])[:2])
    return (
        f"{len(strange)} of {len(seen)} slices look unlike the labelled ones ({words}): label "
        f"some of them, such as {','.join(map(str, evenly(strange, 3)))}",
    )


@dataclass(frozen=True, slots=True)
class Check:
    """A ResUNet, how good it is, and what speaks against it.

    Parameters
    ----------
    model
        The ResUNet.
    score
        Share of the pixels that is right by the labels alone.
    accuracy
        Expected share of the pixels that is right; None where nothing can be said.
    by_labels
        The same by the labels alone, each class as often as it is found; None where nothing can
        be said.
    confusion
        What it makes of the labelled pixels; None of more than two classes.
    alarms
        In words.
    """

    model: ResUNetModel
    score: float
    accuracy: float | None
    by_labels: Estimate | None
    confusion: Confusion | None
    alarms: tuple[str, ...]


def better(
    candidates: Sequence[ResUNetModel],
    grown: ForestModel,
    stack: xr.DataArray,
    labels: xr.DataArray,
    indices: Sequence[int],
    compared: Sequence[int],
    judge: ResUNetModel | None,
) -> Check:
    """The ResUNet that is better by the labels: the trained one, or that which it started from.

    One with fewer alarms is better; of as many, it must be better by half a point.

    Parameters
    ----------
    candidates
        The two, or one of them.
    grown
        The forest to compare with.
    stack
        A checked stack.
    labels, indices
        Labels that neither has seen, and the slices that hold them.
    compared
        Slices on which ResUNet and forest are compared.
    judge
        The ResUNet that learnt from true labels, and whose probabilities count; None where there
        is none, and each speaks for itself.
    """
    by_forest = dict(grown.predict_labels(stack, compared))
    best, *others = [_check(one, stack, labels, indices, by_forest, judge) for one in candidates]
    for other in others:
        more = len(other.alarms) - len(best.alarms)
        if more < 0 or (more == 0 and other.score > best.score + _CLEARLY):
            best = other
    return best


def _check(
    model: ResUNetModel,
    stack: xr.DataArray,
    labels: xr.DataArray,
    indices: Sequence[int],
    by_forest: Mapping[int, npt.NDArray[np.uint8]],
    judge: ResUNetModel | None,
) -> Check:
    """Compare a ResUNet with the labels, which it was not trained on, and with the forest.

    A probability is there for all pixels, while labels are where a person found it easy to draw.
    So what is expected is the mean probability of the class that is found, but never more than
    the labels leave open. One that learnt from what others found is surer than it is right:
    another one, which learnt from what is true, is asked what it thinks of those classes.
    """
    likely, different, pore = [], [], []
    found = model.predict(stack, list(by_forest))
    if judge is None or judge is model:
        found, judged = tee(found)
    else:
        judged = judge.predict(stack, list(by_forest))
    pairs = zip(found, judged, strict=True)
    for (index, planes), (_, others) in track(pairs, "Comparing the models", len(by_forest)):
        labelled, known = likeliest(planes), ~np.isnan(planes[0])
        if not known.any():
            continue
        of_class = np.take_along_axis(others, np.maximum(labelled, 1)[np.newaxis] - 1, axis=0)[0]
        likely.append(float(of_class[known].mean()))
        different.append(float(np.mean((labelled != by_forest[index])[known])))
        pore.append(float(np.mean((labelled == PORE)[known])))
    alarms = []
    if np.mean(different) > _MOST_DIFFERENT:
        alarms.append(
            f"forest and ResUNet call {np.mean(different):.0%} of the pixels different classes"
        )
    on_labels = dict(model.predict_labels(stack, indices))
    true = {index: labels.isel(z=index).to_numpy() for index in indices}
    right = np.concatenate(
        [(on_labels[z] == true[z])[(true[z] > 0) & (on_labels[z] > 0)] for z in indices]
    )
    by_labels, confusion = Estimate(float(right.mean()), None, None), None
    if len(labels.attrs["classes"]) == 2:
        confusion = measurement.confusion_of_labels(on_labels, true)
        try:
            by_labels = measurement.expected_accuracy(float(np.mean(pore)), confusion)
        except ParameterError as error:
            alarms.append(f"by the labels, {error.value}")
            return Check(model, by_labels.value, None, None, None, tuple(alarms))
    # Without an interval, of more classes or of labels on one slice alone, it is what they say.
    most = by_labels.value if by_labels.high is None else by_labels.high
    expected = min(float(np.mean(likely)), most)
    if expected < 1 - _MOST_WRONG:
        alarms.append(f"{1 - expected:.0%} of the pixels are expected to be wrong")
    return Check(model, by_labels.value, expected, by_labels, confusion, tuple(alarms))
