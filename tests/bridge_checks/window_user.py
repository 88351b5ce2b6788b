"""Somebody who uses ImageJ's window: a thread that opens menus, types, and presses buttons.

    python window_user.py SCENARIO FOLDER

Runs `fiji-poreseg gui` with that user, who writes what was seen to ``FOLDER/seen.json``.
"""

import contextlib
import faulthandler
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import jpype
import numpy as np

import fiji_poreseg as fp
from fiji_poreseg import bridge, cli
from fiji_poreseg.bridge.window import wait_until_quit
from fiji_poreseg.commands.catalog import CATALOG
from fiji_poreseg.commands.spec import Catalog, Presentation
from fiji_poreseg.labelling import Workbench

# A first step of training takes a minute where other programs want the processors, too.
PATIENCE_S = 180
REACTION_S = 0.5
SETTLED_S = 1
RUN = []

FAULTY = Catalog()


@FAULTY.command("PoreSeg Bug", lambda _: Presentation())
def bug():
    """Fail as nobody foresaw."""
    raise KeyError("forgotten")


def java(name):
    return jpype.JClass(name)


def wait_for(what, look):
    """Look until there is something, and answer with it."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(jpype.JException):  # a window that opens or closes just now
            found = look()
            if found:
                return found
        time.sleep(0.02)
    raise AssertionError(
        f"waited in vain for {what}; status: {status()}; open: {titles()}; threads:\n{threads()}"
    )


def threads():
    """Where each thread of Java's is."""
    traces = java("java.lang.Thread").getAllStackTraces().entrySet()
    return "\n".join(
        f"{trace.getKey().getName()} ({trace.getKey().getState()})\n"
        + "".join(f"    {frame}\n" for frame in trace.getValue())
        for trace in traces
    )


def post(event):
    java("java.awt.Toolkit").getDefaultToolkit().getSystemEventQueue().postEvent(event)


def click(thing):
    action = java("java.awt.event.ActionEvent")
    post(action(thing, action.ACTION_PERFORMED, thing.getActionCommand()))


def menu_entries():
    plugins = java("ij.Menus").getImageJMenu("Plugins")
    menus = [plugins.getItem(i) for i in range(plugins.getItemCount())]
    menu = next((menu for menu in menus if menu.getLabel() == "PoreSeg"), None)
    return [] if menu is None else [menu.getItem(i) for i in range(menu.getItemCount())]


def click_command(title):
    """Choose a command from Plugins > PoreSeg."""
    (entry,) = (entry for entry in menu_entries() if entry.getLabel() == title)
    click(entry)


def choose(title):
    """Choose a command, and answer with its dialog."""
    click_command(title)
    return dialog(title)


def dialog(title, *words):
    """The dialog of that title, once it shows (and holds these words)."""

    def look():
        for window in java("java.awt.Window").getWindows():
            if isinstance(window, java("java.awt.Dialog")) and window.isShowing():
                right = window.getTitle() == title and all(
                    word in text_of(window) for word in words
                )
                if right:
                    return window
        return None

    found = wait_for(f"the dialog {title} {words}", look)
    # One that is closed while AWT is still about to wait for it is waited for without end.
    wait_for(f"the dialog {title} {words} to be waited for", waits_for_a_dialog)
    return found


def waits_for_a_dialog():
    traces = java("java.lang.Thread").getAllStackTraces().entrySet()
    return any(
        str(trace.getKey().getState()) == "WAITING"
        and any("WaitDispatchSupport.enter" in str(frame) for frame in trace.getValue())
        for trace in traces
    )


def parts(container):
    for component in container.getComponents():
        yield component
        if isinstance(component, java("java.awt.Container")):
            yield from parts(component)


def text_of(window):
    lines = []
    for part in parts(window):
        if isinstance(part, java("ij.gui.MultiLineLabel")):
            field = part.getClass().getDeclaredField("lines")
            field.setAccessible(True)
            lines += [str(line) for line in field.get(part)]
        elif isinstance(part, java("java.awt.Label")):
            lines.append(str(part.getText()))
    return " ".join(lines)


