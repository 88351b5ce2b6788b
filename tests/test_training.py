"""Training of the ResUNet: gone on with, started from another, what it minimises and sees."""

import csv
import random
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from matplotlib.image import imread
from sklearn.metrics import log_loss
from sklearn.utils.class_weight import compute_class_weight

import fiji_poreseg as fp
from fiji_poreseg.progress import reporting
from fiji_poreseg.resunet import sampling, training
from fiji_poreseg.resunet.backend import tf
from fiji_poreseg.resunet.context import Context
from fiji_poreseg.resunet.loss import LabelledMean, objective, pixel_weights
from fiji_poreseg.slices import SliceReader

INDICES = (0, 4, 8)
STEPS = 24
# Checks in quick succession: this is about what happens at a check, not about how good it is.
TRAIN = """
import sys
import fiji_poreseg as fp
from fiji_poreseg.resunet import training
training.STEPS_PER_CHECK = 3
folder, model, indices, steps = sys.argv[1:]
stack, truth = f"{folder}/stack.tif", f"{folder}/truth.tif"
fp.train_resunet(
    stack, truth, indices=indices, network="small", steps=steps, model=model, resume=True
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where stack.tif and truth.tif of a phantom lie."""
    folder = tmp_path_factory.mktemp("phantom")
    fp.phantom(folder, slices=12, size=48, feature_size_nm=150, attenuation_nm=150)
    return folder


@pytest.fixture(scope="module")
def tiny(folder):
    """Stack and truth of that phantom."""
    return fp.read(folder / "stack.tif"), fp.read(folder / "truth.tif")


def begin(folder, model, indices=INDICES, steps=STEPS):
    arguments = [folder, model, ",".join(map(str, indices)), steps]
    return subprocess.Popen([sys.executable, "-c", TRAIN, *map(str, arguments)])


