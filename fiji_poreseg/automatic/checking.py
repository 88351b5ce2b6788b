"""What speaks against an outcome, and how good it may be expected to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
    confusion
        What it makes of the labelled pixels; None of more than two classes.
    alarms
        In words.
    """

    model: ResUNetModel
    score: float
    accuracy: Estimate | None
    confusion: Confusion | None
    alarms: tuple[str, ...]


def better(
    candidates: Sequence[ResUNetModel],
    grown: ForestModel,
    stack: xr.DataArray,
    labels: xr.DataArray,
    indices: Sequence[int],
    compared: Sequence[int],
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
    """
    by_forest = dict(grown.predict_labels(stack, compared))
    best, *others = [_check(one, stack, labels, indices, by_forest) for one in candidates]
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
) -> Check:
    """Compare a ResUNet with the labels, which it was not trained on, and with the forest.

    How sure it is of each pixel is known of all pixels, while labels are where a person found it
    easy to draw. So that is what is expected, but never more than the labels leave open.
    """
    sure, different, pore = [], [], []
    found = model.predict(stack, list(by_forest))
    for index, planes in track(found, "Comparing the models", len(by_forest)):
        labelled, known = likeliest(planes), ~np.isnan(planes[0])
        if not known.any():
            continue
        sure.append(float(planes.max(axis=0)[known].mean()))
        different.append(float(np.mean((labelled != by_forest[index])[known])))
        pore.append(float(np.mean((labelled == PORE)[known])))
    on_labels = dict(model.predict_labels(stack, indices))
    true = {index: labels.isel(z=index).to_numpy() for index in indices}
    right = np.concatenate(
        [(on_labels[z] == true[z])[(true[z] > 0) & (on_labels[z] > 0)] for z in indices]
    )
    score, confusion = float(right.mean()), None
    expected = Estimate(float(np.mean(sure)), None, None)
    alarms = []
    if np.mean(different) > _MOST_DIFFERENT:
        alarms.append(
            f"forest and ResUNet call {np.mean(different):.0%} of the pixels different classes"
        )
    if len(labels.attrs["classes"]) == 2:
        confusion = measurement.confusion_of_labels(on_labels, true)
        try:
            by_labels = measurement.expected_accuracy(float(np.mean(pore)), confusion)
        except ParameterError as error:
            return Check(model, score, None, None, (*alarms, f"by the labels, {error.value}"))
        score, (_, low, high) = by_labels.value, by_labels
        if low is not None and high is not None:
            value = min(expected.value, high)
            expected = Estimate(value, min(value, low), high)
    if expected.high is None:
        # Of more classes, or of labels on one slice alone, there is no interval.
        expected = Estimate(min(expected.value, score), None, None)
    if expected.value < 1 - _MOST_WRONG:
        alarms.append(f"{1 - expected.value:.0%} of the pixels are expected to be wrong")
    return Check(model, score, expected, confusion, tuple(alarms))
