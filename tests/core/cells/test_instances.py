import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from napari_unet.core.cells.instances import (
    close_gaps,
    label_instances,
    relative_distance,
    separate_touching,
    split_at_waists,
    split_pieces,
)

EIGHT = np.ones((3, 3))


def disc(shape, y, x, radius):
    rows, columns = np.indices(shape)
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


@st.composite
def blobs(draw, smallest: int = 1):
    labels = np.zeros((48, 56), np.int32)
    for cell in range(1, 1 + draw(st.integers(0, 8))):
        y, x = draw(st.integers(0, 47)), draw(st.integers(0, 55))
        labels[disc(labels.shape, y, x, draw(st.integers(smallest, 10)))] = cell
    return labels


def neighbourhood(labels, y, x, reach: int) -> set[int]:
    """Ids of the instances at most so many pixels away, by rows and by columns."""
    window = labels[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
    return set(window.ravel().tolist()) - {0}


def tessellation(seed: int, shape=(96, 96), count: int = 12):
    """Cells that fill the plane, all touching."""
    points = np.random.default_rng(seed).uniform(0, shape, (count, 2))
    rows, columns = np.indices(shape)
    distance = [(rows - y) ** 2 + (columns - x) ** 2 for y, x in points]
    return np.argmin(distance, axis=0).astype(np.int32) + 1


def best_ious(truth, pred):
    for cell in np.unique(truth[truth > 0]):
        mask = truth == cell
        found = [pred == other for other in np.unique(pred[mask]) if other]
        yield max(((mask & p).sum() / (mask | p).sum() for p in found), default=0.0)


@given(blobs())
def test_separated_instances_never_touch(labels):
    out = separate_touching(labels)
    assert out.dtype == np.int32
    for y, x in np.argwhere(out > 0):
        assert neighbourhood(out, y, x, 1) == {out[y, x]}


@given(blobs())
def test_separation_takes_the_pixels_in_contact_and_no_other(labels):
    out = separate_touching(labels)
    for y, x in np.argwhere(labels > 0):
        touching = len(neighbourhood(labels, y, x, 1)) > 1
        assert out[y, x] == (0 if touching else labels[y, x])
    assert not out[labels == 0].any()


def test_a_line_of_contact_becomes_a_gap_of_two_pixels():
    labels = np.ones((4, 10), np.uint16)
    labels[:, 5:] = 2
    expected = np.array([[1, 1, 1, 1, 0, 0, 2, 2, 2, 2]] * 4)
    np.testing.assert_array_equal(separate_touching(labels), expected)
    np.testing.assert_array_equal(close_gaps(expected), labels)


@given(blobs(), st.integers(1, 2))
def test_closing_fills_only_between_two_instances(labels, gap_px):
    out = close_gaps(labels, gap_px)
    np.testing.assert_array_equal(out[labels > 0], labels[labels > 0])
    for y, x in np.argwhere((labels == 0) & (out > 0)):
        assert len(neighbourhood(labels, y, x, 2 * gap_px)) > 1
        assert out[y, x] in neighbourhood(labels, y, x, gap_px)


def test_closing_nothing_changes_nothing():
    labels = separate_touching(tessellation(0))
    np.testing.assert_array_equal(close_gaps(labels, 0), labels)


def test_a_gap_of_three_pixels_stays():
    labels = np.zeros((5, 11), np.int32)
    labels[:, :4], labels[:, 7:] = 1, 2
    np.testing.assert_array_equal(close_gaps(labels), labels)


@pytest.mark.parametrize(("gap", "is_closed"), [(1, True), (4, True), (5, False), (6, False)])
def test_a_gap_along_a_diagonal_is_closed_or_left_without_stripes(gap, is_closed):
    rows, columns = np.indices((16, 24))
    along = columns - rows
    labels = np.where(along < 4, 1, np.where(along < 4 + gap, 0, 2)).astype(np.int32)
    labels[:4] = labels[-4:] = 0
    out = close_gaps(labels)
    inside = (along >= 4) & (along < 4 + gap)
    inside[:7] = inside[-7:] = False
    assert (out[inside] > 0).all() if is_closed else (out[inside] == 0).all()


@given(blobs(), st.integers(1, 2))
def test_what_a_cell_gets_touches_it_by_a_side(labels, gap_px):
    out = close_gaps(labels, gap_px)
    for cell in np.unique(labels[labels > 0]):
        pieces, count = ndimage.label(out == cell)
        assert len(np.unique(pieces[labels == cell])) == count


def test_a_wider_gap_is_shared():
    labels = np.zeros((5, 12), np.int32)
    labels[:, :4], labels[:, 8:] = 1, 2
    assert (close_gaps(labels, 2)[0] == [1] * 6 + [2] * 6).all()


def test_an_isolated_cell_comes_back_exactly():
    truth = disc((40, 40), 18, 20, 9)
    labels = label_instances(truth.astype(np.float32))
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, truth)


