"""The catalog, and the parameters that several of its commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

from fiji_poreseg import model as models
from fiji_poreseg.commands.spec import Catalog, Param, Role
from fiji_poreseg.resunet import CONTEXTS

StackLike: TypeAlias = Any
LabelsLike: TypeAlias = Any
ModelLike: TypeAlias = Any

CATALOG = Catalog()

Image = Annotated[StackLike, Param("the grey-value stack", role=Role.IMAGE, metavar="STACK")]
Labels = Annotated[
    LabelsLike,
    Param(
        "labels of the stack: an image (0 unlabelled, 1 pore, 2 solid, …), a mask, or ROIs",
        role=Role.LABELS,
        metavar="LABELS",
    ),
]
Indices = Annotated[
    tuple[int, ...] | None,
    Param("slices, counted from 0, with commas between them", ge=0, metavar="I,J,…"),
]
ModelFile = Annotated[
    Path | None,
    Param(
        "file to write the model to, .poreseg",
        role=Role.OUTPUT,
        metavar="FILE",
        suffix=models.SUFFIX,
        required_on_command_line=True,
    ),
]
AnyModel = Annotated[
    ModelLike,
    Param(
        "a trained model: its .poreseg file, or pretrained, which needs no labels",
        role=Role.MODEL,
        metavar="FILE|pretrained",
    ),
]
SeenContext = Annotated[
    str,
    Param("what a ResUNet sees: the slice and its neighbours, or the slice", choices=CONTEXTS),
]
ClassWeights = Annotated[
    str,
    Param(
        "balanced: each class counts the same, none: each pixel; auto balances scribbles and "
        "then expects as much of each class as the stack shows",
        choices=models.CLASS_WEIGHTS,
    ),
]
Corrections = Annotated[
    LabelsLike,
    Param(
        "labels made by hand that win over the others: an image, such as hand= of correct, or ROIs",
        role=Role.IMAGE,
        metavar="CORRECTIONS",
    ),
]
CorrectionWeight = Annotated[
    float, Param("how many times a pixel counts that is made by hand", ge=1, le=1000)
]
Seed = Annotated[int, Param("seed of everything random", ge=0, le=2**32 - 1)]
Classes = Annotated[tuple[str, ...], Param("names of the classes 1, 2, and so on")]
ImageClasses = Annotated[
    tuple[str, ...] | None,
    Param("names of the classes 1, 2, and so on; the image's own by default"),
]
MaskForeground = Annotated[
    str, Param("what 255 stands for where a mask is given", choices=("solid", "pore"))
]
Milling = Annotated[
    str, Param("forward where a larger index lies deeper", choices=("forward", "reverse"))
]
VoxelSize = Annotated[
    tuple[float, float, float] | None,
    Param("voxel size z,y,x where the image's own is missing or wrong", unit="nm", ge=0),
]
NoData = Annotated[
    float | None,
    Param("grey value of the empty border that alignment leaves"),
]
Workers = Annotated[
    int | None, Param("processes of this machine that share the work", ge=1, metavar="N")
]
Scheduler = Annotated[
    str | None,
    Param("a Dask cluster that does the work: its scheduler's address or file", metavar="ADDRESS"),
]
Json = Annotated[
    Path | None,
    Param("JSON file to write the numbers to", role=Role.OUTPUT, metavar="FILE", suffix=".json"),
]
