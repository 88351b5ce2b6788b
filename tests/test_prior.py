"""What share of a stack each class has, found without a truth."""

import numpy as np
import pytest
from scipy.special import softmax

from fiji_poreseg.prior import class_factors


def answers(shares, pixels, seed, *, distance=2.0, sharpness=1.0, bias=0.0):
    """Normal distributions, and what a model makes of a value that is not quite sure of itself."""
    rng = np.random.default_rng(seed)
    label = rng.choice(len(shares), pixels, p=shares)
    value = rng.normal(np.eye(len(shares))[label] * distance)
    logits = sharpness * (distance * value) + bias * np.arange(len(shares))
    return softmax(logits, axis=-1).T, label


def right(probabilities, label):
    return float(np.mean(probabilities.argmax(axis=0) == label))


@pytest.mark.parametrize(("sharpness", "bias"), [(1, 0), (0.5, 0), (2, 0), (0.6, 0.7)])
@pytest.mark.parametrize("shares", [(0.95, 0.05), (0.8, 0.2), (0.3, 0.7), (0.6, 0.3, 0.1)])
def test_answers_are_as_good_as_with_the_true_shares(shares, sharpness, bias):
    """However sure of itself the model is, and however much of a class was held out."""
    classes = len(shares)
    flaw = {"sharpness": sharpness, "bias": bias}
    held_out = answers(np.arange(1, classes + 1)[::-1] / sum(range(classes + 1)), 3000, 0, **flaw)
    found, label = answers(shares, 20_000, 1, **flaw)
    best, _ = answers(shares, 20_000, 1)
    factors = np.array(class_factors([found.reshape(classes, 100, 200)], *held_out))
    assert factors.max() == 1
    ideal = right(best * np.array(shares)[:, np.newaxis], label)
    assert right(found * factors[:, np.newaxis], label) > ideal - 0.004
    assert ideal >= right(found, label)


def test_where_little_is_held_out_nothing_is_concluded():
    probabilities, label = answers((0.5, 0.5), 50, 0)
    assert class_factors([probabilities.reshape(2, 5, 10)], probabilities, label) is None


def test_where_there_is_no_data_all_classes_count_the_same():
    held_out = answers((0.5, 0.5), 4000, 0)
    nothing = np.full((2, 5, 5), np.nan, np.float32)
    assert class_factors([nothing], *held_out) == pytest.approx((1, 1), abs=0.15)


def test_a_class_that_is_not_found_is_still_possible():
    held_out = answers((0.5, 0.5), 4000, 0)
    planes = np.stack([np.ones((9, 9)), np.zeros((9, 9))])
    assert 0 < class_factors([planes], *held_out)[1] < 0.02
