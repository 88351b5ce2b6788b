"""The correction round trip: merging, counting, going back, and a file that keeps it all."""

import json
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roifile import ROI_TYPE, ImagejRoi

import fiji_poreseg as fp
from fiji_poreseg.errors import ParameterError, PoreSegWarning

RNG = np.random.default_rng(3)
SHAPE = (4, 7, 9)
FOUND = RNG.integers(1, 3, SHAPE).astype(np.uint8)


def labels(values):
    return fp.make_labels(values, fp.make_stack(values, (10, 10, 10), name="s"), name="seg")


def some(seed, share=0.2):
    """Labels painted over some pixels, 0 elsewhere."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(1, 3, SHAPE)
    return np.where(rng.random(SHAPE) < share, classes, 0).astype(np.uint8)


@pytest.fixture
def begun(tmp_path):
    """A segmentation that was corrected once, and its history."""
    history = tmp_path / "h.npz"
    made = fp.correct(labels(FOUND), labels(some(1)), history=history, output=tmp_path / "1.tif")
    return made.segmentation, history


def test_what_is_painted_wins_and_is_counted(tmp_path):
    painted = np.zeros(SHAPE, np.uint8)
    painted[2, :4] = 2
    painted[3, 0, 0] = 1
    segmentation = labels(FOUND)
    made = fp.correct(segmentation, labels(painted), json=tmp_path / "c.json", checked=[1])
    np.testing.assert_array_equal(made.segmentation, np.where(painted > 0, painted, FOUND))
    np.testing.assert_array_equal(segmentation, FOUND)
    written = json.loads((tmp_path / "c.json").read_text())
    changed = int((FOUND[2, :4] == 1).sum())
    assert written["slices"][0] == {
        "index": 2,
        "pore_to_solid": changed,
        "solid_to_pore": 0,
        "hand_made": 36,
        "overruled": 0,
        "state": "touched",
    }
    assert written["slices"][1]["solid_to_pore"] == int(FOUND[3, 0, 0] == 2)
    assert written["total"]["pore_to_solid"] == changed
    assert (written["checked"], written["unseen"]) == ([1], [0])
    assert made.states == ("unseen", "checked", "touched", "touched")
    expected = painted.copy()
    expected[1] = FOUND[1]
    np.testing.assert_array_equal(made.hand, expected)


def test_what_was_left_in_a_checked_slice_is_overruled(tmp_path):
    elsewhere = np.zeros(SHAPE, np.uint8)
    elsewhere[2, 0, 0] = 1
    first = fp.correct(labels(FOUND), labels(elsewhere), checked=(0,), history=tmp_path / "h.npz")
    painted = np.zeros(SHAPE, np.uint8)
    painted[0, 0, :2] = 3 - FOUND[0, 0, 0], FOUND[0, 0, 1]
    painted[1, 0, 0] = 3 - FOUND[1, 0, 0]
    made = fp.correct(first.segmentation, labels(painted), history=tmp_path / "h.npz")
    assert [(one.index, one.overruled) for one in made.changes] == [(0, 1), (1, 0)]


def test_checked_slices_that_there_are_not_are_refused():
    with pytest.raises(ParameterError, match="`checked` must lie from 0 to 3"):
        fp.correct(labels(FOUND), labels(some(1)), checked=(7,))


def test_of_an_edited_copy_what_differs_is_made_by_hand():
    edited = np.where(some(2) > 0, some(2), FOUND).astype(np.uint8)
    made = fp.correct(labels(FOUND), labels(edited))
    np.testing.assert_array_equal(made.segmentation, edited)
    np.testing.assert_array_equal(made.hand, np.where(edited != FOUND, edited, 0))
    assert made.total["hand_made"] == (edited != FOUND).sum()


def test_rois_over_all_of_it_confirm_it():
    whole = ImagejRoi(
        roitype=ROI_TYPE.RECT, bottom=SHAPE[1], right=SHAPE[2], position=1, name="pore"
    )
    made = fp.correct(labels(FOUND[:1]), [whole])
    assert made.total["hand_made"] == FOUND[0].size


def test_a_copy_in_which_pixels_were_erased_is_told():
    edited = FOUND.copy()
    edited[1, 2, 3:5] = 0
    with pytest.warns(PoreSegWarning, match=r"an edited copy in which 2 pixels were erased"):
        fp.correct(labels(FOUND), labels(edited))


def test_arguments_that_were_swapped_are_told():
    with pytest.warns(PoreSegWarning, match=r"were the two taken for each other\?"):
        fp.correct(labels(some(1)), labels(FOUND))


def test_pixels_without_data_stay_so_in_an_edited_copy():
    found = FOUND.copy()
    found[0] = 0
    edited = found.copy()
    edited[1, 0, 0] = 3 - edited[1, 0, 0]
    made = fp.correct(labels(found), labels(edited))
    assert made.total["hand_made"] == 1
    np.testing.assert_array_equal(made.segmentation, edited)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rounds=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4))
def test_the_counts_are_those_of_the_images_and_undo_goes_all_the_way_back(
    tmp_path_factory, rounds
):
    history = tmp_path_factory.mktemp("h") / "h.npz"
    kept = [labels(FOUND)]
    said = np.zeros(SHAPE, np.uint8)
    hand = said
    for seed in rounds:
        painted = some(seed, share=0.5)
        made = fp.correct(kept[-1], labels(painted), history=history, checked=[seed % SHAPE[0]])
        before, after = kept[-1].to_numpy(), made.segmentation.to_numpy()
        for index in range(SHAPE[0]):
            recount = {
                "pore_to_solid": ((before == 1) & (after == 2))[index].sum(),
                "solid_to_pore": ((before == 2) & (after == 1))[index].sum(),
                "hand_made": (painted > 0)[index].sum(),
                "overruled": ((painted > 0) & (hand > 0) & (hand != painted))[index].sum(),
            }
            entries = [change for change in made.changes if change.index == index]
            assert entries or not recount["hand_made"]
            for name, number in recount.items():
                assert sum(getattr(entry, name) for entry in entries) == number
        said = np.where(painted > 0, painted, said)
        hand = said.copy()
        for other in rounds[: len(kept)]:
            hand[other % SHAPE[0]] = after[other % SHAPE[0]]
        np.testing.assert_array_equal(made.hand, hand)
        kept.append(made.segmentation)
    for before, after in zip(kept[-2::-1], kept[:0:-1], strict=True):
        np.testing.assert_array_equal(
            fp.undo_correction(after, history=history).segmentation, before
        )
    with pytest.raises(ParameterError, match="`history` must hold a correction to take back"):
        fp.undo_correction(kept[0], history=history)


def test_a_history_goes_on_only_from_where_it_was(begun, tmp_path):
    _, history = begun
    kept = history.read_bytes()
    with pytest.raises(ParameterError, match=r"as the last correction left it.*seg") as caught:
        fp.correct(labels(FOUND), labels(some(2)), history=history, output=tmp_path / "2.tif")
    assert caught.value.parameter == "history"
    with pytest.raises(ParameterError, match=r"of this shape, \(3, 7, 9\)"):
        fp.correct(labels(FOUND[:3]), labels(FOUND[:3]), history=history)
    assert history.read_bytes() == kept
    assert not (tmp_path / "2.tif").exists()


@pytest.mark.parametrize(("foreground", "white"), [("solid", 2), ("pore", 1)])
def test_a_mask_comes_back_as_labels(tmp_path, foreground, white):
    mask = labels(np.where(white == FOUND, 255, 0).astype(np.uint8))
    given = {"history": tmp_path / "h.npz", "mask_foreground": foreground}
    made = fp.correct(mask, labels(some(2)), **given)
    back = fp.undo_correction(made.segmentation, history=given["history"])
    np.testing.assert_array_equal(back.segmentation, FOUND)


def test_where_a_correction_got_lost_with_its_image_the_one_before_goes_on(begun):
    """Without `output`, the segmentation on disk stays as it was."""
    segmentation, history = begun
    made = fp.correct(segmentation, labels(some(2)), history=history)
    fp.correct(made.segmentation, labels(some(3)), history=history)
    again = fp.correct(segmentation, labels(some(4)), history=history)
    assert len(again.history.entries) == 2
    first = fp.undo_correction(segmentation, history=history)
    np.testing.assert_array_equal(first.segmentation, FOUND)


def test_an_image_in_memory_is_corrected_and_taken_back_like_one_on_disk(begun):
    segmentation, history = begun
    made = fp.correct(segmentation, labels(some(2)), history=history)
    again = fp.correct(made.segmentation, labels(some(3)), history=history)
    assert len(again.history.entries) == 3
    for expected in (made.segmentation, segmentation, FOUND):
        again = fp.undo_correction(again.segmentation, history=history)
        np.testing.assert_array_equal(again.segmentation, expected)


def test_what_was_taken_back_and_got_lost_is_taken_back_again(begun, tmp_path):
    first, history = begun
    second = fp.correct(first, labels(some(2)), history=history, output=tmp_path / "2.tif")
    once = fp.undo_correction(second.segmentation, history=history)
    fp.undo_correction(once.segmentation, history=history)
    again = fp.undo_correction(tmp_path / "2.tif", history=history, output=tmp_path / "b.tif")
    np.testing.assert_array_equal(again.segmentation, first)
    # Now it is written, so that what it was before is another segmentation.
    with pytest.raises(ParameterError, match="as the last correction left it"):
        fp.correct(tmp_path / "2.tif", labels(some(3)), history=history)
    fp.correct(tmp_path / "b.tif", labels(some(3)), history=history)


def test_taken_back_to_nothing_it_still_belongs_to_one_segmentation(begun, tmp_path):
    segmentation, history = begun
    fp.undo_correction(segmentation, history=history, output=tmp_path / "0.tif")
    with pytest.raises(ParameterError, match="corrections were all taken back"):
        fp.correct(labels(3 - FOUND), labels(some(2)), history=history)
    fp.correct(labels(FOUND), labels(some(2)), history=history)


def test_a_history_without_its_origin_is_read(begun):
    """As they were written before it was kept."""
    segmentation, history = begun
    with np.load(history) as arrays:
        content = dict(arrays)
    told = json.loads(content["audit"].tobytes())
    del told["origin"], told["taken_back"]
    np.savez(history, **content | {"audit": np.frombuffer(json.dumps(told).encode(), np.uint8)})
    assert len(fp.correct(segmentation, labels(some(2)), history=history).history.entries) == 2


@pytest.mark.parametrize("harm", ["cut", "other", "pickle", "beyond"])
def test_a_damaged_history_is_refused_and_left_alone(begun, harm):
    segmentation, history = begun
    if harm == "cut":
        history.write_bytes(history.read_bytes()[:-40])
    elif harm == "other":
        np.savez(history, audit=np.arange(3))
    elif harm == "pickle":
        np.savez(history, audit=np.array([print], object))
    else:
        with np.load(history) as arrays:
            content = dict(arrays)
        np.savez(history, **content | {"where0": content["where0"] + FOUND.size})
    kept = history.read_bytes()
    with pytest.raises(ParameterError, match=r"must be a whole file that `correct` wrote"):
        fp.correct(segmentation, labels(some(2)), history=history)
    assert history.read_bytes() == kept


@pytest.mark.parametrize("undo", [False, True])
def test_where_the_output_cannot_be_written_the_history_stays(begun, undo, tmp_path, monkeypatch):
    segmentation, history = begun
    before = contents(history)

    def fail(*args, **kwargs):
        raise ParameterError("output", "must fit on the disk", "a full one", "Free some space.")

    monkeypatch.setattr("fiji_poreseg.files.write", fail)
    files = {"history": history, "output": tmp_path / "2.tif"}
    act = fp.undo_correction if undo else partial(fp.correct, corrections=labels(some(2)))
    with pytest.raises(ParameterError, match="full one"):
        act(segmentation, **files)
    assert contents(history) == before


def contents(history):
    with np.load(history) as arrays:
        return {name: values.tobytes() for name, values in arrays.items()}


def test_on_a_full_disk_no_file_is_another_one(begun, tmp_path, monkeypatch):
    segmentation, history = begun
    given = {"history": history, "output": tmp_path / "1.tif", "json": tmp_path / "c.json"}
    given["hand"] = tmp_path / "hand.tif"
    given["hand"].write_bytes(b"old")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def refuse(*_):
        raise ParameterError("json", "needs space", "none", "Free some.")

    monkeypatch.setattr("fiji_poreseg.commands.checks.write_json", refuse)
    with pytest.raises(ParameterError, match="needs space"):
        fp.correct(segmentation, labels(some(2)), **given)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    del given["hand"]
    with pytest.raises(ParameterError, match="needs space"):
        fp.undo_correction(segmentation, **given)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_no_other_correction_is_added_to_a_history_meanwhile(begun, tmp_path, monkeypatch):
    segmentation, history = begun
    writing, ended = threading.Event(), threading.Event()

    def write(*args, real=fp.write, **given):
        writing.set()
        ended.wait(60)
        real(*args, **given)

    monkeypatch.setattr("fiji_poreseg.files.write", write)
    with ThreadPoolExecutor(1) as other:
        first = other.submit(
            fp.correct,
            segmentation,
            labels(some(2)),
            history=history,
            output=tmp_path / "2.tif",
        )
        writing.wait(60)
        said = r"`history` must not be a file that another command is writing.*Wait"
        for act in (fp.undo_correction, partial(fp.correct, corrections=labels(some(3)))):
            with pytest.raises(ParameterError, match=said):
                act(segmentation, history=history)
        ended.set()
        made = first.result()
    assert len(fp.undo_correction(made.segmentation, history=history).history.entries) == 1
    assert not list(tmp_path.glob("*.lock"))


CORRECT = """
import sys, fiji_poreseg as fp
folder = sys.argv[1]
fp.correct(folder + "/1.tif", folder + "/painted.tif", history=folder + "/h.npz",
           output=folder + "/1.tif")
