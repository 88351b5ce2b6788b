"""A trained forest, what it says of a stack, and what its file holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr
from sklearn.ensemble import RandomForestClassifier

from fiji_poreseg import model, threads
from fiji_poreseg.features import FeatureBank, FeatureReader, Features
from fiji_poreseg.forest.tree_arrays import from_arrays, to_arrays
from fiji_poreseg.model import Arrays, Card, Contents
from fiji_poreseg.trees import Walk

T = TypeVar("T", bound=np.generic)

_KIND = "forest"


@dataclass(frozen=True)
class ForestModel(model.Model):
    """A trained forest.

    Parameters
    ----------
    card
        What every model says of itself.
    bank
        The features it was trained on.
    classifier
        The fitted scikit-learn forest; its classes are 1 for pore, 2 for solid, and so on.
    class_factors
        What to multiply the probability of each class that it knows by, where it learnt from
        scribbles (`fiji_poreseg.prior`); None for nothing.
    """

    bank: FeatureBank
    classifier: RandomForestClassifier
    class_factors: tuple[float, ...] | None = None

    @property
    def importances(self) -> dict[str, float]:
        """How much each feature lowered the impurity of the classes in training (Breiman 2001).

        By the feature's name, largest first; they add up to 1. Features that say the same share
        what they are worth.
        """
        names = self.bank.names(self.card.detectors)
        shares = zip(names, map(float, self.classifier.feature_importances_), strict=True)
        return dict(sorted(shares, key=lambda share: -share[1]))

    def predict(
        self, stack: xr.DataArray, indices: Sequence[int]
    ) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Yield (index, probabilities) slice by slice, as `Model.predict` says."""
        yield from self._slice_by_slice(stack, indices, self._probabilities)

    def predict_labels(
        self, stack: xr.DataArray, indices: Sequence[int]
    ) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Yield (index, labels) slice by slice, as `Model.predict_labels` says, but sooner."""
        yield from self._slice_by_slice(stack, indices, self._labels)

    def _slice_by_slice(
        self,
        stack: xr.DataArray,
        indices: Sequence[int],
        work: Callable[[FeatureReader, int], npt.NDArray[T]],
    ) -> Iterator[tuple[int, npt.NDArray[T]]]:
        """Do some work on each slice, in threads: a slice goes through the trees on one."""
        self.check(stack)
        reader = FeatureReader(stack, self.bank, self.card.milling, self.card.normalisation)
        yield from threads.in_order(partial(work, reader), indices)

    def reach(self, stack: xr.DataArray) -> tuple[int, int]:
        """How many slices before, and how many after a slice its features look at."""
        return self.bank.reach(stack, self.card.milling)

    @cached_property
    def _walk(self) -> Walk:
        return Walk(self.classifier, self.class_factors)

    def _probabilities(self, reader: FeatureReader, index: int) -> npt.NDArray[np.float32]:
        rows, columns = reader.slices.shape
        made = np.zeros((len(self.card.classes), rows, columns), np.float32)
        for band, features in _bands(reader, index):
            found = _rounded(self._walk.probabilities(features))
            made[self._classes - 1, band] = found.reshape(len(found), -1, columns)
        made[:, ~reader.slices[index].valid] = np.nan
        return made

    def _labels(self, reader: FeatureReader, index: int) -> npt.NDArray[np.uint8]:
        made = np.empty(reader.slices.shape, np.uint8)
        for band, features in _bands(reader, index):
            found = self._classes[self._walk.labels(features)]
            made[band] = found.reshape(-1, made.shape[1])
        made[~reader.slices[index].valid] = 0
        return made

    @property
    def _classes(self) -> npt.NDArray[np.intp]:
        """The classes that the trees know."""
        return np.asarray(self.classifier.classes_, np.intp)

    def contents(self) -> Contents:
        """What its file holds beside the card."""
        settings = {
            "bank": self.bank.settings,
            "classes_found": self.classifier.classes_.tolist(),
            "class_factors": self.class_factors,
            "features": self.bank.names(self.card.detectors),
        }
        return Contents(_KIND, settings, to_arrays(self.classifier))


def _bands(reader: FeatureReader, index: int) -> Iterator[tuple[slice, Features]]:
    """Rows of a slice, few enough to hold, and their features, shape (features, pixels)."""
    for band in reader.bands():
        features = reader.rows(index, band)
        yield band, features.reshape(len(features), -1)


def _rounded(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """In float32, and the likeliest class of each pixel still the likeliest."""
    made = probabilities.astype(np.float32)
    likeliest = probabilities.argmax(axis=0)
    lost = np.flatnonzero(made.argmax(axis=0) != likeliest)
    winner = likeliest[lost]
    made[winner, lost] = np.nextafter(made[winner, lost], np.float32(1))
    return made


def _read(card: Card, settings: Mapping[str, Any], arrays: Arrays) -> ForestModel:
    bank = FeatureBank.from_settings(settings["bank"])
    model.check_reach(card, bank.lengths_nm)
    features = len(bank.names(card.detectors))
    classes = np.array(settings["classes_found"], np.uint8)
    if not ((classes >= 1) & (classes <= len(card.classes))).all():
        raise ValueError("the trees know a class that the model does not name")
    factors = settings.get("class_factors")
    if factors is not None:
        factors = tuple(map(float, factors))
        if len(factors) != len(classes) or not all(0 < factor <= 1 for factor in factors):
            raise ValueError("its class factors are not one for each class, from 0 to 1")
    return ForestModel(card, bank, from_arrays(arrays, classes, features), factors)


model.register_kind(_KIND, _read)
