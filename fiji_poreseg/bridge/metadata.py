"""What an ImagePlus says of its pixels: calibration, labels, looks; docs/exchange.md has all."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import jpype
import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg.bridge.attributes import (
    ATTRS,
    CLASSES,
    DESCENDING,
    DETECTORS,
    LABEL_OF_ONE,
    MODES,
    RESERVED,
    as_json,
    detectors,
    others,
)
from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.colours import LABEL_COLOURS
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.stack import (
    AXES,
    DEFAULT_SPACING_NM,
    SLICE_LABEL,
    Spacing,
    make_stack,
    nm_per,
    shown_range,
    spacing_nm,
    tidy,
)

_GREYS = np.tile(np.arange(256, dtype=np.uint8), 3)

Looks = Mapping[str, Any]


def write(image: Any, channels: xr.DataArray) -> Any:
    """Give an ImagePlus all that is known of a stack besides its grey values.

    Parameters
    ----------
    image
        The ImagePlus, its dimensions set.
    channels
        The stack, dims (c, z, y, x), checked.

    Returns
    -------
    ij.ImagePlus
        The same one, or a CompositeImage in its place.
    """
    # Not the image's own: while ImageJ has a global scale, it gives a copy of that.
    calibration = jclass("ij.measure.Calibration")(image)
    _write_calibration(calibration, channels)
    image.setCalibration(calibration)
    image = _write_looks(image, channels)
    if channels.attrs.get("imagej_info"):
        image.setProperty("Info", channels.attrs["imagej_info"])
    # Last: a look-up table makes a single slice forget its label, and a label that ImageJ makes
    # of its own holds the Info.
    _write_labels(image.getStack(), channels)
    properties = image.getImageProperties()
    for key, value in channels.attrs.get("imagej_properties", {}).items():
        properties.setProperty(key, value)
    descending = [axis for axis in AXES if _descends(channels, axis)]
    if descending:
        properties.setProperty(DESCENDING, ",".join(descending))
    if channels.attrs.get("classes"):
        properties.setProperty(CLASSES, ",".join(channels.attrs["classes"]))
    if "c" in channels.coords:
        properties.setProperty(DETECTORS, as_json("c", detectors(channels)))
    if others(channels):
        properties.setProperty(ATTRS, as_json("attrs", others(channels)))
    return image


def _descends(stack: xr.DataArray, axis: str) -> bool:
    return stack.sizes[axis] > 1 and bool(stack[axis][1] < stack[axis][0])


def _write_calibration(calibration: Any, stack: xr.DataArray) -> None:
    unit, size = _unit_of(stack)
    steps = [tidy(step / size) for step in spacing_nm(stack)]
    calibration.pixelDepth, calibration.pixelHeight, calibration.pixelWidth = steps
    calibration.setUnit(unit)
    starts = [float(stack[axis][0]) for axis in AXES]
    # ImageJ's origin is the pixel that lies at 0.
    origin = [tidy(0.0 - start / size / step) for start, step in zip(starts, steps, strict=True)]
    calibration.zOrigin, calibration.yOrigin, calibration.xOrigin = origin
    grey = stack.attrs.get("imagej_grey")
    if grey:
        given = grey["coefficients"]
        coefficients = None if given is None else jpype.JArray(jpype.JDouble)(given)
        calibration.setFunction(
            grey["function"], coefficients, grey["unit"], bool(grey["zero_clip"])
        )


def _unit_of(stack: xr.DataArray) -> tuple[str, float]:
    """ImageJ's unit for a stack, and how many nm it is long."""
    if stack.attrs.get("unit", "nm") != "nm":
        return "pixel", DEFAULT_SPACING_NM[0]
    unit = str(stack.attrs.get("source_unit") or "nm")
    size = nm_per(unit)
    return (unit, size) if size else ("nm", 1.0)