def field_of(window, label):
    """The field to the right of a label."""
    cell = cell_of(window, label)
    return cell.getComponent(0) if isinstance(cell, java("java.awt.Panel")) else cell


def cell_of(window, label):
    everything = list(parts(window))
    (place,) = (
        i
        for i, part in enumerate(everything)
        if isinstance(part, java("java.awt.Label")) and part.getText() == label
    )
    return everything[place + 1]


def browse(window, label, path):
    """Press the Browse button of a field, and choose a file."""
    # Java 25 takes no other folder once the dialog shows.
    java("ij.io.OpenDialog").setDefaultDirectory(f"{path.parent}/")
    click(cell_of(window, label).getComponent(1))

    def look():
        windows = java("java.awt.Window").getWindows()
        return [w for w in windows if isinstance(w, java("java.awt.FileDialog")) and w.isShowing()]

    (chooser,) = wait_for("the file dialog", look)
    time.sleep(REACTION_S)
    chooser.setDirectory(f"{path.parent}/")
    chooser.setFile(path.name)
    chooser.setVisible(False)
    wait_for(f"{path} in the field", lambda: shown_in(field_of(window, label)).endswith(path.name))


def shown_in(field):
    typed = isinstance(field, java("java.awt.TextField"))
    return str(field.getText() if typed else field.getSelectedItem())


def fill(window, **values):
    for label, value in values.items():
        field = field_of(window, label.replace("_", " "))
        if isinstance(value, Path):
            browse(window, label, value)
        elif isinstance(field, java("java.awt.TextField")):
            field.setText(str(value))
        elif isinstance(field, java("java.awt.Checkbox")):
            field.setState(value)
        else:
            field.select(value)
            assert field.getSelectedItem() == value, f"{label} has no {value}"


def press(window, label="OK"):
    (button,) = (
        part
        for part in parts(window)
        if isinstance(part, java("java.awt.Button")) and part.getLabel().strip() == label
    )
    click(button)
    wait_for("the dialog to close", lambda: not window.isShowing())


def press_escape():
    """Press Esc in ImageJ's window, wherever the focus is: it wanders without a window manager."""
    key = java("java.awt.event.KeyEvent")
    window = java("ij.IJ").getInstance()
    pressed = key(window, key.KEY_PRESSED, 0, 0, key.VK_ESCAPE, key.CHAR_UNDEFINED)
    manager = java("java.awt.KeyboardFocusManager").getCurrentKeyboardFocusManager()
    press = jpype.JProxy(
        "java.lang.Runnable", dict={"run": lambda: manager.redispatchEvent(window, pressed)}
    )
    java("java.awt.EventQueue").invokeLater(press)


def runs(title):
    """Whether a command runs; its thread carries its name."""
    threads = java("java.lang.Thread").getAllStackTraces().keySet()
    return any(title in str(thread.getName()) for thread in threads)


def run(title, **values):
    """Choose a command, fill in its dialog, and wait until it has run."""
    RUN.append(title)
    window = choose(title)
    fill(window, **values)
    press(window)
    wait_for(f"{title} to end", lambda: not runs(title))
    settle()


def settle():
    """Wait until the windows that opened have passed the focus on for the last time.

    Without a window manager it goes to and fro between them, and ImageJ makes each image the
    current one and records that.
    """
    last, since = None, time.monotonic()

    def quiet():
        nonlocal last, since
        seen = recorded(), current()
        if seen != last:
            last, since = seen, time.monotonic()
        return time.monotonic() - since > SETTLED_S

    wait_for("the focus to stay", quiet)


def current():
    image = java("ij.WindowManager").getCurrentImage()
    return image and str(image.getTitle())


def begin(title, step, **values):
    """Choose a command, fill in its dialog, and wait until some of a step is done."""
    window = choose(title)
    fill(window, **values)
    java("ij.IJ").showStatus("")
    press(window)
    wait_for_some_of(step)


