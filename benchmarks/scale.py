"""How time and memory grow with the stack, segmented from file to file by the command line.

    python benchmarks/scale.py [--slices 64,600] [--size 1024]

Stacks are a small phantom, mirrored until they fill the size. Each is segmented in a process of
its own, whose peak is that of all its memory, the interpreter included (Linux and macOS). Where
the probability takes 256 MB or less, as with 64 slices of this size, it is made as well, which
takes longer: the time per voxel compares from 65 slices on.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr

import fiji_poreseg as fp
from fiji_poreseg import files

PHANTOM = {"feature_size_nm": 150, "attenuation_nm": 150}
TRAINED_ON = (0, 12, 24, 36)


def write_mirrored(path: Path, phantom: xr.DataArray, slices: int, size: int) -> None:
    """Write a stack made of a phantom that is mirrored in all directions, slice by slice."""
    tile = phantom.to_numpy()
    depth, rows, columns = tile.shape
    lacking = [(0, max(0, size - rows)), (0, max(0, size - columns))]
    # Only its description is used: one value, seen many times, takes no memory.
    whole = fp.make_stack(np.broadcast_to(np.uint8(0), (slices, size, size)), (10, 10, 10))
    with files.writing(path, whole) as writer:
        for index in range(slices):
            turn, rest = divmod(index, depth)
            plane = tile[depth - 1 - rest if turn % 2 else rest]
            writer[index] = np.pad(plane, lacking, mode="symmetric")[:size, :size]


def segment(stack: Path, model: Path, output: Path, *options: str) -> tuple[float, float]:
    """Segment in a process of its own; answers with its seconds and its peak in GB."""
    line = ["segment", str(stack), "--model", str(model), "--output", str(output), *options]
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "fiji_poreseg.cli", *line], stdout=subprocess.DEVNULL
    )
    # This child's peak, where RUSAGE_CHILDREN would answer with the largest of all. Linux counts
    # what this process holds at the start as well, which is little beside what is measured.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def main() -> None:
    """Print a row for each stack, and how the time per voxel grows from the first to the last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", default="64,600", help="numbers of slices; 64,600")
    parser.add_argument("--size", type=int, default=1024, help="side of a slice in voxels; 1024")
    parser.add_argument("--trees", type=int, default=100, help="trees of the forest; 100")
    parser.add_argument("--all", action="store_true", help="write probability and uncertainty, too")
    given = parser.parse_args()
    made = fp.phantom(slices=48, size=128, **PHANTOM)
    per_voxel = []
    sys.stdout.write("| slices | Mpx | s | Mpx/s | peak GB |\n|---:|---:|---:|---:|---:|\n")
    with tempfile.TemporaryDirectory() as folder:
        stack, model, output = (Path(folder, name) for name in ("s.tif", "f.poreseg", "seg.tif"))
        options = [f"--{name}={Path(folder, name)}.tif" for name in ("probability", "uncertainty")]
        fp.train_forest(made.stack, made.truth, model=model, indices=TRAINED_ON, trees=given.trees)
        for slices in map(int, given.slices.split(",")):
            write_mirrored(stack, made.stack, slices, given.size)
            seconds, peak = segment(stack, model, output, *(options if given.all else ()))
            voxels = slices * given.size**2
            per_voxel.append(seconds / voxels)
            sys.stdout.write(
                f"| {slices} | {voxels / 1e6:.0f} | {seconds:.1f} | {voxels / 1e6 / seconds:.3f} "
                f"| {peak:.2f} |\n"
            )
            sys.stdout.flush()
    sys.stdout.write(f"\nTime per voxel, last to first: {per_voxel[-1] / per_voxel[0]:.2f}\n")


if __name__ == "__main__":
    main()
