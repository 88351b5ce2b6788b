"""Scores, against figures worked out by hand and by scikit-learn."""

import json

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, log_loss

import fiji_poreseg as fp
from fiji_poreseg import measurement
from fiji_poreseg.evaluation import best_threshold

RNG = np.random.default_rng(0)
TRUE = RNG.choice([1, 2], (5, 20, 20), p=[0.8, 0.2]).astype(np.uint8)
FOUND = np.where(RNG.random(TRUE.shape) < 0.1, 3 - TRUE, TRUE)
CHANCE = np.clip(np.where(FOUND == 2, 0.7, 0.2) + RNG.normal(0, 0.1, TRUE.shape), 0, 1)


def stack_of(values, dtype=np.uint8):
    return fp.make_stack(values.astype(dtype), (10, 10, 10))


def test_scores_agree_with_scikit_learn():
    scored = fp.evaluate(
        stack_of(FOUND), stack_of(TRUE), probability=stack_of(CHANCE, np.float32), indices=[1, 3]
    )
    assert [score.index for score in scored.slices] == [1, 3]
    for score in scored.slices:
        true, found = TRUE[score.index].ravel(), FOUND[score.index].ravel()
        assert score.accuracy == pytest.approx(accuracy_score(true, found))
        assert score.dice_solid == pytest.approx(f1_score(true, found, pos_label=2))
        assert score.iou_solid == pytest.approx(jaccard_score(true, found, pos_label=2))
        assert score.majority_accuracy == pytest.approx((true == 1).mean())
        assert score.porosity == pytest.approx((found == 1).mean())
        assert score.porosity_truth == pytest.approx((true == 1).mean())
        chance = CHANCE[score.index].ravel().astype(np.float32).astype(float)
        chance = np.clip(chance, 1e-7, 1 - 1e-7)
        assert score.loss == pytest.approx(log_loss(true, chance, labels=[1, 2]), rel=1e-4)
    assert scored.mean["accuracy"] == pytest.approx(
        np.mean([score.accuracy for score in scored.slices])
    )


def test_a_wrong_certainty_costs_what_the_clip_allows():
    true = np.ones((1, 4, 4), np.uint8)
    scored = fp.evaluate(stack_of(true), stack_of(true), probability=stack_of(true, np.float32))
    assert scored.slices[0].loss == pytest.approx(-np.log(1e-7))


def test_pixels_without_truth_or_segmentation_do_not_count():
    true, found = TRUE.copy(), TRUE.copy()
    true[0, :10] = 0
    found[0, :10] = 1
    found[0, 15:] = 0
    found[1] = 0
    scored = fp.evaluate(stack_of(found), stack_of(true))
    assert [score.index for score in scored.slices] == [0, 2, 3, 4]
    assert scored.mean["accuracy"] == 1


def test_a_region_limits_the_scores(tmp_path):
    found = FOUND.copy()
    found[:, :, :10] = TRUE[:, :, :10]
    region = np.zeros_like(TRUE)
    region[:, :, :10] = 255
    assert fp.evaluate(stack_of(found), stack_of(TRUE), roi=stack_of(region)).mean["accuracy"] == 1
    assert fp.evaluate(stack_of(found), stack_of(TRUE)).mean["accuracy"] < 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("brighter", [True, False])
def test_the_best_threshold_is_the_best_of_all(dtype, brighter):
    grey = np.where((TRUE == 2) == brighter, 140, 100) + RNG.normal(0, 25, TRUE.shape)
    grey = np.clip(grey, 0, 255).astype(dtype)
    picked = best_threshold(stack_of(grey, dtype), stack_of(TRUE))
    reached = (picked.apply(grey) == TRUE).mean()
    tried = [(((grey > cut) == (TRUE == 2)).mean(), ((grey <= cut) == (TRUE == 2)).mean())
             for cut in np.unique(grey)]  # fmt: skip
    assert picked.solid_is_brighter == brighter
    assert reached == pytest.approx(np.max(tried), abs=2e-3 if dtype is np.float32 else 1e-12)


