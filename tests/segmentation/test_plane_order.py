import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.segmentation.plane_order import number_in_order


@given(st.permutations([(t, z) for t in range(2) for z in range(3)]), st.data())
def test_numbers_are_those_of_planes_done_in_order(planes, data):
    counts = {index: data.draw(st.integers(0, 3)) for index in planes}
    cells = {
        index: np.array([[*index, n] for n in range(counts[index])], np.int64).reshape(-1, 3)
        for index in planes
    }

    def number(order):
        labels, ids = np.zeros((2, 3, 1, 4), np.int32), 0
        for index in order:
            labels[index][0, : counts[index]] = ids + 1 + np.arange(counts[index])
            ids += counts[index]
        return labels, [cells[index] for index in order]

    done, votes = number(planes)
    before = done.copy()
    found, cast = number_in_order(done, planes, votes)
    expected, in_order = number(sorted(planes))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(cast, np.concatenate(in_order))
    np.testing.assert_array_equal(done, before)


def test_what_is_in_order_is_not_copied():
    labels = np.array([[[1, 2]], [[3, 0]]], np.int32)
    found, _ = number_in_order(labels, [(0,), (1,)], [np.ones((2, 2)), np.ones((1, 2))])
    assert found is labels


def test_no_plane_has_no_cells():
    found, cast = number_in_order(np.zeros((0, 4, 4), np.int32), [], [])
    assert found.shape == (0, 4, 4)
    assert len(cast) == 0
