"""What to label or to check next: where a model is likely wrong, and what it has not seen."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
from skimage.measure import block_reduce

from fiji_poreseg.appearance import Outside, appearance, outside
from fiji_poreseg.model import Model, likeliest
from fiji_poreseg.pore_backs import Suspects
from fiji_poreseg.progress import track
from fiji_poreseg.slices import evenly
from fiji_poreseg.stack import spacing_nm

# At most as many slices are looked at, evenly spaced.
_LOOKED_AT = 100
# Labels tell a model little about slices farther away than that: it sees no deeper.
_REACH_NM = 140.0
# What a look is worth right beside a labelled slice, as a share of one beyond that reach.
_NEARBY = 0.25
_LEAST_SHARE = 0.005
# From where to where among a slice's squares, by their doubt, those lie that are suggested.
_WORTH_A_LOOK = (0.9, 0.5)
# Of a square's pixels, so many must hold data.
_MOSTLY = 0.5
_UNSURE = 0.25
_WRONG_IF_TURNED, _WRONG_IF_DARKER = 0.5, 0.1


@dataclass(frozen=True, slots=True)
class Region:
    """Part of a slice, in pixels: its upper left corner `x`, `y` and its sides; `doubt` 0 to 1."""

    x: int
    y: int
    width: int
    height: int
    doubt: float


@dataclass(frozen=True, slots=True)
class Advice:
    """Why to look at a slice, and where.

    Parameters
    ----------
    index
        0-based slice.
    score
        `doubt`, less where the next labelled slice lies within 140 nm, the reach of the model: down
        to a quarter.
    why
        In words, the weightiest reason first.
    doubt
        Share of the slice's pixels that is expected to be wrong.
    disagreement
        Share of its pixels to which the model gives another class in the mirrored slice; 0 for
        a forest, whose features are the same in all directions.
    pore_back
        Share of its pixels that are called solid, and darker than solid that is milled later.
    distance_nm
        To the next labelled slice; None where there is none.
    regions
        Where in the slice, the most doubtful first.
    outside
        What lies outside of the model's training.
    """

    index: int
    score: float
    why: str
    doubt: float
    disagreement: float
    pore_back: float
    distance_nm: float | None
    regions: tuple[Region, ...]
    outside: tuple[Outside, ...]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """What `suggest` answers with.

    Parameters
    ----------
    slices
        Which slices to look at, the first one first.
    looked_at
        0-based slices that were compared.
    alarms
        Those of them that lie outside of the model's training, and how.
    """

    slices: tuple[Advice, ...]
    looked_at: tuple[int, ...]
    alarms: Mapping[int, tuple[Outside, ...]]

    def as_json(self) -> dict[str, object]:
        """What `suggest` writes: slices, best first, and alarms, by index."""
        return {
            "slices": [
                asdict(one) | {"outside": [_named(o) for o in one.outside]} for one in self.slices
            ],
            "looked_at": list(self.looked_at),
            "alarms": [
                {"index": index, "outside": [_named(o) for o in found]}
                for index, found in self.alarms.items()
            ],
        }


def _named(found: Outside) -> dict[str, object]:
    return {**found._asdict(), "why": str(found)}


def suggest(
    model: Model,
    stack: xr.DataArray,
    labelled: Iterable[int],
    count: int,
    *,
    indices: Sequence[int] | None = None,
    regions: int = 3,
    side: int = 32,
    options: Mapping[str, Any] | None = None,
) -> Suggestion:
    """Rank slices, and regions in them, by how much there is to gain from a person's look.

    The margin of the likeliest class is what uncertainty sampling goes by (Settles, Active
    Learning Literature Survey, 2009). A slice that is chosen counts as labelled for the next
    choice, so that they spread along the stack.

    Parameters
    ----------
    model
        A trained forest or ResUNet.
    stack
        A checked stack.
    labelled
        0-based slices that hold labels already.
    count
        How many slices to suggest at most.
    indices
        0-based slices to choose from; by default 100, evenly spaced, or all of a shorter stack.
    regions
        How many regions of each slice to name.
    side
        Length of a region's sides, in voxels.
    options
        More that the model's `predict` takes.

    Returns
    -------
    Suggestion
        Without slices where none of them holds data.

    Raises
    ------
    ParameterError
        If the model does not fit the stack.
    """
    if indices is None:
        indices = evenly(range(stack.sizes["z"]), _LOOKED_AT)
    seen = appearance(stack, track(indices, "Looking at slices", len(indices)))
    if not seen:
        return Suggestion((), (), {})
    alarms = {
        index: found
        for index, numbers in seen.items()
        if (found := outside(numbers, model.card.appearance))
    }
    doubts = _doubts(model, stack, list(seen), options or {}, regions, side)
    known = sorted(set(labelled))
    chosen: list[Advice] = []
    left = {found.index: found for found in track(doubts, "Predicting", len(seen))}
    step = spacing_nm(stack)[0]
    while left and len(chosen) < count:
        away = {index: _distance(index, known, step) for index in left}
        best = max(left, key=lambda index: left[index].score(away[index]))
        chosen.append(left.pop(best).advice(away[best], alarms.get(best, ())))
        known.append(best)
    return Suggestion(tuple(chosen), tuple(seen), alarms)


@dataclass(frozen=True, slots=True)
class _Doubt:
    """How right a slice's answer may be. It holds no map: many slices are compared."""

    index: int
    mean: float
    regions: tuple[Region, ...]
    unsure: float
    disagreement: float
    pore_back: float

    def score(self, distance_nm: float | None) -> float:
        far = 1.0 if distance_nm is None else min(1.0, distance_nm / _REACH_NM)
        return self.mean * (_NEARBY + (1 - _NEARBY) * far)

    def advice(self, distance_nm: float | None, alarms: tuple[Outside, ...]) -> Advice:
        return Advice(
            self.index,
            self.score(distance_nm),
            "; ".join([*map(str, alarms), *self._reasons(distance_nm)]),
            self.mean,
            self.disagreement,
            self.pore_back,
            distance_nm,
            self.regions,
            alarms,
        )

    def _reasons(self, distance_nm: float | None) -> list[str]:
        reasons = {
            f"unsure of {self.unsure:.1%} of the pixels": self.unsure,
            f"answers otherwise where mirrored, {self.disagreement:.1%}": self.disagreement,
            f"solid that may be a pore-back, {self.pore_back:.1%}": self.pore_back,
        }
        told = sorted(
            (why for why in reasons if reasons[why] >= _LEAST_SHARE), key=lambda why: reasons[why]
        )
        if distance_nm is not None and distance_nm > _REACH_NM:
            told.insert(0, f"{distance_nm:.0f} nm from the next labelled slice")
        return told[::-1] or ["as unsure as any other"]


