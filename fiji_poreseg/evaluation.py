"""Scores of a segmentation against the truth, slice by slice.

At 80 % porosity "all pore" already scores an accuracy of 0.80. So the accuracy of the majority
class, and the Dice and IoU of the solid, stand beside every accuracy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.ndimage import generate_binary_structure, grey_dilation, grey_erosion

from fiji_poreseg import threads
from fiji_poreseg.cluster import Place, Travelling, spread
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.progress import track
from fiji_poreseg.stack import PORE, SOLID, holds_data

# A probability of 0 for what is true would make the loss infinite.
_LEAST_PROBABILITY = 1e-7
_BINS = 65536
# What a pixel may be, for `errors_by_kind`.
KINDS = ("pore_back", "open_pore", "solid", "edge")

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SliceScore:
    """Scores of one slice over the pixels that have a truth.

    Parameters
    ----------
    index
        The slice, 0-based.
    accuracy
        Share of pixels that are right.
    loss
        Cross-entropy in nats, the probability clipped at 1e-7; None without a probability.
    majority_accuracy
        Accuracy of calling every pixel the class that is most frequent in the slice.
    dice_solid, iou_solid
        Overlap of the solid: 2 TP / (2 TP + FP + FN) and TP / (TP + FP + FN); None where
        neither has any solid.
    porosity, porosity_truth
        Share of the pore in the segmentation and in the truth.
    """

    index: int
    accuracy: float
    loss: float | None
    majority_accuracy: float
    dice_solid: float | None
    iou_solid: float | None
    porosity: float
    porosity_truth: float


@dataclass(frozen=True, slots=True)
class Threshold:
    """One grey value for a whole raw stack, picked with the truth.

    Parameters
    ----------
    grey
        Pixels above it are one class, all others the other.
    solid_is_brighter
        Which of the two is solid.
    """

    grey: float
    solid_is_brighter: bool

    def apply(self, plane: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Segment grey values: uint8, 1 pore and 2 solid, of the same shape."""
        solid = (plane > self.grey) == self.solid_is_brighter
        return np.where(solid, SOLID, PORE).astype(np.uint8)


