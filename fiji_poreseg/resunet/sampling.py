"""Patches for training: drawn at random from the labelled slices, and augmented.

What is varied is what varies in FIB-SEM: orientation in the plane, size and shape, sharpness,
brightness, contrast and gamma of a slice, curtaining, noise, and how many slices there are above
and below. A view lies in memory pixel by pixel, so that the neighbours of one are moved at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr
from scipy.ndimage import gaussian_filter, gaussian_filter1d
from scipy.sparse import csr_array
from scipy.special import ndtri

from fiji_poreseg.resunet.backend import keras
from fiji_poreseg.resunet.context import Channels, Context, channels, existing, with_reach
from fiji_poreseg.slices import SliceReader, voxel_offsets

# Share of the patches whose neighbours are cut off at a random depth, as at the ends.
_CUT_SHARE = 0.5
# Shares of the patches that are resampled, blurred, and striped by curtaining.
_DEFORMED_SHARE, _BLURRED_SHARE, _CURTAINED_SHARE = 0.4, 0.2, 0.3
# A patch shows up to so much more or less of the slice than its own size.
_LARGEST_ZOOM = 1.25
# Root mean square of the elastic displacement at most, and the waves that make it up along a side.
_LARGEST_BEND, _WAVES = 0.015, 4
# Of the normal distribution, at the middles of shares of equal size.
_QUANTILES = ndtri((np.arange(2**16) + 0.5) / 2**16).astype(np.float32)

Labels: TypeAlias = npt.NDArray[np.uint8]


class Views:
    """The network's view of each labelled slice, with its labels.

    Parameters
    ----------
    reader
        The slices.
    labels
        uint8 labels, dims ``("z", "y", "x")``.
    indices
        The labelled slices.
    context
        Which neighbours are seen.
    milling
        ``"forward"`` or ``"reverse"``.
    corrections
        The labels once more where they are corrected by hand, else 0; None where none is.
    correction_weight
        How many times such a pixel counts.
    class_count
        Number of classes: what is added to a label in `view` that is corrected by hand.
    """

    def __init__(
        self,
        reader: SliceReader,
        labels: xr.DataArray,
        indices: Sequence[int],
        context: Context,
        milling: str,
        *,
        corrections: xr.DataArray | None = None,
        correction_weight: float = 1,
        class_count: int = 0,
    ) -> None:
        self.context = context
        self._reader = reader
        self._offsets = voxel_offsets(context.offsets_nm, reader.stack, milling)
        self._labels = {
            index: np.where(reader[index].valid, labels.isel(z=index).to_numpy(), 0)
            for index in indices
        }
        self._corrected = {
            index: (corrections.isel(z=index).to_numpy() > 0) & (labelled > 0)
            for index, labelled in self._labels.items()
            if corrections is not None
        }
        self._correction_weight, self._class_count = correction_weight, class_count
        self._views: dict[int, Channels] = {}

    def classes(self, *indices: int) -> frozenset[int]:
        """Which classes are labelled in some slices, or in all."""
        planes = [self._labels[index] for index in indices or self._labels]
        return frozenset[int]().union(*(np.unique(plane).tolist() for plane in planes)) - {0}

    def labelled(self, index: int) -> float:
        """Labelled pixels of a slice, those that are corrected by hand as often as they count."""
        more = (self._correction_weight - 1) * np.count_nonzero(self._corrected.get(index, 0))
        return np.count_nonzero(self._labels[index]) + float(more)

    @property
    def corrected(self) -> int:
        """Pixels that are corrected by hand."""
        return sum(int(np.count_nonzero(plane)) for plane in self._corrected.values())

    def view(self, index: int) -> tuple[Channels, Labels]:
        """View of a slice, shape (y, x, 1 + offsets, detectors), and its labels, (y, x)."""
        if index not in self._views:
            seen = channels(self._reader, index, self._offsets)
            self._views[index] = np.ascontiguousarray(np.moveaxis(seen, 0, 2))
        labels = self._labels[index]
        if index in self._corrected:
            labels = labels + np.uint8(self._class_count) * self._corrected[index]
        return self._views[index], labels

    @property
    def seen(self) -> list[int]:
        """All slices that are seen: the labelled ones and their neighbours."""
        near = {index + offset for index in self._labels for offset in (0, *self._offsets)}
        return sorted(near & set(range(len(self._reader))))

    def counts(self, indices: Sequence[int], classes: int) -> npt.NDArray[np.int64]:
        """Labelled pixels in some slices of the classes 1, 2, and so on."""
        planes = (self._labels[index].ravel() for index in indices)
        found = np.sum([np.bincount(plane, minlength=classes + 1) for plane in planes], axis=0)
        return np.asarray(found[1:])

    def labelled_share(self, indices: Sequence[int]) -> float:
        """Share of the pixels with data that is labelled, in the mean of some slices.

        Those that hold nothing but corrections are left out: they do not say how densely the
        others are labelled.
        """
        shares = [
            np.count_nonzero(self._labels[index]) / max(1, self._reader[index].valid.sum())
            for index in indices
            if index not in self._corrected
            or (self._corrected[index] != (self._labels[index] > 0)).any()
        ]
        return float(np.mean(shares or [0]))

    def exists(self, index: int) -> npt.NDArray[np.bool_]:
        """Which of its neighbours there are."""
        return existing(index, self._offsets, len(self._reader))


class Patches(keras.utils.PyDataset):  # type: ignore[misc]
    """Batches of random augmented patches; batch i of epoch e depends on nothing but the seed.

    Parameters
    ----------
    sources
        The labelled slices of one or more stacks, and which of them to draw from.
    size
        Side of a patch in voxels, no larger than a slice.
    batch, batches
        Patches in a batch and batches in an epoch.
    seed
        Seed of the draws.
    """

    def __init__(
        self,
        sources: Sequence[tuple[Views, Sequence[int]]],
        size: int,
        batch: int,
        batches: int,
        seed: int,
    ) -> None:
        super().__init__(workers=1)
        self._slices = [(views, index) for views, indices in sources for index in indices]
        self._size, self._batch, self._batches, self._seed = size, batch, batches, seed
        self.epoch = 0
        labelled = np.array([views.labelled(index) for views, index in self._slices])
        self._shares = labelled / labelled.sum()

    def __len__(self) -> int:
        return self._batches

    def on_epoch_end(self) -> None:
        """Go on to the next epoch's draws."""
        self.epoch += 1

    def __getitem__(self, number: int) -> tuple[Channels, npt.NDArray[np.int32]]:
        """Inputs (batch, y, x, channels) and labels (batch, y, x), 0 where unlabelled."""
        rng = np.random.default_rng([self._seed, self.epoch, number])
        patches = [self._patch(rng) for _ in range(self._batch)]
        return np.stack([x for x, _ in patches]), np.stack([y for _, y in patches])

    def _patch(self, rng: np.random.Generator) -> tuple[Channels, npt.NDArray[np.int32]]:
        views, index = self._slices[rng.choice(len(self._slices), p=self._shares)]
        view, labels = views.view(index)
        deformed = rng.random() < _DEFORMED_SHARE
        side = _zoomed(self._size, min(labels.shape), rng) if deformed else self._size
        view, labels = _crop(view, labels, side, rng)
        if deformed:
            view, labels = _deform(view, labels, self._size, rng)
        view, labels = _turn(view, labels, rng)
        view = _vary(view, rng)
        exists = views.exists(index) & _kept(views.context.offsets_nm, rng)
        whole = with_reach(np.moveaxis(view, 2, 0), exists, views.context.offsets_nm)
        return whole, labels.astype(np.int32)


