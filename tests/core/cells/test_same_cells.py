import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_unet.core.cells.same_cells import match_cells, rename

planes = arrays(np.int32, (6, 7), elements=st.integers(0, 9))


def keep_ids(new, old, above):
    names, change = match_cells([(new, old)], above)
    return rename(new, names), names, change


def groups(labels: np.ndarray) -> set[bytes]:
    return {(labels == cell).tobytes() for cell in np.unique(labels) if cell}


@given(planes, planes)
def test_the_cells_stay_the_same_cells_whatever_they_are_called(new, old):
    above = int(old.max())
    kept, _, _ = keep_ids(np.where(new > 0, new + above, 0).astype(np.int32), old, above)
    assert groups(kept) == groups(new)
    assert np.array_equal(kept > 0, new > 0)


@given(planes, planes, st.integers(0, 9))
def test_ids_that_are_old_already_stay(new, old, above):
    above = max(above, int(old.max()))
    mixed = np.where(new > 4, new + above, new).astype(np.int32)
    above = max(above, int(mixed[mixed <= above].max(initial=0)))
    kept, _, _ = keep_ids(mixed, old, above)
    fixed = (mixed > 0) & (mixed <= above)
    assert np.array_equal(kept[fixed], mixed[fixed])
    assert groups(kept) == groups(mixed)


@given(planes)
def test_the_same_cells_in_another_order_have_their_ids_again(old):
    above = int(old.max())
    other = np.where(old > 0, 2 * above + 1 - old, 0).astype(np.int32)
    kept, _, change = keep_ids(other, old, above)
    assert np.array_equal(kept, old)
    assert str(change) == ""


@given(planes, planes)
def test_a_cell_has_an_old_id_only_if_more_than_half_is_the_same(new, old):
    above = int(old.max())
    kept, names, _ = keep_ids(np.where(new > 0, new + above, 0).astype(np.int32), old, above)
    for cell in set(names.values()):
        here, there = kept == cell, old == cell
        iou = (here & there).sum() / (here | there).sum()
        assert (iou > 0.5) == (cell <= above)


def test_what_changed_is_told_apart():
    old = np.zeros((20, 40), np.int32)
    old[:10, :10], old[:10, 20:30], old[15:, :5] = 1, 2, 3
    new = np.zeros_like(old)
    new[:10, :10], new[:10, 22:32], new[15:, 30:] = 11, 12, 13
    _, names, change = keep_ids(new, old, above=10)
    assert names == {11: 1, 12: 2, 13: 11}
    assert (change.new, change.reshaped, change.gone) == ({11}, {2}, {3})
    assert str(change) == "1 new, 1 gone, 1 reshaped"


@given(planes, planes, planes, planes)
def test_a_cell_on_several_planes_is_one(a, b, c, d):
    new, old = np.stack([a, b]), np.stack([c, d])
    above = int(old.max())
    new[new > 0] += above
    names, change = match_cells(zip(new, old, strict=True), above)
    both = keep_ids(new.reshape(12, 7), old.reshape(12, 7), above)
    assert (names, change) == both[1:]


def test_an_id_as_high_as_there_is_takes_no_more_memory():
    highest = np.iinfo(np.int32).max - 1
    old = np.array([[highest, highest, 0]], np.int32)
    new = np.array([[0, 0, highest + 1]], np.int32)
    names, _ = match_cells([(new, old)], highest)
    assert names == {highest + 1: highest + 1}
