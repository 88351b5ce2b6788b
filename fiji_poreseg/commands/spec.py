"""What a command is: a typed function, and what every surface needs to know about it.

A command is written once, as a function whose parameters are `Annotated` with a `Param`.
The Python function, the command line, the macro command and the documentation are read off
the resulting `Command`; each of them ends in `Command.bind`, so a value is coerced and checked
by one rule and refused in one wording.
"""

from __future__ import annotations

import difflib
import enum
import functools
import inspect
import math
import operator
import os
import re
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

from fiji_poreseg.errors import ParameterError

P = ParamSpec("P")
R = TypeVar("R")

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*\Z")
_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


class Role(enum.Enum):
    """What a parameter stands for, where the surfaces treat it differently."""

    VALUE = "a value"
    IMAGE = "a stack, a segmentation or a probability"
    LABELS = "labels: an image or ROIs"
    MODEL = "a model"
    OUTPUT = "a file or folder to write"


@dataclass(frozen=True, slots=True)
class Param:
    """What is said about a parameter beside its type and its default.

    Parameters
    ----------
    help
        One sentence, without a full stop.
    unit
        Unit of the value, such as ``"nm"``.
    ge, le
        Smallest and largest value allowed.
    choices
        The values allowed, where they can be listed.
    role
        What the parameter stands for.
    metavar
        What stands for the value in the command line's help.
    suffix
        Ending of the file to write, such as ``".tif"``.
    required_on_command_line
        Whether the command line insists on it although Python and macros do not: an output
        file, since only there nothing else would be left of the result.
    """

    help: str
    unit: str = ""
    ge: float | None = None
    le: float | None = None
    choices: tuple[str, ...] = ()
    role: Role = Role.VALUE
    metavar: str = ""
    suffix: str = ""
    required_on_command_line: bool = False


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of one command: its name, type and default, and its `Param`."""

    name: str
    type: Any
    default: Any
    positional: bool
    info: Param

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is inspect.Parameter.empty

    @property
    def option(self) -> str:
        """The name on the command line, ``--like-this``."""
        return "--" + self.name.replace("_", "-")

    @property
    def is_flag(self) -> bool:
        """Whether it is a yes-or-no parameter."""
        return self.type is bool

    @property
    def is_choice(self) -> bool:
        """Whether it is one of a few words."""
        return bool(self.info.choices) and not _is_tuple(self.type)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder to write to, where other outputs are files."""
        return self.info.role is Role.OUTPUT and "DIR" in self.info.metavar

    def coerce(self, value: object) -> Any:
        """Turn what a surface hands over into a value of the parameter's type.

        Raises
        ------
        ParameterError
            If the value cannot be read as that type or lies outside what is allowed.
        """
        if self.info.role in (Role.IMAGE, Role.LABELS, Role.MODEL):
            return value
        if value == "" and self.default in (None, ()):
            return self.default
        if value is None:
            if self.default is None:
                return None
            raise self._error(value)
        coerced = _coerce(self.type, value, self)
        self._check(coerced)
        return coerced

    def _check(self, value: object) -> None:
        values = value if isinstance(value, tuple) else (value,)
        if self.info.choices and any(item not in self.info.choices for item in values):
            raise self._error(value)
        for number in values:
            if isinstance(number, int | float) and not isinstance(number, bool):
                low = self.info.ge is not None and number < self.info.ge
                high = self.info.le is not None and number > self.info.le
                if low or high or not math.isfinite(number):
                    raise self._error(value)

    def _error(self, value: object) -> ParameterError:
        return ParameterError(self.name, f"must be {self.rule}", value, self._hint)

    @property
    def rule(self) -> str:
        """What a value must be, in words: the type, the range and the unit."""
        if self.info.choices:
            *most, last = self.info.choices
            listed = f"{', '.join(most)} or {last}" if most else last
            return f"one or more of {listed}" if _is_tuple(self.type) else listed
        kind = _KINDS.get(_strip_optional(self.type), "a value")
        low, high = self.info.ge, self.info.le
        if low is not None and high is not None:
            kind += f" from {show(low)} to {show(high)}"
        elif low is not None:
            kind += f" of at least {show(low)}"
        elif high is not None:
            kind += f" of at most {show(high)}"
        return f"{kind} ({self.info.unit})" if self.info.unit else kind

    @property
    def _hint(self) -> str:
        if self.required or self.default in (None, ()):
            return f"It is: {self.info.help}."
        return f"Leave it out for {show(self.default)}. It is: {self.info.help}."


