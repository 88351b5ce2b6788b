"""Keras on TensorFlow, imported quietly: every module of this room takes them from here.

While it is imported, TensorFlow writes about the GPUs that it does not find straight to the
terminal, whatever its log level says; to a microscopist that reads like an error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fiji_poreseg import threads


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Discard what C++ code writes to standard error; Python's exceptions pass."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


_OPTIONS = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # By default only where the CPU has AVX-512 or better; elsewhere it is sooner, too.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # Keep what is freed for the next layer: the system, asked for it anew, gives it page by page.
    "TF_CPU_ALLOCATOR_USE_BFC": "1",
}
if (_most := threads.limit()) is not None:
    _OPTIONS |= {"TF_NUM_INTRAOP_THREADS": str(_most), "TF_NUM_INTEROP_THREADS": str(_most)}
for _name, _value in _OPTIONS.items():
    os.environ.setdefault(_name, _value)
with _silent_stderr():
    import keras
    import tensorflow as tf

if keras.backend.backend() != "tensorflow":
    raise ImportError("fiji-poreseg needs Keras on TensorFlow: set KERAS_BACKEND=tensorflow")

# What TensorFlow's oneDNN (its status 1) and OpenVINO say where memory is short.
_NO_MEMORY = ("bad_alloc", "Failed to allocate", "Status: 1, message")


@contextmanager
def memory_as_error() -> Iterator[None]:
    """Raise what either of them raises where memory is short as a `MemoryError`."""
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        raise MemoryError from error
    except (RuntimeError, tf.errors.OpError) as error:
        if any(words in str(error) for words in _NO_MEMORY):
            raise MemoryError from error
        raise


__all__ = ["keras", "memory_as_error", "tf"]
