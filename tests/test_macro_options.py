"""Macro options: what ImageJ's recorder writes is read, and written back the same."""

import random
import re
from typing import Annotated

import pytest

from fiji_poreseg.commands.macro import format_options, parse_options, record_line
from fiji_poreseg.commands.spec import Catalog, Param, Presentation
from fiji_poreseg.errors import ParameterError


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("", {}),
        ("model=a.poreseg ", {"model": "a.poreseg"}),
        ("model=[a b] resume seed=3 ", {"model": "a b", "resume": "true", "seed": "3"}),
        ("path=[C:\\a b\\x=1,(2).tif]", {"path": "C:\\a b\\x=1,(2).tif"}),
        ("a=[x [1] y]  b=", {"a": "x [1] y", "b": ""}),
        ("title=[孔 ö.tif] q='a b'", {"title": "孔 ö.tif", "q": "a b"}),
        ("a=b=c", {"a": "b=c"}),
    ],
)
def test_reads_what_the_recorder_writes(text, options):
    assert parse_options(text) == options


@pytest.mark.parametrize(
    ("text", "named"),
    [("a=1 a=2", "once"), ("a=[b c", "end with ]"), ("=3", "key=value"), ("a=[b]c", "a blank")],
)
def test_refuses_what_has_two_meanings(text, named):
    with pytest.raises(ParameterError, match=named):
        parse_options(text)


@pytest.mark.parametrize("end", ["\n", "\x85", "\u2028"])
def test_a_refusal_is_one_line(end):
    with pytest.raises(ParameterError) as caught:
        parse_options(f"] a=b{end}c=d")
    assert len(str(caught.value).splitlines()) == 1


def test_any_value_comes_back():
    chance = random.Random(0)
    letters = "ab ='\"\\,;()孔ö\t\n[]"
    for _ in range(500):
        options = {}
        for number in range(chance.randrange(5)):
            value = "".join(chance.choices(letters, k=chance.randrange(12)))
            options[f"key_{number}"] = value
        if any(lone_bracket(value) for value in options.values()):
            with pytest.raises(ParameterError, match="in pairs"):
                format_options(options)
        else:
            assert parse_options(format_options(options)) == options


def lone_bracket(value):
    kept = re.sub(r"[^\[\]]", "", value)
    while "[]" in kept:
        kept = kept.replace("[]", "")
    return bool(kept)


def test_refuses_to_write_a_lone_bracket():
    with pytest.raises(ParameterError, match="in pairs"):
        format_options({"image": "a] b["})


def test_records_a_line_that_a_macro_runs():
    catalog = Catalog()

    @catalog.command("Test Line", lambda _: Presentation())
    def line(model: Annotated[str, Param("a model")], resume: Annotated[bool, Param("go on")]):
        """Do nothing."""

    raw = {"model": 'a "b"\\c', "resume": True, "sizes": (1, 2), "left_out": None}
    assert record_line(line, raw) == (
        'run("Test Line", "model=[a \\"b\\"\\\\c] resume sizes=1,2");'
    )
    assert record_line(line, {}) == 'run("Test Line");'
