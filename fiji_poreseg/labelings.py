"""Labkit's labelings: a JSON file that names the pixels of each label.

``{"interval": {"min", "max"}, "pixelSizes": [{"size", "unit"}], "labels": {name: [[x, y, z], …]},
"colors": {name: "#RRGGBB"}}``, as Labkit's LabelingSerializer writes it. The package `labeling` of
PyPI reads another format, that of imglib2-labelings.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg.colours import LABEL_COLOURS
from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files import DAMAGE_ERRORS, PathLike, existing_file, write_text
from fiji_poreseg.stack import AXES, DEFAULT_CLASSES, make_labels, spacing_nm

SUFFIX = ".labeling"
_LARGEST = 2 * 2**30


def read_labeling(
    path: PathLike,
    stack: xr.DataArray,
    *,
    classes: Sequence[str] = DEFAULT_CLASSES,
    parameter: str = "labels",
) -> xr.DataArray:
    """Read a labeling of Labkit.

    A label is the class whose name it has; upper and lower case do not matter. Labels of no
    pixel are left out.

    Parameters
    ----------
    path
        The ``.labeling`` file.
    stack
        The stack that it belongs to.
    classes
        Names of the classes 1, 2, and so on.
    parameter
        Name to use in an error.

    Returns
    -------
    xarray.DataArray
        uint8, dims ``("z", "y", "x")``, 0 where no label is.

    Raises
    ------
    ParameterError
        If the file is missing, damaged or too large, belongs to an image of another size, has a
        label that is no class, or two labels on one pixel.
    """
    file = existing_file(path, parameter)
    try:
        if file.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        content = json.loads(file.read_bytes())
        corners = [content["interval"][end] for end in ("min", "max")]
        low, high = _places(corners, len(corners[0]))
        size = tuple((high - low + 1).tolist())
        found = {
            str(name): _places(places, len(size)) for name, places in content["labels"].items()
        }
    except DAMAGE_ERRORS as error:
        raise ParameterError(
            parameter,
            "must be a whole labeling that Labkit saved",
            str(file),
            f"It cannot be read ({error}). Save it again with Labeling > Save Labeling.",
        ) from error
    shape = tuple(stack.sizes[axis] for axis in AXES)
    if (size + (1,) * (3 - len(size)))[::-1] != shape:
        raise ParameterError(
            parameter,
            f"must belong to the stack, {' x '.join(map(str, shape[::-1]))} (x, y, z)",
            f"a labeling of {' x '.join(map(str, size))}",
            "Save it again from the stack that it is for.",
        )
    values = np.zeros(shape, np.uint8)
    for name, places in found.items():
        if not len(places):
            continue
        label = _class_of(name, classes, parameter)
        where = tuple((places - low).T[::-1])
        where = (np.zeros(len(places), int),) * (3 - len(where)) + where
        _check_places(where, shape, name, parameter)
        if np.isin(values[where], (0, label), invert=True).any():
            raise ParameterError(
                parameter,
                "must have one label at most on each pixel",
                f"pixels of {name} that have another, too",
                "Erase one of them in Labkit.",
            )
        values[where] = label
    if not values.any():
        raise ParameterError(
            parameter, "must label at least one pixel", f"{file}, which has none", "Label some."
        )
    return make_labels(values, stack, classes=classes).assign_attrs(dense=False, painted=True)


def write_labeling(path: PathLike, labels: xr.DataArray, *, parameter: str = "output") -> None:
    """Write labels as a labeling of Labkit, replacing an existing file only whole.

    Parameters
    ----------
    path
        The ``.labeling`` file.
    labels
        uint8, dims ``("z", "y", "x")``, ``attrs["classes"]`` set.
    parameter
        Name to use in an error.
    """
    values = labels.to_numpy()
    names = labels.attrs["classes"]
    sizes = values.shape[::-1]
    content = {
        "interval": {"n": 3, "min": [0, 0, 0], "max": [size - 1 for size in sizes]},
        "pixelSizes": [{"size": step, "unit": "nm"} for step in spacing_nm(labels)[::-1]],
        "labels": {
            name: np.argwhere(values == label)[:, ::-1].tolist()
            for label, name in enumerate(names, 1)
        },
        "colors": {name: _colour(label) for label, name in enumerate(names, 1)},
    }
    write_text(path, json.dumps(content), parameter=parameter)


def _places(places: Sequence[Sequence[int]], axes: int) -> npt.NDArray[np.int64]:
    made = np.array(places, np.float64) if len(places) else np.empty((0, axes))
    # Of larger numbers, and of none at all (NaN), not every whole one can be told.
    are_whole = (np.abs(made) < 2**53) & (made == np.floor(made))
    if made.shape != (len(places), axes) or not are_whole.all():
        raise ValueError("its pixels have another number of axes, or are no whole numbers")
    return made.astype(np.int64)


def _class_of(name: str, classes: Sequence[str], parameter: str) -> int:
    for label, of_class in enumerate(classes, 1):
        if of_class.casefold() == name.strip().casefold():
            return label
    raise ParameterError(
        parameter,
        f"must have labels that are called {' or '.join(classes)}",
        f"the label {name}",
        "Rename it in Labkit, or name all classes with classes=pore,solid,….",
    )


def _check_places(where: Any, shape: tuple[int, ...], name: str, parameter: str) -> None:
    for places, length in zip(where, shape, strict=True):
        if places.min() < 0 or places.max() >= length:
            raise ParameterError(
                parameter,
                "must have its pixels in the stack",
                f"pixels of {name} outside",
                "Save it again from the stack that it is for.",
            )


def _colour(label: int) -> str:
    red, green, blue = (int(part) for part in LABEL_COLOURS[label])
    return f"#{red:02X}{green:02X}{blue:02X}"
