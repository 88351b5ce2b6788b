"""The lines that run a command again, in a shell and in a macro."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fiji_poreseg.commands.arguments import command_line
from fiji_poreseg.commands.macro import record_line
from fiji_poreseg.commands.spec import Command, Role
from fiji_poreseg.errors import ParameterError


def replay(command: Command[..., Any], bound: Mapping[str, object]) -> dict[str, str]:
    """Write both lines from the values that a command was called with, from its beginning on.

    Parameters
    ----------
    command
        The command.
    bound
        The value of each parameter; ``resume``, and what equals the default, is left out of the
        lines.

    Returns
    -------
    dict
        ``command_line`` and ``macro_line``. An image that came from no file stands there by its
        name, or not at all where it has none, like an overlay's selections. Where no macro can
        name a file, a comment says why.
    """
    given = {
        name: _written(bound[name], parameter.info.role)
        for name, parameter in command.parameters.items()
        if name != "resume" and (parameter.required or _is_given(bound[name], parameter.default))
    }
    try:
        macro_line = record_line(command, given)
    except ParameterError as error:
        macro_line = f"// No macro can: {error}"
    return {"command_line": command_line(command, given), "macro_line": macro_line}


def _is_given(value: object, default: object) -> bool:
    """Whether a value is another one than the default; images are not compared pixel by pixel."""
    return value is not None if default is None else value != default


def _written(value: object, role: Role) -> object:
    """A value as both surfaces take it; files by their whole path."""
    if role is Role.VALUE:
        return value
    if isinstance(value, str | Path):
        return str(Path(value).expanduser().resolve())
    name = getattr(value, "name", None)
    return None if name is None else str(name)
