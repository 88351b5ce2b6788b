"""The numbers of the paper: its Table 1."""

from __future__ import annotations

from collections.abc import Mapping

# By strategy and count: loss and accuracy at the slices 47, 434 and 598 of 600.
LOSS: Mapping[tuple[str, int], tuple[float, float, float]] = {
    ("initial", 20): (0.442, 0.649, 0.764),
    ("distributed", 20): (0.425, 0.300, 0.613),
    ("initial", 5): (0.786, 0.771, 0.908),
    ("distributed", 5): (1.18, 1.038, 1.246),
}
ACCURACY: Mapping[tuple[str, int], tuple[float, float, float]] = {
    ("initial", 20): (0.912, 0.881, 0.863),
    ("distributed", 20): (0.914, 0.945, 0.892),
    ("initial", 5): (0.832, 0.837, 0.793),
    ("distributed", 5): (0.738, 0.758, 0.731),
}
SCORES: Mapping[str, Mapping[tuple[str, int], tuple[float, float, float]]] = {
    "loss": LOSS,
    "accuracy": ACCURACY,
}
