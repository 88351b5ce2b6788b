"""What a training runs on: the GPUs where there are any, with mixed precision, else the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from fiji_poreseg.resunet.backend import keras, tf


@contextmanager
def accelerated() -> Iterator[None]:
    """Let a network that is made and compiled inside train on every GPU, in mixed precision.

    Each takes its share of a batch, so that a step means the same on any number of them. Without
    a GPU nothing changes: half precision is slower on a CPU.
    """
    found = [device.name for device in tf.config.list_logical_devices("GPU")]
    before = keras.config.dtype_policy()
    several = tf.distribute.MirroredStrategy(found) if len(found) > 1 else None
    try:
        if found:
            keras.config.set_dtype_policy("mixed_float16")
        with (several or tf.distribute.get_strategy()).scope():
            yield
    finally:
        keras.config.set_dtype_policy(before)
