"""A few small Java classes, made with Javassist in ImageJ's own packages.

ImageJ answers nearly every fault the same way, and goes on after some. These classes change that
without touching ImageJ's code: the plugin, which calls Python, an interpreter whose errors are
silent and carry their line, and its functions, for which every error of ImageJ counts and
`exit("message")` is a fault. A fourth is a virtual stack whose slices come from Python. And what
stands in for ImageJ's dialogs where there is no display is completed.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import jpype

from fiji_poreseg.bridge.jvm import jclass

PLUGIN = "ij.plugin.PoreSeg"
_INTERPRETER = (
    """public void run(ij.macro.Program program) {
        this.func = new ij.macro.PoreSegFunctions(this, program);
        super.run(program);
    }""",
    "void showError(String title, String text, String[] names) { this.line = this.lineNumber; }",
    # Without a display all images are those of the batch mode, which an error ends: the images of
    # earlier macros would be gone.
    """void error(String message) {
        java.util.Vector images = imageTable;
        java.util.Vector activations = imageActivations;
        boolean batch = batchMode;
        try {
            super.error(message);
        } finally {
            if (java.awt.GraphicsEnvironment.isHeadless()) {
                imageTable = images;
                imageActivations = activations;
                batchMode = batch;
            }
        }
    }""",
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
    # An exception in a command is printed, and the macro would go on without what it was to do.
    """void doRun() {
        java.io.PrintStream out = System.out;
        ij.macro.PoreSegEar ear = new ij.macro.PoreSegEar(out);
        System.setOut(ear);
        try {
            super.doRun();
        } finally {
            System.setOut(out);
        }
        if (ear.heard != null)
            this.interp.abort("The command ended with " + ear.heard
                + ". Try this line in ImageJ's window");
    }""",
    # Of a damaged image ImageJ says nothing: the macro would go on with the one before, or with
    # those of its slices that are there.
    """void open() {
        int before = ij.WindowManager.getImageCount();
        super.open();
        String name = ij.io.OpenDialog.getLastName();
        if (name == null) return;
        if (name.matches("(?i).*\\\\.(tiff?|png|jpe?g|gif|bmp|pgm)")
                && ij.WindowManager.getImageCount() == before)
            this.interp.abort("No image could be read from " + name + ", which is damaged");
        if (name.matches("(?i).*\\\\.tiff?")
                && isCutOff.test(ij.io.OpenDialog.getLastDirectory() + name))
            this.interp.abort("The end of " + name + " is missing. Copy it again");
    }""",
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
# In ij1-patcher 2.0.0 these do nothing: a command that asks for a folder, such as
# "Image Sequence...", then fails for want of an answer.
_DIALOG = {
    "addDirectoryField": "addStringField($1, $2);",
    "addFileField": "addStringField($1, $2);",
    "addImageChoice": """{
        String[] titles = ij.WindowManager.getImageTitles();
        addChoice($1, titles, $2 == null && titles.length > 0 ? titles[0] : $2);
    }""",
    "getNextImage": "return ij.WindowManager.getImage(getNextChoice());",
}
# Listens for the exceptions that ij.Executer catches.
_EAR = (
    "public PoreSegEar(java.io.PrintStream out) { super(out, true); }",
    """public void println(String text) {
        super.println(text);
        if (this.heard == null && text != null && text.indexOf("\\tat ij.Executer.run") > 0)
            this.heard = text.substring(0, text.indexOf("\\tat ")).trim();
    }""",
)
_VIRTUAL_STACK = (
    """public PoreSegVirtualStack(int width, int height, int slices, String options) {
        super(width, height, slices, options);
        this.texts = new String[slices];
        this.kept = new int[slices];
        for (int i = 0; i < slices; i++) this.kept[i] = i + 1;
    }""",
    # Which of the first slices it is. ImageJ translates numbers to reorder a virtual hyperstack.
    """private int original(int n) {
        if (n < 1 || n > this.getSize())
            throw new IllegalArgumentException("Argument out of range: " + n);
        return this.kept[this.translate(n) - 1];
    }""",
    """public int getSize() { return this.kept == null ? 0 : this.kept.length; }""",
    """public int size() { return this.getSize(); }""",
    """public ij.process.ImageProcessor getProcessor(int n) {
        Object made = this.python.apply(this.original(n));
        ij.process.ImageProcessor slice = (ij.process.ImageProcessor) made;
        if (this.getColorModel() != null) slice.setColorModel(this.getColorModel());
        if (this.cTable != null) slice.setCalibrationTable(this.cTable);
        slice.setSliceNumber(n);
        return slice;
    }""",
    # ImageJ's own forgets the names of files, of which there are none here.
    """public void deleteSlice(int n) {
        this.original(n);
        int[] left = new int[this.getSize() - 1];
        for (int i = 1; i <= this.getSize(); i++)
            if (i != n) left[i < n ? i - 1 : i - 2] = this.original(i);
        this.kept = left;
        this.setIndexes(null);
    }""",
    """public void deleteLastSlice() {
        if (this.getSize() > 0) this.deleteSlice(this.getSize());
    }""",
    # ImageJ 1.54p drops the labels of a virtual stack that has no files.
    """public void setSliceLabel(String label, int n) {
        this.texts[this.original(n) - 1] = label;
    }""",
    """public String getSliceLabel(int n) { return this.texts[this.original(n) - 1]; }""",
)


def complete_headless_dialog() -> None:
    """Let dialogs without a display have fields for folders, files and images.

    To be called in a JVM that has started, before ImageJ is patched.
    """
    injector = jclass("net.imagej.patcher.LegacyInjector").class_
    dialog = _class_pool(injector).get("net.imagej.patcher.HeadlessGenericDialog")
    for method in dialog.getDeclaredMethods():
        body = _DIALOG.get(str(method.getName()))
        if body is not None:
            method.setBody(body)
    dialog.toClass(injector)


@cache
def java_classes() -> tuple[Any, Any]:
    """Make the plugin and the interpreter in the running JVM; answers with both."""
    pool = _class_pool(jclass("ij.IJ").class_)
    return _make_plugin(pool), _make_interpreter(pool)


@cache
def virtual_stack_class() -> Any:
    """Make the virtual stack in the running JVM."""
    pool = _class_pool(jclass("ij.IJ").class_)
    made = pool.makeClass("ij.PoreSegVirtualStack", pool.get("ij.VirtualStack"))
    _add_field(made, "public java.util.function.IntFunction python;")
    _add_field(made, "private String[] texts;")
    _add_field(made, "private int[] kept;")
    for source in _VIRTUAL_STACK:
        (_add_constructor if "super" in source else _add_method)(made, source)
    return jpype.JClass(made.toClass(jclass("ij.VirtualStack").class_))


def _class_pool(known: Any) -> Any:
    pool = jclass("javassist.ClassPool")(True)
    pool.appendClassPath(jclass("javassist.LoaderClassPath")(known.getClassLoader()))
    return pool


def _make_plugin(pool: Any) -> Any:
    made = pool.makeClass(PLUGIN)
    made.addInterface(pool.get("ij.plugin.PlugIn"))
    _add_field(made, "public static java.util.function.Consumer python;")
    _add_method(made, "public void run(String name) { python.accept(name); }")
    return jpype.JClass(made.toClass(jclass("ij.plugin.PlugIn").class_))


def _make_interpreter(pool: Any) -> Any:
    functions = pool.makeClass("ij.macro.PoreSegFunctions", pool.get("ij.macro.Functions"))
    interpreter = pool.makeClass("ij.macro.PoreSegInterpreter", pool.get("ij.macro.Interpreter"))
    ear = pool.makeClass("ij.macro.PoreSegEar", pool.get("java.io.PrintStream"))
    _add_field(ear, "public String heard;")
    _add_constructor(ear, _EAR[0])
    _add_method(ear, _EAR[1])
    _add_field(interpreter, "public int line;")
    _add_field(functions, "public static java.lang.reflect.Field receiver;")
    _add_field(functions, "public static java.util.function.Predicate isCutOff;")
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
    _, made_functions, made = (
        jpype.JClass(each.toClass(neighbour)) for each in (ear, functions, interpreter)
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
