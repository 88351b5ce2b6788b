"""A model applied to a stack: the likeliest class of each voxel, and its probability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg.lazy import LARGE_BYTES, lazy_planes
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

    An image of more than 1 GB of which only some slices were asked for is lazy (dask).
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
    found = _Slices(shape, np.uint8, 0, len(indices))
    # Slices first, also in memory: that is how they come, and how they are written.
    layout = (shape[0], len(classes), *shape[1:]) if several else shape
    kept = _Slices(layout, np.float32, np.nan, len(indices))
    predicted = track(model.predict(stack, indices), "Segmenting", len(indices))
    for index, probabilities in predicted:
        likeliest = probabilities.argmax(axis=0) + 1
        found.made[index] = np.where(np.isnan(probabilities[0]), 0, likeliest).astype(np.uint8)
        # A copy: the view would keep the probability of the pore as well.
        kept.made[index] = probabilities if several else probabilities[SOLID - 1].copy()
    segmentation = make_labels(
        found.whole(), stack, name=f"{stack.name}-segmentation", classes=classes
    )
    calibration = {key: value for key, value in segmentation.attrs.items() if key != "classes"}
    values = kept.whole()
    probability = xr.DataArray(
        values.swapaxes(0, 1) if several else values,
        dims=("class", *segmentation.dims) if several else segmentation.dims,
        coords={**segmentation.coords, **({"class": list(classes)} if several else {})},
        name=f"{stack.name}-probability",
        attrs={**calibration, "display_range": (0.0, 1.0)},
    )
    return Segmentation(segmentation, probability)


class _Slices:
    """An image of which slices are made; `made` takes them by their index.

    Parameters
    ----------
    shape
        Shape of the whole, slices first.
    dtype, fill
        Data type, and the value of the slices that are not made.
    count
        How many will be made.
    """

    made: Any

    def __init__(
        self, shape: tuple[int, ...], dtype: npt.DTypeLike, fill: float, count: int
    ) -> None:
        self._shape, self._dtype, self._fill = shape, np.dtype(dtype), fill
        self._sparse = count < shape[0] and math.prod(shape) * self._dtype.itemsize > LARGE_BYTES
        self.made = {} if self._sparse else np.full(shape, fill, dtype)

    def whole(self) -> Any:
        """The image, lazy if it is large and not all of it was made."""
        return lazy_planes(self._plane, self._shape, self._dtype) if self._sparse else self.made

    def _plane(self, index: int, *channel: int) -> npt.NDArray[Any]:
        if index in self.made:
            plane: npt.NDArray[Any] = self.made[index][channel]
            return plane
        return np.full(self._shape[-2:], self._fill, self._dtype)
