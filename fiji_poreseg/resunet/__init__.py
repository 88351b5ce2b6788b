"""The residual U-Net: trained on a few slices, it sees a slice and its neighbours in depth.

Zhang, Liu, Wang, Road Extraction by Deep Residual U-Net, IEEE GRSL 15 (2018), arXiv 1711.10684.
Importing this package does not import TensorFlow; training, and the first prediction, do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt
import xarray as xr

from fiji_poreseg import model
from fiji_poreseg.model import Arrays, Card, Contents
from fiji_poreseg.resunet.context import Context
from fiji_poreseg.slices import voxel_offsets
from fiji_poreseg.stack import spacing_nm

if TYPE_CHECKING:
    from fiji_poreseg.resunet.inference import Predictor

KIND = "resunet"
PRETRAINED, NONE = "pretrained", "none"
PRECISIONS = ("exact", "fast")
CONTEXTS = NEIGHBOURS, SLICE = ("neighbours", "slice")
# Multiples of 16: on AVX-512, the gradient of a convolution with another number of filters takes
# the process down in the oneDNN 3.7 that TensorFlow 2.21 carries.
FILTERS = {
    "small": (16, 16, 32, 32),
    "base": (16, 32, 64, 128),
    "large": (32, 64, 128, 256),
}


@dataclass(frozen=True, eq=False)
class ResUNetModel(model.Model):
    """A trained ResUNet.

    Parameters
    ----------
    card
        What every model says of itself.
    context
        Which neighbours it sees.
    filters
        Number of filters per level, finest first.
    weights
        Its weights by name, float32, in the network's order.
    history
        What was measured at each check while training: ``step``, ``loss`` (cross-entropy in nats
        over the labelled pixels, weighted as the classes are) and ``accuracy``, and
        ``val_loss`` and ``val_accuracy`` of the validation slices where there are any.
    training
        The settings that it was trained with, and digests of what it saw, by parameter.
    in_slices
        Whether it counts its neighbours in slices, whatever their distance: so does the model
        that ships with the package, which was trained on voxels of many shapes.
    """

    context: Context
    filters: tuple[int, ...]
    weights: Arrays
    history: tuple[Mapping[str, float], ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    in_slices: bool = False
    depends_on_direction: ClassVar[bool] = True

    def context_on(self, stack: xr.DataArray) -> Context:
        """Which neighbours it sees in a stack."""
        return Context.for_spacing(spacing_nm(stack)[0]) if self.in_slices else self.context

    def reach(self, stack: xr.DataArray) -> tuple[int, int]:
        """How many slices before, and how many after a slice it looks at."""
        offsets_nm = self.context_on(stack).offsets_nm
        offsets = (0, *voxel_offsets(offsets_nm, stack, self.card.milling))
        return -min(offsets), max(offsets)

    def check(self, stack: xr.DataArray) -> None:
        """Find out whether it can be applied to a stack."""
        model.check_fits(self.card, stack, any_voxels=self.in_slices)

    @cached_property
    def _predictor(self) -> Predictor:
        from fiji_poreseg.resunet.inference import Predictor

        return Predictor(self)

    def predict(
        self,
        stack: xr.DataArray,
        indices: Sequence[int],
        *,
        precision: str = "exact",
        augment: bool = False,
    ) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
        """Yield (index, probabilities) slice by slice, as `Model.predict` says.

        Parameters
        ----------
        stack, indices
            As there.
        precision
            ``"exact"`` computes in float32. ``"fast"`` may compute in bfloat16, where the CPU
            has it, and changes probabilities by some 0.01.
        augment
            Predict each slice in its eight flips and quarter turns, and take the mean: eight
            times the time.
        """
        self.check(stack)
        yield from self._predictor.predict(stack, indices, precision=precision, augment=augment)

    def predict_labels(
        self,
        stack: xr.DataArray,
        indices: Sequence[int],
        *,
        precision: str = "exact",
        augment: bool = False,
    ) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
        """Yield (index, labels) slice by slice: the likeliest class, as `predict` finds it."""
        options: dict[str, Any] = {"precision": precision, "augment": augment}
        for index, probabilities in self.predict(stack, indices, **options):
            yield index, model.likeliest(probabilities)

    def contents(self) -> Contents:
        """What its file holds beside the card."""
        settings = {
            "context": asdict(self.context),
            "filters": self.filters,
            "history": self.history,
            "training": self.training,
            "in_slices": self.in_slices,
            "order": list(self.weights),
        }
        return Contents(KIND, settings, self.weights)


def _read(card: Card, settings: Mapping[str, Any], arrays: Arrays) -> ResUNetModel:
    context = Context(tuple(map(float, settings["context"]["offsets_nm"])))
    model.check_reach(card, context.offsets_nm)
    return ResUNetModel(
        card,
        context,
        tuple(map(int, settings["filters"])),
        {name: arrays[name] for name in settings["order"]},
        tuple(settings["history"]),
        dict(settings.get("training", {})),
        bool(settings.get("in_slices", False)),
    )


def pretrained() -> ResUNetModel:
    """The model that ships with the package, for stacks without labels.

    A ``"base"`` network trained on phantoms of many kinds by ``scripts/pretrain.py``; for one
    detector, and the classes pore and solid. What it was trained on stands in its `training`.
    """
    made = model.load(Path(__file__).with_name(f"{PRETRAINED}{model.SUFFIX}"))
    assert isinstance(made, ResUNetModel)
    return made


model.register_kind(KIND, _read)