@dataclass(frozen=True, slots=True)
class Baseline:
    """The best global threshold and its scores on the slices evaluated."""

    threshold: Threshold
    slices: tuple[SliceScore, ...]

    @property
    def mean(self) -> dict[str, float | None]:
        """Mean of each score over the slices."""
        return mean_scores(self.slices)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Scores of a segmentation.

    Parameters
    ----------
    slices
        Scores of each slice.
    pore_back
        Where the segmentation errs, by what a pixel is: ``pore_back`` (pore that is on the
        solid's side of the best global threshold), ``open_pore`` (the other pore), ``solid``,
        and of any of these ``edge`` (beside a pixel of another class); each with ``pixels`` and
        ``error``, the share that is wrong. None without the raw stack.
    baseline
        The best global threshold on the raw stack; None without it.
    classes
        Names of the classes 1, 2, and so on, that were told apart.
    """

    slices: tuple[SliceScore, ...]
    pore_back: Mapping[str, Mapping[str, float | int | None]] | None = None
    baseline: Baseline | None = None
    classes: tuple[str, ...] = ()

    @property
    def mean(self) -> dict[str, float | None]:
        """Mean of each score over the slices."""
        return mean_scores(self.slices)

    def as_json(self) -> dict[str, Any]:
        """The scores in JSON's types, as ``evaluate`` writes them."""
        written: dict[str, Any] = {
            "classes": list(self.classes),
            "slices": [asdict(score) for score in self.slices],
            "mean": self.mean,
            "pore_back": self.pore_back,
            "best_threshold": None,
        }
        if self.baseline is not None:
            written["best_threshold"] = {
                **asdict(self.baseline.threshold),
                "slices": [asdict(score) for score in self.baseline.slices],
                "mean": self.baseline.mean,
            }
        return written


def mean_scores(scores: Sequence[SliceScore]) -> dict[str, float | None]:
    """Mean of each score over slices; None for one that no slice has."""
    table = [asdict(score) for score in scores]
    means: dict[str, float | None] = {}
    for name in table[0]:
        if name != "index":
            values = [row[name] for row in table if row[name] is not None]
            means[name] = float(np.mean(values)) if values else None
    return means


def evaluate(
    segmentation: xr.DataArray,
    truth: xr.DataArray,
    indices: Sequence[int] | None,
    *,
    probability: xr.DataArray | None = None,
    stack: xr.DataArray | None = None,
    region: xr.DataArray | None = None,
    place: Place | None = None,
) -> Evaluation:
    """Score a segmentation.

    Parameters
    ----------
    segmentation, truth
        uint8, dims ``("z", "y", "x")``, 0 where nothing is known; ``attrs["classes"]`` of the
        segmentation names them.
    indices
        0-based slices to score, each of which must have both; None for all that do.
    probability
        float32: P(solid), or dims ``("class", "z", "y", "x")``; for the loss.
    stack
        The raw stack, for the best global threshold and the pore-backs. The threshold is
        picked for accuracy on all slices that have a truth, but for pixels without data.
    region
        bool, dims ``("z", "y", "x")``: pixels to look at. None for all.
    place
        Other processes to do it in; None for this one. The answer is the same.

    Returns
    -------
    Evaluation
        Scores over the pixels of truth that the segmentation covers.

    Raises
    ------
    ParameterError
        If a slice that is named, or every slice, has no pixel with both; or if the other
        processes cannot do it.
    """
    threshold = None if stack is None else best_threshold(stack, truth, segmentation=segmentation)
    images = {
        "image": segmentation,
        "truth": truth,
        "probability": probability,
        "stack": stack,
        "roi": region,
    }
    given = {name: image for name, image in images.items() if image is not None}
    looked_at = range(len(truth)) if indices is None else indices
    scored = _scored(given, threshold, looked_at, place)
    scores = [one.found for one in scored if one is not None]
    missing = [index for index, one in zip(looked_at, scored, strict=True) if one is None]
    if not scores or (missing and indices is not None):
        raise ParameterError(
            "indices",
            "must name slices that have both a segmentation and a truth",
            ",".join(map(str, missing[:20])),
            "Segment those slices first, or name others.",
        )
    classes = tuple(segmentation.attrs["classes"])
    if threshold is None:
        return Evaluation(tuple(scores), classes=classes)
    counts = {name: np.zeros(2, np.int64) for name in KINDS}
    baseline = []
    for one in scored:
        if one is not None and one.simple is not None:
            baseline.append(one.simple)
            for name, count in one.errors.items():
                counts[name] += count
    errors = {
        name: {"pixels": int(pixels), "error": float(wrong / pixels) if pixels else None}
        for name, (pixels, wrong) in counts.items()
    }
    return Evaluation(tuple(scores), errors, Baseline(threshold, tuple(baseline)), classes)


class _Scored(NamedTuple):
    """What is known of a slice: scores, those of the best threshold, and counts of `KINDS`."""

    found: SliceScore
    simple: SliceScore | None = None
    errors: Mapping[str, tuple[int, int]] = {}


class _Part(NamedTuple):
    """Some slices to be scored in another process, and the images that they are of."""

    indices: Sequence[int]
    images: Mapping[str, Travelling]
    threshold: Threshold | None


def _scored(
    images: Mapping[str, xr.DataArray],
    threshold: Threshold | None,
    indices: Sequence[int],
    place: Place | None,
) -> list[_Scored | None]:
    """Score slices, here or in other processes; None for one in which nothing is known."""
    if place is None:

        def score(index: int) -> _Scored | None:
            planes = {name: image.isel(z=index).to_numpy() for name, image in images.items()}
            return _score(index, planes, threshold)

        made = threads.in_order(score, indices)
        return [one for _, one in track(made, "Evaluating", len(indices))]

    def part(run: Sequence[int]) -> _Part:
        cut = {
            name: Travelling(image.isel(z=[*run]).transpose("z", ...).data, name)
            for name, image in images.items()
        }
        return _Part(run, cut, threshold)

    pixels = images["truth"].sizes["y"] * images["truth"].sizes["x"]
    spread_out = spread(
        place, _score_part, b"", indices, part, pixels=pixels, description="Evaluating"
    )
    with closing(spread_out) as answers:
        by_index = dict(answers)
    return [by_index[index] for index in indices]


def _score_part(_: bytes, part: _Part) -> list[_Scored | None]:
    """Score slices in another process."""
    images = {name: values.arrived() for name, values in part.images.items()}
    return [
        _score(index, {name: values[place] for name, values in images.items()}, part.threshold)
        for place, index in enumerate(part.indices)
    ]


def _score(
    index: int, planes: Mapping[str, npt.NDArray[Any]], threshold: Threshold | None
) -> _Scored | None:
    found, true = planes["image"], planes["truth"]
    known = (found > 0) & (true > 0)
    if "roi" in planes:
        known &= planes["roi"]
    if not known.any():
        return None
    score = score_slice(index, found, true, known, planes.get("probability"))
    if threshold is None:
        return _Scored(score)
    simple = threshold.apply(planes["stack"])
    return _Scored(
        score,
        score_slice(index, simple, true, known),
        errors_by_kind(found, true, known, simple),
    )


def score_slice(
    index: int,
    found: npt.NDArray[np.uint8],
    true: npt.NDArray[np.uint8],
    known: Mask,
    probability: npt.NDArray[np.float32] | None = None,
) -> SliceScore:
    """Score one slice.

    Parameters
    ----------
    index
        Its place in the stack.
    found, true
        Class of each pixel, shape (y, x).
    known
        Which pixels count, shape (y, x); at least one.
    probability
        P(solid), shape (y, x), or shape (class, y, x).
    """
    found, true = found[known], true[known]
    hits = np.count_nonzero((found == SOLID) & (true == SOLID))
    either = np.count_nonzero((found == SOLID) | (true == SOLID))
    return SliceScore(
        index=index,
        accuracy=float(np.mean(found == true)),
        loss=None if probability is None else _loss(probability[..., known], true),
        majority_accuracy=float(np.bincount(true).max() / len(true)),
        dice_solid=float(2 * hits / (hits + either)) if either else None,
        iou_solid=float(hits / either) if either else None,
        porosity=float(np.mean(found == PORE)),
        porosity_truth=float(np.mean(true == PORE)),
    )


def _loss(probability: npt.NDArray[np.float32], true: npt.NDArray[np.uint8]) -> float:
    if probability.ndim == 1:
        of_truth = np.where(true == SOLID, probability, 1 - probability)
    else:
        of_truth = np.take_along_axis(probability, true[np.newaxis].astype(int) - 1, 0)[0]
    if not np.isfinite(of_truth).all():
        raise ParameterError(
            "probability",
            "must be known wherever the segmentation is",
            f"NaN at {np.count_nonzero(~np.isfinite(of_truth))} pixels of a slice",
            "Give the probability that segment wrote beside this segmentation.",
        )
    clipped = np.clip(of_truth.astype(np.float64), _LEAST_PROBABILITY, 1)
    return float(-np.mean(np.log(clipped)))


def errors_by_kind(
    found: npt.NDArray[np.uint8],
    true: npt.NDArray[np.uint8],
    known: Mask,
    simple: npt.NDArray[np.uint8],
) -> dict[str, tuple[int, int]]:
    """Count the pixels of each kind in a slice, and the wrong ones among them.

    Parameters
    ----------
    found, true
        Class of each pixel, shape (y, x).
    known
        Which pixels count, shape (y, x).
    simple
        What the best global threshold makes of the raw slice, shape (y, x).

    Returns
    -------
    dict
        By each of `KINDS`: pixels, and wrong ones. ``pore_back``, ``open_pore`` and ``solid``
        are all pixels of two classes; ``edge`` are those of any kind with one of another class
        above, below, left or right of them.
    """
    pore = known & (true == PORE)
    kinds = {
        "pore_back": pore & (simple == SOLID),
        "open_pore": pore & (simple == PORE),
        "solid": known & (true == SOLID),
        "edge": known & _edges(true),
    }
    wrong = found != true
    return {
        name: (int(np.count_nonzero(where)), int(np.count_nonzero(where & wrong)))
        for name, where in kinds.items()
    }


def _edges(true: npt.NDArray[np.uint8]) -> Mask:
    """Labelled pixels with a labelled one of another class above, below, left or right."""
    cross = generate_binary_structure(2, 1)
    unlabelled = true == 0
    highest = grey_dilation(true, footprint=cross)
    lowest = grey_erosion(np.where(unlabelled, 255, true), footprint=cross)
    return np.asarray(~unlabelled & ((highest > true) | (lowest < true)))


def best_threshold(
    stack: xr.DataArray,
    truth: xr.DataArray,
    *,
    by: str = "accuracy",
    segmentation: xr.DataArray | None = None,
) -> Threshold:
    """The best grey value that one threshold for the whole stack can have, truth in hand.

    Parameters
    ----------
    stack
        Raw grey values, dims ``("z", "y", "x")``; of several detectors the first is taken.
        Pixels without data (``attrs["nodata"]``) are left out.
    truth
        uint8, dims ``("z", "y", "x")``; pixels of 0 and classes beyond solid are left out.
    by
        What it is best in: ``"accuracy"`` or ``"dice_solid"``.
    segmentation
        uint8, dims ``("z", "y", "x")``: in slices that it covers, pixels of 0 are left out.

    Returns
    -------
    Threshold
        Exact for integer grey values of up to 16 bit, else on 65,536 levels.
    """
    grey = stack.isel(c=0) if "c" in stack.dims else stack
    indices = [z for z in range(grey.sizes["z"]) if truth.isel(z=z).to_numpy().any()]

    def of_class(z: int) -> list[npt.NDArray[np.float64]]:
        """The grey values of pore and of solid that count in a slice."""
        values, true = grey.isel(z=z).to_numpy(), truth.isel(z=z).to_numpy()
        if "nodata" in stack.attrs:
            true = np.where(holds_data(stack, z), true, 0)
        found = None if segmentation is None else segmentation.isel(z=z).to_numpy()
        if found is not None and found.any():
            true = np.where(found > 0, true, 0)
        return [values[true == which].astype(np.float64) for which in (PORE, SOLID)]

    # What is left out has no part in the range: a border of -1e6 would leave one level to all.
    reaches = [
        (values.min(), values.max())
        for z in track(indices, "Finding the range of greys")
        for values in of_class(z)
        if values.size
    ]
    low, high = (float(np.min(reaches)), float(np.max(reaches))) if reaches else (0.0, 0.0)
    integer = grey.dtype.kind in "ui" and high - low < _BINS
    step = 1.0 if integer or high == low else (high - low) / (_BINS - 1)
    counts = np.zeros((2, _BINS), np.int64)
    for z in track(indices, "Finding the best threshold"):
        for row, values in enumerate(of_class(z)):
            bins = ((values - low) / step).round().astype(np.int64)
            counts[row] += np.bincount(bins, minlength=_BINS)
    options = [_best_bin(counts, brighter, by) for brighter in (True, False)]
    (_, cut), brighter = max(zip(options, (True, False), strict=True))
    # A bin of integers is one grey value; of others it reaches half a step beyond its middle.
    return Threshold(low + (cut if integer else cut + 0.5) * step, brighter)


def _best_bin(counts: npt.NDArray[np.int64], brighter: bool, by: str) -> tuple[float, int]:
    """The best score and the bin up to which pixels are the darker class."""
    pore, solid = counts.sum(axis=1)
    pore_below, solid_below = np.cumsum(counts, axis=1)
    hits = solid - solid_below if brighter else solid_below
    false = pore - pore_below if brighter else pore_below
    if by == "accuracy":
        score = (hits + pore - false) / np.maximum(pore + solid, 1)
    else:
        score = 2 * hits / np.maximum(hits + false + solid, 1)
    best = int(np.argmax(score))
    return float(score[best]), best
