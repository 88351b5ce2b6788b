"""What is asked for where a stack is segmented without a hand in between."""

from __future__ import annotations

from dataclasses import dataclass

from fiji_poreseg.resunet import ResUNetModel


@dataclass(frozen=True, slots=True)
class Settings:
    """What is asked for, beside images and labels.

    Parameters
    ----------
    count
        Slices to train the ResUNet on.
    trees
        Of the forest.
    network, start, steps
        Of the ResUNet, as `fiji_poreseg.resunet.training.train` takes them.
    anyway
        Go on where the labels say that the outcome will not be good.
    milling
        ``"forward"`` or ``"reverse"``.
    seed
        Seed of everything random.
    """

    count: int
    trees: int
    network: str
    start: ResUNetModel | None
    steps: int
    anyway: bool
    milling: str
    seed: int