@given(st.integers(0, 10**6))
def test_touching_cells_come_back_from_their_separation(seed):
    truth = tessellation(seed, count=6)
    scores = (separate_touching(truth) > 0).astype(np.float32)
    ious = list(best_ious(truth, label_instances(scores)))
    # A sliver between others loses too much to its separation to be told apart again; the others
    # may get its pixels.
    kept = np.array([(separate_touching(truth)[truth == i] > 0).mean() for i in np.unique(truth)])
    assert np.sum(kept > 0.6) >= 3
    assert min(np.array(ious)[kept > 0.6]) > 0.8


@given(blobs(smallest=5))
def test_scores_to_labels_inverts_separation_but_for_what_it_broke(labels):
    separated = separate_touching(labels)
    pieces, count = ndimage.label(separated > 0)
    out = label_instances(separated.astype(np.float32), min_size_px=0)
    assert out.max(initial=0) == count
    # Pixels that the separation left keep their piece; given back is only what lies in a gap.
    np.testing.assert_array_equal(out[separated > 0], pieces[separated > 0])
    for y, x in np.argwhere((separated == 0) & (out > 0)):
        assert len(neighbourhood(pieces, y, x, 2)) > 1


@given(blobs())
def test_ids_are_consecutive(labels):
    out = label_instances((labels > 0).astype(np.float32), min_size_px=20)
    assert out.dtype == np.int32
    np.testing.assert_array_equal(np.unique(out[out > 0]), np.arange(1, out.max() + 1))
    assert (np.bincount(out.ravel())[1:] >= 20).all()


def two_hills(distance: int = 16, radius: float = 10.0):
    rows, columns = np.indices((50, 80))
    hills = [
        np.exp(-((rows - 25) ** 2 + (columns - 40 - side * distance / 2) ** 2) / radius**2)
        for side in (-1, 1)
    ]
    return np.maximum(*hills).astype(np.float32)


def test_a_component_with_two_cores_is_split_between_them():
    scores = two_hills()
    whole = label_instances(scores, 0.3)
    assert whole.max() == 1
    split = label_instances(scores, 0.3, seed_threshold=0.8)
    np.testing.assert_array_equal(split[whole > 0] > 0, True)
    assert split.max() == 2
    left, right = split[25, 32], split[25, 48]
    assert left != right
    assert (split[:, :38][whole[:, :38] > 0] == left).all()
    assert (split[:, 43:][whole[:, 43:] > 0] == right).all()


def test_components_with_several_cores_are_all_split():
    scores = np.zeros((60, 90), np.float32)
    cores = [(10, 10), (10, 40), (10, 70), (45, 20), (45, 60)]
    scores[4:17, 4:77] = scores[39:52, 14:67] = 0.6
    for y, x in cores:
        scores[disc(scores.shape, y, x, 4)] = 0.95
    split = label_instances(scores, seed_threshold=0.8)
    assert sorted(split[y, x] for y, x in cores) == [1, 2, 3, 4, 5]
    assert split.max() == 5
    np.testing.assert_array_equal(split > 0, scores > 0)


def test_splitting_leaves_the_others_alone():
    scores = np.zeros((50, 120), np.float32)
    scores[:, :80] = two_hills()
    scores[disc(scores.shape, 25, 100, 8)] = 0.95
    split = label_instances(scores, 0.3, seed_threshold=0.8)
    assert split.max() == 3
    lone = split[25, 100]
    np.testing.assert_array_equal(split == lone, disc(scores.shape, 25, 100, 8))


