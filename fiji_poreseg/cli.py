"""The program `fiji-poreseg`: the commands, and what goes with them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from fiji_poreseg import __version__, bridge
from fiji_poreseg.commands.arguments import add_commands, given
from fiji_poreseg.commands.catalog import CATALOG
from fiji_poreseg.commands.macro import record_line
from fiji_poreseg.commands.spec import Presentation
from fiji_poreseg.errors import (
    EngineError,
    MacroError,
    ParameterError,
    in_words,
    warnings_told,
)
from fiji_poreseg.progress import reporting

_MOST_ROWS = 40

# No emoji: Rich would make a flag of the sc.fiji:fiji:2.17.0 of Maven.
_console = Console(stderr=True, highlight=False, emoji=False)


def run() -> None:
    """Run the program and end the process."""
    status = main()
    bridge.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # Everything is written and closed. Python's own way out would have TensorFlow take itself
    # down, for seconds.
    os._exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Parameters
    ----------
    arguments
        The command line; that of the process by default.

    Returns
    -------
    int
        Exit status: 0 on success, 1 when something failed, 130 when interrupted.
    """
    parsed = _parser().parse_args(arguments)
    try:
        with warnings_told(_print_line):
            parsed.run(parsed)
    except (ParameterError, MacroError, EngineError) as error:
        where = "".join(f"{note}: " for note in getattr(error, "__notes__", ()))
        _print_line(f"fiji-poreseg: {where}{error}")
        return 1
    except (MemoryError, OSError) as error:
        _print_line(f"fiji-poreseg: {in_words(error)}")
        return 1
    except KeyboardInterrupt:
        _console.print("fiji-poreseg: interrupted")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fiji-poreseg",
        description="Segment pore-backs in FIB-SEM stacks.",
        epilog="Every command is also a macro command and a Python function; see the README.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    add_commands(subparsers, CATALOG)
    for command in CATALOG:
        subparsers.choices[command.replace("_", "-")].set_defaults(run=_run_command)
    _add_macro(subparsers)
    _add_gui(subparsers)
    _add_demo(subparsers)
    _add_doctor(subparsers)
    _add_install(subparsers)
    return parser


