"""Ctrl-C, no memory, files that fail: one line, the exit status, and nothing lost."""

import os
import subprocess
import sys

import numpy as np
import pytest

import fiji_poreseg as fp
from fiji_poreseg.cli import main
from fiji_poreseg.files import tiff_reading
from fiji_poreseg.progress import reporting


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A folder with a stack, its truth, a forest and its segmentation."""
    folder = tmp_path_factory.mktemp("inputs")
    made = fp.phantom(folder, slices=12, size=48, feature_size_nm=150, attenuation_nm=150)
    fp.train_forest(
        made.stack, made.truth, indices=(0, 8), trees=4, folds=0, model=folder / "f.poreseg"
    )
    return folder


COMMANDS = {
    "train-forest": (
        "train-forest {given}/stack.tif {given}/truth.tif --indices 0,8 --trees 8 "
        "--model {to}/f.poreseg --importances {to}/i.csv",
        "Growing",
        {"f.poreseg", "i.csv"},
    ),
    "segment": (
        "segment {given}/stack.tif --model {given}/f.poreseg --output {to}/s.tif "
        "--probability {to}/p.tif",
        "Segmenting",
        {"s.tif", "p.tif"},
    ),
}


class At:
    """Raises an error at a step of the work."""

    def __init__(self, step, error):
        self.step, self.error, self.raised = step, error, False

    def update(self, description, done, total):
        if description.startswith(self.step) and done > 0:
            self.raised = True
            raise self.error


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "fiji-poreseg: interrupted\n"),
        (MemoryError(), 1, "fiji-poreseg: out of memory. Close other programs, take fewer slices "),
        (
            OSError(5, "Input/output error", "a.tif"),
            1,
            "'a.tif'. Nothing that was there is damaged",
        ),
        (OSError(28, "No space left on device"), 1, "space or choose another "),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_stops_a_command_is_one_line_and_leaves_older_files(
    inputs, tmp_path, capsys, name, error, status, said
):
    line, step, files = COMMANDS[name]
    for file in files:
        (tmp_path / file).write_text("old")
    listener = At(step, error)
    with reporting(listener):
        assert main(line.format(given=inputs, to=tmp_path).split()) == status
    assert listener.raised
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == dict.fromkeys(
        files, "old"
    )


LOADING = """
import sys
class Impatient:
    def find_spec(self, name, *_):
        if name == "fiji_poreseg.cli":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Impatient())
import fiji_poreseg.__main__
fiji_poreseg.__main__.run()
"""


def test_ctrl_c_while_the_program_is_loaded_is_one_line():
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "fiji-poreseg: interrupted\n")


def test_a_stack_that_is_cut_off_while_it_is_segmented(inputs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tiff_reading, "LARGE_BYTES", 100)
    stack = fp.read(inputs / "stack.tif")
    fp.write(tmp_path / "stack.tif", stack.astype(np.float32))
    (tmp_path / "s.tif").write_text("old")

    class Cut:
        def update(self, description, done, total):
            if description == "Segmenting" and done == 1:
                os.truncate(tmp_path / "stack.tif", 60_000)

    words = f"segment {tmp_path}/stack.tif --model {inputs}/f.poreseg --output {tmp_path}/s.tif"
    with reporting(Cut()):
        assert main(words.split()) == 1
    assert "stack.tif was cut off while it was being read" in capsys.readouterr().err
    assert (tmp_path / "s.tif").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"stack.tif", "s.tif"}


NO_MEMORY = """
import resource, sys
import numpy as np, psutil
import fiji_poreseg as fp
from fiji_poreseg.cli import main

folder = sys.argv[1]
rng = np.random.default_rng(0)
for name, side in {"small": 64, "wide": 1100}.items():
    values = rng.integers(0, 255, (1, side, side)).astype(np.uint8)
    fp.write(f"{folder}/{name}.tif", fp.make_stack(values, (10, 10, 10)))
fp.segment(f"{folder}/small.tif", model="pretrained")  # loads what takes address space
taken = psutil.Process().memory_info().vms
resource.setrlimit(resource.RLIMIT_AS, (taken + int(sys.argv[2]) * 2**20, -1))
sys.exit(main(["segment", f"{folder}/wide.tif", "--model", "pretrained", "--output",
               f"{folder}/s.tif"]))
"""


@pytest.mark.slow
# Elsewhere a limit is not kept (macOS) or there is none (Windows), and no memory would be short.
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space of a process")
@pytest.mark.parametrize(("mebibytes", "status"), [(60, 1), (500, 0)])
def test_with_little_memory_it_is_done_in_smaller_tiles_or_says_so(tmp_path, mebibytes, status):
    done = subprocess.run(
        [sys.executable, "-c", NO_MEMORY, tmp_path, str(mebibytes)], capture_output=True, text=True
    )
    assert done.returncode == status
    *notes, last = done.stderr.splitlines()
    if status:
        assert last.startswith("fiji-poreseg: out of memory.")
    assert all("memory is short" in note for note in (*notes, *([] if status else [last])))
    assert (tmp_path / "s.tif").exists() == (status == 0)
