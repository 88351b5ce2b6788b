"""What the models learn from: the forest from the labels, the ResUNet from what is agreed about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg import forest
from fiji_poreseg import model as models
from fiji_poreseg.automatic.settings import Settings
from fiji_poreseg.forest import ForestModel
from fiji_poreseg.model import Model, likeliest
from fiji_poreseg.pore_backs import Suspects
from fiji_poreseg.progress import track
from fiji_poreseg.resunet import ResUNetModel
from fiji_poreseg.slices import evenly
from fiji_poreseg.stack import labels_of_slices

# What the models agree about, and with less than this probability in the mean, is not taught.
_LEAST_PROBABILITY = 0.7


def grow_forest(
    stack: xr.DataArray,
    labels: xr.DataArray,
    indices: Sequence[int],
    settings: Settings,
    file: Path,
) -> ForestModel:
    """The forest that learns from the labels; the one in `file` where there is one."""
    if file.exists():
        kept = models.load(file)
        assert isinstance(kept, ForestModel)
        return kept
    grown = forest.train(
        stack,
        labels,
        indices,
        classes=labels.attrs["classes"],
        trees=settings.trees,
        milling=settings.milling,
        seed=settings.seed,
    )
    grown.save(file)
    return grown


def train_resunet(
    stack: xr.DataArray,
    labels: xr.DataArray,
    unlabelled: Sequence[int],
    settings: Settings,
    grown: ForestModel,
    file: Path,
) -> ResUNetModel | None:
    """A ResUNet that learns what the forest and the one that it starts from agree about.

    None where that is one class only.
    """
    chosen = evenly(unlabelled, settings.count)
    teachers: list[Model] = [grown]
    if settings.start is not None:
        teachers.append(settings.start)
    lessons = dict(_lessons(stack, teachers, chosen))
    if len(frozenset[int]().union(*map(np.unique, lessons.values())) - {0}) < 2:
        return None
    # TensorFlow is loaded by what trains with it.
    from fiji_poreseg.resunet.training import train

    return train(
        stack,
        labels_of_slices(lessons, stack, classes=labels.attrs["classes"]),
        chosen,
        classes=labels.attrs["classes"],
        network=settings.network,
        start=settings.start,
        steps=settings.steps,
        class_weights="none",
        milling=settings.milling,
        seed=settings.seed,
        file=file,
        resume=True,
    )


def _lessons(
    stack: xr.DataArray, teachers: Sequence[Model], chosen: Sequence[int]
) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    """Yield slices with the labels that all teachers are sure of, 0 elsewhere."""
    card = teachers[0].card
    suspects = Suspects(stack, card.normalisation, card.milling)
    answers = zip(*(teacher.predict(stack, chosen) for teacher in teachers), strict=True)
    for of_slice in track(answers, "Finding what the models agree about", len(chosen)):
        index = of_slice[0][0]
        mean = np.mean([planes for _, planes in of_slice], axis=0)
        taught = likeliest(mean)
        agreed = [likeliest(planes) == taught for _, planes in of_slice]
        sure = np.logical_and.reduce([*agreed, mean.max(axis=0) >= _LEAST_PROBABILITY])
        yield index, np.where(sure & ~suspects(index, taught), taught, 0).astype(np.uint8)