def _add_macro(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "Run an ImageJ macro without a display, with every PoreSeg command in it."
    parser = subparsers.add_parser("macro", help=summary, description=summary)
    parser.add_argument("file", metavar="FILE.ijm", type=Path, help="the macro")
    parser.add_argument(
        "argument", metavar="ARGUMENT", nargs="?", default="", help="what getArgument() answers"
    )
    _add_fiji(parser)
    parser.set_defaults(run=_run_macro)


def _add_fiji(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fiji",
        metavar="DIR",
        help="a Fiji's folder, or Maven coordinates such as sc.fiji:fiji; default FIJI_HOME, and "
        "where that is not set, ImageJ alone",
    )


def _add_gui(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "Open ImageJ's window with every PoreSeg command in Plugins > PoreSeg."
    parser = subparsers.add_parser("gui", help=summary, description=summary)
    _add_fiji(parser)
    parser.set_defaults(run=_run_gui)


def _add_demo(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "Run the main job on a phantom: the macro segment_pores.ijm, scores and a figure."
    parser = subparsers.add_parser("demo", help=summary, description=summary)
    parser.add_argument(
        "output",
        metavar="OUT_DIR",
        nargs="?",
        type=Path,
        default=Path("poreseg-demo"),
        help="folder to make; default poreseg-demo",
    )
    parser.add_argument("--slices", type=int, default=120, help="slices of the phantom; 120")
    parser.add_argument("--size", type=int, default=256, help="side of a slice in voxels; 256")
    parser.add_argument("--steps", type=int, default=300, help="training steps of the ResUNet; 300")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything random; 0")
    parser.set_defaults(run=_run_demo)


def _add_doctor(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "Say what is found on this machine, what is missing, and what to do about it."
    parser = subparsers.add_parser("doctor", help=summary, description=summary)
    _add_fiji(parser)
    parser.set_defaults(run=_run_doctor)


def _add_install(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, summary in {
        "install": "Put the commands into a Fiji or ImageJ that you start yourself, as plugins.",
        "uninstall": "Remove those plugins again.",
    }.items():
        parser = subparsers.add_parser(name, help=summary, description=summary)
        parser.add_argument(
            "--fiji",
            metavar="DIR",
            type=Path,
            help="its folder; by default that of FIJI_HOME",
        )
        parser.set_defaults(run=_run_install, action=name)


def _run_command(parsed: argparse.Namespace) -> None:
    if parsed.as_macro:
        parsed.command.bind(given(parsed))
        sys.stdout.write(record_line(parsed.command, given(parsed)) + "\n")
        return
    with terminal_progress():
        result = parsed.command.run(given(parsed))
    _show(parsed.command.present(result))


def _run_macro(parsed: argparse.Namespace) -> None:
    with terminal_progress():
        bridge.run_macro_file(parsed.file, parsed.argument, fiji=parsed.fiji)


def _run_gui(parsed: argparse.Namespace) -> None:
    bridge.run_window(fiji=parsed.fiji)


def _run_demo(parsed: argparse.Namespace) -> None:
    from fiji_poreseg.demo import run

    with terminal_progress():
        scores = run(
            parsed.output, parsed.slices, parsed.size, steps=parsed.steps, seed=parsed.seed
        )
    _print_table(scores)
    sys.stdout.write(f"Everything is in {parsed.output.resolve()}\n")


def _run_doctor(parsed: argparse.Namespace) -> None:
    from fiji_poreseg.doctor import Status, examine

    console = Console(file=sys.stdout, highlight=False, emoji=False)
    signs = _signs(console)
    bad = 0
    for finding in examine(parsed.fiji):
        bad += finding.status is Status.BAD
        line = Table.grid(padding=(0, 1))
        line.add_column(width=2)
        line.add_column(width=10)
        line.add_column(overflow="fold")
        line.add_row(signs[finding.status.value], finding.name, Text(finding.detail))
        if finding.advice:
            line.add_row("", "", Text(f"{signs['advice']} {finding.advice}"))
        console.print(line)
    if bad:
        raise EngineError(f"What is marked {signs['bad']} must be put right first.")


def _signs(console: Console) -> Mapping[str, str]:
    """Signs for the findings that the terminal can show."""
    signs = {"good": "✓", "note": "!", "bad": "✗", "advice": "→"}
    try:
        "".join(signs.values()).encode(console.encoding)
    except UnicodeEncodeError:
        return {"good": "ok", "note": "!", "bad": "x", "advice": "->"}
    return signs


def _run_install(parsed: argparse.Namespace) -> None:
    from fiji_poreseg import installation

    done = getattr(installation, parsed.action)(parsed.fiji)
    for what, names in {"written to": done.written, "removed from": done.removed}.items():
        if names:
            sys.stdout.write(f"{len(names)} plugins {what} {done.folder}\n")
    for name in done.kept:
        sys.stdout.write(f"Left as it is, since you changed it: {done.folder / name}\n")
    sys.stdout.write("Start ImageJ again, or use Help > Refresh Menus.\n")


@contextmanager
def terminal_progress() -> Iterator[None]:
    """Show progress as bars on a terminal's standard error, and nothing where it is none."""
    if not _console.is_terminal:
        yield
        return
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=_console, transient=True)
    with bars, reporting(_Bars(bars)):
        yield


class _Bars:
    """One bar at a time, gone when it is full: what a macro prints then stands on its own line."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None
        self._description = ""

    def update(self, description: str, done: int, total: int) -> None:
        """Move the bar."""
        if self._task is not None and description != self._description:
            self._remove(self._task)
        if done >= total:
            if self._task is not None:
                self._remove(self._task)
            return
        if self._task is None:
            self._task = self._progress.add_task(description, total=total)
            self._description = description
        self._progress.update(self._task, completed=done, total=total)

    def _remove(self, task: TaskID) -> None:
        self._progress.remove_task(task)
        self._progress.refresh()
        self._task = None


def _print_line(text: str) -> None:
    _console.print(text, markup=False, soft_wrap=True)


def _show(presentation: Presentation) -> None:
    if presentation.numbers:
        sys.stdout.write(presentation.numbers + "\n")
        return
    if presentation.rows:
        _print_table(presentation.rows)
    for line in presentation.lines:
        sys.stdout.write(line + "\n")


def _print_table(rows: Sequence[Mapping[str, object]]) -> None:
    """Print rows as a table, the first ones where there are many."""
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(str(name).replace("_", " "), justify="right")
    for row in rows[:_MOST_ROWS]:
        table.add_row(*(_cell(value) for value in row.values()))
    Console(file=sys.stdout, highlight=False, emoji=False, width=120).print(table)
    if len(rows) > _MOST_ROWS:
        sys.stdout.write(f"… and {len(rows) - _MOST_ROWS} more rows\n")


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)


if __name__ == "__main__":
    run()
