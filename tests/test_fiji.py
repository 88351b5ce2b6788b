"""The Fiji engine, and an ImageJ that runs already.

Tests marked `fiji` need a real one, named by FIJI_HOME. The others have real JVMs and jars, and
where a Fiji's folder is needed, one that is shaped like it.
"""

import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile

import fiji_poreseg as fp
from fiji_poreseg import bridge
from fiji_poreseg.bridge import engines, fiji_folder
from fiji_poreseg.bridge.engines import Engine
from fiji_poreseg.errors import EngineError, ParameterError, PoreSegWarning

CHECKS = Path(__file__).parent / "bridge_checks"
DEAD = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), "http://[::1]:9")


def run(program, *arguments, **environment):
    env = {k: v for k, v in os.environ.items() if k not in {"JAVA_HOME", "FIJI_HOME", "DISPLAY"}}
    env |= {"PYTHONPATH": str(CHECKS.parents[1]), "PYTHONIOENCODING": "utf-8"} | environment
    return subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        env=env,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


def run_macro(*arguments, **environment):
    return run(("-m", "fiji_poreseg.cli", "macro"), *arguments, **environment)


# A real Fiji.


@pytest.mark.fiji
def test_fiji_home_is_used_of_itself(ij):
    assert ij.engine.kind == "fiji"
    assert ij.engine.fiji == Path(os.environ["FIJI_HOME"]).expanduser().resolve()


@pytest.mark.fiji
def test_a_fiji_s_plugins_and_ours_work_in_one_macro(ij, phantom):
    ij.to_imageplus(phantom.stack).show()
    value = ij.run_macro(
        """run("Enhance Local Contrast (CLAHE)",
            "blocksize=31 histogram=256 maximum=3 mask=*None*");
        run("Linear Stack Alignment with SIFT", "initial_gaussian_blur=1.60"
            + " steps_per_scale_octave=3 minimum_image_size=16 maximum_image_size=64"
            + " feature_descriptor_size=4 feature_descriptor_orientation_bins=8"
            + " closest/next_closest_ratio=0.92 maximal_alignment_error=10 inlier_ratio=0.05"
            + " expected_transformation=Translation interpolate");
        run("PoreSeg Select Slices", "count=3");
        return getTitle() + ";" + nSlices + ";" + nResults;"""
    )
    title, slices, rows = value.split(";")
    assert title.startswith("Aligned")
    assert (int(slices), int(rows)) == (phantom.stack.sizes["z"], 3)


@pytest.mark.fiji
def test_the_gateway_s_own_way_to_run_a_macro_knows_the_commands(ij, phantom):
    gateway = ij.engine.gateway
    assert fp.register(gateway) is ij
    ij.to_imageplus(phantom.stack).show()
    gateway.py.run_macro('run("PoreSeg Select Slices", "count=4");')
    assert ij.run_macro('return "" + nResults;') == "4"


@pytest.mark.fiji
def test_a_stack_reaches_a_dataset_and_back(ij, phantom):
    dataset = ij.engine.gateway.py.to_dataset(phantom.stack)
    np.testing.assert_array_equal(fp.to_xarray(dataset), phantom.stack)


# A folder shaped like a Fiji.


@pytest.fixture(scope="session")
def shaped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fiji") / "Fiji ü.app"
    made = run((CHECKS / "shape_fiji.py",), folder)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture
def macro(tmp_path):
    file, slices = tmp_path / "m.ijm", tmp_path / "slices"
    slices.mkdir()
    for index in range(4):
        tifffile.imwrite(slices / f"{index}.tif", np.full((8, 8), index, np.uint8))
    file.write_text(
        f"""run("Image Sequence...", "dir=[{slices.as_posix()}/] sort"); print(nSlices);
        newImage("ä", "8-bit ramp", 64, 64, 3); run("Gaussian Blur...", "sigma=2 stack");
        run("PoreSeg Select Slices", "count=2"); print("ö " + nResults);""",
        encoding="utf-8",
    )
    return file


@pytest.mark.parametrize("way", ["--fiji", "FIJI_HOME"])
def test_a_macro_runs_in_a_fiji_without_network_or_java(shaped, macro, tmp_path, way):
    nothing = {"HOME": str(tmp_path), "PATH": "/nowhere", **DEAD}
    if way == "--fiji":
        done = run_macro("--fiji", shaped, macro, **nothing)
    else:
        done = run_macro(macro, FIJI_HOME=str(shaped), **nothing)
    assert (done.returncode, done.stdout) == (0, "4\nö 2\n"), done.stderr
    assert "fiji-poreseg" not in done.stderr


