"""The forest that learns while somebody labels, without a window."""

import numpy as np
import pytest

import fiji_poreseg as fp
from fiji_poreseg.labelling import Workbench


@pytest.fixture
def bench(phantom):
    bench = Workbench(phantom.stack)
    yield bench
    bench.close()


def lines(phantom, *slices):
    """Some rows of the truth of some slices."""
    planes = {}
    for index in slices:
        planes[index] = np.zeros(phantom.truth.shape[1:], np.uint8)
        planes[index][::9] = phantom.truth.to_numpy()[index, ::9]
    return planes


def error(bench, phantom, index):
    return float((bench.answer(index) != phantom.truth.to_numpy()[index]).mean())


def test_it_learns_as_labels_come_and_go(bench, phantom):
    assert bench.learn({}) is None
    assert bench.answer(3) is None
    one_class = {3: np.where(lines(phantom, 3)[3] == 1, 1, 0).astype(np.uint8)}
    assert bench.learn(one_class) is None
    learnt = bench.learn(lines(phantom, 3))
    assert (learnt.pixels, learnt.slices) == (8 * 64, 1)
    assert error(bench, phantom, 3) < 0.1
    before = error(bench, phantom, 20)
    bench.learn(lines(phantom, 3, 20))
    assert error(bench, phantom, 20) < before
    bench.learn(lines(phantom, 20))
    assert bench.learn({}) is None
    assert bench.answer(20) is None


def test_the_order_of_looking_and_labelling_does_not_matter(phantom):
    """Features that are there already, and ones that are looked up for the labels alone."""
    first, second = Workbench(phantom.stack), Workbench(phantom.stack)
    first.look_at(3)
    for bench in (first, second):
        bench.learn(lines(phantom, 3, 12))
    np.testing.assert_array_equal(first.answer(5), second.answer(5))
    # Of labels that changed, and of ones that did not.
    changed = lines(phantom, 3, 12)
    changed[3][20:30] = 1
    second.learn(changed)
    third = Workbench(phantom.stack)
    third.learn(changed)
    np.testing.assert_array_equal(second.answer(5), third.answer(5))
    for bench in (first, second, third):
        bench.close()


def test_what_holds_no_data_is_no_class(phantom):
    values = phantom.stack.to_numpy().copy()
    values[:, :, :7] = 0
    stack = phantom.stack.copy(data=values).assign_attrs(nodata=0)
    bench = Workbench(stack)
    bench.learn(lines(phantom, 3))
    assert not bench.answer(3)[:, :7].any()
    assert bench.answer(3)[:, 9:].all()
    bench.close()


def test_slices_that_are_too_large_are_refused():
    stack = fp.make_stack(np.zeros((1, 2048, 2049), np.uint8), (10, 10, 10))
    with pytest.raises(fp.ParameterError, match="at most 2048 x 2048 voxels, but is: 2048 x 2049"):
        Workbench(stack)
