"""How a forest is grown, and how good it is on what it was not grown on."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
from sklearn.ensemble import RandomForestClassifier
from sklearn.utils.class_weight import compute_sample_weight

from fiji_poreseg import model, prior
from fiji_poreseg.features import FeatureBank, FeatureReader
from fiji_poreseg.forest.forest_model import ForestModel
from fiji_poreseg.forest.sampling import Sample, draw
from fiji_poreseg.progress import report
from fiji_poreseg.slices import training_advice, warn_about_milling
from fiji_poreseg.stack import DEFAULT_CLASSES, spacing_nm

_TREES_AT_ONCE = 5
# More make training and prediction slower than they make them better (docs/forest.md).
PIXELS_A_TREE = 30_000
_FEWEST_TREES_TO_SCORE = 20


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
    sample = draw(reader, labels, indices, pixels, rng, corrections, correction_weight)
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
            "corrected_pixels": int(np.count_nonzero(sample.corrected)) or None,
        },
        packages=("scikit-learn",),
    )
    made = ForestModel(card, bank, classifier)
    if held_out is None or not balanced or class_weights != "auto":
        return made
    known = classifier.classes_.astype(int) - 1
    found = (planes[known] for planes in prior.look(made, stack))
    return replace(made, class_factors=prior.class_factors(found, *held_out))


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
    sample: Sample, folds: int, gap: int, trees: int, *, balanced: bool, seed: int
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


def _fit(
    sample: Sample,
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
        max_samples=min(PIXELS_A_TREE, len(sample.y)),
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
