import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from napari_unet.core.network.weight_map import border_weights, class_weights, weight_map


def naive(labels, w0: float = 10.0, sigma_px: float = 5.0):
    """Equation 2 as it is written: a distance transform of the whole frame for every cell."""
    cells = np.unique(labels[labels > 0])
    if len(cells) < 2:
        return np.zeros(labels.shape)
    d = np.sort([ndimage.distance_transform_edt(labels != cell) for cell in cells], axis=0)
    return w0 * np.exp(-((d[0] + d[1]) ** 2) / (2 * sigma_px**2)) * (labels == 0)


@st.composite
def blobs(draw):
    labels = np.zeros(draw(st.tuples(st.integers(1, 70), st.integers(1, 90))), np.int32)
    y, x = np.indices(labels.shape)
    for cell in range(1, 1 + draw(st.integers(0, 7))):
        cy, cx = draw(st.integers(0, 70)), draw(st.integers(0, 90))
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= draw(st.integers(0, 100))] = cell
    return labels


@given(labels=blobs(), w0=st.sampled_from([1.0, 10.0]), sigma_px=st.sampled_from([2.0, 5.0]))
def test_border_weights_equal_the_naive_ones(labels, w0, sigma_px):
    weights = border_weights(labels, w0, sigma_px)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, naive(labels, w0, sigma_px), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_two_cells_two_pixels_apart(dtype):
    labels = np.zeros((30, 42), dtype)
    labels[:, :20], labels[:, 22:] = 3, 7
    expected = 10 * math.exp(-((1 + 2) ** 2) / 50)
    assert expected == pytest.approx(8.352702)
    weights = border_weights(labels)
    np.testing.assert_allclose(weights[:, 20:22], expected, rtol=1e-6)
    assert not weights[labels > 0].any()


def test_a_wide_gap_weighs_less_in_all_its_width():
    labels = np.zeros((5, 30), int)
    labels[:, :10], labels[:, 20:] = 1, 2
    # d1 + d2 is 11 everywhere between two straight borders 10 px apart.
    np.testing.assert_allclose(
        border_weights(labels)[:, 10:20], 10 * math.exp(-121 / 50), rtol=1e-5
    )


@pytest.mark.parametrize("cells", [0, 1])
def test_without_a_second_cell_there_is_no_border(cells):
    labels = np.zeros((40, 40), int)
    labels[10:20, 10:20] = cells
    assert not border_weights(labels).any()


def test_numbers_may_have_holes():
    labels = np.zeros((20, 20), int)
    labels[2:8, 2:8], labels[10:16, 2:8] = 1, 2
    np.testing.assert_array_equal(
        border_weights(labels), border_weights(np.where(labels, labels * 50, 0))
    )


def test_full_balance_makes_the_classes_weigh_the_same():
    counts = np.array([900, 100])
    weights = class_weights(counts)
    np.testing.assert_allclose(weights, [1 / 1.8, 5.0], rtol=1e-6)
    np.testing.assert_allclose(weights * counts, [500, 500], rtol=1e-6)


@given(st.lists(st.integers(1, 10**9), min_size=2, max_size=4), st.floats(0, 1))
def test_class_weights_have_mean_1_over_the_pixels(counts, balance):
    weights = class_weights(np.array(counts), balance)
    assert (weights * counts).sum() / sum(counts) == pytest.approx(1, rel=1e-5)
    order = np.argsort(counts)
    assert (np.diff(weights[order]) <= 1e-6).all(), "rarer weighs more"


def test_no_balance_weighs_all_pixels_the_same():
    np.testing.assert_array_equal(class_weights(np.array([5, 1, 94]), 0), [1, 1, 1])


def test_an_absent_class_has_a_finite_weight():
    assert np.isfinite(class_weights(np.array([100, 0]))).all()


def test_weight_map_is_the_sum_of_both_terms():
    labels = np.zeros((20, 22), int)
    labels[:, :10], labels[:, 12:] = 1, 2
    w_c = np.array([0.5, 2.0], np.float32)
    weights = weight_map(labels, (labels > 0).astype(int), w_c, w0=4.0, sigma_px=3.0)
    assert weights.dtype == np.float32
    assert (weights[labels > 0] == 2).all()
    np.testing.assert_allclose(weights[labels == 0], 0.5 + 4 * math.exp(-9 / 18), rtol=1e-6)


def test_background_only_weighs_w_c():
    labels = np.zeros((8, 9), int)
    assert (weight_map(labels, labels, np.array([0.25, 3], np.float32)) == 0.25).all()


@pytest.mark.parametrize("anisotropy", [1.0, 3.0])
def test_border_weights_of_a_stack_measure_in_pixels(anisotropy):
    labels = np.zeros((9, 14, 16), np.int32)
    labels[1:3, 2:7, 2:7], labels[1:4, 2:7, 9:14], labels[6:8, 2:8, 3:9] = 1, 2, 3
    places = np.argwhere(np.ones(labels.shape)) * (anisotropy, 1, 1)

    def distance(cell):
        cells = np.argwhere(labels == cell) * (anisotropy, 1, 1)
        gaps = np.sqrt(((places[:, None] - cells[None]) ** 2).sum(-1)).min(1)
        return gaps.reshape(labels.shape)

    d1, d2 = np.sort([distance(cell) for cell in (1, 2, 3)], axis=0)[:2]
    expected = np.where(labels > 0, 0, 10 * np.exp(-((d1 + d2) ** 2) / (2 * 2.0**2)))
    weight = border_weights(labels, 10.0, 2.0, anisotropy)
    np.testing.assert_allclose(weight, expected, atol=1e-3)
    assert weight.max() > 0.5
