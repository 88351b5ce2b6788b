"""A model applied to a stack: the likeliest class of each voxel, and its probability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from fiji_poreseg.model import Model
from fiji_poreseg.progress import track
from fiji_poreseg.stack import SOLID, make_labels


@dataclass(frozen=True)
class Segmentation:
    """What `segment` answers with.

    Parameters
    ----------
    segmentation
        uint8, dims ``("z", "y", "x")``: 1 pore, 2 solid, …; 0 where there is no data and in
        slices that were not asked for.
    probability
        float32: P(solid), dims ``("z", "y", "x")``; for more than two classes dims
        ``("class", "z", "y", "x")``. NaN where the segmentation is 0.
    """

    segmentation: xr.DataArray
    probability: xr.DataArray


def apply(model: Model, stack: xr.DataArray, indices: Sequence[int]) -> Segmentation:
    """Segment some slices of a stack.

    Parameters
    ----------
    model
        A trained forest or ResUNet.
    stack
        A checked stack.
    indices
        0-based slices.
    """
    classes = model.card.classes
    several = len(classes) > 2
    shape = tuple(stack.sizes[axis] for axis in ("z", "y", "x"))
    kept = np.full((len(classes), *shape) if several else shape, np.nan, np.float32)
    found = np.zeros(shape, np.uint8)
    predicted = track(model.predict(stack, indices), "Segmenting", len(indices))
    for index, probabilities in predicted:
        likeliest = probabilities.argmax(axis=0) + 1
        found[index] = np.where(np.isnan(probabilities[0]), 0, likeliest)
        kept[..., index, :, :] = probabilities if several else probabilities[SOLID - 1]
    segmentation = make_labels(found, stack, name=f"{stack.name}-segmentation", classes=classes)
    calibration = {key: value for key, value in segmentation.attrs.items() if key != "classes"}
    probability = xr.DataArray(
        kept,
        dims=("class", *segmentation.dims) if several else segmentation.dims,
        coords={**segmentation.coords, **({"class": list(classes)} if several else {})},
        name=f"{stack.name}-probability",
        attrs={**calibration, "display_range": (0.0, 1.0)},
    )
    return Segmentation(segmentation, probability)
