import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.service.plane_order import number_in_order


@given(st.permutations([(t, z) for t in range(2) for z in range(3)]), st.data())
def test_numbers_are_those_of_planes_done_in_order(planes, data):
    counts = {index: data.draw(st.integers(0, 3)) for index in planes}
    cells = {index: [f"{index} {n}" for n in range(counts[index])] for index in planes}

    def number(order):
        labels, ids, kinds = np.zeros((2, 3, 1, 4), np.int32), 0, []
        for index in order:
            labels[index][0, : counts[index]] = ids + 1 + np.arange(counts[index])
            ids += counts[index]
            kinds += cells[index]
        return labels, kinds

    done, kinds = number(planes)
    before = done.copy()
    found, names = number_in_order(done, planes, [counts[index] for index in planes], kinds)
    expected, expected_names = number(sorted(planes))
    np.testing.assert_array_equal(found, expected)
    assert names == expected_names
    np.testing.assert_array_equal(done, before)


def test_what_is_in_order_is_not_copied():
    labels = np.array([[[1, 2]], [[3, 0]]], np.int32)
    found, _ = number_in_order(labels, [(0,), (1,)], [2, 1], ["cell"] * 3)
    assert found is labels