def test_a_core_that_is_too_small_splits_nothing():
    scores = np.full((20, 40), 0.6, np.float32)
    scores[5:15, 5:15] = 0.9
    scores[9, 30] = 0.9
    assert label_instances(scores, seed_threshold=0.8, min_size_px=16).max() == 1
    assert label_instances(scores, seed_threshold=0.8, min_size_px=2).max() == 2


def test_cells_without_a_core_are_kept():
    scores = np.full((20, 20), 0.6, np.float32)
    assert label_instances(scores, seed_threshold=0.8).max() == 1


@given(blobs(smallest=3))
def test_the_distance_is_one_at_each_core_and_falls_to_nothing_outside(labels):
    pieces = split_pieces(separate_touching(labels))
    distance = relative_distance(pieces)
    assert distance.dtype == np.float32
    np.testing.assert_array_equal(distance > 0, pieces > 0)
    for cell in range(1, pieces.max() + 1):
        assert distance[pieces == cell].max() == 1


def test_the_distance_of_a_square_by_hand():
    labels = np.zeros((7, 7), np.int32)
    labels[1:6, 1:6] = 1
    third = np.float32(1) / 3
    expected = np.array([0, third, 2 * third, 1, 2 * third, third, 0])
    np.testing.assert_allclose(relative_distance(labels)[3], expected, rtol=1e-6)


@pytest.mark.parametrize("cut", ["edge of the plane", "edge of what was seen"])
def test_a_cell_does_not_end_where_nobody_looked(cut):
    whole = disc((40, 40), 20, 20, 12).astype(np.int32)
    distance = relative_distance(whole)
    if cut == "edge of the plane":
        half = relative_distance(whole[:, 20:])
    else:
        trusted = np.zeros(whole.shape, bool)
        trusted[:, 20:] = True
        half = relative_distance(np.where(trusted, whole, 0), trusted)[:, 20:]
    np.testing.assert_allclose(half, distance[:, 20:], atol=1e-6)


def test_cells_without_an_outline_are_all_core():
    assert (relative_distance(np.ones((4, 5), np.int32)) == 1).all()
    assert (relative_distance(np.zeros((4, 5), np.int32)) == 0).all()


@given(st.integers(0, 10))
def test_cells_that_touch_are_told_apart_by_their_distance(seed):
    rng = np.random.default_rng(seed)
    truth = np.zeros((50, 90), np.int32)
    for cell in (1, 2, 3):
        truth[disc(truth.shape, 25 + rng.integers(-3, 4), 22 * cell, 12)] = cell
    foreground = (truth > 0).astype(np.float32)
    distance = ndimage.gaussian_filter(relative_distance(separate_touching(truth)), 1)
    assert label_instances(foreground, seed_threshold=0.5).max() == 1
    found = label_instances(foreground, seed_threshold=0.5, distance=distance)
    assert found.max() == 3
    assert min(best_ious(truth, found)) > 0.9


def two_cells_and_a_distance():
    scores = np.zeros((20, 60), np.float32)
    scores[4:16, 4:16] = scores[4:16, 24:36] = 0.9
    return scores, np.where(scores > 0, np.float32(0.3), np.float32(0))


def test_what_has_no_middle_is_no_cell():
    scores, distance = two_cells_and_a_distance()
    distance[10, 10] = 0.7
    found = label_instances(scores, distance=distance, peak_threshold=0.5)
    np.testing.assert_array_equal(found > 0, (scores > 0) & (np.indices(scores.shape)[1] < 20))
    for peak in (None, 0.2):
        assert label_instances(scores, distance=distance, peak_threshold=peak).max() == 2
    assert label_instances(scores, distance=distance, peak_threshold=0.7).max() == 0
    assert label_instances(scores, peak_threshold=0.95).max() == 2, "no distance is told"


def test_each_part_of_a_split_cell_needs_a_middle():
    scores, distance = two_cells_and_a_distance()
    scores[8:12, 16:24] = 0.9
    distance[8:12, 8:12], distance[8:12, 28:32] = 0.8, 0.6
    settings = {"seed_threshold": 0.5, "min_size_px": 4, "distance": distance}
    assert label_instances(scores, **settings, peak_threshold=0.55).max() == 2
    left = label_instances(scores, **settings, peak_threshold=0.7)
    assert left[10, 10] == left.max() == 1
    assert left[10, 30] == 0


