"""Loops compiled by numba: whether they are used, and how they are kept.

`filters` and `trees` ask `is_on` and only then import the module that holds their loops, so that
a process that needs none of them does not import numba.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any


def is_on() -> bool:
    """Whether compiled loops are used: numba is there, and `FIJI_PORESEG_COMPILED` is not 0."""
    if os.environ.get("FIJI_PORESEG_COMPILED") == "0":
        return False
    try:
        import numba
    except ImportError:
        return False
    return not numba.config.DISABLE_JIT


def loop(*signature: str, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function that lets other threads run meanwhile.

    Parameters
    ----------
    *signature
        Types in numba's words: with one, the function is compiled at once, else when first used.
    **options
        More of `numba.njit`.

    Returns
    -------
    Callable
        A decorator. What it compiles is kept on the disk, where a folder for it can be written.
    """
    import numba

    options |= {"nogil": True, "error_model": "numpy"}

    def compile_it(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(*signature, cache=True, **options)(function)
        except (RuntimeError, OSError):  # numba's words for: no place, or no room, for the cache
            return numba.njit(*signature, **options)(function)

    return compile_it