def wait_for_some_of(step):
    wait_for(step, lambda: re.match(f"{step}: [1-9]", status()))


def cancel(title):
    press_escape()
    begun = time.monotonic()
    wait_for(f"{title} to end", lambda: not runs(title))
    return {"seconds": time.monotonic() - begun, "status": status(), "images": titles()}


def status():
    return str(java("ij.ImageJ").getStatusBarText())


def titles():
    manager = java("ij.WindowManager")
    return [str(manager.getImage(int(i)).getTitle()) for i in manager.getIDList() or ()]


def activate(title):
    """What ImageJ does when an image's window is clicked."""
    image = java("ij.WindowManager").getImage(title)
    java("ij.WindowManager").setCurrentWindow(image.getWindow())


def rows():
    return int(java("ij.measure.ResultsTable").getResultsTable().size())


def log():
    return str(java("ij.IJ").getLog() or "")


def recorded():
    return str(java("ij.plugin.frame.Recorder").getInstance().getText())


def do(name):
    java("ij.IJ").doCommand(name)


def open_recorder():
    recorder = java("ij.plugin.frame.Recorder")
    do("Record...")
    wait_for("the Recorder", lambda: java("ij.IJ").recording() and recorder.getInstance())
    # It says that it records before it is ready to.
    wait_for("the Recorder to show", lambda: recorder.getInstance().isShowing())
    wait_for("Record... to end", lambda: not runs("Record..."))


def show(image, title):
    """Open a window for an image, and answer with what ImageJ shows in it."""
    shown = bridge.start().to_imageplus(image.rename(title))
    shown.show()
    wait_for(title, lambda: title in titles())
    return shown


def record_every_command(folder):
    """Open a stack and run every command of the menu with the Recorder on."""
    open_recorder()
    java("ij.plugin.DragAndDrop")().openFile(java("java.io.File")(f"{folder}/my stack.tif"))
    wait_for("the stack", lambda: titles() == ["my stack.tif"])
    small = {"Slices": 12, "Size_(voxels)": 48, "Feature_size_nm": 150, "Attenuation_nm": 150}
    run("PoreSeg Phantom", Output=f"{folder}/made", Seed=3, **small)
    run(
        "PoreSeg Train Forest",
        Labels="phantom-truth",
        Indices="0, 4,8",
        Trees=4,
        Model=f"{folder}/forest.poreseg",
    )
    run(
        "PoreSeg Segment",
        Image="my stack.tif",
        Output=f"{folder}/forest [1].tif",
        Probability=f"{folder}/probability.tif",
        Uncertainty=f"{folder}/uncertainty.tif",
    )
    run(
        "PoreSeg Save Labels",
        Image="my stack.tif",
        Labels="phantom-truth",
        Output=f"{folder}/labels.zip",
    )
    run("PoreSeg Convert", Image="my stack.tif", Output=f"{folder}/stack.zarr")
    run("PoreSeg Suggest", Image="my stack.tif", Count=2, Json=f"{folder}/next.json")
    activate("my stack-segmentation")
    history = f"{folder}/history.npz"
    run(
        "PoreSeg Correct",
        Corrections="phantom-truth",
        Output=f"{folder}/corrected.tif",
        History=history,
    )
    run("PoreSeg Undo Correction", History=history, Output=f"{folder}/undone.tif")
    run("PoreSeg Measure", Json=f"{folder}/porosity.json")
    activate("my stack-segmentation")
    run(
        "PoreSeg Evaluate",
        Truth=folder / "made" / "truth.tif",
        Probability="my stack-probability",
        Stack="my stack.tif",
        Json=folder / "scores.json",
    )
    run("PoreSeg Select Slices", Image="my stack.tif", Strategy="initial", Count=3)
    run(
        "PoreSeg Train ResUNet",
        Image="phantom",
        Labels="phantom-truth",
        Strategy="distributed",
        Count=4,
        Network="small",
        Steps=3,
        Model=f"{folder}/resunet.poreseg",
    )
    run("PoreSeg Segment", Image="phantom", Output="resunet.tif")
    activate("phantom-truth")
    run(
        "PoreSeg Auto",
        Image="phantom",
        Labels="phantom-truth",
        Output=f"{folder}/auto",
        Indices="0, 5,11",
        Count=3,
        Steps=2,
        Trees=5,
        Anyway=True,
    )
    run(
        "PoreSeg Study",
        Image="phantom",
        Truth="phantom-truth",
        Output=f"{folder}/study",
        Counts="2, 3",
        Repeats=1,
        Models="forest",
        Trees=4,
    )
    before = recorded()
    (folder / "recorded.ijm").write_text(before, encoding="utf-8")
    begin(
        "PoreSeg Train ResUNet",
        "Training ResUNet",
        Image="phantom",
        Labels="phantom-truth",
        Network="small",
        Steps=1000,
        Model=f"{folder}/unfinished.poreseg",
    )
    return {
        "menu": [str(entry.getLabel()) for entry in menu_entries()],
        "titles": [command.title for command in CATALOG.values()],
        "canceled": cancel("PoreSeg Train ResUNet"),
        "recorded_after": recorded().removeprefix(before),
        "run": RUN,
    }


