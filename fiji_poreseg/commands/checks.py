"""What commands check before they start: images that belong together, files to be written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from fiji_poreseg import files
from fiji_poreseg import model as models
from fiji_poreseg.errors import ParameterError, in_short
from fiji_poreseg.measurement import Confusion, confusion_of_scores
from fiji_poreseg.model import Model
from fiji_poreseg.resunet import NEIGHBOURS, NONE, PRETRAINED, ResUNetModel, pretrained
from fiji_poreseg.rois import labels_from
from fiji_poreseg.stack import DEFAULT_CLASSES, as_labels, as_stack, check_indices, to_dataarray


def as_segmentation(
    image: object, classes: Sequence[str] | None, mask_foreground: str = "solid"
) -> xr.DataArray:
    """A segmentation, its classes named: by `classes`, else by itself, else pore and solid."""
    found = to_dataarray(image)
    named = classes or found.attrs.get("classes") or DEFAULT_CLASSES
    labels = as_labels(
        found, found, classes=named, mask_foreground=mask_foreground, parameter="image"
    )
    return labels.assign_attrs(found.attrs | {"classes": tuple(named)}).rename(found.name)


def as_corrections(
    corrections: object, stack: xr.DataArray, classes: Sequence[str]
) -> xr.DataArray | None:
    """Labels made by hand that belong to a stack, 0 where there is none."""
    if corrections is None:
        return None
    return labels_from(
        corrections, stack, classes=classes, parameter="corrections", allow_mask=False
    )


def read_scores(path: Path, segmentation: xr.DataArray) -> Confusion:
    """How often either class is found right, from the scores that `evaluate` wrote."""
    classes = segmentation.attrs["classes"]
    if len(classes) != 2:
        raise ParameterError(
            "scores",
            "can correct the porosity of two classes only",
            f"given with the classes {', '.join(classes)}",
            "Leave it out.",
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows, scored = content["slices"], content.get("classes", classes)
        if len(scored) != 2:
            raise ValueError(f"it scores {len(scored)} classes, not two")
        made = confusion_of_scores(rows)
    except files.DAMAGE_ERRORS as error:
        raise ParameterError(
            "scores",
            # Not beside the path: what is beyond a certain length is cut off there.
            f"must name a file of scores that evaluate wrote ({in_short(error)})",
            str(path),
            "Write one with evaluate, on slices that the model was not trained on: json=FILE.",
        ) from error
    if not rows:
        raise ParameterError("scores", "must hold slices", f"none in {path}", "Evaluate some.")
    return made


def called(image: object) -> str:
    """What a user calls an image that was given: its file, its title, or nothing."""
    if isinstance(image, str | Path):
        return str(image)
    return str(getattr(image, "name", None) or "")


def as_probability(image: object, segmentation: xr.DataArray) -> xr.DataArray | None:
    """The probability that belongs to a segmentation: P(solid), or one image per class."""
    if image is None:
        return None
    if isinstance(image, xr.DataArray) and "class" in image.dims:
        image = image.rename({"class": "c"})
    probability = to_dataarray(image, "probability")
    _check_shape(probability, segmentation, "probability")
    classes = segmentation.attrs["classes"]
    expected = len(classes) if len(classes) > 2 else 1
    found = probability.sizes.get("c", 1)
    if found != expected:
        raise ParameterError(
            "probability",
            f"must have {expected} channel(s), for the classes {', '.join(classes)}",
            f"{found}",
            "Give the probability that segment wrote beside this segmentation.",
        )
    values = probability.to_numpy()
    if values.dtype.kind != "f" or np.nanmin(values) < 0 or np.nanmax(values) > 1:
        raise ParameterError(
            "probability",
            "must hold numbers from 0 to 1 (32 bit)",
            f"{values.dtype} from {np.nanmin(values):g} to {np.nanmax(values):g}",
            "Give the probability that segment wrote, not one converted to 8 bit.",
        )
    return probability if expected > 1 or "c" not in probability.dims else probability.isel(c=0)


def as_raw(image: object, segmentation: xr.DataArray) -> xr.DataArray | None:
    """The raw stack that belongs to a segmentation; of several detectors the first."""
    if image is None:
        return None
    stack = as_stack(image, parameter="stack")
    _check_shape(stack, segmentation, "stack")
    return stack.isel(c=0) if "c" in stack.dims else stack


def _check_shape(image: xr.DataArray, like: xr.DataArray, parameter: str) -> None:
    if image.shape[-3:] != like.shape:
        raise ParameterError(
            parameter,
            f"must have the shape of the segmentation, {like.shape} (z, y, x)",
            f"shape {image.shape}",
            "Give the images that belong together.",
        )


def all_or(indices: tuple[int, ...] | None, stack: xr.DataArray) -> Sequence[int]:
    """The slices named, checked, or all."""
    return range(stack.sizes["z"]) if indices is None else check_indices(indices, stack)


def check_file(suffix: str, **outputs: Path | None) -> None:
    """Refuse a file that could not be written, before anything is computed."""
    for parameter, path in outputs.items():
        if path is not None:
            files.check_output(path, parameter, suffixes=(suffix,))


def check_resume(resume: bool, parameter: str, path: Path | None) -> None:
    """Refuse to resume where nothing says what."""
    if resume and path is None:
        raise ParameterError(
            "resume",
            f"needs `{parameter}`, the file beside which it is kept what is done",
            f"given without {parameter}",
            f"Give {parameter} as well.",
        )


def resunet_to_start_from(
    start: Path | None,
    network: str,
    context: str,
    stack: xr.DataArray,
    classes: Sequence[str],
    milling: str,
) -> ResUNetModel | None:
    """The ResUNet whose weights a training starts from, None for random ones.

    Where nothing is said, it is the one that ships with the package, if it has the size, the
    context, the detectors and the number of classes that are asked for. It looks at this stack's
    deeper slices, whichever way its own was milled.
    """
    if start is None:
        alike = network == "base" and context == NEIGHBOURS
        fits = alike and "c" not in stack.dims and len(classes) == 2
        start = Path(PRETRAINED if fits else NONE)
    if start == Path(NONE):
        return None
    if start == Path(PRETRAINED):
        shipped = pretrained()
        # What its two classes are called does not matter: they are learnt anew.
        fits = len(classes) == len(shipped.card.classes)
        names = tuple(classes) if fits else shipped.card.classes
        return replace(shipped, card=replace(shipped.card, classes=names, milling=milling))
    try:
        found = models.load(start)
    except ParameterError as error:
        raise ParameterError("start", error.rule, error.value, error.hint) from error
    if not isinstance(found, ResUNetModel):
        raise ParameterError(
            "start", "must be a ResUNet's file", f"another model in {start}", "Give start=none."
        )
    return replace(found, card=replace(found.card, milling=milling))


def check_images(**outputs: Path | None) -> None:
    """Refuse images that could not be written, or would overwrite each other."""
    taken: dict[Path, str] = {}
    for parameter, path in outputs.items():
        if path is None:
            continue
        files.check_output(path, parameter)
        if path.resolve() in taken:
            raise ParameterError(
                parameter,
                f"must be another file than `{taken[path.resolve()]}`",
                str(path),
                "Choose another name.",
            )
        taken[path.resolve()] = parameter


def check_curve(path: Path | None) -> None:
    """Refuse a PNG that could not be written, or whose CSV beside it could not."""
    if path is not None:
        check_file(".png", curve=path)
        check_file(".csv", curve=path.with_suffix(".csv"))


def prediction_options(model: Model, precision: str, augment: bool) -> dict[str, Any]:
    """What `predict` takes beside the slices; refuses what only a ResUNet can do."""
    if isinstance(model, ResUNetModel):
        return {"precision": precision, "augment": augment}
    if augment:
        raise ParameterError(
            "augment",
            "needs a ResUNet",
            "given with a forest, whose features are the same in all directions",
            "Leave it out.",
        )
    return {}


def make_folder(folder: Path) -> None:
    """Make the folder that images are to be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(
            "output",
            f"must be a folder that can be made ({error.strerror or error})",
            str(folder),
            "Choose a folder in a place where you may write.",
        ) from error
    files.check_output(folder / "stack.tif", "output")


def write_json(path: Path, content: object) -> None:
    """Write figures, whole or not at all."""
    files.write_text(path, json.dumps(content, indent=1) + "\n", parameter="json")
