"""The trees of a forest as plain arrays, and back: only such as cannot lead astray."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier
from sklearn.tree._tree import Tree

from fiji_poreseg.model import Arrays

_ROUNDING = 1e-6
_FIELDS = (
    "left_child",
    "right_child",
    "feature",
    "threshold",
    "impurity",
    "n_node_samples",
    "weighted_n_node_samples",
    "missing_go_to_left",
)


def to_arrays(classifier: RandomForestClassifier) -> Arrays:
    """The trees as plain arrays, one tree after another."""
    states = [tree.tree_.__getstate__() for tree in classifier.estimators_]
    nodes = np.concatenate([state["nodes"] for state in states])
    return {
        "node_count": np.array([len(state["nodes"]) for state in states]),
        "max_depth": np.array([state["max_depth"] for state in states]),
        "values": np.concatenate([state["values"] for state in states]),
        **{name: np.ascontiguousarray(nodes[name]) for name in _FIELDS},
    }


def from_arrays(arrays: Arrays, classes: npt.NDArray[Any], features: int) -> RandomForestClassifier:
    """A fitted scikit-learn forest from plain arrays."""
    trees = []
    stops = np.cumsum(arrays["node_count"])
    for start, stop, depth in zip(
        stops - arrays["node_count"], stops, arrays["max_depth"], strict=True
    ):
        parts = {name: arrays[name][start:stop] for name in _FIELDS}
        trees.append(_tree(parts, arrays["values"][start:stop], int(depth), len(classes), features))
    forest = RandomForestClassifier(len(trees), n_jobs=1)
    forest.estimator_ = DecisionTreeClassifier()
    forest.estimators_ = trees
    forest.classes_ = classes
    forest.n_classes_ = len(classes)
    forest.n_outputs_ = 1
    forest.n_features_in_ = features
    return forest


def _tree(
    parts: Arrays, values: npt.NDArray[np.float64], depth: int, classes: int, features: int
) -> DecisionTreeClassifier:
    count = len(values)
    _check_nodes(parts, values, features)
    if depth != _depth(parts):
        raise ValueError("a tree is not as deep as it says")
    empty = Tree(features, np.array([classes], np.intp), 1)
    nodes = np.zeros(count, empty.__getstate__()["nodes"].dtype)
    for name in _FIELDS:
        nodes[name] = parts[name]
    empty.__setstate__(
        {
            "max_depth": depth,
            "node_count": count,
            "nodes": nodes,
            "values": np.ascontiguousarray(values, np.float64),
        }
    )
    tree = DecisionTreeClassifier()
    tree.tree_ = empty
    tree.n_features_in_ = features
    tree.n_outputs_ = 1
    tree.n_classes_ = classes
    tree.classes_ = np.arange(classes)
    return tree


def _depth(parts: Arrays) -> int:
    """How many tests lead to the deepest leaf of a tree whose nodes are checked."""
    depth, level = 0, np.array([0])
    while True:
        level = level[parts["left_child"][level] != -1]
        if not len(level):
            return depth
        level = np.concatenate([parts["left_child"][level], parts["right_child"][level]])
        depth += 1


def _check_nodes(parts: Arrays, values: npt.NDArray[np.float64], features: int) -> None:
    """Refuse trees that would lead outside of arrays or round in circles, or are no trees."""
    count = len(values)
    order = np.arange(count)
    left, right = parts["left_child"], parts["right_child"]
    leaf = left == -1
    inner = ~leaf
    for child in (left[inner], right[inner]):
        if ((child <= order[inner]) | (child >= count)).any():
            raise ValueError("a tree has a node that leads nowhere")
    children = np.concatenate([left[inner], right[inner]])
    if len(np.unique(children)) != len(children):
        raise ValueError("a tree has a node that two lead to")
    tested = parts["feature"][inner]
    if ((tested < 0) | (tested >= features)).any():
        raise ValueError("a tree asks for a feature that there is not")
    # Infinite is the threshold between what is missing and what is not.
    threshold = parts["threshold"]
    if not (np.isinf(threshold) | (np.abs(threshold) < np.finfo(np.float32).max)).all():
        raise ValueError("a tree compares with what is no number")
    if not ((values >= 0) & (values <= 1 + _ROUNDING)).all():
        raise ValueError("a tree answers with what is no probability")
