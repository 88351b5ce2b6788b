"""From a few labels to a checked segmentation, and where it stops and says so."""

import json
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fiji_poreseg as fp
from fiji_poreseg.automatic.checking import better
from fiji_poreseg.commands.presentation import automatic
from fiji_poreseg.progress import reporting

MACROS = Path(__file__).parent.parent / "macros"
LABELLED = (3, 11, 19, 27)
pytestmark = pytest.mark.usefixtures("untraced_module")
QUICK = {"count": 4, "steps": 3, "trees": 20}
FILES = {"forest.poreseg", "resunet.poreseg", "segmentation.tif", "probability.tif", "report.json"}


@pytest.fixture(scope="module")
def labels(phantom):
    """As many pixels of either class, in four slices."""
    rng = np.random.default_rng(0)
    truth = phantom.truth.to_numpy()
    values = np.where(rng.random(truth.shape) < np.where(truth == 2, 0.2, 0.05), truth, 0)
    values[[z for z in range(len(truth)) if z not in LABELLED]] = 0
    return fp.make_labels(values.astype(np.uint8), phantom.stack)


@pytest.fixture(scope="module")
def made(phantom, labels, tmp_path_factory, untraced_module):
    folder = tmp_path_factory.mktemp("auto") / "made"
    return fp.auto(phantom.stack, labels, output=folder, **QUICK)


@pytest.fixture(scope="module")
def strange(phantom):
    """The stack, after a detector failed behind the labels."""
    values = phantom.stack.to_numpy().astype(float)
    values[12:] += np.random.default_rng(0).normal(0, 40, values[12:].shape)
    return phantom.stack.copy(data=values.clip(0, 255).astype(np.uint8))


def contents(folder):
    return {path.name for path in folder.iterdir()}


def test_it_leaves_models_images_and_a_report(made, phantom):
    assert contents(made.folder) == FILES
    report = json.loads((made.folder / "report.json").read_text())
    assert report["trusted"]
    assert made.trusted
    assert report["accuracy"] == made.accuracy
    assert report["accuracy_by_labels"] == made.accuracy_by_labels._asdict()
    right = float((made.segmentation == phantom.truth).mean())
    assert right > 0.93
    assert abs(made.accuracy - right) < 0.03
    assert made.porosity.low < float((phantom.truth == 1).mean()) < made.porosity.high
    assert made.porosity.high - made.porosity.low < 0.1


def test_the_segmentation_is_that_of_the_model_it_names(made, phantom):
    model = {"resunet": made.folder / "resunet.poreseg", "pretrained": "pretrained"}[made.model]
    again = fp.segment(phantom.stack, model=model)
    np.testing.assert_array_equal(again.segmentation, made.segmentation)
    np.testing.assert_array_equal(again.probability, made.probability)


def test_what_judges_was_not_trained_on(made, labels, phantom):
    trained = fp.load(made.folder / "resunet.poreseg").card.training_indices
    assert len(trained) == QUICK["count"]
    assert not set(trained) & set(LABELLED)
    # Labels that are wrong half of the time leave nothing to be sure of.
    values, rng = labels.to_numpy(), np.random.default_rng(1)
    swapped = np.where((values > 0) & (rng.random(values.shape) < 0.5), 3 - values, values)
    absurd = fp.auto(
        phantom.stack, fp.make_labels(swapped, phantom.stack), output=made.folder / "x", **QUICK
    )
    assert not absurd.trusted
    assert absurd.accuracy is None
    assert absurd.porosity is None


def test_it_stops_where_slices_look_otherwise_and_says_which_to_label(strange, labels, tmp_path):
    early = labels.copy(data=np.where(np.arange(30)[:, None, None] < 12, labels, 0))
    old = tmp_path / "out" / "segmentation.tif"
    old.parent.mkdir()
    fp.write(old, early)
    (old.parent / "resunet.poreseg").write_bytes(b"of an earlier call")
    left = dict.fromkeys(("alarms", "model", "accuracy", "porosity", "to_label"))
    left |= {"files": ["segmentation.tif", "resunet.poreseg"], "settings": {}}
    (old.parent / "report.json").write_text(json.dumps(left))
    stopped = fp.auto(strange, early, output=tmp_path / "out", **QUICK)
    assert "noisier than what was trained on" in stopped.alarms[0]
    assert (stopped.segmentation, stopped.accuracy, stopped.porosity) == (None, None, None)
    assert contents(old.parent) == {"forest.poreseg", "report.json"}
    assert any(index >= 12 for index in stopped.to_label)
    assert fp.auto(strange, early, output=old.parent, resume=True, **QUICK).alarms == stopped.alarms

    anyway = fp.auto(strange, early, output=tmp_path / "anyway", anyway=True, **QUICK)
    assert anyway.alarms[: len(stopped.alarms)] == stopped.alarms
    assert anyway.segmentation.shape == strange.shape
    assert (anyway.accuracy, anyway.porosity) == (None, None)


