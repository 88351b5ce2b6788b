"""How fast the ResUNet predicts, beside a loop of `keras.Model.predict` over the same slices.

    python benchmarks/resunet.py                 1024 x 1024, the network "base"
    python benchmarks/resunet.py --memory        600 x 1024 x 1024, memory only, several minutes

The weights are untrained: they change no time. Every way gets the same stack, normalises it and
makes the network's input of it, and is run once before; the ways take turns, and the median
counts. Memory is what the process took at most, in a process of its own for each way.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from threading import Event, Thread

import numpy as np
import psutil
import xarray as xr

import fiji_poreseg as fp
from fiji_poreseg.model import Card
from fiji_poreseg.resunet import FILTERS, ResUNetModel
from fiji_poreseg.resunet.context import Context, channels, existing, with_reach
from fiji_poreseg.resunet.network import build, to_arrays
from fiji_poreseg.slices import SliceReader, voxel_offsets

SLICES, SIDE = 4, 1024
WAYS = ("keras", "exact", "fast")


def untrained(network: str) -> ResUNetModel:
    """A model of a size with the weights that it starts training from."""
    card = Card(("pore", "solid"), (10, 10, 10), 1, "forward", (0,), 0)
    context = Context.for_spacing(10)
    made = build(context.channel_count(1), 2, FILTERS[network])
    return ResUNetModel(card, context, FILTERS[network], to_arrays(made))


def by_keras(model: ResUNetModel) -> Callable[[xr.DataArray, range], Iterator[np.ndarray]]:
    """A loop of `keras.Model.predict`, slice by slice, as a user of Keras writes it."""
    from fiji_poreseg.resunet.backend import tf

    offsets_nm = model.context.offsets_nm
    network = build(model.context.channel_count(1), 2, model.filters)
    network.set_weights(list(model.weights.values()))

    def predict(stack: xr.DataArray, indices: range) -> Iterator[np.ndarray]:
        reader = SliceReader(stack)
        offsets = voxel_offsets(offsets_nm, stack, "forward")
        for index in indices:
            exists = existing(index, offsets, len(reader))
            view = with_reach(channels(reader, index, offsets), exists, offsets_nm)
            logits = network.predict(view[np.newaxis], verbose=0)[0]
            yield np.moveaxis(np.asarray(tf.nn.softmax(logits)), -1, 0)

    return predict


def by_us(
    model: ResUNetModel, precision: str
) -> Callable[[xr.DataArray, range], Iterator[np.ndarray]]:
    """The model's own prediction."""

    def predict(stack: xr.DataArray, indices: range) -> Iterator[np.ndarray]:
        for _, probabilities in model.predict(stack, indices, precision=precision):
            yield probabilities

    return predict


def noise(count: int, side: int) -> xr.DataArray:
    """A stack of random greys."""
    values = np.random.default_rng(0).integers(1, 255, (count, side, side), np.uint8)
    return fp.make_stack(values, (10, 10, 10))


def peak_memory(way: str, network: str, count: int, side: int) -> float:
    """What a process took at most to predict `count` slices, without the stack, in GB."""
    command = [sys.executable, __file__, "--measure", way, "--network", network]
    command += ["--slices", str(count), "--side", str(side)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure(way: str, network: str, count: int, side: int) -> float:
    """Predict in this process, looking at its memory 100 times a second; the most, in GB."""
    model, stack = untrained(network), noise(count, side)
    predict = by_keras(model) if way == "keras" else by_us(model, way)
    process, done = psutil.Process(), Event()
    most = 0

    def watch() -> None:
        nonlocal most
        while not done.wait(0.01):
            most = max(most, process.memory_info().rss)

    watching = Thread(target=watch)
    watching.start()
    try:
        for _ in predict(stack, range(count)):
            pass
    finally:
        done.set()
        watching.join()
    return (most - stack.nbytes) / 1e9


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", choices=tuple(FILTERS), default="base")
    parser.add_argument("--slices", type=int, default=SLICES)
    parser.add_argument("--side", type=int, default=SIDE, help="a multiple of 8")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="600 slices, memory only")
    parser.add_argument("--measure", choices=WAYS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        gigabytes = measure(asked.measure, asked.network, asked.slices, asked.side)
        sys.stdout.write(f"{gigabytes}\n")
        return
    if asked.memory:
        most = peak_memory("exact", asked.network, 600, asked.side)
        sys.stdout.write(f"600 x {asked.side} x {asked.side}, exact: {most:.2f} GB\n")
        return

    model, stack = untrained(asked.network), noise(asked.slices + 20, asked.side)
    # In the middle, where every neighbour exists.
    indices = range(5, 5 + asked.slices)
    predict = {way: by_keras(model) if way == "keras" else by_us(model, way) for way in WAYS}
    made = {way: np.stack(list(predict[way](stack, indices))) for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(asked.repeats):
        for way in WAYS:
            start = time.perf_counter()
            for _ in predict[way](stack, indices):
                pass
            seconds[way].append(time.perf_counter() - start)
    median = {way: statistics.median(times) for way, times in seconds.items()}
    pixels = asked.slices * asked.side**2
    sys.stdout.write(
        "| way | s | Mpx/s | ratio | largest difference | peak memory, GB |\n"
        "|---|---|---|---|---|---|\n"
    )
    for way in WAYS:
        difference = np.abs(made[way] - made["keras"]).max()
        most = peak_memory(way, asked.network, asked.slices, asked.side)
        sys.stdout.write(
            f"| {way} | {median[way]:.2f} | {pixels / median[way] / 1e6:.2f} "
            f"| {median['keras'] / median[way]:.2f} | {difference:.1e} | {most:.2f} |\n"
        )


if __name__ == "__main__":
    main()
