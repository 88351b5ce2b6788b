"""How values get to a worker."""

from __future__ import annotations

from typing import Any

import cloudpickle
import numpy as np
import numpy.typing as npt
from dask.base import compute, is_dask_collection, optimize

from fiji_poreseg.errors import ParameterError


def pack(thing: Any) -> bytes:
    """Write down what only a worker is to read, not the scheduler that it passes through."""
    packed: bytes = cloudpickle.dumps(thing)
    return packed


class Travelling:
    """Values on their way to a worker: themselves or, where that takes less, how to read them.

    Parameters
    ----------
    values
        A numpy or a dask array. What a dask array is made of is sent if it can be, such as the
        place of a file; else its values.
    parameter
        Name to use in an error.
    """

    def __init__(self, values: Any, parameter: str) -> None:
        self._parameter = parameter
        self._recipe = _recipe(values)
        self._values = None if self._recipe else np.ascontiguousarray(values)

    def arrived(self) -> npt.NDArray[Any]:
        """The values, in memory.

        Raises
        ------
        ParameterError
            If they are to be read from a file that cannot be read here, or was changed.
        """
        if self._recipe is None:
            assert self._values is not None
            return self._values
        try:
            # Else Dask would have the cluster compute it, which waits for this very worker.
            (values,) = compute(cloudpickle.loads(self._recipe), scheduler="synchronous")
        except OSError as error:
            raise ParameterError(
                self._parameter,
                "must be a file that every worker can read, by the same path",
                str(error),
                "Put it into a folder that all machines share.",
            ) from error
        return np.asarray(values)


def _recipe(values: Any) -> bytes | None:
    """A dask array written down, if that can be done and takes less than its values."""
    if not is_dask_collection(values):
        return None
    from distributed import futures_of

    # What lies on a cluster already is known to its own client only.
    if futures_of(values):
        return None
    (needed,) = optimize(values)
    try:
        recipe = pack(needed)
    except Exception:  # whatever something that cannot be sent raises, such as Java's objects
        return None
    return recipe if len(recipe) < values.nbytes else None
