"""The commands inside a running ImageJ: called in the macro's own thread, and answered for."""

from __future__ import annotations

import difflib
from typing import Any

import jpype

from fiji_poreseg.bridge.classes import PLUGIN, java_classes
from fiji_poreseg.bridge.embedded import flush_python
from fiji_poreseg.bridge.inputs import resolve
from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.bridge.progress import ImageJReporter
from fiji_poreseg.bridge.results import show
from fiji_poreseg.commands.macro import parse_options
from fiji_poreseg.commands.spec import Catalog, Command
from fiji_poreseg.errors import MacroError
from fiji_poreseg.progress import reporting

_CANCELED = "Macro canceled"


class Session:
    """The commands of one running ImageJ, and what a macro's commands leave to later ones."""

    def __init__(self) -> None:
        self._commands: dict[str, Command[..., Any]] = {}
        self._model: object = None
        self._failure: BaseException | None = None
        self._running: Any = None
        plugin, self._interpreter = java_classes()
        self._python = jpype.JProxy("java.util.function.Consumer", dict={"accept": self._accept})
        plugin.python = self._python

    def register(self, catalog: Catalog) -> None:
        """Put commands into ImageJ's table; one of the same name is replaced."""
        table = jclass("ij.Menus").getCommands()
        for command in catalog.values():
            self._commands[command.name] = command
            table.put(command.title, f'{PLUGIN}("{command.name}")')

    def run_macro(self, text: str, argument: str = "") -> str | None:
        """Run a macro in this thread and answer with its return value.

        Raises
        ------
        MacroError
            For a fault of the macro itself.
        BaseException
            Whatever a command raised, with its traceback.
        """
        interpreter = self._interpreter()
        outer, self._running, self._failure = self._running, interpreter, None
        jclass("ij.IJ").getErrorMessage()  # forgets an older one
        flush_python()
        thread = jclass("java.lang.Thread").currentThread()
        name = thread.getName()
        # By this name ImageJ knows a macro's thread, in which Macro.abort() works.
        thread.setName("Macro$")
        crash: Any = None
        value: Any = None
        try:
            value = interpreter.run(text, argument)
        except jpype.JException as error:
            crash = error
        finally:
            interpreter.leave()
            self._running = outer
            thread.setName(name)
            jclass("ij.macro.PoreSegFunctions").receiver.set(None, None)
        self._raise_fault(interpreter, crash)
        return None if value is None else str(value)

    def _raise_fault(self, interpreter: Any, crash: Any) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        if interpreter.wasError():
            message = str(interpreter.getErrorMessage())
            raise MacroError(message + self._suggestion(message), int(interpreter.line) or None)
        if crash is None:
            return
        if crash.getMessage() != _CANCELED:
            raise MacroError(_describe(crash), _line_of(interpreter)) from crash
        message = jclass("ij.IJ").getErrorMessage()
        if message is not None:
            raise MacroError(str(message), _line_of(interpreter))

    def _suggestion(self, message: str) -> str:
        if not message.startswith("Unrecognized command: "):
            return ""
        wanted = message.split('"')[1] if '"' in message else message
        titles = [str(title) for title in jclass("ij.Menus").getCommands().keySet()]
        near = difflib.get_close_matches(wanted, titles, n=1)
        return f'. Did you mean "{near[0]}"?' if near else ""

    def _accept(self, name: Any) -> None:
        """Run a command; ImageJ calls this from the generated plugin."""
        command = self._commands[str(name)]
        try:
            self._run(command)
        except jpype.JException as error:
            if error.getMessage() == _CANCELED:
                raise
            self._stop(command, error)
        except BaseException as error:  # kept, and raised again where the macro was started
            self._stop(command, error)
        finally:
            flush_python()

    def _stop(self, command: Command[..., Any], error: BaseException) -> None:
        """Keep what went wrong and stop the macro at this line."""
        self._failure = error
        interpreter = jclass("ij.macro.Interpreter").getInstance()
        line = None if interpreter is None else _line_of(interpreter)
        error.add_note(f"Line {line} of the macro: {command.title}")
        message = f"{command.title}: {error or type(error).__name__}"
        if interpreter is None:
            jclass("ij.IJ").error(command.title, message)
            return
        if self._running is not None and not self._running.equals(interpreter):
            # The command stands in a macro that another one called, which would go on.
            self._running.leave()
        interpreter.abort(message)

    def _run(self, command: Command[..., Any]) -> None:
        options = jclass("ij.Macro").getOptions()
        given = parse_options("" if options is None else str(options))
        raw, title = resolve(command, given, self._model)
        with reporting(ImageJReporter()):
            result = command.run(raw)
        if hasattr(result, "save") and hasattr(result, "predict"):
            self._model = result
        show(command.present(result), title)


def _describe(error: Any) -> str:
    """Put a Java exception into words."""
    kind = str(error.getClass().getSimpleName())
    if "headless" in f"{kind} {error.getMessage()}".lower():
        return "a dialog or window was asked for, and there is no display"
    return f"{kind}: {error.getMessage()}" if error.getMessage() is not None else kind


def _line_of(interpreter: Any) -> int | None:
    try:
        return int(interpreter.getLineNumber())
    except jpype.JException:  # it did not get as far as the first line
        return None
