"""Prediction with a trained ResUNet: whole slices, the large ones in tiles that overlap."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from itertools import pairwise, product
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg.blocks import tiles, trusted
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
# How far what a pixel is predicted from reaches, in pixels of the network's coarsest level: its
# convolutions of 3 x 3 add up to less. So far inside its borders a tile is as the whole slice.
_REACH = 5
# Where memory is short, tiles are halved as long as they are so many reaches wide.
_SMALLEST_TILE = 6

Planes = npt.NDArray[np.float32]


class _Sight:
    """What a network sees of the slices of a stack.

    Parameters
    ----------
    trained
        The model.
    stack
        A checked stack.
    multiple
        Of which number of voxels both sides of what is seen are.
    """

    def __init__(self, trained: ResUNetModel, stack: xr.DataArray, multiple: int) -> None:
        card, context = trained.card, trained.context_on(stack)
        self._offsets_nm = context.offsets_nm
        self._offsets = voxel_offsets(context.offsets_nm, stack, card.milling)
        self._channels = context.channel_count(card.detectors)
        self._shape = int(stack.sizes["y"]), int(stack.sizes["x"])
        self.padded = tuple(side + -side % multiple for side in self._shape)
        self.batch = max(1, BATCH_PIXELS // math.prod(self.padded))
        seen = sorted({0, *self._offsets})
        # Of those that a slice does not look at, some have been seen longer ago than some that
        # no slice will look at again.
        skipped = max((after - before for before, after in pairwise(seen)), default=0)
        remembered = self.batch + seen[-1] - seen[0] + skipped
        self._reader = SliceReader(stack, card.normalisation, remembered)
        self._planes: Planes = np.zeros((0, 0, 0, 0), np.float32)

    def look(self, indices: Sequence[int], place: Sequence[slice]) -> Planes:
        """What is seen of a batch of slices at a place, (batch, channels, y, x).

        It lies in memory that is used again: new memory for each would take a tenth of the time.
        A batch that is not full goes with what was left in it: other shapes must be compiled.
        """
        shape = (self.batch, self._channels, *(cut.stop - cut.start for cut in place))
        if self._planes.shape != shape:
            self._planes = np.zeros(shape, np.float32)
        rows, columns = (
            min(cut.stop, side) - cut.start for cut, side in zip(place, self._shape, strict=True)
        )
        for planes, index in zip(self._planes, indices, strict=False):
            inside = planes[:, :rows, :columns]
            fill(inside, self._reader, index, self._offsets, self._offsets_nm, place)
            _reflect(planes, rows, columns)
        return self._planes

    def cut(self, planes: Planes, index: int) -> Planes:
        """Take out of what was predicted what lies beyond the slice; NaN where it has no data."""
        rows, columns = self._shape
        inside = planes[:, :rows, :columns]
        inside[:, ~self._reader[index].valid] = np.nan
        return inside


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
        self._reach = _REACH * self._multiple
        # Two: a slice that is not square has another shape after a quarter turn.
        self._compiled = lru_cache(maxsize=2)(partial(compiled, _network(trained)))

    def predict(
        self, stack: xr.DataArray, indices: Sequence[int], *, precision: str, augment: bool
    ) -> Iterator[tuple[int, Planes]]:
        """Yield (index, probabilities) slice by slice: see `ResUNetModel.predict`."""
        sight = _Sight(self._trained, stack, self._multiple)
        run = partial(self._augmented if augment else self._run, precision=precision)
        for first in range(0, len(indices), sight.batch):
            together = indices[first : first + sight.batch]
            made = self._as_memory_allows(sight, together, run)
            for index, planes in zip(together, made, strict=True):
                yield index, sight.cut(planes, index)

    def _as_memory_allows(
        self, sight: _Sight, indices: Sequence[int], run: Callable[[Planes], Planes]
    ) -> list[Planes]:
        """Predict slices in as few tiles as memory allows."""
        while True:
            try:
                return self._in_tiles(sight, indices, run)
            except MemoryError:
                side = min(self._tile, max(sight.padded)) // 2
                smaller = side - side % self._multiple
                if smaller < _SMALLEST_TILE * self._reach:
                    raise
                self._tile = smaller
                self._compiled.cache_clear()
                warnings.warn(
                    f"memory is short: slices are predicted in tiles of {smaller} x {smaller} "
                    "voxels, which takes longer",
                    PoreSegWarning,
                    stacklevel=2,
                )

    def _in_tiles(
        self, sight: _Sight, indices: Sequence[int], run: Callable[[Planes], Planes]
    ) -> list[Planes]:
        """Predict slices in tiles of one size, and put together what of them is exact."""
        shape = sight.padded
        made: list[Planes] = [
            np.empty((len(self._card.classes), *shape), np.float32) for _ in indices
        ]
        for place in tiles(shape, self._tile, 2 * self._reach, self._multiple):
            inside, of_tile = trusted(place, shape, self._reach)
            predicted = run(sight.look(indices, place))
            for whole, part in zip(made, predicted, strict=False):
                whole[:, *inside] = part[:, *of_tile]
        return made

    def _augmented(self, inputs: Planes, precision: str) -> Planes:
        """The mean of what is predicted for all flips and quarter turns."""
        shape = (len(inputs), len(self._card.classes), *inputs.shape[2:])
        total: Planes = np.zeros(shape, np.float32)
        for turns, flip in product(range(4), (1, -1)):
            turned = np.rot90(inputs, turns, (2, 3))[..., ::flip]
            total += np.rot90(self._run(turned, precision)[..., ::flip], -turns, (2, 3))
        total /= 8
        return total

    def _run(self, inputs: Planes, precision: str) -> Planes:
        with memory_as_error():
            return self._compiled(inputs.shape, precision)(np.ascontiguousarray(inputs))


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
