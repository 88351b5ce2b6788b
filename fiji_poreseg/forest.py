"""The random forest: a pixel classifier over the filter bank, from sparse or dense labels.

Breiman, Random Forests, Machine Learning 45 (2001), doi 10.1023/A:1010933404324, as
scikit-learn's `RandomForestClassifier`, which also splits on missing neighbours.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import xarray as xr
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier
from sklearn.tree._tree import Tree
from sklearn.utils.class_weight import compute_sample_weight

from fiji_poreseg import model, prior, threads
from fiji_poreseg.features import FeatureBank, FeatureReader, Features
from fiji_poreseg.model import Arrays, Card, Contents
from fiji_poreseg.progress import report, track
from fiji_poreseg.slices import training_advice, warn_about_milling
from fiji_poreseg.stack import DEFAULT_CLASSES, check_two_classes, spacing_nm
from fiji_poreseg.trees import Walk

T = TypeVar("T", bound=np.generic)

KIND = "forest"
_TREES_AT_ONCE = 5
# More make training and prediction slower than they make them better (docs/forest.md).
_PIXELS_A_TREE = 30_000
_FEWEST_TREES_TO_SCORE = 20
# Share of the training pixels whose neighbours are cut off at a random depth, as at the ends.
_CUT_SHARE = 0.3
_ROUNDING = 1e-6


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
        return Contents(KIND, settings, _to_arrays(self.classifier))


def train(
    stack: xr.DataArray,
    labels: xr.DataArray,
    indices: Sequence[int],
    *,
    classes: Sequence[str] = DEFAULT_CLASSES,
    trees: int = 100,
    pixels: int = 100_000,
    class_weights: str = "auto",
    folds: int = 3,
    milling: str = "forward",
    seed: int = 0,
    corrections: xr.DataArray | None = None,
    correction_weight: float = 1,
    bank: FeatureBank | None = None,
) -> ForestModel:
    """Train a forest.

    Parameters
    ----------
    stack
        A checked stack.
    labels
        uint8 labels on its voxels, dims ``("z", "y", "x")``; 0 is left out.
    indices
        0-based slices to take labels from.
    classes
        Names of the classes 1, 2, and so on.
    trees
        Number of trees.
    pixels
        How many labelled pixels to draw at most, spread evenly over the slices; two of each
        slice are always drawn. A tree is grown on 30,000 of them at most.
    class_weights
        ``"balanced"`` lets each class count the same, ``"none"`` each pixel; ``"auto"`` balances
        where less than half of the slices is labelled, and where pixels are held out, then expects
        as much of each class as the stack shows (`fiji_poreseg.prior`).
    folds
        In how many blocks along z the labelled slices are left out in turn for the held-out
        score (Roberts et al., Ecography 40 (2017), doi 10.1111/ecog.02881); 0 for none.
    milling
        ``"forward"`` where a larger index lies deeper, else ``"reverse"``.
    seed
        Seed of the draw and of the trees.
    corrections
        uint8, dims ``("z", "y", "x")``: where `labels` are corrected by hand. Those pixels are
        drawn before others.
    correction_weight
        How many times such a pixel counts.
    bank
        The features; `FeatureBank.for_spacing` by default.

    Returns
    -------
    ForestModel
        Its card's scores hold the accuracy out of the bag (None of fewer than 20 trees), whose
        pixels lie beside trained ones, and the accuracy held out: on whole slices, by forests
        trained on those alone that their features do not reach (None where none are left).

    Raises
    ------
    ParameterError
        If fewer than two classes are labelled in those slices.
    """
    warn_about_milling(stack, milling, training_advice(milling))
    bank = bank or FeatureBank.for_spacing(spacing_nm(stack))
    reader = FeatureReader(stack, bank, milling)
    rng = np.random.default_rng(seed)
    sample = _draw(reader, labels, indices, pixels, rng, corrections, correction_weight)
    balanced = model.balances(class_weights, sample.labelled_share)
    classifier = _fit(sample, trees, balanced=balanced, seed=seed)
    held_out = _held_out(sample, folds, reader.reach, trees, balanced=balanced, seed=seed)
    card = model.describe(
        stack,
        labels,
        indices,
        classes=classes,
        milling=milling,
        seed=seed,
        scores={
            "out_of_bag_accuracy": _out_of_bag(classifier),
            "held_out_accuracy": None if held_out is None else held_out.accuracy,
            "pixels": len(sample.y),
            "corrected_pixels": int(np.count_nonzero(sample.weights != 1)) or None,
        },
        packages=("scikit-learn",),
    )
    made = ForestModel(card, bank, classifier)
    if held_out is None or not balanced or class_weights != "auto":
        return made
    known = classifier.classes_.astype(int) - 1
    found = (planes[known] for planes in prior.look(made, stack))
    return replace(made, class_factors=prior.class_factors(found, *held_out))


class _Sample(NamedTuple):
    """Labelled pixels: their features `x`, classes `y` and slices `z`.

    `weights` is how much each counts, `whole` says where no neighbour was hidden, and
    `labelled_share` is that of the slices' pixels.
    """

    x: Features
    y: npt.NDArray[np.uint8]
    z: npt.NDArray[np.intp]
    weights: npt.NDArray[np.float64]
    whole: npt.NDArray[np.bool_]
    labelled_share: float

    def of(self, chosen: npt.NDArray[np.bool_]) -> _Sample:
        """Some of the pixels."""
        return _Sample(
            self.x[chosen],
            self.y[chosen],
            self.z[chosen],
            self.weights[chosen],
            self.whole[chosen],
            self.labelled_share,
        )


def _draw(
    reader: FeatureReader,
    labels: xr.DataArray,
    indices: Sequence[int],
    pixels: int,
    rng: np.random.Generator,
    corrections: xr.DataArray | None,
    correction_weight: float,
) -> _Sample:
    """Draw labelled pixels, as many from each slice as there are to have, corrected ones first."""
    x, y, z, weights, whole, labelled = [], [], [], [], [], []
    share = max(2, pixels // len(indices))
    for index in track(indices, "Computing features"):
        plane = labels.isel(z=index).to_numpy().ravel()
        valid = reader.slices[index].valid.ravel()
        where = np.flatnonzero((plane > 0) & valid)
        by_hand = np.zeros(plane.shape, bool)
        if corrections is not None:
            by_hand = corrections.isel(z=index).to_numpy().ravel() > 0
        # A slice with corrections alone says nothing about how densely the others are labelled.
        if not by_hand[where].all():
            labelled.append(len(where) / max(1, int(np.count_nonzero(valid))))
        if len(where) > share:
            first = where[by_hand[where]]
            first = rng.choice(first, share, replace=False) if len(first) > share else first
            others = rng.choice(where[~by_hand[where]], share - len(first), replace=False)
            where = np.sort(np.concatenate([first, others]))
        hidden = _cut(reader.bank.offsets_nm, len(where), rng)
        x.append(reader.pixels(index, where, hidden))
        y.append(plane[where])
        z.append(np.full(len(where), index))
        weights.append(np.where(by_hand[where], float(correction_weight), 1.0))
        whole.append(~hidden.any(axis=0))
    found = np.concatenate(y)
    check_two_classes(np.unique(found).tolist(), labels.attrs["classes"])
    return _Sample(
        np.concatenate(x),
        found,
        np.concatenate(z),
        np.concatenate(weights),
        np.concatenate(whole),
        float(np.mean(labelled or [0])),
    )


class _HeldOut(NamedTuple):
    """Pixels that a forest was not trained on: probabilities, shape (classes, pixels), and truth.

    Both count the classes that are labelled, from 0.
    """

    probabilities: npt.NDArray[np.float64]
    truth: npt.NDArray[np.intp]

    @property
    def accuracy(self) -> float:
        """Share of them that is right."""
        return float(np.mean(self.probabilities.argmax(axis=0) == self.truth))


def _held_out(
    sample: _Sample, folds: int, gap: int, trees: int, *, balanced: bool, seed: int
) -> _HeldOut | None:
    """What forests say of slices that were left out in turn, and with them those up to `gap` away.

    The forests that are trained for it share the trees, so that it takes about as long as the
    forest itself.
    """
    slices, classes = np.unique(sample.z), np.unique(sample.y)
    found, truth = [], []
    blocks = np.array_split(slices, min(folds, len(slices))) if folds else []
    for number, block in enumerate(blocks, 1):
        near = (sample.z >= block[0] - gap) & (sample.z <= block[-1] + gap)
        test = sample.of(np.isin(sample.z, block) & sample.whole)
        rest = sample.of(~near)
        if len(np.unique(rest.y)) < 2 or not len(test.y):
            continue
        fewer = max(_FEWEST_TREES_TO_SCORE, trees // len(blocks))
        step = f"Growing trees to score, block {number} of {len(blocks)}"
        classifier = _fit(rest, fewer, balanced=balanced, seed=seed, step=step, scored=False)
        planes = np.zeros((len(classes), len(test.y)))
        planes[np.searchsorted(classes, classifier.classes_)] = classifier.predict_proba(test.x).T
        found.append(planes)
        truth.append(np.searchsorted(classes, test.y))
    return _HeldOut(np.concatenate(found, axis=1), np.concatenate(truth)) if found else None


def _cut(
    offsets_nm: Sequence[float], pixels: int, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Which neighbours to hide: for some pixels all beyond a random depth, below or above."""
    offsets = np.array(offsets_nm)[:, np.newaxis]
    side = rng.choice([1, -1], pixels)
    depth = rng.choice(np.abs(offsets_nm), pixels) * rng.integers(0, 2, pixels)
    cut = rng.random(pixels) < _CUT_SHARE
    return np.asarray(cut & (offsets * side > depth))


