"""The random forest: a pixel classifier over the filter bank, from sparse or dense labels.

Breiman, Random Forests, Machine Learning 45 (2001), doi 10.1023/A:1010933404324, as
scikit-learn's `RandomForestClassifier`, which also splits on missing neighbours.
"""

from __future__ import annotations

from fiji_poreseg.forest.forest_model import ForestModel
from fiji_poreseg.forest.training import PIXELS_A_TREE, train

__all__ = ["PIXELS_A_TREE", "ForestModel", "train"]
