"""Which slices to label: the strategies that the paper compares."""

from __future__ import annotations

from fiji_poreseg.errors import ParameterError

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