def _fit(
    sample: _Sample,
    trees: int,
    *,
    balanced: bool,
    seed: int,
    step: str = "Growing trees",
    scored: bool = True,
) -> RandomForestClassifier:
    """Grow a forest a few trees at a time: there is progress to see, and a place to stop."""
    classifier = RandomForestClassifier(
        0,
        min_samples_leaf=3,
        max_features="sqrt",
        max_samples=min(_PIXELS_A_TREE, len(sample.y)),
        oob_score=False,
        warm_start=True,
        n_jobs=-1,
        random_state=seed,
    )
    weights = compute_sample_weight("balanced", sample.y) if balanced else None
    if (sample.weights != 1).any():
        weights = sample.weights if weights is None else sample.weights * weights
    report(step, 0, trees)
    for grown in range(_TREES_AT_ONCE, trees + _TREES_AT_ONCE, _TREES_AT_ONCE):
        count = min(grown, trees)
        # The out-of-bag score of all trees is taken with the last ones.
        last = count == trees >= _FEWEST_TREES_TO_SCORE
        classifier.set_params(n_estimators=count, oob_score=scored and last)
        with warnings.catch_warnings():
            # One pixel in ten thousand may be in the bag of each of 20 trees.
            warnings.filterwarnings("ignore", "Some inputs do not have OOB scores")
            classifier.fit(sample.x, sample.y, sample_weight=weights)
        report(step, count, trees)
    classifier.set_params(n_jobs=1, warm_start=False)
    return classifier


