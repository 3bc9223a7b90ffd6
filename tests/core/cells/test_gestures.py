from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.measure import label

from napari_unet.core.cells.edits import find_edits
from napari_unet.core.cells.gestures import (
    clear,
    inside_loop,
    merge,
    piece_at,
    place,
    remove,
    split,
)

T = TypeVar("T")

SHAPE = (12, 14)
PLANES = hnp.arrays(np.int32, SHAPE, elements=st.integers(0, 4))
PIXELS = st.tuples(st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[1] - 1))
# Some of them outside of the plane.
PATHS = st.lists(st.tuples(st.floats(-5, 20), st.floats(-5, 20)), min_size=1, max_size=8)
NEW = 9


@pytest.fixture
def blocks() -> np.ndarray:
    """Two cells that touch in the id 3, a second piece of that id, and a cell 5 px to the right."""
    labels = np.zeros((30, 60), np.int32)
    labels[5:15, 5:25] = 3
    labels[25:28, 5:10] = 3
    labels[5:15, 30:40] = 4
    return labels


def attempt(gesture: Callable[..., T], *args: object) -> T | None:
    """What the gesture does; None if it says in a sentence why it cannot."""
    said = ""
    try:
        return gesture(*args)
    except ValueError as error:
        said = str(error)
    assert ";" in said
    return None


@given(PLANES, PIXELS)
def test_removing_takes_one_connected_piece_and_nothing_else(labels, at):
    kept = labels.copy()
    change = attempt(remove, labels, at)
    np.testing.assert_array_equal(labels, kept)
    if change is None:
        assert labels[at] == 0
        return
    after = change.applied(labels)
    gone = labels != after
    pieces = label(labels, connectivity=2)
    np.testing.assert_array_equal(gone, pieces == pieces[at])
    assert not after[gone].any()


@given(PLANES, PATHS)
def test_a_split_changes_one_cell_and_keeps_every_pixel_cell(labels, path):
    change = attempt(split, labels, path, NEW)
    if change is None:
        return
    after = change.applied(labels)
    np.testing.assert_array_equal(after > 0, labels > 0)
    changed = after != labels
    (cell,) = np.unique(labels[changed])
    new = np.unique(after[changed])
    assert new.tolist() == list(range(NEW, NEW + len(new)))
    # The largest part of the piece keeps the id.
    pieces = label(labels, connectivity=2)
    piece = pieces == pieces[change.rows[0], change.columns[0]]
    sizes = [(piece & (after == number)).sum() for number in (cell, *new)]
    assert sizes[0] == max(sizes)
    assert min(sizes) > 0


@given(PLANES, PIXELS, PIXELS)
def test_merged_cells_are_one_piece_and_others_are_untouched(labels, start, end):
    change = attempt(merge, labels, start, end)
    if change is None:
        return
    after = change.applied(labels)
    pieces = label(after, connectivity=2)
    assert pieces[start] == pieces[end]
    assert after[start] == after[end] == labels[start]
    others = (labels > 0) & (after != labels)
    old = label(labels, connectivity=2)
    assert (old[others] == old[end]).all()


@given(PLANES, PATHS)
def test_a_loop_erases_what_is_mostly_inside_as_a_whole(labels, loop):
    found = attempt(clear, labels, loop)
    if found is None:
        return
    change, gone = found
    after = change.applied(labels)
    box, mask = inside_loop(labels.shape, loop)
    inside = np.zeros(labels.shape, bool)
    inside[box] = mask
    pieces = label(labels, connectivity=2)
    erased = np.unique(pieces[gone_mask(labels, after)])
    for number in range(1, pieces.max() + 1):
        piece = pieces == number
        assert (inside[piece].mean() > 0.5) == (number in erased)
        assert after[piece].any() == (number not in erased)
    assert sorted(pieces[at] for at in gone) == erased.tolist()


