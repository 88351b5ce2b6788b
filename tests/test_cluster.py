"""Work spread over processes and clusters: the same answers, whoever dies, and clear words."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import xarray as xr
from distributed import Client

import fiji_poreseg as fp
from fiji_poreseg import cluster
from fiji_poreseg.cluster import places
from fiji_poreseg.errors import Canceled
from fiji_poreseg.progress import reporting

VOXELS_NM = (10 / 3, 10, 10)
IMAGES = ("segmentation", "probability", "uncertainty")


def paths(folder):
    """Arguments for `segment`: where to write each image."""
    folder.mkdir()
    return {name: folder / f"{name}.tif" for name in ("output", "probability", "uncertainty")}


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def wait_until(true, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@contextlib.contextmanager
def dask(command, *options):
    """Run one of Dask's own programs, as who has a cluster does."""
    line = [sys.executable, "-m", f"distributed.cli.dask_{command}", *map(str, options)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def running_cluster(folder, workers):
    """A cluster on the loopback interface: its scheduler's process, file and address."""
    file = folder / "scheduler.json"
    here = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", "--no-dashboard")
    with dask("scheduler", *here, "--port", "0", "--scheduler-file", file) as scheduler:
        wait_until(file.exists)
        with contextlib.ExitStack() as stack:
            for _ in range(workers):
                given = ("--nworkers", 1, "--nthreads", 2, "--local-directory", folder)
                stack.enter_context(dask("worker", "--scheduler-file", file, *here, *given))
            wait_until(lambda: file.read_text().endswith("}"))
            address = json.loads(file.read_text())["address"]
            with Client(address, set_as_default=False) as client:
                client.wait_for_workers(workers)
            yield SimpleNamespace(process=scheduler, file=file, address=address)


@pytest.fixture(scope="module")
def two_workers(tmp_path_factory):
    with running_cluster(tmp_path_factory.mktemp("cluster"), workers=2) as running:
        yield running


@pytest.fixture(scope="module")
def small():
    """40 slices of 32 x 48 voxels with a border without data, of two detectors."""
    made = fp.phantom(slices=40, size=48, feature_size_nm=150, attenuation_nm=150)
    one = made.stack[:, :32].copy()
    one[:, :3] = 0
    # Their distance cannot be written down: each part must see the same.
    one = one.assign_coords(z=np.arange(40) * VOXELS_NM[0])
    return xr.concat([one, one // 2], "c").rename("both"), made.truth[:, :32]


@pytest.fixture(scope="module")
def forest(small):
    return fp.train_forest(*small, indices=(0, 20), trees=5, folds=0, nodata=0)


@pytest.fixture(scope="module")
def expected(small, forest, tmp_path_factory):
    """What one process makes of it, and the files that it writes."""
    folder = tmp_path_factory.mktemp("one") / "process"
    return fp.segment(small[0], model=forest, nodata=0, **paths(folder)), contents(folder)


class AtSlice:
    """Does something when so many slices are done."""

    def __init__(self, number, act):
        self.number, self.act = number, act

    def update(self, description, done, total):
        if done == self.number and self.act is not None:
            act, self.act = self.act, None
            act()


def workers_of(process):
    """The processes that compute, each below one that guards it."""
    return [
        child
        for guard in process.children()
        for child in guard.children()
        if "fiji_poreseg.cluster" in guard.cmdline() and "spawn_main" in " ".join(child.cmdline())
    ]


@pytest.mark.parametrize("given_by", ["address", "file"])
def test_a_cluster_answers_the_same(tmp_path, small, forest, expected, two_workers, given_by):
    scheduler = str(getattr(two_workers, given_by))
    given = {"scheduler": scheduler, **paths(tmp_path / "made")}
    made = fp.segment(small[0], model=forest, nodata=0, **given)
    assert contents(tmp_path / "made") == expected[1]
    for name in IMAGES:
        assert getattr(made, name).identical(getattr(expected[0], name))


def test_a_stack_in_a_file_is_read_by_the_workers(
    tmp_path, monkeypatch, small, forest, expected, two_workers
):
    monkeypatch.setattr("fiji_poreseg.files.tiff_reading.LARGE_BYTES", 1000)
    file = tmp_path / "stack.tif"
    fp.write(file, small[0][0])
    one = fp.train_forest(small[0][0], small[1], indices=(0,), trees=2, folds=0, nodata=0)
    whole = fp.segment(file, model=one, nodata=0)
    stack = fp.read(file)
    sent = []
    packed = cluster.pack
    monkeypatch.setattr(cluster, "pack", lambda part: sent.append(packed(part)) or sent[-1])
    given = {"model": one, "nodata": 0, "scheduler": two_workers.address}
    assert fp.segment(stack, **given).segmentation.identical(whole.segmentation)
    assert max(map(len, sent)) < stack[0].nbytes * 8
    file.rename(tmp_path / "elsewhere.tif")
    with pytest.raises(fp.ParameterError, match=r"`image` must be a file that every worker can"):
        fp.segment(stack, **given)


def test_slices_far_apart_are_sent_without_what_lies_between(
    monkeypatch, small, forest, expected, two_workers
):
    sent = []
    packed = cluster.pack
    monkeypatch.setattr(cluster, "pack", lambda part: sent.append(packed(part)) or sent[-1])
    given = {"indices": (0, 1, 2, 38, 39), "nodata": 0, "scheduler": two_workers.address}
    made = fp.segment(small[0], model=forest, **given)
    assert made.segmentation[38:].equals(expected[0].segmentation[38:])
    assert max(map(len, sent)) < small[0].nbytes / 2


def test_scores_are_the_same(small, expected, two_workers):
    stack, truth = small
    truth = truth.copy()
    truth[7] = 0
    made, roi = expected[0], np.zeros(truth.shape, np.uint8)
    roi[:, 5:20] = 255
    given = {"probability": made.probability, "stack": stack, "roi": roi}
    alone = fp.evaluate(made.segmentation, truth, **given)
    spread = fp.evaluate(made.segmentation, truth, **given, scheduler=two_workers.address)
    assert spread == alone
    assert 7 not in [score.index for score in alone.slices]


def test_a_resunet_answers_the_same(phantom, two_workers):
    stack = phantom.stack[:12]
    given = {"model": "pretrained", "indices": 5}
    alone = fp.segment(stack, **given)
    spread = fp.segment(stack, **given, scheduler=two_workers.address)
    assert spread.segmentation.identical(alone.segmentation)
    np.testing.assert_allclose(spread.probability, alone.probability, atol=1e-5)


def test_a_worker_that_is_killed_is_made_up_for(tmp_path, small, forest, expected):
    killed = []

    def kill_one():
        victim, _ = workers_of(psutil.Process())
        victim.kill()
        killed.append(victim)

    with reporting(AtSlice(1, kill_one)):
        fp.segment(small[0], model=forest, nodata=0, workers=2, **paths(tmp_path / "made"))
    assert killed
    assert contents(tmp_path / "made") == expected[1]
    assert not workers_of(psutil.Process())


def test_a_killed_script_takes_its_workers_along_and_is_gone_on_with(
    tmp_path, small, forest, expected
):
    """The script asks for workers with no word about whether it is the main program."""
    stack, model, begun = tmp_path / "both.tif", tmp_path / "m.poreseg", tmp_path / "begun"
    fp.write(stack, small[0])
    forest.save(model)
    given = {name: str(path) for name, path in paths(begun).items()}
    script = tmp_path / "script.py"
    script.write_text(
        "import time, fiji_poreseg as fp\n"
        "from fiji_poreseg.progress import reporting\n"
        "class Slow:\n"
        "    def update(self, *news): time.sleep(0.2)\n"
        "with reporting(Slow()):\n"
        f"    fp.segment({str(stack)!r}, model={str(model)!r}, nodata=0, workers=2,"
        f" voxel_size_nm={VOXELS_NM}, resume=True, **{given})\n"
    )
    process = psutil.Popen([sys.executable, str(script)])
    journal = begun / ".output.tif.journal"
    wait_until(lambda: journal.exists() and journal.read_text().count("\n") > 5)
    workers = process.children(recursive=True)
    assert len(workers) >= 4
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    # Without workers: they do not matter to what is done.
    fp.segment(stack, model=model, nodata=0, voxel_size_nm=VOXELS_NM, resume=True, **given)
    for name, image in zip(given, IMAGES, strict=True):
        np.testing.assert_array_equal(fp.read(begun / f"{name}.tif"), getattr(expected[0], image))


def test_a_macro_takes_workers(ij, tmp_path, small, forest, expected):
    fp.write(tmp_path / "both.tif", small[0])
    forest.save(tmp_path / "m.poreseg")
    ij.run_macro(
        'f = getArgument(); run("PoreSeg Segment", "image=[" + f + "/both.tif] model=[" + f'
        ' + "/m.poreseg] output=[" + f + "/s.tif] nodata=0 workers=2");',
        str(tmp_path),
    )
    np.testing.assert_array_equal(fp.read(tmp_path / "s.tif"), expected[0].segmentation)


class TestSpread:
    """What a part of the work that fails leads to."""

    def spread(self, work, **given):
        place = cluster.place_of(**{"workers": None, "scheduler": None, **given})
        made = cluster.spread(
            place, work, b"common", range(6), list, pixels=2**20, description="Trying"
        )
        with contextlib.closing(made):
            return dict(made)

    def test_what_takes_too_much_memory_is_done_in_smaller_parts(self, two_workers):
        def hungry(common, part):
            if len(part) > 1:
                raise MemoryError
            return [(common, part[0] ** 2)]

        made = self.spread(hungry, scheduler=two_workers.address)
        assert made == {index: (b"common", index**2) for index in range(6)}

    def test_what_kills_every_worker_is_told(self):
        def deadly(common, part):
            import os

            os._exit(1)

        with pytest.raises(fp.ParameterError, match=r"`workers` must leave each worker the memory"):
            self.spread(deadly, workers=2)

    def test_what_is_cancelled_leaves_no_processes(self):
        def cancel():
            raise Canceled

        before = set(psutil.Process().children(recursive=True))
        with reporting(AtSlice(1, cancel)), pytest.raises(Canceled):
            self.spread(lambda common, part: part, workers=2)
        assert set(psutil.Process().children(recursive=True)) <= before

    def test_another_version_is_refused(self, two_workers, monkeypatch):
        here = cluster.versions()
        monkeypatch.setattr(cluster, "versions", lambda: {**here, "numpy": "1.0"})
        with pytest.raises(fp.ParameterError, match=rf"`scheduler` .*: numpy {here['numpy']} at"):
            self.spread(lambda common, part: part, scheduler=two_workers.address)

    def test_a_scheduler_that_is_lost_is_told(self, tmp_path):
        with running_cluster(tmp_path, workers=1) as running:

            def slow(common, part):
                import time

                time.sleep(0.5)
                return part

            with (
                reporting(AtSlice(1, running.process.kill)),
                pytest.raises(fp.ParameterError, match=r"`scheduler` must be there until .*resume"),
            ):
                self.spread(slow, scheduler=running.address)


@pytest.mark.slow
def test_jobs_of_slurm_answer_the_same(tmp_path, small, forest, monkeypatch):
    """Where `sbatch` starts a job at once, on this machine."""
    fp.write(tmp_path / "both.tif", small[0])
    forest.save(tmp_path / "m.poreseg")
    fp.segment(tmp_path / "both.tif", model=forest, output=tmp_path / "alone.tif")
    for name, lines in {
        # What it is given is gone when it has answered.
        "sbatch": 'job=$(cat "$1"); setsid sh -c "$job" >/dev/null 2>&1 </dev/null &'
        ' echo "Submitted batch job $!"',
        "scancel": 'kill -- "-$1"',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    script = Path(__file__).parent.parent / "scripts" / "slurm.py"
    options = "--model m.poreseg --output spread.tif --jobs 2 --cores 1 --memory 2GB"
    subprocess.run(
        [sys.executable, script, "both.tif", *options.split()],
        cwd=tmp_path,
        check=True,
        timeout=100,
    )
    assert (tmp_path / "spread.tif").read_bytes() == (tmp_path / "alone.tif").read_bytes()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"scheduler": "tcp://127.0.0.1:1"}, r"`scheduler` must be the address of a Dask sched"),
        ({"scheduler": "nowhere.json"}, r"`scheduler` must be .* nowhere.json"),
        ({"scheduler": "tcp://127.0.0.1:1", "workers": 2}, r"`workers` must be left out where"),
        ({"workers": 10**6}, r"`workers` must be at most [0-9]+: each takes"),
    ],
)
def test_where_nothing_can_be_done_is_refused(tmp_path, monkeypatch, small, forest, given, told):
    monkeypatch.setattr(places, "_CONNECTING_S", 1)
    with pytest.raises(fp.ParameterError, match=told):
        fp.segment(small[0], model=forest, nodata=0, output=tmp_path / "s.tif", **given)
    assert not list(tmp_path.iterdir())


def test_one_worker_is_this_process(small, forest, expected, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    made = fp.segment(small[0], model=forest, nodata=0, workers=1)
    assert made.segmentation.identical(expected[0].segmentation)
