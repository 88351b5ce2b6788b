"""What runs in a worker."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from typing import Any

import cloudpickle

from fiji_poreseg import threads
from fiji_poreseg.errors import ParameterError

_PACKAGES = ("fiji-poreseg", "numpy", "xarray", "dask", "scikit-learn", "openvino", "tensorflow")
# A model uses all threads of its worker, and would get in its own way.
_one_at_a_time = Lock()


@cache
def versions() -> dict[str, str]:
    """What must be the same in all processes, for their answers to be the same."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "none"
    return found


def unchanged(payload: bytes) -> bytes:
    """Answer with what was given: Dask keeps it on the workers, and makes it anew if it is lost."""
    return payload


def answer(asked: dict[str, str], common: bytes, packed: bytes) -> Any:
    """Do a part of the work, on as many threads as the worker has.

    Parameters
    ----------
    asked
        The `versions` of who asks.
    common
        What all parts need.
    packed
        The work, a function of `common` and the part, and the part (`travelling.pack`).

    Raises
    ------
    ParameterError
        If the versions here are others; and what the work raises.
    """
    from distributed import get_worker

    worker = get_worker()
    here = versions()
    others = [f"{name} {here.get(name)}" for name in asked if asked[name] != here.get(name)]
    if others:
        raise ParameterError(
            "scheduler",
            "must have workers with the packages that are here",
            f"{', '.join(others)} at {worker.address}",
            "Start them in the same environment. Here are "
            + ", ".join(f"{name} {found}" for name, found in asked.items())
            + ".",
        )
    with _one_at_a_time, threads.limited_to(worker.state.nthreads):
        work, part = cloudpickle.loads(packed)
        return work(common, part)
