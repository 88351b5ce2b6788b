"""The figures of a study, as PNG and SVG: fit for print, and for any colour vision."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fiji_poreseg.evaluation import SliceScore
from fiji_poreseg.figures import FALSE_PORE, FALSE_SOLID, show_raw
from fiji_poreseg.files import replacing
from fiji_poreseg.stack import PORE, SOLID
from fiji_poreseg.studies import summary
from fiji_poreseg.studies.plan import MODELS, Arm, Plan
from fiji_poreseg.studies.summary import Enough, Spread
from fiji_poreseg.studies.trials import Result

Plane = npt.NDArray[Any]

SUFFIXES = (".png", ".svg")
# Okabe and Ito's colours, told apart with any colour vision; counts differ in dash and marker, too.
_COLOURS = {
    "initial": "#D55E00",
    "distributed": "#0072B2",
    "diverse": "#009E73",
    "blocks": "#CC79A7",
}
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
_MARKERS = ("o", "s", "^", "D")
_RIGHT_PORE, _RIGHT_SOLID = "#333333", "#D9D9D9"
_WIDTH = 7.2
_RING: Any = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "linestyle": "none"}
_STAR: Any = {"marker": "*", "markersize": 10, "color": "black", "linestyle": "none", "zorder": 5}
_MAJORITY: Any = {"color": "#777777", "linewidth": 0.8, "zorder": 1}
_STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "fiji-poreseg",
    "svg.fonttype": "path",
}


def scores_by_index(
    path: Path, plan: Plan, results: Sequence[Result], human: Sequence[SliceScore] = ()
) -> None:
    """Figure 1: loss and accuracy against the index.

    Every slice as a curve (over the repeats: mean, and a band from the lowest to the highest),
    the slices of the table as points, those trained on as ticks below. The majority is a curve,
    too, where it is near, else a number: the models' curves would lie on one another.

    Parameters
    ----------
    path
        File to write, without ending.
    plan, results
        The study.
    human
        Scores of slices that were labelled twice: stars.
    """
    models = list(dict.fromkeys(result.trial.model for result in results))
    majority = summary.majority(results)
    shown = False
    with matplotlib.rc_context(_STYLE):
        figure = _figure(2.9 * 2 * len(models))
        axes = figure.subplots(2 * len(models), 1, sharex=True)
        for row, (model, score) in enumerate(
            (model, score) for model in models for score in ("loss", "accuracy")
        ):
            axis = axes[row]
            for position, arm in enumerate(plan.arms):
                indices, spreads = summary.curves(plan, results, model, arm, score)
                _curve(axis, indices, spreads, plan, position)
                points = [spreads[indices.index(z)] for z in plan.places.values()]
                axis.plot(
                    list(plan.places.values()),
                    [np.nan if point is None else point.mean for point in points],
                    linestyle="none",
                    marker=_marker(plan, arm),
                    color=_COLOURS[arm.strategy],
                    markeredgecolor="black",
                    markersize=6,
                    zorder=4,
                )
            title = f"{MODELS[model]}: {score}"
            if score == "accuracy":
                axis.plot([one.index for one in human], [one.accuracy for one in human], **_STAR)
                low, high = axis.get_ylim()
                mean = float(np.mean(list(majority.values())))
                if mean > low - (high - low):
                    axis.plot(list(majority), list(majority.values()), **_MAJORITY)
                    shown = True
                else:
                    title += f" (majority: {mean:.3f}, far below)"
            _training_ticks(axis, results)
            axis.set_ylabel("Loss (nats)" if score == "loss" else "Accuracy")
            axis.set_title(title, fontsize=11, loc="left")
            axis.grid(alpha=0.3)
        axes[-1].set_xlabel("Index of the slice")
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        handles = [
            Line2D([], [], label=arm.title, marker=_marker(plan, arm), **_line(plan, arm))
            for arm in plan.arms
        ]
        if shown:
            handles.append(Line2D([], [], label="Majority", **_MAJORITY))
        if human:
            handles.append(Line2D([], [], label="Human, labelled twice", **_STAR))
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=min(len(handles), 5),
            frameon=False,
            fontsize=9,
        )
        _save(figure, path)


def predictions(
    path: Path,
    raw: Plane,
    truth: Plane,
    found: Mapping[str, Mapping[str, Plane]],
    *,
    pixel_nm: float,
    title: str,
) -> None:
    """Figure 2: a slice raw, its truth, and each prediction, its errors coloured; a row per model.

    Parameters
    ----------
    path
        File to write, without ending.
    raw
        Grey values, shape (y, x).
    truth
        uint8, shape (y, x); 0 where nothing is known.
    found
        By the model's title and the trial's: a segmentation, uint8, shape (y, x).
    pixel_nm
        Size of a pixel in nm.
    title
        What stands above.
    """
    most = max([2, *(len(of_model) for of_model in found.values())])
    columns = min(4, most)
    rows = 1 + sum(-(-len(of_model) // columns) for of_model in found.values())
    height, width = raw.shape
    with matplotlib.rc_context(_STYLE):
        figure = _figure((_WIDTH / columns * min(2.0, height / width) + 0.3) * rows + 0.8)
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        show_raw(axes[0, 0], raw, pixel_nm)
        _classes(axes[0, 1], truth, truth)
        titles = {axes[0, 0]: "Raw", axes[0, 1]: "Truth"}
        row = 1
        for model, of_model in found.items():
            places = axes[row:].flat
            for axis, (trial, segmentation) in zip(places, of_model.items(), strict=False):
                _classes(axis, segmentation, truth)
                titles[axis] = f"{trial}\n{model}"
            row += -(-len(of_model) // columns)
        for letter, (axis, text) in zip(string.ascii_letters, titles.items(), strict=False):
            axis.set_title(f"({letter}) {text}", fontsize=9, loc="left")
        figure.suptitle(title, fontsize=11)
        figure.legend(
            handles=[
                Patch(facecolor=_RIGHT_PORE, label="pore"),
                Patch(facecolor=_RIGHT_SOLID, edgecolor="#777777", label="solid"),
                Patch(facecolor=FALSE_SOLID, label="pore taken for solid"),
                Patch(facecolor=FALSE_PORE, label="solid taken for pore"),
            ],
            loc="outside lower center",
            ncols=4,
            frameon=False,
            fontsize=9,
        )
        _save(figure, path)


def labels_against_score(path: Path, curves: Sequence[Enough]) -> None:
    """Figure 3: the accuracy against the number of labelled slices, and where more gain little.

    Parameters
    ----------
    path
        File to write, without ending.
    curves
        What `summary.enough` found; at least one.
    """
    models = list(dict.fromkeys(curve.model for curve in curves))
    with matplotlib.rc_context(_STYLE):
        figure = _figure(3.4)
        axes = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
        for axis, model in zip(axes, models, strict=True):
            for curve in (curve for curve in curves if curve.model == model):
                counts = list(curve.points)
                means = np.array([point.mean for point in curve.points.values()])
                below = means - [point.low for point in curve.points.values()]
                above = [point.high for point in curve.points.values()] - means
                colour = _COLOURS[curve.strategy]
                axis.errorbar(counts, means, (below, above), color=colour, marker="o", capsize=3)
                if curve.is_settled:
                    enough = curve.points[curve.count].mean
                    axis.plot([curve.count], [enough], markeredgecolor=colour, **_RING)
            axis.set_xticks(sorted({count for curve in curves for count in curve.points}))
            axis.set_title(MODELS[model], fontsize=11, loc="left")
            axis.set_xlabel("Labelled slices")
            axis.grid(alpha=0.3)
        axes[0].set_ylabel("Accuracy on unseen slices")
        handles: list[Any] = [
            Line2D([], [], color=_COLOURS[strategy], marker="o", label=strategy.capitalize())
            for strategy in dict.fromkeys(curve.strategy for curve in curves)
        ]
        if any(curve.is_settled for curve in curves):
            handles.append(
                Line2D([], [], color="#777777", label="enough by the stop rule", **_RING)
            )
        figure.legend(
            handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=9
        )
        _save(figure, path)


def porosity_by_index(path: Path, plan: Plan, results: Sequence[Result]) -> None:
    """Figure 4: how far the porosity of each slice is off.

    Parameters
    ----------
    path
        File to write, without ending.
    plan, results
        The study.
    """
    models = list(dict.fromkeys(result.trial.model for result in results))
    with matplotlib.rc_context(_STYLE):
        figure = _figure(2.7 * len(models) + 0.4)
        axes = figure.subplots(len(models), 1, sharex=True, squeeze=False)[:, 0]
        for axis, model in zip(axes, models, strict=True):
            for position, arm in enumerate(plan.arms):
                indices, found = summary.curves(plan, results, model, arm, "porosity")
                _, true = summary.curves(plan, results, model, arm, "porosity_truth")
                off = [
                    None
                    if one is None or other is None
                    else Spread(one.mean - other.mean, one.low - other.mean, one.high - other.mean)
                    for one, other in zip(found, true, strict=True)
                ]
                _curve(axis, indices, off, plan, position)
            axis.axhline(0, color="black", linewidth=0.8)
            axis.set_title(MODELS[model], fontsize=11, loc="left")
            axis.set_ylabel("Porosity, found - true")
            axis.grid(alpha=0.3)
        axes[-1].set_xlabel("Index of the slice")
        axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        figure.legend(
            handles=[Line2D([], [], label=arm.title, **_line(plan, arm)) for arm in plan.arms],
            loc="outside lower center",
            ncols=5,
            frameon=False,
            fontsize=9,
        )
        _save(figure, path)


def _figure(height: float) -> Figure:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> None:
    for suffix in SUFFIXES:
        with replacing(path.with_suffix(suffix)) as temporary:
            metadata = {"Date": None} if suffix == ".svg" else {}
            figure.savefig(temporary, dpi=200, metadata=metadata)


def _line(plan: Plan, arm: Arm) -> dict[str, Any]:
    counts = sorted({one.count for one in plan.arms}, reverse=True)
    dash = _DASHES[counts.index(arm.count) % len(_DASHES)]
    return {"color": _COLOURS[arm.strategy], "linestyle": dash, "linewidth": 1.3}


def _marker(plan: Plan, arm: Arm) -> str:
    counts = sorted({one.count for one in plan.arms}, reverse=True)
    return _MARKERS[counts.index(arm.count) % len(_MARKERS)]


def _curve(
    axis: Any,
    indices: Sequence[int],
    spreads: Sequence[Spread | None],
    plan: Plan,
    position: int,
) -> None:
    """A curve that is broken where slices were trained on, and the band of its repeats."""
    arm = plan.arms[position]
    middle, low, high = (
        np.array([np.nan if one is None else getattr(one, name) for one in spreads])
        for name in ("mean", "low", "high")
    )
    # Where few slices are labelled, a curve would be all gaps.
    apart = np.diff(indices, prepend=indices[0] - 1).max() > 1
    if apart:
        kept = ~np.isnan(middle)
        indices, middle, low, high = np.asarray(indices)[kept], middle[kept], low[kept], high[kept]
    line = _line(plan, arm)
    axis.plot(indices, middle, zorder=3, marker="." if apart else None, **line)
    axis.fill_between(indices, low, high, color=line["color"], alpha=0.2, linewidth=0, zorder=2)


def _training_ticks(axis: Any, results: Sequence[Result]) -> None:
    """A row of ticks for each arm, below the curves, at the slices that it was trained on."""
    trained_on = {
        result.trial.arm: result.trial.training for result in results if not result.trial.fold
    }
    height = 0.035
    for row, (arm, indices) in enumerate(reversed(trained_on.items())):
        axis.vlines(
            indices,
            row * height,
            (row + 0.8) * height,
            transform=axis.get_xaxis_transform(),
            color=_COLOURS[arm.strategy],
            linewidth=1.2,
        )
    low, high = axis.get_ylim()
    axis.set_ylim(low - (high - low) * height * (len(trained_on) + 1), high)


def _classes(axis: Any, found: Plane, truth: Plane) -> None:
    """Pore and solid in greys; what is wrong in colours, and white where nothing is known."""
    kinds = np.zeros(found.shape, np.uint8)
    kinds[found == PORE] = 1
    kinds[found == SOLID] = 2
    kinds[(found == SOLID) & (truth == PORE)] = 3
    kinds[(found == PORE) & (truth == SOLID)] = 4
    colours = ListedColormap(["white", _RIGHT_PORE, _RIGHT_SOLID, FALSE_SOLID, FALSE_PORE])
    axis.imshow(kinds, cmap=colours, vmin=0, vmax=4, interpolation="nearest")
