"""The long proofs, run by `python -m pytest -m slow`: what the README claims, at full size."""

import time

import numpy as np
import pytest

import fiji_poreseg as fp
from fiji_poreseg.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def accuracy(benchmark_module):
    return benchmark_module("accuracy")


def test_resunet_beats_forest_beats_threshold_at_the_papers_slices(accuracy):
    scores = accuracy.phantom()
    threshold, forest, resunet = (evaluation.slices for evaluation in scores.values())
    for simple, middle, best in zip(threshold, forest, resunet, strict=True):
        assert best.accuracy > middle.accuracy > simple.accuracy > simple.majority_accuracy
        assert best.dice_solid > middle.dice_solid > simple.dice_solid
        assert best.iou_solid > middle.iou_solid > simple.iou_solid
        assert best.loss < middle.loss


def test_forest_and_resunet_beat_the_threshold_on_the_real_stack(accuracy):
    scores = accuracy.medulla()
    threshold, forest, resunet = (evaluation.mean for evaluation in scores.values())
    assert forest["dice_solid"] > threshold["dice_solid"]
    assert resunet["dice_solid"] > threshold["dice_solid"]


def test_the_default_training_takes_at_most_ten_minutes_on_two_cores(tmp_path):
    folder = str(tmp_path)
    assert main(["phantom", folder]) == 0
    start = time.perf_counter()
    status = main(
        ["train-resunet", f"{folder}/stack.tif", f"{folder}/truth.tif", "--strategy",
         "distributed", "--count", "20", "--model", f"{folder}/m.poreseg"]
    )  # fmt: skip
    assert status == 0
    assert time.perf_counter() - start < 600


def test_the_demonstration_leaves_what_it_promises(tmp_path):
    assert main(["demo", str(tmp_path / "demo")]) == 0
    truth = fp.read(tmp_path / "demo" / "truth.tif")
    found = fp.read(tmp_path / "demo" / "resunet-segmentation.tif")
    assert (truth.to_numpy() == found.to_numpy()).mean() > 0.95
    assert np.isfinite(fp.read(tmp_path / "demo" / "resunet-probability.tif")).all()
