"""The dialog of a command, made from its definition; and how ImageJ's window shows an error.

The rows are plain AWT components in a `GenericDialog`, not its own fields: those would be recorded
by ImageJ itself, have no room for help, and be gone when the dialog has to come back.
"""

from __future__ import annotations

import textwrap
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jpype

from fiji_poreseg.bridge.inputs import open_images
from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.commands.spec import Command, Parameter, Role, show
from fiji_poreseg.errors import is_foreseen

_HELP_WIDTH = 56
_SUMMARY_WIDTH = 110
_MESSAGE_WIDTH = 90
_LONGEST_ITEM = 40
_FIELD_COLUMNS = 26
_HELP_COLOUR = (95, 95, 95)
_NONE = "(none)"


class _Field(NamedTuple):
    """One row: what is shown, what takes the keyboard, and what is given by it.

    `read` answers None where the parameter is left at its default.
    """

    component: Any
    focus: Any
    read: Callable[[], object | None]


class CommandDialog:
    """Asks for a command's parameters, as often as it takes: what was typed stays.

    Parameters
    ----------
    command
        The command.
    has_model
        Whether a model was trained in this session.
    """

    def __init__(self, command: Command[..., Any], *, has_model: bool) -> None:
        self._title = command.title
        self._summary = textwrap.fill(command.summary, _SUMMARY_WIDTH)
        self._fields = {
            name: _field(parameter, position == 0, has_model=has_model)
            for position, (name, parameter) in enumerate(command.parameters.items())
        }
        self._rows = _lay_out(list(command.parameters.values()), list(self._fields.values()))

    def ask(self) -> dict[str, object] | None:
        """Show the dialog and wait.

        Returns
        -------
        dict or None
            By name the values that differ from the defaults: titles of images, absolute paths,
            True for a flag, and text for the rest. None if the dialog was cancelled.
        """
        dialog = jclass("ij.gui.GenericDialog")(self._title)
        dialog.addMessage(self._summary)
        insets = jclass("java.awt.Insets")(8, 10, 0, 10)
        dialog.addPanel(self._rows, jclass("java.awt.GridBagConstraints").WEST, insets)
        for field in self._fields.values():
            # Enter and Esc belong to the dialog that shows now.
            for listener in field.focus.getKeyListeners():
                field.focus.removeKeyListener(listener)
            field.focus.addKeyListener(dialog)
        dialog.showDialog()
        if dialog.wasCanceled():
            return None
        read = {name: field.read() for name, field in self._fields.items()}
        return {name: value for name, value in read.items() if value is not None}


def show_message(title: str, message: str) -> None:
    """Show a message and wait for OK."""
    jclass("ij.IJ").showMessage(title, wrapped(message))


def log_bug(error: BaseException) -> None:
    """Write the traceback of an error that nobody foresaw to ImageJ's log."""
    if not is_foreseen(error):
        jclass("ij.IJ").log("".join(traceback.format_exception(error)))


def wrapped(message: str) -> str:
    """Break a message into lines that fit on a screen."""
    return textwrap.fill(message, _MESSAGE_WIDTH)


def _lay_out(parameters: Sequence[Parameter], fields: Sequence[_Field]) -> Any:
    """Three columns: the name, as in a macro, the field, and the help."""
    panel = jclass("java.awt.Panel")(jclass("java.awt.GridBagLayout")())
    place = jclass("java.awt.GridBagConstraints")()
    place.insets = jclass("java.awt.Insets")(1, 2, 1, 2)
    grey = jclass("java.awt.Color")(*_HELP_COLOUR)
    for row, (parameter, field) in enumerate(zip(parameters, fields, strict=True)):
        place.gridy = row
        help_text = jclass("ij.gui.MultiLineLabel")(textwrap.fill(_help(parameter), _HELP_WIDTH))
        help_text.setForeground(grey)
        cells = [
            (jclass("java.awt.Label")(_label(parameter)), place.EAST, place.NONE),
            (field.component, place.WEST, place.HORIZONTAL),
            (help_text, place.WEST, place.NONE),
        ]
        for column, (component, anchor, fill) in enumerate(cells):
            place.gridx, place.anchor, place.fill = column, anchor, fill
            panel.add(component, place)
    return panel


def _label(parameter: Parameter) -> str:
    words = parameter.name.replace("_", " ")
    unit = parameter.info.unit
    words = words if not unit or words.endswith(unit) else f"{words} ({unit})"
    return words[0].upper() + words[1:]


def _help(parameter: Parameter) -> str:
    info = parameter.info
    text = info.help[0].upper() + info.help[1:]
    if info.ge is not None and info.le is not None:
        return f"{text}; from {show(info.ge)} to {show(info.le)}"
    if info.ge:  # that a count or a size is not negative goes without saying
        return f"{text}; at least {show(info.ge)}"
    return text if info.le is None else f"{text}; at most {show(info.le)}"


