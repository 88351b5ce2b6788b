"""Segment a stack on a SLURM cluster: jobs are asked for, share the slices, and end.

    python scripts/slurm.py STACK --model F --output SEG [--jobs 4] [--cores 8] [--memory 16GB]

Run it where `sbatch` works, such as a login node, in a folder that all nodes share, with this
package and dask-jobqueue installed (in the clone: ``python -m pip install ".[slurm]"``). It waits
for the jobs, takes new ones where their time is over, and goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import dask
from dask_jobqueue import SLURMCluster
from distributed.security import Security

import fiji_poreseg as fp
from fiji_poreseg.cli import terminal_progress


def encrypted() -> Security:
    """Certificates for this run: only who has them may talk to scheduler and workers."""
    made = Security.temporary()
    dask.config.set(
        {
            "distributed.comm.tls.ca-file": made.tls_ca_file,
            "distributed.comm.tls.client.cert": made.tls_client_cert,
            "distributed.comm.tls.client.key": made.tls_client_key,
        }
    )
    return made


def main() -> None:
    """Ask for jobs and segment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stack", metavar="STACK", type=Path, help="on a disk that all nodes see")
    parser.add_argument("--model", required=True, help="a .poreseg file, or pretrained")
    parser.add_argument("--output", type=Path, required=True, metavar="SEG")
    parser.add_argument("--jobs", type=int, default=4, help="how many; 4")
    parser.add_argument("--cores", type=int, default=8, help="cores of a job; 8")
    parser.add_argument("--memory", default="16GB", help="memory of a job; 16GB")
    parser.add_argument("--time", default="02:00:00", help="most time of a job; 02:00:00")
    parser.add_argument("--partition", help="queue of the jobs; the cluster's default")
    parser.add_argument("--interface", help="network of the nodes, such as ib0")
    given = parser.parse_args()
    with SLURMCluster(
        queue=given.partition,
        cores=given.cores,
        processes=1,
        memory=given.memory,
        walltime=given.time,
        interface=given.interface,
        security=encrypted(),
        shared_temp_directory=Path.cwd(),
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
    ) as cluster:
        cluster.adapt(minimum_jobs=given.jobs, maximum_jobs=given.jobs)
        with terminal_progress():
            fp.segment(
                given.stack.resolve(),
                model=given.model,
                output=given.output,
                scheduler=cluster.scheduler_address,
                resume=True,
            )


if __name__ == "__main__":
    main()
