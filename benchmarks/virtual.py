"""How much memory it takes to segment 20 slices of a virtual stack of 20 GB from a macro.

    python benchmarks/virtual.py        about 3 minutes, 1 GB on the disk

The file is sparse: grey values lie around the slices that matter, the rest is a hole. The macro
opens it whole as a virtual stack and segments slices spread over it with a small forest. The
peak is that of the whole process, Python and Java together (Linux and macOS).
"""

from __future__ import annotations

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

import fiji_poreseg as fp

SLICES, SIZE = 20_000, 1000
# How far a model may look, in slices: its neighbours are there, the others are black.
REACH = 20
PHANTOM = {"feature_size_nm": 150, "attenuation_nm": 150}


def spread(slices: int, count: int = 20) -> list[int]:
    """Indices evenly spread over a stack, away from its ends."""
    return [(2 * number + 1) * slices // (2 * count) for number in range(count)]


def write_sparse(path: Path, slices: int, size: int, indices: Sequence[int]) -> None:
    """Write a TIFF that ImageJ can open as a virtual stack, with grey values around `indices`."""
    phantom = fp.phantom(slices=2 * REACH + 1, size=128, **PHANTOM).stack.to_numpy()
    times = -(-size // 128)
    with tifffile.TiffWriter(path, imagej=True) as tiff:
        offset, _ = tiff.write(
            shape=(slices, size, size),
            dtype=np.uint8,
            returnoffset=True,
            truncate=True,
            resolution=(0.1, 0.1),
            metadata={"axes": "ZYX", "unit": "nm", "spacing": 10.0},
        )
    with open(path, "r+b") as stream:
        stream.truncate(offset + slices * size**2)
        for index in indices:
            for away, plane in enumerate(phantom, -REACH):
                if 0 <= index + away < slices:
                    stream.seek(offset + (index + away) * size**2)
                    stream.write(np.tile(plane, (times, times))[:size, :size].tobytes())


def train(path: Path) -> None:
    """Train a small forest for such a stack."""
    made = fp.phantom(slices=30, size=64, **PHANTOM)
    fp.train_forest(made.stack, made.truth, model=path, indices=(0, 10, 20), trees=20, pixels=5000)


def segment(ij: fp.bridge.ImageJ, stack: Path, model: Path, indices: Sequence[int]) -> str | None:
    """Open and segment in one macro; answers with what the macro sees of the result."""
    return ij.run_macro(
        f"""run("TIFF Virtual Stack...", "open=[{stack}]");
        opened = is("Virtual Stack");
        run("PoreSeg Segment", "model=[{model}] indices={",".join(map(str, indices))}");
        shown = is("Virtual Stack");
        setSlice({indices[-1]} + 1);
        getStatistics(area, mean, least, most);
        return "" + opened + "|" + shown + "|" + nSlices + "|" + least + "-" + most;"""
    )


def main() -> None:
    """Print what was found, how long it took and the peak."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=SLICES)
    parser.add_argument("--size", type=int, default=SIZE)
    given = parser.parse_args()
    indices = spread(given.slices)
    with tempfile.TemporaryDirectory() as folder:
        stack, model = Path(folder, "stack.tif"), Path(folder, "forest.poreseg")
        write_sparse(stack, given.slices, given.size, indices)
        train(model)
        ij = fp.start()
        start = time.perf_counter()
        seen = segment(ij, stack, model, indices)
        seconds = time.perf_counter() - start
        on_disk = stack.stat().st_blocks * 512
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak *= 1 if sys.platform == "darwin" else 1024
    sys.stdout.write(
        f"stack of {given.slices * given.size**2 / 1e9:.1f} GB ({on_disk / 1e9:.2f} GB on the "
        f"disk), {len(indices)} slices segmented in {seconds:.0f} s\n"
        f"opened virtual | result virtual | slices | values in the last slice: {seen}\n"
        f"peak of Python and Java together: {peak / 1e9:.2f} GB\n"
    )


if __name__ == "__main__":
    main()
