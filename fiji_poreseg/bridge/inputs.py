"""What a macro names: open images, overlays and models in the place of titles, or of nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import roifile

from fiji_poreseg.bridge.images import to_xarray
from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.commands.spec import Command, Parameter, Role
from fiji_poreseg.errors import ParameterError


def resolve(
    command: Command[..., Any], given: Mapping[str, object], last_model: object
) -> tuple[dict[str, object], str | None]:
    """Put images, overlays and models in the place of their names, or of nothing.

    Parameters
    ----------
    command
        The command.
    given
        The options of the macro's line, or of the dialog.
    last_model
        The model trained last in this session, or None.

    Returns
    -------
    tuple
        Arguments for the command, and the title of the image that its first parameter
        stands for, if it stands for one.
    """
    raw: dict[str, object] = dict(given)
    image = title = None
    for position, parameter in enumerate(command.parameters.values()):
        name, role = parameter.name, parameter.info.role
        first = position == 0 and role is Role.IMAGE
        found = None
        if role in (Role.IMAGE, Role.LABELS) and name in given:
            found = _find_image(name, str(given[name]))
        elif first:
            found = _current_image(name)
        elif role is Role.LABELS:
            _add_overlay(raw, parameter, image)
        elif role is Role.MODEL and parameter.required and name not in given:
            raw[name] = _check_model(name, last_model)
        if found is not None:
            raw[name] = to_xarray(found, parameter=name)
        if first:
            image = found
            title = Path(str(given[name])).name if found is None else str(found.getTitle())
    return raw, title


def _add_overlay(raw: dict[str, object], parameter: Parameter, image: Any) -> None:
    overlay = None if image is None else image.getOverlay()
    if overlay is not None and overlay.size():
        raw[parameter.name] = [_to_roifile(roi) for roi in overlay.toArray()]
    elif parameter.required:
        raise ParameterError(
            parameter.name,
            "is needed, since the image has no overlay",
            "left out",
            f"Add selections to the overlay, or give {parameter.name}=[title or path].",
        )


def _check_model(name: str, model: object) -> object:
    if model is None:
        raise ParameterError(
            name,
            "is needed, since no model was trained in this session",
            "left out",
            f"Train one first, or give {name}=[path].",
        )
    return model


def open_images() -> list[Any]:
    """The images that are open in ImageJ, the oldest first."""
    manager = jclass("ij.WindowManager")
    return [manager.getImage(int(number)) for number in manager.getIDList() or ()]


def _current_image(parameter: str) -> Any:
    image = jclass("ij.WindowManager").getCurrentImage()
    if image is None:
        raise ParameterError(
            parameter,
            "is needed, since no image is open",
            "left out",
            f"Open one first, or give {parameter}=[title or path].",
        )
    return image


def _find_image(parameter: str, name: str) -> Any:
    """Find the open image of that title or id; None where it is the path of a file.

    Raises
    ------
    ParameterError
        If it is neither, or several images carry the title.
    """
    images = open_images()
    found = [image for image in images if str(image.getTitle()) == name]
    found = found or [image for image in images if str(image.getID()) == name]
    if len(found) > 1:
        ids = ", ".join(str(image.getID()) for image in found)
        raise ParameterError(
            parameter,
            f"must name one image, and {len(found)} open images have that title",
            name,
            f"Rename one, or give the id: {ids}.",
        )
    if found:
        return found[0]
    if Path(name).expanduser().exists():
        return None
    titles = "; ".join(str(image.getTitle()) for image in images)
    raise ParameterError(
        parameter,
        "must be the title of an open image or the path of a file",
        name,
        f"Open images: {titles}." if titles else "No image is open.",
    )


def _to_roifile(roi: Any) -> roifile.ImagejRoi:
    """Copy an overlay's selection with its name, group and position."""
    encoded = jclass("ij.io.RoiEncoder").saveAsByteArray(roi)
    return roifile.ImagejRoi.frombytes(bytes(np.asarray(encoded).astype(np.uint8)))