def _write_labels(image_stack: Any, channels: xr.DataArray) -> None:
    if SLICE_LABEL not in channels.coords:
        return
    planes = xr.DataArray(np.empty(channels.shape[:2]), dims=("c", "z"))
    labels = channels[SLICE_LABEL].drop_vars(("c", "z"), errors="ignore").broadcast_like(planes)
    for number, label in enumerate(labels.transpose("z", "c").to_numpy().ravel(), 1):
        if str(label):
            image_stack.setSliceLabel(str(label), number)


def _write_looks(image: Any, channels: xr.DataArray) -> Any:
    attrs = channels.attrs
    composite = attrs.get("imagej_channels")
    if composite and len(composite["luts"]) == channels.sizes["c"] > 1:
        return _composite(image, composite)
    if attrs.get("classes"):
        image.setLut(look_up_table(LABEL_COLOURS.T.astype(np.uint8).ravel()))
    elif attrs.get("imagej_lut"):
        image.setLut(look_up_table(_from_hex(attrs["imagej_lut"])))
    elif attrs.get("inverting_lut"):
        _invert_table(image)
    limits = shown_range(channels, look=isinstance(channels.data, np.ndarray))
    if limits is not None:
        image.setDisplayRange(*limits)
    return image


def _composite(image: Any, looks: Looks) -> Any:
    made = jclass("ij.CompositeImage")(image, MODES.index(looks["mode"]) + 1)
    tables = [look_up_table(_from_hex(colours)) for colours in looks["luts"]]
    for table, (low, high) in zip(tables, looks["ranges"], strict=True):
        table.min, table.max = low, high
    made.setLuts(jpype.JArray(jclass("ij.process.LUT"))(tables))
    for channel, limits in enumerate(looks["ranges"], 1):
        made.setPositionWithoutUpdate(channel, 1, 1)
        made.setDisplayRange(*limits)
    made.setPositionWithoutUpdate(1, 1, 1)
    return made


def look_up_table(colours: npt.NDArray[np.uint8]) -> Any:
    """A look-up table of ImageJ from 768 values: 256 of red, of green and of blue."""
    columns = colours.view(np.int8).reshape(3, 256)
    return jclass("ij.process.LUT")(
        *(jpype.JArray(jpype.JByte)(column.tolist()) for column in columns)
    )


def _from_hex(colours: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(colours), np.uint8)


def _invert_table(image: Any) -> None:
    processor = image.getProcessor()
    processor.invertLut()
    if image.getStackSize() > 1:
        image.getStack().setColorModel(processor.getColorModel())


def read(image: Any, values: Any, parameter: str) -> xr.DataArray:
    """Make a stack from grey values and from what an ImagePlus says of them.

    Parameters
    ----------
    image
        The ImagePlus.
    values
        Its grey values, shape (c, z, y, x), numpy or dask.
    parameter
        Name to use in an error.
    """
    spacing, origin, units = _read_calibration(image)
    properties = {str(key): str(value) for key, value in dict(image.getImageProperties()).items()}
    stack = make_stack(
        values if len(values) > 1 else values[0],
        spacing,
        name=str(image.getTitle()),
        origin_nm=origin,
        attrs={
            **json.loads(properties.get(ATTRS, "{}")),
            **_read_looks(image, properties),
            **_read_grey(image.getCalibration(), parameter),
        },
    )
    labels = _read_labels(image)
    if labels is not None:
        stack = stack.assign_coords({SLICE_LABEL: labels})
    for axis in filter(None, properties.get(DESCENDING, "").split(",")):
        start = stack[axis].to_numpy()[0]
        stack = stack.assign_coords({axis: 2 * start - stack[axis].to_numpy()})
    names = json.loads(properties.get(DETECTORS, "null"))
    if names and len(names) == len(values):
        stack = stack.assign_coords(c=names if len(values) > 1 else names[0])
    return stack.assign_attrs(units)


