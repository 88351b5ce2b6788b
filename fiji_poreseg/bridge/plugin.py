"""The commands inside ImageJ: a generated plugin that calls Python in the macro's own thread.

ImageJ answers nearly every fault the same way, and goes on after some. Three small classes, made
with Javassist in ImageJ's own packages, change that without touching ImageJ's code: the plugin,
an interpreter whose errors are silent and carry their line, and its functions, for which every
error of ImageJ counts and `exit("message")` is a fault.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jpype
import numpy as np
import roifile
import xarray as xr

from fiji_poreseg.bridge.embedded import flush_python
from fiji_poreseg.bridge.images import to_imageplus, to_xarray
from fiji_poreseg.bridge.jvm import jclass
from fiji_poreseg.bridge.progress import ImageJReporter
from fiji_poreseg.commands.macro import parse_options
from fiji_poreseg.commands.spec import Catalog, Command, Parameter, Presentation, Role
from fiji_poreseg.errors import MacroError, ParameterError
from fiji_poreseg.progress import reporting

_PLUGIN = "ij.plugin.PoreSeg"
_CANCELED = "Macro canceled"


_INTERPRETER = (
    """public void run(ij.macro.Program program) {
        this.func = new ij.macro.PoreSegFunctions(this, program);
        super.run(program);
    }""",
    "void showError(String title, String text, String[] names) { this.line = this.lineNumber; }",
    # Interpreter.abortMacro() waits two seconds and may stop the thread itself.
    "public void leave() { this.done = true; setInstance(null); }",
    # A macro called by this one: its faults are this one's, its exit() is not.
    """String call(String macro, String argument) {
        ij.macro.PoreSegInterpreter called = new ij.macro.PoreSegInterpreter();
        String value = "[aborted]";
        try {
            value = called.run(macro, argument);
        } catch (RuntimeException e) {
            if (!ij.Macro.MACRO_CANCELED.equals(e.getMessage())) throw e;
        }
        setInstance(this);
        if (called.wasError())
            this.abort(called.getErrorMessage() + " (line " + called.line + " of a called macro)");
        return value;
    }""",
)
_FUNCTIONS = (
    # IJ.error() stops a macro only while IJ.run() has set this field; open(), saveAs() and the
    # like would print their error and go on.
    "void doFunction(int type) { receiver.set(null, this.interp); super.doFunction(type); }",
    """void exit() {
        String message = null;
        if (this.interp.nextToken() == '(') {
            this.interp.getLeftParen();
            if (this.interp.nextToken() != ')') message = this.interp.getString();
            this.interp.getRightParen();
        }
        if (message != null) this.interp.abort(message);
        this.interp.finishUp();
        throw new RuntimeException(ij.Macro.MACRO_CANCELED);
    }""",
    # runMacro() and eval(): macros in this kind of interpreter, scripts as ImageJ does.
    """String runMacro(boolean eval) {
        receiver.set(null, this.interp);
        this.interp.getLeftParen();
        String name = this.interp.getString();
        String argument = null;
        if (this.interp.nextToken() == ',') {
            this.interp.getComma();
            argument = this.interp.getString();
        }
        this.interp.getRightParen();
        ij.macro.PoreSegInterpreter caller = (ij.macro.PoreSegInterpreter) this.interp;
        if (eval && argument == null) return caller.call(name, null);
        if (!eval && (name.endsWith(".ijm") || name.endsWith(".txt"))) {
            java.io.File file = new java.io.File(name);
            if (!file.isAbsolute()) file = new java.io.File(ij.IJ.getDirectory("macros"), name);
            if (file.isFile()) return caller.call(ij.IJ.openAsString(file.getPath()), argument);
        }
        if (!eval) return ij.IJ.runMacroFile(name, argument);
        ij.plugin.Macro_Runner runner = new ij.plugin.Macro_Runner();
        if (name.equals("script") || name.equals("js")) return runner.runJavaScript(argument, "");
        if (name.equals("bsh")) return ij.plugin.Macro_Runner.runBeanShell(argument, "");
        if (name.equals("python")) return ij.plugin.Macro_Runner.runPython(argument, "");
        return caller.call(name, argument);
    }""",
)


@cache
def _java_classes() -> tuple[Any, Any]:
    """Make the plugin and the interpreter in the running JVM; answers with both."""
    pool = jclass("javassist.ClassPool")(True)
    loader = jclass("ij.IJ").class_.getClassLoader()
    pool.appendClassPath(jclass("javassist.LoaderClassPath")(loader))
    return _make_plugin(pool), _make_interpreter(pool)


def _make_plugin(pool: Any) -> Any:
    made = pool.makeClass(_PLUGIN)
    made.addInterface(pool.get("ij.plugin.PlugIn"))
    _add_field(made, "public static java.util.function.Consumer python;")
    _add_method(made, "public void run(String name) { python.accept(name); }")
    return jpype.JClass(made.toClass(jclass("ij.plugin.PlugIn").class_))


def _make_interpreter(pool: Any) -> Any:
    functions = pool.makeClass("ij.macro.PoreSegFunctions", pool.get("ij.macro.Functions"))
    interpreter = pool.makeClass("ij.macro.PoreSegInterpreter", pool.get("ij.macro.Interpreter"))
    _add_field(interpreter, "public int line;")
    _add_field(functions, "public static java.lang.reflect.Field receiver;")
    _add_constructor(interpreter, "public PoreSegInterpreter() { super(); }")
    _add_constructor(
        functions,
        "PoreSegFunctions(ij.macro.Interpreter i, ij.macro.Program p) { super(i, p); }",
    )
    # In this order: Javassist compiles each against what is there already.
    for source in _INTERPRETER:
        _add_method(interpreter, source)
    for source in _FUNCTIONS:
        _add_method(functions, source)
    neighbour = jclass("ij.macro.Interpreter").class_
    made_functions, made = (
        jpype.JClass(each.toClass(neighbour)) for each in (functions, interpreter)
    )
    receiver = jclass("ij.IJ").class_.getDeclaredField("macroInterpreter")
    receiver.setAccessible(True)
    made_functions.receiver = receiver
    return made


def _add_field(made: Any, source: str) -> None:
    made.addField(jclass("javassist.CtField").make(source, made))


def _add_method(made: Any, source: str) -> None:
    made.addMethod(jclass("javassist.CtNewMethod").make(source, made))


def _add_constructor(made: Any, source: str) -> None:
    made.addConstructor(jclass("javassist.CtNewConstructor").make(source, made))


class Session:
    """The commands of one running ImageJ, and what a macro's commands leave to later ones."""

    def __init__(self) -> None:
        self._commands: dict[str, Command[..., Any]] = {}
        self._model: object = None
        self._failure: BaseException | None = None
        self._running: Any = None
        plugin, self._interpreter = _java_classes()
        self._python = jpype.JProxy("java.util.function.Consumer", dict={"accept": self._accept})
        plugin.python = self._python

    def register(self, catalog: Catalog) -> None:
        """Put commands into ImageJ's table; one of the same name is replaced."""
        table = jclass("ij.Menus").getCommands()
        for command in catalog.values():
            self._commands[command.name] = command
            table.put(command.title, f'{_PLUGIN}("{command.name}")')

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
        raw, title = self._resolve(command, given)
        with reporting(ImageJReporter()):
            result = command.run(raw)
        if hasattr(result, "save") and hasattr(result, "predict"):
            self._model = result
        _show(command.present(result), title)

    def _resolve(
        self, command: Command[..., Any], given: Mapping[str, str]
    ) -> tuple[dict[str, object], str | None]:
        """Put images, overlays and models in the place of their names, or of nothing.

        Returns
        -------
        tuple
            Arguments for the command, and the title of the image that its first parameter
            stands for, if it stands for one.
        """
        raw: dict[str, object] = dict(given)
        image = title = None
        for position, parameter in enumerate(command.parameters.values()):
            name, role = parameter.name, parameter.info.role
            first = position == 0 and role is Role.IMAGE
            found = None
            if role in (Role.IMAGE, Role.LABELS) and name in given:
                found = _find_image(name, given[name])
            elif first:
                found = _current_image(name)
            elif role is Role.LABELS:
                self._add_overlay(raw, parameter, image)
            elif role is Role.MODEL and parameter.required and name not in given:
                raw[name] = self._last_model(name)
            if found is not None:
                raw[name] = to_xarray(found, parameter=name)
            if first:
                image = found
                title = Path(given[name]).name if found is None else str(found.getTitle())
        return raw, title

    @staticmethod
    def _add_overlay(raw: dict[str, object], parameter: Parameter, image: Any) -> None:
        overlay = None if image is None else image.getOverlay()
        if overlay is not None and overlay.size():
            raw[parameter.name] = [_to_roifile(roi) for roi in overlay.toArray()]
        elif parameter.required:
            raise ParameterError(
                parameter.name,
                "is needed, since the image has no overlay",
                "left out",
                f"Add selections to the overlay, or give {parameter.name}=[title or path].",
            )

    def _last_model(self, name: str) -> object:
        if self._model is None:
            raise ParameterError(
                name,
                "is needed, since no model was trained in this session",
                "left out",
                f"Train one first, or give {name}=[path].",
            )
        return self._model


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


