"""Which slices to label: the strategies that the paper compares."""

from __future__ import annotations

import numpy as np
import xarray as xr

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.stack import check_indices

STRATEGIES = ("initial", "distributed")


def select(slices: int, strategy: str, count: int) -> tuple[int, ...]:
    """Choose slices of a stack.

    Parameters
    ----------
    slices
        Number of slices in the stack.
    strategy
        ``"initial"`` takes the first ones, 0 to count - 1; ``"distributed"`` takes evenly
        spaced ones, ``i * slices // count``.
    count
        How many.

    Returns
    -------
    tuple of int
        0-based indices, ascending.

    Raises
    ------
    ParameterError
        If the stack has fewer slices than that.
    """
    if not 1 <= count <= slices:
        raise ParameterError(
            "count",
            f"must be from 1 to {slices}, since the stack has {slices} slices",
            count,
            "Choose fewer slices.",
        )
    if strategy == "initial":
        return tuple(range(count))
    return tuple(i * slices // count for i in range(count))


def chosen(
    slices: int, indices: tuple[int, ...] | None, strategy: str | None, count: int | None
) -> tuple[int, ...] | None:
    """Slices that are named, or that a strategy chooses; None where neither is given.

    Raises
    ------
    ParameterError
        If both are given, or only half of the second.
    """
    if strategy is None and count is None:
        return indices
    if indices is not None:
        raise ParameterError(
            "indices",
            "cannot be given together with strategy and count",
            ",".join(map(str, indices)),
            "Give either the slices or how to choose them.",
        )
    if strategy is None or count is None:
        raise ParameterError(
            "strategy" if strategy is None else "count",
            "is needed where the slices are to be chosen",
            "left out",
            "Give both, for example strategy=distributed count=20.",
        )
    return select(slices, strategy, count)


def labelled(labels: xr.DataArray, indices: tuple[int, ...] | None) -> tuple[int, ...]:
    """Slices to train on: those named, each of which must hold labels, or all that do.

    Parameters
    ----------
    labels
        uint8, dims ``("z", "y", "x")``; ``attrs["dense"]`` where they were a mask.
    indices
        0-based slices, or None.

    Raises
    ------
    ParameterError
        If a named slice holds no label, or none is named although the labels are a mask.
    """
    holding = np.flatnonzero(labels.any(dim=("y", "x")).to_numpy()).tolist()
    if indices is None:
        if labels.attrs["dense"]:
            raise ParameterError(
                "indices",
                "is needed where the labels are a mask",
                "left out",
                "A mask labels every pixel: name the slices where that is meant, as indices=0,30.",
            )
        return tuple(holding)
    named = check_indices(indices, labels)
    empty = sorted(set(named) - set(holding))
    if empty:
        raise ParameterError(
            "indices",
            "must name slices that hold labels",
            ",".join(map(str, empty)),
            f"Labels are in slices {','.join(map(str, holding[:20]))}.",
        )
    return named
