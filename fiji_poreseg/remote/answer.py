"""The answer to a request: the command is run, and what it shows written down for the plugin."""

from __future__ import annotations

import textwrap
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import roifile
import tifffile
import xarray as xr

from fiji_poreseg import __version__, files
from fiji_poreseg.commands.catalog import CATALOG
from fiji_poreseg.commands.inputs import resolve, result_title
from fiji_poreseg.commands.macro import parse_options
from fiji_poreseg.commands.spec import Command, Presentation
from fiji_poreseg.errors import EngineError, ParameterError, PoreSegWarning, in_words, is_foreseen
from fiji_poreseg.model import Model
from fiji_poreseg.progress import reporting
from fiji_poreseg.remote.folder import Folder, decode, encode

_CLASSES_PROPERTY = "poreseg_classes"
_LINE_LENGTH = 90
_SHORTEST_PAUSE_S = 0.2


class Request(NamedTuple):
    """What the plugin was asked for, and what is open in ImageJ."""

    title: str
    options: str
    model: Path | None
    current: str
    images: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An image that is open in ImageJ, and is saved to the folder when it is needed."""

    id: str
    title: str
    folder: Folder

    def stack(self, parameter: str) -> xr.DataArray:
        """The image as a stack."""
        path = self.folder.fetch(self.id)
        metadata = self._metadata()
        frames = metadata.get("frames", 1)
        if frames > 1:
            raise ParameterError(
                parameter,
                "must be a stack of slices, without a time axis",
                f"{self.title}, with {frames} frames",
                "If they are slices, swap frames and slices in Image > Properties.",
            )
        try:
            stack = files.read(path, parameter=parameter).rename(self.title)
        except ParameterError as error:
            # The file is not the user's.
            said = str(error.value).replace(str(path), self.title)
            raise ParameterError(error.parameter, error.rule, said, error.hint) from error
        classes = metadata.get("Properties", {}).get(_CLASSES_PROPERTY)
        return stack.assign_attrs({"classes": tuple(classes.split(","))} if classes else {})

    def overlay(self) -> list[roifile.ImagejRoi]:
        """The selections of its overlay."""
        found = self._metadata().get("Overlays", [])
        packed = [found] if isinstance(found, bytes) else found
        return [roifile.ImagejRoi.frombytes(content) for content in packed]

    def _metadata(self) -> dict[str, Any]:
        with tifffile.TiffFile(self.folder.fetch(self.id)) as tiff:
            return tiff.imagej_metadata or {}


class FolderReporter:
    """Writes progress down for ImageJ's status line, at most five times a second."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._last = float("-inf")

    def update(self, description: str, done: int, total: int) -> None:
        """Tell that `done` of `total` units of `description` are finished."""
        now = time.monotonic()
        if done < total and now - self._last < _SHORTEST_PAUSE_S:
            return
        self._last = now
        self._folder.tell("progress.txt", f"{encode(description)}\n{done}\n{total}\n")


def answer(folder: Folder) -> str:
    """Run the command that is asked for.

    Parameters
    ----------
    folder
        Holds ``request.txt``; takes the images of the result.

    Returns
    -------
    str
        What the plugin shows: a word, and its values, each in a line of its own.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PoreSegWarning)
        entries = _run_or_say_why(folder)
    notes = [
        ("line", f"Note: {warning.message}")
        for warning in caught
        if issubclass(warning.category, PoreSegWarning)
    ]
    return "".join(_written(entry) for entry in [*notes, *entries])


def _run_or_say_why(folder: Folder) -> list[tuple[str, ...]]:
    request = _read(folder)
    try:
        return list(_run(request, folder))
    except Exception as error:  # whatever it is, the user must hear of it
        expected = is_foreseen(error)
        said = in_words(error) if expected else error or type(error).__name__
        message = f"{request.title}: {said}"
        wrapped = textwrap.fill(
            message, _LINE_LENGTH, break_long_words=False, break_on_hyphens=False
        )
        details = [] if expected else [("line", traceback.format_exc())]
        return [*details, ("error", wrapped)]


def _read(folder: Folder) -> Request:
    title, options, model, current, *images = folder.lines("request.txt")
    path = decode(model)
    return Request(
        decode(title),
        decode(options),
        None if path == "null" else Path(path),
        current,
        tuple(zip(images[::2], map(decode, images[1::2]), strict=True)),
    )


def _run(request: Request, folder: Folder) -> Iterator[tuple[str, ...]]:
    command = _command(request.title)
    images = [RemoteImage(number, title, folder) for number, title in request.images]
    current = next((image for image in images if image.id == request.current), None)
    given = parse_options(request.options)
    raw, title = resolve(command, given, images, current, request.model)
    with reporting(FolderReporter(folder)):
        result = command.run(raw)
    if isinstance(result, Model):
        # A copy of its own, since the user's file may be gone when a later line wants the model.
        kept = request.model or folder.path.with_suffix(".poreseg")
        result.save(kept)
        yield "model", str(kept)
    presentation = command.present(result)
    yield from _entries(presentation, title, folder)
    shown = [image.id for image in images if image.title == title]
    for number, box in enumerate(presentation.boxes if shown else ()):
        place = f"{box.index},{box.x},{box.y},{box.width},{box.height}"
        yield "box", shown[-1], str(number), place, box.name


def _command(title: str) -> Command[..., Any]:
    for command in CATALOG.values():
        if command.title == title:
            return command
    raise EngineError(
        f"fiji-poreseg {__version__} has no such command. Run `fiji-poreseg install` again."
    )


def _entries(
    presentation: Presentation, source: str | None, folder: Folder
) -> Iterator[tuple[str, ...]]:
    for line in presentation.lines:
        yield "line", line
    for number, row in enumerate(presentation.rows):
        for column, value in row.items():
            kind = "text" if isinstance(value, str) else "number"
            shown = "NaN" if value is None else str(value)
            yield kind, str(number), str(column), shown
    for number, (suffix, image) in enumerate(presentation.images.items()):
        if not isinstance(image, xr.DataArray):
            raise TypeError(f"{suffix} is no DataArray: {type(image).__name__}")
        file = f"result{number}.tif"
        files.write(folder.path / file, image)
        classes = ",".join(image.attrs.get("classes", ()))
        yield "image", file, result_title(suffix, source), classes


def _written(entry: tuple[str, ...]) -> str:
    return "".join(f"{encode(part)}\n" for part in entry)
