"""Where work is done: in processes of this machine, or on a cluster."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar

from fiji_poreseg import threads
from fiji_poreseg.errors import ParameterError, PoreSegWarning

if TYPE_CHECKING:
    from distributed import Client

_CONNECTING_S, _PAUSE_S = 20, 0.2
# After so long without any worker, who waits for one is told; one that had some gives up.
_NOTE_S, _PATIENCE_S = 60, 600
# What Python, the packages and a model take before the first slice.
_LEAST_BYTES = 2**29
_RESUME = "What is done stays where resume=true was given: give it again to go on."


class Place(ABC):
    """Where work is done.

    Parameters
    ----------
    shown
        What to call it in an error.
    """

    parameter: ClassVar[str]

    def __init__(self, shown: str) -> None:
        self.shown = shown

    @abstractmethod
    def client(self) -> Any:
        """A context manager that gives a Dask client, not the default one of this process."""

    @abstractmethod
    def check(self, client: Client, *, at_work: bool = False) -> None:
        """Raise a `ParameterError` where no more answers can be hoped for.

        `at_work` says that workers had come, and were given work.
        """

    def lost(self) -> ParameterError:
        """The error to raise where the scheduler is gone."""
        return ParameterError(
            self.parameter,
            "must be there until the work is done",
            f"{self.shown}, now lost",
            _RESUME,
        )

    def differs(self, what: str) -> ParameterError:
        """The error to raise where its processes have other packages."""
        return ParameterError(
            self.parameter,
            "must have this package and those that it needs, as here",
            f"{self.shown}: {what}",
            "Start scheduler and workers in the same environment as this program.",
        )


class Processes(Place):
    """Processes of this machine, started for the work and ended with it.

    They share the cores and the memory, listen on the loopback interface only, and talk to those
    only that know a certificate made for them.

    Parameters
    ----------
    count
        How many.
    """

    parameter = "workers"

    def __init__(self, count: int) -> None:
        super().__init__(str(count))
        self._count = count
        self._processes: list[subprocess.Popen[bytes]] = []
        self._log: IO[bytes] | None = None

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Start the processes; all are gone when the block ends, or this process does."""
        from distributed import Client, LocalCluster
        from distributed.security import Security
        from distributed.system import MEMORY_LIMIT

        share = MEMORY_LIMIT // self._count
        if share < _LEAST_BYTES:
            raise ParameterError(
                "workers",
                f"must be at most {MEMORY_LIMIT // _LEAST_BYTES}: each takes half a GB or more",
                self.shown,
                "Take as many as there are cores, or fewer.",
            )
        security = Security.temporary()
        with ExitStack() as stack:
            stack.enter_context(_quiet())
            cluster = stack.enter_context(
                LocalCluster(
                    n_workers=0,
                    processes=True,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    protocol="tls://",
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,
                    security=security,
                )
            )
            self._log = stack.enter_context(tempfile.TemporaryFile())
            stack.callback(self._end)
            for _ in range(self._count):
                self._start(cluster.scheduler_address, share, security)
            yield stack.enter_context(Client(cluster, security=security, set_as_default=False))

    def _start(self, scheduler: str, share: int, security: Any) -> None:
        """Start a process; not by multiprocessing, which runs the script of who calls us again."""
        most = max(1, threads.count() // self._count)
        certificates = "DASK_DISTRIBUTED__COMM__TLS__"
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            f"{certificates}CA_FILE": security.tls_ca_file,
            f"{certificates}WORKER__CERT": security.tls_worker_cert,
            f"{certificates}WORKER__KEY": security.tls_worker_key,
        }
        options = {
            "--nthreads": most,
            "--nworkers": 1,
            "--host": "127.0.0.1",
            "--dashboard-address": "127.0.0.1:0",
            "--memory-limit": share,
        }
        words = [str(word) for option in options.items() for word in option]
        line = [sys.executable, "-P", "-m", "fiji_poreseg.cluster", scheduler, "--no-dashboard"]
        self._processes.append(
            subprocess.Popen(
                [*line, *words],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
            )
        )

    def _end(self) -> None:
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def check(
        self,
        client: Client,  # noqa: ARG002 - it has other means
        *,
        at_work: bool = False,
    ) -> None:
        """Raise a `ParameterError` if all processes have ended.

        A worker is started again where its work ends it, but not where it had just started.
        """
        if any(process.poll() is None for process in self._processes):
            return
        rule = (
            "must leave each worker the memory that a slice takes"
            if at_work
            else "must be processes that can run here"
        )
        raise ParameterError(
            "workers",
            rule,
            f"{self.shown}, all of which ended ({self._last_words()})",
            f"Take fewer, or leave it out. {_RESUME}",
        )

    def _last_words(self) -> str:
        """The last line that a process wrote."""
        assert self._log is not None
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "without a word")


