"""What several test modules need."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import fiji_poreseg as fp

ROOT = Path(__file__).parent.parent


def pytest_report_header() -> list[str]:
    """Name the versions that matter when a test fails elsewhere."""
    from importlib.metadata import version

    packages = ("numpy", "scikit-learn", "tensorflow", "keras", "xarray", "jpype1", "scyjava")
    return [", ".join(f"{package} {version(package)}" for package in packages)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Pass over what needs a Fiji where FIJI_HOME names none."""
    home = os.environ.get("FIJI_HOME")
    if not home or not Path(home).is_dir():
        for item in items:
            if item.get_closest_marker("fiji"):
                item.add_marker(pytest.mark.skip(reason="set FIJI_HOME to a Fiji's folder"))


@pytest.fixture(scope="session")
def benchmark_module():
    """A function that imports a script of the folder `benchmarks` by its name."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def ij():
    """ImageJ with the commands in it, and no image open; a Fiji where FIJI_HOME names one."""
    engine = fp.start()
    engine.close()
    yield engine
    engine.close()


@pytest.fixture
def file_size_limit():
    """A function that lets files grow up to so many bytes only, like a disk that is full."""
    # Windows has neither this module nor such a limit; the full disk itself is tested on Linux.
    resource = pytest.importorskip("resource", reason="only Unix limits the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="session")
def traced():
    """A function that calls another, and answers with its result and the bytes it took at most.

    In a process of its own: where Java runs, one of its threads may ask Python for memory while
    tracemalloc stops, which takes the process down.
    """

    def measure(function, *arguments):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(_call_traced, function, *arguments).result()

    return measure


def _call_traced(function, *arguments):
    function(*arguments)  # what is imported by the first call is not counted
    tracemalloc.start()
    result = function(*arguments)
    return result, tracemalloc.get_traced_memory()[1]


@pytest.fixture(scope="session")
def phantom():
    """A small phantom: 30 slices of 64 x 64 voxels, its structure scaled down to fit."""
    return fp.phantom(slices=30, size=64, feature_size_nm=150, attenuation_nm=150)


@pytest.fixture(scope="session")
def resunet(phantom):
    """A small ResUNet that was trained on some slices of the phantom."""
    return fp.train_resunet(
        phantom.stack, phantom.truth, indices=(0, 6, 12, 18, 24), network="small", steps=160
    )


def without_graphs():
    """TensorFlow without graphs, which take seconds to trace: for a training of a step or two."""
    from fiji_poreseg.resunet.backend import tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


untraced = pytest.fixture(scope="class", name="untraced")(without_graphs)
untraced_module = pytest.fixture(scope="module", name="untraced_module")(without_graphs)


@pytest.fixture(scope="session")
def medulla():
    """The crop of a real FIB-SEM stack, and its labels."""
    folder = Path(__file__).parent / "data" / "medulla"
    return fp.read(folder / "raw.tif"), fp.read(folder / "labels.tif")


@pytest.fixture(scope="session")
def display():
    """The name of a virtual display of its own, such as ":7", for processes with a window."""
    program = shutil.which("Xvfb")
    if program is None:
        # No package of Python's registry brings an X server, and none but Linux can run this one.
        pytest.skip("needs Xvfb (Debian: apt install xvfb)")
    reading, writing = os.pipe()
    server = subprocess.Popen(
        [program, "-displayfd", str(writing), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"],
        pass_fds=[writing],
        stderr=subprocess.DEVNULL,
    )
    os.close(writing)
    with os.fdopen(reading) as answer:
        number = answer.readline().strip()
    yield f":{number}"
    server.terminate()
    server.wait()