def _open_images() -> list[Any]:
    manager = jclass("ij.WindowManager")
    return [manager.getImage(int(number)) for number in manager.getIDList() or ()]


def _current_image(parameter: str) -> Any:
    image = jclass("ij.WindowManager").getCurrentImage()
    if image is None:
        raise ParameterError(
            parameter,
            "is needed, since no image is open",
            "left out",
            f"Open one first, or give {parameter}=[title or path].",
        )
    return image


def _find_image(parameter: str, name: str) -> Any:
    """Find the open image of that title or id; None where it is the path of a file.

    Raises
    ------
    ParameterError
        If it is neither, or several images carry the title.
    """
    images = _open_images()
    found = [image for image in images if str(image.getTitle()) == name]
    found = found or [image for image in images if str(image.getID()) == name]
    if len(found) > 1:
        ids = ", ".join(str(image.getID()) for image in found)
        raise ParameterError(
            parameter,
            f"must name one image, and {len(found)} open images have that title",
            name,
            f"Rename one, or give the id: {ids}.",
        )
    if found:
        return found[0]
    if Path(name).expanduser().exists():
        return None
    titles = "; ".join(str(image.getTitle()) for image in images)
    raise ParameterError(
        parameter,
        "must be the title of an open image or the path of a file",
        name,
        f"Open images: {titles}." if titles else "No image is open.",
    )


