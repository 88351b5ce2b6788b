"""A model applied: what is large and asked for in part stays lazy, and is the same."""

from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest

from fiji_poreseg import files, segmentation
from fiji_poreseg.stack import make_stack

STACK = make_stack(np.zeros((6, 4, 5), np.uint8), (20, 10, 10), slice_labels="abcdef")


class Model:
    """Says of each slice that its likeliest class is that of its index, but for one pixel."""

    def __init__(self, classes):
        self.card = SimpleNamespace(classes=classes)

    def predict(self, stack, indices):
        for index in indices:
            values = np.full((len(self.card.classes), *stack.shape[-2:]), 0.1, np.float32)
            values[index % len(self.card.classes)] = 0.8
            values[:, 0, 0] = np.nan
            yield index, values


@pytest.mark.parametrize("classes", [("pore", "solid"), ("pore", "solid", "metal")])
def test_a_large_result_of_some_slices_is_lazy_and_the_same(tmp_path, monkeypatch, classes):
    small = segmentation.apply(Model(classes), STACK, (1, 4))
    assert isinstance(small.segmentation.data, np.ndarray)
    monkeypatch.setattr(segmentation, "LARGE_BYTES", 100)
    large = segmentation.apply(Model(classes), STACK, (1, 4))
    assert isinstance(large.segmentation.data, da.Array)
    assert isinstance(large.probability.data, da.Array)
    assert large.segmentation.identical(small.segmentation)
    assert large.probability.identical(small.probability)
    assert small.segmentation[:, 1, 1].to_numpy().tolist() == [0, 2, 0, 0, 4 % len(classes) + 1, 0]
    assert small.segmentation[1, 0, 0] == 0
    files.write(tmp_path / "s.tif", large.segmentation)
    np.testing.assert_array_equal(files.read(tmp_path / "s.tif"), small.segmentation)


def test_a_large_result_of_every_slice_is_not_lazy(monkeypatch):
    monkeypatch.setattr(segmentation, "LARGE_BYTES", 100)
    made = segmentation.apply(Model(("pore", "solid")), STACK, range(6))
    assert isinstance(made.segmentation.data, np.ndarray)
    assert made.segmentation[:, 1, 1].to_numpy().tolist() == [1, 2, 1, 2, 1, 2]
