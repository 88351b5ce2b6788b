"""Images to ImageJ and back: what goes round comes back equal, or is refused with a reason."""

import gc
import json
import os
import subprocess
import sys
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import dask
import dask.array as da
import jpype
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import fiji_poreseg as fp
from fiji_poreseg import files
from fiji_poreseg.bridge import dataset, imglib2, pixels
from fiji_poreseg.errors import MacroError, ParameterError
from fiji_poreseg.stack import as_stack, make_labels, make_stack

GREY = ("uint8", "uint16", "float32")
often = settings(max_examples=150, deadline=None, derandomize=True)


@pytest.fixture(scope="session")
def engine():
    return fp.start()


@pytest.fixture
def ij(engine):
    yield engine
    engine.close()


def current(ij):
    return ij.java("ij.WindowManager").getCurrentImage()


def random_values(dtype, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


# Round trips of anything.

texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
# Attributes that have a place of their own in ImageJ (docs/exchange.md); hypothesis finds their
# names in the package, and would draw them as names of others.
PLACED = (
    "classes",
    "display_range",
    "imagej_channels",
    "imagej_grey",
    "imagej_info",
    "imagej_lut",
    "imagej_properties",
    "inverting_lut",
)
TAKEN = (*PLACED, "unit", "source_unit", "spacing_nm", "Slice_Label")
free_names = texts.filter(lambda name: name not in TAKEN and not name.startswith("poreseg_"))
lengths = st.floats(1e-3, 1e6)
voxels = st.floats(-1e4, 1e4)


@st.composite
def stacks(draw):
    """Stacks of any kind that ImageJ can hold."""
    channels, slices, height, width = draw(st.tuples(*(st.integers(1, 4),) * 4))
    shape = (channels, slices, height, width)[draw(st.integers(0, 2)) :]
    if len(shape) == 4 and channels == 1:  # ImageJ has no single channel
        shape = shape[1:]
    values = random_values(draw(st.sampled_from(GREY)), shape)
    if draw(st.booleans()):
        values = da.from_array(values, chunks=draw(st.integers(1, 3)))
    if draw(st.booleans()):
        values = values.astype(values.dtype.newbyteorder(">"))
    spacing = draw(st.none() | st.tuples(lengths, lengths, lengths))
    origin = [draw(voxels) * step for step in spacing or (10.0, 10.0, 10.0)]
    low, high = sorted(draw(st.tuples(st.integers(0, 255), st.integers(0, 255))))
    attrs = {
        "display_range": (float(low), float(high + 1)),
        "inverting_lut": draw(st.booleans()),
        "imagej_info": draw(texts),
        "imagej_properties": draw(st.dictionaries(free_names, st.text(max_size=9), min_size=1)),
        **draw(st.dictionaries(free_names, plain, max_size=3)),
    }
    if spacing:
        attrs["source_unit"] = draw(st.sampled_from(("nm", "µm", "micron", "Å", "mm")))
    made = make_stack(
        values,
        spacing,
        name=draw(texts),
        origin_nm=tuple(origin),
        slice_labels=draw(st.none() | st.just(["a ü", *"bcd"[: slices - 1]]))
        if len(shape) > 2
        else None,
        attrs=attrs,
    )
    made = made.isel(
        {axis: slice(None, None, draw(st.sampled_from((1, -1)))) for axis in made.dims}
    )
    if len(shape) == 4:
        names = draw(st.none() | st.lists(texts, min_size=channels, max_size=channels))
        made = made if names is None else made.assign_coords(c=names)
        if draw(st.booleans()):
            each = [[f"{c} of {z}" for z in range(slices)] for c in range(channels)]
            made = made.assign_coords(slice_label=(("c", "z"), each))
    return made


def assert_same(back, stack):
    assert back.dims == stack.dims
    assert back.dtype == stack.dtype.newbyteorder("=")
    assert back.name == stack.name
    np.testing.assert_array_equal(back, stack)
    assert set(back.coords) == set(stack.coords)
    for axis in "zyx":
        extent = float(abs(stack[axis]).max() + stack.attrs["spacing_nm"]["zyx".index(axis)])
        np.testing.assert_allclose(back[axis], stack[axis], rtol=1e-9, atol=1e-10 * extent)
    for name in {"c", "slice_label"} & set(stack.coords):
        assert back[name].to_numpy().tolist() == stack[name].to_numpy().tolist()
    for name, value in stack.attrs.items():
        if name == "spacing_nm":
            assert back.attrs[name] == pytest.approx(value, rel=1e-9)
        else:
            assert back.attrs[name] == value


@given(stack=stacks())
@often
def test_a_stack_comes_back_from_an_imageplus(engine, stack):
    image = engine.to_imageplus(stack)
    assert image.getStack().isVirtual() == (stack.chunks is not None)
    back = engine.to_xarray(image)
    assert (back.chunks is None) == (stack.chunks is None)
    assert_same(back, stack)


@given(stack=stacks())
@often
def test_a_stack_comes_back_from_imglib2(engine, stack):
    back = engine.to_xarray(engine.to_imglib2(stack))
    assert back.dtype == stack.dtype.newbyteorder("=")
    np.testing.assert_array_equal(back, stack)


@st.composite
def recipes(draw):
    """How an ImagePlus is to be made, of the kinds that ImageJ itself makes."""
    channels, slices = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    return {
        "bits": draw(st.sampled_from((8, 16, 32))),
        "channels": channels,
        "slices": slices,
        "mode": draw(st.integers(0, 3)) if channels > 1 else 0,
        "units": draw(st.sampled_from((("nm", "nm"), ("µm", "nm"), ("pixel", "pixel")))),
        "steps": draw(st.tuples(lengths, lengths, lengths)),
        "origin": draw(st.tuples(*(st.integers(-9, 9),) * 3)),
        "labels": draw(st.lists(st.text(max_size=5), max_size=channels * slices)),
        "info": draw(st.none() | texts),
        "properties": draw(st.dictionaries(texts, texts, max_size=2)),
        "range": sorted(draw(st.tuples(st.integers(0, 99), st.integers(100, 200)))),
        "grey": draw(st.none() | st.just((0, (1.5, 2.0), "dose"))),
        "lut": draw(st.sampled_from(("grey", "inverted", "fire"))),
    }


def make_imageplus(ij, recipe):
    bits, planes = recipe["bits"], recipe["channels"] * recipe["slices"]
    image = ij.java("ij.IJ").createImage("of ImageJ", f"{bits}-bit ramp", 5, 4, planes)
    for number in range(1, planes + 1):
        image.getStack().getProcessor(number).set(1, 2, number)
    image.setDimensions(recipe["channels"], recipe["slices"], 1)
    if recipe["mode"]:
        image = ij.java("ij.CompositeImage")(image, recipe["mode"])
        for channel in range(1, recipe["channels"] + 1):
            image.setPositionWithoutUpdate(channel, 1, 1)
            image.setDisplayRange(recipe["range"][0] + channel, recipe["range"][1] + channel)
        image.setPositionWithoutUpdate(1, 1, 1)
    else:
        if recipe["lut"] == "fire":
            fire = ij.java("ij.plugin.LutLoader").getLut("fire")
            image.setLut(ij.java("ij.process.LUT")(fire, 0, 255))
        elif recipe["lut"] == "inverted":
            image.getProcessor().invertLut()
            image.getStack().setColorModel(image.getProcessor().getColorModel())
        image.setDisplayRange(*recipe["range"])
    calibration = image.getCalibration()
    calibration.setXUnit(recipe["units"][0])
    calibration.setZUnit(recipe["units"][1])
    calibration.pixelWidth, calibration.pixelHeight, calibration.pixelDepth = recipe["steps"]
    calibration.xOrigin, calibration.yOrigin, calibration.zOrigin = recipe["origin"]
    if recipe["grey"] and bits != 32:
        function, coefficients, unit = recipe["grey"]
        calibration.setFunction(function, jpype.JDouble[:](coefficients), unit)
    for number, label in enumerate(recipe["labels"], 1):
        image.getStack().setSliceLabel(label or None, number)
    if recipe["info"]:
        image.setProperty("Info", recipe["info"])
    for key, value in recipe["properties"].items():
        image.setProp(key, value)
    return image


def described(image):
    """All that can be asked of an ImagePlus and must survive, lengths in nm."""
    calibration = image.getCalibration()
    nm = {"nm": 1.0, "µm": 1e3, "pixel": 1.0}
    units = (calibration.getXUnit(), calibration.getYUnit(), calibration.getZUnit())
    steps = (calibration.pixelWidth, calibration.pixelHeight, calibration.pixelDepth)
    luts = image.getLuts()
    planes = range(1, image.getStackSize() + 1)
    return {
        "class": image.getClass().getName(),
        "bits": image.getBitDepth(),
        "dimensions": list(image.getDimensions()),
        "mode": image.getMode() if image.isComposite() else None,
        "unit": calibration.getUnit(),
        "labels": [str(image.getStack().getSliceLabel(number) or "") for number in planes],
        "pixels": [np.asarray(image.getStack().getPixels(number)).tolist() for number in planes],
        "info": image.getProperty("Info"),
        "properties": {str(k): str(v) for k, v in dict(image.getImageProperties()).items()},
        "range": (image.getDisplayRangeMin(), image.getDisplayRangeMax()),
        "luts": [np.asarray(lut.getBytes()).tolist() for lut in luts],
        "ranges": [(lut.min, lut.max) for lut in luts] if image.isComposite() else None,
        "function": calibration.getFunction(),
        "coefficients": calibration.calibrated() and list(calibration.getCoefficients()),
        "value unit": calibration.getValueUnit(),
    }, [
        *(step * nm[str(unit)] for step, unit in zip(steps, units, strict=True)),
        *(calibration.xOrigin, calibration.yOrigin, calibration.zOrigin),
    ]


@given(recipe=recipes())
@often
def test_an_imageplus_comes_back_from_xarray(engine, recipe):
    image = make_imageplus(engine, recipe)
    expected, expected_lengths = described(image)
    found, lengths = described(engine.to_imageplus(engine.to_xarray(image)))
    assert found == expected
    assert lengths == pytest.approx(expected_lengths, rel=1e-9, abs=1e-9)


# What is refused.


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint32", "float64", "complex64", "bool"])
@pytest.mark.parametrize("target", ["to_imageplus", "to_imglib2"])
@pytest.mark.parametrize("lazy", [False, True])
def test_a_type_that_imagej_lacks_is_refused(ij, dtype, target, lazy):
    values = np.zeros((2, 3, 4), dtype)
    stack = make_stack(da.from_array(values) if lazy else values)
    with pytest.raises(ParameterError, match=rf"uint8, uint16 or float32.*{dtype}"):
        getattr(ij, target)(stack)


STACK = make_stack(random_values("uint8", (3, 4, 5)), (20, 10, 5), name="s")


@pytest.mark.parametrize(
    ("stack", "reason"),
    [
        (STACK.assign_coords(tilt=("z", [1, 2, 3])), r"no coordinates but.*tilt.*drop_vars"),
        (STACK.assign_coords(slice_label=("y", list("abcd"))), "coordinates slice_label"),
        (STACK.assign_coords(z=[0, 1, 5]), "evenly spaced along z"),
        (STACK.assign_coords(z=[1, 1, 1]), "evenly spaced along z"),
        (STACK.assign_attrs(unit="inch"), "known unit"),
        (STACK.assign_attrs(grid=object()), r'JSON.*attrs\["grid"\]'),
        (STACK.assign_attrs(imagej_properties={"a": 1}), "must have texts under names"),
        (STACK.assign_attrs(imagej_properties={"poreseg_attrs": "1"}), "names other than"),
        (STACK.assign_attrs(imagej_grey=True), r'to_xarray finds.*attrs\["imagej_grey"\].*True'),
        (STACK.assign_attrs(display_range=(9, 1)), "two finite numbers, the lower first"),
        (STACK.assign_attrs(classes=("a,b",)), "names of classes without commas"),
        (STACK.expand_dims("t"), "dims"),
        (STACK.expand_dims(("t", "c")), "dims"),
        (STACK.isel(x=slice(0)), "at least one voxel"),
        (
            xr.concat([STACK] * 2, "c").assign_coords(c=np.array(["2026-01-01"] * 2, "M8[D]")),
            r"JSON.*c = ",
        ),
    ],
)
def test_what_imagej_has_no_place_for_is_refused(ij, stack, reason):
    with pytest.raises(ParameterError, match=reason):
        ij.to_imageplus(stack)


@given(name=st.sampled_from(PLACED), value=plain.filter(bool))
@often
def test_an_attribute_with_a_place_comes_back_or_is_refused(engine, name, value):
    try:
        image = engine.to_imageplus(STACK.assign_attrs({name: value}))
    except ParameterError as error:
        assert name in str(error)  # noqa: PT017
    else:
        back = engine.to_xarray(image).attrs[name]
        assert back == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize(
    ("type_", "axes", "reason"),
    [
        ("bytes", 3, "ByteType.*RealTypeConverters"),
        ("doubles", 3, "DoubleType"),
        ("unsignedBytes", 1, "1 axes"),
        ("unsignedBytes", 5, r"5 axes.*hyperSlice"),
    ],
)
def test_an_imglib2_image_of_another_kind_is_refused(ij, type_, axes, reason):
    image = getattr(ij.java("net.imglib2.img.array.ArrayImgs"), type_)(jpype.JLong[:]([2] * axes))
    with pytest.raises(ParameterError, match=reason):
        ij.to_xarray(image)


def test_a_table_of_grey_values_is_refused(ij):
    ij.run_macro('newImage("a", "8-bit ramp", 4, 4, 2);')
    table = jpype.JArray(jpype.JFloat)([float(i) ** 2 for i in range(256)])
    current(ij).getCalibration().setCTable(table, "dose")
    with pytest.raises(ParameterError, match=r"table of calibrated grey.*Analyze > Calibrate"):
        ij.to_xarray(current(ij))


# Details.


@pytest.mark.parametrize("slices", [1, 2])
def test_a_label_stays_beside_a_look_up_table(ij, slices):
    image = ij.java("ij.IJ").createImage("coloured", "8-bit ramp", 5, 4, slices)
    image.setLut(ij.java("ij.process.LUT")(ij.java("ij.plugin.LutLoader").getLut("fire"), 0, 255))
    image.getStack().setSliceLabel("a label", 1)
    back = ij.to_imageplus(ij.to_xarray(image))
    assert back.getStack().getSliceLabel(1) == "a label"


def test_a_stack_without_a_name_is_called_stack(ij):
    assert ij.to_imageplus(STACK.rename(None)).getTitle() == "stack"


def test_coordinates_in_another_unit_are_converted(ij):
    stack = STACK.assign_coords({axis: STACK[axis] / 1000 for axis in "zyx"})
    calibration = ij.to_imageplus(stack.assign_attrs(unit="µm")).getCalibration()
    assert str(calibration.getUnit()) == "µm"
    assert calibration.pixelDepth == 0.02


def test_the_probability_of_classes_becomes_channels_with_their_names(ij):
    values = random_values("float32", (3, 2, 4, 5)) / np.float32(200)
    classes = ["pore", "solid", "metal"]
    given = xr.DataArray(
        values, dims=("class", "z", "y", "x"), coords={"class": classes}, name="probability"
    )
    image = ij.to_imageplus(given)
    assert image.getNChannels() == 3
    assert json.loads(str(image.getProp("poreseg_detectors"))) == classes
    back = ij.to_xarray(image)
    assert back.c.to_numpy().tolist() == classes
    np.testing.assert_array_equal(back, values)


def test_a_detector_taken_out_keeps_its_name(ij):
    both = xr.concat([STACK] * 2, "c").assign_coords(c=["SE", "BSE"])
    back = ij.to_xarray(ij.to_imageplus(both.isel(c=1)))
    assert back.dims == ("z", "y", "x")
    assert back.c.item() == "BSE"


def test_arrays_as_attributes_come_back_as_lists(ij):
    stack = STACK.assign_attrs(tilts=np.arange(3), dose=np.float64(2.5), nodata=0)
    attrs = ij.to_xarray(ij.to_imageplus(stack)).attrs
    assert (attrs["tilts"], attrs["dose"], attrs["nodata"]) == ([0, 1, 2], 2.5, 0)


def test_info_of_a_single_image_makes_no_label(ij):
    ij.run_macro('newImage("a", "8-bit ramp", 4, 4, 1); setMetadata("Info", "from the beam");')
    stack = ij.to_xarray(current(ij))
    assert "slice_label" not in stack.coords
    assert stack.attrs["imagej_info"] == "from the beam"


def test_a_conversion_leaves_no_memory_behind(ij):
    image = ij.java("ij.IJ").createImage("a", "8-bit ramp", 1000, 1000, 20)
    values = ij.to_xarray(image).to_numpy()
    assert values.shape == (20, 1000, 1000)
    memory = weakref.ref(values if values.base is None else values.base)
    del values
    gc.collect()
    assert memory() is None


def test_threads_copy_the_same(ij):
    values = random_values("uint16", (2, 20, 512, 512))
    before = threads(ij)
    image = ij.to_imageplus(make_stack(values, (1, 1, 1)))
    np.testing.assert_array_equal(ij.to_xarray(image), values)
    assert threads(ij) <= before


@pytest.mark.parametrize("kind", ["virtual", "planar", "cell"])
def test_threads_that_read_lazily_are_forgotten(ij, monkeypatch, saved, kind):
    if kind == "virtual":
        ij.run_macro(f'run("TIFF Virtual Stack...", "open=[{saved[0]}]");')
        image = current(ij)
    else:
        monkeypatch.setattr(imglib2, "MOST_COPIED_BYTES", 1)
        element = ij.java("net.imglib2.type.numeric.integer.UnsignedShortType")()
        factory = ij.java(f"net.imglib2.img.{kind}.{kind.capitalize()}ImgFactory")
        cells = ([jpype.JInt(8)],) if kind == "cell" else ()
        image = factory(element, *cells).create(jpype.JLong[:]([24, 20, 30]))
    stack = ij.to_xarray(image)
    expected = stack.compute(scheduler="synchronous")
    before = threads(ij)
    with ThreadPoolExecutor(3) as pool, dask.config.set(pool=pool):
        np.testing.assert_array_equal(stack.compute(), expected)
        assert threads(ij) <= before


def threads(ij):
    return {
        (int(t.getId()), str(t.getName()))
        for t in ij.java("java.lang.Thread").getAllStackTraces().keySet()
    }


def test_memory_handed_to_imglib2_is_let_go_of(ij, monkeypatch):
    monkeypatch.setattr(pixels._Shared, "least", 2 * 10**7)
    monkeypatch.setattr(pixels, "_shared", pixels._Shared())
    memories = []
    for _ in range(40):
        values = np.zeros((1000, 1000), np.uint8)
        ij.to_imglib2(xr.DataArray(values, dims=("y", "x")))
        memories.append(weakref.ref(values))
        del values
    deadline = time.monotonic() + 10
    while sum(memory() is not None for memory in memories) > 25:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_image_that_java_has_no_memory_for_is_refused():
    code = (
        "import numpy as np, fiji_poreseg as fp\n"
        "ij = fp.start()\n"
        "stack = fp.make_stack(np.zeros((70, 1000, 1000), np.uint8))\n"
        "try:\n"
        "    held = [ij.to_imageplus(stack) for _ in range(9)]\n"
        "except fp.ParameterError as error:\n"
        "    print(error)\n"
    )
    options = os.environ | {"JAVA_TOOL_OPTIONS": "-Xmx200m", "FIJI_HOME": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], env=options, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.startswith("`image` must fit into Java's memory"), done.stderr
    assert "Close some images" in done.stdout


@pytest.mark.parametrize("ends", [12, 20])
@pytest.mark.parametrize("order", ["BIG_ENDIAN", "LITTLE_ENDIAN"])
@pytest.mark.parametrize("where", ["allocate", "allocateDirect"])
def test_a_buffer_that_is_not_rewound_or_longer_than_its_image(ij, where, order, ends):
    raw = getattr(ij.java("java.nio.ByteBuffer"), where)(2 * ends)
    shorts = raw.order(getattr(ij.java("java.nio.ByteOrder"), order)).asShortBuffer()
    for value in range(ends):
        shorts.put(jpype.JShort(value))
    access = ij.java("net.imglib2.img.basictypeaccess.nio.ShortBufferAccess")(shorts, True)
    image = ij.java("net.imglib2.img.array.ArrayImgs").unsignedShorts(
        access, jpype.JLong[:]([4, 3])
    )
    np.testing.assert_array_equal(ij.to_xarray(image)[0], np.arange(12).reshape(3, 4))


@pytest.mark.parametrize("dims", ["xyz", "tyx", "x", "abcyx"])
def test_imglib2_takes_no_other_axes(ij, dims):
    with pytest.raises(ParameterError, match=r"`image` must have the dims .*rename"):
        ij.to_imglib2(xr.DataArray(np.zeros([2] * len(dims), np.uint8), dims=list(dims)))


@pytest.mark.parametrize("way", ["to_imageplus", "to_imglib2"])
def test_what_is_no_stack_or_empty_is_refused(ij, way):
    with pytest.raises(ParameterError, match=r"`image` must be an xarray.DataArray.*make_stack"):
        getattr(ij, way)(np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(ParameterError, match="at least one voxel"):
        getattr(ij, way)(xr.DataArray(np.zeros((0, 2, 2), np.uint8), dims=("z", "y", "x")))


def test_a_name_of_a_detector_beside_classes_is_refused(ij):
    stack = STACK.expand_dims("class").assign_coords({"c": "SE"})
    with pytest.raises(ParameterError, match=r"no coordinate c beside the dim class.*drop_vars"):
        ij.to_imageplus(stack)


def test_a_global_scale_of_imagej_leaves_a_stack_its_own(ij):
    scale = ij.java("ij.measure.Calibration")()
    scale.pixelWidth = 3
    try:
        ij.java("ij.ImagePlus")().setGlobalCalibration(scale)
        image = ij.to_imageplus(make_stack(np.zeros((2, 3, 4), np.uint8), (20, 10, 5)))
    finally:
        ij.java("ij.ImagePlus")().setGlobalCalibration(None)
    assert ij.to_xarray(image).attrs["spacing_nm"] == (20, 10, 5)


@pytest.mark.parametrize("unit", ["nanometers", "micrometers", "angstroms", "pm", "Microns"])
def test_units_in_the_plural_are_known(ij, unit):
    ij.run_macro('newImage("a", "8-bit ramp", 4, 4, 2);')
    current(ij).getCalibration().setUnit(unit)
    assert ij.to_xarray(current(ij)).attrs["unit"] == "nm"
    current(ij).getCalibration().setUnit("ms")
    assert ij.to_xarray(current(ij)).attrs["unit"] == "pixel"


def test_a_stack_without_voxel_size_has_none_without_its_coordinates(ij):
    stack = make_stack(np.zeros((2, 3, 4), np.uint8)).drop_vars(["z", "y", "x"])
    image = ij.to_imageplus(stack)
    assert str(image.getCalibration().getUnit()) == "pixel"
    assert image.getCalibration().pixelWidth == 1


# Virtual stacks.


@pytest.fixture
def saved(tmp_path):
    values = random_values("uint16", (30, 20, 24))
    path = tmp_path / "孔 a.tif"
    files.write(path, make_stack(values, (20, 10, 5), slice_labels=[f"n{i}" for i in range(30)]))
    return path, values


@pytest.mark.parametrize(
    "macro",
    [
        'run("TIFF Virtual Stack...", "open=[{file}]");',
        'File.openSequence("{folder}", "virtual");',
        'open("{folder}", "virtual");',
    ],
)
def test_a_virtual_stack_is_read_slice_by_slice(ij, saved, macro):
    path, values = saved
    ij.run_macro(macro.format(file=path, folder=path.parent))
    image = current(ij)
    stack = ij.to_xarray(image)
    assert stack.data.chunks[0] == (1,) * 30
    assert spacing(stack) == (20, 10, 5)
    image.close()
    np.testing.assert_array_equal(stack, values)
    np.testing.assert_array_equal(as_stack(stack)[17:19], values[17:19])


def spacing(stack):
    return stack.attrs["spacing_nm"]


def test_an_image_too_large_for_a_copy_is_lazy_and_outlives_its_window(ij, monkeypatch):
    monkeypatch.setattr("fiji_poreseg.bridge.images.MOST_COPIED_BYTES", 100)
    values = random_values("uint8", (2, 6, 9, 8))
    image = ij.to_imageplus(make_stack(values, (1, 1, 1)))
    image.show()
    stack = ij.to_xarray(image)
    assert isinstance(stack.data, da.Array)
    image.changes = False
    image.close()
    np.testing.assert_array_equal(stack, values)


def counted(values):
    """A lazy stack that notes which of its slices are computed."""
    seen = []

    def block(block_id):
        seen.append(block_id[0])
        return values[block_id[0]][np.newaxis]

    chunks = ((1,) * len(values), *((size,) for size in values.shape[1:]))
    lazy = da.map_blocks(block, chunks=chunks, dtype=values.dtype, meta=values[:0])
    return make_stack(lazy, (20, 10, 10), name="lazy"), seen


@pytest.mark.parametrize(
    "macro",
    [
        'run("Delete Slice");',
        'run("16-bit");',
        'run("32-bit");',
        'makeRectangle(1, 1, 5, 4); run("Crop");',
        'run("Size...", "width=6 height=5 depth=4 interpolation=None");',
        'run("Reduce...", "reduction=2");',
        'run("Make Substack...", "slices=2-3 delete");',
        'setSlice(2); run("Delete Slice"); run("Reverse"); run("Delete Slice");',
    ],
)
def test_commands_do_the_same_with_a_lazy_stack(ij, macro):
    values = random_values("uint8", (4, 10, 12))
    named = make_stack(values, (10, 10, 10), slice_labels=["a", "b", "c", "d"])
    results = []
    for stack in (named, named.chunk(z=1)):
        ij.close()
        ij.to_imageplus(stack).show()
        ij.run_macro(macro)
        results.append(ij.to_xarray(current(ij)).compute())
        results.append(
            [
                ij.to_xarray(ij.java("ij.WindowManager").getImage(int(n))).compute()
                for n in ij.java("ij.WindowManager").getIDList()
            ]
        )
    eager, all_eager, lazy, all_lazy = results
    xr.testing.assert_equal(eager, lazy)
    assert [image.shape for image in all_eager] == [image.shape for image in all_lazy]


def test_a_lazy_stack_is_a_virtual_one_computed_when_asked(ij):
    values = random_values("uint8", (40, 6, 5))
    stack, seen = counted(values)
    ij.to_imageplus(stack).show()
    value = ij.run_macro(
        "setSlice(30); setPixel(1, 2, 7); a = getPixel(1, 2); setSlice(31); setSlice(30);"
        'return "" + a + "|" + getPixel(1, 2) + "|" + is("Virtual Stack");'
    )
    assert value == f"7|{values[29, 2, 1]}|1"
    assert sorted(seen) == [0, 29, 30]
    ij.run_macro('run("Duplicate...", "duplicate range=11-13");')
    copied = ij.to_xarray(current(ij))
    assert copied.chunks is None
    np.testing.assert_array_equal(copied, values[10:13])


def test_a_lazy_hyperstack_can_be_reordered(ij):
    values = random_values("uint8", (2, 3, 4, 5))
    ij.to_imageplus(make_stack(da.from_array(values), (1, 1, 1))).show()
    ij.run_macro(
        'run("Hyperstack to Stack"); run("Stack to Hyperstack...",'
        ' "order=xyzct channels=3 slices=2 frames=1 display=Grayscale");'
    )
    np.testing.assert_array_equal(ij.to_xarray(current(ij)), values.swapaxes(0, 1))


def test_a_lazy_segmentation_has_the_colours_of_the_classes(ij):
    values = random_values("uint8", (4, 6, 5)) % 3
    eager = make_labels(values, make_stack(values, (1, 1, 1)))
    looks = [
        ij.to_imageplus(labels).getStack().getProcessor(3).convertToRGB().getPixels()
        for labels in (eager, eager.chunk(z=1))
    ]
    assert list(looks[0]) == list(looks[1])


def test_what_fails_in_a_slice_stops_the_macro(ij):
    def fail(block_id):
        if block_id[0] == 2:
            raise OSError("the disk is gone")
        return np.zeros((1, 4, 4), np.uint8)

    lazy = da.map_blocks(
        fail, chunks=((1,) * 4, (4,), (4,)), dtype=np.uint8, meta=np.empty((0, 0, 0), np.uint8)
    )
    image = ij.to_imageplus(make_stack(lazy, (1, 1, 1), name="lazy ü"))
    with pytest.raises(OSError, match="the disk is gone"):
        image.getStack().getProcessor(3)
    image.show()
    with pytest.raises(MacroError, match=r"Slice 3 of lazy ü cannot be computed: the disk is gone"):
        ij.run_macro('setSlice(2); setSlice(3); print("not reached");')


def test_a_stack_larger_than_javas_memory_is_virtual(ij):
    lent = int(ij.java("java.lang.Runtime").getRuntime().maxMemory())
    # One plane, seen many times: numpy needs no memory for it.
    shape = (lent // 2 // 10**6 + 1, 1000, 1000)
    values = np.broadcast_to(random_values("uint8", shape[1:]), shape)
    image = ij.to_imageplus(make_stack(values, (1, 1, 1)))
    assert image.getStack().isVirtual()
    assert image.getStack().getProcessor(shape[0]).get(3, 2) == values[0, 2, 3]


def test_a_virtual_stack_is_segmented_at_some_slices(ij, benchmark_module, tmp_path, monkeypatch):
    virtual = benchmark_module("virtual")
    monkeypatch.setattr("fiji_poreseg.segmentation.LARGE_BYTES", 10**5)
    stack, model = tmp_path / "s.tif", tmp_path / "f.poreseg"
    indices = virtual.spread(200, 4)
    virtual.write_sparse(stack, 200, 64, indices)
    virtual.train(model)
    assert virtual.segment(ij, stack, model, indices) == "1|1|200|1-2"
    shown = ij.to_xarray(current(ij))
    assert isinstance(shown.data, da.Array)
    expected = fp.segment(stack, model=model, indices=indices).segmentation
    np.testing.assert_array_equal(shown, expected)
    assert np.flatnonzero(expected.any(("y", "x"))).tolist() == indices
    ij.run_macro(f'saveAs("Tiff", "{tmp_path / "saved.tif"}");')
    np.testing.assert_array_equal(files.read(tmp_path / "saved.tif"), expected)


# ImgLib2.


def fill(image):
    cursor = image.localizingCursor()
    while cursor.hasNext():
        pixel = cursor.next()
        position = [cursor.getIntPosition(d) for d in range(image.numDimensions())]
        pixel.setReal(sum(p * 5**d for d, p in enumerate(position)) % 200)
    return image


def filled(shape):
    """What `fill` writes, shape as numpy's."""
    index = np.indices(shape)[::-1]
    return sum(p * 5**d for d, p in enumerate(index)) % 200


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 2, 3, 4)])
@pytest.mark.parametrize("kind", ["array", "planar", "cell", "view"])
def test_imglib2_images_of_every_kind(ij, monkeypatch, kind, shape, lazy):
    if lazy:
        monkeypatch.setattr(imglib2, "MOST_COPIED_BYTES", 1)
    sizes = jpype.JLong[:](list(reversed(shape)))
    element = ij.java("net.imglib2.type.numeric.integer.UnsignedShortType")()
    factory = {
        "planar": "net.imglib2.img.planar.PlanarImgFactory",
        "cell": "net.imglib2.img.cell.CellImgFactory",
    }.get(kind, "net.imglib2.img.array.ArrayImgFactory")
    cells = ([jpype.JInt(2)],) if kind == "cell" else ()
    image = fill(ij.java(factory)(element, *cells).create(sizes))
    expected = filled(shape)
    if kind == "view":
        views = ij.java("net.imglib2.view.Views")
        image = views.translate(views.invertAxis(image, 0), jpype.JLong[:]([7] * len(shape)))
        expected = expected[..., ::-1]
    stack = ij.to_xarray(image)
    assert (stack.chunks is not None) == (lazy and kind != "array")
    np.testing.assert_array_equal(stack.to_numpy().reshape(shape), expected)


