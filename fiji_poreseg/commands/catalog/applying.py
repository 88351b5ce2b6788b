"""Apply models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import fiji_poreseg.forest
import fiji_poreseg.resunet
from fiji_poreseg import model as models
from fiji_poreseg import segmentation
from fiji_poreseg.cluster import place_of
from fiji_poreseg.commands import checks, presentation
from fiji_poreseg.commands.catalog.parameters import (
    CATALOG,
    AnyModel,
    Image,
    Indices,
    ModelLike,
    NoData,
    Scheduler,
    VoxelSize,
    Workers,
)
from fiji_poreseg.commands.spec import Param, Role
from fiji_poreseg.model import Model
from fiji_poreseg.resunet import PRECISIONS, PRETRAINED
from fiji_poreseg.segmentation import Segmentation
from fiji_poreseg.stack import as_stack


@CATALOG.command("PoreSeg Segment", present=presentation.segmentation)
def segment(
    image: Image,
    *,
    model: AnyModel,
    output: Annotated[
        Path | None,
        Param(
            "TIFF or OME-Zarr to write the segmentation to",
            role=Role.OUTPUT,
            metavar="SEG",
            suffix=".tif",
            required_on_command_line=True,
        ),
    ] = None,
    probability: Annotated[
        Path | None,
        Param(
            "TIFF or OME-Zarr to write the probability of solid to",
            role=Role.OUTPUT,
            metavar="P",
            suffix=".tif",
        ),
    ] = None,
    uncertainty: Annotated[
        Path | None,
        Param(
            "TIFF or OME-Zarr to write the uncertainty to, 0 where the model is sure, 1 on a tie",
            role=Role.OUTPUT,
            metavar="U",
            suffix=".tif",
        ),
    ] = None,
    precision: Annotated[
        str,
        Param(
            "of a ResUNet: fast is sooner on some processors, and off by some 0.01",
            choices=PRECISIONS,
        ),
    ] = "exact",
    augment: Annotated[
        bool, Param("mean of a ResUNet's answers to eight flips and turns, in eight times the time")
    ] = False,
    resume: Annotated[bool, Param("go on with a segmentation that was stopped or killed")] = False,
    workers: Workers = None,
    scheduler: Scheduler = None,
    indices: Indices = None,
    voxel_size_nm: VoxelSize = None,
    nodata: NoData = None,
) -> Segmentation:
    """Apply a forest or a ResUNet to a stack.

    Parameters
    ----------
    image
        Stack, dims ``("z", "y", "x")`` or ``("c", "z", "y", "x")``.
    model
        A `.poreseg` file, or what `train_forest` or `train_resunet` answered with; or
        ``"pretrained"``, the ResUNet that ships with the package, for a stack without labels.
    output, probability, uncertainty
        TIFFs (``.tif``, ``.ome.tif``) or OME-Zarrs (``.zarr``) to write, slice by slice: what
        takes more than 256 MB is not held in memory. They are there when all are whole; on an
        error or a cancellation, none is. ``STACK.zarr/labels/NAME`` puts a segmentation beside
        the grey values of an OME-Zarr.
    precision
        ``"fast"`` lets a ResUNet compute in bfloat16 where the processor has it. A forest is
        always exact.
    augment
        Let a ResUNet predict each slice in its eight flips and quarter turns, and take the mean.
    resume
        Go on where a killed segmentation with these files was, to the same images; start where
        there is none. What there is of them lies hidden beside them, as ``.NAME.begun``, and stays
        there on an error or a cancellation, too. Images without a file are not made.
    workers
        How many processes of this machine share the work; this process alone by default.
    scheduler
        A Dask cluster that does the work: the address of its scheduler, such as
        ``"tcp://node1:8786"``, or the ``.json`` file that it wrote. What comes out is the same as
        without, to the bit for a forest (docs/cluster.md).
    indices
        Slices to segment; all by default. The others are 0 in the segmentation.
    voxel_size_nm
        Voxel size in nm (z, y, x) that overrides the image's own.
    nodata
        Grey value of pixels without data; 0 in the segmentation.

    Returns
    -------
    Segmentation
        `segmentation` (uint8), `probability` (float32) and `uncertainty` (float32).

    Raises
    ------
    ParameterError
        If the model cannot be read or does not fit the stack, a file cannot be written, `augment`
        is asked of a forest, what is to be resumed was begun with something else, or the workers
        cannot be reached, differ from here, or cannot read the stack.

    Warns
    -----
    PoreSegWarning
        If the voxel size is far from the one trained on, or the stack looks milled the other
        way.
    """
    checks.check_images(output=output, probability=probability, uncertainty=uncertainty)
    checks.check_resume(resume, "output", output)
    loaded = load(model)
    options = checks.prediction_options(loaded, precision, augment)
    stack = as_stack(image, voxel_size_nm=voxel_size_nm, nodata=nodata)
    return segmentation.apply(
        loaded,
        stack,
        checks.all_or(indices, stack),
        options=options,
        output=output,
        probability=probability,
        uncertainty=uncertainty,
        resume=resume,
        place=place_of(workers, scheduler),
    )


def load(model: ModelLike) -> Model:
    """Read a `.poreseg` file; a model that is loaded already passes through.

    Parameters
    ----------
    model
        Path of the file, a model, or ``"pretrained"``: the ResUNet that ships with the package.

    Returns
    -------
    ForestModel or ResUNetModel
        ``.predict`` and ``.save`` are common to both, and ``.card`` says what it was trained on.

    Raises
    ------
    ParameterError
        If the file is missing, is no model, is damaged, or was written by a newer version.
    """
    if isinstance(model, Model):
        return model
    if str(model) == PRETRAINED:
        return fiji_poreseg.resunet.pretrained()
    return models.load(Path(model).expanduser())
