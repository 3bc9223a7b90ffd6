import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.measure import label

from napari_unet.corrections.annotations import Correction
from napari_unet.corrections.truth import Truth, merge, same, truth_of

SHAPE = (9, 11)
ids = arrays(np.int32, SHAPE, elements=st.sampled_from([0, 0, 1, 2, 5, 2**31 - 1]))
masks = arrays(np.bool_, SHAPE).filter(np.any)
boxes = st.tuples(*(st.tuples(st.integers(0, n - 2), st.integers(2, n)) for n in SHAPE)).map(
    lambda pairs: tuple(slice(a, max(b, a + 2)) for a, b in pairs)
)
classes = st.dictionaries(st.sampled_from([1, 2, 5, 2**31 - 1]), st.sampled_from("ab"))


@st.composite
def corrections(draw):
    """Blocks and noise: objects that lie inside, across and outside of what was seen."""
    trusted = draw(st.none() | masks)
    if draw(st.booleans()):
        trusted = np.zeros(SHAPE, bool)
        trusted[draw(boxes)] = True
    labels = draw(ids)
    if draw(st.booleans()):
        labels[:] = 0
        for i in (1, 2, 5):
            labels[draw(boxes)] = i
    return Correction((), labels, trusted, draw(classes))


def whole(truth):
    return truth.within(tuple(slice(0, n) for n in SHAPE))


def partition(labels, where):
    """Which pixels have the same id, and which none, as numbers in order of appearance."""
    _, first, inverse = np.unique(labels[where], return_index=True, return_inverse=True)
    order = {v: n for n, v in enumerate(np.argsort(first))}
    return [order[v] for v in inverse], (labels[where] == 0).tolist()


def class_of(truth, where):
    return [truth.classes.get(i, "cell") if i else "" for i in truth.labels[where].tolist()]


def assert_agree(one, other, where):
    assert partition(one.labels, where) == partition(other.labels, where)
    assert class_of(one, where) == class_of(other, where)


@pytest.mark.slow
@given(corrections(), corrections())
def test_a_merge_is_the_new_where_newly_seen_and_the_old_elsewhere(first, second):
    old, new = whole(truth_of(first)), whole(truth_of(second))
    merged = whole(merge(truth_of(second), truth_of(first)))
    # Pieces of which a pixel was newly seen go on as the new object that they are, or not at all.
    pieces = label(old.labels, connectivity=2)
    kept, joined = old.seen & ~new.seen, set()
    for piece in np.unique(pieces[new.seen & (pieces > 0)]):
        again = new.labels[new.seen & (pieces == piece)]
        number = np.bincount(np.unique(again, return_inverse=True)[1]).argmax()
        same_one = np.unique(again)[number]
        if same_one and (again == same_one).mean() >= 0.9:
            rest = kept & (pieces == piece)
            assert len({*merged.labels[rest], *merged.labels[new.labels == same_one]}) == 1
            joined |= set(np.flatnonzero(rest))
        else:
            kept &= pieces != piece
    np.testing.assert_array_equal(merged.seen, new.seen | kept)
    assert_agree(merged, new, new.seen)
    kept.ravel()[list(joined)] = False
    assert_agree(merged, old, kept)
    assert not merged.labels[~merged.seen].any()
    # No id of the one side is on the other, too.
    shared = set(merged.labels[new.seen].tolist()) & set(merged.labels[kept].tolist())
    assert shared <= {0}
    assert set(merged.classes) <= set(merged.labels.ravel().tolist())
    assert merged.labels.dtype == np.int32
    assert merged.labels.min() >= 0


@given(corrections(), corrections())
def test_the_same_again_changes_nothing(first, second):
    new = truth_of(second)
    merged = merge(new, truth_of(first))
    assert same(merge(new, merged), merged)
    assert same(merge(merged, truth_of(first)), merged)
    assert same(merge(new, new), new)


@given(corrections(), corrections())
def test_same_is_equal_but_for_the_ids(first, second):
    one, other = whole(truth_of(first)), whole(truth_of(second))
    everywhere = np.ones(SHAPE, bool)
    equal = (
        np.array_equal(one.seen, other.seen)
        and partition(one.labels, everywhere) == partition(other.labels, everywhere)
        and class_of(one, everywhere) == class_of(other, everywhere)
    )
    assert same(truth_of(first), truth_of(second)) == equal
    numbers = np.array([0, 7, 3, 9, 1], np.int32)
    order = [0, 1, 2, 5, 2**31 - 1]
    renamed = Truth(
        numbers[np.searchsorted(order, one.labels)],
        one.seen,
        {int(numbers[order.index(i)]): name for i, name in one.classes.items()},
        one.box,
    )
    assert same(one, renamed)


@given(corrections(), boxes)
def test_a_box_of_a_truth(correction, box):
    found, everything = truth_of(correction).within(box), whole(truth_of(correction))
    np.testing.assert_array_equal(found.labels, everything.labels[box])
    np.testing.assert_array_equal(found.seen, everything.seen[box])


def test_half_an_object_is_forgotten_and_its_neighbours_stay():
    before, now = np.zeros((2, 10, 20), np.int32)
    before[2:6, 2:6], before[2:6, 8:12], before[2:6, 15:18] = 4, 5, 5
    seen = np.zeros((10, 20), bool)
    seen[:, 10:14] = True
    now[2:4, 10:13] = 9
    old = truth_of(Correction((), before, None, {4: "a", 5: "b"}))
    merged = merge(truth_of(Correction((), now, seen, {9: "c"})), old)
    expected_seen = np.ones((10, 20), bool)
    expected_seen[2:6, 8:10] = False
    np.testing.assert_array_equal(merged.seen, expected_seen)
    expected = now.copy()
    # A piece of the same id that was not met stays; old ids come after the new ones.
    expected[2:6, 2:6], expected[2:6, 15:18] = 10, 11
    np.testing.assert_array_equal(merged.labels, expected)
    assert merged.classes == {9: "c", 10: "a", 11: "b"}
    assert (merged.n_cells(), merged.class_names()) == (3, ("a", "b", "c"))


def test_plain_cells_need_no_class():
    labels = np.array([[1, 0, 2, 0, 3]], np.int32)
    one = truth_of(Correction((), labels, None, {1: "cell", 7: "x"}))
    assert one.classes == {}
    assert one.class_names() == ("cell",)
    assert same(one, truth_of(Correction((), labels)))
    assert not same(one, truth_of(Correction((), labels, None, {2: "x"})))
    nothing = truth_of(Correction((), np.zeros_like(labels)))
    assert (nothing.n_cells(), nothing.class_names()) == (0, ())


@pytest.mark.parametrize(
    ("margin_px", "box"),
    [(0, (4, 6, 7, 10)), (3, (1, 9, 4, 13)), (5, (0, 11, 2, 15)), (99, (0, 12, 0, 20))],
)
def test_the_box_of_what_was_seen(margin_px, box):
    seen = np.zeros((12, 20), bool)
    seen[4, 7] = seen[5, 9] = True
    truth = truth_of(Correction((), np.ones((12, 20), np.int32), seen))
    top, bottom, left, right = box
    assert truth.seen_box(margin_px, (12, 20)) == (slice(top, bottom), slice(left, right))
    in_plane = truth.within((slice(2, 12), slice(0, 15)))
    assert in_plane.seen_box(margin_px, (12, 20)) == (slice(top, bottom), slice(left, right))
