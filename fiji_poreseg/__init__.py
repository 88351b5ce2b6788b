"""fiji-poreseg: segment pore-backs in FIB-SEM stacks, from ImageJ macros, Python and the shell.

>>> import fiji_poreseg as fp
>>> made = fp.phantom(slices=24, size=64)
>>> forest = fp.train_forest(made.stack, made.truth, indices=[0, 8, 16])
>>> segmentation = fp.segment(made.stack, model=forest).segmentation

Importing the package starts no JVM and loads no TensorFlow; the names below are imported when
they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fiji_poreseg.bridge import register, start, to_imageplus, to_imglib2, to_xarray
    from fiji_poreseg.commands.catalog import (
        auto,
        convert,
        correct,
        evaluate,
        load,
        measure,
        phantom,
        save_labels,
        segment,
        select_slices,
        study,
        suggest,
        train_forest,
        train_resunet,
        undo_correction,
    )
    from fiji_poreseg.errors import (
        Canceled,
        EngineError,
        MacroError,
        ParameterError,
        PoreSegWarning,
    )
    from fiji_poreseg.files import read, write
    from fiji_poreseg.stack import as_stack, make_labels, make_stack

__version__ = "0.1.0"

__all__ = [
    "Canceled",
    "EngineError",
    "MacroError",
    "ParameterError",
    "PoreSegWarning",
    "as_stack",
    "auto",
    "convert",
    "correct",
    "evaluate",
    "load",
    "make_labels",
    "make_stack",
    "measure",
    "phantom",
    "read",
    "register",
    "save_labels",
    "segment",
    "select_slices",
    "start",
    "study",
    "suggest",
    "to_imageplus",
    "to_imglib2",
    "to_xarray",
    "train_forest",
    "train_resunet",
    "undo_correction",
    "write",
]

_HOMES = {
    "bridge": ("register", "start", "to_imageplus", "to_imglib2", "to_xarray"),
    "commands.catalog": (
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
    ),
    "errors": ("Canceled", "EngineError", "MacroError", "ParameterError", "PoreSegWarning"),
    "files": ("read", "write"),
    "stack": ("as_stack", "make_labels", "make_stack"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
