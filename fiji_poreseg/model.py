"""What a model is, and its `.poreseg` file: one zip of `model.json` and plain arrays.

Loading it runs no code.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg.appearance import MEASURED, Ranges, appearance, ranges
from fiji_poreseg.errors import ParameterError, in_short
from fiji_poreseg.files import DAMAGE_ERRORS, check_output, replacing
from fiji_poreseg.slices import PERCENTILES, check_spacing, warn_about_milling
from fiji_poreseg.stack import Spacing, spacing_nm

FORMAT_VERSION = 1
SUFFIX = ".poreseg"
CLASS_WEIGHTS = ("auto", "balanced", "none")
_DENSE_SHARE = 0.5
_DESCRIPTION = "model.json"
_LARGEST_DESCRIPTION = 16 * 2**20
_LARGEST_ARRAYS = 4 * 2**30
# What the lengths in a file may be: those of a damaged one would take all memory.
_LENGTHS_NM = (1e-3, 1e9)
_FARTHEST_VOXELS = 1000
_MOST_DETECTORS = 100
# One fixed date: the same model makes the same file, byte for byte.
_DATE = (1980, 1, 1, 0, 0, 0)

Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Card:
    """What every model says of itself.

    Parameters
    ----------
    classes
        Names of the classes 1, 2, and so on.
    spacing_nm
        Voxel size of the stack trained on, in nm (z, y, x).
    detectors
        Number of detectors.
    milling
        ``"forward"`` or ``"reverse"``.
    training_indices
        0-based slices that it was trained on.
    seed
        Seed of everything random.
    hashes
        SHA-256 of the training slices' grey values and labels.
    scores
        What was measured on held-out slices or samples while training.
    versions
        Versions of the packages that trained it.
    normalisation
        The percentiles of a slice's grey values that were mapped to 0 and 1.
    appearance
        The lowest and the highest of what `fiji_poreseg.appearance` measures on the slices that
        it was trained on; empty where that is not known.
    """

    classes: tuple[str, ...]
    spacing_nm: Spacing
    detectors: int
    milling: str
    training_indices: tuple[int, ...]
    seed: int
    hashes: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, float | int | None] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    normalisation: tuple[float, float] = PERCENTILES
    appearance: Ranges = field(default_factory=dict)


class Contents(NamedTuple):
    """What a model's file holds beside the card.

    Parameters
    ----------
    kind
        ``"forest"`` or ``"resunet"``.
    settings
        What this kind needs beside the arrays, in JSON's types.
    arrays
        The weights, by name.
    """

    kind: str
    settings: Mapping[str, Any]
    arrays: Arrays


@dataclass(frozen=True)
class Model(ABC):
    """What a forest and a ResUNet share.

    Parameters
    ----------
    card
        What the model says of itself.
    """

    card: Card
    depends_on_direction: ClassVar[bool] = False
    """Whether a mirrored slice may get another answer."""

    @abstractmethod
    def predict(
        self, stack: xr.DataArray, indices: Sequence[int]
    ) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Yield (index, probabilities) slice by slice, in order.

        Parameters
        ----------
        stack
            A checked stack.
        indices
            0-based slices.

        Yields
        ------
        tuple
            The index and float32 probabilities of shape (classes, y, x); NaN without data.

        Raises
        ------
        ParameterError
            If the stack has another number of detectors than the one trained on.
        """

    @abstractmethod
    def predict_labels(
        self, stack: xr.DataArray, indices: Sequence[int]
    ) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Yield (index, labels) slice by slice, in order: what `likeliest` makes of `predict`.

        Parameters
        ----------
        stack, indices
            As for `predict`.

        Yields
        ------
        tuple
            The index and uint8 labels of shape (y, x): 1 pore, 2 solid, …; 0 without data.
        """

    @abstractmethod
    def reach(self, stack: xr.DataArray) -> tuple[int, int]:
        """How many slices before, and how many after a slice of this stack it looks at."""

    def check(self, stack: xr.DataArray) -> None:
        """Find out whether it can be applied to a stack, as `check_fits` does."""
        check_fits(self.card, stack)

    @abstractmethod
    def contents(self) -> Contents:
        """What its file holds beside the card."""

    def save(self, path: str | Path) -> None:
        """Write the model to a file, atomically; equal models make equal files.

        Parameters
        ----------
        path
            The file, ``.poreseg``.

        Raises
        ------
        ParameterError
            If the file cannot be written.
        """
        check_output(Path(path), "model", suffixes=(SUFFIX,))
        with replacing(Path(path), parameter="model") as temporary:
            self._write(temporary)

    def to_bytes(self) -> bytes:
        """What its file holds; `from_bytes` reads it."""
        file = io.BytesIO()
        self._write(file)
        return file.getvalue()

    def _write(self, file: Path | IO[bytes]) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(_entry(_DESCRIPTION), self._description())
            for name, array in self.contents().arrays.items():
                buffer = io.BytesIO()
                np.save(buffer, array, allow_pickle=False)
                archive.writestr(_entry(f"{name}.npy"), buffer.getvalue())

    def digest(self) -> str:
        """SHA-256 of what its file holds."""
        found = hashlib.sha256(self._description().encode())
        for array in self.contents().arrays.values():
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()

    def _description(self) -> str:
        contents = self.contents()
        description = {
            "format_version": FORMAT_VERSION,
            "kind": contents.kind,
            "card": asdict(self.card),
            "settings": contents.settings,
        }
        return json.dumps(description, indent=1, ensure_ascii=False)


def balances(class_weights: str, labelled_share: float) -> bool:
    """Whether each class is to count the same, not each pixel.

    Parameters
    ----------
    class_weights
        One of `CLASS_WEIGHTS`.
    labelled_share
        Share of the slices that is labelled. Where it is small, labels are scribbles: how many
        there are of each class says little.
    """
    scribbled = labelled_share < _DENSE_SHARE
    return class_weights == "balanced" or (class_weights == "auto" and scribbled)


def likeliest(probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """The likeliest class of each pixel.

    Parameters
    ----------
    probabilities
        Shape (classes, y, x); NaN where there is no data.

    Returns
    -------
    numpy.ndarray
        uint8, shape (y, x): 1 for the first class, and so on; of equal ones the first. 0 where
        there is no data.
    """
    # numpy's argmax along the first axis takes twice as long.
    found, highest = np.ones(probabilities.shape[1:], np.uint8), probabilities[0].copy()
    for label, plane in enumerate(probabilities[1:], start=2):
        np.putmask(found, plane > highest, label)
        np.maximum(highest, plane, out=highest)
    found[np.isnan(highest)] = 0
    return found


_readers: dict[str, Callable[[Card, Mapping[str, Any], Arrays], Model]] = {}


def register_kind(kind: str, reader: Callable[[Card, Mapping[str, Any], Arrays], Model]) -> None:
    """Let `load` read models of a kind: `reader` makes one from card, settings and arrays."""
    _readers[kind] = reader


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _DATE)
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def load(path: str | Path) -> Model:
    """Read a model file.

    Parameters
    ----------
    path
        A `.poreseg` file.

    Returns
    -------
    Model
        A forest or a ResUNet.

    Raises
    ------
    ParameterError
        If there is no such file, it is no model, it is damaged, or a newer version of the
        package wrote it.
    """
    path = Path(path)
    if not path.is_file():
        raise ParameterError(
            "model",
            "must name a file that exists",
            str(path),
            f"Train one first, with model=NAME{SUFFIX}.",
        )
    return _read(path, str(path))


def from_bytes(content: bytes) -> Model:
    """Read what a model's file holds, as `load` does."""
    return _read(io.BytesIO(content), "what was sent")


