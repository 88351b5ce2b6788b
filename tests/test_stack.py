"""What counts as a stack and as labels, and what is refused."""

import dask.array as da
import numpy as np
import pytest
import xarray as xr

import fiji_poreseg as fp
from fiji_poreseg.stack import (
    as_labels,
    make_labels,
    shown_range,
    slice_labels_of,
    spacing_nm,
    valid_pixels,
    with_spacing,
)

GREY = np.arange(4 * 6 * 5, dtype=np.uint8).reshape(4, 6, 5)


def test_a_stack_has_coordinates_in_nm():
    stack = fp.make_stack(GREY, (20, 10, 5), name="s", slice_labels=list("abcd"))
    assert stack.dims == ("z", "y", "x")
    assert stack.z.to_numpy().tolist() == [0, 20, 40, 60]
    assert spacing_nm(stack) == (20, 10, 5)
    assert spacing_nm(stack[::2]) == (40, 10, 5)
    assert stack.slice_label.dims == ("z",)
    assert stack.slice_label.to_numpy().tolist() == ["a", "b", "c", "d"]
    assert "slice_label" not in fp.make_stack(GREY, (20, 10, 5)).coords
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
        (np.full((2, 2, 2), np.nan, np.float32), "`image` must hold finite grey values"),
        (np.full((2, 2, 2), np.inf, np.float32), "`image` must hold finite grey values"),
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


@pytest.mark.parametrize(
    ("z", "size", "reason"),
    [
        (["a"], (20, 10, 10), "`image` must have finite numbers as coordinates along z"),
        ([np.nan], (20, 10, 10), "`image` must have finite numbers as coordinates along z"),
        ([0.0], (0, 10, 10), "`image` must give a voxel size of three positive numbers"),
    ],
)
def test_a_single_slice_without_a_place_or_a_size_is_refused(z, size, reason):
    stack = fp.make_stack(np.zeros((1, 3, 4), np.uint8), (20, 10, 10))
    with pytest.raises(fp.ParameterError, match=reason):
        fp.as_stack(stack.assign_coords(z=z).assign_attrs(spacing_nm=size))


def test_slices_that_are_not_evenly_spaced_are_refused():
    stack = fp.make_stack(GREY, (10, 10, 10)).isel(z=[0, 1, 3])
    with pytest.raises(fp.ParameterError, match="evenly spaced along z"):
        fp.as_stack(stack)


@pytest.mark.parametrize("channels", [None, 2])
def test_slice_labels_stay_with_their_slices(channels):
    values = GREY if channels is None else np.stack([GREY] * channels)
    stack = fp.make_stack(values, (20, 10, 5), slice_labels=list("abcd"))
    part = stack.isel(z=slice(None, 1, -1))
    for made in (
        part,
        fp.as_stack(part),
        with_spacing(part, (1, 1, 1)),
        make_labels(np.ones(part.shape[-3:]), part),
        as_labels(np.ones(part.shape[-3:], np.uint8), part),
    ):
        assert slice_labels_of(made) == ("d", "c")
        assert made.slice_label.dims == ("z",)
    assert slice_labels_of(stack.isel(z=1)) == ("b",)


def test_one_slice_keeps_its_label():
    stack = fp.make_stack(GREY, (20, 10, 5), slice_labels=list("abcd"))
    assert fp.as_stack(stack[2]).slice_label.to_numpy().tolist() == ["c"]
    bare = xr.DataArray(GREY, dims=("z", "y", "x"), coords={"slice_label": ("z", list("abcd"))})
    assert slice_labels_of(fp.as_stack(bare, voxel_size_nm=(1, 1, 1))) == tuple("abcd")


def in_unit(unit, scale=1.0, axes="zyx"):
    steps = {"z": 20 * scale, "y": 10 * scale, "x": 5 * scale}
    coords = {axis: steps[axis] * np.arange(GREY.shape["zyx".index(axis)]) for axis in axes}
    attrs = {} if unit is None else {"unit": unit}
    return xr.DataArray(GREY, dims=("z", "y", "x"), coords=coords, attrs=attrs, name="s")


@pytest.mark.parametrize(
    ("unit", "scale"),
    [(None, 1), ("nm", 1), ("NM", 1), ("µm", 1e-3), ("Micron", 1e-3), ("Å", 10), ("mm", 1e-6)],
)
def test_coordinates_in_other_units_become_nm(unit, scale):
    given = in_unit(unit, scale)
    stack = fp.as_stack(given)
    assert stack.attrs["unit"] == "nm"
    assert stack.attrs.get("source_unit") == (None if unit in (None, "nm") else unit)
    assert spacing_nm(stack) == stack.attrs["spacing_nm"] == (20, 10, 5)
    assert stack.z.to_numpy().tolist() == [0, 20, 40, 60]
    assert fp.as_stack(stack).identical(stack)
    assert given.attrs == ({} if unit is None else {"unit": unit})