def test_pore_backs_are_pore_on_the_wrong_side_of_the_threshold(tmp_path):
    true = np.ones((1, 10, 10), np.uint8)
    true[0, :5] = 2
    grey = np.where(true == 2, 200, 50)
    grey[0, 9] = 210  # ten bright pixels of pore
    found = np.where(grey > 100, 2, 1)
    found[0, 9, :4] = 1
    scored = fp.evaluate(
        stack_of(found), stack_of(true), stack=stack_of(grey), json=tmp_path / "s.json"
    )
    assert scored.pore_back["pore_back"] == {"pixels": 10, "error": 0.6}
    assert scored.pore_back["open_pore"] == {"pixels": 40, "error": 0.0}
    assert scored.pore_back["solid"] == {"pixels": 50, "error": 0.0}
    written = json.loads((tmp_path / "s.json").read_text())
    assert set(written) == {"classes", "slices", "mean", "pore_back", "best_threshold"}
    assert set(written["slices"][0]) == {
        "index", "accuracy", "loss", "majority_accuracy", "dice_solid", "iou_solid",
        "porosity", "porosity_truth",
    }  # fmt: skip
    assert written["best_threshold"]["slices"][0]["accuracy"] == pytest.approx(0.9)


def test_a_mask_can_be_turned_round_in_every_command():
    mask = stack_of(np.where(TRUE == 1, 255, 0))
    options = {"mask_foreground": "pore"}
    assert fp.evaluate(mask, mask, **options).mean["accuracy"] == 1
    assert fp.measure(mask, **options).porosity == pytest.approx((TRUE == 1).mean())
    painted = stack_of(np.eye(20)[None] * np.ones((5, 1, 1)))
    np.testing.assert_array_equal(
        fp.correct(mask, painted, **options).segmentation, np.where(painted > 0, 1, TRUE)
    )


def test_a_border_without_data_has_no_part_in_the_threshold():
    rng = np.random.default_rng(0)
    true = rng.integers(1, 3, (2, 20, 20)).astype(np.uint8)
    grey = np.where(true == 2, 150, 100) + rng.integers(0, 80, true.shape)
    # A mask gives the border a class; it is as dark as no pore is.
    true[:, :12], grey[:, :12] = 2, 0
    found = np.where(grey > 0, true, 0)
    whole = fp.evaluate(stack_of(found), stack_of(true), stack=stack_of(grey))
    inner = [stack_of(image[:, 12:]) for image in (found, true, grey)]
    cropped = fp.evaluate(*inner[:2], stack=inner[2])
    assert whole.baseline.mean == cropped.baseline.mean
    assert whole.pore_back["pore_back"] == cropped.pore_back["pore_back"]
    threshold = best_threshold(stack_of(grey).assign_attrs(nodata=0), stack_of(true))
    assert threshold == best_threshold(inner[2], inner[1])


def test_a_border_far_from_the_greys_costs_no_levels():
    true = np.random.default_rng(2).integers(1, 3, (3, 8, 8)).astype(np.uint8)
    grey = np.pad(np.where(true == 2, 0.7, 0.3), 2, constant_values=-1e6)[2:-2]
    truth = stack_of(np.pad(true, 2, constant_values=1)[2:-2])
    stack = stack_of(grey, np.float32).assign_attrs(nodata=-1e6)
    threshold = best_threshold(stack, truth)
    assert 0.3 < threshold.grey < 0.7
    covered = truth.copy(data=np.where(grey > 0, truth, 0))
    report = fp.evaluate(covered, truth, stack=stack)
    assert [row.accuracy for row in report.baseline.slices] == [1, 1, 1]


