"""What a macro's line names: images, overlays and models in the place of titles, or of nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fiji_poreseg.commands.spec import Command, Parameter, Role
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.rois import without_looks

_NAMED = (Role.IMAGE, Role.LABELS, Role.MODEL)


class OpenImage(Protocol):
    """An image that is open in ImageJ, however it is reached."""

    @property
    def title(self) -> str:
        """What its window is called."""

    @property
    def id(self) -> str:
        """ImageJ's number of it, which tells images of one title apart."""

    def stack(self, parameter: str) -> Any:
        """The image as a stack; `parameter` is the name to use in an error."""

    def overlay(self) -> Sequence[Any]:
        """The selections of its overlay, as `roifile.ImagejRoi`."""


def resolve(
    command: Command[..., Any],
    given: Mapping[str, object],
    images: Sequence[OpenImage],
    current: OpenImage | None,
    last_model: object,
) -> tuple[dict[str, object], str | None]:
    """Put images, overlays and models in the place of their names, or of nothing.

    Parameters
    ----------
    command
        The command.
    given
        The options of the macro's line, or of the dialog. An empty image, overlay or model
        counts as left out: so ImageJ's recorder writes the empty fields of a dialog.
    images
        The open images.
    current
        The current one of them.
    last_model
        The model trained last in this session, or None.

    Returns
    -------
    tuple
        Arguments for the command, and the title of the image that its first parameter
        stands for, if it stands for one.
    """
    named = {name for name, p in command.parameters.items() if p.info.role in _NAMED}
    given = {name: value for name, value in given.items() if value or name not in named}
    raw: dict[str, object] = dict(given)
    image = title = None
    for position, parameter in enumerate(command.parameters.values()):
        name, role = parameter.name, parameter.info.role
        first = position == 0 and role is Role.IMAGE
        found = None
        if role in (Role.IMAGE, Role.LABELS) and name in given:
            found = _find(name, str(given[name]), images)
        elif first:
            found = _check_current(name, current)
        elif role is Role.LABELS:
            _add_overlay(raw, parameter, image)
        elif role is Role.MODEL and parameter.required and name not in given:
            raw[name] = _check_model(name, last_model)
        if found is not None:
            raw[name] = found.stack(name)
        if first:
            image = found
            title = Path(str(given[name])).name if found is None else found.title
    return raw, title


def result_title(suffix: str, source: str | None) -> str:
    """The title of a result: the image's, without a file's ending, and what it is."""
    if source is None:
        return suffix
    stem, dot, extension = source.rpartition(".")
    named_as_file = dot and stem and extension.isalnum() and len(extension) <= 5
    return f"{stem if named_as_file else source}-{suffix}"


def _add_overlay(raw: dict[str, object], parameter: Parameter, image: OpenImage | None) -> None:
    drawn = [] if image is None else image.overlay()
    selections = without_looks(drawn)
    if selections:
        raw[parameter.name] = selections
    elif parameter.required:
        raise ParameterError(
            parameter.name,
            "is needed, since the image's overlay holds only what suggest marked to look at"
            if drawn
            else "is needed, since the image has no overlay",
            "left out",
            f"Add selections to the overlay, or give {parameter.name}=[title or path].",
        )


def _check_model(name: str, model: object) -> object:
    if model is None:
        raise ParameterError(
            name,
            "is needed, since no model was trained in this session",
            "left out",
            f"Train one first, or give {name}=[path] or {name}=pretrained.",
        )
    return model


def _check_current(parameter: str, image: OpenImage | None) -> OpenImage:
    if image is None:
        raise ParameterError(
            parameter,
            "is needed, since no image is open",
            "left out",
            f"Open one first, or give {parameter}=[title or path].",
        )
    return image


def _find(parameter: str, name: str, images: Sequence[OpenImage]) -> OpenImage | None:
    """Find the open image of that title or id; None where it is the path of a file.

    Raises
    ------
    ParameterError
        If it is neither, or several images carry the title.
    """
    found = [image for image in images if image.title == name]
    found = found or [image for image in images if image.id == name]
    if len(found) > 1:
        ids = ", ".join(image.id for image in found)
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
    titles = "; ".join(image.title for image in images)
    raise ParameterError(
        parameter,
        "must be the title of an open image or the path of a file",
        name,
        f"Open images: {titles}." if titles else "No image is open.",
    )