def test_a_folder_without_imagej2_is_no_fiji(shaped, macro, tmp_path):
    folder = tmp_path / "plain"
    shutil.copytree(shaped, folder)
    (folder / "jars" / "imagej-2.0.0.jar").unlink()
    done = run_macro("--fiji", folder, macro)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"fiji-poreseg: {folder} holds no ImageJ2")


def test_a_fiji_made_for_a_newer_java_says_which(shaped, macro, tmp_path):
    folder = tmp_path / "future"
    shutil.copytree(shaped, folder)
    jar = folder / "jars" / "imagej-2.0.0.jar"
    age(jar, 99)
    done = run_macro("--fiji", folder, macro)
    assert done.stderr.startswith("fiji-poreseg: No Java of version 99 or newer was found")
    # By another name it is not looked at before Java starts.
    jar.rename(jar.with_name("other.jar"))
    done = run_macro("--fiji", folder, macro)
    assert done.returncode == 1
    assert re.search(r"the Java \d+ of \w+, which is too old\. Set JAVA_HOME", done.stderr)


def test_a_fiji_from_maven_that_cannot_be_reached_is_one_line(macro, tmp_path):
    done = run_macro("--fiji", "sc.fiji:fiji:2.17.0", macro, HOME=str(tmp_path), **DEAD)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("fiji-poreseg: sc.fiji:fiji:2.17.0 cannot be started with the Java")
    assert "fetched from Maven" in line


# What is meant, and what is there.


def age(jar, java):
    """Mark the classes of a jar as compiled for that Java."""
    with zipfile.ZipFile(jar) as archive:
        classes = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    with zipfile.ZipFile(jar, "w") as archive:
        for name, content in classes.items():
            content[6:8] = (java + 44).to_bytes(2)
            archive.writestr(name, bytes(content))


@pytest.mark.parametrize(
    "coordinates", ["sc.fiji:fiji", "sc.fiji:fiji:2.17.0", "net.imagej:imagej+net.imagej:op"]
)
def test_maven_coordinates_are_told_from_folders(coordinates):
    assert fiji_folder.locate(coordinates) == coordinates


@pytest.mark.parametrize("folder", [r"C:\Fiji.app", "C:/Fiji.app", "D:Fiji", "/none", "Fiji.app"])
def test_a_folder_that_is_not_there_is_refused(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ParameterError, match=r"`fiji` must name a folder that exists.*jars and"):
        fiji_folder.locate(folder)


def test_a_folder_says_what_it_lacks(tmp_path, monkeypatch):
    (tmp_path / "plugins").mkdir()
    with pytest.raises(ParameterError, match="`fiji` must be a Fiji's folder, and has no jars in"):
        fiji_folder.locate(tmp_path)
    monkeypatch.setenv("FIJI_HOME", str(tmp_path))
    with pytest.raises(ParameterError, match="`FIJI_HOME` must be a Fiji's folder"):
        fiji_folder.locate()
    (tmp_path / "jars").mkdir()
    assert fiji_folder.locate() == tmp_path
    assert engines.choose("auto", None) == tmp_path
    assert engines.choose("embedded", None) is None


def test_fiji_home_that_is_no_folder_is_passed_over_with_a_word(monkeypatch):
    monkeypatch.setenv("FIJI_HOME", "/none/Fiji.app")
    with pytest.warns(PoreSegWarning, match=r"FIJI_HOME names no folder \(/none/Fiji.app\)"):
        assert fiji_folder.locate() is None


@pytest.mark.parametrize(
    ("engine", "fiji", "words"),
    [
        ("imagej2", None, "`engine` must be one of auto, embedded, fiji, but is: imagej2"),
        ("embedded", "sc.fiji:fiji", "`fiji` must be left out with engine=embedded"),
        ("fiji", None, r"`fiji` must name a Fiji.*set FIJI_HOME"),
    ],
)
def test_what_cannot_be_started_is_refused(monkeypatch, engine, fiji, words):
    monkeypatch.delenv("FIJI_HOME", raising=False)
    with pytest.raises(ParameterError, match=words):
        bridge.start(engine=engine, fiji=fiji)


def test_an_unknown_engine_is_refused_while_one_runs_as_well():
    with pytest.raises(ParameterError, match="`engine` must be one of"):
        engines.reuse(Engine("embedded"), "imagej2", None, headless=True)


