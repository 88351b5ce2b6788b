"""What a surface shows of each command's result: images, a table, a few lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace

import numpy as np
import xarray as xr

from fiji_poreseg.audit import UNSEEN
from fiji_poreseg.automatic import Automatic
from fiji_poreseg.commands.spec import Box, Presentation
from fiji_poreseg.correction import Correction
from fiji_poreseg.evaluation import Evaluation
from fiji_poreseg.forest import ForestModel
from fiji_poreseg.measurement import Measurement
from fiji_poreseg.model import Model
from fiji_poreseg.phantoms import Phantom
from fiji_poreseg.rois import LOOK
from fiji_poreseg.segmentation import Segmentation
from fiji_poreseg.stack import PORE, spacing_nm
from fiji_poreseg.studies import Study
from fiji_poreseg.suggestion import Suggestion

# As many slices are named in a line.
_NAMED = 20
_SCORES = ("accuracy", "loss", "majority_accuracy", "dice_solid", "iou_solid")


def phantom(made: Phantom) -> Presentation:
    """Both images, the stack in front."""
    porosity = float((made.truth == PORE).mean())
    return Presentation(
        images={"phantom-truth": made.truth, "phantom": made.stack},
        lines=[f"Phantom of {_shape(made.stack)} voxels, porosity {porosity:.4f}"],
    )


def converted(stack: xr.DataArray) -> Presentation:
    """A line: how large it is."""
    z, y, x = spacing_nm(stack)
    return Presentation(
        lines=[f"{stack.name}: {_shape(stack)} voxels of {z:g} x {y:g} x {x:g} nm, {stack.dtype}"]
    )


def model(trained: Model) -> Presentation:
    """A line: what it was trained on, and what was measured meanwhile."""
    card = trained.card
    scores = [
        f"{name.replace('_', ' ')} {_number(value)}"
        for name, value in card.scores.items()
        if value is not None
    ]
    return Presentation(
        lines=[f"Trained on slices {listed(card.training_indices)}: {', '.join(scores)}"]
    )


def forest(trained: ForestModel) -> Presentation:
    """The line of every model, and how much each feature mattered."""
    return replace(model(trained), rows=importances(trained))


def importances(trained: ForestModel) -> list[dict[str, object]]:
    """A row for each feature, the most important first."""
    return [
        {"feature": name, "importance": importance}
        for name, importance in trained.importances.items()
    ]


def indices(chosen: tuple[int, ...]) -> Presentation:
    """The indices, comma separated for a shell, and in a table for a macro."""
    return Presentation(
        rows=[{"index": index, "slice": index + 1} for index in chosen], numbers=listed(chosen)
    )


def segmentation(made: Segmentation) -> Presentation:
    """The images that are made, the segmentation in front."""
    images = {name: getattr(made, name) for name in reversed(made.made)}
    return Presentation(
        images=images,
        lines=[f"{made.segmentation.name}: {_shape(made.segmentation)} voxels"],
    )


def labels(written: xr.DataArray) -> Presentation:
    """A row for each slice that holds labels: how many pixels of each class."""
    classes = written.attrs["classes"]
    rows = []
    for index, plane in enumerate(written.to_numpy()):
        counts = np.bincount(plane.ravel(), minlength=len(classes) + 1)[1:].tolist()
        if any(counts):
            rows.append({"index": index, **dict(zip(classes, counts, strict=True))})
    return Presentation(rows=rows, lines=[f"Labels in {len(rows)} slices"])


def correction(made: Correction) -> Presentation:
    """The corrected segmentation, and a row for each slice that was corrected."""
    return _corrected(made, "corrected", "Corrected")


def undone(made: Correction) -> Presentation:
    """The segmentation before the last correction, and a row for each slice that it changed."""
    return _corrected(made, "undone", "Taken back in")


def _corrected(made: Correction, suffix: str, done: str) -> Presentation:
    total = made.total
    return Presentation(
        images={suffix: made.segmentation},
        rows=[asdict(change) for change in made.changes],
        lines=[
            f"{done} {len(made.changes)} slices: {total['pore_to_solid']} pixels from pore to "
            f"solid, {total['solid_to_pore']} from solid to pore; nobody has looked at "
            f"{made.states.count(UNSEEN)} of {len(made.states)} slices"
        ],
    )


def evaluation(made: Evaluation) -> Presentation:
    """A row for each slice, the best global threshold's scores beside, and the means."""
    rows: list[dict[str, object]] = [asdict(score) for score in made.slices]
    lines = [f"Mean over {len(rows)} slices: {_scores(made.mean)}"]
    if made.baseline is not None:
        grey = made.baseline.threshold.grey
        lines.append(f"Best global threshold ({grey:g}): {_scores(made.baseline.mean)}")
        for row, score in zip(rows, made.baseline.slices, strict=True):
            row["threshold_accuracy"] = score.accuracy
            row["threshold_dice_solid"] = score.dice_solid
    if made.pore_back is not None:
        errors = [f"{name} {_number(entry['error'])}" for name, entry in made.pore_back.items()]
        lines.append(f"Error inside: {', '.join(errors)}".replace("_", "-"))
    return Presentation(rows=rows, lines=lines)


