"""What is measured on a segmentation: its porosity, and how far off that may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.stats import t as students_t

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.progress import track
from fiji_poreseg.stack import PORE, SOLID

CONFIDENCE = 0.95
# What the rates of two classes have in common with guessing: they add up to 1.
_LEAST_GAIN = 0.05
# Scores that somebody wrote down with three decimals contradict each other by less.
_ROUNDING = 2e-3

Confusion: TypeAlias = npt.NDArray[np.float64]
"""Shape (slices, 2, 2): in each slice that was held out, as what the true pore and the true solid
were found, pore or solid; in pixels or as shares of the slice."""


class Estimate(NamedTuple):
    """A number and its 95 % interval, `low` to `high`: None where there are too few slices."""

    value: float
    low: float | None
    high: float | None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.4f} (from too few slices for an interval)"
        return f"{self.value:.4f} (95 % interval {self.low:.4f} to {self.high:.4f})"


@dataclass(frozen=True, slots=True)
class Porosity:
    """Share of the pore in one slice: `porosity` from 0 to 1, over `pixels` that hold data."""

    index: int
    porosity: float
    pixels: int


@dataclass(frozen=True, slots=True)
class Measurement:
    """Porosity of each segmented slice, and of the whole.

    Parameters
    ----------
    slices
        One entry for each slice that is segmented.
    corrected
        The porosity of the whole, corrected by what the segmentation has wrong on slices where
        the truth is known; None where that is not.
    """

    slices: tuple[Porosity, ...]
    corrected: Estimate | None = None

    @property
    def porosity(self) -> float:
        """Share of the pore among all pixels that hold data."""
        pixels = [entry.pixels for entry in self.slices]
        return float(np.average([entry.porosity for entry in self.slices], weights=pixels))

    def as_json(self) -> dict[str, object]:
        """What `measure` writes."""
        return {
            "slices": [asdict(entry) for entry in self.slices],
            "porosity": self.porosity,
            "corrected": None if self.corrected is None else self.corrected._asdict(),
        }


def measure(
    segmentation: xr.DataArray, indices: Sequence[int], confusion: Confusion | None = None
) -> Measurement:
    """Measure the porosity of some slices.

    Parameters
    ----------
    segmentation
        uint8, dims ``("z", "y", "x")``; pixels of 0 hold no data and count nothing.
    indices
        0-based slices; those without a segmented pixel are left out.
    confusion
        On slices where the truth is known, to correct the porosity by.

    Raises
    ------
    ParameterError
        If by `confusion` the segmentation is hardly better than guessing.
    """
    found = []
    for index in track(indices, "Measuring"):
        plane = segmentation.isel(z=index).to_numpy()
        pixels = int(np.count_nonzero(plane))
        if pixels:
            found.append(Porosity(index, np.count_nonzero(plane == PORE) / pixels, pixels))
    made = Measurement(tuple(found))
    if confusion is None:
        return made
    return Measurement(made.slices, corrected_porosity(made.porosity, confusion))


def corrected_porosity(apparent: float, confusion: Confusion) -> Estimate:
    """The porosity that a segmentation of known errors comes from.

    Pore that is taken for solid and solid that is taken for pore do not make up for each other;
    how often either happens is known from the slices that were held out (Rogan and Gladen, Am. J.
    Epidemiology 107 (1978), doi 10.1093/oxfordjournals.aje.a112510). It does not matter how much
    of either class was labelled. The interval is the jackknife's, over slices.

    Parameters
    ----------
    apparent
        Share of the pore in the segmentation.
    confusion
        What the segmentation makes of slices where the truth is known.

    Raises
    ------
    ParameterError
        If by `confusion` the segmentation is hardly better than guessing.
    """
    return _jackknifed(lambda part: _porosity(apparent, *_rates(part)), confusion)


def expected_accuracy(apparent: float, confusion: Confusion) -> Estimate:
    """The share of pixels that a segmentation has right, by slices that were held out.

    Parameters
    ----------
    apparent
        Share of the pore in the segmentation.
    confusion
        What the segmentation makes of pixels where the truth is known, however many of either
        class: each counts by the corrected porosity.

    Raises
    ------
    ParameterError
        If by `confusion` the segmentation is hardly better than guessing.
    """

    def accuracy(part: Confusion) -> float:
        pore_right, solid_right = _rates(part)
        porosity = _porosity(apparent, pore_right, solid_right)
        return porosity * pore_right + (1 - porosity) * solid_right

    return _jackknifed(accuracy, confusion)


def confusion_of_scores(rows: Sequence[Mapping[str, Any]]) -> Confusion:
    """The confusion that the scores of `evaluate` hold, as shares of each slice.

    Parameters
    ----------
    rows
        With ``accuracy``, ``porosity`` and ``porosity_truth``, of two classes.

    Raises
    ------
    ValueError
        If they are no shares, or cannot be of one segmentation of two classes.
    """
    made = np.empty((len(rows), 2, 2))
    for place, row in zip(made, rows, strict=True):
        shares = [float(row[name]) for name in ("accuracy", "porosity", "porosity_truth")]
        # Also false for NaN.
        if not all(0 <= share <= 1 for share in shares):
            raise ValueError("accuracy and porosity must be from 0 to 1")
        accuracy, pore, true_pore = shares
        # Right is pore in both or solid in both, and the two differ by what porosity says.
        both_pore = (accuracy - 1 + pore + true_pore) / 2
        place[:] = (
            (both_pore, true_pore - both_pore),
            (pore - both_pore, 1 - true_pore - pore + both_pore),
        )
        if place.min() < -_ROUNDING:
            raise ValueError("accuracy and porosity contradict each other")
    return made


def confusion_of_labels(
    found: Mapping[int, npt.NDArray[np.uint8]], labels: Mapping[int, npt.NDArray[np.uint8]]
) -> Confusion:
    """The confusion on the labelled pixels of some slices, in pixels.

    Parameters
    ----------
    found, labels
        By the slice: its segmentation and its labels, shape (y, x), 0 where nothing is known.
    """
    made = np.zeros((len(found), 2, 2))
    for place, index in zip(made, found, strict=True):
        for row, truth in enumerate((PORE, SOLID)):
            for column, label in enumerate((PORE, SOLID)):
                both = (labels[index] == truth) & (found[index] == label)
                place[row, column] = np.count_nonzero(both)
    return made


def _rates(confusion: Confusion) -> tuple[float, float]:
    """Which share of the true pore, and of the true solid, is found to be it."""
    total = confusion.sum(axis=0)
    known = total.sum(axis=1)
    if not known.all():
        raise ParameterError(
            "scores",
            "must know both pore and solid",
            "slices of one class only",
            "Score slices that hold both.",
        )
    pore_right, solid_right = (total.diagonal() / known).tolist()
    if pore_right + solid_right < 1 + _LEAST_GAIN:
        raise ParameterError(
            "scores",
            "must be of a segmentation that is better than guessing",
            f"{pore_right:.1%} of the pore and {solid_right:.1%} of the solid are right",
            "Nothing can be concluded from it; train another model.",
        )
    return pore_right, solid_right


def _porosity(apparent: float, pore_right: float, solid_right: float) -> float:
    porosity = (apparent - 1 + solid_right) / (pore_right + solid_right - 1)
    return min(1.0, max(0.0, porosity))


def _jackknifed(number: Callable[[Confusion], float], confusion: Confusion) -> Estimate:
    """A share from all slices, and its interval from how it changes without each of them."""
    value = number(confusion)
    slices = len(confusion)
    without: list[float] = []
    with suppress(ParameterError):
        # Where a class is in one slice only, nothing is known without it.
        without += [number(np.delete(confusion, left_out, axis=0)) for left_out in range(slices)]
    if len(without) < 2:
        return Estimate(value, None, None)
    error = np.sqrt((slices - 1) * np.var(without))
    reach = float(error * students_t.ppf((1 + CONFIDENCE) / 2, slices - 1))
    return Estimate(value, max(0.0, value - reach), min(1.0, value + reach))
