"""Hand corrections: merged into a segmentation, counted slice by slice, and taken back."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg import audit
from fiji_poreseg.audit import Audit, Entry
from fiji_poreseg.errors import ParameterError, PoreSegWarning
from fiji_poreseg.stack import PORE, SOLID, make_labels

# What says the same as the segmentation in more than this share of it was hardly painted over it.
_COPY = 0.9


@dataclass(frozen=True, slots=True)
class Change:
    """What a correction did in one slice, in pixels.

    Parameters
    ----------
    index
        0-based slice.
    pore_to_solid, solid_to_pore
        Pixels changed, by direction.
    hand_made
        Pixels that a person stated, changed or not.
    overruled
        Pixels of which an earlier correction had said something else, be it that their slice was
        looked at whole.
    """

    index: int
    pore_to_solid: int
    solid_to_pore: int
    hand_made: int
    overruled: int


@dataclass(frozen=True, slots=True)
class Correction:
    """A corrected segmentation and what was changed.

    Parameters
    ----------
    segmentation
        uint8, dims ``("z", "y", "x")``.
    hand
        uint8, its shape: the class of each pixel that a person stated or looked at, in this
        correction or an earlier one of the same history; 0 elsewhere.
    changes
        One entry for each slice that holds a correction.
    states
        Of each slice ``"checked"``, ``"touched"`` or ``"unseen"``.
    history
        All corrections, with this one.
    """

    segmentation: xr.DataArray
    hand: xr.DataArray
    changes: tuple[Change, ...]
    states: tuple[str, ...]
    history: Audit

    @property
    def total(self) -> dict[str, int]:
        """Pixels in all slices, as in `changes`."""
        names = ("pore_to_solid", "solid_to_pore", "hand_made", "overruled")
        return {name: sum(getattr(change, name) for change in self.changes) for name in names}


def merge(
    segmentation: xr.DataArray,
    corrections: xr.DataArray,
    *,
    history: Audit | None = None,
    checked: Iterable[int] = (),
    source: str = "",
) -> Correction:
    """Lay corrections over a segmentation.

    Parameters
    ----------
    segmentation
        uint8, dims ``("z", "y", "x")``; not changed.
    corrections
        uint8 labels on the same voxels. Where they say something of every pixel that the
        segmentation has a class for, they are an edited copy of it, and what differs is made by
        hand; else, or where ``attrs["painted"]`` says so, they were painted over it: 0 leaves a
        pixel as it is, and whatever else is made by hand, also where it confirms.
    history
        The corrections before.
    checked
        0-based slices that were looked at whole.
    source
        Where the corrections are from, for the history.

    Warns
    -----
    PoreSegWarning
        If they look like an edited copy in which some pixels were erased, or the two like they
        were taken for each other.
    """
    before = segmentation.to_numpy()
    painted = corrections.to_numpy()
    covered = before > 0
    erased = int(np.count_nonzero(covered & (painted == 0)))
    is_painted = bool(corrections.attrs.get("painted", False))
    is_copy = not erased and not is_painted
    alike = np.count_nonzero(covered & (painted == before))
    if erased and not is_painted and alike > _COPY * np.count_nonzero(covered):
        warnings.warn(
            f"the corrections look like an edited copy in which {erased} pixels were erased (0): "
            "all others count as made by hand. Give the erased ones a class, and only what you "
            "changed counts.",
            PoreSegWarning,
            stacklevel=2,
        )
    elif np.count_nonzero(painted) > np.count_nonzero(covered):
        warnings.warn(
            f"more pixels are corrected ({np.count_nonzero(painted)}) than the segmentation has a "
            f"class for ({np.count_nonzero(covered)}): were the two taken for each other? The "
            "segmentation comes first.",
            PoreSegWarning,
            stacklevel=2,
        )
    stated = (painted > 0) & (painted != before) if is_copy else painted > 0
    where = np.flatnonzero(stated)
    after = before.copy()
    after[stated] = painted[stated]
    entry = Entry(
        where,
        before.reshape(-1)[where],
        after.reshape(-1)[where],
        tuple(sorted(set(checked))),
        source,
        datetime.now(UTC).isoformat(timespec="seconds"),
        audit.digest(before),
        audit.digest(after),
    )
    earlier = history or Audit(before.shape)
    changes = _changes(entry, earlier.hand_made(segmentation))
    name = f"{str(segmentation.name).removesuffix('-segmentation').removesuffix('-corrected')}"
    return _answer(segmentation, after, f"{name}-corrected", changes, earlier.with_entry(entry))


def undo(segmentation: xr.DataArray, history: Audit) -> Correction:
    """Take the last correction back.

    Parameters
    ----------
    segmentation
        As the last correction left it; not changed.
    history
        The corrections, of which there is at least one.

    Returns
    -------
    Correction
        The segmentation before it, and a history without it; its changes are those that are
        taken back, in the other direction.

    Raises
    ------
    ParameterError
        If there is nothing to take back.
    """
    if not history.entries:
        raise ParameterError(
            "history",
            "must hold a correction to take back",
            "one without any",
            "This is the segmentation before the first correction.",
        )
    last, earlier = history.entries[-1], history.without_last()
    before = segmentation.to_numpy().copy()
    before.reshape(-1)[last.where] = last.before
    back = Entry(
        last.where, last.after, last.before, (), "", "", last.digest_after, last.digest_before
    )
    changes = _changes(back, np.zeros_like(before))
    return _answer(segmentation, before, str(segmentation.name), changes, earlier)


def _changes(entry: Entry, hand: npt.NDArray[np.uint8]) -> tuple[Change, ...]:
    """What a correction did, where this much was made by hand before it, 0 elsewhere."""
    known = hand.reshape(-1)[entry.where]
    slices = entry.where // hand[0].size

    def counts(which: npt.NDArray[np.bool_]) -> list[int]:
        found: list[int] = np.bincount(slices[which], minlength=len(hand)).tolist()
        return found

    everything = zip(
        counts((entry.before == PORE) & (entry.after == SOLID)),
        counts((entry.before == SOLID) & (entry.after == PORE)),
        counts(np.ones(len(slices), bool)),
        counts((known > 0) & (known != entry.after)),
        strict=True,
    )
    return tuple(Change(index, *numbers) for index, numbers in enumerate(everything) if numbers[2])


def _answer(
    like: xr.DataArray,
    values: npt.NDArray[np.uint8],
    name: str,
    changes: tuple[Change, ...],
    history: Audit,
) -> Correction:
    classes = like.attrs["classes"]
    made = make_labels(values, like, name=name, classes=classes)
    hand = make_labels(history.hand_made(made), like, name=f"{name}-hand", classes=classes)
    return Correction(made, hand, changes, tuple(history.states()), history)
