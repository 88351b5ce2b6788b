"""Progress: a step says how far it is, the surface that started it listens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T")


class Reporter(Protocol):
    """What listens: a terminal bar, ImageJ's status line, several of them."""

    def update(self, description: str, done: int, total: int) -> None:
        """Take the news that `done` of `total` units of `description` are finished."""


_listeners: ContextVar[tuple[Reporter, ...]] = ContextVar("_listeners", default=())
_whole: ContextVar[str] = ContextVar("_whole", default="")


@contextmanager
def reporting(reporter: Reporter) -> Iterator[None]:
    """Let `reporter` hear, besides those that listen already, what runs inside the block."""
    token = _listeners.set((*_listeners.get(), reporter))
    try:
        yield
    finally:
        _listeners.reset(token)


@contextmanager
def part_of(whole: str) -> Iterator[None]:
    """Let what is reported inside the block say first which part of a longer work it is.

    Parameters
    ----------
    whole
        A few words, such as ``"Trial 3 of 8, 12 min left"``.
    """
    token = _whole.set(f"{whole}: ")
    try:
        yield
    finally:
        _whole.reset(token)


def report(description: str, done: int, total: int) -> None:
    """Tell every listener that `done` of `total` units of `description` are finished."""
    for listener in _listeners.get():
        listener.update(_whole.get() + description, done, total)


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items` and report after each one.

    Parameters
    ----------
    items
        What to go through.
    description
        A few words that a user reads, such as ``"Segmenting"``.
    total
        Number of items, where `items` cannot tell it.
    """
    if total is None:
        if not isinstance(items, Sized):
            items = list(items)
        total = len(items)
    report(description, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        report(description, done, total)
