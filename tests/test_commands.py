"""A command is defined once: what every surface makes of it."""

import argparse
import json
import re
import shlex
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest

import fiji_poreseg as fp
from fiji_poreseg.cli import main
from fiji_poreseg.commands import arguments
from fiji_poreseg.commands.catalog import CATALOG
from fiji_poreseg.commands.replay import replay
from fiji_poreseg.commands.spec import Catalog, Param, Presentation, Role, show

README = Path(__file__).parent.parent / "README.md"


def made_command():
    catalog = Catalog()

    @catalog.command("PoreSeg Try", present=lambda result: Presentation())
    def attempt(
        image: Annotated[object, Param("a stack", role=Role.IMAGE)],
        *,
        count: Annotated[int, Param("how many", ge=1, le=9)] = 3,
        width_nm: Annotated[float | None, Param("how wide", unit="nm", ge=0)] = None,
        mode: Annotated[str, Param("how", choices=("fast", "slow"))] = "fast",
        indices: Annotated[tuple[int, ...] | None, Param("which", ge=0)] = None,
        spacing: Annotated[tuple[float, float, float], Param("voxels")] = (1.0, 1.0, 1.0),
        dry: Annotated[bool, Param("only look")] = False,
        output: Annotated[Path | None, Param("where to", role=Role.OUTPUT)] = None,
    ) -> dict:
        """Try."""
        return {
            "image": image, "count": count, "width_nm": width_nm, "mode": mode,
            "indices": indices, "spacing": spacing, "dry": dry, "output": output,
        }  # fmt: skip

    return attempt


def test_text_and_python_values_bind_to_the_same():
    command = made_command()
    from_text = command.run(
        {"image": "a", "count": "4", "width_nm": "2.5", "mode": "slow", "indices": "1, 2,3",
         "spacing": "20,10,10", "dry": "true", "output": "x.tif"}
    )  # fmt: skip
    from_python = command(
        "a", count=np.int64(4), width_nm=2.5, mode="slow", indices=[1, 2, 3],
        spacing=(20, 10, 10), dry=True, output=Path("x.tif"),
    )  # fmt: skip
    assert from_text == from_python
    assert from_text["indices"] == (1, 2, 3)
    assert command("a")["count"] == 3


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"count": "0"}, "`count` must be a whole number from 1 to 9, but is: 0."),
        ({"count": "4.5"}, "`count` must be a whole number from 1 to 9, but is: 4.5."),
        ({"count": True}, "`count` must be a whole number from 1 to 9, but is: True."),
        ({"width_nm": "wide"}, "`width_nm` must be a number of at least 0 (nm), but is: wide."),
        ({"width_nm": float("nan")}, "`width_nm` must be a number of at least 0 (nm)"),
        ({"mode": "medium"}, "`mode` must be fast or slow, but is: medium. Leave it out for fast."),
        ({"indices": "1,-2"}, "`indices` must be whole numbers with commas between them"),
        ({"spacing": "1,2"}, "`spacing` must be three numbers with commas between them"),
        ({"dry": "maybe"}, "`dry` must be true or false, but is: maybe."),
        ({"output": ""}, None),
        ({"cuont": "4"}, "`cuont` is not a parameter of PoreSeg Try, but is: cuont. "
                         "Did you mean count?"),
    ],
)  # fmt: skip
def test_a_bad_value_is_refused_by_name_rule_value_and_next_step(raw, said):
    command = made_command()
    if said is None:
        assert command.run({"image": "a", **raw})["output"] is None
        return
    with pytest.raises(fp.ParameterError) as caught:
        command.run({"image": "a", **raw})
    assert str(caught.value).startswith(said)
    assert str(caught.value).endswith(".")


def test_a_missing_value_is_named():
    with pytest.raises(fp.ParameterError, match=r"`image` is needed by PoreSeg Try.*image=…"):
        made_command().run({})


def test_names_that_imagej_would_mix_up_cannot_be_defined():
    def bad(
        *, method: Annotated[str, Param("a")] = "", smooth_method: Annotated[str, Param("b")] = ""
    ) -> None:
        """Bad."""

    with pytest.raises(TypeError, match="method is a suffix of smooth_method"):
        Catalog().command("Bad", present=lambda result: Presentation())(bad)