def make_faults(folder):
    """Do what goes wrong: bad values, Esc, two commands at once, a fault in a macro."""
    seen = {}
    open_recorder()
    made = fp.phantom(slices=120, size=128, feature_size_nm=150, attenuation_nm=150)
    show(made.truth, "truth")
    show(made.stack, "stack")

    window = choose("PoreSeg Train Forest")
    fill(window, Labels="truth", Trees="many", Indices="0,40", Model=f"{folder}/forest.poreseg")
    press(window)
    message = dialog("PoreSeg Train Forest", "`trees`")
    seen["bad value"] = text_of(message)
    press(message)
    window = dialog("PoreSeg Train Forest", "Trees")
    seen["typed"] = [shown_in(field_of(window, name)) for name in ("Trees", "Indices", "Labels")]
    fill(window, Trees=10)
    press(window)
    wait_for("the training to end", lambda: not runs("PoreSeg Train Forest"))

    before = recorded()
    begin("PoreSeg Segment", "Segmenting", Output=f"{folder}/canceled.tif")
    seen["canceled"] = cancel("PoreSeg Segment")
    many = {"Labels": "truth", "Trees": 9999, "Pixels": 9999, "Model": f"{folder}/no.poreseg"}
    begin("PoreSeg Train Forest", "Growing trees", **many)
    window = choose("PoreSeg Measure")
    press(window)
    message = dialog("PoreSeg Measure", "is running")
    seen["busy"] = text_of(message)
    press(message)
    press(dialog("PoreSeg Measure", "Json"), "Cancel")
    seen["canceled too"] = cancel("PoreSeg Train Forest")
    seen["recorded after faults"] = recorded().removeprefix(before)
    seen["files"] = sorted(path.name for path in folder.iterdir())

    java("ij.macro.MacroRunner")('run("PoreSeg Segment", "modle=x");\nprint("goes on");')
    message = dialog("Macro Error")
    seen["macro"] = text_of(message)
    press(message)
    java("ij.macro.MacroRunner")('run("PoreSeg Segment", "image=stack");\nprint("after Esc");')
    wait_for_some_of("Segmenting")
    press_escape()
    wait_for("the macro to end", lambda: not runs("Macro$"))
    java("ij.macro.MacroRunner")('run("PoreSeg Measure", "image=truth");')
    wait_for("the macro to end", lambda: "Porosity" in log())
    java("ij.macro.MacroRunner")('selectImage("truth"); run("PoreSeg Select Slices");')
    wait_for("a macro without options", lambda: rows() == 20)

    bridge.start(headless=False, catalog=FAULTY)
    press(choose("PoreSeg Bug"))
    message = dialog("PoreSeg Bug", "KeyError")
    seen["bug"] = text_of(message)
    press(message)

    # Its voxels are far from those trained on.
    run("PoreSeg Segment", Image="stack", Indices="3", Voxel_size_nm="40,40,40")
    seen["log"] = log()
    seen["images"] = titles()
    begin("PoreSeg Segment", "Segmenting", Image="stack", Output=f"{folder}/quit.tif")
    return seen