def test_where_nothing_can_be_scored_it_is_said_so_with_greys_too():
    truth = stack_of(np.ones((2, 4, 4), np.uint8))
    nothing = stack_of(np.zeros((2, 4, 4), np.uint8)).assign_attrs(classes=("pore", "solid"))
    with pytest.raises(fp.ParameterError):
        fp.evaluate(nothing, truth, stack=stack_of(np.ones((2, 4, 4)), np.float32))


@pytest.mark.parametrize("foreground", ["solid", "pore"])
def test_a_boolean_mask_is_a_mask(foreground):
    solid = np.random.default_rng(3).random((2, 5, 5)) > 0.6
    given = solid if foreground == "solid" else ~solid
    truth = stack_of(np.where(solid, 2, 1))
    report = fp.evaluate(truth, given, mask_foreground=foreground)
    assert [row.accuracy for row in report.slices] == [1, 1]
    with pytest.raises(fp.ParameterError, match="a mask of two values"):
        fp.correct(truth, given)


def test_of_several_detectors_the_first_gives_the_threshold():
    grey = np.stack([np.where(TRUE == 2, 200, 100), np.zeros_like(TRUE)]).astype(np.uint8)
    scored = fp.evaluate(stack_of(FOUND), stack_of(TRUE), stack=fp.make_stack(grey, (10, 10, 10)))
    assert scored.baseline.mean["accuracy"] == 1


@pytest.mark.parametrize(
    ("probability", "said"),
    [
        (np.full(TRUE.shape, 128, np.uint8), "must hold numbers from 0 to 1"),
        (np.full(TRUE.shape, 1.5, np.float32), "must hold numbers from 0 to 1"),
        (np.where(TRUE == 2, np.nan, CHANCE).astype(np.float32), "must be known wherever"),
        (CHANCE[:2].astype(np.float32), "must have the shape of the segmentation"),
        (np.stack([CHANCE, CHANCE]).astype(np.float32), r"must have 1 channel\(s\)"),
    ],
)
def test_what_is_no_probability_is_refused(probability, said):
    with pytest.raises(fp.ParameterError, match=said) as caught:
        fp.evaluate(
            stack_of(FOUND), stack_of(TRUE), probability=fp.make_stack(probability, (10, 10, 10))
        )
    assert caught.value.parameter == "probability"


def test_a_named_slice_without_truth_is_not_passed_over():
    true = TRUE.copy()
    true[3] = 0
    with pytest.raises(fp.ParameterError, match="but is: 3"):
        fp.evaluate(stack_of(FOUND), stack_of(true), indices=[2, 3, 4])


def test_slices_without_a_segmentation_are_named():
    found = TRUE.copy()
    found[1] = 0
    with pytest.raises(fp.ParameterError, match="`indices` must name slices that have both"):
        fp.evaluate(stack_of(found), stack_of(TRUE), indices=[1])


def test_porosity_leaves_out_what_holds_no_data(tmp_path):
    found = TRUE.copy()
    found[0] = 0
    found[1, :5] = 0
    made = fp.measure(stack_of(found), json=tmp_path / "m.json")
    assert [entry.index for entry in made.slices] == [1, 2, 3, 4]
    assert made.slices[0].porosity == pytest.approx((TRUE[1, 5:] == 1).mean())
    assert made.porosity == pytest.approx((found == 1).sum() / (found > 0).sum())
    assert json.loads((tmp_path / "m.json").read_text())["porosity"] == made.porosity


@pytest.mark.parametrize(
    ("slices", "strategy", "count", "expected"),
    [
        (600, "distributed", 5, (0, 120, 240, 360, 480)),
        (600, "distributed", 20, tuple(range(0, 600, 30))),
        (600, "initial", 5, (0, 1, 2, 3, 4)),
        (7, "distributed", 3, (0, 2, 4)),
    ],
)
def test_strategies_choose_the_papers_slices(slices, strategy, count, expected):
    stack = fp.make_stack(np.zeros((slices, 1, 1), np.uint8), (10, 10, 10))
    assert fp.select_slices(stack, strategy=strategy, count=count) == expected