def written(path):
    """When a file was written; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def kill_after_a_checkpoint(process, checkpoint, rng):
    """Kill a training at a random moment after it wrote one to three checkpoints."""
    seen = written(checkpoint)
    for _ in range(rng.randint(1, 3)):
        while written(checkpoint) == seen:
            if process.poll() is not None:
                return
            time.sleep(0.002)
        seen = written(checkpoint)
    time.sleep(rng.uniform(0, 0.2))
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    """The model file of a training that nothing stopped."""
    path = tmp_path_factory.mktemp("whole") / "m.poreseg"
    assert begin(folder, path).wait() == 0
    return path


@pytest.fixture(scope="module")
def killed(folder, tmp_path_factory):
    """The model file, which there is not, of a training that was killed."""
    path = tmp_path_factory.mktemp("killed") / "m.poreseg"
    kill_after_a_checkpoint(begin(folder, path), checkpoint_of(path), random.Random(0))
    assert not path.exists()
    return path


def checkpoint_of(path):
    return path.with_name("m.checkpoint.npz")


class TestResume:
    def test_a_training_killed_twice_ends_with_the_same_file(self, folder, whole, path):
        process = begin(folder, path)
        kill_after_a_checkpoint(process, checkpoint_of(path), random.Random(1))
        assert process.returncode == -signal.SIGKILL
        assert begin(folder, path).wait() == 0
        assert path.read_bytes() == whole.read_bytes()
        assert not checkpoint_of(path).exists()

    # Slice 4 is held out of three; of two slices none is.
    @pytest.mark.slow
    @pytest.mark.parametrize("indices", [INDICES, (0, 8)], ids=["validated", "not validated"])
    def test_a_training_killed_again_and_again_ends_with_the_same_file(
        self, indices, folder, whole, tmp_path
    ):
        rng = random.Random(0)
        path = tmp_path / "m.poreseg"
        codes = []
        while 0 not in codes:
            process = begin(folder, path, indices)
            kill_after_a_checkpoint(process, checkpoint_of(path), rng)
            codes.append(process.returncode)
        assert set(codes[:-1]) == {-signal.SIGKILL}
        assert len(codes) >= 3
        if indices != INDICES:
            whole = tmp_path / "whole.poreseg"
            assert begin(folder, whole, indices).wait() == 0
        assert path.read_bytes() == whole.read_bytes()
        assert not checkpoint_of(path).exists()

    @pytest.fixture
    def path(self, killed, tmp_path):
        """The killed training, to be gone on with."""
        shutil.copy(checkpoint_of(killed), tmp_path)
        return tmp_path / killed.name

    @pytest.fixture
    def resume(self, tiny, path, monkeypatch):
        """A function that goes on with it in this process."""
        monkeypatch.setattr(training, "STEPS_PER_CHECK", 3)

        def go_on(stack=tiny[0], labels=tiny[1], **options):
            given = {"indices": INDICES, "steps": STEPS, "network": "small", "model": path}
            return fp.train_resunet(stack, labels, resume=True, **{**given, **options})

        return go_on

    def test_the_safety_stop_keeps_the_checkpoint(self, resume, path, whole):
        stopped = resume(max_minutes=0.01)
        assert stopped.card.scores["stopped_by_max_minutes"] == 1
        assert checkpoint_of(path).exists()
        resume()
        assert path.read_bytes() == whole.read_bytes()

    def test_killed_before_the_finished_model_is_written(self, resume, path, whole):
        class InTheWay:
            steps = 0

            def update(self, description, done, total):
                self.steps += 1
                if done == total:
                    path.mkdir(exist_ok=True)

        with pytest.raises(fp.ParameterError, match="`model`"), reporting(InTheWay()):
            resume()
        path.rmdir()
        listener = InTheWay()
        with reporting(listener):
            resume()
        assert listener.steps == 0
        assert path.read_bytes() == whole.read_bytes()
        assert not checkpoint_of(path).exists()

    def test_a_finished_model_is_the_answer(self, resume, whole):
        before = whole.stat()
        made = resume(model=whole)
        assert made.card.scores["steps"] == STEPS
        assert whole.stat() == before

    @pytest.mark.parametrize("where", ["checkpoint", "model"])
    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"steps": 30}, r"`steps` must be 24, as in .*, but is: 30\. Give steps=24, or leave"),
            ({"seed": 1}, "`seed` must be 0, as in"),
            ({"network": "base"}, "`network` must be small"),
            ({"class_weights": "balanced"}, "`class_weights` must be auto"),
            ({"indices": [0, 4]}, "`indices` must be 0,4,8, as in .*, but is: 0,4"),
            ({"voxel_size_nm": (10, 10, 9)}, "`voxel_size_nm` must be 10.0,10.0,10.0, as in"),
            ({"nodata": 0}, "`nodata` must be left out"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_another_setting_is_refused(self, where, option, message, resume, path, whole):
        with pytest.raises(fp.ParameterError, match=message):
            resume(**option, **({"model": whole} if where == "model" else {}))
        assert not path.exists()

    def test_other_images_are_refused(self, resume, tiny):
        stack, labels = (image.copy(deep=True) for image in tiny)
        labels[4, 3, 3] = 3 - labels[4, 3, 3]
        with pytest.raises(fp.ParameterError, match="`labels` must be what it was in the training"):
            resume(labels=labels)
        # Slice 5 holds no labels that are used, but is seen as a neighbour.
        stack[5, 3, 3] += 1
        with pytest.raises(fp.ParameterError, match="`image` must be what it was in the training"):
            resume(stack)

    def test_other_corrections_are_refused(self, resume, tiny):
        by_hand = tiny[1].where(tiny[1].z.isin(tiny[1].z[[0, 4, 8]]), 0)
        with pytest.raises(fp.ParameterError, match="`corrections` must be what it was in the"):
            resume(corrections=by_hand)

    @pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"])
    def test_a_damaged_checkpoint_is_refused(self, content, resume, path):
        checkpoint_of(path).write_bytes(content)
        with pytest.raises(
            fp.ParameterError, match=r"whole checkpoint.*m\.checkpoint\.npz.*delete"
        ):
            resume()

    def test_a_forest_is_no_training_to_resume(self, resume, path, tiny):
        checkpoint_of(path).unlink()
        fp.train_forest(*tiny, indices=INDICES, trees=2, folds=0, model=path)
        with pytest.raises(fp.ParameterError, match="`model` must be a ResUNet where"):
            resume()

    def test_a_model_file_is_needed(self, resume):
        with pytest.raises(fp.ParameterError, match=r"`resume` needs `model`, .*Give model as"):
            resume(model=None)


class TestStart:
    @pytest.fixture
    def tune(self, tiny, whole, untraced):
        """A function that takes one step from the trained model."""

        def train(stack=tiny[0], labels=tiny[1], **options):
            given = {"indices": INDICES, "steps": 1, "network": "small", "start": whole}
            return fp.train_resunet(stack, labels, **{**given, **options})

        return train

    def test_it_begins_where_the_other_ended(self, tune, whole):
        tuned, anew = tune(), tune(start="none")
        ended = fp.load(whole).card.scores["validation_loss"]
        assert tuned.card.scores["validation_loss"] == pytest.approx(ended, abs=0.2)
        assert anew.card.scores["validation_loss"] > ended + 0.2

    def test_neighbours_keep_their_depth(self, tune, whole):
        with pytest.warns(fp.PoreSegWarning, match="trained on voxels of 10 x 10 x 10 nm"):
            tuned = tune(voxel_size_nm=(20, 10, 10))
        assert tuned.context == fp.load(whole).context

    @pytest.mark.parametrize(
        ("option", "message"),
        [
            ({"network": "base"}, "`network` must be small, as in the model to start from"),
            ({"context": "slice"}, "`context` must be neighbours, as in the model to start from"),
            ({"classes": ("air", "solid")}, "`classes` must be pore,solid, as in"),
            ({"start": "none.poreseg"}, "`start` must name a file that exists"),
        ],
        ids=["network", "context", "classes", "missing"],
    )
    def test_what_does_not_fit_is_refused(self, option, message, tune):
        with pytest.raises(fp.ParameterError, match=message):
            tune(**option)

    def test_other_detectors_are_refused(self, tune, tiny):
        two = fp.make_stack(np.stack([tiny[0], tiny[0]]), (10, 10, 10))
        with pytest.raises(fp.ParameterError, match=r"`start` must have been trained with 2 det"):
            tune(two)

    def test_a_forest_is_refused(self, tune, tiny, tmp_path):
        fp.train_forest(*tiny, indices=[0], trees=1, folds=0, model=tmp_path / "f.poreseg")
        with pytest.raises(fp.ParameterError, match="`start` must be a ResUNet's file"):
            tune(start=tmp_path / "f.poreseg")


@pytest.fixture(scope="module")
def plain(tiny):
    """A ResUNet that sees a slice and nothing else."""
    return fp.train_resunet(*tiny, indices=INDICES, network="small", steps=1, context="slice")


class TestContext:
    def segmented(self, model, stack):
        return fp.segment(stack, model=model, indices=[4]).probability

    def test_a_plain_network_does_not_see_the_neighbours(self, plain, whole, tiny):
        stack = tiny[0]
        others = stack.copy()
        others[5:] = stack[11]
        np.testing.assert_array_equal(self.segmented(plain, stack), self.segmented(plain, others))
        seeing = fp.load(whole)
        assert (self.segmented(seeing, stack) != self.segmented(seeing, others)).any()

    def test_it_starts_from_nothing_but_its_like(self, plain, tiny, tmp_path, untraced):
        plain.save(tmp_path / "plain.poreseg")
        options = {"indices": INDICES, "steps": 1, "start": tmp_path / "plain.poreseg"}
        tuned = fp.train_resunet(*tiny, network="small", context="slice", **options)
        assert tuned.context == plain.context
        with pytest.raises(fp.ParameterError, match="`context` must be slice, as in the model"):
            fp.train_resunet(*tiny, network="small", **options)
        # The weights that ship with the package see neighbours: they are not the default here.
        anew = fp.train_resunet(*tiny, indices=INDICES, steps=1, context="slice")
        assert anew.training["start"] == "none"


@pytest.mark.parametrize(
    ("labelled", "trained_on", "held_out"),
    [
        ((0, 8), (0, 8), ()),
        ((0, 4, 8), (0, 8), (4,)),
        ((0, 1, 2, 3, 4), (0, 1, 2), (4,)),
        ((0, 6, 12, 18, 24), (0, 6, 18, 24), (12,)),
        (range(20), range(14), (18, 19)),
        (range(0, 600, 30), [i for i in range(0, 600, 30) if i not in (150, 450)], (150, 450)),
    ],
    ids=["two", "three", "five in a row", "five", "twenty in a row", "twenty"],
)
def test_slices_near_those_held_out_are_not_trained_on(labelled, trained_on, held_out):
    both = frozenset({1, 2})
    assert training.split(dict.fromkeys(labelled, both)) == (list(trained_on), list(held_out))


def test_a_slice_without_which_a_class_would_not_be_learnt_is_trained_on():
    classes = dict.fromkeys(range(4), frozenset({1, 2})) | {4: frozenset({1, 2, 3})}
    assert training.split(classes) == (list(range(5)), [])
    assert training.split({0: frozenset({1, 2}), 1: frozenset({1}), 2: frozenset({1})})[1] == []


class TestLoss:
    weights = pixel_weights(np.array([900, 100]), "none", 1)

    @pytest.fixture
    def batch(self):
        rng = np.random.default_rng(0)
        truth = rng.integers(0, 3, (2, 8, 8))
        return truth, rng.standard_normal((2, 8, 8, 2)).astype(np.float32)

    def test_unlabelled_pixels_count_nothing(self, batch):
        truth, logits = batch
        other = np.where((truth == 0)[..., None], 50, logits).astype(np.float32)
        minimised = objective(self.weights)
        assert float(minimised(truth, logits)) == float(minimised(truth, other))
        assert float(minimised(np.zeros_like(truth), logits)) == 0

    def test_it_is_cross_entropy_and_dice(self, batch):
        truth, logits = batch
        found = tf.nn.softmax(logits).numpy()[truth > 0]
        true = np.eye(2)[truth[truth > 0] - 1]
        dice = 2 * (found * true).sum(0) / (found.sum(0) + true.sum(0))
        expected = log_loss(true, found) + 1 - dice.mean()
        assert float(objective(self.weights)(truth, logits)) == pytest.approx(expected, rel=1e-5)

    def test_a_class_that_is_not_labelled_has_no_dice(self):
        truth = np.ones((1, 4, 4), int)
        logits = np.zeros((1, 4, 4, 2), np.float32)
        expected = np.log(2) + 1 - 2 / 3
        assert float(objective(self.weights)(truth, logits)) == pytest.approx(expected, rel=1e-5)

    def test_measures_are_means_over_the_labelled_pixels_of_all_batches(self, batch):
        truth, logits = batch
        truth[0, 1:] = 0
        entropy, accuracy = (LabelledMean(n, self.weights) for n in ("cross_entropy", "accuracy"))
        for measure in (entropy, accuracy):
            for i in range(2):
                measure.update_state(truth[i : i + 1], logits[i : i + 1])
        labelled = truth > 0
        found = tf.nn.softmax(logits).numpy()[labelled]
        assert float(entropy.result()) == pytest.approx(log_loss(truth[labelled], found), rel=1e-5)
        right = (logits.argmax(-1) + 1 == truth)[labelled]
        assert float(accuracy.result()) == pytest.approx(right.mean())

    def test_classes_weigh_as_in_scikit_learn(self):
        counts = np.array([900, 100])
        labels = np.repeat([1, 2], counts)
        expected = compute_class_weight("balanced", classes=np.array([1, 2]), y=labels)
        for name, share in (("balanced", 1), ("auto", 0.1)):
            np.testing.assert_allclose(pixel_weights(counts, name, share)[1:], expected, rtol=1e-6)
        for name, share in (("none", 0.1), ("auto", 0.9)):
            assert pixel_weights(counts, name, share).tolist() == [0, 1, 1]

    def test_scribbles_are_balanced(self, tiny, untraced):
        stack, truth = tiny
        rng = np.random.default_rng(0)
        scribbled = truth.where(rng.random(truth.shape) < 0.05, 0).astype(np.uint8)

        def first_loss(labels, weights):
            trained = fp.train_resunet(
                stack, labels, indices=INDICES, network="small", steps=1, class_weights=weights
            )
            return trained.history[0]["loss"]

        by_default = first_loss(scribbled, "auto")
        assert by_default == first_loss(scribbled, "balanced")
        assert by_default != first_loss(scribbled, "none")


class TestCorrections:
    WEIGHTS = pixel_weights(np.array([900, 100]), "none", 1, 5)

    def test_a_corrected_pixel_counts_as_often_as_it_weighs(self):
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 3, (2, 4, 4))
        logits = rng.normal(size=(2, 4, 4, 2)).astype(np.float32)
        labels[0, 0, 0] = 1
        # The same pixel five times over, in a row of its own.
        row = np.zeros((2, 5, 4), int)
        row[:, :4] = labels
        repeated = np.concatenate([logits, np.zeros((2, 1, 4, 2), np.float32)], axis=1)
        row[0, 4], repeated[0, 4] = 1, logits[0, 0, 0]
        corrected = labels.copy()
        corrected[0, 0, 0] = 3
        weighed, plain = (
            LabelledMean("cross_entropy", weights)
            for weights in (self.WEIGHTS, pixel_weights(np.array([900, 100]), "none", 1))
        )
        weighed.update_state(corrected, logits)
        plain.update_state(row, repeated)
        assert float(weighed.result()) == pytest.approx(float(plain.result()), rel=1e-5)

    def test_a_network_follows_them(self, tiny, untraced):
        stack, truth = tiny
        wrong = np.where(truth > 0, 3 - truth, 0).astype(np.uint8)
        by_hand = np.zeros_like(wrong)
        by_hand[:, ::2] = truth[:, ::2]

        def first_loss(**options):
            trained = fp.train_resunet(
                stack, wrong, indices=INDICES, network="small", steps=1, **options
            )
            return trained.history[0]["loss"], trained

        plain, _ = first_loss()
        some, trained = first_loss(corrections=by_hand, correction_weight=1)
        more, _ = first_loss(corrections=by_hand, correction_weight=50)
        truly, _ = first_loss(corrections=truth)
        assert len({plain, some, more, truly}) == 4
        assert trained.card.scores["corrected_pixels"] == np.count_nonzero(by_hand)
        assert trained.training["correction_weight"] == 1


class TestPatches:
    @pytest.fixture
    def views(self, tiny):
        stack, truth = tiny
        return sampling.Views(
            SliceReader(stack), truth, INDICES, Context.for_spacing(10.0), "forward"
        )

    def patches(self, views, epoch=0, size=32):
        made = sampling.Patches([(views, INDICES)], size, 8, 4, seed=0)
        made.epoch = epoch
        return made

    def test_a_batch_depends_on_seed_epoch_and_number_alone(self, views):
        ours, theirs = self.patches(views), self.patches(views)
        for number in (3, 0):
            theirs[number]
        for here, there in zip(ours[2], theirs[2], strict=True):
            np.testing.assert_array_equal(here, there)
        assert (ours[2][0] != ours[3][0]).any()
        assert (ours[2][0] != self.patches(views, epoch=1)[2][0]).any()

    @pytest.mark.parametrize("size", [16, 32, 48])
    def test_patches_of_any_size_are_whole(self, size, views):
        for number in range(4):
            x, y = self.patches(views, size=size)[number]
            assert x.shape == (8, size, size, 14)
            assert x.dtype == np.float32
            assert np.isfinite(x).all()
            assert y.shape == (8, size, size)
            assert set(np.unique(y)) == {1, 2}

    def test_labels_are_bent_with_their_slices(self, tiny):
        labels = tiny[1][0].to_numpy()
        view = np.repeat(labels[..., None, None], 12, axis=2).astype(np.float32)
        moved = 0.0
        for seed in range(20):
            made, bent = sampling._deform(view, labels, 32, np.random.default_rng(seed))
            assert made.shape == (32, 32, 12, 1)
            assert (made == made[:, :, :1]).all()
            assert (np.rint(made[..., 0, 0]) == bent).mean() > 0.98
            moved = max(moved, (bent != sampling._deform(view, labels, 32, Straight())[1]).mean())
        assert moved > 0.02

    def test_without_bend_and_zoom_nothing_is_changed(self, tiny):
        labels = tiny[1][0].to_numpy()
        view = np.random.default_rng(0).random((48, 48, 12, 1), np.float32)
        made, bent = sampling._deform(view, labels, 48, Straight())
        np.testing.assert_allclose(made, view, atol=1e-5)
        np.testing.assert_array_equal(bent, labels)


class Straight:
    """A generator that draws no bend."""

    def uniform(self, low, high):
        return 0.0

    def standard_normal(self, shape):
        return np.zeros(shape)


class TestCurve:
    def test_it_grows_while_it_trains(self, tiny, tmp_path, monkeypatch):
        monkeypatch.setattr(training, "STEPS_PER_CHECK", 3)
        table = tmp_path / "curve.csv"
        lengths = []

        class Reader:
            def update(self, description, done, total):
                lengths.append(len(rows()) if table.exists() else 0)

        def rows():
            with table.open(encoding="utf-8", newline="") as stream:
                return list(csv.DictReader(stream))

        with reporting(Reader()):
            trained = fp.train_resunet(
                *tiny, indices=INDICES, network="small", steps=7, curve=tmp_path / "curve.png"
            )
        assert sorted(set(lengths)) == [0, 1, 2]
        written = [{name: float(value) for name, value in row.items()} for row in rows()]
        assert written == list(trained.history)
        assert set(written[0]) == {"step", "loss", "accuracy", "val_loss", "val_accuracy"}
        assert imread(tmp_path / "curve.png").shape[:2] > (300, 800)
        assert len(list(tmp_path.iterdir())) == 2

    @pytest.mark.parametrize("name", ["curve.jpg", "none/curve.png"])
    def test_a_file_that_cannot_be_written_is_refused_before_it_trains(self, name, tiny, tmp_path):
        with pytest.raises(fp.ParameterError, match="`curve`"):
            fp.train_resunet(*tiny, indices=INDICES, curve=tmp_path / name)


def test_from_one_slice_it_does_not_forget_what_it_knew(phantom, resunet, tmp_path):
    """The one that is labelled says the contrary of all that was learnt, and has no upper side."""
    resunet.save(tmp_path / "start.poreseg")
    contrary = fp.make_labels((3 - phantom.truth.to_numpy()).astype(np.uint8), phantom.stack)
    trained = fp.train_resunet(
        phantom.stack,
        contrary,
        indices=[0],
        network="small",
        start=tmp_path / "start.poreseg",
        steps=20,
    )
    assert trained.card.training_indices == (0,)
    options = {"indices": [15, 21]}
    before, after = (
        fp.segment(phantom.stack, model=model, **options).segmentation[[15, 21]]
        for model in (resunet, trained)
    )
    # Without a rehearsal it is 0.6.
    assert float((before == after).mean()) > 0.8


@pytest.mark.gpu
class TestGpu:
    @pytest.fixture(params=[1, 2])
    def count(self, request):
        found = len(tf.config.list_physical_devices("GPU"))
        if found < request.param:
            # A GPU is no package that could be installed; where there is one, this runs.
            pytest.skip(f"needs {request.param} GPU(s), and there are {found}")
        return request.param

    def test_it_trains_in_mixed_precision(self, count, tiny):
        stack, truth = tiny
        trained = fp.train_resunet(stack, truth, indices=INDICES, network="small", steps=120)
        assert {weight.dtype for weight in trained.weights.values()} == {np.dtype(np.float32)}
        made = fp.segment(stack, model=trained, indices=[4])
        scored = fp.evaluate(made.segmentation, truth, indices=[4])
        assert scored.mean["accuracy"] > scored.mean["majority_accuracy"]
