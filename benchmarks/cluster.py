"""Whether a segmentation depends on which processes made it, and how long each way takes.

    python benchmarks/cluster.py [--slices 64] [--size 1024] [--model pretrained]

A stack, a small phantom mirrored until it fills the size, is segmented from file to file by the
command line: in one process, by two workers, by a Dask cluster of two, and by two workers of
which one is killed in the middle. The files must be the same, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from scale import PHANTOM, TRAINED_ON, write_mirrored

import fiji_poreseg as fp


@contextmanager
def dask_cluster(folder: Path, workers: int) -> Iterator[Path]:
    """A scheduler and its workers, by Dask's own programs; gives the scheduler's file."""
    file = folder / "scheduler.json"
    here = ["--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file)]
    threads = max(1, (psutil.cpu_count() or 1) // workers)
    lines = [["scheduler", "--port", "0"]]
    lines += [["worker", "--nworkers", "1", "--nthreads", str(threads)]] * workers
    with ExitStack() as stack:
        for program, *options in lines:
            line = [sys.executable, "-m", f"distributed.cli.dask_{program}", *here, *options]
            process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
        while not file.exists():
            time.sleep(0.1)
        yield file


def segment(folder: Path, model: str, *options: str, kill_at: int | None = None) -> float:
    """Segment in a process of its own, perhaps kill a worker in the middle; gives seconds."""
    output = folder / "seg.tif"
    output.unlink(missing_ok=True)
    line = ["segment", str(folder / "s.tif"), "--model", model, "--output", str(output), *options]
    start = time.perf_counter()
    process = psutil.Popen(
        [sys.executable, "-m", "fiji_poreseg.cli", *line], stdout=subprocess.DEVNULL
    )
    journal = folder / ".seg.tif.journal"
    while kill_at is not None and process.poll() is None:
        time.sleep(0.1)
        if journal.exists() and journal.read_text().count("\n") > kill_at:
            victim = next(
                child
                for child in process.children(recursive=True)
                if "spawn_main" in " ".join(child.cmdline())
            )
            victim.kill()
            kill_at = None
    if process.wait() or kill_at is not None:
        raise SystemExit("The segmentation failed, or was over before a worker was killed.")
    return time.perf_counter() - start


def main() -> None:
    """Print a row for each way, and fail where the files differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=64, help="slices of the stack; 64")
    parser.add_argument("--size", type=int, default=1024, help="side of a slice in voxels; 1024")
    parser.add_argument("--trees", type=int, default=100, help="trees of the forest; 100")
    parser.add_argument("--model", help="a model's file or pretrained; a forest by default")
    given = parser.parse_args()
    made = fp.phantom(slices=48, size=128, **PHANTOM)
    digests = set()
    sys.stdout.write("| by | s | SHA-256 of the segmentation |\n|---|---:|---|\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_mirrored(folder / "s.tif", made.stack, given.slices, given.size)
        model = given.model or str(folder / "f.poreseg")
        if not given.model:
            fp.train_forest(
                made.stack, made.truth, model=model, indices=TRAINED_ON, trees=given.trees
            )
        with dask_cluster(folder, workers=2) as scheduler:
            ways = {
                "one process": ([], None),
                "two workers": (["--workers", "2"], None),
                "a Dask cluster of two": (["--scheduler", str(scheduler)], None),
                "two workers, one killed": (["--workers", "2"], given.slices // 4),
            }
            for name, (options, kill_at) in ways.items():
                seconds = segment(folder, model, *options, kill_at=kill_at)
                digest = hashlib.sha256((folder / "seg.tif").read_bytes()).hexdigest()
                digests.add(digest)
                sys.stdout.write(f"| {name} | {seconds:.1f} | {digest[:16]} |\n")
                sys.stdout.flush()
    if len(digests) > 1:
        raise SystemExit("They differ.")


if __name__ == "__main__":
    main()