def test_it_names_slices_to_label_that_are_not_labelled(phantom, tmp_path):
    values = phantom.truth.to_numpy().copy()
    values[:, 1::3] = values[:, 2::3] = 0
    values[[z for z in range(30) if z not in (0, 2, 4, 6)]] = 0
    grey = phantom.stack.to_numpy()[:8].astype(float)
    grey[1::2] += np.random.default_rng(0).normal(0, 40, grey[1::2].shape)
    stack = phantom.stack[:8].copy(data=grey.clip(1, 255).astype(np.uint8))
    labels = fp.make_labels(values[:8], stack)
    stopped = fp.auto(stack, labels, output=tmp_path / "out", **QUICK)
    assert sorted(stopped.to_label) == [1, 3, 5, 7]
    # None where nothing else holds data.
    blank = np.where(np.arange(8)[:, None, None] % 2, 0, stack).astype(np.uint8)
    alone = fp.auto(
        stack.copy(data=blank), labels, output=tmp_path / "alone", nodata=0, **QUICK, anyway=True
    )
    assert alone.to_label == ()
    assert "no others hold data" in " ".join(automatic(alone).lines)


class StoppedError(Exception):
    pass


class StopAt:
    """Stops at a step of the work."""

    def __init__(self, step, done):
        self.step, self.done, self.seen = step, done, []

    def update(self, description, done, total):
        del total
        self.seen.append(description)
        if self.step in description and done >= self.done:
            raise StoppedError


@pytest.mark.parametrize(
    ("step", "done"), [("Growing trees", 10), ("Comparing", 3), ("Segmenting", 7)]
)
def test_what_is_stopped_is_gone_on_with(made, phantom, labels, tmp_path, step, done):
    folder = tmp_path / "out"
    with pytest.raises(StoppedError), reporting(StopAt(step, done)):
        fp.auto(phantom.stack, labels, output=folder, **QUICK)
    # Nothing has its name before all is done.
    assert not contents(folder) & FILES
    listener = StopAt("never", 0)
    with reporting(listener):
        again = fp.auto(phantom.stack, labels, output=folder, resume=True, **QUICK)
    if step != "Growing trees":
        assert not any("Growing trees" in said for said in listener.seen)
    assert contents(folder) == FILES
    np.testing.assert_array_equal(again.segmentation, made.segmentation)
    assert again.as_json() == made.as_json()
    for name in ("forest.poreseg", "resunet.poreseg"):
        assert (folder / name).read_bytes() == (made.folder / name).read_bytes()


def test_what_is_done_is_not_done_again(made, phantom, labels):
    listener = StopAt("Step", 0)
    with reporting(listener):
        again = fp.auto(phantom.stack, labels, output=made.folder, resume=True, **QUICK)
    assert again.as_json() == made.as_json()
    with pytest.raises(fp.ParameterError, match="`trees` must be 20, as in the call of auto"):
        fp.auto(phantom.stack, labels, output=made.folder, resume=True, **(QUICK | {"trees": 21}))


def test_what_no_auto_made_is_left_alone(phantom, labels, tmp_path):
    (tmp_path / "resunet.poreseg").write_bytes(b"made by hand")
    with pytest.raises(fp.ParameterError, match=r"something else.* with resunet\.poreseg"):
        fp.auto(phantom.stack, labels, output=tmp_path, **QUICK)
    assert contents(tmp_path) == {"resunet.poreseg"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"milling": "reverse"}, "`milling` must be forward"),
        ({"voxel_size_nm": (20, 10, 10)}, "`voxel_size_nm` must be 10"),
        ({"classes": ("air", "rock")}, "`classes` must be pore,solid"),
        ({"network": "small"}, "`network` must be base"),
        ({"indices": LABELLED[1:]}, "`indices` must be 3,11,19,27"),
    ],
)
def test_what_changed_is_named_as_it_was_given(made, phantom, labels, changed, said):
    """Milling, classes and network decide which ResUNet it starts from, too."""
    with pytest.raises(fp.ParameterError, match=said):
        fp.auto(phantom.stack, labels, output=made.folder, resume=True, **(QUICK | changed))


