"""The network: pre-activation residual units in the shape of a U."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.model import Arrays
from fiji_poreseg.resunet.backend import keras

layers = keras.layers


def build(channels: int, classes: int, filters: Sequence[int]) -> keras.Model:
    """Make an untrained ResUNet.

    Every unit is batch normalisation, ReLU and convolution, twice, added to a shortcut; the
    encoder halves the size by strides, the decoder doubles it by nearest neighbours and joins
    the encoder's output of that size (Zhang et al. 2018, arXiv 1711.10684, figure 2).

    Parameters
    ----------
    channels
        Input channels.
    classes
        Output classes.
    filters
        Filters per level, finest first; the last level is the bridge of the U.

    Returns
    -------
    keras.Model
        From float32 (batch, y, x, channels) to logits (batch, y, x, classes); y and x are
        multiples of ``2 ** (len(filters) - 1)``.
    """
    inputs = keras.Input((None, None, channels))
    x = layers.Conv2D(filters[0], 3, padding="same", use_bias=False)(inputs)
    x = layers.Conv2D(filters[0], 3, padding="same", use_bias=False)(_activate(x))
    x = layers.add([x, _shortcut(inputs, filters[0], 1)])
    skips = []
    for count in filters[1:]:
        skips.append(x)
        x = _residual_unit(x, count, stride=2)
    for count, skip in zip(reversed(filters[:-1]), reversed(skips), strict=True):
        x = layers.UpSampling2D(2, interpolation="nearest")(x)
        x = _residual_unit(layers.concatenate([x, skip]), count)
    # In float32 also where the layers before compute with less.
    logits = layers.Conv2D(classes, 1, name="logits", dtype="float32")(_activate(x))
    return keras.Model(inputs, logits, name="resunet")


def _activate(x: Any) -> Any:
    return layers.ReLU()(layers.BatchNormalization(momentum=0.95)(x))


def _shortcut(x: Any, filters: int, stride: int) -> Any:
    x = layers.Conv2D(filters, 1, strides=stride, use_bias=False)(x)
    return layers.BatchNormalization(momentum=0.95)(x)


def _residual_unit(x: Any, filters: int, stride: int = 1) -> Any:
    y = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False)(_activate(x))
    y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(_activate(y))
    return layers.add([y, _shortcut(x, filters, stride)])


def to_arrays(network: keras.Model) -> Arrays:
    """The weights as plain arrays, by a name that says their place in the network."""
    names = [f"{i:03d}.{weight.name}" for i, weight in enumerate(network.weights)]
    return dict(zip(names, network.get_weights(), strict=True))


def set_arrays(network: keras.Model, weights: Arrays, parameter: str) -> None:
    """Put in the weights that `to_arrays` made.

    Raises
    ------
    ParameterError
        If they are those of another network.
    """
    try:
        network.set_weights(list(weights.values()))
    except ValueError as error:
        raise ParameterError(
            parameter,
            "must hold the weights of the network that it describes",
            f"a model with others ({str(error).splitlines()[0][:80]})",
            "The file is damaged; train it again or copy it again.",
        ) from error