"""


@pytest.mark.parametrize("number", range(3))
def test_killed_it_leaves_the_old_state_or_the_new_one(tmp_path, number):
    found = np.repeat(np.repeat(FOUND, 40, 1), 40, 2)
    painted = np.repeat(np.repeat(some(5), 40, 1), 40, 2)
    fp.write(tmp_path / "0.tif", labels(found))
    fp.write(tmp_path / "painted.tif", labels(painted))
    first = fp.correct(
        tmp_path / "0.tif",
        labels(np.where(painted, 0, 1).astype(np.uint8)),
        history=tmp_path / "h.npz",
        output=tmp_path / "1.tif",
    )
    expected = fp.correct(first.segmentation, labels(painted)).segmentation
    process = subprocess.Popen([sys.executable, "-c", CORRECT, str(tmp_path)])
    before = (tmp_path / "h.npz").stat().st_mtime_ns
    while process.poll() is None and (tmp_path / "h.npz").stat().st_mtime_ns == before:
        time.sleep(0.001)
    time.sleep(random.Random(number).uniform(0, 0.01))
    process.kill()
    process.wait()
    there = fp.read(tmp_path / "1.tif")
    is_new = bool((there == expected).all())
    assert is_new or bool((there == first.segmentation).all())
    if not is_new:
        fp.correct(
            tmp_path / "1.tif",
            tmp_path / "painted.tif",
            history=tmp_path / "h.npz",
            output=tmp_path / "1.tif",
        )
    np.testing.assert_array_equal(fp.read(tmp_path / "1.tif"), expected)
    for state in (first.segmentation, found):
        made = fp.undo_correction(
            tmp_path / "1.tif", history=tmp_path / "h.npz", output=tmp_path / "1.tif"
        )
        np.testing.assert_array_equal(made.segmentation, state)


def test_the_round_trip_in_a_macro(ij, phantom, tmp_path):
    fp.write(tmp_path / "seg.tif", phantom.truth)
    said = ij.run_macro(
        """
        folder = getArgument();
        open(folder + "/seg.tif");
        makeRectangle(3, 4, 10, 6);
        Roi.setGroup(2);
        Roi.setPosition(5);
        Overlay.addSelection;
        history = "history=[" + folder + "/h.npz] ";
        run("PoreSeg Correct", history + "checked=7 hand=[" + folder + "/hand.tif]");
        first = getTitle() + " " + getResult("hand_made", 0);
        run("PoreSeg Undo Correction", history + "output=[" + folder + "/back.tif]");
        return first + "; " + getTitle();
        """,
        str(tmp_path),
    )
    assert said == "seg-corrected 60; seg-corrected-undone"
    np.testing.assert_array_equal(fp.read(tmp_path / "back.tif"), phantom.truth)
    hand = fp.read(tmp_path / "hand.tif").to_numpy()
    assert (hand[4, 4:10, 3:13] == 2).all()
    np.testing.assert_array_equal(hand[7], phantom.truth[7])
    assert np.count_nonzero(hand) == 60 + phantom.truth[7].size
