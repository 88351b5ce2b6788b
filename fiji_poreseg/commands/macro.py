"""The options of a macro's `run`, as ImageJ's recorder writes and its plugins read them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from fiji_poreseg.commands.spec import Command, show
from fiji_poreseg.errors import ParameterError

_KEY = re.compile(r"[^\s=\[\]]+")
_NEEDS_BRACKETS = re.compile(r"[\s\[\]']")
_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"})


def parse_options(text: str) -> dict[str, str]:
    """Read the options of a macro command.

    Parameters
    ----------
    text
        What stands in ``run("…", "HERE")``: ``key=value``, ``key=[value with blanks]`` or a bare
        ``word``, which is a flag that is set. Brackets inside brackets are part of the value.

    Returns
    -------
    dict
        The values by key, in order; ``"true"`` for a flag.

    Raises
    ------
    ParameterError
        If a key stands twice, a bracket is not closed, or something stands between options.
    """
    options: dict[str, str] = {}
    position = _skip_blanks(text, 0)
    while position < len(text):
        key, position = _read_key(text, position)
        value = "true"
        if text[position : position + 1] == "=":
            value, position = _read_value(text, key, position + 1)
        if key in options:
            raise ParameterError(
                key, "must be given once", f"{options[key]} and {value}", "Leave one out."
            )
        options[key] = value
        position = _skip_blanks(text, position)
    return options


def _skip_blanks(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _read_key(text: str, position: int) -> tuple[str, int]:
    found = _KEY.match(text, position)
    if not found:
        raise ParameterError(
            "options",
            "must be key=value, key=[value with blanks] or a bare word, with blanks between them",
            text[position:],
            "Put a value that holds blanks or brackets into [ ].",
        )
    return found.group(), found.end()


def _read_value(text: str, key: str, start: int) -> tuple[str, int]:
    if text[start : start + 1] == "[":
        end = _closing_bracket(text, key, start)
        value = text[start + 1 : end]
        end += 1
    elif text[start : start + 1] == "'" and "'" in text[start + 1 :]:
        end = text.index("'", start + 1)
        value = text[start + 1 : end]
        end += 1
    else:
        end = start
        while end < len(text) and not text[end].isspace():
            end += 1
        value = text[start:end]
    if end < len(text) and not text[end].isspace():
        raise ParameterError(
            key, "must be followed by a blank", text[start : end + 1], "Add one before the next."
        )
    return value, end


def _closing_bracket(text: str, key: str, start: int) -> int:
    depth = 0
    for position in range(start, len(text)):
        depth += {"[": 1, "]": -1}.get(text[position], 0)
        if depth == 0:
            return position
    raise ParameterError(
        key, "must end with ] where it begins with [", text[start:], "Close the bracket."
    )


def format_options(options: Mapping[str, str]) -> str:
    """Write options so that `parse_options`, and ImageJ itself, read the same values back.

    Raises
    ------
    ParameterError
        If a value holds a square bracket without its counterpart: ImageJ has no way to write it.
    """
    return " ".join(f"{key}={_quote(key, value)}" for key, value in options.items())


def _quote(key: str, value: str) -> str:
    if value and not _NEEDS_BRACKETS.search(value):
        return value
    depth = 0
    for character in value:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if depth < 0:
            break
    if depth:
        raise ParameterError(
            key, "must hold square brackets only in pairs", value, "Rename the file or image."
        )
    return f"[{value}]"


def record_line(command: Command[..., object], raw: Mapping[str, object]) -> str:
    """Write the macro line that runs a command, as ImageJ's recorder would write it.

    Parameters
    ----------
    command
        The command.
    raw
        Values by parameter name; those that are None are left out.
    """
    words = [
        name if value is True else format_options({name: show(value)})
        for name, value in raw.items()
        if value is not None
    ]
    options = " ".join(words).translate(_ESCAPES)
    return f'run("{command.title}", "{options}");' if words else f'run("{command.title}");'