def interrupt(_):
    """Press Ctrl-C in the terminal, once all is there."""
    main = threading.main_thread().ident
    waits = wait_until_quit.__code__
    wait_for(
        "the program to wait",
        lambda: any(
            frame.f_code is waits for frame, _ in traceback.walk_stack(sys._current_frames()[main])
        ),
    )
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(PATIENCE_S)


def label_by_hand(folder):
    """Draw in a slice, press keys, and look at what the forest answers."""
    seen = {}
    made = fp.phantom(slices=9, size=512, seed=2)
    image = show(made.stack, "stack")
    image.setSlice(5)
    click_command("PoreSeg Label")
    panel = wait_for("the panel", lambda: window_titled("PoreSeg Label: stack"))
    (status,) = (part for part in parts(panel) if isinstance(part, java("java.awt.TextArea")))
    seen["panel"] = text_of(panel)

    press_key(image, "1")
    wait_for("advice", lambda: "Nothing is selected" in str(status.getText()))
    truth = made.truth.to_numpy()[4]
    for seed, label in enumerate((1, 1, 2, 2)):
        image.setRoi(java("ij.gui.ShapeRoi")(inside(truth, label, seed)))
        press_key(image, str(label))
        wait_for("the selection to become a label", lambda: image.getRoi() is None)
    wait_for("an answer", lambda: answered(image) is not None)
    wait_for("an answer from all labels", lambda: "in 1 slice" in str(status.getText()))
    time.sleep(SETTLED_S)
    seen["labels"] = [str(roi.getName()) for roi in layers(image)]
    found = answered(image)
    seen["right"] = float((found == (truth == 2)).mean())
    seen["status"] = str(status.getText())

    press_key(image, "9")
    wait_for("the answer to hide", lambda: answered(image) is None)
    begun = time.monotonic()
    press_key(image, "9")
    wait_for("the answer to show again", lambda: answered(image) is not None)
    seen["seconds"] = time.monotonic() - begun

    image.setSlice(8)
    wait_for("an answer on another slice", lambda: position_of_answer(image) == 8)
    other = answered(image)
    seen["right on another slice"] = float((other == (made.truth.to_numpy()[7] == 2)).mean())
    image.setSlice(5)
    wait_for("an answer on the first", lambda: position_of_answer(image) == 5)
    # A row of the last label, and of no other.
    image.setRoi(0, 5 + 3 * 3, truth.shape[1], 1)
    press_key(image, "0")
    wait_for("the label to go", lambda: len(layers(image)) < len(seen["labels"]))
    seen["left"] = len(layers(image))
    # Other keys are ImageJ's, and so are the digits when all is done.
    press_key(image, "a")
    wait_for("Select All", lambda: image.getRoi() and image.getRoi().getFloatWidth() == 512)
    click(next(p for p in parts(panel) if isinstance(p, java("java.awt.Button"))))
    wait_for("the panel to close", lambda: not panel.isShowing())
    wait_for("the answer to go", lambda: answered(image) is None)
    seen["kept"] = len(layers(image))
    listeners = [str(one.getClass().getName()) for one in image.getCanvas().getKeyListeners()]
    seen["listeners"] = listeners

    # Again, until the image is closed under it.
    click_command("PoreSeg Label")
    wait_for("the panel again", lambda: window_titled("PoreSeg Label: stack"))
    wait_for("the answer again", lambda: answered(image) is not None)
    java("ij.macro.MacroRunner")('run("PoreSeg Train Forest", "trees=5 folds=0");print("grown");')
    wait_for("the training", lambda: "grown" in log())
    seen["log"] = log()
    image.changes = False
    image.close()
    wait_for("the panel to go with it", lambda: window_titled("PoreSeg Label: stack") is None)
    seen["hyperstack"] = label_a_hyperstack(made)
    java("ij.macro.MacroRunner")('run("PoreSeg Label");')
    message = dialog("Macro Error")
    seen["no image"] = text_of(message)
    press(message)
    return seen


