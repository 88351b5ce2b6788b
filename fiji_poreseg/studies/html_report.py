"""`report.html`: one file that holds all of a study, and needs no network."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fiji_poreseg.files import written
from fiji_poreseg.studies import tables
from fiji_poreseg.studies.plan import MODELS
from fiji_poreseg.studies.summary import LEAST_GAIN, Enough, Finding, Line

_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: #fff; color: #1a1a1a;
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; }
h2 { font-size: 1.25rem; margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: 0.875rem; overflow-wrap: normal; }
caption { text-align: left; font-weight: 600; padding: 0.25rem 0; }
th, td { padding: 0.2rem 0.7rem; border-bottom: 1px solid #e2e2e2; text-align: right;
  white-space: nowrap; font-variant-numeric: tabular-nums; }
th[scope=row], thead th:first-child { text-align: left; font-weight: 400; position: sticky;
  left: 0; background: #fff; }
thead th { border-bottom: 2px solid #888; }
p, ul, dl, figcaption { max-width: 46rem; }
figure { margin: 1rem 0; }
img { width: 100%; max-width: 46rem; height: auto; }
figcaption, .note { color: #444; font-size: 0.9rem; }
pre { background: #f4f4f4; padding: 0.75rem; overflow-x: auto; font-size: 0.85rem; }
dt { font-weight: 600; } dd { margin: 0 0 0.5rem; }
@media (max-width: 30rem) { body { padding: 0.6rem; } th, td { padding: 0.2rem 0.4rem; }
  th[scope=row] { white-space: normal; min-width: 7rem; } }
@media print { .scroll { overflow: visible; } }
"""
_KINDS = {
    "pore_back": "Pore-backs",
    "open_pore": "Open pore",
    "solid": "Solid",
    "edge": "Edges",
    "persistent": "Persistent",
}


def render(
    folder: Path,
    lines: Sequence[Line],
    errors: Sequence[Mapping[str, Any]],
    curves: Sequence[Enough],
    findings: Sequence[Finding],
    bundle: Mapping[str, Any],
) -> str:
    """Write the report.

    Parameters
    ----------
    folder
        Where the figures are.
    lines
        The table.
    errors
        What `summary.errors` found.
    curves, findings
        How many slices are enough, and what of the paper was seen; either may be empty.
    bundle
        What stands in ``run.json``.

    Returns
    -------
    str
        HTML, the figures in it.
    """
    image = bundle["image"]
    shape = " x ".join(map(str, image["shape"]))
    parts = [
        "<h1>Which slices to label: a study</h1>",
        f"<p>{_text(image['name'])}, {shape} voxels. {_in_short(lines)}</p>",
        *_verdicts(curves),
        "<h2>Table 1. Scores of each trial</h2>",
        tables.html_table(lines),
        f'<p class="note">{_text(_about_table(bundle))}</p>',
        "<h2>Figure 1. Loss and accuracy along the stack</h2>",
        _figure(
            folder / "figure1.png",
            "Loss and accuracy against the index of the slice, a curve for each trial",
            "Curves: every slice that the trial was not trained on; bands: from the lowest to the "
            "highest repeat. Points: the slices of Table 1. Ticks: the slices trained on."
            + (" Stars: slices that were labelled twice." if "relabelled" in bundle else ""),
        ),
        "<h2>Figure 2. Predictions of each model</h2>",
        _figure(
            folder / "figure2.png",
            "A slice raw, its truth, and the prediction of each trial with its errors in colour",
            f"Slice {bundle['figure2_index']}, repeat 1; no trial was trained on it.",
        ),
    ]
    if curves:
        parts += [
            "<h2>How many slices are enough</h2>",
            _figure(
                folder / "figure3.png",
                "Accuracy on unseen slices against the number of labelled slices",
                "Bars: from the lowest to the highest repeat. Rings: the fewest slices beyond "
                "which no number tried gains more than the stop rule asks.",
            ),
            f'<p class="note">Stop rule: a number of slices is enough where no larger one that was '
            f"tried gains more than {100 * LEAST_GAIN:g} points of accuracy, and than the repeats "
            "differ among themselves.</p>",
        ]
    parts += ["<h2>Where the models err</h2>", _errors(errors), _about_errors()]
    parts.append(
        _figure(
            folder / "figure4.png",
            "Error of the porosity of each slice",
            "Porosity found less the true one, slice by slice.",
        )
    )
    if findings:
        parts += ["<h2>The paper's findings</h2>", _findings(findings)]
    parts += ["<h2>To run it again</h2>", _how(bundle)]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Study of {_text(image['name'])}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _text(text: object) -> str:
    return html.escape(str(text))


