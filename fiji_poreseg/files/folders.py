"""Folders of slices: one TIFF each, as microscopes leave them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile
import xarray as xr

from fiji_poreseg.errors import ParameterError
from fiji_poreseg.files.outputs import TIFF_SUFFIXES
from fiji_poreseg.files.tiff_reading import damage_as_error, read_tiff
from fiji_poreseg.lazy import LARGE_BYTES, lazy_planes
from fiji_poreseg.stack import make_stack, spacing_nm


class FolderPlanes:
    """Reads slices of a folder by their index; it can be sent to another process.

    Parameters
    ----------
    files
        A TIFF of one slice for each.
    shape, dtype
        Of a slice.
    """

    def __init__(self, files: Sequence[Path], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        self._files, self._shape, self._dtype = tuple(files), shape, dtype

    def __call__(self, index: int) -> npt.NDArray[Any]:
        """Read a slice, shape (y, x)."""
        values: npt.NDArray[Any] = read_tiff(self._files[index], "image").to_numpy()[0]
        if values.shape != self._shape or values.dtype != self._dtype:
            raise OSError(f"{self._files[index]} was changed while it was being read")
        return values


def read_folder(folder: Path, parameter: str) -> xr.DataArray:
    """Read the slices in a folder, in the order of the numbers in their names.

    Parameters
    ----------
    folder
        Files that do not end in .tif or .tiff, or begin with a dot, are passed over.
    parameter
        Name to use in an error.

    Returns
    -------
    xarray.DataArray
        Dims ``("z", "y", "x")``, named as the folder, ``slice_label`` the names of the files
        without their endings. Voxel size and other attributes are those of the first. Beyond
        256 MB it is lazy: slices are read when asked for.

    Raises
    ------
    ParameterError
        If there is none, one holds several slices or channels, or they differ in size or type.
    """
    found = [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in TIFF_SUFFIXES and not file.name.startswith(".") and file.is_file()
    ]
    if not found:
        raise ParameterError(
            parameter,
            "must be a file, an OME-Zarr or a folder of slices as TIFF",
            f"the folder {folder}, in which there is none",
            "Add the file's name, or save the slices as TIFF.",
        )
    names = tifffile.natural_sorted([file.name for file in found])
    files = [folder / name for name in names]
    first = read_tiff(files[0], parameter)
    if first.ndim != 3 or first.sizes["z"] != 1:
        raise ParameterError(
            parameter,
            "must be a folder of single slices, or one file",
            f"{folder}, where {names[0]} has shape {first.shape}",
            f"Give the file itself: {files[0]}.",
        )
    shape, dtype = first.shape[1:], first.dtype
    for file in files:
        _check_alike(file, shape, dtype, parameter)
    planes = FolderPlanes(files, shape, dtype)
    whole = (len(files), *shape)
    values: Any = lazy_planes(planes, whole, dtype)
    if len(files) * first.nbytes <= LARGE_BYTES:
        values = np.stack([planes(index) for index in range(len(files))])
    return make_stack(
        values,
        spacing_nm(first) if first.attrs["unit"] == "nm" else None,
        name=folder.resolve().name,
        slice_labels=[file.stem for file in files],
        attrs=dict(first.attrs),
    )


def _check_alike(file: Path, shape: tuple[int, ...], dtype: np.dtype[Any], parameter: str) -> None:
    """Refuse a slice of another size or type, by its header alone."""
    with damage_as_error(file, parameter), tifffile.TiffFile(file) as tiff:
        page = tiff.pages.first
        # Bits are read as 8-bit grey values, see `fiji_poreseg.files.axes.arrange`.
        found = np.dtype(np.uint8 if page.dtype == bool else page.dtype)
        if (page.shape, found.newbyteorder("="), len(tiff.pages)) == (shape, dtype, 1):
            return
        value = f"{file}: {found} of {page.shape} in {len(tiff.pages)} slices"
    raise ParameterError(
        parameter,
        f"must hold slices of one size and type, here {dtype} of {shape}",
        value,
        "Take it out of the folder, or crop all alike in ImageJ.",
    )
