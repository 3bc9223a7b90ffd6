import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import regionprops

from napari_unet.core.cells.properties import SHAPE, boxes, properties


@given(
    hnp.arrays(np.int32, (9, 11), elements=st.sampled_from([0, 0, 1, 2, 9])),
    st.sampled_from([(1.0, 1.0), (0.5, 0.5), (0.5, 0.25)]),
    st.sampled_from(["uint8", "float32"]),
)
def test_the_values_are_those_of_regionprops(labels, spacing, dtype):
    pixels = np.random.default_rng(0).integers(0, 255, (2, 9, 11)).astype(dtype)
    ids = np.unique(labels[labels > 0])
    found = properties(labels, pixels, ids, spacing)
    for row, region in enumerate(regionprops(labels, np.moveaxis(pixels, 0, -1), spacing=spacing)):
        assert found.n_px[row] == region.num_pixels
        assert found.centroid[row] == pytest.approx(region.centroid)
        for name in ("mean", "max", "min"):
            expected = getattr(region, f"intensity_{name}")
            assert getattr(found, name)[row] == pytest.approx(expected)
        for name, value in zip(SHAPE, found.shape[row], strict=True):
            if name == "perimeter" and spacing[0] != spacing[1]:
                assert np.isnan(value)
            else:
                assert value == pytest.approx(getattr(region, name), abs=1e-6), name


def test_cells_that_are_not_asked_for_are_left_out():
    labels = np.array([[1, 1, 0, 4, 4], [1, 1, 0, 4, 4]], np.int32)
    found = properties(labels, labels[None], np.array([4], np.int32))
    assert found.n_px.tolist() == [4]
    assert found.centroid.tolist() == [[0.5, 3.5]]


def test_pixels_that_are_no_numbers_are_counted_and_left_out():
    labels = np.array([[1, 1, 2, 0]], np.int32)
    pixels = np.array([[[np.nan, 5, np.inf, np.nan]], [[1, 2, 3, 4]]])
    found = properties(labels, pixels, np.array([1, 2], np.int32))
    assert found.n_missing == 2
    assert found.mean[0].tolist() == [5, 1.5]
    assert np.isnan([found.mean[1, 0], found.max[1, 0], found.min[1, 0]]).all()
    assert found.max[1, 1] == 3


@given(hnp.arrays(np.int32, (6, 7), elements=st.sampled_from([0, 1, 2, 2**31 - 1])))
def test_boxes_hold_the_first_and_last_row(labels):
    ids, first, last = boxes(labels)
    assert ids.tolist() == np.unique(labels[labels > 0]).tolist()
    for cell, top, bottom in zip(ids, first, last, strict=True):
        rows = np.nonzero((labels == cell).any(1))[0]
        assert (top, bottom) == (rows[0], rows[-1])
