"""Stacks in files, and output that is whole or not there.

Importing this package lets `fiji_poreseg.stack.as_stack` take a path.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt
import xarray as xr

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files.folders import read_folder
from fiji_poreseg.files.inputs import (
    DAMAGE_ERRORS,
    PathLike,
    existing_file,
    is_zarr,
    log_records,
)
from fiji_poreseg.files.outputs import (
    IMAGE_SUFFIXES,
    ZARR_SUFFIX,
    alone,
    begun,
    check_output,
    host_of_labels,
    not_writable_in_words,
    remove,
    replacing,
    together,
    write_csv,
    write_text,
    written,
)
from fiji_poreseg.files.tiff_reading import is_cut_off, read_tiff
from fiji_poreseg.files.tiff_writing import writing_tiff
from fiji_poreseg.stack import AXES, register_converter, to_dataarray

__all__ = [
    "DAMAGE_ERRORS",
    "IMAGE_SUFFIXES",
    "PathLike",
    "SliceWriter",
    "alone",
    "begun",
    "check_output",
    "existing_file",
    "is_cut_off",
    "log_records",
    "not_writable_in_words",
    "read",
    "remove",
    "replacing",
    "together",
    "write",
    "write_csv",
    "write_text",
    "writing",
    "written",
]


def read(path: PathLike, *, parameter: str = "image") -> xr.DataArray:
    """Read a stack from a TIFF file, an OME-Zarr or a folder of slices.

    Parameters
    ----------
    path
        TIFF of ImageJ, OME-TIFF, BigTIFF or any other multi-page TIFF with one grey value per
        pixel; the folder of an OME-Zarr of version 0.4 or 0.5, which is read at its full
        resolution; or a folder in which each slice is a TIFF.
    parameter
        Name to use in an error.

    Returns
    -------
    xarray.DataArray
        Dims ``("z", "y", "x")``, or ``("c", "z", "y", "x")`` for several channels, coordinates
        in nm and perhaps ``slice_label``, the name is the file's without its ending. ``attrs``
        may hold, besides what `fiji_poreseg.stack.make_stack` writes, ``source_unit`` (the unit
        in the file), ``display_range`` (lowest and highest grey value shown),
        ``inverting_lut``, ``imagej_info``, ``classes`` (of labels in an OME-Zarr) and
        ``thickness``, which is ``"assumed"`` where only the size of a pixel is known, as from
        the tags of Thermo Fisher (FEI), Zeiss and Tescan, and ``data_bar``, the height of a slice
        and how many rows at its bottom are the microscope's data bar. Beyond 256 MB nothing is
        loaded: dask reads it slice by slice.

    Raises
    ------
    ParameterError
        If there is nothing, or it is of none of these kinds, damaged, or holds colours.
    """
    if not os.path.isdir(path):
        return read_tiff(path, parameter)
    if not is_zarr(path):
        return read_folder(Path(path), parameter)
    # The libraries of Zarr take half a second to import.
    from fiji_poreseg.files.zarr_reading import read_zarr

    return read_zarr(Path(path), parameter)


def write(path: PathLike, image: xr.DataArray, *, parameter: str = "output") -> None:
    """Write a stack, labels or a probability as a TIFF of ImageJ, an OME-TIFF or an OME-Zarr.

    It carries voxel size, unit (that of the file the stack came from, else nm), slice labels and
    display range; labels (``attrs["classes"]``) the colours of
    `fiji_poreseg.colours.LABEL_COLOURS`. A TIFF is not compressed, so that ImageJ can open it as
    a virtual stack, and may be larger than 4 GB; an OME-TIFF has no slice labels and colours. An
    OME-Zarr of version 0.5 is compressed without loss, in chunks of one slice, with smaller
    copies for viewers. A lazy stack is computed slice by slice.

    Parameters
    ----------
    path
        Where to: ``NAME.tif``, ``NAME.ome.tif``, ``NAME.zarr``, or, for labels that belong to an
        OME-Zarr of version 0.5, ``IMAGE.zarr/labels/NAME``. What exists is replaced, at the end
        and only on success.
    image
        Dims ``("z", "y", "x")``, with ``"c"`` or ``"class"`` first for several channels; uint8,
        uint16 or floating point, which is written as float32.
    parameter
        Name to use in an error.

    Raises
    ------
    ParameterError
        If the ending, the dims, the unit or the data type is none of these, or the place cannot
        be written.
    """
    with writing(path, image, parameter=parameter) as slices:
        for index in range(image.sizes["z"]):
            slices[index] = image.isel(z=index).to_numpy()


class SliceWriter(Protocol):
    """Takes the slices of an image that is being written, one by one, in any order."""

    def __setitem__(self, index: int, values: npt.NDArray[Any]) -> None:
        """Write slice `index`: shape (y, x), or (channels, y, x)."""

    def read(self, index: int) -> npt.NDArray[Any]:
        """A slice that was written before."""

    def finish(self) -> None:
        """Do what is left to do when all slices are written, but putting it in its place.

        It is done on leaving the block, too; where several images are written, all of them are
        finished first.
        """

    def reader(self) -> Callable[..., npt.NDArray[Any]]:
        """Open the image, once it is in its place: reads a slice, or a plane of it, by index."""


@contextmanager
def writing(
    path: PathLike,
    image: xr.DataArray,
    *,
    parameter: str = "output",
    go_on: bool = False,
    keep: bool = False,
) -> Iterator[SliceWriter]:
    """Write an image like `write`, but slice by slice, as they come, inside a ``with`` block.

    Until it is whole, what there is of it lies where `begun` names.

    Parameters
    ----------
    path
        Where to; what exists is replaced on leaving the block, and only on success.
    image
        What the file is to describe; of its values none is read, but the display range of a
        numpy array of floating point or 16 bits that has none in its attributes.
    parameter
        Name to use in an error.
    go_on
        Whether slices in what there is of it already are to stay.
    keep
        Whether what there is of it stays on an exception.

    Raises
    ------
    ParameterError
        If the data type is none of ImageJ's, the file cannot be written, another command is writing
        it, or what is to be gone on with describes another image: another voxel size, say, or other
        slice labels.
    """
    check_output(path, parameter)
    image = _in_nm(image)
    settings: dict[str, Any] = {"parameter": parameter, "go_on": go_on, "keep": keep}
    write_slices: Callable[..., AbstractContextManager[SliceWriter]] = writing_tiff
    if Path(path).suffix.lower() == ZARR_SUFFIX or host_of_labels(path) is not None:
        from fiji_poreseg.files.zarr_writing import writing_zarr

        write_slices = writing_zarr
    with alone({parameter: path}), write_slices(path, image, **settings) as slices:
        yield slices


def _in_nm(image: xr.DataArray) -> xr.DataArray:
    """An image to be described in a file, with axes in order and coordinates in nm."""
    dims = tuple(getattr(image, "dims", ()))
    if dims not in (AXES, ("c", *AXES), ("class", *AXES)):
        raise ParameterError(
            "image",
            "must be an xarray.DataArray with the dims (z, y, x), or c or class before them",
            f"dims {dims}" if dims else f"a {type(image).__name__}",
            "Use .rename(), .transpose() and .expand_dims(), or fiji_poreseg.make_stack().",
        )
    if image.attrs.get("unit", "nm") in ("nm", "pixel"):
        return image
    known = to_dataarray(image if dims[0] != "class" else image.rename({"class": "c"}))
    return image.assign_coords({axis: known[axis] for axis in AXES}).assign_attrs(known.attrs)


def _read_path(image: object, parameter: str) -> xr.DataArray | None:
    if not isinstance(image, str | os.PathLike):
        return None
    return read(image, parameter=parameter)


register_converter(_read_path)
