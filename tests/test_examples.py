"""The example macros and scripts, each run as a user runs it: on real files, in a real ImageJ."""

import csv
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import fiji_poreseg as fp

ROOT = Path(__file__).parent.parent
MACROS, SCRIPTS = ROOT / "macros", ROOT / "scripts"
SLICES, SIZE, MARGIN = 12, 64, 12


@pytest.fixture(scope="module")
def wide():
    """A phantom with a margin, into which slices can be shifted."""
    size = SIZE + 2 * MARGIN
    return fp.phantom(slices=SLICES, size=size, feature_size_nm=150, attenuation_nm=150)


@pytest.fixture(scope="module")
def shifts():
    """How far each slice is shifted, (y, x) in pixels: a drift, and a jump between neighbours."""
    steps = np.random.default_rng(0).integers(-3, 4, (SLICES, 2))
    steps[0] = 0
    return np.clip(steps.cumsum(axis=0), -MARGIN, MARGIN)


def as_taken(wide, shifts, dtype):
    """The phantom as a microscope might take it: shifted, with curtains, ever brighter."""
    rng = np.random.default_rng(1)
    raw = np.empty((SLICES, SIZE, SIZE))
    for index, (y, x) in enumerate(shifts):
        plane = wide.stack.to_numpy()[index]
        raw[index] = plane[MARGIN - y : MARGIN - y + SIZE, MARGIN - x : MARGIN - x + SIZE]
    curtains = 15 * (rng.random((SLICES, 1, SIZE)) > 0.8)
    raw = raw * np.linspace(0.55, 0.9, SLICES)[:, None, None] + curtains
    values = raw.clip(0, 255) * (200 if dtype == np.uint16 else 1)
    return fp.make_stack(
        values.astype(dtype), (20, 10, 10), slice_labels=[f"cut {n}" for n in range(SLICES)]
    )


def prepare(ij, source, output, *options):
    ij.run_macro(MACROS / "prepare.ijm", "|".join([str(source), str(output), *options]))


def found_shifts(prepared):
    """By how much each slice was shifted, (y, x), read off the empty pixels."""
    found = []
    for plane in prepared.to_numpy():
        rows, columns = (np.flatnonzero(plane.any(axis=axis)) for axis in (1, 0))
        found.append(
            [kept[0] if kept[0] else kept[-1] + 1 - SIZE for kept in (rows, columns)],
        )
    return np.array(found)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_prepare_brings_shifted_slices_back(ij, tmp_path, wide, shifts, capfd, dtype):
    raw = as_taken(wide, shifts, dtype)
    fp.write(tmp_path / "raw.tif", raw)
    prepare(ij, tmp_path / "raw.tif", tmp_path / "a stack.tif", "align=translation")
    made = fp.read(tmp_path / "a stack.tif")

    assert np.ptp(shifts, axis=0).min() >= 6
    assert np.ptp(found_shifts(made) + shifts, axis=0).max() <= 1
    assert "nodata=0" in capfd.readouterr().out
    assert made.dtype == dtype
    assert made.attrs["spacing_nm"] == pytest.approx((20, 10, 10))
    assert made.attrs["source_unit"] == "nm"
    assert list(made.slice_label.values) == [f"cut {n}" for n in range(SLICES)]
    assert spread(made) < spread(raw) / 2
    assert streaks(made) < streaks(raw) / 2


@pytest.mark.fiji
def test_prepare_uses_the_plugins_of_a_fiji(ij, tmp_path, wide, shifts, capfd):
    raw = as_taken(wide, shifts, np.uint8)
    fp.write(tmp_path / "raw.tif", raw)
    prepare(ij, tmp_path / "raw.tif", tmp_path / "stack.tif", "contrast=yes")
    made = fp.read(tmp_path / "stack.tif")
    printed = capfd.readouterr().out
    assert "Contrast: local, by CLAHE" in printed
    assert "Alignment: by Linear Stack Alignment with SIFT" in printed
    assert made.shape == raw.shape
    assert made.attrs["spacing_nm"] == pytest.approx((20, 10, 10))
    assert list(made.slice_label.values) == list(raw.slice_label.values)


def test_prepare_without_sift_says_so_and_aligns_all_the_same(ij, tmp_path, wide, capfd):
    without(ij, "Linear Stack Alignment with SIFT")
    fp.write(tmp_path / "raw.tif", wide.stack)
    prepare(ij, tmp_path / "raw.tif", tmp_path / "stack.tif")
    assert "No Linear Stack Alignment with SIFT here" in capfd.readouterr().out
    with pytest.raises(fp.MacroError, match="align=sift needs a Fiji with that plugin"):
        prepare(ij, tmp_path / "raw.tif", tmp_path / "stack.tif", "align=sift")


