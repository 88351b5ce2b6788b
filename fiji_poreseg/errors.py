"""The errors a user meets: each is one line that says what is wrong and what to do next."""

from __future__ import annotations

import errno
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_LONGEST_VALUE = 120
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class ParameterError(ValueError):
    """A parameter breaks a rule.

    Parameters
    ----------
    parameter
        Name of the parameter, as on every surface (lower snake_case).
    rule
        What must hold, as the end of a sentence that begins with the parameter's name.
    value
        What was given; shortened where it is long.
    hint
        The next step, a full sentence.
    """

    def __init__(self, parameter: str, rule: str, value: object, hint: str) -> None:
        self.parameter = parameter
        self.rule = rule
        self.value = value
        self.hint = hint
        shown = value if isinstance(value, str) else " ".join(repr(value).split())
        # A line end, a tab or what else cannot be shown would tear the message apart.
        shown = "".join(each if each.isprintable() else "\ufffd" for each in shown)
        if len(shown) > _LONGEST_VALUE:
            shown = shown[: _LONGEST_VALUE - 1] + "…"
        super().__init__(f"`{parameter}` {rule}, but is: {shown or '(empty)'}. {hint}")

    def __reduce__(self) -> tuple[Any, ...]:
        """From its parts, where another process raised it."""
        return type(self), (self.parameter, self.rule, self.value, self.hint)


class MacroError(RuntimeError):
    """A fault of the macro itself.

    Parameters
    ----------
    message
        What ImageJ says.
    line
        Number of the line, from 1; None where it is not known.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        self.message = " ".join(message.split())
        self.line = line
        where = f"Line {line} of the macro: " if line else "The macro stopped: "
        super().__init__(where + self.message)


class EngineError(RuntimeError):
    """ImageJ cannot be started or used; one line says why and what to do."""


class Canceled(Exception):  # noqa: N818 - nothing is wrong
    """The user stopped a command; what it was about to make is not made."""

    def __init__(self) -> None:
        super().__init__("canceled")


class PoreSegWarning(UserWarning):
    """Something was assumed that the user may want to know about."""


def in_short(error: BaseException) -> str:
    """Name the kind of an error and what it says, in one line of bounded length."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def is_foreseen(error: BaseException) -> bool:
    """Whether an error's message is for the user; of any other the traceback matters."""
    foreseen = (ParameterError, MacroError, EngineError, Canceled, OSError, MemoryError)
    return isinstance(error, foreseen)


def in_words(error: BaseException) -> str:
    """What a user is told of an error: its message, or what its kind means where that is bare."""
    if isinstance(error, MemoryError):
        return (
            "out of memory. Close other programs, take fewer slices with indices=…, or train a "
            "smaller network."
        )
    if isinstance(error, OSError):
        if error.errno in _NO_SPACE:
            step = "free space or choose another place"
        else:
            step = "see whether the file can be read and its folder written"
        return f"{error}. Nothing that was there is damaged; {step}."
    if is_foreseen(error):
        return str(error)
    return traceback.format_exception_only(error)[0].strip()


@contextmanager
def warnings_told(tell: Callable[[str], object]) -> Iterator[None]:
    """Hand our own warnings to `tell`, in one line each; others are shown as ever."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Any, category: type[Warning], *rest: Any) -> None:
            if issubclass(category, PoreSegWarning):
                tell(f"Note: {message}")
            else:
                shown(message, category, *rest)

        warnings.showwarning = show  # type: ignore[assignment]
        warnings.simplefilter("always", PoreSegWarning)
        yield
