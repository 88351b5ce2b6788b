"""ImageJ's own window on a virtual display, used as a person would, in processes of its own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fiji_poreseg as fp

ROOT = Path(__file__).parent.parent
USER = Path(__file__).parent / "bridge_checks" / "window_user.py"


def run_program(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        cwd=cwd,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
    )


def use_window(scenario, folder, display):
    """What somebody saw who did as the scenario says, and then quit ImageJ."""
    done = run_program(USER, scenario, folder, cwd=folder, DISPLAY=display)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "seen.json").read_text())


def contents(folder):
    kinds = {".tif", ".json", ".poreseg"}
    # A study's run.json says where its images lie, and how long its trials took.
    found = (path for path in folder.rglob("*") if path.suffix in kinds and path.name != "run.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, display):
    """A folder in which every command was recorded, and what was seen there."""
    folder = tmp_path_factory.mktemp("recorded")
    made = fp.phantom(slices=12, size=48, feature_size_nm=150, attenuation_nm=150, seed=1)
    fp.write(folder / "my stack.tif", made.stack)
    return folder, use_window("record", folder, display)


def test_the_menu_has_every_command(recorded):
    _, seen = recorded
    assert seen["menu"] == [*seen["titles"], "PoreSeg Label"]


def test_every_command_is_recorded_once_and_in_order(recorded):
    folder, seen = recorded
    lines = (folder / "recorded.ijm").read_text(encoding="utf-8").splitlines()
    run = [found[1] for line in lines if (found := re.match(r'run\("(PoreSeg .*?)"', line))]
    assert set(run) == set(seen["titles"])
    assert run == seen["run"]


def test_only_what_differs_is_recorded(recorded):
    folder, _ = recorded
    lines = (folder / "recorded.ijm").read_text(encoding="utf-8").splitlines()
    (forest,) = (line for line in lines if "Train Forest" in line)
    assert forest == (
        'run("PoreSeg Train Forest", "labels=phantom-truth '
        f'model={folder}/forest.poreseg indices=[0, 4,8] trees=4");'
    )
    (select,) = (line for line in lines if "Select Slices" in line)
    assert select == (
        'run("PoreSeg Select Slices", "image=[my stack.tif] strategy=initial count=3");'
    )
    # It was typed as resunet.tif.
    assert f'run("PoreSeg Segment", "image=phantom output={folder}/resunet.tif");' in lines


def test_the_recorded_macro_makes_the_same_files_without_a_display(recorded, tmp_path):
    folder, _ = recorded
    there = tmp_path / "again"
    there.mkdir()
    (there / "my stack.tif").write_bytes((folder / "my stack.tif").read_bytes())
    macro = (folder / "recorded.ijm").read_text(encoding="utf-8")
    (tmp_path / "recorded.ijm").write_text(macro.replace(str(folder), str(there)), encoding="utf-8")
    arguments = ("-m", "fiji_poreseg.cli", "macro", tmp_path / "recorded.ijm")
    done = run_program(*arguments, cwd=tmp_path, DISPLAY="")
    assert done.returncode == 0, done.stderr
    (folder / "seen.json").unlink()
    assert contents(there) == contents(folder)


def test_a_training_that_is_canceled_leaves_nothing(recorded):
    folder, seen = recorded
    assert seen["canceled"]["status"] == "PoreSeg Train ResUNet canceled"
    assert seen["canceled"]["seconds"] < 5
    assert seen["recorded_after"] == ""
    assert not list(folder.glob("*unfinished*"))


@pytest.fixture(scope="module")
def faults(tmp_path_factory, display):
    """A folder in which all sorts of things went wrong, and what was seen there."""
    folder = tmp_path_factory.mktemp("faults")
    return folder, use_window("faults", folder, display)


def test_a_bad_value_is_shown_and_the_dialog_comes_back_as_typed(faults):
    _, seen = faults
    assert seen["bad value"] == (
        "`trees` must be a whole number from 1 to 10000, but is: many. Leave it out for 100. "
        "It is: number of trees."
    )
    assert seen["typed"] == ["many", "0,40", "truth"]


def test_esc_leaves_no_file_and_no_image(faults):
    _, seen = faults
    for which, title in (("canceled", "Segment"), ("canceled too", "Train Forest")):
        assert seen[which]["status"] == f"PoreSeg {title} canceled"
        assert seen[which]["images"] == ["truth", "stack"]
        assert seen[which]["seconds"] < 5
    assert seen["files"] == ["forest.poreseg"]
    assert seen["recorded after faults"] == ""


def test_a_second_command_is_refused_while_one_runs(faults):
    _, seen = faults
    assert seen["busy"].startswith("PoreSeg Train Forest is running. Wait until")


def test_a_macro_in_the_window_stops_at_its_fault(faults):
    _, seen = faults
    assert seen["macro"].startswith("PoreSeg Segment: `modle` is not a parameter of")
    assert "Did you mean model?" in seen["macro"]
    assert "in line 1" in seen["macro"]
    assert "goes on" not in seen["log"]


def test_a_macro_in_the_window_stops_at_esc(faults):
    _, seen = faults
    assert "\nPoreSeg Segment: canceled\n" in seen["log"]
    assert "after Esc" not in seen["log"]
    assert seen["images"] == ["truth", "stack", "stack-probability", "stack-segmentation"]


def test_a_bug_is_shown_and_its_traceback_logged(faults):
    _, seen = faults
    assert seen["bug"] == "KeyError: 'forgotten'"
    assert 'raise KeyError("forgotten")' in seen["log"]


def test_warnings_stand_in_the_log(faults):
    _, seen = faults
    assert "\nNote: The model was trained on voxels of 10 x 10 x 10 nm" in seen["log"]


def test_quitting_under_a_command_leaves_no_file(faults):
    folder, _ = faults
    assert {path.name for path in folder.iterdir()} == {"forest.poreseg", "seen.json"}


def test_labels_are_drawn_and_answered(tmp_path, display, ij):
    seen = use_window("label", tmp_path, display)
    assert "1: label as pore" in seen["panel"]
    assert seen["labels"] == ["pore", "pore", "solid", "solid"]
    assert seen["right"] > 0.9
    assert seen["right on another slice"] > 0.9
    assert "Learnt from" in seen["status"]
    assert seen["kept"] == seen["left"] == 3
    assert seen["listeners"] == ["ij.ImageJ"]
    # What the forest answered is no label.
    assert "Trained on slices 4" in seen["log"]
    # Two labels and the answer, on all channels of the third slice.
    assert seen["hyperstack"] == [3, 3, 3]
    assert "needs an image that is open" in seen["no image"]
    with pytest.raises(fp.EngineError, match="needs ImageJ's window: fiji-poreseg gui"):
        ij.run_macro('run("PoreSeg Label");')


@pytest.fixture(scope="module")
def haste(tmp_path_factory, display):
    return use_window("haste", tmp_path_factory.mktemp("haste"), display)


def test_no_label_is_lost_while_an_answer_comes(haste):
    assert haste["lost"] == 0
    assert haste["answer is lowest"]
    assert haste["order is kept"]
    assert haste["settings are kept"]


def test_an_answer_that_is_hidden_before_it_comes_does_not_show(haste):
    assert haste["hidden"]


def test_the_key_says_what_a_selection_is_and_not_its_group(haste):
    assert haste["groups"]["labels"] == [0, 2]
    assert haste["groups"]["left"] == [60]


def test_what_is_like_an_erased_label_on_another_slice_stays(haste):
    assert haste["left"] == [5]


def test_ctrl_c_in_the_terminal_ends_it(tmp_path, display):
    done = run_program(USER, "interrupt", tmp_path, cwd=tmp_path, DISPLAY=display)
    assert (done.returncode, done.stderr) == (130, "fiji-poreseg: interrupted\n")


# Elsewhere there is nothing that could be missing: no variable names the display.
@pytest.mark.skipif(sys.platform != "linux", reason="macOS and Windows always have a display")
@pytest.mark.parametrize("missing", ["", ":6543"])
def test_without_a_display_one_line_says_what_to_do(tmp_path, missing):
    done = run_program("-m", "fiji_poreseg.cli", "gui", cwd=tmp_path, DISPLAY=missing)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("fiji-poreseg: ImageJ's window needs a display (")
    assert missing in line
    assert "fiji-poreseg macro FILE.ijm" in line