def without(ij, command):
    """Skip a test of what ImageJ alone does where a Fiji has the plugin."""
    if ij.java("ij.Menus").getCommands().get(command) is not None:
        # A user's Fiji keeps its plugins, so what is said without one cannot be seen in it.
        pytest.skip(f"this ImageJ has {command}")


def spread(stack):
    """How much the slices' mean grey varies, relative, over pixels that hold data."""
    means = [plane[plane > 0].mean() for plane in stack.to_numpy()]
    return np.std(means) / np.mean(means)


def streaks(stack):
    """How much neighbouring columns differ in the middle of a slice, relative."""
    planes = stack.to_numpy().astype(float)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    return np.mean([np.diff(plane.mean(axis=0)).std() / plane.mean() for plane in planes])


def test_prepare_leaves_greys_alone_where_only_alignment_is_asked_for(ij, tmp_path, wide, shifts):
    raw = as_taken(wide, shifts, np.uint8)
    fp.write(tmp_path / "raw.tif", raw)
    options = ("destripe=no", "brightness=no", "align=translation", "max_shift=8")
    prepare(ij, tmp_path / "raw.tif", tmp_path / "stack.tif", *options)
    made = fp.read(tmp_path / "stack.tif")
    for plane, before, (y, x) in zip(made.to_numpy(), raw, found_shifts(made), strict=True):
        moved = np.roll(np.maximum(before.to_numpy(), 1), (y, x), axis=(0, 1))
        np.testing.assert_array_equal(plane[plane > 0], moved[plane > 0])


def test_prepare_takes_a_folder_of_slices_and_what_is_asked_for(ij, tmp_path, wide, capfd):
    folder = tmp_path / "raw slices"
    folder.mkdir()
    for index, plane in enumerate(wide.stack.to_numpy()):
        fp.write(folder / f"cut{index + 1}.tif", fp.make_stack(plane[None]))
    options = ("voxel_size_nm=25,5,4", "crop=8,4,60,50", "contrast=yes", "align=no")
    prepare(ij, folder, tmp_path / "stack.tif", *options)
    made = fp.read(tmp_path / "stack.tif")
    assert made.shape == (SLICES, 50, 60)
    assert made.attrs["spacing_nm"] == pytest.approx((25, 5, 4))
    # In the order of their numbers: cut2 comes before cut10.
    assert list(made.slice_label.values) == [f"cut{n + 1}.tif" for n in range(SLICES)]
    greys = made.to_numpy().reshape(SLICES, -1).astype(float)
    before = wide.stack.to_numpy()[:, 4:54, 8:68].reshape(SLICES, -1)
    assert all(np.corrcoef(a, b)[0, 1] > 0.9 for a, b in zip(greys, before, strict=True))
    printed = capfd.readouterr().out
    assert "Contrast: " in printed
    assert "Alignment: none" in printed
    assert "nodata" not in printed


def test_prepare_equalises_each_slice_by_its_own_histogram(ij, tmp_path, wide, shifts, capfd):
    without(ij, "Enhance Local Contrast (CLAHE)")
    raw = as_taken(wide, shifts, np.uint8)
    fp.write(tmp_path / "raw.tif", raw)
    options = ("destripe=no", "brightness=no", "contrast=yes", "align=no")
    prepare(ij, tmp_path / "raw.tif", tmp_path / "stack.tif", *options)
    assert spread(fp.read(tmp_path / "stack.tif")) < spread(raw) / 2
    assert "Contrast: not local" in capfd.readouterr().out


