"""What training minimises and what it measures, over the labelled pixels alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fiji_poreseg.model import balances
from fiji_poreseg.resunet.backend import keras

ops = keras.ops

PixelWeights = npt.NDArray[np.float32]


def pixel_weights(
    counts: npt.NDArray[np.int64],
    class_weights: str,
    labelled_share: float,
    correction_weight: float | None = None,
) -> PixelWeights:
    """How much a pixel counts by its label.

    Parameters
    ----------
    counts
        Labelled pixels of the classes 1, 2, and so on.
    class_weights
        ``"balanced"`` lets each class count the same, ``"none"`` each pixel; ``"auto"`` balances
        where the labelled share is below one half.
    labelled_share
        Share of the slices that is labelled.
    correction_weight
        How many times a pixel counts that was corrected by hand; None where none was.

    Returns
    -------
    numpy.ndarray
        float32, shape (1 + classes,): 0 for the unlabelled, and for the classes 1 in the mean
        over the labelled pixels. With a `correction_weight`, the classes follow once more, that
        many times as much: of n classes, the label n + 1 is class 1 corrected by hand.
    """
    weights = np.ones(len(counts))
    if balances(class_weights, labelled_share):
        weights = counts.sum() / (np.count_nonzero(counts) * np.maximum(counts, 1))
    if correction_weight is not None:
        weights = np.concatenate([weights, correction_weight * weights])
    return np.concatenate([[0], weights]).astype(np.float32)


def objective(weights: PixelWeights) -> Callable[[Any, Any], Any]:
    """Cross-entropy and Dice, as a function of labels (0 unlabelled) and logits.

    Their sum, after Isensee et al. (2021), nnU-Net, doi 10.1038/s41592-020-01008-z: the one
    tells how sure to be, the other keeps thin walls of a rare class from being given up.
    """

    def cross_entropy_and_dice(truth: Any, logits: Any) -> Any:
        # Keras hands the labels over as floating point.
        labels = ops.cast(truth, "int32")
        truth, counts = _classes_of(labels, logits), ops.take(weights, labels)
        entropy = ops.sum(_cross_entropy(truth, logits) * counts)
        return entropy / ops.maximum(ops.sum(counts), 1e-6) + dice_loss(truth, logits)

    return cross_entropy_and_dice


def _classes_of(labels: Any, logits: Any) -> Any:
    """The classes of labels, of which some may be corrected by hand."""
    classes = logits.shape[-1]
    return ops.where(labels > classes, labels - classes, labels)


def dice_loss(truth: Any, logits: Any) -> Any:
    """One minus the soft Dice of the labelled pixels, in the mean of the classes labelled there.

    Parameters
    ----------
    truth
        int32, shape (batch, y, x), 0 where unlabelled.
    logits
        float32, shape (batch, y, x, classes).
    """
    # The first channel is the unlabelled.
    true = ops.one_hot(truth, logits.shape[-1] + 1)[..., 1:]
    found = ops.softmax(logits) * ops.cast(truth > 0, logits.dtype)[..., None]
    every_pixel = (0, 1, 2)
    true_size = ops.sum(true, every_pixel)
    sizes = ops.sum(found, every_pixel) + true_size
    dice = 2 * ops.sum(found * true, every_pixel) / ops.maximum(sizes, 1e-6)
    present = ops.cast(true_size > 0, dice.dtype)
    return ops.sum((1 - dice) * present) / ops.maximum(ops.sum(present), 1)


def _cross_entropy(truth: Any, logits: Any) -> Any:
    """In nats, of each pixel; of an unlabelled one, any number."""
    return keras.losses.sparse_categorical_crossentropy(
        ops.maximum(truth - 1, 0), logits, from_logits=True
    )


def _right(truth: Any, logits: Any) -> Any:
    return ops.cast(ops.equal(ops.argmax(logits, -1) + 1, truth), "float32")


class LabelledMean(keras.metrics.MeanMetricWrapper):  # type: ignore[misc]
    """Mean over the labelled pixels of all batches.

    Parameters
    ----------
    name
        ``"cross_entropy"`` or ``"accuracy"``.
    weights
        How much a pixel counts by its label; see `pixel_weights`.
    """

    def __init__(self, name: str, weights: PixelWeights) -> None:
        super().__init__({"cross_entropy": _cross_entropy, "accuracy": _right}[name], name=name)
        self._weights = weights

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """Add a batch; the labels alone say how much a pixel counts."""
        del sample_weight
        labels = ops.cast(y_true, "int32")
        truth = _classes_of(labels, y_pred)
        return super().update_state(truth, y_pred, ops.take(self._weights, labels))
