"""OME-Zarr of version 0.4 (Zarr 2) or 0.5 (Zarr 3): stacks in chunks.

See https://ngff.openmicroscopy.org and Moore et al., Histochem. Cell Biol. 160 (2023), doi
10.1007/s00418-023-02209-1.
"""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Sequence
from operator import add, mul
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from pydantic import ValidationError
from yaozarrs import v04, v05

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files.axes import arrange, axis_order
from fiji_poreseg.files.inputs import DAMAGE_ERRORS, is_zarr
from fiji_poreseg.files.zarr_codecs import open_array
from fiji_poreseg.lazy import LARGE_BYTES, lazy_planes
from fiji_poreseg.stack import Spacing, make_stack, nm_per, tidy

OURS = "fiji_poreseg"
"""The attribute that holds what OME-Zarr has no place for."""
# Metadata that is larger is none of an image.
_MOST_METADATA_BYTES = 2**24
# A kilometre; what is farther is no length.
_FARTHEST_NM = 1e12
_MOST_PLANE_BYTES = 2**32
_MOST_PLANES = 10**6
_MOST_CHUNK_BYTES = 2**30
# Slices of chunks deeper than one slice are kept decoded up to this.
_LAYER_BYTES = 2**29
# Of a chunk that is damaged, zstd says so in this way.
_DAMAGE_ERRORS = (*DAMAGE_ERRORS, SystemError)


def read_zarr(folder: Path, parameter: str) -> xr.DataArray:
    """Read the stack of an OME-Zarr at its full resolution; see `fiji_poreseg.files.read`."""
    try:
        image = _image(folder, parameter)
        array = _array(folder, image.path)
        order, has_channels = axis_order(image.axes, array.shape, folder, parameter)
        values: Any
        if array.nbytes > LARGE_BYTES:
            values = lazy_planes(ZarrPlanes(folder, image.path), array.shape, array.dtype)
        else:
            values = array[...]
    except ParameterError:
        raise
    except _DAMAGE_ERRORS as error:
        raise _damaged(folder, parameter, error) from error
    planes = arrange(values, order, has_channels)
    spacing, origin = image.placed(order[-3:] if len(order) > 2 + has_channels else order[-2:])
    stack = make_stack(
        planes,
        spacing,
        name=_stem(folder),
        origin_nm=origin,
        slice_labels=_fitting(image.ours.get("slice_labels"), planes.shape[-3]),
        attrs=image.attrs(),
    )
    channels = _fitting(image.ours.get("channels"), planes.shape[0]) if has_channels else None
    return stack if channels is None else stack.assign_coords(c=channels)


class _Image(NamedTuple):
    """What the metadata says of an image."""

    path: str
    axes: str
    units: tuple[str | None, ...]
    scale: tuple[float, ...]
    translation: tuple[float, ...]
    classes: tuple[str, ...]
    ours: dict[str, Any]

    def placed(self, axes: Sequence[int]) -> tuple[Spacing | None, Spacing]:
        """Voxel size and origin in nm, z first; None without a unit that is known."""
        # An image without z is one slice, as thick as its pixels are wide.
        axes = axes if len(axes) == 3 else (axes[-1], *axes)
        factors = [nm_per(self.units[axis] or "") or 0.0 for axis in axes]

        def in_nm(lengths: Sequence[float]) -> Spacing:
            z, y, x = (tidy(lengths[axis] * by) for axis, by in zip(axes, factors, strict=True))
            return z, y, x

        spacing = in_nm(self.scale)
        origin = in_nm(self.translation)
        if (
            not all(0 < step < _FARTHEST_NM for step in spacing)
            or max(map(abs, origin)) > _FARTHEST_NM
        ):
            return None, (0.0, 0.0, 0.0)
        return spacing, origin

    def attrs(self) -> dict[str, Any]:
        """Attributes of the stack."""
        attrs: dict[str, Any] = {"inverting_lut": False}
        unit = self.ours.get("source_unit")
        attrs["source_unit"] = unit if isinstance(unit, str) else "nm"
        shown = self.ours.get("display_range")
        if isinstance(shown, list) and len(shown) == 2:
            attrs["display_range"] = (float(shown[0]), float(shown[1]))
        if isinstance(self.ours.get("info"), str):
            attrs["imagej_info"] = self.ours["info"]
        if self.classes:
            attrs["classes"] = self.classes
        return attrs


def _image(folder: Path, parameter: str) -> _Image:
    attributes = read_metadata(folder).get("attributes", {})
    found = attributes.get("ome", attributes)
    if "bioformats2raw.layout" in found and is_zarr(folder / "0"):
        if is_zarr(folder / "1"):
            raise ParameterError(
                parameter,
                "must be one image",
                f"{folder} with several",
                f"Name one of them, for example {folder / '0'}.",
            )
        image = _image(folder / "0", parameter)
        return image._replace(path=f"0/{image.path}")
    if "multiscales" not in found:
        raise ParameterError(
            parameter,
            "must be an image of OME-Zarr",
            f"{folder}, which is Zarr without `multiscales`",
            "Name the folder of the image, or save it as OME-Zarr or TIFF.",
        )
    model = v05.Image if "ome" in attributes else v04.Image
    with warnings.catch_warnings():
        # Of names that are unusual.
        warnings.simplefilter("ignore")
        scales = model.model_validate(found).multiscales[0]
    level = scales.datasets[0]
    length = len(scales.axes)
    scale, translation = [1.0] * length, [0.0] * length
    for transforms in (level.coordinateTransformations, scales.coordinateTransformations or ()):
        for transform in transforms:
            if transform.type == "scale":
                scale = list(map(mul, scale, transform.scale))
                translation = list(map(mul, translation, transform.scale))
            else:
                translation = list(map(add, translation, transform.translation))
    ours = attributes.get(OURS, {})
    classes = ours.get("classes", ())
    return _Image(
        level.path,
        "".join(axis.name.upper()[:1] for axis in scales.axes),
        tuple(getattr(axis, "unit", None) for axis in scales.axes),
        tuple(scale),
        tuple(translation),
        tuple(map(str, classes)),
        ours,
    )