def _read(file: Path | IO[bytes], shown: str) -> Model:
    try:
        with zipfile.ZipFile(file) as archive:
            description = _read_description(archive, shown)
            arrays = _read_arrays(archive)
        reader = _readers[description["kind"]]
        raw = description["card"]
        card = Card(
            **{
                **raw,
                "classes": tuple(raw["classes"]),
                "spacing_nm": tuple(raw["spacing_nm"]),
                "training_indices": tuple(raw["training_indices"]),
                "normalisation": tuple(raw["normalisation"]),
                "appearance": {
                    what: (float(low), float(high))
                    for what, (low, high) in raw.get("appearance", {}).items()
                },
            }
        )
        _check_card(card)
        return reader(card, description["settings"], arrays)
    except ParameterError:
        raise
    except DAMAGE_ERRORS as error:
        raise ParameterError(
            "model",
            f"must be a whole {SUFFIX} file written by this package",
            shown,
            f"It cannot be read ({in_short(error)}); train or copy it again.",
        ) from error


def _check_card(card: Card) -> None:
    shortest, longest = _LENGTHS_NM
    low, high = card.normalisation
    rules = {
        "classes": bool(card.classes) and all(isinstance(name, str) for name in card.classes),
        "spacing_nm": len(card.spacing_nm) == 3
        and all(shortest <= step <= longest for step in card.spacing_nm),
        "detectors": isinstance(card.detectors, int) and 1 <= card.detectors <= _MOST_DETECTORS,
        "milling": card.milling in ("forward", "reverse"),
        "training_indices": all(
            isinstance(index, int) and index >= 0 for index in card.training_indices
        ),
        "normalisation": 0 <= low < high <= 100,
        # Where the brightness lies is told in units of the contrast.
        "appearance": not card.appearance
        or (
            {"contrast"} <= card.appearance.keys() <= set(MEASURED)
            and not any(least > most for least, most in card.appearance.values())
        ),
    }
    wrong = [name for name, holds in rules.items() if not holds]
    if wrong:
        raise ValueError(f"its card has an impossible {wrong[0]}")


