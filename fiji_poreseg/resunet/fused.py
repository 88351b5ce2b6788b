"""The trained network as fewer TensorFlow operations that give the same: for prediction.

A normalisation goes into the weights of the convolution before it, and what is doubled in size
stays small: doubling by nearest neighbours and then convolving by 3 x 3 is one transposed
convolution by 4 x 4, at 4/9 of the cost, and a convolution by 1 x 1 may come before the doubling.
So what the decoder joins is never put together; each convolution adds up those of its parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from fiji_poreseg.resunet.backend import keras, tf

layers = keras.layers
# The layers that are rewritten, and the options with which they are; others are called.
_PLAIN: dict[type, dict[str, Any]] = {
    layers.Conv2D: {"dilation_rate": (1, 1), "groups": 1, "activation": "linear"},
    layers.BatchNormalization: {"axis": -1, "center": True, "scale": True},
    layers.ReLU: {"max_value": None, "negative_slope": 0, "threshold": 0},
    layers.Add: {},
    layers.Concatenate: {"axis": -1},
    layers.UpSampling2D: {"size": (2, 2), "interpolation": "nearest"},
}
Weights: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _Part:
    """Some channels of a tensor, (batch, y, x, channels); `halved` has yet to be doubled."""

    tensor: Any
    halved: bool = False

    @property
    def whole(self) -> Any:
        if not self.halved:
            return self.tensor
        size = [2 * side for side in self.tensor.shape[1:3]]
        return tf.image.resize(self.tensor, size, method="nearest")


@dataclass(frozen=True)
class _Convolved:
    """A convolution that is done when its result is asked for: what follows may change it."""

    given: Sequence[_Part]
    kernel: Weights
    bias: Weights
    stride: int

    @cached_property
    def parts(self) -> list[_Part]:
        kernels = np.split(self.kernel, _ends(self.given), axis=2)
        terms = [self._term(*each) for each in zip(self.given, kernels, strict=True)]
        return [_Part(tf.nn.bias_add(tf.add_n(terms), self.bias))]

    def _term(self, part: _Part, kernel: Weights) -> Any:
        side = kernel.shape[0]
        if part.halved and self.stride == 1 and side == 1:
            return _Part(tf.nn.conv2d(part.tensor, kernel, 1, "SAME"), halved=True).whole
        if part.halved and self.stride == 1 and side == 3:
            return _doubled_and_convolved(part.tensor, kernel)
        return tf.nn.conv2d(part.whole, kernel, self.stride, "SAME")


@dataclass(frozen=True)
class _Joined:
    """Channels that lie in one or more tensors."""

    parts: list[_Part]


_Value: TypeAlias = _Joined | _Convolved


def _doubled_and_convolved(tensor: Any, kernel: Weights) -> Any:
    """Double the size, then convolve by 3 x 3, in one."""
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    spread = np.zeros((4, 4, *flipped.shape[2:]), np.float32)
    for y in (0, 1):
        for x in (0, 1):
            spread[y : y + 3, x : x + 3] += flipped
    batch, rows, columns = tensor.shape[:3]
    shape = (batch, 2 * rows, 2 * columns, kernel.shape[3])
    return tf.nn.conv2d_transpose(tensor, spread, shape, 2, "SAME")


def fused(network: keras.Model) -> Callable[[Any], Any]:
    """Rewrite a trained network.

    Parameters
    ----------
    network
        With one input and one output, made of layers that are used once. Any layer will do; those
        of `network.build` become fewer.

    Returns
    -------
    callable
        The same from tensor to tensor, up to rounding, for a `tf.function`; the input's shape
        must be known. The weights are constants in it.
    """

    def run(batch: Any) -> Any:
        made: dict[int, _Value] = {id(network.inputs[0]): _Joined([_Part(batch)])}
        for layer in network.layers[1:]:
            given = [made[id(tensor)] for tensor in keras.tree.flatten(layer.input)]
            made[id(layer.output)] = _after(layer, given)
        return _whole(made[id(network.outputs[0])])

    return run


def _after(layer: keras.Layer, given: Sequence[_Value]) -> _Value:
    """What a layer makes of its inputs."""
    first = given[0]
    kind = type(layer) if _is_plain(layer) else None
    if kind is layers.Conv2D:
        kernel = _array(layer.kernel)
        bias = _array(layer.bias) if layer.use_bias else np.zeros(kernel.shape[3], np.float32)
        return _Convolved(first.parts, kernel, bias, layer.strides[0])
    if kind is layers.BatchNormalization:
        return _normalised(layer, first)
    if kind is layers.ReLU:
        return _Joined([replace(part, tensor=tf.nn.relu(part.tensor)) for part in first.parts])
    if kind is layers.Add:
        return _Joined([_Part(tf.add_n([_whole(value) for value in given]))])
    if kind is layers.Concatenate:
        return _Joined([part for value in given for part in value.parts])
    if kind is layers.UpSampling2D:
        return _Joined([_Part(part.whole, halved=True) for part in first.parts])
    tensors = [_whole(value) for value in given]
    return _Joined([_Part(layer(tensors if len(tensors) > 1 else tensors[0], training=False))])


def _is_plain(layer: keras.Layer) -> bool:
    """Whether a layer is of a kind, and does that with the options, that `_after` knows."""
    config, options = layer.get_config(), _PLAIN.get(type(layer))
    if options is None or any(config[name] != value for name, value in options.items()):
        return False
    # Without a border to pad, both ways of padding are one.
    return config.get("padding") != "valid" or bool(layer.kernel_size == (1, 1))


def _normalised(layer: keras.Layer, value: _Value) -> _Value:
    """Batch normalisation with the trained mean and variance."""
    scale = _array(layer.gamma) / np.sqrt(_array(layer.moving_variance) + layer.epsilon)
    shift = _array(layer.beta) - _array(layer.moving_mean) * scale
    if isinstance(value, _Convolved):
        return replace(value, kernel=value.kernel * scale, bias=value.bias * scale + shift)
    ends = _ends(value.parts)
    scaled = zip(value.parts, np.split(scale, ends), np.split(shift, ends), strict=True)
    return _Joined([replace(part, tensor=part.tensor * by + add) for part, by, add in scaled])


def _ends(parts: Sequence[_Part]) -> npt.NDArray[np.int_]:
    """The channels at which all parts but the first begin."""
    return np.cumsum([part.tensor.shape[-1] for part in parts])[:-1]


def _whole(value: _Value) -> Any:
    """All channels in one tensor of full size."""
    wholes = [part.whole for part in value.parts]
    return tf.concat(wholes, -1) if len(wholes) > 1 else wholes[0]


def _array(variable: Any) -> Weights:
    # Outside the function that is being traced: inside, a variable has no value yet.
    with tf.init_scope():
        return np.asarray(variable.numpy(), np.float32)
