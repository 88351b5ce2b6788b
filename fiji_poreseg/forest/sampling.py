"""Which labelled pixels a forest learns from, and their features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg.features import FeatureReader, Features
from fiji_poreseg.progress import track
from fiji_poreseg.stack import check_two_classes

# Share of the training pixels whose neighbours are cut off at a random depth, as at the ends.
_CUT_SHARE = 0.3


class Sample(NamedTuple):
    """Labelled pixels: their features `x`, classes `y` and slices `z`.

    `weights` is how much each counts, `corrected` says which a person stated, `whole` where no
    neighbour was hidden, and `labelled_share` is that of the slices' pixels.
    """

    x: Features
    y: npt.NDArray[np.uint8]
    z: npt.NDArray[np.intp]
    weights: npt.NDArray[np.float64]
    corrected: npt.NDArray[np.bool_]
    whole: npt.NDArray[np.bool_]
    labelled_share: float

    def of(self, chosen: npt.NDArray[np.bool_]) -> Sample:
        """Some of the pixels."""
        return Sample(
            self.x[chosen],
            self.y[chosen],
            self.z[chosen],
            self.weights[chosen],
            self.corrected[chosen],
            self.whole[chosen],
            self.labelled_share,
        )


def draw(
    reader: FeatureReader,
    labels: xr.DataArray,
    indices: Sequence[int],
    pixels: int,
    rng: np.random.Generator,
    corrections: xr.DataArray | None,
    correction_weight: float,
) -> Sample:
    """Draw labelled pixels, as many from each slice as there are to have, corrected ones first."""
    x, y, z, corrected, whole, labelled = [], [], [], [], [], []
    share = max(2, pixels // len(indices))
    for index in track(indices, "Computing features"):
        plane = labels.isel(z=index).to_numpy().ravel()
        valid = reader.slices[index].valid.ravel()
        where = np.flatnonzero((plane > 0) & valid)
        by_hand = np.zeros(plane.shape, bool)
        if corrections is not None:
            by_hand = corrections.isel(z=index).to_numpy().ravel() > 0
        # A slice with corrections alone says nothing about how densely the others are labelled.
        if not by_hand[where].all():
            labelled.append(len(where) / max(1, int(np.count_nonzero(valid))))
        if len(where) > share:
            first = where[by_hand[where]]
            first = rng.choice(first, share, replace=False) if len(first) > share else first
            others = rng.choice(where[~by_hand[where]], share - len(first), replace=False)
            where = np.sort(np.concatenate([first, others]))
        hidden = _cut(reader.bank.offsets_nm, len(where), rng)
        x.append(reader.pixels(index, where, hidden))
        y.append(plane[where])
        z.append(np.full(len(where), index))
        corrected.append(by_hand[where])
        whole.append(~hidden.any(axis=0))
    found = np.concatenate(y)
    check_two_classes(np.unique(found).tolist(), labels.attrs["classes"])
    stated = np.concatenate(corrected)
    return Sample(
        np.concatenate(x),
        found,
        np.concatenate(z),
        np.where(stated, float(correction_weight), 1.0),
        stated,
        np.concatenate(whole),
        float(np.mean(labelled or [0])),
    )


def _cut(
    offsets_nm: Sequence[float], pixels: int, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Which neighbours to hide: for some pixels all beyond a random depth, below or above."""
    offsets = np.array(offsets_nm)[:, np.newaxis]
    side = rng.choice([1, -1], pixels)
    depth = rng.choice(np.abs(offsets_nm), pixels) * rng.integers(0, 2, pixels)
    cut = rng.random(pixels) < _CUT_SHARE
    return np.asarray(cut & (offsets * side > depth))
