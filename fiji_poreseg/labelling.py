"""A forest that learns while somebody labels: what it would make of the slice that is shown."""

from __future__ import annotations

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr
from sklearn.ensemble import RandomForestClassifier

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.features import FeatureBank, FeatureReader, Features
from fiji_poreseg.stack import DEFAULT_CLASSES, spacing_nm
from fiji_poreseg.trees import Walk

T = TypeVar("T")
Labels = npt.NDArray[np.uint8]

LARGEST_SIDE = 2048
# Fewer than a forest that is to be kept has: an answer must come at once.
_TREES, _PIXELS_A_TREE = 40, 10_000
# The features of the slices that were looked at last are kept, the last one in any case.
_KEPT_BYTES = 2**29


class Learnt(NamedTuple):
    """What a forest was grown from: labelled pixels and slices; and how long it took, in s."""

    pixels: int
    slices: int
    seconds: float


class Workbench:
    """The labels so far, and the forest that they make; for one thread at a time.

    Features are computed once for each slice that is looked at. Each class counts the same, however
    much of it is labelled.

    Parameters
    ----------
    stack
        A checked stack.
    classes
        Names of the classes 1, 2, and so on.
    milling
        ``"forward"`` where a larger index lies deeper, else ``"reverse"``.
    seed
        Seed of the trees.

    Raises
    ------
    ParameterError
        If slices are too large to keep the features of one.
    """

    def __init__(
        self,
        stack: xr.DataArray,
        *,
        classes: Sequence[str] = DEFAULT_CLASSES,
        milling: str = "forward",
        seed: int = 0,
    ) -> None:
        height, width = stack.sizes["y"], stack.sizes["x"]
        if height * width > LARGEST_SIDE**2:
            raise ParameterError(
                "image",
                f"must have slices of at most {LARGEST_SIDE} x {LARGEST_SIDE} voxels",
                f"{height} x {width}",
                "Select a part and duplicate it (Image > Duplicate), or label the whole without "
                "an answer and use PoreSeg Train Forest.",
            )
        self.classes = tuple(classes)
        self._reader = FeatureReader(stack, FeatureBank.for_spacing(spacing_nm(stack)), milling)
        self._seed = seed
        self._features: OrderedDict[int, Features] = OrderedDict()
        self._labels: dict[int, Labels] = {}
        self._samples: dict[int, tuple[Features, Labels]] = {}
        self._forest: tuple[Walk, Labels] | None = None
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1)

    def look_at(self, index: int) -> None:
        """Compute the features of a slice, unless they are there."""
        if index in self._features:
            self._features.move_to_end(index)
            return
        bands = list(self._reader.bands())
        parts = self._in_threads(lambda band: self._reader.rows(index, band), bands)
        found = np.concatenate(parts, axis=1)
        self._features[index] = found.reshape(len(found), -1)
        while len(self._features) > max(1, _KEPT_BYTES // found.nbytes):
            self._features.popitem(last=False)

    def learn(self, labels: Mapping[int, Labels]) -> Learnt | None:
        """Grow a forest from labels, those of slices that have changed being looked up anew.

        Parameters
        ----------
        labels
            All there are: by the slice, uint8, shape (y, x), 0 where unlabelled.

        Returns
        -------
        Learnt
            None, and no forest, where fewer than two classes are labelled.
        """
        begun = time.perf_counter()
        for index, plane in labels.items():
            if not np.array_equal(plane, self._labels.get(index, ())):
                self._samples[index] = self._sample(index, plane)
        self._labels = {index: plane.copy() for index, plane in labels.items()}
        self._samples = {index: self._samples[index] for index in labels}
        y = np.concatenate([y for _, y in self._samples.values()] or [np.empty(0, np.uint8)])
        if len(np.unique(y)) < 2:
            self._forest = None
            return None
        x = np.concatenate([x for x, _ in self._samples.values()])
        forest = RandomForestClassifier(
            _TREES,
            min_samples_leaf=3,
            class_weight="balanced",
            max_samples=min(_PIXELS_A_TREE, len(y)),
            n_jobs=-1,
            random_state=self._seed,
        ).fit(x, y)
        forest.set_params(n_jobs=1)
        self._forest = Walk(forest), forest.classes_.astype(np.uint8)
        return Learnt(len(y), len(self._samples), time.perf_counter() - begun)

    def answer(self, index: int) -> Labels | None:
        """What the forest makes of a slice: uint8, shape (y, x), 0 where there is no data.

        None where there is no forest yet.
        """
        if self._forest is None:
            return None
        self.look_at(index)
        walk, classes = self._forest
        features = self._features[index]
        bounds = np.linspace(0, features.shape[1], (os.cpu_count() or 1) + 1).astype(int)
        pieces = [slice(*ends) for ends in pairwise(bounds.tolist())]
        found = np.concatenate(
            self._in_threads(lambda piece: walk.labels(features[:, piece]), pieces)
        )
        answer: Labels = classes[found].reshape(self._reader.slices.shape)
        answer[~self._reader.slices[index].valid] = 0
        return answer

    def close(self) -> None:
        """Let go of what it holds."""
        self._pool.shutdown(cancel_futures=True)
        self._features.clear()

    def _sample(self, index: int, plane: Labels) -> tuple[Features, Labels]:
        """The labelled pixels of a slice: features, shape (pixels, features), and classes."""
        flat = np.where(self._reader.slices[index].valid, plane, 0).ravel()
        where = np.flatnonzero(flat)
        if index in self._features:
            return self._features[index][:, where].T, flat[where]
        return self._reader.pixels(index, where), flat[where]

    def _in_threads(self, work: Callable[[slice], T], parts: Sequence[slice]) -> list[T]:
        return list(self._pool.map(work, parts))