def test_what_is_too_large_to_be_split_needs_no_middle():
    scores, distance = two_cells_and_a_distance()
    scores[10, :] = 0.9
    found = label_instances(scores, distance=distance, largest_px=50, peak_threshold=0.5)
    np.testing.assert_array_equal(found > 0, scores > 0)


def test_small_cells_are_dropped():
    scores = np.zeros((20, 20), np.float32)
    scores[1:5, 1:5], scores[10:13, 10:15] = 1, 1
    assert label_instances(scores, min_size_px=16)[2, 2] == 1
    assert label_instances(scores, min_size_px=16).max() == 1
    assert label_instances(scores, min_size_px=15).max() == 2
    assert label_instances(scores, min_size_px=17).max() == 0


def test_more_cells_than_16_bits_can_number_have_ids_of_their_own():
    scores = np.zeros((1060, 1060), np.float32)
    scores[::4, ::4] = 1
    labels = label_instances(scores, min_size_px=1)
    count = 265 * 265
    assert count > 70_000
    assert np.unique(labels[::4, ::4]).tolist() == list(range(1, count + 1))
    assert (labels > 0).sum() == count


def test_the_threshold_is_exclusive():
    scores = np.zeros((10, 10), np.float32)
    scores[:, :5], scores[:, 5:] = 0.5, 0.75
    np.testing.assert_array_equal(label_instances(scores, 0.5)[0], [0] * 5 + [1] * 5)


@pytest.mark.parametrize("seed_threshold", [None, 0.9])
def test_nothing_found(seed_threshold):
    out = label_instances(np.zeros((7, 9), np.float32), seed_threshold=seed_threshold)
    assert out.dtype == np.int32
    assert out.shape == (7, 9)
    assert not out.any()


def test_every_piece_gets_an_id_of_its_own():
    labels = np.zeros((10, 12), np.int64)
    labels[1:3, 1:3] = labels[6:9, 1:3] = 2_000_000_000
    labels[3, 3] = 2_000_000_000  # diagonal: the same piece
    labels[1:9, 6:8] = 5
    labels[1:9, 8:10] = 6
    pieces = split_pieces(labels)
    assert pieces.dtype == np.int32
    assert pieces[1, 1] == pieces[3, 3] != pieces[7, 1]
    assert pieces[1, 6] != pieces[1, 8]
    assert sorted(np.unique(pieces)) == [0, 1, 2, 3, 4]


@given(blobs())
def test_pieces_are_connected_and_never_mix_ids(labels):
    pieces = split_pieces(labels)
    np.testing.assert_array_equal(pieces > 0, labels > 0)
    expected = 0
    for cell in np.unique(labels[labels > 0]):
        expected += ndimage.label(labels == cell, structure=EIGHT)[1]
    assert pieces.max(initial=0) == expected
    for piece in range(1, expected + 1):
        assert len(np.unique(labels[pieces == piece])) == 1


def discs(*centres, radius=20, shape=(100, 160)):
    rows, columns = np.indices(shape)
    return np.any([np.hypot(rows - y, columns - x) <= radius for y, x in centres], axis=0)


@pytest.mark.parametrize("apart", [30, 34, 39])
def test_two_round_cells_that_merged_are_split_at_their_waist(apart):
    merged = discs((50, 50), (50, 50 + apart)).astype(np.int32)
    found = split_at_waists(merged, radius_px=20)
    np.testing.assert_array_equal(found > 0, merged > 0)
    assert len(np.unique(found)) == 3
    sizes = np.bincount(found.ravel())[1:]
    assert sizes.max() < 1.1 * sizes.min()
    columns = np.indices(found.shape)[1][found == found[50, 50]]
    assert columns.max() == pytest.approx(50 + apart / 2, abs=3)


@pytest.mark.parametrize("radius_px", [8, 14, 20])
def test_what_has_no_waist_stays_whole(radius_px):
    rows, columns = np.indices((100, 160))
    long = (np.abs(rows - 50) <= 14) & (np.abs(columns - 80) <= 60)
    ellipse = ((rows - 50) / 15) ** 2 + ((columns - 80) / 60) ** 2 <= 1
    for shape in (long, ellipse, discs((50, 80))):
        np.testing.assert_array_equal(split_at_waists(shape.astype(np.int32), radius_px), shape)


