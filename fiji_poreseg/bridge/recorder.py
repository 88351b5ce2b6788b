"""ImageJ's Recorder: one line for a command that was run from its dialog, which replays it."""

from __future__ import annotations

from collections.abc import Mapping

from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.commands.macro import record_line
from fiji_poreseg.commands.spec import Command


def hold_back() -> None:
    """Keep ImageJ from recording the menu's command by itself, which it does without options."""
    jclass("ij.plugin.frame.Recorder").setCommand(None)


def line_for(command: Command[..., object], given: Mapping[str, object]) -> str | None:
    """The line to record; None where the Recorder is off.

    Raises
    ------
    ParameterError
        If a value cannot be written in a macro.
    """
    if not jclass("ij.IJ").recording():
        return None
    # In its other modes it writes JavaScript, Python and so on, where run() belongs to a class.
    prefix = "IJ." if jclass("ij.plugin.frame.Recorder").scriptMode() else ""
    return f"{prefix}{record_line(command, given)}\n"


def record(line: str | None) -> None:
    """Write the line to the Recorder."""
    if line is not None:
        jclass("ij.plugin.frame.Recorder").recordString(line)
