"""What the models learn from: the forest from the labels, the ResUNet from what others find."""

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

# How much the probabilities of the ResUNet count that is started from, where the forest's count 1.
_WEIGHT_OF_START = 2
# What the models agree about with this probability in the mean must hold two classes.
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
    """A ResUNet that learns what the forest and the one that it starts from find together.

    None where what they agree about and are sure of is one class only.
    """
    chosen = evenly(unlabelled, settings.count)
    lessons: dict[int, npt.NDArray[np.uint8]] = {}
    sure_of: set[int] = set()
    for index, lesson, sure in _lessons(stack, grown, settings.start, chosen):
        lessons[index] = lesson
        sure_of |= set(np.unique(lesson[sure]).tolist()) - {0}
    if len(sure_of) < 2:
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
    stack: xr.DataArray, grown: ForestModel, start: ResUNetModel | None, chosen: Sequence[int]
) -> Iterator[tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.bool_]]]:
    """Yield slices, their labels, 0 where none is taught, and where the models agree and are sure.

    Taught is what is likeliest by both together, also where they are not sure: a ResUNet that
    learns from the easy pixels alone is surer of the others than it is right, and worse than the
    one that it started from.
    """
    suspects = Suspects(stack, grown.card.normalisation, grown.card.milling)
    teachers: list[Model] = [grown] if start is None else [grown, start]
    answers = zip(*(teacher.predict(stack, chosen) for teacher in teachers), strict=True)
    for of_slice in track(answers, "Finding what to teach", len(chosen)):
        index, each = of_slice[0][0], [planes for _, planes in of_slice]
        mean = np.average(each, axis=0, weights=[1, _WEIGHT_OF_START][: len(each)])
        found = likeliest(mean)
        agreed = np.logical_and.reduce([likeliest(planes) == found for planes in each])
        taught = np.where(suspects(index, found), 0, found).astype(np.uint8)
        yield index, taught, agreed & (mean.max(axis=0) >= _LEAST_PROBABILITY)
