import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.axes import (
    check_axes,
    get_plane,
    get_stack,
    guess_axes,
    label_axes,
    label_shape,
    plane_indices,
    set_plane,
    set_stack,
    split_index,
    stack_indices,
)


@st.composite
def named_arrays(draw):
    kept = [axis for axis in "TZC" if draw(st.booleans())]
    axes = "".join(draw(st.permutations([*kept, "Y", "X"])))
    shape = draw(st.tuples(*[st.integers(1, 4)] * len(axes)))
    return np.arange(np.prod(shape)).reshape(shape), axes


class Lazy:
    """Stands for dask and zarr: notes what is asked of it."""

    def __init__(self, array):
        self.array, self.shape, self.asked = array, array.shape, []

    def __getitem__(self, key):
        self.asked.append(key)
        return self.array[key]


@given(named_arrays())
def test_every_value_is_in_its_plane(case):
    array, axes = case
    planes = {index: get_plane(array, axes, index) for index in plane_indices(axes, array.shape)}
    others = [axis for axis in axes if axis not in "CYX"]
    for position in np.ndindex(array.shape):
        at = dict(zip(axes, position, strict=True))
        plane = planes[tuple(at[axis] for axis in others)]
        assert plane.ndim == 3
        assert plane[at.get("C", 0), at["Y"], at["X"]] == array[position]
    assert sum(plane.size for plane in planes.values()) == array.size


@given(named_arrays())
def test_labels_have_the_shape_without_channels(case):
    array, axes = case
    one_channel = array.take(0, axes.index("C")) if "C" in axes else array
    assert label_shape(axes, array.shape) == one_channel.shape


@given(named_arrays())
def test_planes_go_back_where_they_came_from(case):
    array, axes = case
    first = array.take(0, axis=axes.index("C")) if "C" in axes else array
    labels = np.full(first.shape, -1)
    for index in plane_indices(axes, array.shape):
        set_plane(labels, axes, index, get_plane(array, axes, index)[0])
    np.testing.assert_array_equal(labels, first)


def test_only_the_plane_is_read():
    image = Lazy(np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6))
    plane = get_plane(image, "TZCYX", (1, 2))
    everything = slice(None)
    assert image.asked == [(1, 2, everything, everything, everything)]
    np.testing.assert_array_equal(plane, image.array[1, 2])


def test_plane_indices_run_through_the_last_axis_first():
    assert list(plane_indices("TCZYX", (2, 7, 3, 5, 5))) == [
        (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)
    ]  # fmt: skip
    assert list(plane_indices("YX", (4, 5))) == [()]


@pytest.mark.parametrize(
    ("shape", "rgb", "axes"),
    [
        ((5, 6), False, "YX"),
        ((4, 5, 6), False, "ZYX"),
        ((3, 4, 5, 6), False, "TZYX"),
        ((5, 6, 3), True, "YXC"),
        ((4, 5, 6, 3), True, "ZYXC"),
    ],
)
def test_usual_axes(shape, rgb, axes):
    assert guess_axes(shape, rgb=rgb) == axes


@pytest.mark.parametrize(("shape", "rgb"), [((5,), False), ((1,) * 5, False), ((5, 3), True)])
def test_axes_that_cannot_be_guessed(shape, rgb):
    with pytest.raises(ValueError, match=f"the image has {len(shape)} axes; name them"):
        guess_axes(shape, rgb=rgb)


def test_axes_in_small_letters_are_accepted():
    assert check_axes("tczyx", (1, 2, 3, 4, 5)) == "TCZYX"


@pytest.mark.parametrize("axes", ["SYX", "YYX", "ZYC", "CTZ", "Y X"])
def test_axes_that_name_nothing(axes):
    with pytest.raises(ValueError, match=f"the axes are '{axes}'; use each of T, Z, C at most"):
        check_axes(axes, (4, 5, 6))


def test_axes_of_another_number_are_named():
    sentence = r"the axes 'YX' name 2 axes and the image has 3 \(4, 5, 6\); give one letter"
    with pytest.raises(ValueError, match=sentence):
        check_axes("YX", (4, 5, 6))


def test_labels_have_the_axes_of_the_image_without_channels():
    assert label_axes("TCZYX") == "TZYX"
    assert label_axes("YXC") == "YX"


@pytest.mark.parametrize("axes", ["ZYX", "TZYX", "CZYX", "XZCYT", "ZTCXY"])
def test_stacks_are_read_and_written_where_they_lie(axes):
    sizes = dict(zip("TZCYX", (2, 3, 4, 5, 6), strict=True))
    shape = tuple(sizes[axis] for axis in axes)
    array = np.random.default_rng(0).random(shape)
    labels = np.zeros(label_shape(axes, shape), np.int64)
    written = 0
    for index in stack_indices(axes, shape):
        stack = get_stack(array, axes, index)
        assert stack.shape == (sizes["C"] if "C" in axes else 1, 3, 5, 6)
        values = np.arange(90).reshape(3, 5, 6) + written
        set_stack(labels, axes, index, values)
        np.testing.assert_array_equal(get_stack(labels, label_axes(axes), index)[0], values)
        for plane in plane_indices(axes, shape):
            own, z = split_index(axes, plane)
            if own == index:
                np.testing.assert_array_equal(get_plane(array, axes, plane), stack[:, z])
        written += 90
    assert len(np.unique(labels)) == written
