"""What the network is run by: OpenVINO on a CPU where it is installed, else TensorFlow."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from fiji_poreseg import threads
from fiji_poreseg.resunet.backend import keras, tf
from fiji_poreseg.resunet.fused import fused

Run = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]


def compiled(network: keras.Model, shape: tuple[int, int, int, int], precision: str) -> Run:
    """Make a function of a trained network, for inputs of one shape.

    On one machine it gives the same every time; with another number of cores, the same up to
    rounding.

    Parameters
    ----------
    network
        From (batch, y, x, channels) to logits, (batch, y, x, classes).
    shape
        Shape of the input, (batch, channels, y, x).
    precision
        ``"exact"`` computes in float32; ``"fast"`` in bfloat16, where OpenVINO runs it and the
        CPU has it.

    Returns
    -------
    callable
        From float32 of that shape to probabilities, float32 of shape (batch, classes, y, x).
    """
    logits = fused(network)

    def probabilities(planes: Any) -> Any:
        made = tf.nn.softmax(logits(tf.transpose(planes, (0, 2, 3, 1))))
        return tf.transpose(made, (0, 3, 1, 2))

    function = tf.function(probabilities, autograph=False)
    traced = function.get_concrete_function(tf.TensorSpec(shape, tf.float32))
    openvino = None if tf.config.list_physical_devices("GPU") else _openvino()
    if openvino is None:
        return lambda planes: np.asarray(traced(tf.constant(planes)))
    return _by_openvino(openvino, traced, precision)


def _by_openvino(openvino: Any, traced: Any, precision: str) -> Run:
    core = openvino.Core()
    has_bfloat16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    settings: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "fast" and has_bfloat16 else "f32",
        # Threads that are bound to cores wait where another program works on one.
        "ENABLE_CPU_PINNING": False,
    }
    if threads.limit() is not None:
        settings["INFERENCE_NUM_THREADS"] = threads.limit()
    model = openvino.convert_model(traced)
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    return lambda planes: np.asarray(request.infer([planes], share_inputs=True)[0])


def _openvino() -> Any:
    """OpenVINO, or None where it is not installed or does not load."""
    try:
        with _missing("openvino_telemetry"):
            import openvino
    except ImportError:
        return None
    return openvino


@contextmanager
def _missing(module: str) -> Iterator[None]:
    """Let a module look as if it were not installed.

    Without its telemetry OpenVINO does the same, and tells nobody that it was imported.
    """
    kept = {module: sys.modules[module]} if module in sys.modules else {}
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]
        sys.modules.update(kept)