def gone_mask(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return (before > 0) & (after == 0)


@given(PLANES, hnp.arrays(bool, (5, 6)), st.integers(0, 7), st.integers(0, 8))
def test_a_new_cell_is_one_piece_and_others_are_replaced_cut_or_kept(labels, mask, y, x):
    box = slice(y, y + 5), slice(x, x + 6)
    wanted = np.zeros(labels.shape, bool)
    wanted[box] = mask
    change = attempt(place, labels, box, mask, NEW)
    if change is None:
        assert not (wanted & (labels == 0)).any()
        return
    after = change.applied(labels)
    new = after == NEW
    assert new.any()
    assert label(new, connectivity=1).max() == 1
    assert not new[~wanted].any()
    assert not ((labels == 0) & (after > 0) & ~new).any()
    pieces = label(labels, connectivity=2)
    for number in range(1, pieces.max() + 1):
        piece = pieces == number
        cell = labels[piece][0]
        if (piece & wanted).sum() > 0.5 * piece.sum():
            assert not (after[piece] == cell).any()
            continue
        rest = piece & ~new
        np.testing.assert_array_equal(after[rest], cell)
        held = (labels == cell) & wanted
        if held.sum() <= 0.5 * wanted.sum():
            assert not (piece & new).any()


def test_a_box_over_a_wrong_cell_and_its_pieces_replaces_them(blocks):
    blocks[10, 26:29] = 8
    after = place(blocks, np.s_[3:16, 4:30], np.ones((13, 26), bool), NEW).applied(blocks)
    assert (after[3:16, 4:30] == NEW).all()
    assert (after[25:28, 5:10] == 3).all()
    assert (after[5:15, 30:40] == 4).all()


def test_a_box_cuts_a_cell_out_of_a_larger_one(blocks):
    after = place(blocks, np.s_[5:15, 5:13], np.ones((10, 8), bool), NEW).applied(blocks)
    assert (after[5:15, 5:13] == NEW).all()
    assert (after[5:15, 13:25] == 3).all()


def test_a_new_cell_that_runs_into_its_neighbour_stops_there(blocks):
    after = place(blocks, np.s_[5:15, 22:30], np.ones((10, 8), bool), NEW).applied(blocks)
    assert (after[5:15, 22:25] == 3).all()
    assert (after[5:15, 25:30] == NEW).all()


def test_each_gesture_teaches_as_the_brush_does(blocks):
    halves = split(blocks, [(0, 15), (20, 15)], 5).applied(blocks)
    assert halves[10, 8] == 3 or halves[10, 20] == 3
    edits = find_edits(blocks, halves, ring_px=2)
    assert edits.n_cells == 2
    assert edits.trusted[5:15, 5:25].all()
    assert not edits.trusted[25:28].any()
    edits = find_edits(blocks, remove(blocks, (10, 35)).applied(blocks), ring_px=2)
    assert edits.trusted[5:15, 30:40].all()
    assert edits.trusted[10, 41]
    one = merge(blocks, (10, 10), (10, 35)).applied(blocks)
    edits = find_edits(blocks, one, ring_px=2)
    assert (edits.trusted | (one == 0))[5:15, 5:40].all()


def test_the_gap_between_merged_cells_is_filled_and_only_that(blocks):
    after = merge(blocks, (10, 10), (10, 35)).applied(blocks)
    assert (after[8:12, 5:40] == 3).all()
    assert not after[:5].any()
    assert not after[15:25].any()
    assert (after[25:28] == blocks[25:28]).all()


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        (((10, 10), (20, 50)), "only one end"),
        (((20, 50), (10, 10)), "only one end"),
        (((10, 10), (10, 20)), "same cell"),
        (((10, 10), (26, 7)), "px or another cell lie between"),
    ],
)
def test_what_cannot_be_merged_is_said(blocks, ends, words):
    with pytest.raises(ValueError, match=words):
        merge(blocks, *ends)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ([(0, 0), (0, 50)], "crosses no cell"),
        ([(-9, -9)], "crosses no cell"),
        ([(0, 15), (10, 15)], "does not cut through"),
        ([(5, 0), (5, 60)], "does not cut through"),
    ],
)
def test_a_line_that_does_not_cut_through_says_so(blocks, path, words):
    with pytest.raises(ValueError, match=words):
        split(blocks, path, 7)


def test_a_bent_line_may_cut_off_several_parts(blocks):
    after = split(blocks, [(0, 9), (20, 9), (20, 20), (0, 20)], 7).applied(blocks)
    assert sorted(np.unique(after[5:15, 5:25]).tolist()) == [3, 7, 8]
    assert after[10, 15] == 3


def test_a_piece_of_an_id_that_was_used_twice(blocks):
    box, mask = piece_at(blocks, (26, 7))
    assert box == (slice(25, 28), slice(5, 10))
    assert mask.all()