def automatic(made: Automatic) -> Presentation:
    """The images where there are some, what to label next, and what may be expected."""
    images = {
        name: image
        for name, image in (("probability", made.probability), ("segmentation", made.segmentation))
        if image is not None
    }
    lines = [f"Alarm: {alarm}" for alarm in made.alarms]
    if made.alarms and made.to_label:
        lines.append(f"Not to be trusted. Label more slices, such as {listed(made.to_label)}")
    elif made.alarms:
        lines.append("Not to be trusted. Label more in the labelled slices: no others hold data")
    if made.accuracy is not None:
        lines.append(f"Expected accuracy: {made.accuracy:.4f}")
    if made.accuracy_by_labels is not None:
        lines.append(f"By the labels alone, drawn where it is easy: {made.accuracy_by_labels}")
    if made.porosity is not None:
        lines.append(f"Porosity: {made.porosity}")
    what = "Models, images and report" if images else "The report and what was trained"
    lines.append(f"{what} are in {made.folder.resolve()}")
    return Presentation(
        images=images,
        rows=[{"index": index, "slice": index + 1} for index in made.to_label],
        lines=lines,
    )


def measurement(made: Measurement) -> Presentation:
    """A row for each slice, and the whole."""
    lines = [f"Porosity of the whole: {made.porosity:.4f}"]
    if made.corrected is not None:
        lines.append(f"Corrected by the scores: {made.corrected}")
    return Presentation(rows=[asdict(entry) for entry in made.slices], lines=lines)


def suggestion(made: Suggestion) -> Presentation:
    """A row for each slice to look at, its regions in the overlay, and the alarms."""
    rows = [
        {"index": one.index, "slice": one.index + 1, "score": one.score, "why": one.why}
        for one in made.slices
    ]
    return Presentation(rows=rows, lines=_alarms(made), boxes=boxes(made))


def boxes(made: Suggestion) -> list[Box]:
    """The regions to look at, in the order of the slices."""
    return [
        Box(one.index, r.x, r.y, r.width, r.height, f"{LOOK}{rank}, {r.doubt:.0%} may be wrong")
        for rank, one in enumerate(made.slices, 1)
        for r in one.regions
    ]


def _alarms(made: Suggestion) -> list[str]:
    """A line for each thing that lies outside of the model's training, and in which slices."""
    slices: dict[str, list[int]] = {}
    for index, found in made.alarms.items():
        for one in found:
            slices.setdefault(str(one), []).append(index)
    looked_at = len(made.looked_at)
    return [
        f"Alarm: {len(indices)} of {looked_at} slices are {what}: "
        + listed(indices[:_NAMED])
        + (", …" if len(indices) > _NAMED else "")
        for what, indices in slices.items()
    ]


def study(made: Study) -> Presentation:
    """The table's means, and how many slices are enough."""
    return Presentation(
        rows=made.table,
        lines=[*made.verdicts, f"Report, tables and figures are in {made.folder.resolve()}"],
    )


def listed(numbers: Iterable[int]) -> str:
    """Numbers with commas between them."""
    return ",".join(map(str, numbers))


def _shape(stack: xr.DataArray) -> str:
    return " x ".join(str(stack.sizes[axis]) for axis in ("z", "y", "x"))


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "none" if value is None else str(value)


def _scores(scores: Mapping[str, object]) -> str:
    return ", ".join(
        f"{name.replace('_', ' ')} {_number(scores[name])}"
        for name in _SCORES
        if scores[name] is not None
    )