def show(value: object) -> str:
    """Write a value as a command line or a macro takes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return ",".join(show(item) for item in value)
    if isinstance(value, float):
        short = format(value, "g")
        return short if float(short) == value else repr(value)
    return str(value)


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in a slice that a user is to look at.

    Parameters
    ----------
    index
        0-based slice.
    x, y, width, height
        Its upper left corner and its sides, in pixels.
    name
        What is said about it.
    """

    index: int
    x: int
    y: int
    width: int
    height: int
    name: str


@dataclass(frozen=True, slots=True)
class Presentation:
    """What a surface shows of a result.

    Parameters
    ----------
    images
        Images to show in ImageJ, by the suffix of their title; the last becomes the current
        one.
    rows
        A table, one mapping a row: ImageJ's Results, the command line's table.
    lines
        Plain lines for the command line and ImageJ's log.
    numbers
        What a shell script wants to read, printed alone on standard output.
    boxes
        What to add to the overlay of the image that the command was given, if it is open.
    """

    images: Mapping[str, object] = field(default_factory=dict)
    rows: Sequence[Mapping[str, object]] = ()
    lines: Sequence[str] = ()
    numbers: str = ""
    boxes: Sequence[Box] = ()


class Command(Generic[P, R]):
    """A function that every surface can call.

    Calling it in Python binds, coerces and checks its arguments like the other surfaces do.
    """

    def __init__(
        self, title: str, function: Callable[P, R], present: Callable[[R], Presentation]
    ) -> None:
        self.title = title
        self.present = present
        self._function = function
        self.signature = inspect.signature(function)
        self.parameters = _parameters(function, self.signature)
        _check_names(self.name, self.parameters)
        functools.update_wrapper(self, function)

    @property
    def name(self) -> str:
        """The Python name, lower snake_case."""
        return self._function.__name__

    @property
    def summary(self) -> str:
        """The first line of the docstring."""
        return inspect.getdoc(self._function).splitlines()[0]  # type: ignore[union-attr]

    def bind(self, raw: Mapping[str, object]) -> dict[str, Any]:
        """Coerce and check arguments given by name.

        Parameters
        ----------
        raw
            Values by parameter name: text from a command line or macro, or Python objects.

        Returns
        -------
        dict
            Keyword arguments for `run`, the defaults filled in.

        Raises
        ------
        ParameterError
            If a name is unknown, a value is missing, cannot be read or is out of range.
        """
        for name in raw:
            if name not in self.parameters:
                raise self._unknown(name)
        bound = {}
        for name, parameter in self.parameters.items():
            if name in raw and not (parameter.required and raw[name] is None):
                bound[name] = parameter.coerce(raw[name])
            elif parameter.required:
                raise ParameterError(
                    name,
                    f"is needed by {self.title}",
                    "left out",
                    f"Give {name}=…: {parameter.info.help}.",
                )
            else:
                bound[name] = parameter.default
        return bound

    def run(self, raw: Mapping[str, object]) -> R:
        """Bind arguments given by name and run the function."""
        bound = self.bind(raw)
        positional = [bound.pop(name) for name, p in self.parameters.items() if p.positional]
        return self._function(*positional, **bound)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function; its own docstring says what it does."""
        named = dict(zip(self.parameters, args, strict=False))
        if len(args) > sum(p.positional for p in self.parameters.values()):
            raise TypeError(f"{self.name}{self.signature} got {len(args)} positional arguments")
        twice = named.keys() & kwargs.keys()
        if twice:
            raise TypeError(f"{self.name} got several values for {', '.join(sorted(twice))}")
        return self.run({**named, **kwargs})

    def _unknown(self, name: str) -> ParameterError:
        near = difflib.get_close_matches(name, self.parameters, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        return ParameterError(
            name,
            f"is not a parameter of {self.title}",
            name,
            f"{hint}It takes: {', '.join(self.parameters)}.",
        )


class Catalog(dict[str, Command[..., Any]]):
    """The commands by Python name, in the order in which they were defined."""

    def command(
        self, title: str, present: Callable[[R], Presentation]
    ) -> Callable[[Callable[P, R]], Command[P, R]]:
        """Turn the decorated function into a `Command` titled `title` and list it here."""

        def decorate(function: Callable[P, R]) -> Command[P, R]:
            made = Command(title, function, present)
            self[made.name] = made
            return made

        return decorate


def _parameters(
    function: Callable[..., object], signature: inspect.Signature
) -> dict[str, Parameter]:
    hints = typing.get_type_hints(function, include_extras=True)
    found = {}
    for name, parameter in signature.parameters.items():
        annotated = hints[name]
        infos = [m for m in getattr(annotated, "__metadata__", ()) if isinstance(m, Param)]
        if not infos:
            raise TypeError(f"{function.__name__}: parameter {name} has no Param")
        found[name] = Parameter(
            name,
            typing.get_args(annotated)[0],
            parameter.default,
            parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD,
            infos[0],
        )
    return found


def _check_names(command: str, names: Iterable[str]) -> None:
    """Refuse names that ImageJ's own option reader would mix up."""
    for name in names:
        if not _NAME.match(name):
            raise TypeError(f"{command}: parameter {name} is not lower snake_case")
        for other in names:
            if other != name and other.endswith(name):
                raise TypeError(f"{command}: parameter {name} is a suffix of {other}")