def test_prepare_cuts_off_a_black_margin(ij, tmp_path, wide):
    values = np.zeros((SLICES, 80, 90), np.uint8)
    values[:, 10:70, 5:75] = np.maximum(wide.stack.to_numpy()[:, :60, :70], 1)
    fp.write(tmp_path / "raw.tif", fp.make_stack(values, (10, 10, 10)))
    options = ("crop=border", "destripe=no", "brightness=no", "align=no")
    prepare(ij, tmp_path / "raw.tif", tmp_path / "stack.tif", *options)
    np.testing.assert_array_equal(fp.read(tmp_path / "stack.tif"), values[:, 10:70, 5:75])


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("aling=no", "An option must be key=value with one of the keys voxel_size_nm, crop, "),
        ("sift", "An option must be key=value"),
        ("align=yes", "align must be one of auto, sift, translation, no, but is: yes"),
        ("destripe=both", "destripe must be one of vertical, horizontal, no, but is: both"),
        ("brightness=", "brightness must be one of yes, no, but is:"),
        ("contrast=1", "contrast must be one of no, yes, but is: 1"),
        ("voxel_size_nm=10,10", "voxel_size_nm must be 3 numbers"),
        ("voxel_size_nm=10,a,10", "voxel_size_nm must be 3 numbers"),
        ("voxel_size_nm=10,0,10", "voxel_size_nm must be above 0"),
        ("crop=0,0,999,10", "crop must lie inside the slices of 88 x 88 pixels"),
        ("max_shift=0", "max_shift must be a whole number from 1, but is: 0"),
    ],
)
def test_prepare_refuses_what_it_does_not_understand(ij, tmp_path, wide, option, said):
    fp.write(tmp_path / "raw.tif", wide.stack)
    (tmp_path / "stack.tif").write_bytes(b"a result of yesterday")
    with pytest.raises(fp.MacroError) as caught:
        prepare(ij, tmp_path / "raw.tif", tmp_path / "stack.tif", option)
    assert said in str(caught.value)
    assert (tmp_path / "stack.tif").read_bytes() == b"a result of yesterday"


@pytest.mark.parametrize(
    ("source", "output", "said"),
    [
        ("none.tif", "stack.tif", "INPUT must exist"),
        ("raw.tif", "stack.png", "OUTPUT must end in .tif"),
        ("raw.tif", "raw.tif", "OUTPUT must not be INPUT"),
        ("raw.tif", "none/stack.tif", "OUTPUT must be in a folder that exists"),
        ("grey.tif", "stack.tif", "8 or 16 bit"),
        ("single.tif", "stack.tif", "at least two slices"),
    ],
)
def test_prepare_refuses_images_that_it_cannot_take(ij, tmp_path, wide, source, output, said):
    fp.write(tmp_path / "raw.tif", wide.stack)
    fp.write(tmp_path / "grey.tif", wide.stack.astype(np.float32))
    fp.write(tmp_path / "single.tif", wide.stack[:1])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(fp.MacroError, match=said):
        prepare(ij, tmp_path / source, tmp_path / output)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.fixture
