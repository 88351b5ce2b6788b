"""The commands. Each is a Python function; the other surfaces follow from its definition.

Images may be given as anything that `fiji_poreseg.stack.as_stack` takes: an xarray DataArray, a
numpy or dask array, a path, an ImagePlus or an ImgLib2 image.
"""

# In the order of the menu, not of the alphabet.
# isort: off
from fiji_poreseg.commands.catalog.parameters import CATALOG
from fiji_poreseg.commands.catalog.making import phantom, convert
from fiji_poreseg.commands.catalog.training import select_slices, train_forest, train_resunet
from fiji_poreseg.commands.catalog.applying import load, segment
from fiji_poreseg.commands.catalog.by_hand import correct, save_labels, undo_correction
from fiji_poreseg.commands.catalog.judging import evaluate, measure, suggest
from fiji_poreseg.commands.catalog.whole import auto, study
# isort: on

__all__ = [
    "CATALOG",
    "auto",
    "convert",
    "correct",
    "evaluate",
    "load",
    "measure",
    "phantom",
    "save_labels",
    "segment",
    "select_slices",
    "study",
    "suggest",
    "train_forest",
    "train_resunet",
    "undo_correction",
]
