"""Figures for slides and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fiji_poreseg.colours import LABEL_COLOURS
from fiji_poreseg.files import replacing
from fiji_poreseg.stack import PORE, SOLID

# Okabe and Ito's vermilion and sky blue, told apart by the colour-blind too.
FALSE_SOLID, FALSE_PORE = "#D55E00", "#56B4E9"

Plane = npt.NDArray[Any]


def compare(
    path: Path,
    raw: Plane,
    truth: Plane,
    found: Mapping[str, tuple[Plane, str]],
    *,
    pixel_nm: float,
    title: str,
) -> None:
    """Draw one slice: raw, truth, each segmentation, and where each is wrong.

    Parameters
    ----------
    path
        PNG to write.
    raw
        Grey values, shape (y, x).
    truth
        uint8, shape (y, x): 1 pore, 2 solid.
    found
        By its name: a segmentation, shape (y, x), and a line of scores.
    pixel_nm
        Size of a pixel in nm, for the scale bar.
    title
        What stands above.
    """
    columns = 1 + len(found)
    figure = Figure(figsize=(3.1 * columns, 7.0), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, columns, squeeze=False)
    show_raw(axes[0, 0], raw, pixel_nm)
    axes[0, 0].set_title("Raw", fontsize=11)
    _labels(axes[1, 0], truth, "Truth")
    for column, (name, (segmentation, scores)) in enumerate(found.items(), start=1):
        _labels(axes[0, column], segmentation, name)
        _errors(axes[1, column], raw, truth, segmentation, scores)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(title, fontsize=12)
    figure.legend(
        handles=[
            Patch(color=LABEL_COLOURS[PORE] / 255, label="pore"),
            Patch(color=LABEL_COLOURS[SOLID] / 255, label="solid"),
            Patch(color=FALSE_SOLID, label="pore taken for solid"),
            Patch(color=FALSE_PORE, label="solid taken for pore"),
        ],
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=10,
    )
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def learning_curve(
    path: Path, rows: Sequence[Mapping[str, float]], *, parameter: str = "curve"
) -> None:
    """Draw loss and accuracy against the steps of a training.

    Parameters
    ----------
    path
        PNG to write.
    rows
        What was measured at each check: ``step``, ``loss`` (nats), ``accuracy``, and with
        ``val_`` before them those of the validation slices where there are any.
    parameter
        Name to use in an error.
    """
    figure = Figure(figsize=(8.0, 3.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    steps = [row["step"] for row in rows]
    axes = figure.subplots(1, 2)
    for axis, score, title in zip(
        axes, ("loss", "accuracy"), ("Cross-entropy (nats)", "Accuracy"), strict=True
    ):
        for name, label, style in (
            (score, "training patches, augmented", {"color": FALSE_PORE}),
            (f"val_{score}", "validation slices", {"color": FALSE_SOLID}),
        ):
            if name in rows[0]:
                axis.plot(steps, [row[name] for row in rows], marker=".", label=label, **style)
        axis.set_title(title, fontsize=11)
        axis.set_xlabel("Step")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.3)
    axes[0].legend(frameon=False, fontsize=9)
    with replacing(path, parameter) as temporary:
        figure.savefig(temporary, dpi=120)


def _labels(axis: Any, labels: Plane, title: str) -> None:
    colours = ListedColormap(LABEL_COLOURS[: SOLID + 1] / 255)
    axis.imshow(labels, cmap=colours, vmin=0, vmax=SOLID, interpolation="nearest")
    axis.set_title(title, fontsize=11)


def _errors(axis: Any, raw: Plane, truth: Plane, found: Plane, scores: str) -> None:
    axis.imshow(raw, cmap="gray", interpolation="nearest", alpha=0.55)
    wrong = np.zeros(truth.shape, np.uint8)
    wrong[(found == SOLID) & (truth == PORE)] = 1
    wrong[(found == PORE) & (truth == SOLID)] = 2
    shown = np.ma.masked_equal(wrong, 0)
    colours = ListedColormap([FALSE_SOLID, FALSE_PORE])
    axis.imshow(shown, cmap=colours, vmin=1, vmax=2, interpolation="nearest")
    axis.set_title(scores, fontsize=10)


def show_raw(axis: Any, raw: Plane, pixel_nm: float) -> None:
    """Show grey values, shape (y, x), but for the darkest and brightest few, with a scale bar."""
    low, high = np.percentile(raw, (0.5, 99.5))
    axis.imshow(raw, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    _scale_bar(axis, raw.shape, pixel_nm)


def _scale_bar(axis: Any, shape: tuple[int, ...], pixel_nm: float) -> None:
    """A bar of 1, 2 or 5 times a power of ten, about a fifth of the width."""
    target = shape[1] * pixel_nm / 5
    power = 10.0 ** np.floor(np.log10(target))
    length = max(factor * power for factor in (1, 2, 5) if factor * power <= target)
    pixels = length / pixel_nm
    text = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    x, y = 0.05 * shape[1], 0.95 * shape[0]
    axis.plot([x, x + pixels], [y, y], color="white", linewidth=4, solid_capstyle="butt")
    axis.text(
        x + pixels / 2,
        y - 0.02 * shape[0],
        text,
        color="white",
        ha="center",
        va="bottom",
        fontsize=9,
        bbox={"facecolor": "black", "alpha": 0.5, "edgecolor": "none", "pad": 1.5},
    )
