from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from napari_unet.core.cells.metrics import (
    THRESHOLDS,
    Scores,
    confusion,
    count_matches,
    kappa,
    overlaps,
    rand_error,
    warping_error,
)

small_labels = arrays(np.int32, (6, 7), elements=st.integers(0, 4))


def summary(*pairs) -> dict[str, float]:
    scores = Scores()
    for truth, pred in pairs:
        scores.add(np.asarray(truth), np.asarray(pred))
    return scores.summary()


def most_matches(truth, pred, threshold: float) -> int:
    """Try every way to give each true object a predicted one."""
    true = [truth == i for i in np.unique(truth) if i]
    found = [pred == i for i in np.unique(pred) if i]
    found += [np.zeros_like(truth, bool)] * len(true)
    good = [[(t & p).sum() / (t | p).sum() >= threshold for p in found] for t in true]
    ways = permutations(range(len(found)), len(true))
    return max(sum(good[i][j] for i, j in enumerate(way)) for way in ways)


def line(*runs: tuple[int, int]):
    """A one-row image of (id, length) runs."""
    return np.concatenate([np.full(n, i) for i, n in runs])[None]


def test_thresholds():
    assert THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@given(small_labels)
def test_a_perfect_prediction_scores_1_whatever_the_ids(truth):
    result = summary((truth, np.where(truth, 90 - 3 * truth, 0)))
    for name in ("ap50", "ap75", "map", "f1_50", "precision_50", "recall_50", "seg", "iou"):
        assert result[name] == 1
    assert result["pixel_error"] == 0


@given(small_labels, small_labels, st.sampled_from(THRESHOLDS))
def test_matches_equal_those_of_trying_everything(truth, pred, threshold):
    iou, _ = overlaps(truth, pred)
    assert count_matches(iou, threshold) == most_matches(truth, pred, threshold)


@pytest.mark.slow
@given(st.lists(st.tuples(small_labels, small_labels), min_size=1, max_size=3))
def test_average_precision_counts_over_all_images(pairs):
    result = summary(*pairs)
    aps = []
    for threshold in THRESHOLDS:
        tp = sum(most_matches(t, p, threshold) for t, p in pairs)
        n_true = sum(len(np.unique(t[t > 0])) for t, _ in pairs)
        n_pred = sum(len(np.unique(p[p > 0])) for _, p in pairs)
        fp, fn = n_pred - tp, n_true - tp
        aps.append(tp / (tp + fp + fn) if tp + fp + fn else 1.0)
    assert result["ap50"] == pytest.approx(aps[0])
    assert result["ap75"] == pytest.approx(aps[5])
    assert result["map"] == pytest.approx(np.mean(aps))


def test_every_number_by_hand():
    # Object 1: IoU 8/10. Object 2: IoU 3/10, covered by 3/6. Object 3: missed. One invented.
    truth = line((1, 10), (0, 5), (2, 6), (0, 4), (0, 5), (3, 4), (0, 6))
    pred = line((7, 8), (0, 2), (0, 5), (0, 3), (8, 3), (8, 4), (0, 5), (0, 4), (9, 6))
    result = summary((truth, pred))
    assert (result["n_images"], result["n_true"], result["n_pred"]) == (1, 3, 3)
    assert result["ap50"] == result["ap75"] == pytest.approx(1 / 5)
    assert result["map"] == pytest.approx(7 / 10 / 5), "hits at 0.50 to 0.80"
    assert result["precision_50"] == pytest.approx(1 / 3)
    assert result["recall_50"] == pytest.approx(1 / 3)
    assert result["f1_50"] == pytest.approx(2 / 6)
    assert result["seg"] == pytest.approx(0.8 / 3), "object 2 is not covered by more than half"
    assert result["iou"] == pytest.approx((8 + 3) / (10 + 6 + 4 + 4 + 6))
    assert result["pixel_error"] == pytest.approx((2 + 3 + 4 + 4 + 6) / 40)


def test_seg_takes_the_iou_of_the_object_that_covers_more_than_half():
    # Covered wholly by an object five times as large: SEG counts its small IoU, AP does not.
    truth, pred = line((1, 4), (0, 16)), line((1, 20))
    result = summary((truth, pred))
    assert result["seg"] == pytest.approx(0.2)
    assert result["ap50"] == 0
    assert summary((truth, line((1, 2), (0, 18))))["seg"] == 0, "exactly half is not enough"
    assert summary((truth, line((1, 3), (0, 17))))["seg"] == pytest.approx(0.75)


def test_an_iou_of_exactly_one_half_matches_once():
    # One true object, two predicted halves of IoU 0.5 each: one hit, one false positive.
    truth, pred = line((1, 8)), line((1, 4), (2, 4))
    iou, covered = overlaps(truth, pred)
    np.testing.assert_array_equal(iou, [[0.5, 0.5]])
    np.testing.assert_array_equal(covered, [[0.5, 0.5]])
    result = summary((truth, pred))
    assert (result["ap50"], result["precision_50"], result["recall_50"]) == (0.5, 0.5, 1)
    assert result["seg"] == 0


def test_ties_are_resolved_for_the_most_matches():
    # Predicted 1 could go to either true object, predicted 2 only to the first.
    iou = np.array([[0.5, 0.5], [0.5, 0.0]])
    assert count_matches(iou, 0.5) == 2
    assert count_matches(np.array([[0.5, 0.5]] * 2), 0.5) == 2
    assert count_matches(np.array([[0.5], [0.5]]), 0.5) == 1


