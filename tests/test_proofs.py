"""The long proofs, run by `python -m pytest -m slow`: what the README claims, at full size."""

import sys
import time

import pytest

import fiji_poreseg as fp
from fiji_poreseg.cli import main

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def accuracy(benchmark_module):
    return benchmark_module("accuracy")


@pytest.fixture
def show(capsys):
    def write(text):
        with capsys.disabled():
            sys.stdout.write(f"\n{text}\n")

    return write


def test_resunet_beats_forest_beats_threshold_at_the_papers_slices(accuracy, show):
    scores, seconds = accuracy.phantom()
    show(accuracy.table(scores, each=True))
    assert seconds["ResUNet"] < 600
    by_method = [evaluation.slices for evaluation in scores.values()]
    for simple, middle, best, unlabelled in zip(*by_method, strict=True):
        assert best.accuracy > unlabelled.accuracy > middle.accuracy
        assert best.accuracy > middle.accuracy > simple.accuracy > simple.majority_accuracy
        assert best.dice_solid > middle.dice_solid > simple.dice_solid
        assert best.iou_solid > middle.iou_solid > simple.iou_solid
        assert best.loss < middle.loss


def test_forest_and_resunet_beat_the_threshold_on_the_real_stack(accuracy, show):
    scores, _ = accuracy.medulla()
    show(accuracy.table(scores, each=False))
    threshold, forest, resunet = (evaluation.mean for evaluation in scores.values())
    assert forest["dice_solid"] > threshold["dice_solid"]
    assert resunet["dice_solid"] > threshold["dice_solid"]


def test_the_demonstration_ends_in_eight_minutes_and_leaves_what_it_promises(tmp_path):
    start = time.perf_counter()
    assert main(["demo", str(tmp_path / "demo")]) == 0
    assert time.perf_counter() - start < 480
    truth = fp.read(tmp_path / "demo" / "truth.tif")
    found = fp.read(tmp_path / "demo" / "resunet-segmentation.tif")
    assert (truth.to_numpy() == found.to_numpy()).mean() > 0.94
    assert (tmp_path / "demo" / "figure.png").stat().st_size > 100_000
