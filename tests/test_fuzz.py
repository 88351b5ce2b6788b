"""Hundreds of damaged and hostile inputs of each kind; `benchmarks/fuzz.py` tries thousands."""

import pytest

COUNT = 200
KINDS = (
    "tiff",
    "labels as TIFF",
    "roi",
    "zip of ROIs",
    "labeling",
    "forest",
    "ResUNet",
    "Zarr",
    "macro options",
)


@pytest.fixture(scope="module")
def fuzz(benchmark_module):
    return benchmark_module("fuzz")


@pytest.fixture(scope="module")
def kinds(fuzz, tmp_path_factory):
    return fuzz.kinds(tmp_path_factory.mktemp("whole"))


def test_no_kind_is_left_out(kinds):
    assert tuple(kinds) == KINDS


@pytest.mark.parametrize("name", KINDS)
def test_what_is_damaged_is_taken_or_refused_in_one_line(fuzz, kinds, tmp_path, name):
    outcomes = [fuzz.attempt(kinds[name], number, tmp_path) for number in range(COUNT)]
    assert [(n, wrong) for n, (_, wrong) in enumerate(outcomes) if wrong] == []
    # Most are damaged indeed, and some are whole enough.
    refused = sum(refused for refused, _ in outcomes)
    assert COUNT // 2 < refused < COUNT