def label_a_hyperstack(made):
    """The same in one of several slices of two detectors; the panel is closed at its corner."""
    grey = made.stack.to_numpy()[:3, :64, :64]
    image = show(fp.make_stack(np.stack([grey, 255 - grey]), (10, 10, 10)), "two")
    image.setPosition(2, 3, 1)
    click_command("PoreSeg Label")
    panel = wait_for("the panel", lambda: window_titled("PoreSeg Label: two"))
    for key, row in (("1", 5), ("2", 20), ("2", 40)):
        image.setRoi(4, row, 50, 3)
        press_key(image, key)
        wait_for("the selection to become a label", lambda: image.getRoi() is None)
    wait_for("an answer", lambda: answered(image) is not None)
    image.setRoi(10, 40, 1, 1)
    press_key(image, "0")
    wait_for("the label to go", lambda: len(layers(image)) == 2)
    kept = [int(roi.getZPosition()) for roi in everything_over(image)]
    closing = java("java.awt.event.WindowEvent")
    post(closing(panel, closing.WINDOW_CLOSING))
    wait_for("the panel to close", lambda: not panel.isShowing())
    wait_for("the answer to go", lambda: answered(image) is None)
    image.changes = False
    image.close()
    return kept


def label_in_haste(folder):
    """Press keys while the forest learns and answers."""
    seen = {}
    made = fp.phantom(slices=9, size=128, seed=2)
    image = show(made.stack, "stack")
    image.setSlice(5)
    overlay = java("ij.gui.Overlay")()
    overlay.drawLabels(True)
    given = ["pore"] * 200 + ["solid"] * 200
    for n, name in enumerate(given):
        add_label(overlay, n, name)
    image.setOverlay(overlay)
    click_command("PoreSeg Label")
    wait_for("an answer", lambda: answered(image) is not None)
    time.sleep(SETTLED_S)
    seen["answer is lowest"] = bool(everything_over(image)[0] == answer_over(image))
    seen["order is kept"] = [str(roi.getName()) for roi in layers(image)] == given

    # All the time: while it learns, answers, and shows what it found.
    pressed = 0
    until = time.monotonic() + 8
    while time.monotonic() < until:
        image.setRoi(pressed % 100, pressed // 100, 1, 1)
        press_key(image, "2")
        pressed += 1
        time.sleep(0.01)
    time.sleep(SETTLED_S)
    seen["lost"] = len(given) + pressed - len(layers(image))
    seen["settings are kept"] = bool(image.getOverlay().getDrawLabels())
    seen["hidden"] = hide_while_it_answers(image)
    seen["groups"] = label_in_groups(image, folder)
    seen["left"] = erase_one_of_two(image)
    return seen


def hide_while_it_answers(image):
    """Whether the answer stays hidden where key 9 was pressed before it was there."""
    answer, begun = Workbench.answer, threading.Event()

    def slow_answer(bench, index):
        begun.set()
        time.sleep(REACTION_S)
        return answer(bench, index)

    Workbench.answer = slow_answer
    image.setRoi(4, 90, 100, 3)
    press_key(image, "1")
    assert begun.wait(PATIENCE_S)
    press_key(image, "9")
    Workbench.answer = answer
    time.sleep(REACTION_S + SETTLED_S)
    hidden = answered(image) is None
    press_key(image, "9")
    wait_for("the answer to show again", lambda: answered(image) is not None)
    return hidden


def label_in_groups(image, folder):
    """What selections become that were drawn in a group, and which of them another one erases."""
    image.setOverlay(None)
    for group in (1, 3):
        image.setRoi(4, 20 * group, 20, 3)
        image.getRoi().setGroup(group)
        press_key(image, "2")
    java("ij.macro.MacroRunner")(
        f'run("PoreSeg Save Labels", "output=[{folder}/grouped.tif]");print("saved");'
    )
    wait_for("the labels to be saved", lambda: "saved" in log())
    image.setRoi(10, 20, 1, 1)
    image.getRoi().setGroup(3)
    press_key(image, "0")
    left = [int(roi.getBounds().y) for roi in layers(image)]
    return {"labels": np.unique(fp.read(f"{folder}/grouped.tif")).tolist(), "left": left}


def erase_one_of_two(image):
    """The slices that labels are left on, of two that are alike but for theirs."""
    image.setOverlay(None)
    for number in (5, 6):
        image.setSlice(number)
        image.setRoi(4, 20, 20, 3)
        press_key(image, "2")
    image.setRoi(10, 20, 1, 1)
    press_key(image, "0")
    return [int(roi.getPosition()) for roi in layers(image)]


def add_label(overlay, n, name):
    roi = java("ij.gui.Roi")(n % 100, 110 + n // 100, 1, 1)
    roi.setName(name)
    roi.setPosition(5)
    overlay.add(roi)


def inside(truth, label, seed):
    """Some rows of a class, as a shape."""
    areas = java("java.awt.geom.Area")()
    for row in range(5 + 3 * seed, len(truth), 60):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], truth[row] == label, [0]])))
        for start, stop in edges.reshape(-1, 2):
            rectangle = java("java.awt.Rectangle")(int(start), row, int(stop - start), 1)
            areas.add(java("java.awt.geom.Area")(rectangle))
    return areas