def test_a_stack_beyond_one_buffer_is_shared_plane_by_plane(ij, monkeypatch):
    monkeypatch.setattr(imglib2, "ONE_BUFFER_BYTES", 100)
    values = random_values("float32", (2, 3, 4, 5))
    image = ij.to_imglib2(make_stack(values, (1, 1, 1)))
    assert image.getClass().getSimpleName() == "PlanarImg"
    access = image.randomAccess()
    access.setPosition(jpype.JInt[:]([4, 3, 2, 1]))
    assert access.get().getRealDouble() == values[1, 2, 3, 4]
    access.get().setReal(0.25)
    assert values[1, 2, 3, 4] == 0.25
    np.testing.assert_array_equal(ij.to_xarray(image), values)


def test_a_slice_beyond_one_buffer(ij, monkeypatch):
    monkeypatch.setattr(pixels, "ONE_BUFFER_BYTES", 50)
    monkeypatch.setattr(imglib2, "ONE_BUFFER_BYTES", 50)
    values = random_values("uint16", (2, 9, 7))
    stack = make_stack(values, (1, 1, 1))
    np.testing.assert_array_equal(ij.to_xarray(ij.to_imageplus(stack)), values)
    image = ij.java("net.imglib2.img.array.ArrayImgs").unsignedShorts(
        jpype.JArray(jpype.JShort)(values.astype(np.int16).ravel()), jpype.JLong[:]([7, 9, 2])
    )
    np.testing.assert_array_equal(ij.to_xarray(image), values)
    with pytest.raises(ParameterError, match=r"must have slices below 2 GB.*9 x 7 uint16"):
        ij.to_imglib2(stack)


