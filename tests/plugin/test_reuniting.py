from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.plugin.reuniting import kin_of, reunite


def test_what_covers_most_of_the_smaller_is_kin():
    new, old = np.zeros((2, 8, 12), np.int32)
    new[1:5, 1:5] = 20
    new[1:5, 7:11] = 21
    old[1:5, 2:6] = 3
    old[3:8, 10:12] = 4
    seen = np.ones(new.shape, bool)
    assert kin_of(new, old, seen) == {(20, 3): 12}
    seen[:, :4] = False
    assert kin_of(new, old, seen) == {}


def test_linked_cells_take_the_painted_id():
    labels = np.zeros((4, 5, 9), np.int32)
    labels[:, 1:3, 1:4] = 20
    labels[:, 1:3, 5:8] = 21
    labels[1, 1:3, 1:4] = 3
    labels[2, 4, 8] = 4
    reunite(labels, [(z,) for z in range(4)], Counter({(20, 3): 6, (21, 4): 5, (21, 3): 2}))
    assert (labels[:, 1, 1] == 3).all()
    assert labels[:, 1, 5].tolist() == [4, 4, 21, 4], "one plane has a painted 4 already"
    assert labels[2, 4, 8] == 4


@given(
    hnp.arrays(np.int32, (3, 4, 5), elements=st.sampled_from([0, 1, 2, 10, 11, 12])),
    st.dictionaries(
        st.tuples(st.sampled_from([10, 11, 12]), st.sampled_from([1, 2])), st.integers(1, 9)
    ),
)
def test_painted_ids_stay_and_no_cells_of_a_plane_join(labels, kin):
    before = labels.copy()
    reunite(labels, [(0,), (1,)], Counter(kin))
    old = (before > 0) & (before < 10)
    np.testing.assert_array_equal(labels[old], before[old])
    np.testing.assert_array_equal(labels > 0, before > 0)
    np.testing.assert_array_equal(labels[2], before[2])
    for plane, was in zip(labels, before, strict=True):
        assert len(np.unique(plane)) == len(np.unique(was))
