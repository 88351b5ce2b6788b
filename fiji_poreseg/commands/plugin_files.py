"""The `.ijm` plugins of an ImageJ that was started by itself: their text, from the definitions.

A plugin hands its options and the images that are asked for to the environment's Python
(`fiji_poreseg.remote`), in a folder of files, and shows what comes back. ImageJ reads a plugin as
Latin-1, so it is ASCII but for a comment; what is exchanged is percent-encoded.
"""

from __future__ import annotations

import hashlib
import html
import re
from importlib.resources import files
from typing import Any

from fiji_poreseg import __version__
from fiji_poreseg.commands.spec import Command, Parameter, Role, show
from fiji_poreseg.rois import LOOK

_MARK = re.compile(r"// fiji-poreseg \S+, sha256 ([0-9a-f]{64})\n")
_OPEN = {
    Role.IMAGE: "title or file",
    Role.LABELS: "title or file",
    Role.MODEL: "file",
}
_LEFT_OUT = {
    Role.LABELS: "empty: the overlay",
    Role.MODEL: "empty: the last trained",
}


def plugin_name(command: Command[..., Any]) -> str:
    """The file's name; ImageJ takes the command's title from it."""
    return command.title.replace(" ", "_") + ".ijm"


def plugin_text(command: Command[..., Any], python: str) -> str:
    """Write the plugin of a command.

    Parameters
    ----------
    command
        The command.
    python
        Absolute path of the environment's Python.

    Returns
    -------
    str
        The first line carries a sum over the rest, for `is_unchanged`.
    """
    template = files("fiji_poreseg.commands") / "plugin.ijm"
    body = template.read_text(encoding="ascii")
    for name, value in {
        "@PROGRAM@": python,
        "@TITLE@": macro_string(command.title),
        "@PYTHON@": macro_string(python),
        "@LOOK@": LOOK,
        "@DIALOG@": "".join(f"\t{line}\n" for line in _dialog(command)),
    }.items():
        body = body.replace(name, value)
    return f"// fiji-poreseg {__version__}, sha256 {_sum(body)}\n{body}"


def is_marked(text: str) -> bool:
    """Whether a file was written by `plugin_text`, changed since or not."""
    return _MARK.match(text) is not None


def is_unchanged(text: str) -> bool:
    """Whether a file is as `plugin_text` wrote it."""
    mark = _MARK.match(text)
    return mark is not None and mark[1] == _sum(text[mark.end() :])


def macro_string(text: str) -> str:
    """Write a text as an expression of the macro language, which has no escape for letters."""
    parts = []
    for run in re.findall(r"[ -~]+|[^ -~]+", text):
        if run[0].isascii() and run.isprintable():
            parts.append('"' + run.replace("\\", "\\\\").replace('"', '\\"') + '"')
        else:
            units = run.encode("utf-16-be")
            codes = (units[at : at + 2].hex() for at in range(0, len(units), 2))
            parts.append(f"fromCharCode({', '.join(f'0x{code}' for code in codes)})")
    return " + ".join(parts) or '""'


def _sum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()


def _dialog(command: Command[..., Any]) -> list[str]:
    """Statements that ask for the parameters and put what differs from the defaults in options."""
    fields, answers = [], []
    for position, parameter in enumerate(command.parameters.values()):
        first = position == 0 and parameter.info.role is Role.IMAGE
        field, answer = _current_image(parameter) if first else _field(parameter)
        fields.append(field)
        answers.append(answer)
    return [
        f"Dialog.addMessage({macro_string(command.summary)});",
        *fields,
        f"Dialog.addHelp({macro_string(_help(command))});",
        "Dialog.show();",
        *answers,
    ]


def _current_image(parameter: Parameter) -> tuple[str, str]:
    """A choice of the open images; where there are none, a file."""
    field, answer = _field(parameter)
    name = macro_string(parameter.name)
    return (
        f'if (nImages > 0) Dialog.addChoice({name}, getList("image.titles"), getTitle());'
        f" else {field}",
        f"if (nImages > 0) options = options + option({name}, Dialog.getChoice(), getTitle());"
        f" else {answer}",
    )


def _field(parameter: Parameter) -> tuple[str, str]:
    """A statement that adds a field, and one that takes its value."""
    info = parameter.info
    default = "" if parameter.required or parameter.default is None else show(parameter.default)
    notes = [_OPEN.get(info.role, ""), "" if parameter.name.endswith(info.unit) else info.unit]
    if parameter.required:
        notes.append(_LEFT_OUT.get(info.role, ""))
    note = "; ".join(note for note in notes if note)
    name, label = macro_string(parameter.name), parameter.name + (f" ({note})" if note else "")
    first = macro_string(default)
    if parameter.is_flag:
        return (
            f"Dialog.addCheckbox({name}, {default});",
            f"options = options + option({name}, flag(Dialog.getCheckbox()), {first});",
        )
    if parameter.is_choice:
        listed = dict.fromkeys((default, *info.choices))
        choices = ", ".join(macro_string(choice) for choice in listed)
        return (
            f"Dialog.addChoice({name}, newArray({choices}), {first});",
            f"options = options + option({name}, Dialog.getChoice(), {first});",
        )
    kind = "String"
    if info.role is not Role.VALUE:
        kind = "Directory" if parameter.is_folder else "File"
    return (
        f"Dialog.add{kind}({macro_string(label)}, {first});",
        f"options = options + option({name}, Dialog.getString(), {first});",
    )


def _help(command: Command[..., Any]) -> str:
    entries = "".join(f"<dt><b>{p.name}</b><dd>{_sentence(p)}" for p in command.parameters.values())
    text = f"<html><h3>{html.escape(command.title)}</h3>{html.escape(command.summary)}<dl>{entries}"
    return text.encode("ascii", "xmlcharrefreplace").decode("ascii")


def _sentence(parameter: Parameter) -> str:
    text = html.escape(parameter.info.help)
    return text if parameter.info.role is not Role.VALUE else f"{text}: {parameter.rule}"
