from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from napari_unet.plugin.jobs.scope import ALL
from napari_unet.plugin.results.reuniting import kin_of, reunite


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


@pytest.mark.slow
@pytest.mark.parametrize("link", ["z", "3d"])
def test_the_sections_of_a_painted_cell_take_its_id(docked, settle, image, link):
    widget = docked()
    widget.viewer.add_image(np.stack([image] * 3), name="stack")
    widget.advanced.scope.value = ALL
    widget.advanced.link.value = link
    widget.segment_button.click()
    settle(widget)
    first = widget.labels.value
    assert widget.status.text().startswith("3 cells,")
    assert all((plane == first.data[0]).all() for plane in first.data)
    first.brush_size = 15
    first.paint((1, 30, 70), 40)
    painted = first.data[1] == 40
    settle(widget)
    widget.segment_button.click()
    settle(widget)
    second = widget.labels.value
    assert second is not first
    np.testing.assert_array_equal(second.data[1] == 40, painted)
    assert second.data[:, 30, 70].tolist() == [40] * 3
    for y, x in ((20, 20), (70, 30)):
        assert len(set(second.data[:, y, x].tolist())) == 1
    assert len(np.unique(second.data)) == 4
    assert widget.correcting.count.text() == "1 correction carried over from the previous result"
