"""The images of a running ImageJ, as what a macro's line may name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import roifile
import xarray as xr

from fiji_poreseg.bridge.images import to_xarray
from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.bridge.overlays import selections, to_roifile
from fiji_poreseg.commands import inputs
from fiji_poreseg.commands.spec import Command


def resolve(
    command: Command[..., Any], given: Mapping[str, object], last_model: object
) -> tuple[dict[str, object], str | None]:
    """Put ImageJ's images and overlays in the place of their names; see `commands.inputs`."""
    current = jclass("ij.WindowManager").getCurrentImage()
    return inputs.resolve(
        command,
        given,
        [_OpenImage(image) for image in open_images()],
        None if current is None else _OpenImage(current),
        last_model,
    )


def open_images() -> list[Any]:
    """The images that are open in ImageJ, the oldest first."""
    manager = jclass("ij.WindowManager")
    return [manager.getImage(int(number)) for number in manager.getIDList() or ()]


class _OpenImage:
    """An ImagePlus, as `commands.inputs.OpenImage`."""

    def __init__(self, image: Any) -> None:
        self._image = image

    @property
    def title(self) -> str:
        return str(self._image.getTitle())

    @property
    def id(self) -> str:
        return str(self._image.getID())

    def stack(self, parameter: str) -> xr.DataArray:
        return to_xarray(self._image, parameter=parameter)

    def overlay(self) -> Sequence[roifile.ImagejRoi]:
        return [to_roifile(roi) for roi in selections(self._image)]
