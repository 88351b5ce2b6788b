"""Work in threads: on all cores, unless something else shares them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")
Item = TypeVar("Item")

_most: ContextVar[int | None] = ContextVar("_most", default=None)


def limit() -> int | None:
    """The number that `limited_to` set; None for none."""
    return _most.get()


def count() -> int:
    """How many threads to start: one for each core that this process may use."""
    if (most := limit()) is not None:
        return most
    if hasattr(os, "sched_getaffinity"):  # where a job has some of a machine's cores
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def limited_to(most: int) -> Iterator[None]:
    """Let what runs inside the block, in this thread, start no more than so many threads."""
    token = _most.set(most)
    try:
        yield
    finally:
        _most.reset(token)


def in_order(work: Callable[[Item], T], items: Iterable[Item]) -> Iterator[tuple[Item, T]]:
    """Yield (item, answer) in order; few are done ahead, so that few answers are in memory.

    Parameters
    ----------
    work
        What to do with an item; lets other threads run meanwhile.
    items
        What to go through.
    """
    most = count()
    pool = ThreadPoolExecutor(most)
    pending: deque[tuple[Item, Future[T]]] = deque()
    try:
        for item in items:
            pending.append((item, pool.submit(work, item)))
            if len(pending) > most:
                done, future = pending.popleft()
                yield done, future.result()
        for done, future in pending:
            yield done, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