def _out_of_bag(classifier: RandomForestClassifier) -> float | None:
    return float(classifier.oob_score_) if classifier.oob_score else None


_FIELDS = (
    "left_child",
    "right_child",
    "feature",
    "threshold",
    "impurity",
    "n_node_samples",
    "weighted_n_node_samples",
    "missing_go_to_left",
)


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


def _to_arrays(classifier: RandomForestClassifier) -> Arrays:
    """The trees as plain arrays, one tree after another."""
    states = [tree.tree_.__getstate__() for tree in classifier.estimators_]
    nodes = np.concatenate([state["nodes"] for state in states])
    return {
        "node_count": np.array([len(state["nodes"]) for state in states]),
        "max_depth": np.array([state["max_depth"] for state in states]),
        "values": np.concatenate([state["values"] for state in states]),
        **{name: np.ascontiguousarray(nodes[name]) for name in _FIELDS},
    }


def _from_arrays(
    arrays: Arrays, classes: npt.NDArray[Any], features: int
) -> RandomForestClassifier:
    """A fitted scikit-learn forest from plain arrays."""
    trees = []
    stops = np.cumsum(arrays["node_count"])
    for start, stop, depth in zip(
        stops - arrays["node_count"], stops, arrays["max_depth"], strict=True
    ):
        parts = {name: arrays[name][start:stop] for name in _FIELDS}
        trees.append(_tree(parts, arrays["values"][start:stop], int(depth), len(classes), features))
    forest = RandomForestClassifier(len(trees), n_jobs=1)
    forest.estimator_ = DecisionTreeClassifier()
    forest.estimators_ = trees
    forest.classes_ = classes
    forest.n_classes_ = len(classes)
    forest.n_outputs_ = 1
    forest.n_features_in_ = features
    return forest


