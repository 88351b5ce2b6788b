"""Prediction with a trained ResUNet: whole slices, the large ones in tiles that are blended."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg.blocks import blend_weights, tiles
from fiji_poreseg.errors import PoreSegWarning
from fiji_poreseg.resunet.backend import keras, memory_as_error
from fiji_poreseg.resunet.context import fill
from fiji_poreseg.resunet.network import build, set_arrays
from fiji_poreseg.resunet.runtime import compiled
from fiji_poreseg.slices import SliceReader, voxel_offsets

if TYPE_CHECKING:
    from fiji_poreseg.resunet import ResUNetModel

# What is predicted at once: a tile takes up to 1 GB while the network runs, and slices of fewer
# pixels than a batch go together, because each run costs as much as some thousand pixels.
LARGEST_TILE = 1152
BATCH_PIXELS = 256 * 256
# Both ways from a border between tiles, in pixels of the network's coarsest level: what a pixel
# is predicted from reaches 6 of them far, and what lies outside of a tile is missing so far in.
_OVERLAP = 12
# Where memory is short, tiles are halved as long as they are so many overlaps wide.
_SMALLEST_TILE = 3

Planes = npt.NDArray[np.float32]


class Predictor:
    """A trained ResUNet made ready: it remembers what was compiled for the last shapes.

    Parameters
    ----------
    trained
        The model.

    Raises
    ------
    ParameterError
        If the model's weights are not those of its network.
    """

    def __init__(self, trained: ResUNetModel) -> None:
        self._trained, self._card = trained, trained.card
        self._tile = LARGEST_TILE
        # What the network can halve as often as it does.
        self._multiple = 2 ** (len(trained.filters) - 1)
        # Two: a slice that is not square has another shape after a quarter turn.
        self._compiled = lru_cache(maxsize=2)(partial(compiled, _network(trained)))

    def predict(
        self, stack: xr.DataArray, indices: Sequence[int], *, precision: str, augment: bool
    ) -> Iterator[tuple[int, Planes]]:
        """Yield (index, probabilities) slice by slice: see `ResUNetModel.predict`."""
        context = self._trained.context_on(stack)
        offsets = voxel_offsets(context.offsets_nm, stack, self._card.milling)
        rows, columns = (stack.sizes[axis] for axis in ("y", "x"))
        padded = [side + -side % self._multiple for side in (rows, columns)]
        batch = max(1, BATCH_PIXELS // math.prod(padded))
        # Twice the reach: a neighbour that not every slice looks at is not forgotten in between.
        remember = batch + 2 * (max((0, *offsets)) - min((0, *offsets)))
        reader = SliceReader(stack, self._card.normalisation, remember)
        channels = context.channel_count(self._card.detectors)
        inputs = np.zeros((batch, channels, *padded), np.float32)
        predicted = self._augmented if augment else self._in_tiles
        for first in range(0, len(indices), batch):
            together = indices[first : first + batch]
            for planes, index in zip(inputs, together, strict=False):
                inside = planes[:, :rows, :columns]
                fill(inside, reader, index, offsets, context.offsets_nm)
                _reflect(planes, rows, columns)
            # A batch that is not full goes with what was left in it: other shapes must be compiled.
            made = predicted(inputs, precision)
            for index, probabilities in zip(together, made, strict=False):
                # A copy: what is kept of one slice must not keep the batch.
                kept = probabilities[:, :rows, :columns].copy()
                kept[:, ~reader[index].valid] = np.nan
                yield index, kept

    def _augmented(self, inputs: Planes, precision: str) -> Planes:
        """The mean of what is predicted for all flips and quarter turns."""
        total = np.zeros(self._made(inputs), np.float32)
        for turns, flip in product(range(4), (1, -1)):
            turned = np.rot90(inputs, turns, (2, 3))[..., ::flip]
            total += np.rot90(self._in_tiles(turned, precision)[..., ::flip], -turns, (2, 3))
        return total / np.float32(8)

    def _in_tiles(self, inputs: Planes, precision: str) -> Planes:
        """Predict padded slices, (batch, channels, y, x), in as few tiles as memory allows."""
        overlap = _OVERLAP * self._multiple
        while True:
            try:
                return self._blended(inputs, precision, overlap)
            except MemoryError:
                side = min(self._tile, max(inputs.shape[2:])) // 2
                smaller = side - side % self._multiple
                if smaller < _SMALLEST_TILE * overlap:
                    raise
                self._tile = smaller
                self._compiled.cache_clear()
                warnings.warn(
                    f"memory is short: slices are predicted in tiles of {smaller} x {smaller} "
                    "voxels, which takes longer and may differ a little",
                    PoreSegWarning,
                    stacklevel=2,
                )

    def _blended(self, inputs: Planes, precision: str, overlap: int) -> Planes:
        """Predict padded slices in tiles of one size, blended back."""
        shape = inputs.shape[2:]
        places = list(tiles(shape, self._tile, overlap, self._multiple))
        if len(places) == 1:
            return self._run(inputs, precision)
        total, weight = np.zeros(self._made(inputs), np.float32), np.zeros(shape, np.float32)
        # All tiles are of one size. Memory that is new for each would take a tenth of the time.
        rows, columns = places[0]
        tile = np.empty_like(inputs[..., rows, columns], order="C")
        counts = blend_weights(tile.shape[2:], overlap)
        for place in places:
            of_all: Any = (..., *place)
            np.copyto(tile, inputs[of_all])
            total[of_all] += self._run(tile, precision) * counts
            weight[place] += counts
        total /= weight
        return total

    def _run(self, inputs: Planes, precision: str) -> Planes:
        with memory_as_error():
            return self._compiled(inputs.shape, precision)(np.ascontiguousarray(inputs))

    def _made(self, inputs: Planes) -> tuple[int, ...]:
        """The shape of what is predicted."""
        return (len(inputs), len(self._card.classes), *inputs.shape[2:])


def _network(trained: ResUNetModel) -> keras.Model:
    channels = trained.context.channel_count(trained.card.detectors)
    network = build(channels, len(trained.card.classes), trained.filters)
    set_arrays(network, trained.weights, "model")
    return network


def _reflect(planes: Planes, rows: int, columns: int) -> None:
    """Fill what lies below and to the right of a slice, shape (channels, y, x), by reflection."""
    below, right = (
        np.pad(np.arange(inside), (0, whole - inside), mode="symmetric")[inside:]
        for inside, whole in zip((rows, columns), planes.shape[1:], strict=True)
    )
    planes[:, rows:, :columns] = planes[:, below, :columns]
    planes[:, :, columns:] = planes[:, :, right]