def window_titled(title):
    windows = java("java.awt.Frame").getFrames()
    return next((w for w in windows if w.isShowing() and str(w.getTitle()) == title), None)


def press_key(image, key):
    event = java("java.awt.event.KeyEvent")
    canvas = image.getCanvas()
    pressed = event(canvas, event.KEY_PRESSED, 0, 0, ord(key.upper()), jpype.JChar(key))
    manager = java("java.awt.KeyboardFocusManager").getCurrentKeyboardFocusManager()
    type_it = jpype.JProxy(
        "java.lang.Runnable", dict={"run": lambda: manager.redispatchEvent(canvas, pressed)}
    )
    java("java.awt.EventQueue").invokeAndWait(type_it)


def everything_over(image):
    overlay = image.getOverlay()
    return [] if overlay is None else list(overlay.toArray())


def layers(image):
    """The labels in an overlay."""
    return [roi for roi in everything_over(image) if not isinstance(roi, java("ij.gui.ImageRoi"))]


def answer_over(image):
    found = [roi for roi in everything_over(image) if isinstance(roi, java("ij.gui.ImageRoi"))]
    return found[0] if found else None


def answered(image):
    """Where the forest answers solid, or None."""
    roi = answer_over(image)
    if roi is None:
        return None
    pixels = np.asarray(roi.getProcessor().getPixels())
    return pixels.reshape(image.getHeight(), image.getWidth()) & 0xFFFFFF > 0


def position_of_answer(image):
    roi = answer_over(image)
    return None if roi is None else int(roi.getPosition())


SCENARIOS = {
    "record": record_every_command,
    "faults": make_faults,
    "interrupt": interrupt,
    "label": label_by_hand,
    "haste": label_in_haste,
}


def use(scenario, folder):
    try:
        wait_for("ImageJ", lambda: bridge._running)
        wait_for("the menu", lambda: len(menu_entries()) == len(CATALOG) + 1)
        (folder / "seen.json").write_text(json.dumps(SCENARIOS[scenario](folder)))
        for image in (java("ij.WindowManager").getImage(title) for title in titles()):
            image.changes = False
        do("Quit")
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        faulthandler.dump_traceback()
        os._exit(9)


if __name__ == "__main__":
    _, scenario, folder = sys.argv
    threading.Thread(target=use, args=(scenario, Path(folder)), daemon=True).start()
    sys.argv[1:] = ["gui"]
    cli.run()