# Datasets.


@pytest.mark.fiji
@pytest.mark.parametrize("order", ["XYZC", "CXYZ", "YXC", "XY"])
def test_a_dataset_keeps_its_axes_and_calibration(ij, order):
    names = {"X": "X", "Y": "Y", "Z": "Z", "C": "CHANNEL"}
    sizes = {"X": 5, "Y": 4, "Z": 3, "C": 2}
    steps = {"X": 5.0, "Y": 6.0, "Z": 20.0, "C": 1.0}
    axes, linear = ij.java("net.imagej.axis.Axes"), ij.java("net.imagej.axis.DefaultLinearAxis")
    image = fill(
        ij.java("net.imglib2.img.array.ArrayImgs").unsignedShorts(
            jpype.JLong[:]([sizes[axis] for axis in order])
        )
    )
    named = ij.java("net.imagej.ImgPlus")(
        image,
        "of ImageJ2",
        *(linear(getattr(axes, names[a]), "nm", steps[a], 2 * steps[a]) for a in order),
    )
    stack = ij.to_xarray(dataset_service(ij).create(named))
    assert stack.name == "of ImageJ2"
    slow = [axis for axis in "CZYX" if axis in order]
    expected = filled(tuple(sizes[axis] for axis in reversed(order)))
    expected = expected.transpose([order[::-1].index(axis) for axis in slow])
    np.testing.assert_array_equal(stack.to_numpy().reshape(expected.shape), expected)
    assert spacing(stack)[1:] == (6, 5)
    assert (float(stack.y[0]), float(stack.x[0])) == (12, 10)


@pytest.mark.fiji
def test_a_dataset_with_time_is_refused(ij):
    axes = [getattr(ij.java("net.imagej.axis.Axes"), name) for name in ("X", "Y", "TIME")]
    made = dataset_service(ij).create(jpype.JLong[:]([5, 4, 3]), "t", axes, 8, False, False)
    with pytest.raises(ParameterError, match=r"axes X, Y, Z and Channel.*3 of Time"):
        ij.to_xarray(made)


@pytest.mark.fiji
def test_a_stack_becomes_a_dataset_and_comes_back(ij):
    values = random_values("uint8", (2, 3, 4, 5))
    stack = make_stack(values, (20, 10, 5), name="s", origin_nm=(40, 30, 5))
    back = ij.to_xarray(dataset_service(ij).create(dataset.to_imgplus(stack)))
    np.testing.assert_array_equal(back, values)
    for axis in "zyx":
        np.testing.assert_allclose(back[axis], stack[axis])


def dataset_service(ij):
    context = ij.java("ij.IJ").runPlugIn("org.scijava.Context", "")
    return context.getService(ij.java("net.imagej.DatasetService"))