def test_an_unknown_unit_is_refused():
    with pytest.raises(fp.ParameterError, match=r"known unit.*\"inch\".*Convert its coordinates"):
        fp.as_stack(in_unit("inch"))


def test_some_coordinates_are_kept():
    with pytest.warns(fp.PoreSegWarning, match=r"s has no voxel size along z: .* 10 nm"):
        stack = fp.as_stack(in_unit("µm", 1e-3, axes="yx"))
    assert spacing_nm(stack) == (10, 10, 5)
    assert stack.z.to_numpy().tolist() == [0, 10, 20, 30]
    known = in_unit(None, axes="yx").assign_attrs(spacing_nm=(30, 1, 1))
    assert spacing_nm(fp.as_stack(known)) == (30, 10, 5)
    plane = in_unit(None, axes="yx")[0]
    assert spacing_nm(fp.as_stack(plane)) == (10, 10, 5)


class Lazily:
    """An array for dask that remembers how much of it was read at once."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.ndim = values, values.shape, values.dtype, 3
        self.read = []

    def __getitem__(self, key):
        self.read.append(self.values[key].shape[0])
        return self.values[key]


def test_values_are_checked_slice_by_slice_and_integers_not_at_all():
    values = GREY.astype(np.float32)
    values[1, 2, 3], values[3, 0, 0] = np.inf, np.nan
    source = Lazily(values)
    lazy = da.from_array(source, chunks=(1, 6, 5), asarray=False, meta=np.empty((0, 0, 0), "f4"))
    with pytest.raises(fp.ParameterError, match=r"no infinity\).*2 voxels"):
        fp.as_stack(fp.make_stack(lazy, (1, 1, 1)))
    assert source.read == [1, 1, 1, 1]
    source = Lazily(GREY)
    lazy = da.from_array(source, chunks=(2, 6, 5), asarray=False, meta=np.empty((0, 0, 0), "u1"))
    fp.as_stack(fp.make_stack(lazy, (1, 1, 1)))
    assert source.read == []


class TestLabels:
    stack = fp.make_stack(GREY, (10, 10, 10))

    def test_they_take_no_more_memory_than_the_result(self, traced):
        stack = fp.make_stack(np.zeros((40, 200, 250), np.uint8), (1, 1, 1))
        mask = np.zeros(stack.shape, np.uint8)
        mask[:, 50:] = 255
        for values, most in ((mask, 1.5), (mask // 255, 0.5)):
            made, peak = traced(as_labels, values, stack)
            assert made.dtype == np.uint8
            assert peak < most * mask.nbytes

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "bool"])
    @pytest.mark.parametrize("lazy", [False, True])
    def test_any_type_and_lazy_ones(self, dtype, lazy):
        values = (GREY % 3).astype(dtype)
        made = as_labels(da.from_array(values, chunks=(3, 6, 5)) if lazy else values, self.stack)
        assert isinstance(made.data, np.ndarray)
        assert made.dtype == np.uint8
        expected = np.where(values, 2, 1) if dtype == "bool" else GREY % 3
        np.testing.assert_array_equal(made, expected)

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
            (np.full(GREY.shape, np.nan, np.float32), r"must hold 0 .* values nan"),
            (np.full(GREY.shape, 257, np.uint16), r"must hold 0 .* values 257"),
            (np.full(GREY.shape, -1, np.int16), r"must hold 0 .* values -1"),
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


@pytest.mark.parametrize(
    ("values", "attrs", "expected"),
    [
        (GREY, {}, (0, 255)),
        (GREY, {"classes": ("pore", "solid"), "display_range": (0, 2)}, (0, 255)),
        (GREY.astype(np.uint16) * 300, {}, (0, 35700)),
        (GREY.astype(np.uint16), {"display_range": (10, 20)}, (10, 20)),
        (np.where(GREY > 60, 0.5, np.nan).astype(np.float32), {}, (0, 1)),
        (np.where(GREY > 60, -5, np.inf).astype(np.float32), {}, (-5, -5)),
        (np.full_like(GREY, np.nan, dtype=np.float32), {}, None),
    ],
)
def test_what_is_shown_as_black_and_as_white(values, attrs, expected):
    assert shown_range(fp.make_stack(values, (10, 10, 10), attrs=attrs)) == expected


def test_no_data_is_what_touches_the_border():
    plane = np.array([[0, 0, 5, 5], [5, 5, 5, 5], [5, 0, 5, 5], [5, 5, 5, 5]])
    valid = valid_pixels(plane, 0)
    assert not valid[0, :2].any()
    assert valid.sum() == 14
    assert valid_pixels(plane, None).all()