class Cluster(Place):
    """A Dask cluster that somebody started.

    Parameters
    ----------
    scheduler
        Its address, or the file that its scheduler wrote (``--scheduler-file``). Certificates
        are those of Dask's own settings.
    """

    parameter = "scheduler"

    def __init__(self, scheduler: str) -> None:
        super().__init__(scheduler)
        self._without_since: float | None = None
        self._had_any = self._was_told = False

    @contextmanager
    def client(self) -> Iterator[Client]:
        """Connect to it; it runs on when the block ends."""
        from distributed import Client

        with _quiet():
            try:
                with warnings.catch_warnings():
                    # Of other versions; where they matter, they are refused.
                    warnings.simplefilter("ignore")
                    client = Client(self._address(), timeout=_CONNECTING_S, set_as_default=False)
            except Exception as error:  # OSError, ValueError, …: whatever a wrong address leads to
                raise ParameterError(
                    "scheduler",
                    "must be the address of a Dask scheduler that can be reached from here",
                    self.shown,
                    "Give what the scheduler says when it starts, such as tcp://node1:8786, or the"
                    " file that it wrote.",
                ) from error
            with client:
                yield client

    def _address(self) -> str:
        file = Path(self.shown).expanduser()
        if file.suffix != ".json":
            return self.shown
        # A batch job starts the scheduler just before.
        deadline = time.monotonic() + _CONNECTING_S
        while True:
            try:
                found: Mapping[str, str] = json.loads(file.read_text(encoding="utf-8"))
                return found["address"]
            except (OSError, ValueError):
                if time.monotonic() > deadline:
                    raise
            time.sleep(_PAUSE_S)

    def check(self, client: Client, *, at_work: bool = False) -> None:  # noqa: ARG002 - it looks
        """Raise a `ParameterError` if it is gone, or has had no worker for long."""
        if client.status != "running":
            raise self.lost()
        if client.nthreads():
            self._had_any, self._without_since = True, None
            return
        now = time.monotonic()
        self._without_since = self._without_since or now
        waited = now - self._without_since
        if self._had_any and waited > _PATIENCE_S:
            raise ParameterError(
                "scheduler",
                "must have workers until the work is done",
                f"{self.shown}, which has had none for {_PATIENCE_S // 60} minutes",
                f"Start workers again. {_RESUME}",
            )
        if waited > _NOTE_S and not self._was_told:
            self._was_told = True
            warnings.warn(
                f"{self.shown} has no workers. Waiting for one.", PoreSegWarning, stacklevel=2
            )


def place_of(workers: int | None, scheduler: str | None) -> Place | None:
    """Where the parameters of a command say that work is done; None for in this process.

    Raises
    ------
    ParameterError
        If both are given.
    """
    if scheduler is not None:
        if workers is not None:
            raise ParameterError(
                "workers",
                "must be left out where `scheduler` names a cluster, which has its own",
                str(workers),
                "Leave one of the two out.",
            )
        return Cluster(scheduler)
    return None if workers is None or workers == 1 else Processes(workers)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let Dask neither log nor warn; what matters is raised."""
    import dask
    import distributed  # noqa: F401 - sets its loggers up

    names = [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TiB"}):
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
