"""OME-Zarr of version 0.5, written slice by slice, with smaller copies for viewers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr
from skimage.transform import downscale_local_mean
from yaozarrs import v05
from yaozarrs.write.v05 import prepare_image

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files.inputs import PathLike, is_zarr
from fiji_poreseg.files.outputs import (
    begun,
    host_of_labels,
    not_writable_in_words,
    replacing,
    write_text,
    written,
)
from fiji_poreseg.files.tiff_writing import grey_type
from fiji_poreseg.files.zarr_metadata import Level, describe, levels_of
from fiji_poreseg.files.zarr_reading import OURS, read_json, read_metadata

# What a viewer loads at a time; a chunk is a part of one slice, so that slices come in any order.
_CHUNK = 1024


class ZarrSlices:
    """Takes the slices of an OME-Zarr that is being written, one by one, in any order.

    Parameters
    ----------
    target
        What the folder will be called.
    part
        Where it is until it is whole.
    levels
        The arrays in it, that of full resolution first.
    is_labels
        Whether smaller copies hold every second voxel, and not the mean.
    parameter
        Name to use in an error.
    """

    def __init__(
        self, target: Path, part: Path, levels: Sequence[Level], is_labels: bool, parameter: str
    ) -> None:
        self._target, self._parameter = target, parameter
        self._path, self._is_labels = levels[0].path, is_labels
        self._arrays = [zarr.open_array(part / level.path, mode="r+") for level in levels]
        self._is_finished = False

    def __setitem__(self, index: int, values: npt.NDArray[Any]) -> None:
        """Write slice `index`: shape (y, x), or (channels, y, x)."""
        with not_writable_in_words(self._target, self._parameter):
            whole = self._arrays[0]
            whole[..., index, :, :] = values.astype(whole.dtype, copy=False)

    def read(self, index: int) -> npt.NDArray[Any]:
        """A slice that was written before."""
        return np.asarray(self._arrays[0][..., index, :, :])

    def finish(self) -> None:
        """Make the smaller copies, if that was not done."""
        if self._is_finished:
            return
        with not_writable_in_words(self._target, self._parameter):
            for finer, coarser in pairwise(self._arrays):
                _shrink(finer, coarser, self._is_labels)
        self._is_finished = True

    def reader(self) -> SlicesFirst:
        """Open the folder, once it is in its place: reads a slice, or a plane of it, by index."""
        return SlicesFirst(zarr.open_array(self._target / self._path, mode="r"))


class SlicesFirst:
    """Reads planes of an array with axes (z, y, x) or (c, z, y, x), the slice's index first."""

    def __init__(self, array: zarr.Array[Any]) -> None:
        self._array = array

    def __call__(self, index: int, *channel: int) -> npt.NDArray[Any]:
        """Read a plane, or all planes of a slice."""
        place: tuple[Any, ...] = (*channel, ..., index, slice(None), slice(None))
        return np.asarray(self._array[place])


@contextmanager
def writing_zarr(
    path: PathLike, image: xr.DataArray, *, parameter: str, go_on: bool, keep: bool
) -> Iterator[ZarrSlices]:
    """Write an OME-Zarr slice by slice; see `fiji_poreseg.files.writing`."""
    dtype = grey_type(image, parameter)
    target, part = Path(path), begun(path)
    levels = levels_of(image)
    inside = host_of_labels(target) is not None
    metadata, ours = describe(image, levels, dtype, inside=inside)
    is_labels = "image-label" in metadata
    described = (v05.LabelImage if is_labels else v05.Image).model_validate(metadata)
    with replacing(path, parameter, part, keep=keep):
        if not (go_on and _begun_alike(part, described, ours, parameter)):
            prepare_image(
                part,
                described,
                [(level.shape, str(dtype)) for level in levels],
                extra_attributes={OURS: ours},
                chunks=(1,) * (image.ndim - 2) + tuple(min(_CHUNK, n) for n in image.shape[-2:]),
                compression="zstd",
                overwrite=True,
                writer="zarr",
            )
        slices = ZarrSlices(target, part, levels, is_labels, parameter)
        yield slices
        slices.finish()
        if inside:
            # While the labels are not in their place yet: on a full disk they do not come there.
            _enter(target, parameter)


def _begun_alike(part: Path, described: v05.Image, ours: dict[str, Any], parameter: str) -> bool:
    """Whether what there is describes the same image; False where there is nothing."""
    if not is_zarr(part):
        return False
    attributes = read_metadata(part)["attributes"]
    found = type(described).model_validate(attributes["ome"])
    if found == described and attributes[OURS] == ours:
        return True
    raise ParameterError(
        parameter,
        "must describe the image as what was begun of it does, where that is gone on with",
        "another voxel size, slice labels or calibration",
        "Give the stack as it was then, or leave resume out to start anew.",
    )


def _shrink(finer: zarr.Array[Any], coarser: zarr.Array[Any], is_labels: bool) -> None:
    """Fill a copy from the one that is twice as large, slice by slice."""
    depth = min(2, finer.shape[-3] // coarser.shape[-3])
    rows, columns = (2 * side for side in coarser.shape[-2:])
    for index in range(coarser.shape[-3]):
        values = np.asarray(finer[..., index * depth : (index + 1) * depth, :rows, :columns])
        if is_labels:
            small = values[..., 0, ::2, ::2]
        else:
            factors = (1,) * (values.ndim - 3) + (depth, 2, 2)
            small = downscale_local_mean(values, factors)[..., 0, :, :]
            if coarser.dtype.kind != "f":
                small = small.round()
        coarser[..., index, :, :] = small.astype(coarser.dtype)


def _enter(target: Path, parameter: str) -> None:
    """Put labels on the list of those that an image has."""
    listed = target.parent / "zarr.json"
    known = read_json(written(listed)) if written(listed).is_file() else {}
    names = known.get("attributes", {}).get("ome", {}).get("labels", [])
    group = v05.LabelsGroup(labels=sorted({*names, target.name}))
    metadata = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {"ome": group.model_dump(exclude_none=True)},
    }
    write_text(listed, json.dumps(metadata, indent=2), parameter=parameter)