@pytest.mark.parametrize(
    ("running", "asked", "words"),
    [
        (Engine("embedded"), {"fiji": "sc.fiji:fiji"}, "without a Fiji"),
        (Engine("fiji", "sc.fiji:fiji"), {"engine": "embedded"}, "as the Fiji in sc.fiji:fiji"),
        (Engine("fiji", "sc.fiji:fiji"), {"fiji": "sc.fiji:fiji:2.1"}, "as the Fiji in sc.fiji"),
        (Engine("embedded"), {"headless": False}, "without a window"),
    ],
)
def test_one_imagej_is_not_passed_off_as_another(running, asked, words):
    asked = {"engine": "auto", "fiji": None, "headless": True} | asked
    with pytest.raises(EngineError, match=f"runs in this process already, {words}.*Python anew"):
        engines.reuse(running, **asked)


def test_the_one_that_runs_is_used_where_nothing_else_was_asked_for(monkeypatch):
    monkeypatch.setenv("FIJI_HOME", "/none")
    for running in (Engine("embedded", headless=False), Engine("fiji", "sc.fiji:fiji")):
        assert engines.reuse(running, "auto", None, headless=True) is running


@pytest.mark.parametrize("gateway", [None, False, "Fiji.app"])
def test_only_a_gateway_can_be_registered(gateway):
    with pytest.raises(ParameterError, match=r"`gateway` must be what imagej.init\(...\) returned"):
        fp.register(gateway)


def test_a_folder_tells_its_version_and_its_javas(tmp_path):
    jars = tmp_path / "jars"
    jars.mkdir()
    assert (fiji_folder.version(tmp_path), fiji_folder.oldest_java(tmp_path)) == (None, 0)
    for name, java in (("imagej-2.17.0", 8), ("fiji-2.17.1", 21), ("imagej-ops-2.0", 11)):
        with zipfile.ZipFile(jars / f"{name}.jar", "w") as jar:
            jar.writestr("META-INF/versions/25/A.class", bytes(6) + (69).to_bytes(2))
            jar.writestr("a/A.class", bytes(6) + (java + 44).to_bytes(2))
    (jars / "scijava-broken-1.jar").touch()
    assert (fiji_folder.version(tmp_path), fiji_folder.oldest_java(tmp_path)) == ("2.17.1", 21)
    homes = [tmp_path / "java" / place for place in ("linux64/jdk-21", "macos64/z/Contents/Home")]
    for home in homes:
        home.mkdir(parents=True)
        (home / "release").touch()
    assert fiji_folder.own_javas(tmp_path) == homes


# A JVM that somebody else started.


def join(*how, **environment):
    done = run((CHECKS / "join_jvm.py",), *how, **environment)
    assert done.returncode == 0, done.stderr
    assert time.time() - float(re.search(r"LAST (\S+)", done.stdout)[1]) < 5
    # Who started it ends it.
    assert "THEIR END" in done.stdout
    return done.stdout


@pytest.mark.parametrize(
    "how", [("start",), ("patched",), ("register",)], ids=["start", "patched before", "register"]
)
def test_a_jvm_that_runs_is_used(how):
    output = join("opens", "headless", *how)
    assert "MACRO 2 joined\n" in output
    # ImageJ's own way, as PyImageJ's run_macro goes.
    assert "IMAGEJ 2\n" in output
    assert "WINDOW False\n" in output


def test_a_jvm_that_has_a_display_may_stay_without_window_or_show_it(display):
    assert "WINDOW False\n" in join("opens", DISPLAY=display)
    assert "WINDOW True\n" in join("opens", "window", DISPLAY=display)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        (("headless",), "without --add-opens=java.base/java.lang=ALL-UNNAMED, so ImageJ cannot"),
        (("register", "headless"), 'scyjava.config.add_option("--add-opens=java.base/java.lang='),
        (("opens", "headless", "loaded"), "ImageJ was loaded before it was patched"),
        (("opens", "bare"), "it lacks ImageJ or net.imagej:ij1-patcher"),
        (("opens", "headless", "window"), "has no display, so ImageJ's window cannot be shown"),
        (("opens", "window"), "has no display, so ImageJ's window cannot be shown"),
        (("opens", "headless", "fiji"), "already, and it holds no Fiji"),
    ],
)
def test_a_jvm_that_does_not_do_is_refused_with_what_to_do(how, words):
    output = join(*how)
    assert words in re.search("REFUSED (.*)", output)[1]
    assert "MACRO" not in output
