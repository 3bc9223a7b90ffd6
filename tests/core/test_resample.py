import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_unet.core.resample import resize_labels, resize_plane, zoomed_shape

sides = st.integers(1, 15)
shapes = st.tuples(sides, sides)


@pytest.mark.parametrize(
    ("shape", "zoom", "expected"),
    [((100, 60), 0.24, (24, 14)), ((100, 60), 1.0, (100, 60)), ((3, 400), 0.1, (1, 40)),
     ((10, 11), 2.5, (25, 28))],
)  # fmt: skip
def test_shapes_after_a_zoom(shape, zoom, expected):
    assert zoomed_shape(shape, zoom) == expected


@given(shapes, shapes, st.integers(1, 3))
def test_planes_get_the_shape_asked_for_and_stay_within_their_range(shape, other, channels):
    plane = np.random.default_rng(0).random((channels, *shape), np.float32)
    resized = resize_plane(plane, other)
    assert resized.shape == (channels, *other)
    assert resized.dtype == np.float32
    assert plane.min() - 1e-5 <= resized.min() <= resized.max() <= plane.max() + 1e-5
    np.testing.assert_array_equal(resize_plane(plane, shape), plane)


@given(shapes, shapes, st.floats(-5, 5, width=32))
def test_a_flat_plane_stays_flat(shape, other, value):
    plane = np.full((1, *shape), value, np.float32)
    np.testing.assert_allclose(resize_plane(plane, other), value, atol=1e-5)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_shrinking_keeps_the_mean(factor):
    # A fine pattern, of which picking single pixels would make something else.
    plane = np.zeros((1, 96, 96), np.float32)
    plane[:, ::2, ::3] = 1
    small = resize_plane(plane, (96 // factor, 96 // factor))
    assert small.mean() == pytest.approx(plane.mean(), abs=0.02)
    inside = small[:, 2:-2, 2:-2]
    assert inside.std() < 0.5 * plane.std()


def test_pixels_are_areas():
    # A step in the middle stays in the middle.
    plane = np.zeros((1, 1, 40), np.float32)
    plane[..., 20:] = 1
    for side in (10, 20, 80, 100):
        line = resize_plane(plane, (1, side))[0, 0]
        np.testing.assert_allclose(line + line[::-1], 1, atol=1e-5)
        assert line[0] == pytest.approx(0, abs=1e-5)


@given(arrays(np.int32, shapes, elements=st.integers(0, 9)), shapes)
def test_labels_come_from_the_nearest_pixel(labels, other):
    resized = resize_labels(labels, other)
    assert resized.shape == other
    assert resized.dtype == labels.dtype
    assert set(np.unique(resized)) <= set(np.unique(labels))
    for (y, x), value in np.ndenumerate(resized):
        # The pixel of the input in which the centre of this one lies.
        row = min(int((y + 0.5) * labels.shape[0] / other[0]), labels.shape[0] - 1)
        column = min(int((x + 0.5) * labels.shape[1] / other[1]), labels.shape[1] - 1)
        assert value == labels[row, column]


@given(arrays(np.int32, shapes, elements=st.integers(0, 9)), st.integers(1, 4))
def test_labels_come_back_from_a_whole_enlargement(labels, factor):
    shape = labels.shape
    large = resize_labels(labels, (shape[0] * factor, shape[1] * factor))
    np.testing.assert_array_equal(large, np.kron(labels, np.ones((factor, factor), np.int32)))
    np.testing.assert_array_equal(resize_labels(large, shape), labels)


def test_masks_stay_masks():
    mask = np.eye(6, dtype=bool)
    assert resize_labels(mask, (3, 9)).dtype == bool


def test_planes_that_cannot_be_written_to_are_resized_too():
    plane = np.ones((1, 8, 8), np.float32)
    plane.flags.writeable = False
    mirrored = resize_plane(plane[:, ::-1], (4, 4))
    np.testing.assert_allclose(mirrored, 1)