def test_cells_of_common_size_are_never_split():
    merged = discs((50, 50), (50, 84)).astype(np.int32)
    np.testing.assert_array_equal(split_at_waists(merged, radius_px=40), merged)
    found = label_instances(merged.astype(np.float32), radius_px=20)
    assert found.max() == 2
    assert label_instances(merged.astype(np.float32)).max() == 1


@given(arrays(np.int32, (24, 24), elements=st.integers(0, 3)), st.floats(1, 12))
def test_a_split_takes_no_pixel_and_joins_nothing(labels, radius_px):
    found = split_at_waists(labels, radius_px)
    np.testing.assert_array_equal(found > 0, labels > 0)
    pairs = np.unique(np.stack([found[labels > 0], labels[labels > 0]]), axis=1)
    assert len(np.unique(pairs[0])) == pairs.shape[1]


# Stacks


def test_touching_instances_of_a_stack_are_separated_and_given_back():
    labels = np.zeros((9, 8, 8), np.int32)
    labels[1:4, 1:7, 1:7], labels[4:8, 1:7, 1:7] = 1, 2
    apart = separate_touching(labels)
    assert not apart[3:5].any()
    np.testing.assert_array_equal(apart[:3], labels[:3])
    np.testing.assert_array_equal(apart[5:], labels[5:])
    closed = close_gaps(apart)
    np.testing.assert_array_equal(closed[labels > 0], labels[labels > 0])
    assert not closed[[0, 1, 6, 8]][labels[[0, 1, 6, 8]] == 0].any(), "free outlines stay"


def test_each_plane_of_a_stack_of_one_plane_is_as_a_plane():
    rng = np.random.default_rng(0)
    labels = ndimage.zoom(rng.integers(0, 5, (8, 9)), 4, order=0).astype(np.int32)
    np.testing.assert_array_equal(separate_touching(labels[None])[0], separate_touching(labels))
    np.testing.assert_array_equal(close_gaps(labels[None], 2)[0], close_gaps(labels, 2))
    np.testing.assert_allclose(relative_distance(labels[None])[0], relative_distance(labels))


def test_the_distance_counts_planes_by_how_far_apart_they_are():
    labels = np.zeros((7, 21, 21), np.int32)
    labels[1:6, 1:20, 1:20] = 1
    near = relative_distance(labels)
    far = relative_distance(labels, anisotropy=3.0)
    # The middle is 3 planes from the ground above, and 10 px from that at the sides.
    assert near[3, 10, 10] == far[3, 10, 10] == 1
    np.testing.assert_allclose(near[1, 10, 10], 1 / 3)
    np.testing.assert_allclose(far[1, 10, 10], 3 / 9)
    np.testing.assert_allclose(near[3, 10, 1], 1 / 3)
    np.testing.assert_allclose(far[3, 10, 1], 1 / 9)


def test_unseen_planes_are_no_outline():
    labels, trusted = np.zeros((9, 15, 15), np.int32), np.zeros((9, 15, 15), bool)
    labels[4, 4:11, 4:11], trusted[4] = 1, True
    alone = relative_distance(labels[4])
    np.testing.assert_allclose(relative_distance(labels, trusted)[4], alone)


def test_instances_of_a_stack_are_objects_in_3d():
    z, y, x = np.indices((16, 30, 30))
    balls = [((z - a) ** 2 + (y - b) ** 2 + (x - c) ** 2) for a, b, c in ((5, 8, 8), (10, 21, 21))]
    score = np.max([(ball <= 25) * 0.9 for ball in balls], axis=0).astype(np.float32)
    score[0, 0, 29] = 0.9
    labels = label_instances(score)
    assert labels.dtype == np.int32
    assert labels.max() == 2, "what is small is dropped"
    for ball in balls:
        assert len(np.unique(labels[ball <= 25])) == 1
    # Two balls that merge are split where each has a core.
    centres = [(z - 8) ** 2 + (y - 15) ** 2 + (x - c) ** 2 for c in (10, 18)]
    height = np.clip(1 - np.sqrt(np.minimum(*centres)) / 6, 0, 1).astype(np.float32)
    merged = (height > 0).astype(np.float32)
    assert label_instances(merged).max() == 1
    split = label_instances(merged, seed_threshold=0.5, distance=height)
    assert split.max() == 2
    assert split[8, 15, 8] != split[8, 15, 20]
