"""The commands inside a running ImageJ: called in the macro's own thread, and answered for."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import jpype

from fiji_poreseg import files
from fiji_poreseg.bridge import recorder
from fiji_poreseg.bridge.classes import PLUGIN, java_classes
from fiji_poreseg.bridge.dialogs import CommandDialog, log_bug, show_message, wrapped
from fiji_poreseg.bridge.embedded import flush_python
from fiji_poreseg.bridge.inputs import resolve
from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.bridge.labelling import TITLE as LABEL
from fiji_poreseg.bridge.labelling import label_current_image
from fiji_poreseg.bridge.progress import ImageJReporter
from fiji_poreseg.bridge.results import show
from fiji_poreseg.bridge.window import add_to_menu
from fiji_poreseg.commands.macro import parse_options
from fiji_poreseg.commands.spec import Catalog, Command
from fiji_poreseg.errors import (
    Canceled,
    EngineError,
    MacroError,
    ParameterError,
    in_words,
)
from fiji_poreseg.progress import reporting

_CANCELED = "Macro canceled"
# What is done in the window only, beside the commands.
_TOOLS: Mapping[str, Callable[[], None]] = {LABEL: label_current_image}
# What the user can put right and try again.
_FAULTS = (ParameterError, EngineError, OSError, MemoryError)


class Session:
    """The commands of one running ImageJ, and what a macro's commands leave to later ones."""

    def __init__(self) -> None:
        self._commands: dict[str, Command[..., Any]] = {}
        self._model: object = None
        self._failure: BaseException | None = None
        self._running: Any = None
        self._busy = threading.Lock()
        self._at_a_time = threading.RLock()
        self._busy_with = ""
        plugin, self._interpreter = java_classes()
        self._python = jpype.JProxy("java.util.function.Consumer", dict={"accept": self._accept})
        plugin.python = self._python
        self._is_cut_off = jpype.JProxy(
            "java.util.function.Predicate", dict={"test": lambda path: files.is_cut_off(str(path))}
        )
        jclass("ij.macro.PoreSegFunctions").isCutOff = self._is_cut_off

    def register(self, catalog: Catalog) -> None:
        """Put commands into ImageJ's table and menu; one of the same name is replaced."""
        table = jclass("ij.Menus").getCommands()
        for command in catalog.values():
            self._commands[command.name] = command
            table.put(command.title, f'{PLUGIN}("{command.name}")')
        for title in _TOOLS:
            table.put(title, f'{PLUGIN}("{title}")')
        if jclass("ij.IJ").getInstance() is not None:
            add_to_menu([*(command.title for command in catalog.values()), *_TOOLS])

    def cancel(self, longest_s: float) -> None:
        """Cancel the command that runs, as Esc does, and wait until it has cleared up."""
        if self._busy.locked():
            jclass("ij.IJ").setKeyDown(jclass("java.awt.event.KeyEvent").VK_ESCAPE)
        if self._busy.acquire(timeout=longest_s):
            self._busy.release()

    def run_macro(self, text: str, argument: str = "") -> str | None:
        """Run a macro in this thread and answer with its return value.

        One at a time: that of another thread is waited for.

        Raises
        ------
        MacroError
            For a fault of the macro itself.
        BaseException
            Whatever a command raised, with its traceback.
        """
        with self._at_a_time:
            return self._run_macro(text, argument)

    def _run_macro(self, text: str, argument: str) -> str | None:
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
        """Run a command; ImageJ calls this from the generated plugin, in the command's thread."""
        tool = _TOOLS.get(str(name))
        if tool is not None:
            self._use(str(name), tool)
            return
        command = self._commands[str(name)]
        try:
            if _from_menu(command.title):
                self._run_from_menu(command)
            else:
                self._run_from_macro(command)
        finally:
            flush_python()

    def _use(self, title: str, tool: Callable[[], None]) -> None:
        """Do what needs the window."""
        try:
            tool()
        except _FAULTS as error:
            if _from_menu(title):
                show_message(title, in_words(error))
            else:
                self._stop(title, error)

    def _run_from_menu(self, command: Command[..., Any]) -> None:
        """Ask for the parameters until the command has run, or the user gives up."""
        recorder.hold_back()
        dialog = CommandDialog(command, has_model=self._model is not None)
        while (given := dialog.ask()) is not None:
            try:
                line = recorder.line_for(command, given)
                # ImageJ records that the images which are shown were selected: after our line.
                self._run(command, given, before_showing=partial(recorder.record, line))
            except _FAULTS as error:
                show_message(command.title, in_words(error))
            except Canceled as error:
                jclass("ij.IJ").showStatus(f"{command.title} {error}")
                return
            except Exception as error:
                log_bug(error)
                show_message(command.title, in_words(error))
                return
            else:
                return

    def _run_from_macro(self, command: Command[..., Any]) -> None:
        options = jclass("ij.Macro").getOptions()
        try:
            self._run(command, parse_options("" if options is None else str(options)))
        except jpype.JException as error:
            if error.getMessage() == _CANCELED:
                raise
            self._stop(command.title, error)
        except BaseException as error:  # kept, and raised again where the macro was started
            self._stop(command.title, error)

    def _stop(self, title: str, error: BaseException) -> None:
        """Stop the macro at this line, and keep what went wrong if we started the macro."""
        if self._running is not None:
            self._failure = error
        else:
            log_bug(error)
        interpreter = jclass("ij.macro.Interpreter").getInstance()
        line = None if interpreter is None else _line_of(interpreter)
        error.add_note(f"Line {line} of the macro: {title}")
        message = f"{title}: {in_words(error)}"
        if jclass("ij.IJ").getInstance() is not None:
            message = wrapped(message)
        if interpreter is not None and self._running not in (None, interpreter):
            # The command stands in a macro that another one called, which would go on.
            self._running.leave()
        if isinstance(error, Canceled):
            if interpreter is not None:  # after Esc, ImageJ forgets its macro by itself
                interpreter.setIgnoreErrors(True)
                interpreter.abort(message)
            jclass("ij.IJ").log(message)
        elif interpreter is None:
            jclass("ij.IJ").error(title, message)
        else:
            interpreter.abort(message)

    def _run(
        self,
        command: Command[..., Any],
        given: Mapping[str, object],
        before_showing: Callable[[], None] = lambda: None,
    ) -> None:
        with self._alone(command):
            try:
                raw, title = resolve(command, given, self._model)
                with reporting(ImageJReporter()):
                    result = command.run(raw)
            finally:
                jclass("ij.IJ").showProgress(1.0)
            if hasattr(result, "save") and hasattr(result, "predict"):
                self._model = result
            before_showing()
            show(command.present(result), title)

    @contextmanager
    def _alone(self, command: Command[..., Any]) -> Iterator[None]:
        """Refuse to run a command while another one runs."""
        if not self._busy.acquire(blocking=False):
            raise EngineError(
                f"{self._busy_with} is running. Wait until it has finished, or press Esc in "
                "ImageJ's window to cancel it."
            )
        self._busy_with = command.title
        try:
            yield
        finally:
            self._busy.release()


def _from_menu(title: str) -> bool:
    """Whether a user started a command: for that, ImageJ makes a thread of the command's name."""
    thread = str(jclass("java.lang.Thread").currentThread().getName())
    return jclass("ij.IJ").getInstance() is not None and thread == title


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
