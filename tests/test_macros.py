"""The commands as macros call them: the real catalog, the real ImageJ, real files."""

import json
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

import fiji_poreseg as fp

MACROS = Path(__file__).parent.parent / "macros"


@pytest.fixture
def folder(tmp_path, phantom):
    """A folder with blanks and non-Latin letters in its name: stack, truth and a forest."""
    made = tmp_path / "Größe 孔 (1), a"
    made.mkdir()
    fp.write(made / "stack.tif", phantom.stack)
    fp.write(made / "truth.tif", phantom.truth)
    fp.train_forest(
        phantom.stack, phantom.truth, indices=[0, 15], trees=4, model=made / "forest.poreseg"
    )
    return made


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_ended_from_outside_it_says_so_by_its_status(tmp_path):
    (tmp_path / "wait.ijm").write_text('File.saveString("", getArgument()); wait(60000);')
    begun = tmp_path / "begun"
    process = subprocess.Popen(
        [sys.executable, "-m", "fiji_poreseg.cli", "macro", "wait.ijm", str(begun)], cwd=tmp_path
    )
    deadline = time.monotonic() + 90
    while not begun.exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.2)
    process.terminate()
    assert process.wait(timeout=30) == -signal.SIGTERM
    # No report of a crash, either.
    assert {path.name for path in tmp_path.iterdir()} == {"wait.ijm", "begun"}


def test_the_whole_way_from_the_current_image(ij, folder, phantom):
    value = ij.run_macro(
        """
        folder = getArgument();
        open(folder + "/stack.tif");
        rename("my stack.tif");
        run("PoreSeg Train Forest", "labels=[" + folder + "/truth.tif] indices=0,15 trees=4");
        run("PoreSeg Segment", "output=[" + folder + "/seg.tif]");
        first = getTitle();
        run("PoreSeg Evaluate", "truth=[" + folder + "/truth.tif] indices=7,22");
        run("PoreSeg Measure", "");
        getVoxelSize(w, h, d, unit);
        return first + ";" + nResults + ";" + d + " " + unit + ";" + bitDepth() + ";" + nSlices;
        """,
        str(folder),
    )
    assert value == "my stack-segmentation;30;10 nm;8;30"
    forest = fp.train_forest(phantom.stack, phantom.truth, indices=[0, 15], trees=4)
    expected = fp.segment(phantom.stack, model=forest).segmentation
    np.testing.assert_array_equal(fp.read(folder / "seg.tif"), expected)


def test_with_several_images_open_the_named_one_is_used(ij, folder):
    value = ij.run_macro(
        """
        open(getArgument() + "/stack.tif");
        rename("the one");
        newImage("the other", "8-bit black", 64, 64, 3);
        run("PoreSeg Select Slices", "image=[the one] count=3");
        return "" + getResult("index", 2) + " " + getTitle();
        """,
        str(folder),
    )
    assert value == "20 the other"


def test_overlays_are_labels_by_group_or_name(ij, folder):
    ij.run_macro(
        """
        folder = getArgument();
        open(folder + "/stack.tif");
        setSlice(3);
        makeRectangle(0, 0, 20, 20);
        Roi.setGroup(1);
        Roi.setPosition(3);
        Overlay.addSelection;
        makeOval(30, 30, 20, 20);
        Roi.setName("solid");
        Roi.setGroup(0);
        Roi.setPosition(3);
        Overlay.addSelection;
        run("PoreSeg Train Forest", "trees=3 model=[" + folder + "/roi.poreseg]");
        """,
        str(folder),
    )
    card = fp.load(folder / "roi.poreseg").card
    assert card.training_indices == (2,)
    assert card.scores["pixels"] == 400 + 316


def test_a_corrected_segmentation_is_counted_in_results(ij, folder):
    value = ij.run_macro(
        """
        folder = getArgument();
        open(folder + "/truth.tif");
        makeRectangle(0, 0, 64, 10);
        Roi.setName("solid");
        Roi.setPosition(5);
        Overlay.addSelection;
        run("PoreSeg Correct", "");
        return getTitle() + ";" + getResult("index", 0) + ";" + getResult("solid_to_pore", 0);
        """,
        str(folder),
    )
    assert value == "truth-corrected;4;0"