def batch(tmp_path, wide):
    """A folder of two stacks and what is cut off in the middle of a third, and a forest."""
    folder = tmp_path / "my stacks"
    folder.mkdir()
    fp.write(folder / "a.tif", wide.stack[:6])
    fp.write(folder / "c, second.tif", wide.stack[6:])
    content = (folder / "a.tif").read_bytes()
    (folder / "b.tif").write_bytes(content[: len(content) // 3])
    (folder / "notes.txt").write_text("not a stack")
    model = tmp_path / "forest.poreseg"
    forest = fp.train_forest(wide.stack, wide.truth, indices=[0, 8], trees=4, model=model)
    expected = {
        path: fp.segment(folder / path, model=forest).segmentation
        for path in ("a.tif", "c, second.tif")
    }
    return folder, model, expected


def run_script(name, *arguments):
    return subprocess.run(
        [sys.executable, SCRIPTS / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def table(path):
    with path.open(newline="", encoding="utf-8") as file:
        return {row["stack"]: row for row in csv.DictReader(file)}


def check_done(output, expected):
    rows = table(output / "porosity.csv")
    for name, segmentation in expected.items():
        made = fp.read(output / f"{Path(name).stem}-segmentation.tif")
        np.testing.assert_array_equal(made, segmentation)
        porosity = fp.measure(segmentation).porosity
        assert float(rows[name]["porosity"]) == pytest.approx(porosity, abs=1e-6)
        assert int(rows[name]["pixels"]) == segmentation.size
    return rows


def test_batch_script_goes_on_after_a_bad_file_and_reports_it(batch, tmp_path):
    folder, model, expected = batch
    output = tmp_path / "new" / "results"
    run = run_script("batch.py", folder, "--model", model, "--output", output)
    assert run.returncode == 1, run.stderr
    rows = check_done(output, expected)
    assert list(rows) == ["a.tif", "b.tif", "c, second.tif"]
    assert rows["b.tif"]["porosity"] == ""
    assert "`image` must" in rows["b.tif"]["error"]
    assert "1 of 3 stacks could not be segmented:\n  b.tif: `image` must" in run.stderr
    assert not (output / "b-segmentation.tif").exists()


def test_batch_script_keeps_what_is_there_only_if_told(batch, tmp_path):
    folder, model, expected = batch
    (folder / "b.tif").unlink()
    output = tmp_path / "results"
    output.mkdir()
    older = expected["a.tif"].copy(data=np.full_like(expected["a.tif"], 2))
    fp.write(output / "a-segmentation.tif", older)
    arguments = (folder, "--model", model, "--output", output)
    assert run_script("batch.py", *arguments, "--skip-existing").returncode == 0
    check_done(output, expected | {"a.tif": older})
    assert run_script("batch.py", *arguments).returncode == 0
    check_done(output, expected)


def test_batch_script_says_what_is_wrong_with_its_arguments(batch, tmp_path):
    folder, model, _ = batch
    empty = tmp_path / "empty"
    empty.mkdir()
    run = run_script("batch.py", empty, "--model", model, "--output", tmp_path / "out")
    assert (run.returncode, "FOLDER must hold TIFFs" in run.stderr) == (2, True)
    run = run_script("batch.py", folder, "--model", "none.poreseg", "--output", tmp_path / "out")
    assert (run.returncode, "`model` must" in run.stderr) == (2, True)
    assert run_script("batch.py", "--help").stdout.startswith("usage: batch.py")


def test_batch_macro_segments_a_folder_and_tabulates_the_porosity(ij, batch, tmp_path):
    folder, model, expected = batch
    output = tmp_path / "results"
    argument = f"{folder}|{model}|{output}"
    with pytest.raises(fp.ParameterError, match="`image` must"):
        ij.run_macro(MACROS / "batch.ijm", argument)
    assert not (output / "porosity.csv").exists()
    ij.close()
    (folder / "b.tif").unlink()
    ij.run_macro(MACROS / "batch.ijm", f"{argument}|voxel_size_nm=10,10,10")
    check_done(output, expected)


def test_the_script_goes_the_whole_way(tmp_path, wide):
    part = slice(20, 68)
    stack, truth = wide.stack[:, part, part], wide.truth[:, part, part]
    fp.write(tmp_path / "stack.tif", stack)
    fp.write(tmp_path / "truth.tif", truth)
    every = np.arange(SLICES)[:, None, None]
    for name, step in (("labels", 6), ("corrections", 3)):
        values = np.where(every % step == 0, truth.to_numpy(), 0)
        fp.write(tmp_path / f"{name}.tif", fp.make_labels(values, stack))
    run = run_script("segment_pores.py", tmp_path, "--count", 4, "--steps", 5)
    assert run.returncode == 0, run.stderr
    assert "forest: accuracy 0." in run.stdout
    assert "ResUNet: accuracy 0." in run.stdout
    assert "on slices 1, 8, 11" in run.stdout
    made = fp.read(tmp_path / "resunet-segmentation.tif")
    assert made.shape == stack.shape
    assert made.attrs["spacing_nm"] == pytest.approx((10, 10, 10))
    assert set(np.unique(made)) <= {1, 2}
    assert f"Porosity: {fp.measure(made).porosity:.4f}" in run.stdout
    probability = fp.read(tmp_path / "resunet-probability.tif")
    np.testing.assert_array_equal(made == 2, probability > 0.5)
    assert fp.load(tmp_path / "resunet.poreseg").card.training_indices == (0, 3, 6, 9)


def outputs(notebook, key):
    """What the cells show of a kind, such as ``text/plain`` or ``image/png``."""
    return [
        output["data"][key]
        for cell in notebook.cells
        for output in cell.get("outputs", ())
        if key in output.get("data", {})
    ]


def test_the_notebook_runs_with_other_parameters(tmp_path):
    notebook = nbformat.read(SCRIPTS / "segment_pores.ipynb", as_version=4)
    (parameters,) = (
        cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())
    )
    parameters.source += "\nslices, size, labelled, corrected, steps = 12, 48, 2, 4, 5"
    NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    assert "accuracy" in "".join(outputs(notebook, "text/html"))
    assert len(outputs(notebook, "image/png")) == 1
    made = fp.read(tmp_path / "poreseg-notebook" / "segmentation.tif")
    assert made.shape == (12, 48, 48)
    assert made.attrs["spacing_nm"] == pytest.approx((10, 10, 10))
    model = fp.load(tmp_path / "poreseg-notebook" / "resunet.poreseg")
    assert model.card.training_indices == (0, 3, 6, 9)


def test_the_notebook_is_kept_with_its_results_and_nothing_of_a_machine():
    path = SCRIPTS / "segment_pores.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert len(outputs(notebook, "image/png")) == 1
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert kinds <= {"execute_result", "display_data"}
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert notebook.metadata.kernelspec.name == "python3"
    assert str(Path.home()) not in path.read_text(encoding="utf-8")
    assert path.stat().st_size < 200_000
