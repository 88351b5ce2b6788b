"""A worker on this machine, which ends when the process that started it closes its input.

    python -m fiji_poreseg.cluster SCHEDULER [OPTION ...]

Takes the options of ``dask worker``.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading

import psutil
from distributed.cli import dask_worker


def _end_with_starter(folder: str) -> None:
    """End this process and its children when the starter is gone, whatever they are busy with."""
    sys.stdin.buffer.read()
    children = psutil.Process().children(recursive=True)
    for child in children:
        child.kill()
    psutil.wait_procs(children)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    made = tempfile.mkdtemp(prefix="poreseg-worker-")
    threading.Thread(target=_end_with_starter, args=(made,), daemon=True).start()
    dask_worker.main([*sys.argv[1:], "--local-directory", made])
