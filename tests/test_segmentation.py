"""A model applied: what is large is written and read slice by slice, and is the same."""

import errno
import random
import signal
import subprocess
import sys
import time

import dask.array as da
import numpy as np
import pytest

import fiji_poreseg as fp
from fiji_poreseg import features, segmentation, threads
from fiji_poreseg.errors import Canceled
from fiji_poreseg.features import FeatureReader
from fiji_poreseg.files import zarr_writing
from fiji_poreseg.files.zarr_metadata import Level
from fiji_poreseg.forest import ForestModel
from fiji_poreseg.progress import reporting

IMAGES = ("segmentation", "probability", "uncertainty")


@pytest.fixture(scope="module")
def small():
    """12 slices of 32 x 48 voxels, with a border without data, and its truth of three classes."""
    made = fp.phantom(slices=12, size=48, feature_size_nm=150, attenuation_nm=150)
    stack = made.stack[:, :32].assign_coords(slice_label=("z", list("abcdefghijkl")))
    stack = stack.assign_attrs(nodata=0)
    stack[:, :3] = 0
    truth = made.truth[:, :32].copy()
    truth[:, -9:] = 3
    return stack, truth


@pytest.fixture(scope="module", params=[("pore", "solid"), ("pore", "solid", "metal")], ids=len)
def forest(request, small):
    """A small forest of two or of three classes."""
    stack, truth = small
    labels = truth if len(request.param) == 3 else truth.where(truth < 3, 0)
    return fp.train_forest(stack, labels, indices=(0, 6), trees=5, classes=request.param, nodata=0)


def paths(folder):
    """Arguments for `segment`: where to write each image."""
    return {name: folder / f"{name}.tif" for name in ("output", "probability", "uncertainty")}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("indices", [None, (1, 4, 11)])
def test_a_large_result_goes_to_files_and_is_the_same(
    tmp_path, monkeypatch, small, forest, indices
):
    (tmp_path / "eager").mkdir()
    (tmp_path / "large").mkdir()
    given = {"model": forest, "indices": indices, "nodata": 0}
    eager = fp.segment(small[0], **given, **paths(tmp_path / "eager"))
    monkeypatch.setattr(segmentation, "LARGE_BYTES", 1000)
    large = fp.segment(small[0], **given, **paths(tmp_path / "large"))
    assert eager.made == large.made == IMAGES
    for name in IMAGES:
        assert isinstance(getattr(eager, name).data, np.ndarray)
        assert isinstance(getattr(large, name).data, da.Array)
        assert getattr(large, name).identical(getattr(eager, name))
    assert contents(tmp_path / "large") == contents(tmp_path / "eager")
    for name, path in zip(IMAGES, paths(tmp_path / "large").values(), strict=True):
        np.testing.assert_array_equal(fp.read(path), getattr(eager, name))
        # What was answered stays although another takes the file's place.
        fp.write(path, eager.segmentation[::-1])
        assert getattr(large, name).identical(getattr(eager, name))


def test_large_ones_are_read_from_a_zarr_too(tmp_path, monkeypatch, small, forest):
    monkeypatch.setattr(segmentation, "LARGE_BYTES", 1000)
    places = {"output": tmp_path / "o.zarr", "probability": tmp_path / "p.zarr"}
    made = fp.segment(small[0], model=forest, nodata=0, **places)
    for name, path in zip(IMAGES, places.values(), strict=False):
        assert isinstance(getattr(made, name).data, da.Array)
        np.testing.assert_array_equal(getattr(made, name), fp.read(path))


