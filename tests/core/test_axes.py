import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.axes import (
    OneChannel,
    axes_from_names,
    check_axes,
    get_plane,
    get_stack,
    guess_axes,
    label_axes,
    label_shape,
    plane_indices,
    planes_last,
    set_plane,
    split_index,
    stack_indices,
    stack_view,
    take_channel,
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


@pytest.mark.parametrize(
    ("names", "axes"),
    [
        (("-3", "-2", "-1"), "ZYX"),
        (("time", "Channel", "slice", "row", "column"), "TCZYX"),
        (("C", "", "", ""), "CZYX"),
        (("channel", "-2", "-1"), "CYX"),
        (("t", "plane", "y", "x"), "TZYX"),
        (("y", "x", "ch"), "YXC"),
        (("x", "y"), "XY"),
        # Of two that are called alike neither is named.
        (("z", "slice", "y", "x"), "TZYX"),
        (("y", "x", "what"), "YXZ"),
    ],
)
def test_axes_are_read_from_their_names(names, axes):
    assert axes_from_names(names, (2,) * len(names)) == axes


@given(named_arrays())
def test_letters_name_the_axes(case):
    array, axes = case
    assert axes_from_names(tuple(axes.lower()), array.shape) == axes


@given(st.integers(2, 4), st.booleans())
def test_without_names_the_axes_are_the_usual(n, rgb):
    shape = (2,) * n + (3,) * rgb
    names = tuple(str(number) for number in range(-n, 0))
    assert axes_from_names(names, shape, rgb=rgb) == guess_axes(shape, rgb=rgb)


def test_colours_are_the_last_axis_whatever_the_names():
    assert axes_from_names(("time", "y", "x"), (2, 4, 4, 3), rgb=True) == "TYXC"
    assert axes_from_names(("c", "y", "x"), (2, 4, 4, 3), rgb=True) == "ZYXC"


def test_names_of_too_few_axes_or_too_many():
    for names in (("x",), ("a", "b", "k", "d", "e")):
        with pytest.raises(ValueError, match="name them"):
            axes_from_names(names, (2,) * len(names))


@given(named_arrays(), st.data())
def test_one_channel_is_that_of_each_plane(case, data):
    array, axes = case
    count = array.shape[axes.index("C")] if "C" in axes else 1
    channel = data.draw(st.integers(0, count - 1))
    for image in (array, Lazy(array)):
        if isinstance(image, Lazy):
            image.dtype = array.dtype
        one, rest = take_channel(image, axes, channel)
        assert rest == axes.replace("C", "")
        assert tuple(one.shape) == label_shape(axes, array.shape)
        if isinstance(image, Lazy):
            assert not image.asked
        for index in plane_indices(axes, array.shape):
            whole = get_plane(array, axes, index)
            np.testing.assert_array_equal(get_plane(one, rest, index)[0], whole[channel])


def test_no_channel_is_the_image_itself():
    image = np.zeros((2, 4, 4))
    assert take_channel(image, "CYX", None) == (image, "CYX")


def test_one_channel_of_a_lazy_array_is_an_array():
    array = np.arange(24).reshape(2, 3, 4)
    lazy = Lazy(array)
    lazy.dtype = array.dtype
    one = OneChannel(lazy, 1, 2)
    np.testing.assert_array_equal(np.asarray(one), array[:, 2])
    np.testing.assert_array_equal(one[1], array[1, 2])


@pytest.mark.parametrize(
    ("axes", "channel", "words"),
    [
        ("CYX", 3, "channel 3 is asked for and the image has 3 channels, axes CYX; give one from"),
        ("ZYX", 1, "channel 1 is asked for and the image has 1 channel, axes ZYX; give 0, or name"),
    ],
)
def test_a_channel_that_is_not_there(axes, channel, words):
    with pytest.raises(ValueError, match=words):
        take_channel(np.zeros((3, 4, 4)), axes, channel)


@given(named_arrays())
def test_rows_and_columns_go_last_without_a_copy(case):
    array, axes = case
    labels, rest = take_channel(array, axes, 0)
    stack = planes_last(labels, rest)
    assert np.shares_memory(stack, array)
    for index in plane_indices(axes, array.shape):
        np.testing.assert_array_equal(stack[index], get_plane(labels, rest, index)[0])


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
        stack_view(labels, axes, index)[...] = values
        np.testing.assert_array_equal(get_stack(labels, label_axes(axes), index)[0], values)
        for plane in plane_indices(axes, shape):
            own, z = split_index(axes, plane)
            if own == index:
                np.testing.assert_array_equal(get_plane(array, axes, plane), stack[:, z])
        written += 90
    assert len(np.unique(labels)) == written