def _zoomed(size: int, slice_side: int, rng: np.random.Generator) -> int:
    """Side of the part of a slice that a patch is to show."""
    zoom = np.exp(rng.uniform(-1, 1) * np.log(_LARGEST_ZOOM))
    return min(slice_side, round(size * float(zoom)))


def _crop(
    view: Channels, labels: Labels, size: int, rng: np.random.Generator
) -> tuple[Channels, Labels]:
    """A random part; where labels are so sparse that it holds none, one round a label."""
    first = [int(rng.integers(side - size + 1)) for side in labels.shape]
    part = tuple(slice(start, start + size) for start in first)
    if not labels[part].any():
        painted = rng.choice(np.argwhere(labels))
        first = [
            int(np.clip(place - rng.integers(size), 0, side - size))
            for place, side in zip(painted, labels.shape, strict=True)
        ]
        part = tuple(slice(start, start + size) for start in first)
    return view[part], labels[part]


def _deform(
    view: Channels, labels: Labels, size: int, rng: np.random.Generator
) -> tuple[Channels, Labels]:
    """Resample a part to a patch of `size` and bend it: views linearly, labels to the nearest."""
    side = len(labels)
    places = (np.arange(size) + 0.5) / size
    bend = rng.uniform(0, _LARGEST_BEND) * side
    rows, columns = (
        np.clip(axis * side - 0.5 + bend * _waves(places, rng), 0, side - 1)
        for axis in (places[:, np.newaxis], places[np.newaxis, :])
    )
    bent = labels[np.rint(rows).astype(int), np.rint(columns).astype(int)]
    above, left = (np.minimum(axis.astype(int), side - 2) for axis in (rows, columns))
    down, right = rows - above, columns - left
    corners = (above * side + left)[..., np.newaxis] + [0, 1, side, side + 1]
    shares = [(1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right]
    # A row for each pixel of the patch, with its share of the four pixels round its place.
    mix = csr_array(
        (
            np.stack(shares, axis=-1).astype(np.float32).ravel(),
            corners.ravel(),
            np.arange(0, 4 * size**2 + 1, 4),
        ),
        shape=(size**2, side**2),
    )
    mixed = mix @ view.reshape(side**2, -1)
    return mixed.reshape(size, size, *view.shape[2:]), bent


def _waves(places: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """A smooth random field over a patch: a sum of cosines, root mean square about 1."""
    cosines = np.cos(np.pi * np.outer(places, np.arange(_WAVES)))
    heights = rng.standard_normal((_WAVES, _WAVES)) * 2 / _WAVES
    return np.asarray(cosines @ heights @ cosines.T)


def _turn(view: Channels, labels: Any, rng: np.random.Generator) -> tuple[Channels, Any]:
    """One of the eight flips and quarter turns."""
    turns = int(rng.integers(4))
    view, labels = np.rot90(view, turns), np.rot90(labels, turns)
    if rng.random() < 0.5:
        view, labels = view[:, ::-1], labels[:, ::-1]
    return view, labels


def _vary(view: Channels, rng: np.random.Generator) -> Channels:
    """Change sharpness, brightness, contrast and gamma, and add stripes and noise.

    Each slice differs a little in brightness and contrast.
    """
    if rng.random() < _BLURRED_SHARE:
        view = gaussian_filter(view, rng.uniform(0.3, 1), axes=(0, 1), truncate=3)
    shape = (view.shape[2], 1)
    contrast = rng.normal(1, 0.08) + rng.normal(0, 0.03, shape)
    brightness = rng.normal(0, 0.06) + rng.normal(0, 0.02, shape)
    varied = _raised(view, np.exp(rng.normal(0, 0.12)))
    varied *= contrast.astype(np.float32)
    varied += brightness.astype(np.float32)
    if rng.random() < _CURTAINED_SHARE:
        varied += _curtains(view.shape[1], rng)
    noise = _normal(view.shape, rng)
    noise *= np.float32(rng.uniform(0, 0.06))
    varied += noise
    return varied


def _raised(view: Channels, gamma: float) -> Channels:
    """Greys above 0 to a power, others as they are; a third of the time of numpy's own power."""
    raised = np.log(np.maximum(view, np.float32(1e-9)))
    raised *= np.float32(gamma)
    np.exp(raised, out=raised)
    raised += np.minimum(view, 0)
    return raised


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> Channels:
    """Normal noise, float32, of 65,536 values of equal likelihood.

    `Generator.standard_normal` takes three times as long, and was the most that a patch took.
    """
    return np.take(_QUANTILES, rng.integers(0, len(_QUANTILES), shape, np.uint16))


def _curtains(width: int, rng: np.random.Generator) -> Channels:
    """Stripes along y: one smooth random profile, float32, shape (x, 1, 1)."""
    smoothed = gaussian_filter1d(rng.standard_normal(width), rng.uniform(0.5, 3))
    profile = np.asarray(smoothed, np.float32)
    profile *= rng.uniform(0, 0.06) / max(float(profile.std()), 1e-6)
    return profile[:, np.newaxis, np.newaxis]


def _kept(offsets_nm: Sequence[float], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which neighbours to keep: mostly all, sometimes none beyond a random depth on one side."""
    offsets = np.asarray(offsets_nm)
    if rng.random() >= _CUT_SHARE:
        return np.ones(offsets.shape, bool)
    side = 1 if rng.random() < 0.75 else -1
    deepest = rng.choice(np.append(0.0, np.abs(offsets[offsets * side > 0])))
    return np.asarray(offsets * side <= deepest)
