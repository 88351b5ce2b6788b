"""What a model makes of slices, in this process or in others."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import closing
from functools import lru_cache, partial
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg import model as models
from fiji_poreseg.cluster import Place, Travelling, spread
from fiji_poreseg.errors import PoreSegWarning
from fiji_poreseg.model import Model, likeliest
from fiji_poreseg.progress import track
from fiji_poreseg.stack import SOLID, spacing_nm

Planes: TypeAlias = npt.NDArray[Any]
Made: TypeAlias = tuple[Planes, Planes | None]
"""The labels of a slice, and its probability as it is shown, or None."""


def shown(probabilities: npt.NDArray[np.float32]) -> Planes:
    """P(solid), shape (y, x), of two classes; all of more."""
    return probabilities if len(probabilities) > 2 else probabilities[SOLID - 1]


def predicted_slices(
    model: Model,
    stack: xr.DataArray,
    indices: Sequence[int],
    options: Mapping[str, Any],
    only_labels: bool,
    place: Place | None,
) -> Generator[tuple[int, Made], None, None]:
    """Segment slices, here or in other processes, and report each.

    Parameters
    ----------
    model, stack, indices
        As for `Model.predict`.
    options
        More that it takes.
    only_labels
        Whether the probabilities are not asked for, which is sooner.
    place
        Other processes; None for this one. The answers are the same. Close what is yielded from
        (`contextlib.closing`): that ends them.

    Yields
    ------
    tuple
        The index, in any order, and what was made of the slice.

    Raises
    ------
    ParameterError
        If the model does not fit the stack, or the other processes cannot do it.
    """
    if place is None:
        made = _predicted_here(model, stack, indices, options, only_labels)
        yield from track(made, "Segmenting", len(indices))
        return
    model.check(stack)
    part = partial(_part, model, stack, options, only_labels)
    pixels = stack.sizes["y"] * stack.sizes["x"]
    with closing(
        spread(
            place,
            _segment_part,
            model.to_bytes(),
            indices,
            part,
            pixels=pixels,
            description="Segmenting",
            # Farther ones have no neighbours in common.
            near=sum(model.reach(stack)),
        )
    ) as spread_made:
        yield from spread_made


def _predicted_here(
    model: Model,
    stack: xr.DataArray,
    indices: Sequence[int],
    options: Mapping[str, Any],
    only_labels: bool,
) -> Iterator[tuple[int, Made]]:
    if only_labels:
        for index, labels in model.predict_labels(stack, indices, **options):
            yield index, (labels, None)
    else:
        for index, probabilities in model.predict(stack, indices, **options):
            yield index, (likeliest(probabilities), shown(probabilities))


class _Part(NamedTuple):
    """Some slices to be segmented in another process, and their neighbours."""

    # Where it arrives, its module is imported, which lets models of its kind be read.
    kind: type[Model]
    values: Travelling
    dims: tuple[Hashable, ...]
    attrs: Mapping[str, Any]
    indices: Sequence[int]
    options: Mapping[str, Any]
    only_labels: bool


def _part(
    model: Model,
    stack: xr.DataArray,
    options: Mapping[str, Any],
    only_labels: bool,
    run: Sequence[int],
) -> _Part:
    before, after = model.reach(stack)
    first = max(0, min(run) - before)
    seen = stack.isel(z=slice(first, max(run) + after + 1))
    # Not the coordinates: the distance of slices would be rounded otherwise in each part.
    attrs = {"spacing_nm": spacing_nm(stack), "nodata": stack.attrs.get("nodata")}
    indices = [index - first for index in run]
    values = Travelling(seen.data, "image")
    return _Part(type(model), values, seen.dims, attrs, indices, options, only_labels)


def _segment_part(model: bytes, part: _Part) -> list[Made]:
    """Segment slices in another process."""
    stack = xr.DataArray(part.values.arrived(), dims=part.dims, attrs=part.attrs, name="stack")
    with warnings.catch_warnings():
        # The process that sent them has warned already.
        warnings.simplefilter("ignore", PoreSegWarning)
        made = _predicted_here(_loaded(model), stack, part.indices, part.options, part.only_labels)
        return [answer for _, answer in made]


@lru_cache(maxsize=1)
def _loaded(content: bytes) -> Model:
    return models.from_bytes(content)