@pytest.mark.parametrize("channels", [1, 3])
def test_a_region_of_several_channels_is_refused(channels):
    region = np.ones((channels, *TRUE.shape), np.uint8)
    with pytest.raises(fp.ParameterError, match="`roi` must have the shape of the segmentation"):
        fp.evaluate(stack_of(TRUE), stack_of(TRUE), roi=region)


def test_more_slices_than_there_are_cannot_be_chosen():
    with pytest.raises(fp.ParameterError, match="`count` must be from 1 to 5"):
        fp.select_slices(stack_of(TRUE), count=6)


def wrong_at_random(truth, pore_wrong, solid_wrong, seed=0):
    """A segmentation that takes so many of either class for the other one."""
    rng = np.random.default_rng(seed)
    flipped = rng.random(truth.shape) < np.where(truth == 1, pore_wrong, solid_wrong)
    return np.where(flipped, 3 - truth, truth).astype(np.uint8)


def scores(classes=("pore", "solid"), **changed):
    """What `evaluate` writes of one slice, all of which is right."""
    row = {"accuracy": 1, "porosity": 0.5, "porosity_truth": 0.5} | changed
    return json.dumps({"classes": classes, "slices": [row]})


class TestCorrectedPorosity:
    @pytest.fixture(scope="class")
    @classmethod
    def truth(cls):
        share = np.random.default_rng(5).uniform(0.7, 0.9, (40, 1, 1))
        solid = np.random.default_rng(6).random((40, 60, 60)) > share
        return stack_of(np.where(solid, 2, 1))

    def test_the_truth_lies_in_the_interval(self, truth, tmp_path):
        found = truth.copy(data=wrong_at_random(truth.to_numpy(), 0.02, 0.25))
        fp.evaluate(found, truth, indices=range(0, 40, 4), json=tmp_path / "scores.json")
        made = fp.measure(found, scores=tmp_path / "scores.json", json=tmp_path / "m.json")
        true = float((truth == 1).mean())
        assert abs(made.porosity - true) > 0.02
        assert made.corrected.low < true < made.corrected.high
        assert abs(made.corrected.value - true) < 0.005
        assert made.corrected.high - made.corrected.low < 0.03
        written = json.loads((tmp_path / "m.json").read_text())
        assert written["corrected"]["value"] == made.corrected.value
        assert written["porosity"] == made.porosity

    def test_one_slice_gives_no_interval(self, truth, tmp_path):
        found = truth.copy(data=wrong_at_random(truth.to_numpy(), 0.02, 0.25))
        fp.evaluate(found, truth, indices=[7], json=tmp_path / "scores.json")
        made = fp.measure(found, scores=tmp_path / "scores.json")
        assert made.corrected.low is None
        assert abs(made.corrected.value - float((truth == 1).mean())) < 0.03

    def test_it_is_right_most_of_the_time(self, truth):
        """Of 95 % intervals, about as many hold the truth."""
        true, held = float((truth == 1).mean()), 0
        for seed in range(60):
            values = wrong_at_random(truth.to_numpy(), 0.03, 0.2, seed)
            known = range(seed % 8, 40, 8)
            counted = measurement.confusion_of_labels(
                {z: values[z] for z in known}, {z: truth.to_numpy()[z] for z in known}
            )
            made = measurement.measure(truth.copy(data=values), range(40), counted).corrected
            held += made.low < true < made.high
        assert 51 <= held < 60

    @pytest.mark.parametrize("true", [0.02, 0.5, 0.98])
    @pytest.mark.parametrize("rates", [(0.9, 0.97), (0.999, 0.998)])
    def test_it_is_right_near_the_ends_and_where_labels_are_easy(self, true, rates):
        """Few labels, of which all or nearly all may be found right; porosity near 0 and 1."""
        rng, held = np.random.default_rng(7), 0
        apparent = true * rates[0] + (1 - true) * (1 - rates[1])
        for _ in range(300):
            right = rng.binomial(100, rates, (5, 2))
            counts = np.stack([right, 100 - right], axis=-1)
            counts[:, 1] = counts[:, 1, ::-1]
            given = measurement.Confusion(counts.astype(float), in_pixels=True)
            made = measurement.corrected_porosity(apparent, given)
            held += made.low <= true <= made.high
        assert held >= 0.93 * 300

    def test_an_interval_is_never_a_point_because_all_labels_are_right(self):
        given = measurement.Confusion(np.array([[[200.0, 0], [0, 200]]] * 5), in_pixels=True)
        made = measurement.corrected_porosity(0.8, given)
        assert made.value == pytest.approx(0.8)
        assert 0.79 < made.low < 0.8 < made.high < 0.81

    def test_slices_in_which_nothing_is_known_are_no_slices(self):
        some = np.array([[[180.0, 20], [5, 195]], [[150, 50], [10, 190]]])
        with_empty = np.concatenate([some, np.zeros((3, 2, 2))])
        without, beside = (
            measurement.corrected_porosity(0.7, measurement.Confusion(counts, in_pixels=True))
            for counts in (some, with_empty)
        )
        assert without == beside

    @pytest.mark.parametrize(
        ("written", "said"),
        [
            ("{", "must name a file of scores"),
            ('{"slices": [{"accuracy": 1}]}', "must name a file of scores"),
            ('{"slices": []}', "must hold slices"),
            ("[" * 100_000, "must name a file of scores"),
            ("[]", "must name a file of scores"),
            (scores(accuracy=float("nan")), "must be from 0 to 1"),
            (scores(accuracy=7), "must be from 0 to 1"),
            (scores(porosity_truth=-0.1), "must be from 0 to 1"),
            (scores(porosity=0.9), "contradict each other"),
            (scores(classes=["pore", "solid", "glue"]), "scores 3 classes, not two"),
            (scores(classes=2), "must name a file of scores"),
            (
                '{"slices": [{"accuracy": 0.5, "porosity": 0.5, "porosity_truth": 0.5}]}',
                "better than guessing",
            ),
            (
                '{"slices": [{"accuracy": 1, "porosity": 1, "porosity_truth": 1}]}',
                "must know both pore and solid",
            ),
        ],
    )
    def test_other_files_are_refused(self, truth, tmp_path, written, said):
        (tmp_path / "scores.json").write_text(written)
        with pytest.raises(fp.ParameterError, match=said) as caught:
            fp.measure(truth, scores=tmp_path / "scores.json")
        assert caught.value.parameter == "scores"

    def test_scores_of_three_classes_correct_nothing(self, truth, tmp_path):
        three = truth.to_numpy().copy()
        three[:, 30:] = 3
        three = fp.make_labels(three, truth, classes=("pore", "solid", "glue"))
        fp.evaluate(three, three, json=tmp_path / "scores.json")
        with pytest.raises(fp.ParameterError, match="scores 3 classes, not two"):
            fp.measure(truth, scores=tmp_path / "scores.json")

    def test_scores_that_do_not_say_the_classes_are_taken(self, truth, tmp_path):
        """As they were written before they did; with as many decimals as somebody kept."""
        rows = [{"accuracy": 0.9, "porosity": 0.749, "porosity_truth": 0.65}]
        (tmp_path / "scores.json").write_text(json.dumps({"slices": rows}))
        assert fp.measure(truth, scores=tmp_path / "scores.json").corrected.value > 0

    def test_a_third_class_cannot_be_corrected(self, truth, tmp_path):
        (tmp_path / "scores.json").write_text("{}")
        with pytest.raises(fp.ParameterError, match="of two classes only"):
            fp.measure(truth, scores=tmp_path / "scores.json", classes=("pore", "solid", "x"))