@pytest.mark.parametrize("change", ["more slices", "fewer slices", "other pixels"])
def test_of_other_labels_it_is_not_said_that_the_indices_changed(made, phantom, labels, change):
    other = labels.copy(deep=True)
    if change == "more slices":
        other[5] = other[3]
    elif change == "fewer slices":
        other[3] = 0
    else:
        other[3] = np.where(other[3] > 0, 3 - other[3], 0)
    with pytest.raises(fp.ParameterError, match="`labels` must be what it was in the call of auto"):
        fp.auto(phantom.stack, other, output=made.folder, resume=True, **QUICK)


def test_another_resunet_that_ships_is_not_a_parameter(made, phantom, labels, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(made.folder, folder)
    report = json.loads((folder / "report.json").read_text())
    report["settings"]["start"] = "of another version"
    (folder / "report.json").write_text(json.dumps(report))
    with pytest.raises(fp.ParameterError, match=r"`resume` needs the ResUNet .* another version"):
        fp.auto(phantom.stack, labels, output=folder, resume=True, **QUICK)


class Waiting(StopAt):
    """Waits where it would stop, until it may."""

    def __init__(self, step):
        super().__init__(step, 0)
        self.there, self.ended = threading.Event(), threading.Event()

    def update(self, description, done, total):
        try:
            super().update(description, done, total)
        except StoppedError:
            self.there.set()
            self.ended.wait(60)
            raise


def test_two_calls_do_not_work_in_one_folder(phantom, labels, tmp_path):
    listener = Waiting("Growing trees")

    def first():
        with reporting(listener):
            fp.auto(phantom.stack, labels, output=tmp_path, **QUICK)

    with ThreadPoolExecutor(1) as other:
        call = other.submit(first)
        listener.there.wait(60)
        begun = {path: list(path.iterdir()) for path in tmp_path.iterdir() if path.is_dir()}
        for resume in (False, True):
            said = r"`output` must not be a file that another command is writing.*Wait"
            with pytest.raises(fp.ParameterError, match=said):
                fp.auto(phantom.stack, labels, output=tmp_path, resume=resume, **QUICK)
        assert {path: list(path.iterdir()) for path in begun} == begun
        listener.ended.set()
        with pytest.raises(StoppedError):
            call.result()
    assert not list(tmp_path.glob("*.lock"))


@pytest.mark.parametrize("content", ['{"mine": 1}', "", '{"files": 1', "[" * 100_000])
@pytest.mark.parametrize("resume", [False, True])
def test_a_report_of_something_else_is_left_alone(phantom, labels, tmp_path, content, resume):
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(fp.ParameterError, match=r"with report\.json. Name another") as caught:
        fp.auto(phantom.stack, labels, output=tmp_path, resume=resume, **QUICK)
    assert caught.value.parameter == "output"
    assert contents(tmp_path) == {"report.json"}
    assert (tmp_path / "report.json").read_text() == content


@pytest.mark.parametrize("where", ["put in place", "cleaned up"])
def test_what_a_killed_call_left_goes_with_the_next_one(
    made, strange, phantom, labels, tmp_path, monkeypatch, where
):
    """Killed at its end, it leaves files under their names and a folder that knows of them."""
    folder = tmp_path / "out"

    def stop(*_, **__):
        raise StoppedError

    def replace(self, target, *, real=Path.replace):
        return stop() if target.name == "probability.tif" else real(self, target)

    # Not trained again: it goes on where all is made.
    with pytest.raises(StoppedError), reporting(StopAt("Growing trees", 10)):
        fp.auto(phantom.stack, labels, output=folder, **QUICK)
    (work,) = folder.iterdir()
    for name in FILES:
        shutil.copy(made.folder / name, work / name)
    with monkeypatch.context() as killed:
        if where == "put in place":
            killed.setattr(Path, "replace", replace)
        else:
            killed.setattr(shutil, "rmtree", stop)
        with pytest.raises(StoppedError):
            fp.auto(phantom.stack, labels, output=folder, resume=True, **QUICK)
    assert contents(folder) > {"forest.poreseg", "resunet.poreseg", "segmentation.tif"}
    early = labels.copy(data=np.where(np.arange(30)[:, None, None] < 12, labels, 0))
    assert fp.auto(strange, early, output=folder, **QUICK).alarms
    assert contents(folder) == {"forest.poreseg", "report.json"}


class Sure:
    """A model that is 99 % sure that one half is pore and the other solid."""

    def predict(self, stack, indices):
        for index in indices:
            solid = np.full(stack.shape[1:], 0.01, np.float32)
            solid[:, solid.shape[1] // 2 :] = 0.99
            yield index, np.stack([1 - solid, solid])

    def predict_labels(self, stack, indices):
        for index, (_, solid) in self.predict(stack, indices):
            yield index, np.where(solid > 0.5, 2, 1).astype(np.uint8)


@pytest.mark.parametrize(
    ("slices", "classes"), [([1], 2), ([0, 1, 2], 2), ([0, 1, 2], 3), ([1], 3)]
)
def test_it_expects_no_more_than_the_labels_leave_open(slices, classes):
    stack = fp.make_stack(np.zeros((4, 20, 20), np.uint8), (10, 10, 10))
    values = np.zeros(stack.shape, np.uint8)
    values[slices, :, :10], values[slices, :, 10:] = 1, 2
    # Four rows in ten are the other way round.
    values[slices, :8, :10], values[slices, :8, 10:] = 2, 1
    labels = fp.make_labels(values, stack, classes=("pore", "solid", "glue")[:classes])
    model = Sure()
    check = better([model], model, stack, labels, slices, range(4), None)
    # The model is 99 % sure; six labels in ten are as it says, and chance leaves open a little.
    assert check.by_labels.value == pytest.approx(0.6)
    assert check.accuracy == (check.by_labels.high or check.by_labels.value) < 0.63
    assert re.search(r"(37|40)% of the pixels are expected to be wrong", check.alarms[0])


class Doubting(Sure):
    """A model that gives the classes of the other one 80 %."""

    def predict(self, stack, indices):
        for index, planes in super().predict(stack, indices):
            yield index, np.where(planes > 0.5, 0.8, 0.2).astype(np.float32)


def test_what_was_taught_by_others_does_not_judge_itself():
    stack = fp.make_stack(np.zeros((4, 20, 20), np.uint8), (10, 10, 10))
    values = np.zeros(stack.shape, np.uint8)
    values[:3, :, :10], values[:3, :, 10:] = 1, 2
    taught, judge = Sure(), Doubting()
    check = better(
        [taught], taught, stack, fp.make_labels(values, stack), [0, 1, 2], range(4), judge
    )
    assert check.model is taught
    assert check.accuracy == pytest.approx(0.8)
    assert check.by_labels.value == 1


def test_labels_of_one_class_leave_nothing_to_go_on_with(phantom, labels, tmp_path):
    pores = labels.copy(data=np.where(labels == 1, 1, 0).astype(np.uint8))
    with pytest.raises(fp.ParameterError, match="at least two classes"):
        fp.auto(phantom.stack, pores, output=tmp_path, **QUICK)
    assert not list(tmp_path.iterdir())


def test_labels_everywhere_leave_nothing_to_find_out(phantom, tmp_path):
    with pytest.raises(fp.ParameterError, match="must leave slices to find out about"):
        fp.auto(phantom.stack, phantom.truth, output=tmp_path / "out", **QUICK)


def test_three_classes_and_two_detectors(phantom, labels, tmp_path):
    values = labels.to_numpy().copy()
    values[:, :, :8] = np.where(values[:, :, :8] > 0, 3, 0)
    stack = fp.make_stack(np.stack([phantom.stack, 255 - phantom.stack.data]), (10, 10, 10))
    stack[:, :, :, :8] = stack[:, :, :, :8] // 4 + 190
    made = fp.auto(
        stack,
        values,
        output=tmp_path / "out",
        anyway=True,
        network="small",
        classes=("pore", "solid", "glue"),
        **QUICK,
    )
    assert made.model == "resunet"
    assert made.probability.dims == ("class", "z", "y", "x") or made.probability.sizes["c"] == 3
    assert made.porosity is None


def test_the_example_macro_leaves_the_same(ij, made, phantom, labels, tmp_path, capfd):
    fp.write(tmp_path / "stack.tif", phantom.stack)
    fp.write(tmp_path / "labels.tif", labels)
    options = " ".join(f"{name}={value}" for name, value in QUICK.items())
    ij.run_macro(MACROS / "auto.ijm", f"{tmp_path}|{options}")
    assert f"It can be trusted: {tmp_path}/auto/segmentation.tif" in capfd.readouterr().out
    by_macro = json.loads((tmp_path / "auto" / "report.json").read_text())
    of_python = json.loads((made.folder / "report.json").read_text())
    assert by_macro == of_python
