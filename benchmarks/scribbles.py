"""Labels as a person draws them: lines inside pore and solid, on a few slices."""

from __future__ import annotations

import numpy as np
import xarray as xr

import fiji_poreseg as fp

SCRIBBLED_SLICES, SCRIBBLED_SHARE = 5, 0.005


def scribbles(made: fp.Phantom, seed: int = 0) -> xr.DataArray:
    """Lines drawn at random inside pore and solid, as much of each, on distributed slices."""
    rng = np.random.default_rng(seed)
    trained_on = fp.select_slices(made.stack, strategy="distributed", count=SCRIBBLED_SLICES)
    truth = made.truth.to_numpy()
    values = np.zeros(truth.shape, np.uint8)
    for z in trained_on:
        for label in (1, 2):
            wanted = SCRIBBLED_SHARE * truth[z].size / 2
            while np.count_nonzero(values[z] == label) < wanted:
                draw_line(values[z], truth[z], label, rng)
    return fp.make_labels(values, made.stack)


def draw_line(
    drawn: np.ndarray, truth: np.ndarray, label: int, rng: np.random.Generator, length: int = 25
) -> None:
    """Draw a line that bends, from a random pixel of a class to where the class ends."""
    place = np.array(rng.choice(np.argwhere(truth == label)), float)
    angle = rng.uniform(0, 2 * np.pi)
    for _ in range(length):
        row, column = map(int, place)
        inside = 0 <= place[0] < truth.shape[0] and 0 <= place[1] < truth.shape[1]
        if not inside or truth[row, column] != label:
            return
        drawn[row, column] = label
        angle += rng.normal(0, 0.3)
        place += np.sin(angle), np.cos(angle)