def _regions(
    doubts: npt.NDArray[np.float16], known: npt.NDArray[np.bool_], count: int, side: int
) -> tuple[Region, ...]:
    """Some of the squares that a slice falls into: doubtful ones, but not the worst.

    What is worst is often not to be told by anybody, and teaches a model little. Squares that hold
    little data are left out: there is nothing to look at, and they would count as the surest.
    """
    sums = np.asarray(block_reduce(np.where(known, doubts, 0).astype(np.float32), side, np.sum))
    held = np.asarray(block_reduce(known, side, np.sum))
    shares = held / np.asarray(block_reduce(np.ones_like(known), side, np.sum))
    ascending = np.argsort(sums, axis=None, kind="stable")
    full_enough = shares.ravel() >= min(_MOSTLY, shares.max())
    ascending = ascending[full_enough[ascending]]
    wanted = np.linspace(*_WORTH_A_LOOK, 2 * count + 1)[1::2] * len(ascending)
    rows, columns = doubts.shape
    found = []
    for place in dict.fromkeys(ascending[wanted.astype(int)].tolist()):
        row, column = divmod(place, sums.shape[1])
        x, y = column * side, row * side
        width, height = min(side, columns - x), min(side, rows - y)
        mean = float(sums[row, column] / int(held[row, column]))
        found.append(Region(x, y, width, height, mean))
    return tuple(found)


def _distance(index: int, labelled: Sequence[int], step_nm: float) -> float | None:
    return min((abs(index - other) * step_nm for other in labelled), default=None)


def _doubts(
    model: Model,
    stack: xr.DataArray,
    indices: Sequence[int],
    options: Mapping[str, Any],
    regions: int,
    side: int,
) -> Iterator[_Doubt]:
    suspects = Suspects(stack, model.card.normalisation, model.card.milling)
    mirrored = stack.isel(x=slice(None, None, -1))
    others = (
        model.predict_labels(mirrored, indices, **options)
        if model.depends_on_direction
        else itertools.repeat((0, None))
    )
    for (index, probabilities), (_, other) in zip(
        model.predict(stack, indices, **options), others, strict=False
    ):
        found = likeliest(probabilities)
        known = found > 0
        wrong = 1 - probabilities.max(axis=0)
        turned = np.zeros_like(known) if other is None else known & (other[:, ::-1] != found)
        back = suspects(index, found)
        doubt = np.maximum(wrong, np.maximum(_WRONG_IF_TURNED * turned, _WRONG_IF_DARKER * back))
        doubt = doubt.astype(np.float16)
        shares = (float(np.mean(where[known])) for where in (wrong > _UNSURE, turned, back))
        mean = float(np.mean(doubt[known], dtype=np.float64))
        yield _Doubt(index, mean, _regions(doubt, known, regions, side), *shares)
