"""From a few labels to a checked segmentation, with no hand in between.

A forest learns from the labels. On slices without labels, it and the ResUNet that ships with the
package label what is likeliest by both, solid that may be a pore-back left out; the ResUNet learns
from that. The labels have no part in it: they say how good the outcome is.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fiji_poreseg import files, measurement, segmentation, suggestion
from fiji_poreseg.automatic.checking import better, unlike
from fiji_poreseg.automatic.settings import Settings
from fiji_poreseg.automatic.teaching import grow_forest, train_resunet
from fiji_poreseg.errors import ParameterError, PoreSegWarning
from fiji_poreseg.journal import check_same, read_kept
from fiji_poreseg.measurement import Estimate
from fiji_poreseg.model import Model, digest_of_slices
from fiji_poreseg.progress import part_of, track
from fiji_poreseg.slices import evenly
from fiji_poreseg.stack import check_two_classes, spacing_nm

__all__ = ["Automatic", "Settings", "run"]

FOREST, RESUNET = "forest.poreseg", "resunet.poreseg"
SEGMENTATION, PROBABILITY, REPORT = "segmentation.tif", "probability.tif", "report.json"
_LEFT = (FOREST, RESUNET, SEGMENTATION, PROBABILITY)
_REPORTED = {"alarms", "model", "accuracy", "porosity", "to_label", "files", "settings"}
_SETTINGS, _EARLIER, _START = "settings.json", "earlier.json", "start"
_CALLED = "call of auto"
# Evenly spaced slices on which the models are compared, and as many to name.
_COMPARED, _TO_LABEL = 20, 5


@dataclass(frozen=True)
class Automatic:
    """What `auto` answers with.

    Parameters
    ----------
    folder
        Where it all is.
    alarms
        Why the outcome should not be trusted, in words; empty where it may be.
    to_label
        0-based slices that are most worth labelling next, the first one first.
    accuracy
        Expected share of the pixels that are right; None where there is an alarm.
    accuracy_by_labels
        The same by the labels alone; these are drawn where it is easy. None where there is an
        alarm.
    porosity
        Of the whole stack, corrected by what the labels say is wrong; None where there is an
        alarm or there are more than two classes.
    model
        Which model made the segmentation: ``"resunet"``, or ``"pretrained"`` where the labels say
        that it is better; None where it was not made.
    segmentation, probability
        As `segment` answers with; None where an alarm stopped it before.
    """

    folder: Path
    alarms: tuple[str, ...]
    to_label: tuple[int, ...]
    accuracy: float | None = None
    accuracy_by_labels: Estimate | None = None
    porosity: Estimate | None = None
    model: str | None = None
    segmentation: xr.DataArray | None = None
    probability: xr.DataArray | None = None

    @property
    def trusted(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.alarms

    def as_json(self) -> dict[str, Any]:
        """What stands in ``report.json``."""
        return {
            "trusted": self.trusted,
            "alarms": list(self.alarms),
            "model": self.model,
            "accuracy": self.accuracy,
            "accuracy_by_labels": _written(self.accuracy_by_labels),
            "porosity": _written(self.porosity),
            "to_label": list(self.to_label),
        }


def _written(estimate: Estimate | None) -> dict[str, float | None] | None:
    return None if estimate is None else estimate._asdict()


def run(
    stack: xr.DataArray,
    labels: xr.DataArray,
    indices: Sequence[int],
    settings: Settings,
    folder: Path,
    *,
    resume: bool,
) -> Automatic:
    """Segment a stack by a few labels.

    Parameters
    ----------
    stack
        A checked stack.
    labels
        uint8 labels on its voxels, dims ``("z", "y", "x")``.
    indices
        0-based slices whose labels count.
    settings
        How.
    folder
        Where to write; it exists. What is there of an earlier call stays until this one is done,
        and then goes, also where this one made none.
    resume
        Go on where an earlier call was killed; where all is done, answer with that.

    Raises
    ------
    ParameterError
        If fewer than two classes are labelled, all slices are, another command is at work in the
        folder, or what is to be resumed was begun with other images or settings.
    """
    shared = _shared(stack, labels, indices, settings)
    with files.alone({"output": folder / REPORT}):
        work = files.begun(folder / "auto")
        if resume and _is_finished(folder, work, shared):
            # A kill after the last file was put in its place left it.
            shutil.rmtree(work, ignore_errors=True)
            return _finished(folder, shared)
        unlabelled = [index for index in range(stack.sizes["z"]) if index not in set(indices)]
        if not unlabelled:
            raise ParameterError(
                "labels",
                "must leave slices to find out about",
                f"labels in all {len(indices)} slices",
                "Train a model with train_resunet.",
            )
        named = {label for z in indices for label in np.unique(labels.isel(z=z)).tolist() if label}
        check_two_classes(sorted(named), labels.attrs["classes"])
        _open(work, folder, shared, resume=resume)
        if not (work / REPORT).exists():
            made = _make(stack, labels, indices, unlabelled, settings, work)
            there = [name for name in _LEFT if (work / name).exists()]
            report = made.as_json() | {"files": there, "settings": shared}
            files.write_text(work / REPORT, json.dumps(report, indent=1) + "\n")
        _put_in_place(work, folder)
        return _finished(folder, shared)


def _make(
    stack: xr.DataArray,
    labels: xr.DataArray,
    indices: Sequence[int],
    unlabelled: Sequence[int],
    settings: Settings,
    work: Path,
) -> Automatic:
    with part_of("Step 1 of 4, forest"):
        grown = grow_forest(stack, labels, indices, settings, work / FOREST)
        alarms = unlike(stack, grown)
    compared = evenly(range(stack.sizes["z"]), _COMPARED)

    def outcome(alarms: Sequence[str], by: Model, **more: Any) -> Automatic:
        candidates = evenly(unlabelled, _COMPARED)
        worth = suggestion.suggest(by, stack, indices, _TO_LABEL, indices=candidates, regions=0)
        to_label = tuple(one.index for one in worth.slices)
        return Automatic(work, tuple(alarms), to_label=to_label, **more)

    with warnings.catch_warnings():
        # The first step has said what there is to say of the stack.
        warnings.simplefilter("ignore", PoreSegWarning)
        if alarms and not settings.anyway:
            return outcome(alarms, grown)
        with part_of("Step 2 of 4, ResUNet"):
            trained = train_resunet(stack, labels, unlabelled, settings, grown, work / RESUNET)
        candidates = [one for one in (trained, settings.start) if one is not None]
        if trained is None:
            alarms += ("the models agree about one class only: label more of the other",)
        if not candidates or (alarms and not settings.anyway):
            return outcome(alarms, grown)
        with part_of("Step 3 of 4, checks"):
            check = better(candidates, grown, stack, labels, indices, compared, settings.start)
        alarms += check.alarms
        if alarms and not settings.anyway:
            return outcome(alarms, check.model)
        with part_of("Step 4 of 4, segmentation"):
            made = segmentation.apply(
                check.model,
                stack,
                range(stack.sizes["z"]),
                output=work / SEGMENTATION,
                probability=work / PROBABILITY,
                resume=True,
            )
            measured = measurement.measure(
                made.segmentation, range(stack.sizes["z"]), check.confusion
            )
            return outcome(
                alarms,
                check.model,
                model="resunet" if check.model is trained else "pretrained",
                accuracy=None if alarms else check.accuracy,
                accuracy_by_labels=None if alarms else check.by_labels,
                porosity=None if alarms else measured.corrected,
            )


def _shared(
    stack: xr.DataArray, labels: xr.DataArray, indices: Sequence[int], settings: Settings
) -> dict[str, Any]:
    """What must be the same where a call is gone on with, first what the rest follows from."""
    slices = range(stack.sizes["z"])
    return {
        "classes": list(labels.attrs["classes"]),
        "count": settings.count,
        "trees": settings.trees,
        "network": settings.network,
        "steps": settings.steps,
        "anyway": settings.anyway,
        "milling": settings.milling,
        "voxel_size_nm": list(spacing_nm(stack)),
        "nodata": stack.attrs.get("nodata"),
        "seed": settings.seed,
        "image": digest_of_slices(stack, track(slices, "Reading the image")),
        "labels": digest_of_slices(labels, slices),
        "indices": list(indices),
        _START: None if settings.start is None else settings.start.digest(),
    }


def _check_same(kept: Mapping[str, Any], shared: Mapping[str, Any]) -> None:
    """Refuse to go on with something else than what a call was begun with."""
    check_same(kept, {name: value for name, value in shared.items() if name != _START}, _CALLED)
    if kept.get(_START) != shared[_START]:
        # All else being the same, no parameter has changed it.
        raise ParameterError(
            "resume",
            f"needs the ResUNet that the {_CALLED} to be resumed started from",
            "with that of another version of fiji-poreseg",
            "Install the version from then, or leave resume out to start anew.",
        )


def _open(work: Path, folder: Path, shared: Mapping[str, Any], *, resume: bool) -> None:
    """Make the hidden folder in which everything is made, or find the one to go on with."""
    kept = work / _SETTINGS
    earlier = _earlier(work, folder)
    strange = [name for name in _LEFT if (folder / name).exists() and name not in earlier]
    if (folder / REPORT).exists() and _report(folder / REPORT) is None:
        strange.append(REPORT)
    if strange:
        raise ParameterError(
            "output",
            "must not be a folder that holds such files of something else, or damaged ones",
            f"{folder} with {', '.join(strange)}",
            "Name another folder, or delete them.",
        )
    if resume and kept.exists():
        _check_same(read_kept(kept, _CALLED), shared)
        return
    # Killed in here, a folder is left that says what is of earlier calls, and cannot be resumed.
    kept.unlink(missing_ok=True)
    work.mkdir(exist_ok=True)
    files.write_text(work / _EARLIER, json.dumps(earlier) + "\n")
    for left in work.iterdir():
        if left.name != _EARLIER:
            files.remove(left)
    files.write_text(kept, json.dumps(shared, indent=1) + "\n")


def _earlier(work: Path, folder: Path) -> list[str]:
    """What earlier calls left in the folder, which goes when this one is done.

    One that was killed while it put its files in place, or cleaned up, says so in its own report.
    """
    found = _json(work / _EARLIER)
    earlier = list(found) if isinstance(found, list) else []
    for place in (work / REPORT, folder / REPORT):
        earlier += (_report(place) or {"files": []})["files"]
    return [name for name in _LEFT if name in earlier and (folder / name).exists()]


def _report(place: Path) -> dict[str, Any] | None:
    """A report; None where there is none, or the file is damaged or something else's."""
    found = _json(place)
    if not isinstance(found, dict) or not found.keys() >= _REPORTED:
        return None
    ours = isinstance(found["settings"], dict) and isinstance(found["files"], list)
    return found if ours and all(name in _LEFT for name in found["files"]) else None