def _strip_optional(kind: Any) -> Any:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        (kind,) = (arg for arg in typing.get_args(kind) if arg is not types.NoneType)
    return kind


def _is_tuple(kind: Any) -> bool:
    return typing.get_origin(_strip_optional(kind)) is tuple


_KINDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    Path: "a path",
    tuple[int, ...]: "whole numbers with commas between them, each",
    tuple[str, ...]: "words with commas between them",
    tuple[float, float, float]: "three numbers with commas between them (z,y,x)",
}


def _coerce(kind: Any, value: object, parameter: Parameter) -> Any:
    kind = _strip_optional(kind)
    try:
        if typing.get_origin(kind) is tuple:
            return _coerce_tuple(typing.get_args(kind), value)
        return _SCALARS[kind](value)
    except (TypeError, ValueError, OverflowError):
        raise parameter._error(value) from None


def _coerce_tuple(kinds: tuple[Any, ...], value: object) -> tuple[Any, ...]:
    if isinstance(value, str):
        items: list[object] = [part.strip() for part in value.split(",")]
    elif isinstance(value, Iterable):
        items = list(value)
    else:
        items = [value]
    if kinds[-1] is not Ellipsis and len(items) != len(kinds):
        raise ValueError("wrong number of items")
    if not items:
        raise ValueError("no items")
    return tuple(_SCALARS[kinds[0]](item) for item in items)


def _int(value: object) -> int:
    if isinstance(value, bool):
        raise TypeError("a flag is no number")
    return int(value) if isinstance(value, str) else operator.index(value)  # type: ignore[arg-type]


def _float(value: object) -> float:
    if isinstance(value, bool):
        raise TypeError("a flag is no number")
    return float(value)  # type: ignore[arg-type]


def _bool(value: object) -> bool:
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ValueError("neither true nor false")
    return text in _TRUE


def _str(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _path(value: object) -> Path:
    if not isinstance(value, str | os.PathLike) or str(value) == "":
        raise TypeError("not a path")
    return Path(value).expanduser()


_SCALARS: dict[Any, Callable[[object], Any]] = {
    int: _int,
    float: _float,
    bool: _bool,
    str: _str,
    Path: _path,
}
