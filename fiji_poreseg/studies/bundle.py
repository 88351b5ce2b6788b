"""`run.json`: all that it takes to run a study again."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import xarray as xr

from fiji_poreseg.stack import spacing_nm
from fiji_poreseg.studies.plan import Plan, Settings
from fiji_poreseg.studies.trials import Result

_PACKAGES = (
    "fiji-poreseg",
    "numpy",
    "scipy",
    "scikit-learn",
    "scikit-image",
    "numba",
    "tensorflow",
    "keras",
    "openvino",
    "matplotlib",
)


def describe_run(
    stack: xr.DataArray,
    truth: xr.DataArray,
    settings: Settings,
    plan: Plan,
    results: Sequence[Result],
    shared: Mapping[str, Any],
    replay: Mapping[str, str],
) -> dict[str, Any]:
    """What stands in ``run.json``, in JSON's types.

    Parameters
    ----------
    stack, truth, settings, plan, results
        The study.
    shared
        What all trainings share, with digests of the images.
    replay
        ``command_line`` and ``macro_line`` that do the same.
    """
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        # OpenVINO is not made for every processor.
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        **replay,
        "versions": versions,
        "platform": f"{platform.system()} {platform.machine()}",
        "byteorder": sys.byteorder,
        "image": {
            "name": str(stack.name),
            "shape": list(stack.shape),
            "dtype": str(stack.dtype),
            "spacing_nm": list(spacing_nm(stack)),
            "sha256": shared["image"],
        },
        "truth": {
            "name": str(truth.name),
            "labelled_slices": len(plan.labelled),
            "sha256": shared["truth"],
        },
        "settings": {
            name: value for name, value in shared.items() if name not in ("image", "truth")
        }
        | {
            "strategies": list(settings.strategies),
            "counts": list(settings.counts),
            "models": list(settings.models),
            "repeats": settings.repeats,
            "folds": settings.folds,
        },
        "seeds": sorted({trial.seed for trial in plan.trials}),
        "indices": {str(place): index for place, index in plan.places.items()},
        "figure2_index": plan.figure2_index,
        "unseen_slices": len(plan.unseen),
        "trials": [
            {
                "name": result.trial.title,
                "strategy": result.trial.arm.strategy,
                "count": result.trial.arm.count,
                "block": result.trial.fold or None,
                "model": result.trial.model,
                "repeat": result.trial.repeat,
                "seed": result.trial.seed,
                "training_indices": list(result.trial.training),
                "seconds": None if result.seconds is None else round(result.seconds, 1),
            }
            for result in results
        ],
    }
