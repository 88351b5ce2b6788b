"""How fast the ResUNet trains and predicts, beside plain Keras, and what memory it takes.

    python benchmarks/resunet.py speed        prediction, 1024 x 1024, 4 minutes
    python benchmarks/resunet.py training     patches per second, 4 minutes
    python benchmarks/resunet.py memory       600 x 1024 x 1024, memory only, several minutes

`speed`: beside a loop of `keras.Model.predict` over the same slices, of untrained weights, which
change no time. Every way gets the same stack, normalises it and makes the network's input of it,
and is run once before. `training`: the same network by `keras.Model.fit` on arrays in memory, and
by ours, which draws and augments each patch. The ways take turns, and the median counts. Memory is
what the process took at most, in a process of its own for each way.
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
from fiji_poreseg.resunet import FILTERS, ResUNetModel, fitting
from fiji_poreseg.resunet.context import Context, channels, existing, with_reach
from fiji_poreseg.resunet.fitting import Plan
from fiji_poreseg.resunet.loss import pixel_weights
from fiji_poreseg.resunet.network import build, to_arrays
from fiji_poreseg.resunet.sampling import Patches, Views
from fiji_poreseg.resunet.training import BATCH, LEARNING_RATE, PATCH, STEPS_PER_CHECK
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
    command = [sys.executable, __file__, "measure", "--way", way, "--network", network]
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


def training(network: str, repeats: int) -> list[str]:
    """Patches per second, from arrays in memory and drawn and augmented."""
    made = fp.phantom(slices=60, size=256, seed=0)
    indices = fp.select_slices(made.stack, strategy="distributed", count=5)
    context = Context.for_spacing(10)
    views = Views(SliceReader(made.stack), made.truth, indices, context, "forward")
    patches = Patches([(views, indices)], PATCH, BATCH, STEPS_PER_CHECK, 0)
    batches = [patches[number] for number in range(len(patches))]
    inputs, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    fitting.make_reproducible(0)
    trained = build(context.channel_count(1), 2, FILTERS[network])
    plan = Plan(10_000, LEARNING_RATE, STEPS_PER_CHECK, patience=10_000)
    fitting.compile_for_training(trained, plan, pixel_weights(np.ones(2, np.int64), "none", 1))
    ways: dict[str, Callable[[], object]] = {
        "keras.Model.fit, arrays in memory": lambda: trained.fit(
            inputs, labels, batch_size=BATCH, verbose=0
        ),
        "ours, drawn and augmented": lambda: trained.fit(patches, verbose=0, shuffle=False),
    }
    for way in ways.values():
        way()
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            rates[name].append(len(inputs) / (time.perf_counter() - start))
    median = {name: statistics.median(found) for name, found in rates.items()}
    base = median[next(iter(ways))]
    return [
        f"{len(inputs)} patches of {PATCH} x {PATCH} x {inputs.shape[-1]}, network {network}",
        "",
        "| way | patches/s | ratio |",
        "|---|---|---|",
        *(f"| {name} | {rate:.1f} | {rate / base:.2f} |" for name, rate in median.items()),
    ]


def speed(network: str, slices: int, side: int, repeats: int) -> list[str]:
    """Prediction by Keras and by us."""
    model, stack = untrained(network), noise(slices + 20, side)
    # In the middle, where every neighbour exists.
    indices = range(5, 5 + slices)
    predict = {way: by_keras(model) if way == "keras" else by_us(model, way) for way in WAYS}
    made = {way: np.stack(list(predict[way](stack, indices))) for way in WAYS}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            start = time.perf_counter()
            for _ in predict[way](stack, indices):
                pass
            seconds[way].append(time.perf_counter() - start)
    median = {way: statistics.median(times) for way, times in seconds.items()}
    pixels = slices * side**2
    lines = [
        f"{slices} slices of {side} x {side}, network {network}",
        "",
        "| way | s | Mpx/s | ratio | largest difference | peak memory, GB |",
        "|---|---|---|---|---|---|",
    ]
    for way in WAYS:
        difference = np.abs(made[way] - made["keras"]).max()
        most = peak_memory(way, network, slices, side)
        lines.append(
            f"| {way} | {median[way]:.2f} | {pixels / median[way] / 1e6:.2f} "
            f"| {median['keras'] / median[way]:.2f} | {difference:.1e} | {most:.2f} |"
        )
    return lines


def main() -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "training", "memory", "measure"))
    parser.add_argument("--network", choices=tuple(FILTERS), default="base")
    parser.add_argument("--slices", type=int, default=SLICES)
    parser.add_argument("--side", type=int, default=SIDE, help="a multiple of 8")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--way", choices=WAYS, default="exact", help="what to measure")
    asked = parser.parse_args()
    if asked.what == "measure":
        lines = [str(measure(asked.way, asked.network, asked.slices, asked.side))]
    elif asked.what == "memory":
        most = peak_memory("exact", asked.network, 600, asked.side)
        lines = [f"600 x {asked.side} x {asked.side}, exact: {most:.2f} GB"]
    elif asked.what == "training":
        lines = training(asked.network, asked.repeats)
    else:
        lines = speed(asked.network, asked.slices, asked.side, asked.repeats)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