def damaged(folder, name):
    """A macro whose middle line is to fail, for each way in which users fail."""
    given = {"folder": folder}
    if name == "corrupt TIFF":
        content = (folder / "stack.tif").read_bytes()
        (folder / "bad.tif").write_bytes(content[: len(content) // 3])
    if name == "RGB image":
        tifffile.imwrite(folder / "bad.tif", np.zeros((3, 8, 8, 3), np.uint8), photometric="rgb")
    if name == "NaN":
        tifffile.imwrite(folder / "bad.tif", np.full((3, 8, 8), np.nan, np.float32), imagej=True)
    if name == "wrong shape":
        tifffile.imwrite(folder / "bad.tif", np.ones((3, 8, 8), np.uint8), imagej=True)
    if name == "no labels":
        tifffile.imwrite(folder / "bad.tif", np.zeros((30, 64, 64), np.uint8), imagej=True)
    if name == "one class only":
        tifffile.imwrite(folder / "bad.tif", np.ones((30, 64, 64), np.uint8), imagej=True)
    if name == "newer model":
        with zipfile.ZipFile(folder / "bad.poreseg", "w") as archive:
            archive.writestr("model.json", json.dumps({"format_version": 7, "kind": "forest"}))
    if name == "no model":
        shutil.copy(folder / "stack.tif", folder / "bad.poreseg")
    return given


TRAIN = 'run("PoreSeg Train Forest", "image=[{f}/stack.tif] labels=[{f}/bad.tif] model=[{m}]");'
SEGMENT = 'run("PoreSeg Segment", "image=[{f}/{i}] model=[{f}/{p}] output=[{f}/seg.tif]");'
FAULTS = {
    "bad value": (
        'run("PoreSeg Select Slices", "image=[{f}/stack.tif] count=many");',
        "`count` must be a whole number of at least 1, but is: many. Leave it out for 20.",
    ),
    "unknown parameter": (
        'run("PoreSeg Select Slices", "image=[{f}/stack.tif] coutn=3");',
        "`coutn` is not a parameter of PoreSeg Select Slices, but is: coutn. Did you mean count?",
    ),
    "unknown command": ('run("PoreSeg Segmnet", "");', 'Did you mean "PoreSeg Segment"?'),
    "no image open": (
        'run("PoreSeg Select Slices", "count=3");',
        "`image` is needed, since no image is open",
    ),
    "missing file": (
        SEGMENT.replace("{i}", "none.tif").replace("{p}", "forest.poreseg"),
        "`image` must be the title of an open image or the path of a file, but is: ",
    ),
    "corrupt TIFF": (SEGMENT.replace("{i}", "bad.tif").replace("{p}", "forest.poreseg"), "`image`"),
    "RGB image": (
        SEGMENT.replace("{i}", "bad.tif").replace("{p}", "forest.poreseg"),
        "`image` must",
    ),
    "NaN": (
        SEGMENT.replace("{i}", "bad.tif").replace("{p}", "forest.poreseg"),
        "`image` must hold finite grey values",
    ),
    "wrong shape": (
        TRAIN.replace("{m}", "{f}/forest.poreseg"),
        "`labels` must have the shape of the stack, (30, 64, 64) (z, y, x), but is: shape (3,",
    ),
    "no labels": (
        TRAIN.replace("{m}", "{f}/forest.poreseg"),
        "`labels` must label at least one pixel",
    ),
    "one class only": (
        TRAIN.replace("{m}", "{f}/forest.poreseg"),
        "`labels` must label at least two classes in the slices trained on, but is: only pore.",
    ),
    "newer model": (
        SEGMENT.replace("{i}", "stack.tif").replace("{p}", "bad.poreseg"),
        "`model` must be of format 1 or older, but is: ",
    ),
    "no model": (
        SEGMENT.replace("{i}", "stack.tif").replace("{p}", "bad.poreseg"),
        "`model` must be a whole .poreseg file",
    ),
    "unwritable folder": (
        TRAIN.replace("bad.tif", "truth.tif").replace("{m}", "/proc/m.poreseg"),
        "`model` must",
    ),
    "output folder that is a file": (
        'run("PoreSeg Phantom", "output=[{f}/stack.tif/x] slices=2 size=32");',
        "`output` must be a folder",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_stops_the_macro_there_says_why_and_overwrites_nothing(
    name, folder, tmp_path, capfd
):
    damaged(folder, name)
    (folder / "seg.tif").write_bytes(b"a result of yesterday")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    line, said = FAULTS[name]
    macro = tmp_path / "macro.ijm"
    line = line.replace("{f}", str(folder))
    macro.write_text(f'print("before");\n{line}\nprint("after");\n', encoding="utf-8")

    from fiji_poreseg import bridge

    fp.start().close()
    with pytest.raises((fp.ParameterError, bridge.MacroError)) as caught:
        bridge.run_macro_file(macro)
    message = str(caught.value)
    assert said in message
    assert message.endswith((".", "?"))
    assert "\n" not in message
    assert "line 2" in " ".join([message, *getattr(caught.value, "__notes__", [])]).lower()
    printed = capfd.readouterr().out
    assert "before" in printed
    assert "after" not in printed
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_program_says_the_line_and_exits_with_one(folder, tmp_path):
    macro = tmp_path / "m.ijm"
    macro.write_text('print("a");\nrun("PoreSeg Select Slices", "image=none.tif");\n')
    run = subprocess.run(
        [sys.executable, "-m", "fiji_poreseg.cli", "macro", str(macro)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1
    assert run.stderr.startswith(
        "fiji-poreseg: Line 2 of the macro: PoreSeg Select Slices: `image` must be the title"
    )
    assert len(run.stderr.strip().splitlines()) == 1


def test_paths_start_here_and_the_process_ends_at_once_although_tensorflow_ran(tmp_path):
    macro = tmp_path / "m.ijm"
    fp.write(tmp_path / "here.tif", fp.make_stack(np.zeros((1, 4, 4), np.uint8)))
    macro.write_text(
        """open("here.tif");
        run("PoreSeg Phantom", "slices=12 size=64 feature_size_nm=150");
        run("Gaussian Blur...", "sigma=2 stack");
        run("PoreSeg Train ResUNet", "labels=phantom-truth indices=0,5 steps=2 network=small");
        print("LAST " + d2s(getTime() / 1000, 3));"""
    )
    run = subprocess.run(
        [sys.executable, "-m", "fiji_poreseg.cli", "macro", str(macro)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    ended = time.time()
    assert ended - float(run.stdout.split("LAST ")[1]) < 15


def test_the_example_macro_leaves_models_segmentations_and_scores(ij, folder, phantom):
    sparse = phantom.truth.to_numpy().copy()
    sparse[np.arange(30) % 10 > 0] = 0
    sparse[:, ::3] = 0
    fp.write(folder / "labels.tif", fp.make_labels(sparse, phantom.stack))
    corrections = phantom.truth.to_numpy().copy()
    corrections[np.arange(30) % 6 > 0] = 0
    fp.write(folder / "corrections.tif", fp.make_labels(corrections, phantom.stack))
    ij.run_macro(MACROS / "segment_pores.ijm", f"{folder}|5|8|0")
    for name in ("forest", "resunet"):
        segmentation = fp.read(folder / f"{name}-segmentation.tif")
        assert segmentation.shape == phantom.stack.shape
        assert segmentation.attrs["spacing_nm"] == pytest.approx((10, 10, 10))
        assert fp.load(folder / f"{name}.poreseg").card.classes == ("pore", "solid")
        scores = json.loads((folder / f"{name}-scores.json").read_text())
        assert [entry["index"] for entry in scores["slices"]] == [2, 21, 29]
        assert all(entry["loss"] > 0 for entry in scores["slices"])
        assert scores["pore_back"]["pore_back"]["pixels"] > 0
    assert len(json.loads((folder / "porosity.json").read_text())["slices"]) == 30
    corrected = fp.read(folder / "corrected.tif")
    np.testing.assert_array_equal(corrected[::6], phantom.truth[::6])
