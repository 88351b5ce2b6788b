"""Prediction with a trained ResUNet: whole slices, in overlapping tiles that are blended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg.blocks import blend_weights, tiles
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.resunet.backend import tf
from fiji_poreseg.resunet.context import channels, existing, with_reach
from fiji_poreseg.resunet.network import build
from fiji_poreseg.slices import SliceReader, voxel_offsets

if TYPE_CHECKING:
    from fiji_poreseg.resunet import ResUNetModel

TILE = 512
OVERLAP = 64

Predict = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


def predict(
    trained: ResUNetModel, stack: xr.DataArray, indices: Sequence[int]
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Yield (index, probabilities), float32, shape (classes, y, x), slice by slice."""
    reader = SliceReader(stack, trained.card.normalisation)
    offsets = voxel_offsets(trained.context.offsets_nm, stack, trained.card.milling)
    apply = _compiled(trained)
    multiple = 2 ** (len(trained.filters) - 1)
    for index in indices:
        view = channels(reader, index, offsets)
        exists = existing(index, offsets, len(reader))
        whole = with_reach(view, exists, trained.context.offsets_nm)
        probabilities = _in_tiles(apply, whole, len(trained.card.classes), multiple)
        probabilities[:, ~reader[index].valid] = np.nan
        yield index, probabilities


def _compiled(trained: ResUNetModel) -> Predict:
    """The network as a function from one padded tile to its probabilities."""
    channel_count = trained.context.channel_count(trained.card.detectors)
    network = build(channel_count, len(trained.card.classes), trained.filters)
    try:
        network.set_weights(list(trained.weights.values()))
    except ValueError as error:
        raise ParameterError(
            "model",
            "must hold the weights of the network that it describes",
            f"a model with others ({str(error).splitlines()[0][:80]})",
            "The file is damaged; train it again or copy it again.",
        ) from error

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def probabilities(batch: Any) -> Any:
        return tf.nn.softmax(network(batch, training=False))

    return lambda tile: np.asarray(probabilities(tf.constant(tile[np.newaxis]))[0])


def _in_tiles(
    apply: Predict, whole: npt.NDArray[np.float32], classes: int, multiple: int
) -> npt.NDArray[np.float32]:
    """Predict a slice, shape (y, x, channels), tile by tile; (classes, y, x)."""
    shape = whole.shape[:2]
    total = np.zeros((*shape, classes), np.float32)
    weight = np.zeros((*shape, 1), np.float32)
    for tile in tiles(shape, TILE, OVERLAP):
        predicted = _padded(apply, whole[tile], multiple)
        counts = blend_weights(predicted.shape[:2], OVERLAP)[..., np.newaxis]
        total[tile] += predicted * counts
        weight[tile] += counts
    return np.ascontiguousarray(np.moveaxis(total / weight, -1, 0))


def _padded(
    apply: Predict, tile: npt.NDArray[np.float32], multiple: int
) -> npt.NDArray[np.float32]:
    """Predict a tile of any size: the network wants multiples, so it is padded by reflection."""
    rows, columns = tile.shape[:2]
    lacking = [(0, -rows % multiple), (0, -columns % multiple), (0, 0)]
    return apply(np.pad(tile, lacking, mode="symmetric"))[:rows, :columns]
