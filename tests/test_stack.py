"""What counts as a stack and as labels, and what is refused."""

import numpy as np
import pytest
import xarray as xr

import fiji_poreseg as fp
from fiji_poreseg.stack import as_labels, spacing_nm, valid_pixels

GREY = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)


def test_a_stack_has_coordinates_in_nm():
    stack = fp.make_stack(GREY, (20, 10, 5), name="s", slice_labels=list("abcd"))
    assert stack.dims == ("z", "y", "x")
    assert stack.z.to_numpy().tolist() == [0, 20, 40, 60]
    assert spacing_nm(stack) == (20, 10, 5)
    assert spacing_nm(stack[::2]) == (40, 10, 5)
    assert stack.attrs["slice_labels"] == ("a", "b", "c", "d")
    assert np.shares_memory(stack.data, GREY)


def test_no_voxel_size_is_said_once():
    with pytest.warns(fp.PoreSegWarning, match="taken as 10 nm") as said:
        stack = fp.as_stack(GREY)
    assert len(said) == 1
    assert stack.attrs["unit"] == "pixel"
    given = fp.as_stack(GREY, voxel_size_nm=(20, 5, 5))
    assert given.attrs["unit"] == "nm"
    assert spacing_nm(given) == (20, 5, 5)


def test_the_callers_array_keeps_its_attributes():
    stack = fp.make_stack(GREY, (10, 10, 10))
    before = dict(stack.attrs)
    fp.as_stack(stack, nodata=0, voxel_size_nm=(5, 5, 5))
    assert stack.attrs == before
    assert spacing_nm(stack) == (10, 10, 10)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((2, 2, 2, 2, 2), np.uint8), "`image` must have the axes z, y, x"),
        (np.full((2, 2, 2), np.nan, np.float32), "`image` must not hold NaN"),
        (np.zeros((2, 2, 2), complex), "`image` must hold grey values"),
        (np.zeros((0, 2, 2), np.uint8), "`image` must hold at least one voxel"),
        (object(), "`image` must be a stack"),
        (xr.DataArray(np.zeros((2, 2, 2)), dims=("t", "y", "x")), "`image` must have the dims"),
    ],
)
def test_what_is_no_stack_is_refused(image, said):
    with pytest.raises(fp.ParameterError) as caught:
        fp.as_stack(image)
    assert str(caught.value).startswith(said)


def test_slices_that_are_not_evenly_spaced_are_refused():
    stack = fp.make_stack(GREY, (10, 10, 10)).isel(z=[0, 1, 3])
    with pytest.raises(fp.ParameterError, match="evenly spaced along z"):
        fp.as_stack(stack)


class TestLabels:
    stack = fp.make_stack(GREY, (10, 10, 10))

    def test_a_mask_is_dense_and_can_be_turned_round(self):
        mask = np.where(GREY > 60, 255, 0).astype(np.uint8)
        solid = as_labels(mask, self.stack)
        assert solid.attrs["dense"]
        np.testing.assert_array_equal(solid, np.where(GREY > 60, 2, 1))
        pore = as_labels(mask, self.stack, mask_foreground="pore")
        np.testing.assert_array_equal(pore, np.where(GREY > 60, 1, 2))
        inverted = fp.make_stack(mask, (10, 10, 10), attrs={"inverting_lut": True})
        np.testing.assert_array_equal(as_labels(inverted, self.stack), pore)

    @pytest.mark.parametrize(
        ("labels", "said"),
        [
            (GREY[:2], r"`labels` must have the shape of the stack, \(4, 6, 5\)"),
            (np.full_like(GREY, 3), r"`labels` must hold 0 \(unlabelled\) to 2 \(pore, solid\)"),
            (np.full(GREY.shape, 1.5, np.float32), r"`labels` must hold 0 \(unlabelled\) to 2"),
            (np.zeros_like(GREY), "`labels` must label at least one pixel"),
        ],
    )
    def test_what_are_no_labels_is_refused(self, labels, said):
        with pytest.raises(fp.ParameterError, match=said):
            as_labels(labels, self.stack)

    def test_a_mask_is_no_correction(self):
        mask = np.where(GREY > 60, 255, 0).astype(np.uint8)
        with pytest.raises(fp.ParameterError, match="must be a label image"):
            as_labels(mask, self.stack, allow_mask=False)


def test_no_data_is_what_touches_the_border():
    plane = np.array([[0, 0, 5, 5], [5, 5, 5, 5], [5, 0, 5, 5], [5, 5, 5, 5]])
    valid = valid_pixels(plane, 0)
    assert not valid[0, :2].any()
    assert valid.sum() == 14
    assert valid_pixels(plane, None).all()
