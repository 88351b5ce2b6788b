"""How many threads a computation may use: all cores', unless something else shares them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_most: ContextVar[int | None] = ContextVar("_most", default=None)


def limit() -> int | None:
    """The number that `limited_to` set; None for none."""
    return _most.get()


def count() -> int:
    """How many threads to start, at least 1."""
    return limit() or os.cpu_count() or 1


@contextmanager
def limited_to(most: int) -> Iterator[None]:
    """Let what runs inside the block, in this thread, start no more than so many threads."""
    token = _most.set(most)
    try:
        yield
    finally:
        _most.reset(token)