def _json(place: Path) -> Any:
    """What a file says; None where it says nothing, whatever the reason."""
    try:
        return json.loads(place.read_text(encoding="utf-8"))
    except files.DAMAGE_ERRORS:
        return None


def _put_in_place(work: Path, folder: Path) -> None:
    """Put what is finished in the place of what an earlier call left, the report last.

    What is killed meanwhile is gone on with: what is not in the work folder is in place already.
    """
    there, earlier = read_kept(work / REPORT, _CALLED)["files"], _earlier(work, folder)
    (folder / REPORT).unlink(missing_ok=True)
    for name in _LEFT:
        if (work / name).exists():
            (work / name).replace(folder / name)
        elif name not in there and name in earlier:
            # No older one beside a report of a call that made none.
            (folder / name).unlink(missing_ok=True)
    (work / REPORT).replace(folder / REPORT)
    shutil.rmtree(work)


def _is_finished(folder: Path, work: Path, shared: Mapping[str, Any]) -> bool:
    """Whether a report is there of this very call; of another, only where nothing is begun."""
    report = _report(folder / REPORT)
    if report is None:
        return False
    return not work.exists() or report["settings"] == json.loads(json.dumps(shared))


def _finished(folder: Path, shared: Mapping[str, Any]) -> Automatic:
    """What stands in the folder."""
    report = read_kept(folder / REPORT, _CALLED)
    _check_same(report["settings"], shared)

    def image(name: str) -> xr.DataArray | None:
        return files.read(folder / name) if report["model"] else None

    def estimate(name: str) -> Estimate | None:
        return None if report[name] is None else Estimate(**report[name])

    return Automatic(
        folder,
        tuple(report["alarms"]),
        tuple(report["to_label"]),
        report["accuracy"],
        estimate("accuracy_by_labels"),
        estimate("porosity"),
        report["model"],
        image(SEGMENTATION),
        image(PROBABILITY),
    )