def _field(parameter: Parameter, first: bool, *, has_model: bool) -> _Field:
    role = parameter.info.role
    if role is Role.IMAGE:
        return _image_field(parameter, first)
    if role is Role.LABELS:
        return _chooser(parameter, "overlay of the image", _titles())
    if role is Role.MODEL:
        return _chooser(parameter, "the model trained last" if has_model else _NONE, {})
    if role is Role.OUTPUT:
        return _output_field(parameter)
    if parameter.is_flag:
        return _flag_field(parameter)
    return _choice_field(parameter) if parameter.is_choice else _text_field(parameter)


def _text_field(parameter: Parameter) -> _Field:
    default = "" if parameter.default is None else show(parameter.default)
    text = jclass("java.awt.TextField")(default, _FIELD_COLUMNS)

    def read() -> str | None:
        typed = str(text.getText()).strip()
        return None if typed == default else typed

    return _Field(text, text, read)


def _flag_field(parameter: Parameter) -> _Field:
    box = jclass("java.awt.Checkbox")("", bool(parameter.default))

    def read() -> object | None:
        state = bool(box.getState())
        return None if state == parameter.default else state or "false"

    return _Field(box, box, read)


def _choice_field(parameter: Parameter) -> _Field:
    choice = jclass("java.awt.Choice")()
    words = parameter.info.choices
    for word in (*(() if parameter.default in words else (_NONE,)), *words):
        choice.add(word)
    if parameter.default in words:
        choice.select(parameter.default)
    left_alone = choice.getSelectedIndex()

    def read() -> str | None:
        return None if choice.getSelectedIndex() == left_alone else str(choice.getSelectedItem())

    return _Field(choice, choice, read)


def _image_field(parameter: Parameter, first: bool) -> _Field:
    titles = _titles()
    current = jclass("ij.WindowManager").getCurrentImage() if first else None
    if current is None:
        return _chooser(parameter, "(no image is open)" if first else _NONE, titles)
    others = {name: title for name, title in titles.items() if name != _name(current, titles)}
    return _chooser(parameter, str(current.getTitle()), others)


def _titles() -> dict[str, str]:
    """What is shown of each open image, by the title that names it, or by its id."""
    images = open_images()
    titles = [str(image.getTitle()) for image in images]
    return {
        title if titles.count(title) == 1 else str(image.getID()): title
        for image, title in zip(images, titles, strict=True)
    }


def _name(image: Any, titles: Mapping[str, str]) -> str:
    identity = str(image.getID())
    return identity if identity in titles else str(image.getTitle())


def _chooser(parameter: Parameter, if_left_out: str, named: Mapping[str, str]) -> _Field:
    """A list of what there is to name, the default first, and a button that adds a file."""
    choice = jclass("java.awt.Choice")()
    values: list[str | None] = [None]
    choice.add(_shortened(if_left_out))

    def add(value: str, shown: str) -> None:
        values.append(value)
        choice.add(_shortened(shown))

    for name, title in named.items():
        add(name, title if name == title else f"{title} (ID {name})")

    def browse(_: Any) -> None:
        path = jclass("ij.io.OpenDialog")(f"Choose {parameter.name}").getPath()
        if path is None:
            return
        if str(path) not in values:
            add(str(path), str(path))
        choice.select(values.index(str(path)))

    return _Field(
        _with_button(choice, browse), choice, lambda: values[int(choice.getSelectedIndex())]
    )


def _output_field(parameter: Parameter) -> _Field:
    text = jclass("java.awt.TextField")("", _FIELD_COLUMNS)

    def browse(_: Any) -> None:
        title = f"Choose {parameter.name}"
        if parameter.is_folder:
            path = jclass("ij.io.DirectoryChooser")(title).getDirectory()
        else:
            chosen = jclass("ij.io.SaveDialog")(title, parameter.name, parameter.info.suffix)
            folder, name = chosen.getDirectory(), chosen.getFileName()
            path = None if name is None else f"{folder}{name}"
        if path is not None:
            text.setText(str(path))

    def read() -> str | None:
        typed = str(text.getText()).strip()
        # Absolute, so that the recorded macro writes to the same place from another folder.
        return str(Path(typed).expanduser().absolute()) if typed else None

    return _Field(_with_button(text, browse), text, read)


def _with_button(component: Any, browse: Callable[[Any], None]) -> Any:
    panel = jclass("java.awt.Panel")(jclass("java.awt.BorderLayout")(4, 0))
    button = jclass("java.awt.Button")("Browse…")
    button.addActionListener(
        jpype.JProxy("java.awt.event.ActionListener", dict={"actionPerformed": browse})
    )
    panel.add("Center", component)
    panel.add("East", button)
    return panel


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_ITEM else "…" + text[1 - _LONGEST_ITEM :]
