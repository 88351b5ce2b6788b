"""A fitted forest's labels and probabilities: scikit-learn's own to the bit, sooner.

Where numba cannot be imported, or with FIJI_PORESEG_COMPILED=0, scikit-learn gives them itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier

from fiji_poreseg import compiled

Features = npt.NDArray[np.float32]
Block = tuple[slice, Features]

# So many pixels' features stay in a processor's own cache.
_PIXELS_AT_ONCE = 4096
_NODE = np.dtype(
    [
        ("threshold", np.float32),
        ("feature", np.int32),
        ("left", np.int32),
        ("right", np.int32),
        ("nan_left", np.bool_),
    ],
    align=True,
)


class Walk:
    """A forest made ready to be asked; several threads may ask at once.

    Parameters
    ----------
    classifier
        A fitted scikit-learn forest of one output and at most 256 classes.
    factors
        What to multiply the probability of each class by, in the order of `classes_`, before they
        are made to add up to 1; nothing is changed by default.
    """

    def __init__(
        self, classifier: RandomForestClassifier, factors: Sequence[float] | None = None
    ) -> None:
        self._loops = _loops() if compiled.is_on() else None
        self._classifier = classifier
        self._classes = len(classifier.classes_)
        trees = [each.tree_ for each in classifier.estimators_]
        self._bounds = np.cumsum([0, *(tree.node_count for tree in trees)])
        self._depth = max(tree.max_depth for tree in trees)
        self._factors = None if factors is None else np.array(factors)
        values = [self._weighted(tree.value[:, 0]) for tree in trees]
        self._values = np.concatenate(values)
        self._nodes = np.zeros(len(self._values), _NODE)
        self._nodes["threshold"] = _rounded_down(np.concatenate([t.threshold for t in trees]))
        self._nodes["feature"] = np.concatenate([tree.feature for tree in trees])
        self._nodes["left"] = np.concatenate([tree.children_left for tree in trees])
        self._nodes["right"] = np.concatenate([tree.children_right for tree in trees])
        self._nodes["nan_left"] = np.concatenate([t.missing_go_to_left for t in trees])
        most = [np.ptp(of_tree, axis=1).max() for of_tree in values]
        self._rest = np.append(np.cumsum(most[::-1])[::-1], 0.0)

    def probabilities(self, features: Features) -> npt.NDArray[np.float64]:
        """Probabilities of the classes.

        Without factors they equal `predict_proba` with `n_jobs=1` to the bit.

        Parameters
        ----------
        features
            float32, shape (features, pixels); NaN where one is missing, not infinite.

        Returns
        -------
        numpy.ndarray
            float64, shape (classes, pixels), in the order of the forest's `classes_`.
        """
        found = np.empty((self._classes, features.shape[1]))
        for where, block in _blocks(features):
            found[:, where] = self._block_probabilities(block).T
        return found

    def labels(self, features: Features) -> npt.NDArray[np.uint8]:
        """Positions in the forest's `classes_` of the most probable class, the first on a tie.

        Parameters
        ----------
        features
            As for `probabilities`.

        Returns
        -------
        numpy.ndarray
            uint8, shape (pixels,), equal to `predict_proba(...).argmax(axis=1)` without factors.
        """
        found = np.empty(features.shape[1], np.uint8)
        for where, block in _blocks(features):
            if self._loops is None:
                found[where] = self._block_probabilities(block).argmax(axis=1)
            else:
                self._loops.find_labels(
                    block, self._nodes, self._values, self._bounds, self._depth, self._rest,
                    found[where],
                )  # fmt: skip
        return found

    def _block_probabilities(self, block: Features) -> npt.NDArray[np.float64]:
        """Probabilities of shape (pixels, classes)."""
        sums = np.zeros((block.shape[1], self._classes))
        if self._loops is not None:
            self._loops.sum_probabilities(
                block, self._nodes, self._values, self._bounds, self._depth, sums
            )
        else:
            # Not the forest's predict_proba: its threads add the trees up in any order.
            rows = np.ascontiguousarray(block.T)
            for tree in self._classifier.estimators_:
                sums += self._weighted(tree.tree_.predict(rows).reshape(sums.shape))
        if self._factors is None:
            sums /= len(self._classifier.estimators_)
        else:
            sums /= sums.sum(axis=1, keepdims=True)
        return sums

    def _weighted(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """A tree's probabilities, shape (rows, classes), times the factors."""
        return values if self._factors is None else values * self._factors


def _loops() -> ModuleType:
    from fiji_poreseg import partition

    return partition


def _blocks(features: Features) -> Iterator[Block]:
    for start in range(0, features.shape[1], _PIXELS_AT_ONCE):
        where = slice(start, start + _PIXELS_AT_ONCE)
        yield where, np.ascontiguousarray(features[:, where], np.float32)


def _rounded_down(thresholds: npt.NDArray[np.float64]) -> Features:
    """In float32, so that no float32 lies on another side than before."""
    near = thresholds.astype(np.float32)
    return np.where(near > thresholds, np.nextafter(near, np.float32(-np.inf)), near)
