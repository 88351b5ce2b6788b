"""How time and memory grow with the stack, segmented from OME-Zarr to OME-Zarr.

    python benchmarks/scale.py              600 x 512 x 512 and 600 x 2048 x 2048, half an hour
    python benchmarks/scale.py --slices 60 --sizes 256,512 --shares 8,24

Stacks are a small phantom, mirrored until they fill the size. The command line segments some
slices in the middle of each, in a process of its own, whose peak is that of all its memory, the
interpreter included (Linux and macOS); then more of them. The difference is what a slice takes,
without the start and without the neighbours of the first and the last; from it the whole is
projected. Shares are the slices of the largest stack; of a smaller one there are as many voxels.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
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


def segment(stack: Path, model: Path, output: Path, first: int, count: int) -> tuple[float, float]:
    """Segment some slices in a process of its own; answers with its seconds and its peak in GB."""
    asked = ",".join(map(str, range(first, first + count)))
    line = ["segment", str(stack), "--model", str(model), "--output", str(output)]
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "fiji_poreseg.cli", *line, "--indices", asked],
        stdout=subprocess.DEVNULL,
    )
    # This child's peak, where RUSAGE_CHILDREN would answer with the largest of all. Linux counts
    # what this process holds at the start as well, which is little beside what is measured.
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(process.returncode)
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def models(folder: Path) -> Iterator[tuple[str, Path]]:
    """A forest and a small ResUNet, neither of them good: how fast they are is asked."""
    made = fp.phantom(slices=48, size=128, **PHANTOM)
    forest, resunet = folder / "forest.poreseg", folder / "resunet.poreseg"
    fp.train_forest(made.stack, made.truth, model=forest, indices=TRAINED_ON, folds=0)
    yield "forest", forest
    fp.train_resunet(
        made.stack, made.truth, model=resunet, indices=TRAINED_ON, network="small", steps=2
    )
    yield "ResUNet, small", resunet


def main() -> None:
    """Print a row for each stack and model, and how the time per voxel grows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=600, help="slices of each stack; 600")
    parser.add_argument("--sizes", default="512,2048", help="sides of a slice; 512,2048")
    parser.add_argument("--shares", default="8,24", help="slices of the largest; 8,24")
    given = parser.parse_args()
    sizes = [int(size) for size in given.sizes.split(",")]
    few, more = (int(share) for share in given.shares.split(","))
    phantom = fp.phantom(slices=48, size=128, **PHANTOM).stack
    sys.stdout.write(
        "| model | stack | Mpx/s | peak GB | whole, min, projected |\n|---|---|---:|---:|---:|\n"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size in sizes:
            write_mirrored(folder / f"{size}.zarr", phantom, given.slices, size)
        for model, file in models(folder):
            speeds = []
            for size in sizes:
                times = (max(sizes) // size) ** 2
                counts = [min(share * times, given.slices) for share in (few, more)]
                (short, _), (long, peak) = (
                    segment(
                        folder / f"{size}.zarr",
                        file,
                        folder / "segmentation.zarr",
                        (given.slices - count) // 2,
                        count,
                    )
                    for count in counts
                )
                per_slice = (long - short) / (counts[1] - counts[0])
                whole = long + (given.slices - counts[1]) * per_slice
                speeds.append(size**2 / 1e6 / per_slice)
                sys.stdout.write(
                    f"| {model} | {given.slices} x {size} x {size} | {speeds[-1]:.3f} "
                    f"| {peak:.2f} | {whole / 60:.1f} |\n"
                )
                sys.stdout.flush()
            sys.stdout.write(
                f"\n{model}: time per voxel, last to first: {speeds[0] / speeds[-1]:.2f}\n\n"
            )
            sys.stdout.flush()


if __name__ == "__main__":
    main()