def read_metadata(folder: Path) -> dict[str, Any]:
    """The metadata of a group or an array, as Zarr 3 lays it out."""
    if (folder / "zarr.json").is_file():
        return read_json(folder / "zarr.json")
    name = ".zarray" if (folder / ".zarray").is_file() else ".zgroup"
    attributes = read_json(folder / ".zattrs") if (folder / ".zattrs").is_file() else {}
    return {**read_json(folder / name), "attributes": attributes}


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file of metadata; a `ValueError` or `TypeError` if it is none."""
    if file.stat().st_size > _MOST_METADATA_BYTES:
        raise ValueError(f"{file.name} is larger than metadata are")
    found = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(found, dict):
        raise TypeError(f"{file.name} holds a {type(found).__name__}")
    return found


def _array(folder: Path, path: str) -> zarr.Array[Any]:
    """An array below a folder, which is safe to be decoded."""
    place = folder / path
    if not place.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{path} leads out of the folder")
    metadata = read_metadata(place)
    array = open_array(place, metadata)
    if array.dtype.kind not in "uifb":
        raise TypeError(f"values of {array.dtype}")
    if 0 in array.shape:
        raise ValueError(f"an array of shape {array.shape}")
    if math.prod(array.shape[:-2]) > _MOST_PLANES:
        raise ValueError(f"more than {_MOST_PLANES} slices")
    plane = math.prod(array.shape[-2:]) * array.dtype.itemsize
    chunk = max(math.prod(array.chunks), math.prod(array.shards or ())) * array.dtype.itemsize
    if plane > _MOST_PLANE_BYTES or chunk > _MOST_CHUNK_BYTES:
        raise ValueError(f"slices of {array.shape[-2:]} in chunks of {array.chunks}")
    return array


class ZarrPlanes:
    """Reads planes of an array by their indices along all axes but the last two.

    Chunks deeper than a slice are decoded once for slices that follow one another, where those
    of two layers take no more than a gigabyte. It can be sent to another process.

    Parameters
    ----------
    folder
        The image.
    path
        The array in it.
    version
        What tells this array from a later one at its place, where it was opened by another
        process; by default it is opened now.

    Raises
    ------
    ParameterError
        If a chunk is damaged.
    OSError
        If the array was removed or replaced meanwhile: where its chunks are missing, Zarr says 0.
    """

    def __init__(self, folder: Path, path: str, version: tuple[int, ...] | None = None) -> None:
        self._folder, self._path = folder.absolute(), path
        self._version = version or _version(self._folder / path)
        self._array = _array(self._folder, path)
        self._lock = Lock()
        self._layers: dict[tuple[int, ...], npt.NDArray[Any]] = {}

    def __call__(self, *index: int) -> npt.NDArray[Any]:
        """Read a plane, or all planes of a slice."""
        try:
            values = self._read(index)
        except _DAMAGE_ERRORS as error:
            raise _damaged(self._folder, "image", error) from error
        if _version(self._folder / self._path) != self._version:
            raise OSError(f"{self._folder} was changed or removed while it was being read")
        return values

    def _read(self, index: tuple[int, ...]) -> npt.NDArray[Any]:
        chunks = self._array.chunks[: len(index)]
        layer = math.prod(chunks) * math.prod(self._array.shape[len(index) :])
        if max(chunks, default=1) == 1 or layer * self._array.dtype.itemsize > _LAYER_BYTES:
            return np.asarray(self._array[index])
        place = tuple(at // depth for at, depth in zip(index, chunks, strict=True))
        with self._lock:
            if place not in self._layers:
                if len(self._layers) > 1:
                    del self._layers[next(iter(self._layers))]
                starts = zip(place, chunks, strict=True)
                block = tuple(slice(at * depth, (at + 1) * depth) for at, depth in starts)
                self._layers[place] = np.asarray(self._array[block])
            held = self._layers[place]
        within = tuple(at % depth for at, depth in zip(index, chunks, strict=True))
        return np.asarray(held[within])

    def __reduce__(self) -> tuple[Any, ...]:
        return ZarrPlanes, (self._folder, self._path, self._version)


def _version(array: Path) -> tuple[int, ...]:
    """What tells an array from another one at its place; nothing where there is none."""
    for name in ("zarr.json", ".zarray"):
        with contextlib.suppress(OSError):
            status = (array / name).stat()
            return status.st_ino, status.st_mtime_ns, status.st_size
    return ()


def _fitting(labels: object, count: int) -> list[str] | None:
    if not isinstance(labels, list) or len(labels) != count:
        return None
    return [str(label) for label in labels]


def _stem(folder: Path) -> str:
    return folder.resolve().name.removesuffix(".zarr").removesuffix(".ome")


def _damaged(folder: Path, parameter: str, error: Exception) -> ParameterError:
    said = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, ValidationError):
        wrong = error.errors()[0]
        said = [f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}".replace("\n", " ")]
    return ParameterError(
        parameter,
        "must be a complete OME-Zarr of version 0.4 or 0.5, of numbers, by common codecs",
        f"{folder} ({said[0][:200]})",
        "Copy it again, or save it again.",
    )
