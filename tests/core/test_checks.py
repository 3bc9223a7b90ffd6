import numpy as np
import pytest

from napari_unet.core.checks import check_plane, name_axes, whole_labels


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((30, 40), "YX"),
        ((3, 40), "YX"),
        ((40, 3), "YX"),
        ((5, 30, 40), "ZYX"),
        ((2, 5, 30, 40), "TZYX"),
        ((30, 40, 3), "YXC"),
        ((30, 40, 4), "YXC"),
        ((30, 40, 2), "ZYX"),
        ((5, 30, 40, 3), "ZYXC"),
        ((2, 5, 30, 40, 3), "TZYXC"),
    ],
)
def test_axes_are_guessed_from_the_shape(shape, axes):
    assert name_axes(shape) == axes


def test_given_axes_come_before_guesses():
    assert name_axes((30, 40, 3), "zyx") == "ZYX"
    assert name_axes((3, 30, 40), "CYX") == "CYX"
    with pytest.raises(ValueError, match="name 2 axes and the image has 3"):
        name_axes((30, 40, 3), "YX")


@pytest.mark.parametrize("shape", [(), (5,), (1, 2, 3, 4, 5), (1, 2, 3, 4, 5, 3)])
def test_axes_that_cannot_be_guessed(shape):
    with pytest.raises(ValueError, match=r"the image has \d axes; name them"):
        name_axes(shape)


@pytest.mark.parametrize("dtype", [bool, np.uint8, ">u2", np.int64, np.uint64])
def test_labels_of_any_whole_dtype_become_int32(dtype):
    given = np.array([[0, 1], [1, 0]], dtype)
    labels = whole_labels(given)
    assert labels.dtype == np.int32
    assert labels.tolist() == [[0, 1], [1, 0]]
    given[:] = 1
    assert labels.tolist() == [[0, 1], [1, 0]]


def test_labels_as_int32_are_copied():
    given = np.zeros((2, 2), np.int32)
    assert not np.shares_memory(whole_labels(given), given)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([[0.0, 1.5]]), "the labels are float64; give whole numbers"),
        (np.array([[0, -1]]), "the labels go from -1 to 0; give 0 for background"),
        (np.array([[0, 2**31]]), "the labels go from 0 to 2147483648; give"),
        (np.array([[0, 2**63]], np.uint64), "the labels go from 0 to 9223372036854775808; give"),
    ],
)
def test_labels_that_would_lose_their_meaning(labels, words):
    with pytest.raises(ValueError, match=words):
        whole_labels(labels)


def test_no_labels_at_all():
    assert whole_labels(np.zeros((0, 4), np.uint8)).shape == (0, 4)


@pytest.mark.parametrize("dtype", [bool, np.uint8, ">i2", np.uint64, np.float16, ">f4", np.float64])
def test_real_numbers_are_an_image(dtype):
    check_plane(np.ones((1, 1, 1), dtype))


def test_a_single_finite_number_is_enough():
    plane = np.full((1, 3, 3), np.nan)
    plane[0, 1, 1] = 2
    check_plane(plane)


@pytest.mark.parametrize(
    ("plane", "words"),
    [
        (np.ones((1, 2, 2), complex), "the image is complex128; give real numbers, such as the m"),
        (np.full((1, 2, 2), "x"), "the image is <U1; give whole numbers or floats"),
        (np.full((1, 2, 2), None), "the image is object; give whole numbers or floats"),
        (np.ones((1, 0, 5)), "the image is empty, 0 x 5 px"),
        (np.full((1, 2, 2), np.nan), "the image holds no finite number"),
        (np.full((2, 2, 2), np.inf), "the image holds no finite number"),
    ],
)
def test_what_is_no_image(plane, words):
    with pytest.raises(ValueError, match=words):
        check_plane(plane)
