"""Make stacks: a phantom, and copies in other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import xarray as xr

from fiji_poreseg import files, phantoms
from fiji_poreseg.commands import checks, presentation
from fiji_poreseg.commands.catalog.parameters import CATALOG, Image, Seed, VoxelSize
from fiji_poreseg.commands.spec import Param, Role
from fiji_poreseg.phantoms import Phantom
from fiji_poreseg.stack import as_stack


@CATALOG.command("PoreSeg Phantom", present=presentation.phantom)
def phantom(
    output: Annotated[
        Path | None,
        Param(
            "folder to write stack.tif and truth.tif to",
            role=Role.OUTPUT,
            metavar="OUT_DIR",
            required_on_command_line=True,
        ),
    ] = None,
    *,
    slices: Annotated[int, Param("number of slices", ge=1, le=100_000)] = 600,
    size: Annotated[int, Param("side of a slice", unit="voxels", ge=16, le=16_384)] = 256,
    seed: Seed = 0,
    porosity: Annotated[float, Param("share of the pore", ge=0.05, le=0.99)] = 0.8,
    spacing_nm: Annotated[
        tuple[float, float, float], Param("voxel size z,y,x", unit="nm", ge=0.1)
    ] = (10.0, 10.0, 10.0),
    feature_size_nm: Annotated[
        float, Param("mean wavelength of the structure", unit="nm", ge=1)
    ] = phantoms.FEATURE_SIZE_NM,
    attenuation_nm: Annotated[
        float, Param("depth at which a pore-back's grey has fallen to 1/e", unit="nm", ge=0.1)
    ] = phantoms.ATTENUATION_NM,
    noise: Annotated[
        float, Param("standard deviation of the noise on a cut face, relative", ge=0, le=2)
    ] = phantoms.NOISE,
) -> Phantom:
    """Make a synthetic FIB-SEM stack of a porous membrane with pore-backs, and its exact truth.

    Parameters
    ----------
    output
        Folder for ``stack.tif`` and ``truth.tif``; made if it does not exist.
    slices, size
        Shape: `slices` of `size` x `size` voxels.
    seed
        Seed; the same parameters give the same bytes.
    porosity
        Share of the pore, 0.05 to 0.99.
    spacing_nm
        Voxel size in nm (z, y, x).
    feature_size_nm
        Mean wavelength of the structure in nm.
    attenuation_nm
        Depth in nm at which the grey of a pore's back wall has fallen to 1/e.
    noise
        Standard deviation of the noise on a cut face, relative to its grey.

    Returns
    -------
    Phantom
        `stack` (uint8 grey values) and `truth` (uint8, 1 pore, 2 solid).

    Raises
    ------
    ParameterError
        If a value is out of range or the folder cannot be written.
    """
    phantoms.check_lengths(spacing_nm, feature_size_nm)
    if output is not None:
        checks.make_folder(output)
    made = phantoms.make_phantom(
        slices,
        size,
        seed=seed,
        porosity=porosity,
        spacing_nm=spacing_nm,
        feature_size_nm=feature_size_nm,
        attenuation_nm=attenuation_nm,
        noise=noise,
    )
    if output is not None:
        with files.together():
            files.write(output / "stack.tif", made.stack)
            files.write(output / "truth.tif", made.truth)
    return made


@CATALOG.command("PoreSeg Convert", present=presentation.converted)
def convert(
    image: Image,
    *,
    output: Annotated[
        Path,
        Param("TIFF or OME-Zarr to write", role=Role.OUTPUT, metavar="FILE", suffix=".zarr"),
    ],
    voxel_size_nm: VoxelSize = None,
) -> xr.DataArray:
    """Write a stack in another format: as a TIFF of ImageJ, an OME-TIFF or an OME-Zarr.

    Parameters
    ----------
    image
        Stack, dims ``("z", "y", "x")`` or ``("c", "z", "y", "x")``: a TIFF, a folder of slices,
        an OME-Zarr, an image of ImageJ.
    output
        ``.tif``, ``.ome.tif`` or ``.zarr``. It is written slice by slice, and there when it is
        whole.
    voxel_size_nm
        Voxel size in nm (z, y, x) that overrides the image's own.

    Returns
    -------
    xarray.DataArray
        The stack.

    Raises
    ------
    ParameterError
        If it is no grey-value stack, or the file cannot be written.
    """
    files.check_output(output)
    stack = as_stack(image, voxel_size_nm=voxel_size_nm)
    files.write(output, stack)
    return stack