def test_a_large_probability_without_a_file_is_computed_when_asked_for(monkeypatch, small, forest):
    eager = fp.segment(small[0], model=forest, nodata=0)
    assert eager.made == IMAGES[:2]
    monkeypatch.setattr(segmentation, "LARGE_BYTES", 1000)
    asked = []

    def predict(model, stack, indices):
        asked.extend(indices)
        return original(model, stack, indices)

    original = ForestModel.predict
    monkeypatch.setattr(ForestModel, "predict", predict)
    large = fp.segment(small[0], model=forest, nodata=0)
    assert large.made == ("segmentation",)
    assert isinstance(large.segmentation.data, np.ndarray)
    asked.clear()
    np.testing.assert_array_equal(
        large.probability.isel(z=7).to_numpy(), eager.probability.isel(z=7)
    )
    assert set(asked) == {7}
    for name in IMAGES:
        assert getattr(large, name).identical(getattr(eager, name))


def test_some_slices_of_a_large_stack_are_held_without_the_others(monkeypatch, small, forest):
    eager = fp.segment(small[0], model=forest, indices=(1, 4), nodata=0)
    monkeypatch.setattr(segmentation, "LARGE_BYTES", eager.probability.nbytes // 6)
    large = fp.segment(small[0], model=forest, indices=(1, 4), nodata=0)
    assert isinstance(large.probability.data, da.Array)
    assert large.made == ("segmentation", "probability")
    for name in IMAGES:
        assert getattr(large, name).identical(getattr(eager, name))
    assert np.flatnonzero(large.segmentation.any(("y", "x"))).tolist() == [1, 4]


def test_labels_are_the_likeliest_and_the_uncertainty_is_what_the_margin_lacks(small, forest):
    stack = small[0]
    made = fp.segment(stack, model=forest, nodata=0)
    labels = dict(forest.predict_labels(stack, range(12)))
    for index, probabilities in forest.predict(stack, range(12)):
        found = made.segmentation[index].to_numpy()
        np.testing.assert_array_equal(labels[index], found)
        valid = found > 0
        assert not valid[:3].any()
        assert valid[3:].all()
        np.testing.assert_array_equal(found[valid] - 1, probabilities.argmax(axis=0)[valid])
        doubt = made.uncertainty[index].to_numpy()
        ordered = np.sort(probabilities, axis=0)
        np.testing.assert_allclose(doubt, 1 - (ordered[-1] - ordered[-2]), atol=1e-6)
        np.testing.assert_array_equal(np.isnan(doubt), ~valid)
    doubts = made.uncertainty.to_numpy()
    assert doubts.dtype == np.float32
    assert np.nanmin(doubts) == 0
    assert 0.9 < np.nanmax(doubts) <= 1


def test_a_near_tie_has_the_same_label_with_and_without_a_probability(tmp_path):
    """In float32 two classes are as likely that are not in float64."""
    made = fp.phantom(slices=16, size=64, feature_size_nm=150, attenuation_nm=150, seed=1)
    model = fp.train_forest(made.stack, made.truth, indices=(4, 8), trees=6, pixels=3000)
    labels = dict(model.predict_labels(made.stack, range(16)))
    exact = model.classifier.predict_proba(
        FeatureReader(made.stack, model.bank, "forward").pixels(2, slice(None))
    )
    assert (np.abs(exact[:, 0] - 0.5) < 1e-7).any()
    found = fp.segment(made.stack, model=model, probability=tmp_path / "p.tif").segmentation
    np.testing.assert_array_equal(found, np.stack(list(labels.values())))


@pytest.mark.parametrize("most", [1, 2, 5])
@pytest.mark.parametrize("pixels", [1, 100, 2**20])
def test_any_block_and_any_threads_give_the_same_bits(monkeypatch, small, forest, pixels, most):
    stack = small[0].assign_attrs(nodata=0)
    whole = [[*forest.predict(stack, range(12))], [*forest.predict_labels(stack, range(12))]]
    monkeypatch.setattr(features, "_PIXELS_AT_ONCE", pixels)
    with threads.limited_to(most):
        cut = [[*forest.predict(stack, range(12))], [*forest.predict_labels(stack, range(12))]]
    for expected, found in zip(whole, cut, strict=True):
        assert [index for index, _ in found] == list(range(12))
        for (_, ours), (_, theirs) in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


class CancelAt:
    """A user who presses Esc while the slice of that number is made."""

    def __init__(self, number):
        self.number = number

    def update(self, description, done, total):
        if description == "Segmenting" and done == self.number:
            raise Canceled


@pytest.mark.parametrize("large", [False, True])
def test_a_cancelled_command_leaves_the_files_as_they_were(
    tmp_path, monkeypatch, small, forest, large
):
    if large:
        monkeypatch.setattr(segmentation, "LARGE_BYTES", 1000)
    (tmp_path / "output.tif").write_bytes(b"a result of yesterday")
    (tmp_path / "uncertainty.tif").write_bytes(b"another one")
    before = contents(tmp_path)
    with reporting(CancelAt(5)), pytest.raises(Canceled):
        fp.segment(small[0], model=forest, nodata=0, **paths(tmp_path))
    assert contents(tmp_path) == before


def two_levels(image):
    """The smaller copy that a large image has."""
    half = tuple(side // 2 for side in image.shape)
    return [Level("0", image.shape, (1, 1, 1)), Level("1", half, (2, 2, 2))]


class TestResume:
    JOURNAL = ".output.tif.journal"

    @pytest.fixture
    def stopped(self, tmp_path, small, forest):
        """A folder in which a segmentation was stopped at its sixth slice."""
        folder = tmp_path / "stopped"
        folder.mkdir()
        with reporting(CancelAt(5)), pytest.raises(Canceled):
            fp.segment(small[0], model=forest, nodata=0, resume=True, **paths(folder))
        assert {path.name for path in folder.iterdir()} == {
            self.JOURNAL,
            *(f".{name}.tif.begun" for name in paths(folder)),
        }
        return folder

    def test_it_does_the_rest_where_the_disk_was_full_at_the_end(
        self, tmp_path, monkeypatch, small, forest
    ):
        def refuse(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        places = {"output": tmp_path / "o.zarr", "probability": tmp_path / "p.tif"}
        fp.write(places["probability"], small[0])
        older = places["probability"].read_bytes()
        with monkeypatch.context() as full:
            full.setattr(zarr_writing, "levels_of", two_levels)
            full.setattr(zarr_writing, "_shrink", refuse)
            with pytest.raises(fp.ParameterError, match=r"`output` must .* has space"):
                fp.segment(small[0], model=forest, nodata=0, resume=True, **places)
        assert places["probability"].read_bytes() == older
        assert not places["output"].exists()
        counter = Counter()
        monkeypatch.setattr(zarr_writing, "levels_of", two_levels)
        with reporting(counter):
            made = fp.segment(small[0], model=forest, nodata=0, resume=True, **places)
        assert counter.total == 0
        np.testing.assert_array_equal(made.probability, fp.read(places["probability"]))
        np.testing.assert_array_equal(made.segmentation, fp.read(places["output"]))

    def test_of_a_damaged_journal_only_numbers_count(self, stopped, small, forest):
        journal = stopped / self.JOURNAL
        first, *done = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"".join([first, *done[:2], b"\0\0\n\xff7\n"]))
        counter = Counter()
        with reporting(counter):
            fp.segment(small[0], model=forest, nodata=0, resume=True, **paths(stopped))
        assert counter.total == len(small[0]) - 2

    @pytest.mark.parametrize("first", [b"[]", b"1", b"[" * 100_000])
    def test_a_journal_that_says_not_of_what_is_begun_anew(self, stopped, small, forest, first):
        journal = stopped / self.JOURNAL
        _, *done = journal.read_bytes().splitlines(keepends=True)
        journal.write_bytes(b"\n".join([first, *done]))
        counter = Counter()
        with reporting(counter):
            fp.segment(small[0], model=forest, nodata=0, resume=True, **paths(stopped))
        assert counter.total == len(small[0])

    @pytest.mark.parametrize("large", [False, True])
    def test_it_does_the_rest_to_the_same_files(
        self, large, stopped, tmp_path, monkeypatch, small, forest
    ):
        if large:
            monkeypatch.setattr(segmentation, "LARGE_BYTES", 1000)
        done = len((stopped / self.JOURNAL).read_text().splitlines()) - 1
        counter = Counter()
        with reporting(counter):
            made = fp.segment(small[0], model=forest, nodata=0, resume=True, **paths(stopped))
        assert done > 0
        assert counter.total == len(small[0]) - done
        (tmp_path / "whole").mkdir()
        whole = fp.segment(small[0], model=forest, nodata=0, **paths(tmp_path / "whole"))
        assert contents(stopped) == contents(tmp_path / "whole")
        for name in IMAGES:
            assert getattr(made, name).identical(getattr(whole, name))

    def test_without_resume_it_starts_anew(self, stopped, small, forest):
        counter = Counter()
        with reporting(counter):
            fp.segment(small[0], model=forest, nodata=0, **paths(stopped))
        assert counter.total == len(small[0])
        assert set(contents(stopped)) == {"output.tif", "probability.tif", "uncertainty.tif"}

    @pytest.mark.parametrize(
        "what", ["image", "model", "indices", "uncertainty", "nodata", "voxel_size_nm"]
    )
    def test_something_else_is_refused(self, what, stopped, tmp_path, small, forest):
        stack = small[0].copy(deep=True)
        given = {"model": forest, "nodata": 0, **paths(stopped)}
        if what == "image":
            stack[11, 20, 20] += 1
        else:
            labels = small[1].where(small[1] < 3, 0)
            other = fp.train_forest(small[0], labels, indices=(0,), trees=2, nodata=0, folds=0)
            given[what] = {
                "model": other,
                "indices": (1, 2),
                "uncertainty": tmp_path / "u.tif",
                "nodata": 5,
                "voxel_size_nm": (20, 10, 10),
            }[what]
        before = contents(stopped)
        with pytest.raises(fp.ParameterError, match=f"`{what}` must be .*leave resume out"):
            fp.segment(stack, resume=True, **given)
        assert contents(stopped) == before

    def test_another_description_is_refused(self, stopped, small, forest):
        before = contents(stopped)
        with pytest.raises(fp.ParameterError, match=r"`output` must describe .*leave resume out"):
            fp.segment(
                small[0].assign_coords(slice_label=("z", list("mnopqrstuvwx"))),
                model=forest,
                nodata=0,
                resume=True,
                **paths(stopped),
            )
        assert contents(stopped) == before

    def test_what_is_begun_and_lost_is_begun_anew(self, stopped, small, forest):
        (stopped / ".probability.tif.begun").unlink()
        (stopped / self.JOURNAL).write_text((stopped / self.JOURNAL).read_text() + "1")
        fp.segment(small[0], model=forest, nodata=0, resume=True, **paths(stopped))
        assert set(contents(stopped)) == {"output.tif", "probability.tif", "uncertainty.tif"}
        assert (fp.read(stopped / "output.tif")[:, 3:] > 0).all()

    def test_a_disk_that_is_full_leaves_what_is_done(self, stopped, small, forest, file_size_limit):
        before = contents(stopped)
        file_size_limit(10)
        with pytest.raises(fp.ParameterError, match=r"`output` must lie in .* has space"):
            fp.segment(small[0], model=forest, nodata=0, resume=True, **paths(stopped))
        assert contents(stopped) == before
        file_size_limit(-1)
        counter = Counter()
        with reporting(counter):
            fp.segment(small[0], model=forest, nodata=0, resume=True, **paths(stopped))
        assert counter.total < len(small[0])

    def test_a_file_is_needed(self, small, forest):
        with pytest.raises(fp.ParameterError, match=r"`resume` needs `output`.*Give output as"):
            fp.segment(small[0], model=forest, resume=True)

    @pytest.mark.parametrize(
        ("most", "kills"), [(20, 2), pytest.param(12, 3, marks=pytest.mark.slow)]
    )
    def test_killed_again_and_again_it_ends_with_the_same_files(self, most, kills, tmp_path):
        made = fp.phantom(tmp_path, slices=40, size=128)
        model = tmp_path / "m.poreseg"
        fp.train_forest(made.stack, made.truth, indices=(0, 39), folds=0, model=model)
        fp.segment(tmp_path / "stack.tif", model=model, **paths(tmp_path))
        broken = tmp_path / "broken"
        broken.mkdir()
        rng = random.Random(0)
        codes = []
        while 0 not in codes:
            arguments = ["segment", tmp_path / "stack.tif", "--model", model, "--resume"]
            for name, path in paths(broken).items():
                arguments += [f"--{name}", path]
            process = subprocess.Popen(
                [sys.executable, "-m", "fiji_poreseg.cli", *map(str, arguments)]
            )
            aim = rng.randint(most - 10, most)
            journal = broken / self.JOURNAL
            before = lines(journal)
            while process.poll() is None and lines(journal) - before < aim:
                time.sleep(0.002)
            process.kill()
            codes.append(process.wait())
            assert codes[-1] in (0, -signal.SIGKILL)
        assert len(codes) > kills
        whole = {path.name: path.read_bytes() for path in paths(tmp_path).values()}
        assert contents(broken) == whole


def lines(journal):
    """Lines of a journal; 0 where there is none."""
    try:
        return journal.read_text().count("\n")
    except FileNotFoundError:
        return 0


class Counter:
    """Somebody who notes how many slices are to be segmented."""

    total = 0

    def update(self, description, done, total):
        if description == "Segmenting":
            self.total = total


def test_one_output_that_cannot_be_written_leaves_all_as_they_were(
    tmp_path, small, forest, file_size_limit
):
    (tmp_path / "output.tif").write_bytes(b"a result of yesterday")
    before = contents(tmp_path)
    # The segmentation fits, the probability does not.
    file_size_limit(3 * small[0].nbytes)
    with pytest.raises(fp.ParameterError, match="`probability` must lie in a folder"):
        fp.segment(small[0], model=forest, nodata=0, **paths(tmp_path))
    assert contents(tmp_path) == before


@pytest.mark.parametrize("large", [False, True])
def test_a_macro_sees_what_it_asked_for_and_the_segmentation_in_front(
    ij, tmp_path, monkeypatch, small, forest, large
):
    if large:
        monkeypatch.setattr(segmentation, "LARGE_BYTES", 1000)
    expected = fp.segment(small[0], model=forest)
    fp.write(tmp_path / "stack.tif", small[0])
    forest.save(tmp_path / "forest.poreseg")
    value = ij.run_macro(
        """
        folder = getArgument();
        open(folder + "/stack.tif");
        run("PoreSeg Segment", "model=[" + folder + "/forest.poreseg] nodata=0");
        seen = "" + String.join(getList("image.titles")) + ";" + getTitle() + ";";
        close("stack-*");
        selectImage("stack.tif");
        run("PoreSeg Segment", "model=[" + folder + "/forest.poreseg] nodata=0"
            + " output=[" + folder + "/s.tif] probability=[" + folder + "/p.tif]"
            + " uncertainty=[" + folder + "/u.tif]");
        seen = seen + String.join(getList("image.titles")) + ";" + getTitle();
        seen = seen + ";" + is("Virtual Stack");
        selectImage("stack-uncertainty");
        setSlice(8);
        return "" + seen + ";" + is("Virtual Stack") + ";" + d2s(getPixel(20, 10), 7);
        """,
        str(tmp_path),
    )
    first, front, second, front_again, virtual, *uncertainty = value.split(";")
    opened = ["stack.tif", "stack-probability", "stack-segmentation"]
    assert first.split(", ") == (["stack.tif", "stack-segmentation"] if large else opened)
    assert second.split(", ") == [opened[0], "stack-uncertainty", *opened[1:]]
    assert front == front_again == "stack-segmentation"
    assert virtual == uncertainty[0] == str(int(large))
    assert float(uncertainty[1]) == pytest.approx(float(expected.uncertainty[7, 10, 20]), abs=1e-6)
    np.testing.assert_array_equal(fp.read(tmp_path / "u.tif"), expected.uncertainty)
