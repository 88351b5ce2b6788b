"""How fast images go between numpy and ImageJ: an 8-bit stack of 512 MB, beside `numpy.copyto`.

    python benchmarks/exchange.py        about 1 minute, 3 GB

Each way is run once to warm up and then timed `--repeats` times; the median counts. What a run
has made is dropped before the next, and Java collects its garbage, outside the time taken. All
but the ways to ImgLib2 make a new image, whose memory must be had first: hence the second ratio,
to `numpy.copyto` into a new array. First calls are made in processes of their own, and twice: on
memory as it comes, which a virtual machine may get from its host only when it is touched, and on
memory that the machine holds, half of what is free having been touched and let go just before.
"By hand" is slice by slice, as PyImageJ's users write it.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import jpype
import numpy as np
import psutil
import xarray as xr

import fiji_poreseg as fp

SHAPE = (512, 1024, 1024)


def timed(work: Callable[[], object], repeats: int, between: Callable[[], object]) -> float:
    """Median time of some runs in seconds, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        between()
        start = time.perf_counter()
        made = work()
        times.append(time.perf_counter() - start)
        del made
    return statistics.median(times[1:])


def touch_memory() -> None:
    """Have the machine hold half of its free memory, in a process that then ends."""
    half = psutil.virtual_memory().available // 2
    subprocess.run(
        [sys.executable, "-c", f"import numpy; numpy.ones({half}, numpy.uint8)"], check=True
    )


def random_values() -> np.ndarray:
    """Grey values to send."""
    return np.random.default_rng(0).integers(0, 255, SHAPE, np.uint8)


def first_calls(work: Callable[[bool], float]) -> tuple[float, float]:
    """Seconds of the first call in a new process, on memory as it comes and on memory held."""
    seconds = []
    for held in (False, True):
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            seconds.append(pool.submit(work, held).result())
    return seconds[0], seconds[1]


def first_copy(held: bool) -> float:
    """Seconds of the first `numpy.copyto` into a new array."""
    values = random_values()
    if held:
        touch_memory()
    start = time.perf_counter()
    copied(values)
    return time.perf_counter() - start


def first_to_imageplus(held: bool) -> float:
    """Seconds of the first way from numpy to an ImagePlus."""
    ij = fp.start()
    stack = fp.make_stack(random_values(), (10, 10, 10))
    if held:
        touch_memory()
    start = time.perf_counter()
    ij.to_imageplus(stack)
    return time.perf_counter() - start


def copied(values: np.ndarray) -> np.ndarray:
    """`numpy.copyto` into a new array."""
    new = np.empty_like(values)
    np.copyto(new, values)
    return new


def by_hand_to_imageplus(ij: fp.bridge.ImageJ, values: np.ndarray) -> object:
    """Slice by slice through Java arrays that JPype fills."""
    stack = ij.java("ij.ImageStack")(values.shape[2], values.shape[1])
    for plane in values:
        stack.addSlice(None, jpype.JArray(jpype.JByte)(plane.view(np.int8).ravel()))
    return ij.java("ij.ImagePlus")("by hand", stack)


def by_hand_to_numpy(image: object) -> np.ndarray:
    """Slice by slice through views of copies of Java arrays."""
    stack = image.getStack()
    shape = (image.getHeight(), image.getWidth())
    planes = (memoryview(stack.getPixels(n)) for n in range(1, image.getStackSize() + 1))
    return np.stack([np.asarray(plane).view(np.uint8).reshape(shape) for plane in planes])


def check_sharing(ij: fp.bridge.ImageJ, stack: xr.DataArray) -> None:
    """Find out that a change on one side is seen on the other, both ways."""
    image = ij.to_imglib2(stack)
    back = ij.to_xarray(image)
    access = image.randomAccess()
    stack[0, 0, 0] = 77
    access.setPosition(jpype.JLong[:]([0, 0, 0]))
    assert access.get().get() == 77
    assert back[0, 0, 0] == 77
    access.get().set(78)
    assert stack[0, 0, 0] == 78
    assert back[0, 0, 0] == 78


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    new_copy_first, new_copy_held = first_calls(first_copy)
    to_imageplus_first, to_imageplus_held = first_calls(first_to_imageplus)
    values = random_values()
    stack = fp.make_stack(values, (10, 10, 10))
    used = np.ones_like(values)
    ij = fp.start()

    def collect() -> None:
        ij.java("java.lang.System").gc()
        time.sleep(0.1)  # JPype then lets Python collect, in a thread of its own

    image = ij.to_imageplus(stack)
    shared = ij.to_imglib2(stack)
    assert np.array_equal(ij.to_xarray(image), values)
    assert np.array_equal(by_hand_to_numpy(image), values)
    check_sharing(ij, stack)

    def time_of(work: Callable[[], object]) -> float:
        return timed(work, repeats, collect)

    copy = time_of(lambda: np.copyto(used, values))
    new_copy = time_of(lambda: copied(values))
    rows = {
        "numpy.copyto": copy,
        "numpy.copyto into a new array, first call": new_copy_first,
        "numpy.copyto into a new array, first call, memory held": new_copy_held,
        "numpy.copyto into a new array": new_copy,
        "ImagePlus to numpy": time_of(lambda: ij.to_xarray(image)),
        "ImagePlus to numpy, by hand": time_of(lambda: by_hand_to_numpy(image)),
        "numpy to ImagePlus, first call": to_imageplus_first,
        "numpy to ImagePlus, first call, memory held": to_imageplus_held,
        "numpy to ImagePlus": time_of(lambda: ij.to_imageplus(stack)),
        "numpy to ImagePlus, by hand": time_of(lambda: by_hand_to_imageplus(ij, values)),
        "numpy to ImgLib2, memory shared": time_of(lambda: ij.to_imglib2(stack)),
        "ImgLib2 to numpy, memory shared": time_of(lambda: ij.to_xarray(shared)),
    }
    sys.stdout.write(
        "| way | ms | GB/s | ratio to copyto | to copyto into a new array |\n"
        "|---|---|---|---|---|\n"
    )
    for way, seconds in rows.items():
        sys.stdout.write(
            f"| {way} | {seconds * 1e3:.1f} | {values.nbytes / seconds / 1e9:.2f} "
            f"| {copy / seconds:.2f} | {new_copy / seconds:.2f} |\n"
        )


if __name__ == "__main__":
    main()
