"""Slices spread over processes: of this machine, or of a Dask cluster that runs already.

Dask (`distributed`) carries the work there and the answers back, and gives to another worker what
one was busy with when it died (Rocklin, Dask, SciPy 2015, doi 10.25080/Majora-7b98e3ed-013).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from fiji_poreseg.cluster.places import Cluster, Place, Processes, place_of
from fiji_poreseg.cluster.travelling import Travelling, pack
from fiji_poreseg.cluster.worker import answer, unchanged, versions
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.progress import report

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Cluster", "Place", "Processes", "Travelling", "place_of", "spread"]

T = TypeVar("T")
Run: TypeAlias = tuple[int, ...]
Work: TypeAlias = Callable[[bytes, Any], Sequence[T]]

# What a worker gets at once: enough pixels for a neighbour's slices to be worth sending.
_PIXELS_AT_ONCE = 2**22
# Parts of the work that a worker is given: the one it is busy with, and the next.
_AHEAD = 2
# So often does somebody who wants to cancel get the chance.
_PAUSE_S = 0.2


def spread(
    place: Place,
    work: Work[T],
    common: bytes,
    indices: Sequence[int],
    part: Callable[[Run], Any],
    *,
    pixels: int,
    description: str,
    near: int | None = None,
) -> Generator[tuple[int, T], None, None]:
    """Do some work on slices in other processes, and yield (index, answer) as answers come.

    Progress is reported as `progress.track` does. Close it (`contextlib.closing`): that ends the
    processes.

    Parameters
    ----------
    place
        Where.
    work
        A function of a module, called in the other process with `common` and a part; answers
        with one thing for each of the part's slices.
    common
        What all parts need, sent to each worker once.
    indices
        0-based slices.
    part
        Makes what `work` needs for some slices, when it is about to be sent.
    pixels
        Pixels of a slice: of large ones, fewer go together.
    description
        For who listens to the progress.
    near
        How far apart two slices may lie to go together; any two by default.

    Yields
    ------
    tuple
        A slice, in any order, and what `work` has for it.

    Raises
    ------
    ParameterError
        If the cluster cannot be reached or is lost, its workers have other versions of the
        packages, or they die of a single slice; and what `work` raises.
    """
    total, done = len(indices), 0
    report(description, done, total)
    if not indices:
        return
    with place.client() as client, _told_in_words(place):
        workers, threads = _first_workers(place, client, total)
        # Large ones, but at least two for each worker.
        most = max(threads, _PIXELS_AT_ONCE // pixels)
        runs = deque(_runs(indices, max(1, min(most, -(-total // (2 * workers)))), near))
        shared = client.submit(unchanged, common, pure=False)
        pending: dict[Future[Any], Run] = {}
        while runs or pending:
            workers = len(client.nthreads()) or workers
            while runs and len(pending) < _AHEAD * workers:
                run = runs.popleft()
                packed = pack((work, part(run)))
                pending[client.submit(answer, versions(), shared, packed, pure=False)] = run
            for future in _finished(client, pending):
                run = pending.pop(future)
                answers = _answers(place, future, run)
                if answers is None:
                    runs.extendleft((index,) for index in reversed(run))
                    continue
                for index, made in zip(run, answers, strict=True):
                    yield index, made
                    done += 1
                    report(description, done, total)
            place.check(client, at_work=True)
            report(description, done, total)


def _first_workers(place: Place, client: Client, total: int) -> tuple[int, int]:
    """How many workers there are, and the fewest threads of one, once there are any."""
    while not (found := client.nthreads()):
        place.check(client)
        report("Waiting for workers", 0, total)
        with suppress(TimeoutError):
            client.wait_for_workers(1, timeout=_PAUSE_S)
    return len(found), min(found.values())


def _runs(indices: Sequence[int], size: int, near: int | None) -> Iterator[Run]:
    """Cut slices into runs of at most a size, whose neighbours in it are near."""
    run: Run = ()
    for index in indices:
        far = bool(run) and near is not None and abs(index - run[-1]) > near
        if far or len(run) == size:
            yield run
            run = ()
        run += (index,)
    yield run


def _finished(client: Client, pending: Iterable[Future[Any]]) -> set[Future[Any]]:
    """Those that have an answer, or an error, after a short while."""
    from distributed import wait

    try:
        with client.as_current():
            return set(wait([*pending], timeout=_PAUSE_S, return_when="FIRST_COMPLETED").done)
    except TimeoutError:
        return set()


def _answers(place: Place, future: Future[Any], run: Run) -> Sequence[Any] | None:
    """What a worker answered; None where it died, or ran out of memory, of several slices."""
    from distributed import KilledWorker

    try:
        answers: Sequence[Any] = future.result()
        return answers
    except (KilledWorker, MemoryError) as error:
        if len(run) > 1:
            return None
        raise ParameterError(
            place.parameter,
            "must leave each worker the memory that a slice takes",
            f"{place.shown}; what worked on slice {run[0]} ended each time"
            f" ({type(error).__name__})",
            "Take fewer workers, each with more memory. With resume=true, what is done counts.",
        ) from error


@contextmanager
def _told_in_words(place: Place) -> Iterator[None]:
    """Say what happened to a cluster without Dask's words for it."""
    from concurrent.futures import CancelledError

    from distributed.comm.core import CommClosedError

    try:
        yield
    except (CancelledError, CommClosedError) as error:
        raise place.lost() from error
    except ModuleNotFoundError as error:
        raise place.differs(str(error)) from error
    except RuntimeError as error:
        if "deserialization of the task graph" not in str(error):
            raise
        raise place.differs("packages that do not read what was sent") from error
