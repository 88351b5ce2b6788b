"""How large a share each class has in a stack, by a model that was told nothing about it.

A model answers as if the classes were as frequent as where it learnt them. Scribbles, as much of
either class, teach it that half of a membrane is solid. What is held out says how far its answers
can be believed; the shares under which they are likeliest are then found without any truth:
Saerens, Latinne, Decaestecker, Neural Computation 14 (2002), doi 10.1162/089976602753284446, after
the calibration of Alexandari, Kundaje, Shrikumar, arXiv 1901.06852.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from fiji_poreseg.appearance import middle
from fiji_poreseg.errors import PoreSegWarning
from fiji_poreseg.model import Model
from fiji_poreseg.progress import track
from fiji_poreseg.slices import evenly

Probabilities = npt.NDArray[np.floating]

# As many evenly spaced slices are looked at, and pixels of each.
_SLICES, _PIXELS = 12, 20_000
# Of a class with fewer pixels held out, nothing is concluded.
_FEWEST_PIXELS = 30
# What was labelled is somewhere in the stack.
_LEAST_SHARE = 0.005
_CLOSE, _MOST_ROUNDS = 1e-5, 500
# A forest's leaf knows of a few pixels only: nothing is quite impossible.
_LEAST_PROBABILITY = 1e-3
_SHARPNESS = (0.05, 20.0)


def look(model: Model, stack: xr.DataArray) -> Iterator[npt.NDArray[np.float32]]:
    """Yield what a model that is just trained finds in the middle of some slices.

    Parameters
    ----------
    model, stack
        The model, and the stack that it was trained on.

    Yields
    ------
    numpy.ndarray
        Probabilities, shape (classes, y, x); NaN where there is no data.
    """
    part = stack.isel(middle(stack))
    indices = evenly(range(part.sizes["z"]), _SLICES, inner=True)
    with warnings.catch_warnings():
        # What there is to say of the stack has been said.
        warnings.simplefilter("ignore", PoreSegWarning)
        found = model.predict(part, indices)
        for _, planes in track(found, "Looking for each class's share", len(indices)):
            yield planes


def class_factors(
    found: Iterable[Probabilities], held_out: Probabilities, truth: npt.NDArray[np.integer]
) -> tuple[float, ...] | None:
    """What to multiply a model's probabilities by, to be those of a stack.

    Parameters
    ----------
    found
        Of some slices of the stack, each of shape (classes, y, x); NaN where there is no data.
        Nothing is asked for where there is no answer.
    held_out, truth
        Probabilities of labelled pixels that the model was not trained on, shape (classes,
        pixels), and the position of the class of each, shape (pixels,).

    Returns
    -------
    tuple of float
        One for each class, the largest 1; None where fewer than 30 pixels of a class are held out.
    """
    counts = np.bincount(truth, minlength=len(held_out))
    if counts.min() < _FEWEST_PIXELS:
        return None
    sharpness, bias = _calibration(_logs(held_out), truth, counts)
    pixels = np.concatenate([_sample(planes) for planes in found], axis=1)
    shares = _shares(softmax(sharpness * _logs(pixels) + bias, axis=0))
    # What is largest after calibration is so for these factors of the probabilities themselves.
    logs = (bias[:, 0] + np.log(shares)) / sharpness
    return tuple(np.exp(logs - logs.max()).clip(1e-9).tolist())


def _logs(probabilities: Probabilities) -> npt.NDArray[np.float64]:
    return np.log(np.clip(probabilities, _LEAST_PROBABILITY, 1).astype(np.float64))


def _calibration(
    logs: npt.NDArray[np.float64], truth: npt.NDArray[np.integer], counts: npt.NDArray[np.integer]
) -> tuple[float, npt.NDArray[np.float64]]:
    """By what to multiply log-probabilities, and what to add, where classes count the same.

    It is the likeliest answer; `bias` has the shape (classes, 1).
    """
    weights = 1 / (len(counts) * counts[truth])

    def split(numbers: npt.NDArray[np.float64]) -> tuple[float, npt.NDArray[np.float64]]:
        return float(numbers[0]), np.append(0.0, numbers[1:])[:, np.newaxis]

    def surprise(numbers: npt.NDArray[np.float64]) -> float:
        sharpness, bias = split(numbers)
        expected = log_softmax(sharpness * logs + bias, axis=0)
        return -float(np.sum(weights * np.take_along_axis(expected, truth[np.newaxis], 0)[0]))

    begin = np.append(1.0, np.zeros(len(counts) - 1))
    bounds = [_SHARPNESS] + [(-10.0, 10.0)] * (len(counts) - 1)
    return split(minimize(surprise, begin, method="L-BFGS-B", bounds=bounds).x)


def _shares(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The share of each class under which these answers of an impartial model are likeliest."""
    classes = len(probabilities)
    shares = np.full(classes, 1 / classes)
    for _ in range(_MOST_ROUNDS if probabilities.size else 0):
        weighted = probabilities * shares[:, np.newaxis]
        new = np.maximum((weighted / weighted.sum(axis=0)).mean(axis=1), _LEAST_SHARE)
        before, shares = shares, new / new.sum()
        if np.abs(shares - before).max() < _CLOSE:
            break
    return np.asarray(shares)


def _sample(planes: Probabilities) -> Probabilities:
    """Some of the pixels that hold data, evenly spread, shape (classes, pixels)."""
    rows = planes.reshape(len(planes), -1)
    rows = rows[:, ~np.isnan(rows[0])]
    return rows[:, :: max(1, rows.shape[1] // _PIXELS)]
