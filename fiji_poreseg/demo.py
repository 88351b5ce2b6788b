"""The demonstration: a phantom, the user's own example macro on it, scores and a figure.

A phantom has a truth, so the microscopist's hand can be played: a few dots of labels for the
forest, and a correction of those slices that the network learns from. No other slice's truth is
used before the scores.
"""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from skimage.draw import disk

from fiji_poreseg import bridge, figures
from fiji_poreseg.commands import catalog
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files import read, write, write_csv
from fiji_poreseg.selection import select
from fiji_poreseg.stack import PORE, SOLID, make_labels, spacing_nm

FEWEST_SLICES = 20
_LABELLED_SLICES, _DOTS, _DOT_RADIUS = 5, 60, 3
_CORRECTED_SLICES = 10
_METHODS = {"forest": "Random forest", "resunet": "ResUNet"}
_SHOWN = ("accuracy", "loss", "majority_accuracy", "dice_solid", "iou_solid")


def run(folder: Path, slices: int, size: int, *, steps: int, seed: int) -> list[dict[str, Any]]:
    """Run the main job on a phantom.

    Parameters
    ----------
    folder
        Where everything goes: ``stack.tif``, ``truth.tif``, ``labels.tif``,
        ``corrections.tif``, both models, segmentations and probabilities, ``scores.csv`` and
        ``figure.png``.
    slices, size
        Shape of the phantom: `slices` of `size` x `size` voxels.
    steps
        Training steps of the ResUNet.
    seed
        Seed of everything random.

    Returns
    -------
    list of dict
        A row for each method and slice scored, as in ``scores.csv``.

    Raises
    ------
    ParameterError
        If a value is impossible or the folder cannot be written.
    """
    if slices < FEWEST_SLICES:
        raise ParameterError(
            "slices",
            f"must be at least {FEWEST_SLICES}, so that some are left to be scored",
            slices,
            "Leave it out for 120.",
        )
    # The macro would find out only after the forest.
    catalog.train_resunet.parameters["steps"].coerce(steps)
    made = catalog.phantom(folder, slices=slices, size=size, seed=seed)
    rng = np.random.default_rng(seed)
    write(folder / "labels.tif", _dots(made.truth, rng))
    write(folder / "corrections.tif", _by_hand(made.truth))
    with example_macro("segment_pores.ijm") as macro:
        bridge.run_macro_file(macro, f"{folder.resolve()}|{_CORRECTED_SLICES}|{steps}|{seed}")
    scores = _collect(folder)
    write_csv(folder / "scores.csv", scores)
    _draw(folder, made.stack, made.truth, scores)
    return scores


def example_macro(name: str) -> Any:
    """One of the example macros that the package carries, as a context manager of its path."""
    packed = files("fiji_poreseg") / "macros" / name
    if packed.is_file():
        return as_file(packed)
    # In a source tree the macros stand beside the package.
    return as_file(files("fiji_poreseg") / ".." / "macros" / name)


def _dots(truth: xr.DataArray, rng: np.random.Generator) -> xr.DataArray:
    """Labels as a hurried hand sets them: dots of either class on a few slices."""
    labels = np.zeros(truth.shape, np.uint8)
    for index in select(truth, "distributed", _LABELLED_SLICES):
        plane = truth.isel(z=index).to_numpy()
        for label in (PORE, SOLID):
            for centre in _some(np.argwhere(plane == label), rng):
                dot = disk(centre, _DOT_RADIUS, shape=plane.shape)
                labels[index][dot] = np.where(plane[dot] == label, label, labels[index][dot])
    return make_labels(labels, truth, name="labels")


def _some(points: npt.NDArray[np.intp], rng: np.random.Generator) -> npt.NDArray[np.intp]:
    return points[rng.choice(len(points), min(_DOTS, len(points)), replace=False)]


def _by_hand(truth: xr.DataArray) -> xr.DataArray:
    """Corrections of every pixel of the slices that the network learns from."""
    corrections = np.zeros(truth.shape, np.uint8)
    for index in select(truth, "distributed", _CORRECTED_SLICES):
        corrections[index] = truth.isel(z=index)
    return make_labels(corrections, truth, name="corrections")


def _collect(folder: Path) -> list[dict[str, Any]]:
    """The scores that the macro wrote, a row for each method and slice."""
    reports = {
        name: json.loads((folder / f"{file}-scores.json").read_text())
        for file, name in _METHODS.items()
    }
    by_method = {"Best global threshold": next(iter(reports.values()))["best_threshold"]} | reports
    return [
        {"index": score["index"], "method": name, **{key: score[key] for key in _SHOWN}}
        for position in range(len(next(iter(reports.values()))["slices"]))
        for name, report in by_method.items()
        for score in [report["slices"][position]]
    ]


def _draw(
    folder: Path, stack: xr.DataArray, truth: xr.DataArray, scores: list[dict[str, Any]]
) -> None:
    """One slice, in the middle of those scored."""
    index = sorted({row["index"] for row in scores})[1]
    found = {}
    for file, name in _METHODS.items():
        (row,) = (row for row in scores if row["method"] == name and row["index"] == index)
        segmentation = read(folder / f"{file}-segmentation.tif").isel(z=index).to_numpy()
        found[name] = (
            segmentation,
            f"accuracy {row['accuracy']:.3f}, Dice of solid {row['dice_solid']:.3f}",
        )
    figures.compare(
        folder / "figure.png",
        stack.isel(z=index).to_numpy(),
        truth.isel(z=index).to_numpy(),
        found,
        pixel_nm=spacing_nm(stack)[2],
        title=f"Phantom of a membrane with pore-backs, slice {index} of {len(stack)}",
    )
