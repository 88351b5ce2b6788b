"""The plugins in a plain ImageJ: its own Java process, with no Python in it."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jpype
import numpy as np
import pytest

import fiji_poreseg as fp
from fiji_poreseg import cli
from fiji_poreseg.bridge.jvm import find_java
from fiji_poreseg.commands.catalog import CATALOG
from fiji_poreseg.commands.plugin_files import macro_string, plugin_name, plugin_text
from fiji_poreseg.installation import install, uninstall

MACROS = Path(__file__).parent.parent / "macros"
# A line that runs for as long as a test needs, and a word before and after it.
LONG = """
print("before");
run("PoreSeg Train ResUNet", "image=[{f}/stack.tif] labels=[{f}/truth.tif] network=small "
    + "steps=100000 model=[{f}/resunet.poreseg]");
print("after");
"""


@pytest.fixture(scope="module")
def small():
    return fp.phantom(slices=12, size=48, feature_size_nm=150, attenuation_nm=150)


@pytest.fixture(scope="module")
def imagej(tmp_path_factory):
    """A folder of a plain ImageJ, with blanks in its name and the plugins in it."""
    fp.start()
    jars = str(jpype.JClass("java.lang.System").getProperty("java.class.path")).split(os.pathsep)
    folder = tmp_path_factory.mktemp("plain") / "Image J"
    for part in ("plugins", "macros", "home", "temp"):
        (folder / part).mkdir(parents=True)
    (jar,) = (jar for jar in jars if Path(jar).name.startswith("ij-1."))
    shutil.copy(jar, folder / "ij.jar")
    assert cli.main(["install", "--fiji", str(folder)]) == 0
    return folder


@pytest.fixture
def begin(imagej, display, tmp_path):
    """A function that starts the plain ImageJ with a macro; what still runs at the end is ended."""
    started = []

    def start(macro, argument="", options=("-batch",), **settings):
        path = macro
        if not isinstance(macro, Path):
            path = tmp_path / "macro.ijm"
            path.write_text(macro, encoding="ascii")
        command = [
            find_java().home / "bin" / "java",
            f"-Duser.home={imagej / 'home'}",
            f"-Djava.io.tmpdir={imagej / 'temp'}",
            *("-cp", imagej / "ij.jar", "ij.ImageJ", "-ijpath", imagej),
            *options,
            *(path, argument),
        ]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            env=os.environ | {"DISPLAY": display, "LC_ALL": "C.UTF-8"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run(begin, imagej):
    """A function that runs a macro in the plain ImageJ and answers with what it printed."""

    def run_macro(macro, argument=""):
        printed, _ = begin(macro, argument).communicate(timeout=100)
        # Nothing is left but the model that a later line of that ImageJ could have wanted.
        assert [path.name for path in (imagej / "temp").iterdir() if path.is_dir()] == []
        return printed

    return run_macro


def fill(folder, phantom):
    folder.mkdir()
    fp.write(folder / "stack.tif", phantom.stack)
    fp.write(folder / "truth.tif", phantom.truth)
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_example_macro_leaves_the_very_files_that_it_leaves_in_process(run, small, tmp_path):
    mine, theirs = (fill(tmp_path / name, small) for name in ("in process", "plain ImageJ"))
    for folder in (mine, theirs):
        for name, every in (("labels", 5), ("corrections", 4)):
            values = small.truth.to_numpy().copy()
            values[np.arange(12) % every > 0] = 0
            fp.write(folder / f"{name}.tif", fp.make_labels(values, small.stack))
    fp.start().run_macro(MACROS / "segment_pores.ijm", f"{mine}|3|3|0")
    fp.start().close()
    printed = run(MACROS / "segment_pores.ijm", f"{theirs}|3|3|0")
    assert printed.rstrip().endswith(f"Done: {theirs}/")
    assert contents(theirs) == contents(mine)
    assert {"forest.poreseg", "resunet-probability.tif", "resunet-scores.json"} <= set(
        contents(theirs)
    )


def test_titles_overlays_models_and_tables_are_as_in_process(run, small, tmp_path):
    folder = fill(tmp_path / "Größe 孔 (1), a", small)
    macro = """
        folder = getArgument();
        open(folder + "/stack.tif");
        directory = getDirectory("image");
        name = "a b " + fromCharCode(0x5b54);
        rename(name + ".tif");
        setOption("Changes", true);
        makeRectangle(0, 0, 20, 20);
        Roi.setGroup(1);
        Roi.setPosition(3);
        Overlay.addSelection;
        makeOval(24, 24, 20, 20);
        Roi.setName("solid");
        Roi.setGroup(0);
        Roi.setPosition(3);
        Overlay.addSelection;
        newImage("the other", "8-bit black", 8, 8, 3);
        run("PoreSeg Train Forest", "image=[" + name + ".tif] trees=3");
        print("title=" + getTitle());
        selectImage(name + ".tif");
        getSelectionBounds(x, y, w, h);
        print("untouched=" + (getDirectory("image") == directory) + " " + x + " " + is("changes"));
        run("PoreSeg Segment", "output=[" + folder + "/seg.tif]");
        run("PoreSeg Segment", "image=[" + name + ".tif] classes=");
        """
    assert "`classes` is not a parameter of PoreSeg Segment" in run(macro, str(folder))
    printed = run(
        macro.replace(" classes=", "")
        + """
        print("titles=" + String.join(getList("image.titles"), ";"));
        print("current=" + getTitle() + " " + bitDepth() + " " + nSlices);
        getVoxelSize(w, h, d, unit);
        print("size=" + d + " " + unit);
        rename("seg");
        run("PoreSeg Measure", "");
        print("rows=" + nResults + " " + getResult("index", 11) + " " + getTitle());
        """,
        str(folder),
    )
    said = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    assert said["title"] == "the other"
    assert said["untouched"] == "1 24 1"
    parts = ["a b 孔-probability", "a b 孔-segmentation"]
    older = [f"{part}-1" for part in parts]
    assert sorted(said["titles"].split(";")) == sorted(["a b 孔.tif", "the other", *parts, *older])
    assert said["current"] == "a b 孔-segmentation 8 12"
    assert said["size"] == "10 nm"
    assert said["rows"] == "12 11 seg"
    assert fp.read(folder / "seg.tif").shape == (12, 48, 48)


FAULTS = {
    "`count` must be a whole number of at least 1, but is: many. Leave it out for 20.": (
        'run("PoreSeg Select Slices", "image=[{f}/stack.tif] count=many");'
    ),
    "`coutn` is not a parameter of PoreSeg Select Slices, but is: coutn. Did you mean count?": (
        'run("PoreSeg Select Slices", "image=[{f}/stack.tif] coutn=3");'
    ),
    "`image` must be the title of an open image or the path of a file, but is: none.tif.": (
        'run("PoreSeg Segment", "image=none.tif output=[{f}/seg.tif]");'
    ),
    "`image` is needed, since no image is open": 'run("PoreSeg Measure", "");',
    "`model` is needed, since no model was trained": (
        'open("{f}/stack.tif"); run("PoreSeg Segment", "output=[{f}/seg.tif]");'
    ),
    "`image` must hold grey values, but is: colours with colours (RGB)": (
        'newImage("colours", "RGB black", 8, 8, 3); run("PoreSeg Select Slices", "count=3");'
    ),
    "`labels` must label at least two classes": (
        'run("PoreSeg Train Forest", "image=[{f}/stack.tif] labels=[{f}/bad.tif] '
        'model=[{f}/m.poreseg]");'
    ),
}


def test_a_fault_stops_the_macro_there_says_why_and_overwrites_nothing(run, small, tmp_path):
    folder = fill(tmp_path / "folder", small)
    fp.write(folder / "bad.tif", fp.make_labels(np.ones((12, 48, 48), np.uint8), small.stack))
    for name in ("seg.tif", "m.poreseg"):
        (folder / name).write_bytes(b"a result of yesterday")
    before = contents(folder)
    # Each fault in a macro of its own, within one ImageJ.
    faults = [macro.replace("{f}", str(folder)) + 'print("AFTER");' for macro in FAULTS.values()]
    macro = "\n".join(
        f'print("FAULT"); eval({macro_string(fault)}); close("*");' for fault in faults
    )
    printed = run(macro)
    assert "AFTER" not in printed
    for said, part in zip(FAULTS, printed.split("FAULT\n")[1:], strict=True):
        assert said in " ".join(part.split())
    assert contents(folder) == before


def python_of(imagej):
    """The number of the Python process that answers, once it is at work."""
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        for progress in (imagej / "temp").glob("*/progress.txt"):
            if "Training" in progress.read_text():
                return int((progress.parent / "pid.txt").read_text())
        time.sleep(0.1)
    raise AssertionError("Python did not begin")


def has_ended(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # It may be left as a zombie, where nobody collects orphans.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_when_python_is_killed_the_macro_stops_and_says_so(begin, imagej, small, tmp_path):
    folder = fill(tmp_path / "folder", small)
    process = begin(LONG.replace("{f}", str(folder)))
    os.kill(python_of(imagej), signal.SIGKILL)
    killed = time.monotonic()
    printed, _ = process.communicate(timeout=30)
    assert time.monotonic() - killed < 10
    assert "Python ended without an answer: it was killed, or ran out of memory." in printed
    assert "before" in printed
    assert "after" not in printed
    assert set(contents(folder)) == {"stack.tif", "truth.tif"}
    assert list((imagej / "temp").glob("*/")) == []


def test_when_imagej_is_killed_python_ends_and_writes_nothing(begin, imagej, small, tmp_path):
    folder = fill(tmp_path / "folder", small)
    process = begin(LONG.replace("{f}", str(folder)))
    pid = python_of(imagej)
    process.kill()
    deadline = time.monotonic() + 10
    while not has_ended(pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (note,) = (imagej / "temp").glob("*.txt")
    assert note.read_text().startswith("ImageJ no longer waits for this command")
    note.unlink()
    assert list((imagej / "temp").glob("*/")) == []
    assert set(contents(folder)) == {"stack.tif", "truth.tif"}
