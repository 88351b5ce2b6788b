"""Images too large for memory: dask arrays whose planes are read one by one, when asked for."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import dask.array as da
import numpy as np
import numpy.typing as npt

LARGE_BYTES = 2**28
"""Files and results beyond this are not held in memory where there is another way."""


def lazy_planes(
    read: Callable[..., npt.NDArray[Any]], shape: Sequence[int], dtype: npt.DTypeLike
) -> da.Array:
    """Make a lazy array of planes.

    Parameters
    ----------
    read
        Is called with the indices of a plane along all axes but the last two, perhaps from
        several threads at once; answers with the plane, shape (y, x).
    shape
        Shape of the whole, the last two axes y and x.
    dtype
        Data type of the whole.

    Returns
    -------
    dask.array.Array
        One chunk per plane; nothing of it is read yet.
    """

    def block(block_id: tuple[int, ...]) -> npt.NDArray[Any]:
        return read(*block_id[:-2]).reshape((1,) * (len(shape) - 2) + tuple(shape[-2:]))

    # Not da.from_array, which copies what numpy has mapped into memory. The name is given since
    # dask would otherwise read `read` to find one.
    lazy: da.Array = da.map_blocks(
        block,
        chunks=(*((1,) * size for size in shape[:-2]), (shape[-2],), (shape[-1],)),
        dtype=dtype,
        meta=np.empty((0,) * len(shape), dtype),
        name=f"planes-{uuid.uuid4().hex}",
    )
    return lazy
