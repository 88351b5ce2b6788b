"""What is measured on a segmentation: its porosity, and how far off that may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.stats import norm
from scipy.stats import t as students_t

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.progress import track
from fiji_poreseg.stack import PORE, SOLID

CONFIDENCE = 0.95
# What the rates of two classes have in common with guessing: they add up to 1.
_LEAST_GAIN = 0.05
# By which a rate is changed to see what follows from it.
_STEP = 1e-6
# Scores that somebody wrote down with three decimals contradict each other by less.
_ROUNDING = 2e-3


@dataclass(frozen=True, slots=True)
class Confusion:
    """As what true pore and true solid were found, on slices that were held out.

    Parameters
    ----------
    counts
        Shape (slices, 2, 2): in each slice, of the true pore and of the true solid, as much as
        was found pore and as was found solid; in pixels or as shares of the slice.
    in_pixels
        Whether these are pixels. Shares are of whole slices, in which chance plays no part.
    """

    counts: npt.NDArray[np.float64]
    in_pixels: bool


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
    of either class was labelled. The interval is the jackknife's, over slices, and at least what
    so few pixels leave to chance, also where all of them are right (Lang and Reiczigel, Preventive
    Veterinary Medicine 113 (2014), doi 10.1016/j.prevetmed.2013.09.015).

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
    return _estimated(lambda *rates: _porosity(apparent, *rates), confusion)


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

    def accuracy(pore_right: float, solid_right: float) -> float:
        porosity = _share(_porosity(apparent, pore_right, solid_right))
        return porosity * pore_right + (1 - porosity) * solid_right

    return _estimated(accuracy, confusion)


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
    return Confusion(made, in_pixels=False)


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
    return Confusion(made, in_pixels=True)


def _rates(counts: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Which share of the true pore, and of the true solid, is found to be it."""
    total = counts.sum(axis=0)
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
    """The true porosity; beyond 0 and 1 where chance has it so, until an interval is found."""
    return (apparent - 1 + solid_right) / (pore_right + solid_right - 1)


def _share(number: float) -> float:
    return min(1.0, max(0.0, number))


def _estimated(number: Callable[[float, float], float], confusion: Confusion) -> Estimate:
    """A share that follows from which shares of pore and solid are found right."""
    # Slices in which nothing is known are none.
    counts = confusion.counts[confusion.counts.any(axis=(1, 2))]
    rates, slices = _rates(counts), len(counts)
    value = number(*rates)
    without: list[float] = []
    with suppress(ParameterError):
        # Where a class is in one slice only, nothing is known without it.
        without += [
            number(*_rates(np.delete(counts, left_out, axis=0))) for left_out in range(slices)
        ]
    if len(without) < 2:
        return Estimate(_share(value), None, None)
    quantile = (1 + CONFIDENCE) / 2
    reach = students_t.ppf(quantile, slices - 1) * np.sqrt((slices - 1) * np.var(without))
    if confusion.in_pixels:
        reach = max(reach, norm.ppf(quantile) * _chance(number, rates, counts))
    return Estimate(_share(value), _share(value - float(reach)), _share(value + float(reach)))


def _chance(
    number: Callable[[float, float], float],
    rates: tuple[float, float],
    counts: npt.NDArray[np.float64],
) -> float:
    """Standard error of a number if each pixel were found right or wrong by chance alone.

    Two right and two wrong ones are added, so that it is not 0 where none is wrong (Agresti and
    Coull, The American Statistician 52 (1998), doi 10.1080/00031305.1998.10480550).
    """
    known = counts.sum(axis=(0, 2)) + 4
    shares = (np.asarray(rates) * (known - 4) + 2) / known
    slopes = np.array(
        [
            (number(*(rates + step)) - number(*(rates - step))) / (2 * _STEP)
            for step in _STEP * np.eye(2)
        ]
    )
    return float(np.sqrt(np.sum(slopes**2 * shares * (1 - shares) / known)))