def test_empty_images():
    empty, cell = np.zeros((5, 5), int), np.eye(5, dtype=int)
    nothing = summary((empty, empty))
    assert (nothing["ap50"], nothing["seg"], nothing["iou"], nothing["pixel_error"]) == (1, 1, 1, 0)
    missed = summary((cell, empty))
    assert (missed["ap50"], missed["recall_50"], missed["seg"], missed["iou"]) == (0, 0, 0, 0)
    invented = summary((empty, cell))
    assert (invented["ap50"], invented["precision_50"], invented["iou"]) == (0, 0, 0)
    assert invented["pixel_error"] == pytest.approx(0.2)


def test_no_image_at_all():
    assert Scores().summary()["n_images"] == 0
    assert Scores().summary()["pixel_error"] == 0


def test_each_object_counts_the_same_whichever_image_it_is_in():
    one, many = np.zeros((10, 10), int), np.arange(100).reshape(10, 10)
    one[:5, :5] = 1
    result = summary((one, np.zeros_like(one)), (many, many))
    assert result["recall_50"] == pytest.approx(99 / 100)
    assert result["seg"] == pytest.approx(99 / 100)


def test_labels_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"the truth is \(4, 5\) and the labels are \(5, 4\)"):
        summary((np.zeros((4, 5), int), np.zeros((5, 4), int)))


def test_rand_error():
    truth = line((1, 4), (0, 2), (2, 4))
    assert rand_error(truth, truth) == pytest.approx(0)
    # Merged: of the pairs of pixels, 6 + 6 belong together, and 28 were put together.
    merged = line((1, 4), (0, 2), (1, 4))
    assert rand_error(truth, merged) == pytest.approx(1 - 2 * 12 / (12 + 28))


def test_rand_error_of_empty_images():
    empty, cells = np.zeros((1, 10), int), line((1, 4), (0, 2), (2, 4))
    assert rand_error(empty, empty) == 0
    assert rand_error(empty, cells) == 1
    assert rand_error(cells, empty) == pytest.approx(1 - 2 * 12 / (12 + 28)), "as if merged"


classes = arrays(np.int64, (5, 6), elements=st.integers(0, 2))


@given(classes, classes, arrays(np.uint8, (5, 6), elements=st.integers(0, 3)), st.integers(0, 99))
def test_confusion_counts_the_weight_of_each_pixel(truth, pred, units, seed):
    weight = np.random.default_rng(seed).random(truth.shape, np.float32)
    expected = np.zeros((4, 3, 3))
    for place, unit in np.ndenumerate(units):
        if unit:
            expected[unit - 1, truth[place], pred[place]] += weight[place]
    counts = confusion(truth, pred, weight, units, 4, 3)
    np.testing.assert_allclose(counts, expected, rtol=1e-6)


def test_kappa_by_hand():
    # 70 of 100 are right; guessing with the same shares would get 0.6 * 0.5 + 0.4 * 0.5.
    assert kappa(np.array([[40.0, 20.0], [10.0, 30.0]])) == pytest.approx((0.7 - 0.5) / 0.5)


@given(st.lists(st.floats(0.1, 9), min_size=2, max_size=4), st.integers(1, 5))
def test_kappa_is_1_for_all_right_and_0_for_guessing(shares, scale):
    shares = np.array(shares) * scale
    assert kappa(np.diag(shares)) == pytest.approx(1)
    assert kappa(np.outer(shares, shares[::-1])) == pytest.approx(0, abs=1e-9)
    always_the_first = np.outer(shares, np.eye(len(shares))[0])
    assert kappa(always_the_first) == pytest.approx(0, abs=1e-9)


def test_kappa_is_below_0_for_the_contrary():
    assert kappa(np.array([[0.0, 5.0], [5.0, 0.0]])) == pytest.approx(-1)


@pytest.mark.parametrize("only", [0, 1])
def test_where_the_truth_is_one_class_kappa_is_the_share_that_is_right(only):
    counts = np.zeros((2, 2))
    counts[only] = [3, 7] if only else [7, 3]
    assert kappa(counts) == pytest.approx(0.7)
    counts[only, 1 - only] = 0
    assert kappa(counts) == 1


def test_kappa_of_nothing():
    assert kappa(np.zeros((3, 3))) == 1


masks = arrays(np.bool_, (9, 11))


def cells(*boxes, shape=(24, 30)):
    """A mask of rectangles, each given as (top, bottom, left, right)."""
    mask = np.zeros(shape, bool)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def test_a_border_that_runs_elsewhere_is_no_warping_error():
    truth = cells((3, 12, 3, 12), (3, 20, 15, 27))
    moved = cells((2, 15, 4, 11), (5, 17, 14, 29))
    assert warping_error(truth, truth) == 0
    assert warping_error(truth, moved) == 0


@pytest.mark.parametrize(
    ("truth", "pred", "pixels"),
    [
        # Merged: one pixel of the bridge cannot be closed.
        (cells((3, 12, 3, 12), (3, 12, 14, 24)), cells((3, 12, 3, 24)), 9),
        # Missed: a cell shrinks to its last pixel.
        (cells((3, 12, 3, 12), (3, 12, 14, 24)), cells((3, 12, 3, 12)), 1),
        # Added: none of its pixels can appear.
        (cells((3, 12, 3, 12)), cells((3, 12, 3, 12), (15, 18, 20, 24)), 12),
        # A hole: none of its pixels can open.
        (cells((3, 20, 3, 20)), cells((3, 20, 3, 20)) & ~cells((8, 10, 8, 11)), 6),
    ],
)
def test_what_differs_in_topology_counts(truth, pred, pixels):
    assert warping_error(truth, pred) == pytest.approx(pixels / truth.size)


@pytest.mark.slow
@given(masks, masks)
def test_warping_never_makes_it_worse(truth, pred):
    assert 0 <= warping_error(truth, pred) <= (truth != pred).mean()
    assert warping_error(truth, truth) == 0
