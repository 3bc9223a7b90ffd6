import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_unet.core.cells import edits as edits_module
from napari_unet.core.cells.edits import find_edits


def plane():
    """Two cells: 1 in the upper left, 2 in the lower right."""
    labels = np.zeros((100, 120), np.int32)
    labels[10:20, 10:30] = 1
    labels[60:80, 70:100] = 2
    return labels


def ring(mask, px=8):
    return ndimage.distance_transform_edt(~mask) <= px


def test_nothing_changed_says_nothing():
    edits = find_edits(plane(), plane())
    assert not edits.trusted.any()
    assert edits.n_cells == 0


def test_an_undone_stroke_is_nothing():
    before, after = plane(), plane()
    after[40:44, 40:44] = 3
    after[40:44, 40:44] = 0
    assert find_edits(before, after).n_cells == 0


def test_an_added_cell():
    before, after = plane(), plane()
    after[40:50, 40:50] = 3
    edits = find_edits(before, after)
    assert edits.n_cells == 1
    np.testing.assert_array_equal(edits.trusted, ring(after == 3))


def test_an_erased_cell():
    before, after = plane(), plane()
    after[after == 1] = 0
    edits = find_edits(before, after)
    assert edits.n_cells == 1
    np.testing.assert_array_equal(edits.trusted, ring(before == 1))


def test_a_reshaped_cell_speaks_for_all_of_itself():
    before, after = plane(), plane()
    after[78:84, 70:75] = 2  # grown at one corner
    after[60:62, 90:100] = 0  # trimmed at another
    edits = find_edits(before, after)
    assert edits.n_cells == 1
    np.testing.assert_array_equal(edits.trusted, ring((before == 2) | (after == 2)))


@pytest.mark.parametrize("new_id", [2, 7])
def test_a_cell_split_by_a_line(new_id):
    before, after = plane(), plane()
    after[:, 84:86] = np.where(after[:, 84:86] == 2, 0, after[:, 84:86])
    right = after[:, 86:]
    right[right == 2] = new_id
    edits = find_edits(before, after)
    assert edits.n_cells == (1 if new_id == 2 else 2)
    np.testing.assert_array_equal(edits.trusted, ring(before == 2))


def test_merged_cells():
    before = plane()
    before[60:80, 50:70] = 5
    after = np.where(before == 5, 2, before)
    edits = find_edits(before, after)
    assert edits.n_cells == 1
    np.testing.assert_array_equal(edits.trusted, ring((before == 2) | (before == 5)))


def test_a_cell_given_another_number_is_touched():
    before, after = plane(), plane()
    after[after == 1] = 9
    edits = find_edits(before, after)
    assert edits.n_cells == 1
    np.testing.assert_array_equal(edits.trusted, ring(before == 1))


def test_a_wrong_cell_and_its_pieces_that_another_cell_replaces_are_one():
    before, after = plane(), plane()
    before[62:70, 104:110] = before[85:90, 75:85] = 5  # pieces beside cell 2
    before[22:30, 10:14] = after[22:30, 10:14] = 5  # one that stays, elsewhere
    after[60:95, 68:112] = 7
    assert find_edits(before, after).n_cells == 1
    # A false cell that was erased beside it is one more, and so is each cell in a large one.
    before[30:40, 80:90] = 6
    assert find_edits(before, after).n_cells == 2
    before[30:40, 80:90] = 0
    after[60:95, 90:112] = 8
    assert find_edits(before, after).n_cells == 2


def test_two_strokes_with_one_id_far_apart_are_two_cells():
    before, after = plane(), plane()
    after[5:9, 100:110] = after[85:95, 10:20] = 3
    edits = find_edits(before, after)
    assert edits.n_cells == 2
    np.testing.assert_array_equal(edits.trusted, ring(after == 3))


def test_only_the_touched_piece_of_an_id_is_seen():
    before = plane()
    before[40:50, 10:20] = 2  # a second piece, far from the first
    after = before.copy()
    after[45:50, 10:20] = 0
    edits = find_edits(before, after)
    assert edits.n_cells == 1
    np.testing.assert_array_equal(
        edits.trusted, ring((before == 2) & (np.arange(100) < 55)[:, None])
    )
    assert not edits.trusted[60:80, 70:100].any()


