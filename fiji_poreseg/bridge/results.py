"""What ImageJ shows of a command's result: images, the Results table, lines in the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jpype
import xarray as xr

from fiji_poreseg.bridge.images import to_imageplus
from fiji_poreseg.bridge.inputs import open_images
from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.bridge.overlays import is_look, place
from fiji_poreseg.commands.inputs import result_title
from fiji_poreseg.commands.spec import Box, Presentation


def show(presentation: Presentation, source: str | None) -> None:
    """Show a result: lines in the log, rows in Results, images with the last one current."""
    for line in presentation.lines:
        jclass("ij.IJ").log(line)
    if presentation.rows:
        _fill_results(presentation.rows)
    if presentation.boxes and source is not None:
        _draw(presentation.boxes, source)
    for suffix, image in presentation.images.items():
        _show_image(image, suffix, source)


def _show_image(image: object, suffix: str, source: str | None) -> None:
    if not isinstance(image, xr.DataArray):
        raise TypeError(f"{suffix} is no DataArray: {type(image).__name__}")
    title = result_title(suffix, source)
    for older in open_images():
        # The newest result has the plain title, so that a macro can count on it.
        if str(older.getTitle()) == title:
            older.setTitle(jclass("ij.WindowManager").getUniqueName(title))
    to_imageplus(image.rename(title)).show()


def _draw(boxes: Sequence[Box], title: str) -> None:
    """Put regions to look at into an image's overlay, in the place of earlier ones."""
    image = next((i for i in reversed(open_images()) if str(i.getTitle()) == title), None)
    if image is None:  # it was given as a file
        return
    overlay = image.getOverlay() or jclass("ij.gui.Overlay")()
    for number in reversed(range(overlay.size())):
        if is_look(overlay.get(number)):
            overlay.remove(number)
    for box in boxes:
        roi = jclass("ij.gui.Roi")(box.x, box.y, box.width, box.height)
        roi.setName(box.name)
        roi.setStrokeColor(jclass("java.awt.Color").YELLOW)
        place(roi, image, box.index)
        overlay.add(roi)
    image.setOverlay(overlay)


def _fill_results(rows: Sequence[Mapping[str, object]]) -> None:
    """Replace ImageJ's Results table."""
    table = jclass("ij.measure.ResultsTable").getResultsTable()
    table.reset()
    for row in rows:
        table.incrementCounter()
        for column, value in row.items():
            _set_cell(table, str(column), value)
    table.show("Results")


def _set_cell(table: Any, column: str, value: object) -> None:
    if isinstance(value, str):
        table.addValue(column, value)
    else:
        number = float("nan") if value is None else float(value)  # type: ignore[arg-type]
        table.addValue(column, jpype.JDouble(number))