def _to_roifile(roi: Any) -> roifile.ImagejRoi:
    """Copy an overlay's selection with its name, group and position."""
    encoded = jclass("ij.io.RoiEncoder").saveAsByteArray(roi)
    return roifile.ImagejRoi.frombytes(bytes(np.asarray(encoded).astype(np.uint8)))


def _show(presentation: Presentation, source: str | None) -> None:
    """Show a result: lines in the log, rows in Results, images with the last one current."""
    for line in presentation.lines:
        jclass("ij.IJ").log(line)
    if presentation.rows:
        _fill_results(presentation.rows)
    for suffix, image in presentation.images.items():
        _show_image(image, suffix, source)


def _show_image(image: object, suffix: str, source: str | None) -> None:
    if not isinstance(image, xr.DataArray):
        raise TypeError(f"{suffix} is no DataArray: {type(image).__name__}")
    title = suffix if source is None else f"{_bare(source)}-{suffix}"
    for older in _open_images():
        # The newest result has the plain title, so that a macro can count on it.
        if str(older.getTitle()) == title:
            older.setTitle(jclass("ij.WindowManager").getUniqueName(title))
    to_imageplus(image.rename(title)).show()


def _bare(title: str) -> str:
    """Take the extension of a file off a title."""
    stem, dot, extension = title.rpartition(".")
    return stem if dot and stem and extension.isalnum() and len(extension) <= 5 else title


def _fill_results(rows: Sequence[Mapping[str, object]]) -> None:
    """Replace ImageJ's Results table."""
    table = jclass("ij.measure.ResultsTable").getResultsTable()
    table.reset()
    for row in rows:
        table.incrementCounter()
        for column, value in row.items():
            _set_cell(table, str(column), value)
    table.show("Results")


def _set_cell(table: Any, column: str, value: object) -> None:
    if isinstance(value, str):
        table.addValue(column, value)
    else:
        number = float("nan") if value is None else float(value)  # type: ignore[arg-type]
        table.addValue(column, jpype.JDouble(number))