def check_reach(card: Card, lengths_nm: Iterable[float]) -> None:
    """Find out whether what a model looks at is near enough to be looked at.

    Parameters
    ----------
    card
        What the model says of itself.
    lengths_nm
        How far it looks and how wide it blurs, in nm.

    Raises
    ------
    ValueError
        If a length in nm is no number, or more than 1000 voxels of the model.
    """
    farthest = _FARTHEST_VOXELS * max(card.spacing_nm)
    # Also false for NaN.
    if not all(abs(length) <= farthest for length in lengths_nm):
        raise ValueError("it looks farther than any model")


def _read_description(archive: zipfile.ZipFile, shown: str) -> dict[str, Any]:
    if archive.getinfo(_DESCRIPTION).file_size > _LARGEST_DESCRIPTION:
        raise ValueError(f"{_DESCRIPTION} is too large")
    description = json.loads(archive.read(_DESCRIPTION))
    found = description["format_version"]
    if not isinstance(found, int) or found > FORMAT_VERSION:
        raise ParameterError(
            "model",
            f"must be of format {FORMAT_VERSION} or older",
            f"{shown}, of format {found}",
            "It was written by a newer fiji-poreseg: install that, or train it anew with this one.",
        )
    return dict(description)


def _read_arrays(archive: zipfile.ZipFile) -> dict[str, npt.NDArray[Any]]:
    entries = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
    if sum(entry.file_size for entry in entries) > _LARGEST_ARRAYS:
        raise ValueError("its arrays are too large")
    arrays = {}
    for entry in entries:
        buffer = io.BytesIO(archive.read(entry))
        arrays[entry.filename.removesuffix(".npy")] = np.load(buffer, allow_pickle=False)
    return arrays


def check_fits(card: Card, stack: xr.DataArray, *, any_voxels: bool = False) -> None:
    """Find out whether a model can be applied to a stack.

    Parameters
    ----------
    card, stack
        What the model says of itself, and the stack.
    any_voxels
        Whether the size of the voxels does not matter.

    Raises
    ------
    ParameterError
        If the stack has another number of detectors than the model was trained on, or its voxels
        differ by more than 100x.

    Warns
    -----
    PoreSegWarning
        If its voxels differ by more than 1.5x, or it looks milled the other way.
    """
    found = stack.sizes.get("c", 1)
    if found != card.detectors:
        raise ParameterError(
            "image",
            f"must have {card.detectors} detector(s), as the model was trained",
            f"{stack.name} with {found}",
            "Choose the channels in ImageJ (Image > Color > Arrange Channels), or another model.",
        )
    if not any_voxels:
        check_spacing(card.spacing_nm, stack)
    turn = "If so, turn the stack round (Image > Transform > Flip Z in ImageJ)."
    warn_about_milling(stack, card.milling, turn)


def was_trained_on(card: Card, stack: xr.DataArray) -> bool:
    """Whether a model was trained on slices of this stack, which are then its training indices."""
    indices = card.training_indices
    fits = bool(indices) and max(indices) < stack.sizes["z"] and "image" in card.hashes
    return fits and digest_of_slices(stack, indices) == card.hashes["image"]


def describe(
    stack: xr.DataArray,
    labels: xr.DataArray,
    indices: Sequence[int],
    *,
    classes: Sequence[str],
    milling: str,
    seed: int,
    scores: Mapping[str, float | int | None],
    packages: Sequence[str],
) -> Card:
    """Write the card of a model that was just trained.

    Parameters
    ----------
    stack, labels, indices
        What it was trained on, to be hashed.
    classes, milling, seed, scores
        See `Card`.
    packages
        The packages that trained it, whose versions are kept.
    """
    return Card(
        classes=tuple(classes),
        spacing_nm=spacing_nm(stack),
        detectors=int(stack.sizes.get("c", 1)),
        milling=milling,
        training_indices=tuple(indices),
        seed=seed,
        hashes={
            "image": digest_of_slices(stack, indices),
            "labels": digest_of_slices(labels, indices),
        },
        scores=scores,
        versions={
            "python": platform.python_version(),
            **{name: version(name) for name in ("fiji-poreseg", "numpy", *packages)},
        },
        appearance=ranges(appearance(stack, indices).values()),
    )


def digest_of_slices(image: xr.DataArray, indices: Iterable[int]) -> str:
    """SHA-256 of the values of some slices."""
    digest = hashlib.sha256()
    for index in indices:
        digest.update(np.ascontiguousarray(image.isel(z=index).data).tobytes())
    return digest.hexdigest()
