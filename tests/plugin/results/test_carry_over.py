"""Carrying over is a matter of arrays: any labels, any places seen."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from napari_unet.plugin.results.carry_over import carry_over

SHAPE = (12, 14)
ABOVE = 100
boxes = st.tuples(*[st.integers(0, n - 1) for n in SHAPE], st.integers(1, 7), st.integers(1, 7))


def drawn(rectangles, first=1) -> np.ndarray:
    labels = np.zeros(SHAPE, np.int32)
    for number, (y, x, height, width) in enumerate(rectangles):
        labels[y : y + height, x : x + width] = first + number
    return labels


olds = st.lists(boxes, max_size=5).map(drawn)
news = st.lists(boxes, max_size=5).map(lambda r: drawn(r, ABOVE))
masks = st.one_of(
    arrays.arrays(bool, SHAPE), st.lists(boxes, max_size=3).map(lambda r: drawn(r) > 0)
)


@settings(max_examples=200)
@given(news, olds, masks)
def test_what_was_seen_stays_as_it_was(new, old, seen):
    merged, went_on = carry_over(new, old, seen)
    np.testing.assert_array_equal(merged[seen] > 0, old[seen] > 0)
    pairs = set(zip(merged[seen].tolist(), old[seen].tolist(), strict=True))
    assert len({a for a, _ in pairs}) == len(pairs) == len({b for _, b in pairs})
    for now, before in pairs:
        assert now == before or went_on[now] == before


@settings(max_examples=200)
@given(news, olds, masks)
def test_elsewhere_there_is_what_was_predicted_or_the_rest_of_what_was_seen(new, old, seen):
    merged, _ = carry_over(new, old, seen)
    elsewhere = ~seen & (merged > 0)
    assert ((merged == new) | (merged == old))[elsewhere].all()
    touched = set(new[seen].tolist())
    untouched = (new > 0) & ~np.isin(new, list(touched))
    np.testing.assert_array_equal(merged[untouched], new[untouched])


@given(news, olds)
def test_all_or_nothing_seen(new, old):
    nothing = np.zeros(SHAPE, bool)
    np.testing.assert_array_equal(carry_over(new, old, nothing)[0], new)
    np.testing.assert_array_equal(carry_over(new, old, ~nothing)[0], old)


@given(news, olds, masks)
def test_once_more_changes_nothing(new, old, seen):
    once, _ = carry_over(new, old, seen)
    again, _ = carry_over(once + (once > 0) * ABOVE, once, seen)
    np.testing.assert_array_equal(again > 0, once > 0)


def test_a_predicted_cell_that_is_mostly_covered_gives_way_and_others_are_clipped():
    old = drawn([(2, 2, 4, 4)])
    new = np.zeros(SHAPE, np.int32)
    new[3:5, 3:7] = 100  # covered but for a column
    new[4:11, 5:11] = 101  # met at a corner
    merged, went_on = carry_over(new, old, old > 0)
    assert not (merged == 100).any()
    assert (merged == 1).sum() == 16
    assert (merged == 101).sum() == 7 * 6 - 2
    assert went_on == {}


def test_an_unseen_neighbour_stays_where_one_object_was_predicted_over_both():
    old = drawn([(2, 2, 8, 5), (2, 7, 8, 3)])
    seen = old == 1
    new = np.where(old > 0, 100, 0).astype(np.int32)
    merged, went_on = carry_over(new, old, seen)
    np.testing.assert_array_equal(merged, old)
    assert went_on == {}
    # What was not predicted at all is gone.
    new[old == 2] = 0
    assert not (carry_over(new, old, seen)[0] == 2).any()


ids = st.sets(st.integers(1, 5))


@given(olds, ids, ids)
def test_no_cell_is_lost_where_cells_were_predicted_as_one(old, corrected, joined):
    new = np.where(np.isin(old, list(joined)), ABOVE, 0).astype(np.int32)
    merged, _ = carry_over(new, old, np.isin(old, list(corrected)))
    for cell in joined & set(old.flat):
        assert (merged[old == cell] > 0).all()


def test_a_neighbour_that_was_cut_goes_on_as_the_cell_that_was_predicted_there():
    old = drawn([(2, 2, 6, 3), (2, 6, 6, 6)])
    new = drawn([(1, 1, 8, 4), (3, 6, 5, 7)], ABOVE)
    seen = np.zeros(SHAPE, bool)
    seen[:, :8] = True  # the second cell for a third
    merged, went_on = carry_over(new, old, seen)
    assert went_on == {101: 2}
    assert set(np.unique(merged)) == {0, 1, 101}
    np.testing.assert_array_equal(merged[:, :8] == 101, old[:, :8] == 2)
    np.testing.assert_array_equal(merged[:, 8:] == 101, new[:, 8:] == 101)


def test_a_neighbour_that_was_cut_and_is_predicted_no_more_stays_whole():
    old = drawn([(2, 2, 6, 6)])
    seen = np.zeros(SHAPE, bool)
    seen[:, :4] = True
    merged, _ = carry_over(np.zeros(SHAPE, np.int32), old, seen)
    np.testing.assert_array_equal(merged, old)


def test_ids_of_any_size():
    old, new = drawn([(1, 1, 4, 4)], 2**31 - 5), drawn([(6, 6, 4, 4)], 2**31 - 3)
    merged, _ = carry_over(new, old, old > 0)
    assert set(np.unique(merged)) == {0, 2**31 - 5, 2**31 - 3}


def test_of_another_outline_of_a_corrected_cell_nothing_is_left():
    old, new, seen = (np.zeros((60, 60), np.int32) for _ in range(3))
    old[20:40, 20:40] = 1
    seen[12:48, 12:48] = 1
    old[30:33, 6:14] = 2  # a false fragment that reaches into the ring
    new[8:50, 6:50] = 9
    merged, went_on = carry_over(new, old, seen > 0)
    np.testing.assert_array_equal(merged, old)
    assert went_on == {}