def test_a_stroke_over_the_corner_of_an_old_cell_says_nothing_of_the_rest_of_it():
    before, after = plane(), plane()
    after[15:25, 25:40] = 3
    edits = find_edits(before, after)
    assert edits.n_cells == 2
    expected = ring(after == 3) & (after != 1)
    np.testing.assert_array_equal(edits.trusted, expected)


def test_what_is_left_of_a_false_blob_around_a_painted_cell_is_unseen():
    before = np.zeros((100, 120), np.int32)
    before[10:90, 10:110] = 1
    after = before.copy()
    after[40:60, 50:70] = 2
    edits = find_edits(before, after)
    np.testing.assert_array_equal(edits.trusted, after == 2)


def test_the_other_half_of_a_split_cell_is_seen():
    before, after = plane(), plane()
    after[60:80, 85:100] = 3
    np.testing.assert_array_equal(find_edits(before, after).trusted, ring(before == 2))


def test_untouched_cells_in_the_ring_are_unseen():
    before, after = plane(), plane()
    after[22:30, 10:30] = 3  # two pixels below cell 1
    np.testing.assert_array_equal(
        find_edits(before, after).trusted, ring(after == 3) & (after != 1)
    )


@pytest.mark.parametrize("px", [0, 1, 8, 25])
def test_the_ring_is_as_wide_as_asked(px):
    before = np.zeros((80, 80), np.int32)
    after = before.copy()
    after[40, 40] = 1
    trusted = find_edits(before, after, px).trusted
    y, x = np.indices(before.shape)
    np.testing.assert_array_equal(trusted, np.hypot(y - 40, x - 40) <= px)


def test_the_ring_ends_at_the_edge():
    before = np.zeros((30, 30), np.int32)
    after = before.copy()
    after[0, 0] = after[29, 29] = 1
    edits = find_edits(before, after, 5)
    np.testing.assert_array_equal(edits.trusted, ring(after > 0, 5))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_any_integers_will_do(dtype):
    before, after = plane().astype(dtype), plane().astype(dtype)
    after[40:50, 40:50] = 200
    assert find_edits(before, after).n_cells == 1


def test_huge_ids_cost_nothing():
    before = plane()
    after = np.where(before == 2, np.int32(2_000_000_000), before)
    assert find_edits(before, after).n_cells == 1


def test_labels_of_another_shape_are_refused():
    sentence = r"the labels are \(5, 6\) and were \(5, 5\) .*; segment the image again"
    with pytest.raises(ValueError, match=sentence):
        find_edits(np.zeros((5, 5), int), np.zeros((5, 6), int))


@st.composite
def painted_planes(draw):
    """Labels before and after strokes of any id (0 erases), and fills of a cell."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    before = np.zeros((draw(st.integers(1, 50)), draw(st.integers(1, 60))), np.int32)

    def stroke(labels, longest):
        (y, x), (height, width) = (rng.integers(0, n) for n in (labels.shape, longest))
        labels[y : y + height + 1, x : x + width + 1] = rng.integers(0, 6)

    for _ in range(draw(st.integers(0, 12))):
        stroke(before, (12, 40))
    after = before.copy()
    for _ in range(draw(st.integers(0, 5))):
        stroke(after, (5, 8))
    if draw(st.booleans()):
        after[after == rng.integers(0, 6)] = rng.integers(0, 6)
    return before, after


@given(painted_planes(), st.sampled_from([0, 1, 3, 8]))
@settings(max_examples=60, deadline=None)
def test_looking_around_the_changes_finds_what_looking_at_all_finds(planes, ring_px):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edits_module, "_BLOCK_PX", 1000)
        whole = find_edits(*planes, ring_px)
        patch.setattr(edits_module, "_BLOCK_PX", 4)
        near = find_edits(*planes, ring_px)
        more = np.flatnonzero((planes[0] != planes[1]) | (np.indices(planes[0].shape)[0] % 9 == 0))
        told = find_edits(*planes, ring_px, more)
    for found in (near, told):
        assert found.n_cells == whole.n_cells
        np.testing.assert_array_equal(found.trusted, whole.trusted)


def test_a_touched_cell_that_goes_on_far_away_is_seen_as_a_whole():
    before = np.zeros((600, 600), np.int32)
    before[5:590, 5:20] = 7  # one cell that is touched goes on far away
    after = before.copy()
    after[10:14, 18:24] = 7
    after[300:310, 300:310] = 8
    edits = find_edits(before, after)
    assert edits.n_cells == 2
    np.testing.assert_array_equal(edits.trusted, ring(after > 0))
