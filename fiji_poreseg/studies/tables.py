"""Table 1 as the paper prints it, in CSV, Markdown, LaTeX and HTML."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from fiji_poreseg.studies.plan import MODELS, Arm
from fiji_poreseg.studies.summary import Line, Spread

_DIGITS = 6
_CORNER = "Predicted image"
_BASELINES = ("Majority", "Best threshold")
_HUMAN = "Human, labelled twice"
_PAPER = "the paper's ResUNet"
ABOUT_HUMAN = (
    "Human: the same slices labelled a second time, scored like a prediction; its mean is over "
    "those slices. No model can be shown to be better than that."
)


def csv_rows(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """A row for each model, index and score: means, and lowest and highest of the repeats."""
    with_paper = any(line.paper for line in lines)
    with_human = _any_human(lines)
    rows = []
    for line in lines:
        row: dict[str, Any] = {
            "model": line.model,
            "index": line.place,
            "slice_scored": line.index,
            "score": line.score,
            "majority": _round(line.majority),
            "best_threshold": _round(line.threshold),
        }
        if with_human:
            row["human"] = _round(line.human)
        for arm, spread in line.cells.items():
            row[arm.name] = _round(spread.mean if spread else None)
            row[f"{arm.name} lowest"] = _round(spread.low if spread else None)
            row[f"{arm.name} highest"] = _round(spread.high if spread else None)
            if with_paper:
                row[f"{arm.name} paper"] = line.paper.get(arm)
        rows.append(row)
    return rows


def short_rows(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The means alone, for a terminal and for ImageJ's Results."""
    return [
        {
            "model": line.model,
            "index": str(line.place),
            "score": line.score,
            **{arm.name: spread.mean if spread else None for arm, spread in line.cells.items()},
            "majority": line.majority,
            "best threshold": line.threshold,
            **({"human": line.human} if _any_human(lines) else {}),
        }
        for line in lines
    ]


def markdown(lines: Sequence[Line]) -> str:
    """One table for each model, as Markdown."""
    parts = []
    for model, of_model in _by_model(lines):
        head, *body = _cells(of_model, _plain)
        rows = [head, ["---"] * len(head), *body]
        text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        parts.append(f"**{MODELS[model]}**\n\n{text}\n")
    return "\n".join([*parts, _note(lines) + "\n"])


def latex(lines: Sequence[Line]) -> str:
    """One tabular for each model, which needs no package."""
    parts = []
    for model, of_model in _by_model(lines):
        head, *body = _cells(of_model, _plain)
        rows = [" & ".join(map(_escaped, row)) + r" \\" for row in (head, *body)]
        parts.append(
            "\n".join(
                [
                    rf"% {MODELS[model]}",
                    rf"\begin{{tabular}}{{l{'r' * (len(head) - 1)}}}",
                    r"\hline",
                    rf"\multicolumn{{{len(head)}}}{{l}}{{{MODELS[model]}}} \\",
                    rows[0],
                    r"\hline",
                    *rows[1:],
                    r"\hline",
                    r"\end{tabular}",
                    "",
                ]
            )
        )
    return "\n".join([*parts, f"% {_note(lines)}\n"])


def html_table(lines: Sequence[Line]) -> str:
    """One table for each model, each in a box of its own that scrolls where it is narrow."""
    return "\n".join(
        grid(*_cells(of_model, _plain), caption=MODELS[model])
        for model, of_model in _by_model(lines)
    )


def grid(head: Sequence[str], *body: Sequence[str], caption: str) -> str:
    """An HTML table; its first column holds the names of the rows."""
    titles = "".join(f'<th scope="col">{html.escape(text)}</th>' for text in head)
    rows = "\n".join(
        f'<tr><th scope="row">{html.escape(first)}</th>'
        + "".join(f"<td>{html.escape(text)}</td>" for text in rest)
        + "</tr>"
        for first, *rest in body
    )
    return (
        f'<div class="scroll" tabindex="0"><table><caption>{html.escape(caption)}</caption>\n'
        f"<thead><tr>{titles}</tr></thead>\n<tbody>\n{rows}\n</tbody></table></div>"
    )


def _note(lines: Sequence[Line]) -> str:
    repeated = any(spread and spread.width for line in lines for spread in line.cells.values())
    spread = " In brackets: the lowest and the highest of the repeats." if repeated else ""
    return (
        "Loss: cross-entropy in nats. Mean: over all slices that no trial was trained on. "
        f"Best threshold: one grey value for the whole stack, picked with the truth.{spread}"
        + (f" {ABOUT_HUMAN}" if _any_human(lines) else "")
    )


def _any_human(lines: Sequence[Line]) -> bool:
    return any(line.human is not None for line in lines)


def _by_model(lines: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    return [(model, list(found)) for model, found in groupby(lines, lambda line: line.model)]


def _cells(lines: Sequence[Line], write: Callable[[Spread | None], str]) -> list[list[str]]:
    """The first row and the others, as text."""
    arms: list[Arm] = list(lines[0].cells)
    human = _any_human(lines)
    rows = [[_CORNER, *(arm.title for arm in arms), *_BASELINES, *([_HUMAN] if human else [])]]
    for line in lines:
        baselines = [_number(line.majority), _number(line.threshold)]
        if human:
            baselines.append(_number(line.human))
        rows.append([line.title, *(write(line.cells[arm]) for arm in arms), *baselines])
        if line.paper:
            numbers = [f"{line.paper[arm]:.3f}" if arm in line.paper else "" for arm in arms]
            rows.append([_PAPER, *numbers, *([""] * len(baselines))])
    return rows


def _plain(spread: Spread | None) -> str:
    if spread is None:
        return ""
    brackets = f" ({spread.low:.3f}–{spread.high:.3f})" if spread.width else ""
    return f"{spread.mean:.3f}{brackets}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def _escaped(text: str) -> str:
    for sign in "&%_#":
        text = text.replace(sign, f"\\{sign}")
    return text.replace("–", "--")