def _in_short(lines: Sequence[Line]) -> str:
    """The best of the trials, in a sentence for each model."""
    said = []
    for line in lines:
        if line.index is None and line.score == "accuracy":
            found = {arm: spread.mean for arm, spread in line.cells.items() if spread is not None}
            best = max(found, key=lambda arm: found[arm])
            said.append(
                f"{MODELS[line.model]}: the best accuracy on unseen slices is "
                f"{found[best]:.3f}, of {best.name}; the majority class alone scores "
                f"{line.majority:.3f}."
            )
    return _text(" ".join(said))


def _verdicts(curves: Sequence[Enough]) -> list[str]:
    if not curves:
        return []
    items = "".join(f"<li>{_text(curve.verdict)}</li>" for curve in curves)
    return [f"<ul>{items}</ul>"]


def _about_table(bundle: Mapping[str, Any]) -> str:
    stand_ins = [
        f"slice {index} stands for index {place}"
        for place, index in bundle["indices"].items()
        if str(index) != str(place)
    ]
    moved = (
        f" The table shows slices that no trial was trained on: {', '.join(stand_ins)}."
        if stand_ins
        else ""
    )
    repeats = bundle["settings"]["repeats"]
    spread = (
        f" Means over {repeats} repeats; in brackets the lowest and the highest."
        if repeats > 1
        else ""
    )
    return (
        "Loss: cross-entropy in nats. Majority: calling every pixel the slice's most frequent "
        "class. Best threshold: one grey value for the whole stack, picked with the truth. Mean: "
        f"over the {bundle['unseen_slices']} labelled slices that no trial was trained on."
        f"{spread}{moved}" + (f" {tables.ABOUT_HUMAN}" if "relabelled" in bundle else "")
    )


def _errors(errors: Sequence[Mapping[str, Any]]) -> str:
    head = [
        "Trial",
        *_KINDS.values(),
        "Porosity found",
        "true",
        "error",
        "error per slice",
    ]
    names = ("porosity", "porosity_truth", "porosity_error", "porosity_error_per_slice")
    parts = []
    for model in dict.fromkeys(row["model"] for row in errors):
        body = [
            [
                row["trial"],
                *(_percent(row[kind]) for kind in _KINDS),
                *(f"{row[name]:+.4f}" if name == "porosity_error" else f"{row[name]:.4f}"
                  for name in names),
            ]
            for row in errors
            if row["model"] == model
        ]  # fmt: skip
        parts.append(tables.grid(head, *body, caption=MODELS[model]))
    return "\n".join(parts)


def _about_errors() -> str:
    return (
        '<p class="note">Share of the pixels of each kind that is wrong, on the slices that no '
        "trial was trained on. Pore-backs: pore on the solid's side of the best global threshold. "
        "Edges: pixels of any kind beside another class. Persistent: pixels that are wrong as "
        "they are in the slice before; they make a false structure and not mere noise. Porosity: "
        "of all these slices; error per slice: mean of its size in each.</p>"
    )


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def _findings(findings: Sequence[Finding]) -> str:
    return "\n".join(
        f"<h3>{_text(MODELS[model])}</h3><ul>"
        + "".join(
            f"<li><strong>{one.verdict}:</strong> {_text(one.text)} "
            f'<span class="note">{_text(one.numbers)}.</span></li>'
            for one in findings
            if one.model == model
        )
        + "</ul>"
        for model in dict.fromkeys(one.model for one in findings)
    )


def _how(bundle: Mapping[str, Any]) -> str:
    slices = [
        [trial["name"], ",".join(map(str, trial["training_indices"]))]
        for trial in bundle["trials"]
        if trial["repeat"] == 1
    ]
    listed = "".join(
        f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>"
        for name, value in {
            "Image": f"{bundle['image']['name']}, SHA-256 {bundle['image']['sha256']}",
            "Truth": f"{bundle['truth']['name']}, SHA-256 {bundle['truth']['sha256']}",
            "Seeds": ", ".join(map(str, bundle["seeds"])),
            "Versions": ", ".join(f"{name} {one}" for name, one in bundle["versions"].items()),
        }.items()
    )
    return (
        f"<pre>{_text(bundle['command_line'])}</pre>\n<pre>{_text(bundle['macro_line'])}</pre>\n"
        f"<dl>{listed}</dl>\n"
        + tables.grid(["Trial", "Slices trained on"], *slices, caption="Slices of each trial")
        + '\n<p class="note">All of it, for a program to read: run.json. The scores of every '
        "slice: scores.csv.</p>"
    )


def _figure(path: Path, alt: str, caption: str) -> str:
    data = base64.b64encode(written(path).read_bytes()).decode("ascii")
    return (
        f'<figure><img alt="{_text(alt)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>"
    )