def _read_calibration(image: Any) -> tuple[Spacing, Spacing, dict[str, str]]:
    """Voxel size and position in nm, and what to remember of the unit."""
    calibration = image.getCalibration()
    unit = str(calibration.getUnit() or "pixel")
    units = (calibration.getZUnit(), calibration.getYUnit(), unit)
    sizes = [nm_per(str(name or unit)) for name in units]
    steps = (calibration.pixelDepth, calibration.pixelHeight, calibration.pixelWidth)
    known = None not in sizes or unit.startswith("pixel")
    if not known or not all(0 < float(step) < math.inf for step in steps):
        # A unit such as inch is what a scanner's driver wrote, not a voxel size.
        steps, sizes = (1.0, 1.0, 1.0), [None, None, None]
    scaled = None not in sizes
    scales = sizes if scaled else DEFAULT_SPACING_NM
    z, y, x = (tidy(float(a) * float(b or 0)) for a, b in zip(steps, scales, strict=True))
    spacing = (z, y, x)
    pixels = (calibration.zOrigin, calibration.yOrigin, calibration.xOrigin)
    z, y, x = (tidy(-float(a) * b) for a, b in zip(pixels, spacing, strict=True))
    return spacing, (z, y, x), {"unit": "nm" if scaled else "pixel", "source_unit": unit}


def _read_grey(calibration: Any, parameter: str) -> dict[str, Any]:
    """The function from pixels to measured values, where ImageJ has one."""
    if not calibration.calibrated():
        return {}
    if int(calibration.getFunction()) == jclass("ij.measure.Calibration").CUSTOM:
        raise ParameterError(
            parameter,
            "must have no table of calibrated grey values, which has no place in a stack",
            "an image with one",
            "Choose the function None in Analyze > Calibrate.",
        )
    coefficients = calibration.getCoefficients()
    return {
        "imagej_grey": {
            "function": int(calibration.getFunction()),
            "coefficients": None if coefficients is None else [float(c) for c in coefficients],
            "unit": str(calibration.getValueUnit()),
            "zero_clip": bool(calibration.zeroClip()),
        }
    }


def _read_labels(image: Any) -> tuple[Any, npt.NDArray[np.str_]] | None:
    """Each slice's label, empty where it has none; each detector's where they differ."""
    image_stack = image.getStack()
    channels, slices = int(image.getNChannels()), int(image.getNSlices())
    labels = [str(image_stack.getSliceLabel(n + 1) or "") for n in range(channels * slices)]
    if len(labels) == 1 and labels[0].endswith(f"\n{image.getProperty('Info')}"):
        labels = [str(image.getProp(LABEL_OF_ONE) or "")]
    if not any(labels):
        return None
    planes = np.array(labels, np.str_).reshape(slices, channels)
    if (planes == planes[:, :1]).all():
        return "z", planes[:, 0]
    return ("c", "z"), planes.T


def _read_looks(image: Any, properties: Mapping[str, str]) -> dict[str, Any]:
    attrs: dict[str, Any] = {
        "display_range": (float(image.getDisplayRangeMin()), float(image.getDisplayRangeMax())),
        "inverting_lut": bool(image.isInvertedLut()),
    }
    if image.getProperty("Info") is not None:
        attrs["imagej_info"] = str(image.getProperty("Info"))
    others = {key: text for key, text in properties.items() if key not in RESERVED}
    if others:
        attrs["imagej_properties"] = others
    if image.isComposite():
        tables = image.getLuts()
        attrs["imagej_channels"] = {
            "mode": MODES[int(image.getMode()) - 1],
            "luts": [_colours(table).tobytes().hex() for table in tables],
            "ranges": [[float(table.min), float(table.max)] for table in tables],
        }
    if CLASSES in properties:
        attrs["classes"] = tuple(properties[CLASSES].split(","))
    elif not image.isComposite():
        colours = _colours(image.getProcessor().getLut())
        if not any(np.array_equal(colours, grey) for grey in (_GREYS, 255 - _GREYS)):
            attrs["imagej_lut"] = colours.tobytes().hex()
    return attrs


def _colours(table: Any) -> npt.NDArray[np.uint8]:
    """A look-up table as 768 values: 256 of red, of green and of blue."""
    return np.asarray(table.getBytes()).astype(np.uint8)