def _tree(
    parts: Arrays, values: npt.NDArray[np.float64], depth: int, classes: int, features: int
) -> DecisionTreeClassifier:
    count = len(values)
    _check_nodes(parts, values, features)
    if depth != _depth(parts):
        raise ValueError("a tree is not as deep as it says")
    empty = Tree(features, np.array([classes], np.intp), 1)
    nodes = np.zeros(count, empty.__getstate__()["nodes"].dtype)
    for name in _FIELDS:
        nodes[name] = parts[name]
    empty.__setstate__(
        {
            "max_depth": depth,
            "node_count": count,
            "nodes": nodes,
            "values": np.ascontiguousarray(values, np.float64),
        }
    )
    tree = DecisionTreeClassifier()
    tree.tree_ = empty
    tree.n_features_in_ = features
    tree.n_outputs_ = 1
    tree.n_classes_ = classes
    tree.classes_ = np.arange(classes)
    return tree


def _depth(parts: Arrays) -> int:
    """How many tests lead to the deepest leaf of a tree whose nodes are checked."""
    depth, level = 0, np.array([0])
    while True:
        level = level[parts["left_child"][level] != -1]
        if not len(level):
            return depth
        level = np.concatenate([parts["left_child"][level], parts["right_child"][level]])
        depth += 1


def _check_nodes(parts: Arrays, values: npt.NDArray[np.float64], features: int) -> None:
    """Refuse trees that would lead outside of arrays or round in circles, or are no trees."""
    count = len(values)
    order = np.arange(count)
    left, right = parts["left_child"], parts["right_child"]
    leaf = left == -1
    inner = ~leaf
    for child in (left[inner], right[inner]):
        if ((child <= order[inner]) | (child >= count)).any():
            raise ValueError("a tree has a node that leads nowhere")
    children = np.concatenate([left[inner], right[inner]])
    if len(np.unique(children)) != len(children):
        raise ValueError("a tree has a node that two lead to")
    tested = parts["feature"][inner]
    if ((tested < 0) | (tested >= features)).any():
        raise ValueError("a tree asks for a feature that there is not")
    # Infinite is the threshold between what is missing and what is not.
    threshold = parts["threshold"]
    if not (np.isinf(threshold) | (np.abs(threshold) < np.finfo(np.float32).max)).all():
        raise ValueError("a tree compares with what is no number")
    if not ((values >= 0) & (values <= 1 + _ROUNDING)).all():
        raise ValueError("a tree answers with what is no probability")


def _read(card: Card, settings: Mapping[str, Any], arrays: Arrays) -> ForestModel:
    bank = FeatureBank.from_settings(settings["bank"])
    features = len(bank.names(card.detectors))
    classes = np.array(settings["classes_found"], np.uint8)
    if not ((classes >= 1) & (classes <= len(card.classes))).all():
        raise ValueError("the trees know a class that the model does not name")
    factors = settings.get("class_factors")
    if factors is not None:
        factors = tuple(map(float, factors))
        if len(factors) != len(classes) or not all(0 < factor <= 1 for factor in factors):
            raise ValueError("its class factors are not one for each class, from 0 to 1")
    return ForestModel(card, bank, _from_arrays(arrays, classes, features), factors)


model.register_kind(KIND, _read)
