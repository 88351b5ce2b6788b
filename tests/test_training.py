"""Training of the ResUNet: gone on with, started from another, what it minimises and sees."""

import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

import fiji_poreseg as fp
from fiji_poreseg.progress import reporting
from fiji_poreseg.resunet import training

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
    # Slice 4 is held out of three; of two slices none is.
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
            ({"nodata": 0}, "`nodata` must be None"),
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
        with pytest.raises(fp.ParameterError, match="`labels` must be those of the training"):
            resume(labels=labels)
        # Slice 5 holds no labels that are used, but is seen as a neighbour.
        stack[5, 3, 3] += 1
        with pytest.raises(fp.ParameterError, match="`image` must be those of the training"):
            resume(stack)

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
        with pytest.raises(fp.ParameterError, match=r"`resume` needs a model file.*Give model="):
            resume(model=None)