@pytest.mark.parametrize("command", CATALOG.values(), ids=lambda command: command.name)
class TestEveryCommand:
    def test_refuses_every_value_out_of_range(self, command):
        required = {p.name: "x" for p in command.parameters.values() if p.required}
        tried = 0
        for parameter in command.parameters.values():
            for bound, beyond in ((parameter.info.ge, -1), (parameter.info.le, 1)):
                if bound is not None:
                    tried += 1
                    with pytest.raises(fp.ParameterError, match=f"`{parameter.name}` must be"):
                        command.bind({**required, parameter.name: str(int(bound + beyond))})
            if parameter.info.choices:
                tried += 1
                with pytest.raises(fp.ParameterError, match=f"`{parameter.name}` must be"):
                    command.bind({**required, parameter.name: "no such choice"})
        assert tried or command.name in ("correct", "measure")

    def test_documents_every_parameter(self, command):
        text = command.__doc__
        entries = re.findall(r"^    ([a-z_, ]+)$", text, re.MULTILINE)
        documented = {name for entry in entries for name in entry.split(", ")}
        assert documented >= command.parameters.keys()
        for section in ("Parameters\n", "Returns\n", "Raises\n"):
            assert section in text

    def test_is_listed_in_the_readme_on_all_surfaces(self, command):
        readme = README.read_text(encoding="utf-8")
        assert f"`{command.title}`" in readme
        assert f"`{command.name.replace('_', '-')}" in readme
        assert f"`{command.name}`" in readme

    def test_has_help_on_the_command_line(self, command, capsys):
        with pytest.raises(SystemExit) as left:
            main([command.name.replace("_", "-"), "--help"])
        assert left.value.code == 0
        shown = " ".join(capsys.readouterr().out.split())
        for parameter in command.parameters.values():
            assert parameter.positional or parameter.option in shown


def test_the_command_line_runs_a_command_from_files_to_files(tmp_path, capsys):
    folder = tmp_path / "a folder"
    assert main(["phantom", str(folder), "--slices", "12", "--size", "32"]) == 0
    assert "porosity 0.8" in capsys.readouterr().out
    assert main(["select-slices", str(folder / "stack.tif"), "--count", "5"]) == 0
    assert capsys.readouterr().out == "0,2,4,7,9\n"
    truth, scores = str(folder / "truth.tif"), folder / "scores.json"
    assert main(["evaluate", truth, truth, "--json", str(scores)]) == 0
    assert "accuracy 1.0000" in capsys.readouterr().out
    assert json.loads(scores.read_text())["mean"]["accuracy"] == 1


def test_the_command_line_says_one_line_and_fails(tmp_path, capsys):
    assert main(["select-slices", str(tmp_path / "none.tif"), "--count", "5"]) == 1
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert "none.tif" in said
    assert "Traceback" not in said


def test_a_command_line_can_be_turned_into_a_macro_line(capsys):
    line = ["segment", "my stack.tif", "--model", "m.poreseg", "--output", "s.tif", "--as-macro"]
    assert main(line) == 0
    assert capsys.readouterr().out == (
        'run("PoreSeg Segment", "image=[my stack.tif] model=m.poreseg output=s.tif");\n'
    )


@pytest.mark.parametrize("command", CATALOG.values(), ids=lambda command: command.name)
def test_what_a_recorder_writes_of_empty_fields_is_as_if_left_out(command):
    for parameter in command.parameters.values():
        if parameter.info.role is Role.VALUE and not parameter.required:
            text = "" if parameter.default is None else show(parameter.default)
            assert parameter.coerce(text) == parameter.default


def test_the_lines_that_run_it_again_take_the_same_values():
    given = {"voxel_size_nm": (9.765625, 4.8828125, 4.8828125), "nodata": -3.4028234663852886e38}
    command = CATALOG["segment"]
    written = replay(command, command.bind({"image": "/a/s[1.tif", "model": "pretrained", **given}))
    parser = argparse.ArgumentParser()
    arguments.add_commands(parser.add_subparsers(), CATALOG)
    line = [*shlex.split(written["command_line"])[1:], "--output", "o.tif"]
    read = command.bind(arguments.given(parser.parse_args(line)))
    assert {name: read[name] for name in given} == given
    # No macro can name this file, which is no reason not to say the other line.
    assert written["macro_line"].startswith("// No macro can: `image` must hold square brackets")


@pytest.mark.parametrize(("option", "value"), [("--steps", "0"), ("--slices", "5")])
def test_the_demonstration_refuses_at_once(option, value, tmp_path, capsys):
    assert main(["demo", str(tmp_path / "demo"), option, value]) == 1
    assert f"`{option[2:]}` must be" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_none_counts_as_left_out():
    with pytest.raises(fp.ParameterError, match="`model` is needed by PoreSeg Segment"):
        fp.segment(np.zeros((1, 1, 1), np.uint8), model=None)


def test_two_outputs_cannot_be_one_file(tmp_path):
    path = tmp_path / "o.tif"
    with pytest.raises(fp.ParameterError, match="`probability` must be another file than `output`"):
        fp.segment(np.zeros((1, 1, 1), np.uint8), model="m", output=path, probability=path)


def test_a_refused_phantom_leaves_no_folder(tmp_path):
    with pytest.raises(fp.ParameterError, match="`feature_size_nm`"):
        fp.phantom(tmp_path / "new", feature_size_nm=1)
    assert not (tmp_path / "new").exists()


def test_output_files_are_insisted_on_by_the_command_line_only(capsys):
    with pytest.raises(SystemExit) as left:
        main(["segment", "stack.tif", "--model", "m.poreseg"])
    assert left.value.code == 2
    assert "--output" in capsys.readouterr().err
    assert CATALOG["segment"].bind({"image": 1, "model": 2})["output"] is None
