"""What several test modules need."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

import fiji_poreseg as fp

ROOT = Path(__file__).parent.parent


def pytest_report_header() -> list[str]:
    """Name the versions that matter when a test fails elsewhere."""
    from importlib.metadata import version

    packages = ("numpy", "scikit-learn", "tensorflow", "keras", "xarray", "jpype1", "scyjava")
    return [", ".join(f"{package} {version(package)}" for package in packages)]


@pytest.fixture(scope="session")
def benchmark_module():
    """A function that imports a script of the folder `benchmarks` by its name."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session")
def phantom():
    """A small phantom: 30 slices of 64 x 64 voxels, its structure scaled down to fit."""
    return fp.phantom(slices=30, size=64, feature_size_nm=150, attenuation_nm=150)


@pytest.fixture(scope="session")
def medulla():
    """The crop of a real FIB-SEM stack, and its labels."""
    folder = Path(__file__).parent / "data" / "medulla"
    return fp.read(folder / "raw.tif"), fp.read(folder / "labels.tif")
