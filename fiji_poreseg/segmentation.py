"""A model applied to a stack: the likeliest class of each voxel, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg import files
from fiji_poreseg.cluster import Place
from fiji_poreseg.journal import Settings, keeping
from fiji_poreseg.lazy import LARGE_BYTES, lazy_planes
from fiji_poreseg.model import Model, digest_of_slices
from fiji_poreseg.prediction import predicted_slices, shown
from fiji_poreseg.stack import make_labels, spacing_nm

Planes: TypeAlias = npt.NDArray[Any]
# Slices of a stack that is read slice by slice that are compared where a segmentation is resumed.
_LOOKED_AT = 16


@dataclass(frozen=True)
class Segmentation:
    """What `segment` answers with.

    Parameters
    ----------
    segmentation
        uint8, dims ``("z", "y", "x")``: 1 pore, 2 solid, …; 0 where there is no data and in
        slices that were not asked for.
    probability
        float32: P(solid), dims ``("z", "y", "x")``; for more than two classes dims
        ``("class", "z", "y", "x")``. NaN where the segmentation is 0.
    uncertainty
        float32, dims ``("z", "y", "x")``: 1 less the margin by which the likeliest class leads,
        so 0 where the model is sure and 1 on a tie. NaN where the segmentation is 0.
    made
        Which of the three are made. What is not is lazy (dask), and computed slice by slice when
        asked for: an uncertainty without a file from the probability; a probability without a
        file, where it would take more than 256 MB, by the model, which takes its time.

    What is made is lazy, too, where it takes more than 256 MB: it is read from the file that it
    was written to. A segmentation without a file is held in memory whatever it takes. Slices
    that were not asked for take none.
    """

    segmentation: xr.DataArray
    probability: xr.DataArray
    uncertainty: xr.DataArray
    made: tuple[str, ...]


def apply(
    model: Model,
    stack: xr.DataArray,
    indices: Sequence[int],
    *,
    options: Mapping[str, Any] | None = None,
    output: Path | None = None,
    probability: Path | None = None,
    uncertainty: Path | None = None,
    resume: bool = False,
    place: Place | None = None,
) -> Segmentation:
    """Segment some slices of a stack.

    Parameters
    ----------
    model
        A trained forest or ResUNet.
    stack
        A checked stack.
    indices
        0-based slices.
    options
        More that the model's `predict` takes.
    output, probability, uncertainty
        TIFFs to write the answer's three images to, slice by slice as they are made. Files that
        exist are replaced when all are whole, and none of them on an error.
    resume
        Go on where an earlier call with these files was killed; only images with a file are made.
    place
        Other processes to do it in; None for this one. The answer is the same.

    Raises
    ------
    ParameterError
        If the model does not fit the stack, a file cannot be written, what is to be resumed was
        begun with something else, or the other processes cannot do it.
    """
    options = options or {}
    classes = model.card.classes
    several = len(classes) > 2
    shape = tuple(stack.sizes[axis] for axis in ("z", "y", "x"))
    # Slices first, also in memory: that is how they come, and how they are written.
    layout = (shape[0], len(classes), *shape[1:]) if several else shape

    def predicted(index: int, *channel: int) -> Planes:
        ((_, probabilities),) = model.predict(stack, [index], **options)
        return np.asarray(shown(probabilities)[channel])

    def doubted(index: int) -> Planes:
        return _uncertainty(likely.read(index))

    found = _Image(shape, np.uint8, 0, indices, output)
    # What is not in a file is gone when the process is.
    eager = not resume
    likely = _Image(layout, np.float32, np.nan, indices, probability, predicted, eager=eager)
    doubtful = _Image(shape, np.float32, np.nan, indices, uncertainty, doubted, eager=False)
    segmentation = make_labels(
        found.values(), stack, name=f"{stack.name}-segmentation", classes=classes
    ).assign_attrs(imagej_info=_provenance(model, stack, options))
    answer = Segmentation(
        segmentation,
        _like(segmentation, likely.values(), f"{stack.name}-probability"),
        _like(segmentation, doubtful.values(), f"{stack.name}-uncertainty"),
        made=("segmentation",)
        + ("probability",) * likely.is_made
        + ("uncertainty",) * doubtful.is_made,
    )
    paths = {"output": output, "probability": probability, "uncertainty": uncertainty}
    written = [path for path in paths.values() if path is not None]
    settings = _settings(model, stack, indices, options, paths) if written else {}
    # Each file is whole before the block ends; only then is the first put in its place.
    with (
        files.alone(paths),
        keeping(written, settings, resume=resume, work="segmentation") as journal,
        found.writing(answer.segmentation, "output", journal.done, resume=resume),
        likely.writing(answer.probability, "probability", journal.done, resume=resume),
        doubtful.writing(answer.uncertainty, "uncertainty", journal.done, resume=resume),
    ):
        left = [index for index in indices if index not in journal.done]
        only_labels = answer.made == ("segmentation",)
        with closing(predicted_slices(model, stack, left, options, only_labels, place)) as made:
            for index, (labels, planes) in made:
                found.take(index, labels)
                if planes is not None:
                    likely.take(index, planes)
                    if doubtful.is_made:
                        doubtful.take(index, _uncertainty(planes))
                journal.add(index)
        for image in (found, likely, doubtful):
            image.finish()
    return answer


def _provenance(model: Model, stack: xr.DataArray, options: Mapping[str, Any]) -> str:
    """What a segmentation was made with, for whoever finds it: ImageJ shows it as its info."""
    lines = {
        "image": stack.name,
        "model": f"{model.contents().kind}, SHA-256 {model.digest()}",
        **options,
    }
    made = f"Segmented by fiji-poreseg {version('fiji-poreseg')}"
    return "\n".join([made, *(f"{name}: {value}" for name, value in lines.items())])


def _settings(
    model: Model,
    stack: xr.DataArray,
    indices: Sequence[int],
    options: Mapping[str, Any],
    paths: Mapping[str, Path | None],
) -> Settings:
    """What must be the same where a segmentation is gone on with."""
    looked_at = range(stack.sizes["z"])
    if not isinstance(stack.data, np.ndarray):
        # To read all of a large stack would take long; a changed one differs here, too.
        looked_at = np.unique(np.linspace(0, len(looked_at) - 1, _LOOKED_AT).astype(int)).tolist()
    return {
        "indices": list(indices),
        **options,
        **{name: path and str(path.resolve()) for name, path in paths.items()},
        "voxel_size_nm": list(spacing_nm(stack)),
        "nodata": stack.attrs.get("nodata"),
        "model": model.digest(),
        "image": digest_of_slices(stack, looked_at),
    }


def _like(segmentation: xr.DataArray, values: Any, name: str) -> xr.DataArray:
    """A probability or an uncertainty, values slices first, on the voxels of a segmentation."""
    attrs = dict(segmentation.attrs)
    classes = attrs.pop("classes")
    made = xr.DataArray(
        values if values.ndim == 3 else values.swapaxes(0, 1),
        dims=segmentation.dims if values.ndim == 3 else ("class", *segmentation.dims),
        coords=segmentation.coords,
        name=name,
        attrs={**attrs, "display_range": (0.0, 1.0)},
    )
    return made if values.ndim == 3 else made.assign_coords({"class": list(classes)})


def _uncertainty(shown: Planes) -> Planes:
    """1 less the margin of the likeliest class, from P(solid), (y, x), or all, (class, y, x)."""
    if shown.ndim == 2:
        return np.asarray(1 - abs(2 * shown - 1))
    second, first = np.partition(shown, -2, axis=0)[-2:]
    return np.asarray(1 - (first - second))


class _Image:
    """An image whose slices are made one by one: in memory, in a file, or when asked for.

    Parameters
    ----------
    shape
        Shape of the whole, slices first.
    dtype, fill
        Data type, and the value of the slices that are not to be made.
    indices
        Slices to be made.
    path
        File to write them to.
    compute
        Makes a slice, or a channel of it, by its indices when it is asked for. Without it, the
        image is made in any case.
    eager
        Whether an image without a file is made where it is not large.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        fill: float,
        indices: Sequence[int],
        path: Path | None,
        compute: Callable[..., Planes] | None = None,
        *,
        eager: bool = True,
    ) -> None:
        self._shape, self._dtype, self._fill = shape, np.dtype(dtype), fill
        self._indices, self._path, self._read = frozenset(indices), path, compute
        self._writer: files.SliceWriter | None = None
        whole = math.prod(shape) * self._dtype.itemsize
        is_large = whole * len(indices) > LARGE_BYTES * shape[0]
        self.is_made = path is not None or compute is None or (eager and not is_large)
        self._held: Any = None
        if self.is_made and (path is None or not is_large):
            is_sparse = len(indices) < shape[0] and whole > LARGE_BYTES
            self._held = {} if is_sparse else np.full(shape, fill, dtype)

    def values(self) -> Any:
        """The image, slices first; lazy where it is not held as one array."""
        if isinstance(self._held, np.ndarray):
            return self._held
        return lazy_planes(self.read, self._shape, self._dtype)

    @contextmanager
    def writing(
        self, described: xr.DataArray, parameter: str, done: Collection[int], *, resume: bool
    ) -> Iterator[None]:
        """Write what is taken inside the block to the file, if there is one.

        The slices that are done are in what there is of it already.
        """
        if self._path is None:
            yield
            return
        with files.writing(
            self._path, described, parameter=parameter, go_on=bool(done), keep=resume
        ) as self._writer:
            if self._held is not None:
                for index in done:
                    self._held[index] = self._writer.read(index)
            for index in range(self._shape[0]):
                if index not in self._indices:
                    self._writer[index] = self.read(index)
            yield
        if self._held is None:
            self._read = self._writer.reader()

    def take(self, index: int, planes: Planes) -> None:
        """Keep a slice that was made."""
        if self._held is not None:
            # A copy: a view would keep all that it is a part of.
            self._held[index] = planes.copy()
        if self._writer is not None:
            self._writer[index] = planes

    def finish(self) -> None:
        """Let nothing be left to do for the file but to put it in its place."""
        if self._writer is not None:
            self._writer.finish()

    def read(self, index: int, *channel: int) -> Planes:
        """Answer with a slice, or a channel of it."""
        if index not in self._indices:
            rest = self._shape[1 + len(channel) :]
            return np.full(rest, self._fill, self._dtype)
        if self._held is not None:
            return np.asarray(self._held[index][channel])
        assert self._read is not None  # nothing is asked for before it is there
        return self._read(index, *channel)
