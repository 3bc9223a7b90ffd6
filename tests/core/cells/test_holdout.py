import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from napari_unet.core.cells.holdout import split_seen


def grid(shape, step=12, size=6):
    """Square cells on a grid, with numbers of their own."""
    labels = np.zeros(shape, np.int32)
    for y in range(step // 2, shape[0] - size, step):
        for x in range(step // 2, shape[1] - size, step):
            labels[y : y + size, x : x + size] = labels.max() + 1
    return labels


def around(labels, reach=2):
    """Everything within `reach` px of a cell was seen."""
    return ndimage.maximum_filter(labels, 2 * reach + 1) > 0


def apart(learn, held) -> int:
    """Pixels between the rows, or the columns, of two masks, whichever are further apart."""
    gaps = []
    for axis in (0, 1):
        one, other = (np.flatnonzero(mask.any(1 - axis)) for mask in (learn, held > 0))
        gaps.append(max(other[0] - one[-1], one[0] - other[-1]))
    return max(gaps)


@st.composite
def planes(draw):
    labels, seen, groups = [], [], []
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
        cells = grid(shape)
        keep = rng.random(cells.max() + 1) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
        keep[0] = False
        labels.append(np.where(keep[cells], cells, 0).astype(np.int32))
        kind = draw(st.sampled_from(["around", "all", "noise", "nothing"]))
        seen.append(
            {
                "around": around(labels[-1]),
                "all": np.ones(shape, bool),
                "noise": rng.random(shape) < 0.3,
                "nothing": np.zeros(shape, bool),
            }[kind]
        )
        groups.append(draw(st.integers(0, 2)))
    return labels, seen, groups


@settings(max_examples=60)
@given(planes(), st.integers(0, 30), st.sampled_from([0.1, 0.25, 0.5]))
def test_what_judges_never_teaches(case, guard, share):
    labels, seen, groups = case
    split = split_seen(labels, seen, groups, guard, share)
    again = split_seen(labels, seen, groups, guard, share)
    units = [set(np.unique(held[held > 0])) for held in split.held]
    assert set().union(*units) == set(range(1, split.n_units + 1))
    assert sum(map(len, units)) == split.n_units, "numbers run over all planes"
    assert split.weak == again.weak
    held_out = {g for g, unit in zip(groups, units, strict=True) if unit}
    for mask, held, here, group, *same in zip(
        split.learn, split.held, seen, groups, again.learn, again.held, strict=True
    ):
        assert held.dtype == np.int32
        assert not (mask & (held > 0)).any()
        assert not ((mask | (held > 0)) & ~here).any()
        np.testing.assert_array_equal(mask, same[0])
        np.testing.assert_array_equal(held, same[1])
        if group not in held_out:
            np.testing.assert_array_equal(mask, here)
        elif not split.weak and mask.any() and held.any():
            assert apart(mask, held) > guard
    if any(here.any() for here in seen):
        assert any(mask.any() for mask in split.learn), "something is left to learn from"


@settings(max_examples=60)
@given(planes(), st.integers(0, 30))
def test_planes_of_one_image_are_on_one_side(case, guard):
    labels, seen, groups = case
    split = split_seen(labels, seen, groups, guard)
    teaching = {g for g, mask in zip(groups, split.learn, strict=True) if mask.any()}
    held_out = {g for g, held in zip(groups, split.held, strict=True) if held.any()}
    both = teaching & held_out
    assert len(both) <= 1, "at most one image is cut in two"
    if both and not split.weak:
        # Slices show the same places: the cut goes through all of them.
        inside = [i for i, group in enumerate(groups) if {group} == both]
        rows, columns = (max(labels[i].shape[axis] for i in inside) for axis in (0, 1))
        learn, held = np.zeros((2, rows, columns), bool)
        for i in inside:
            y, x = labels[i].shape
            learn[:y, :x] |= split.learn[i]
            held[:y, :x] |= split.held[i] > 0
        assert apart(learn, held) > guard


def test_whole_images_are_held_out_where_there_are_several():
    labels = [grid((60, 60)) for _ in range(4)]
    seen = [around(cells) for cells in labels]
    split = split_seen(labels, seen, [3, 1, 0, 2], guard_px=10)
    assert [bool(held.any()) for held in split.held] == [False, False, True, False]
    assert not split.learn[2].any()
    np.testing.assert_array_equal(split.held[2] > 0, seen[2])
    assert (split.n_units, split.weak) == (labels[2].max(), False)


def test_slices_of_one_image_are_held_out_together():
    labels = [grid((60, 60)) for _ in range(6)]
    split = split_seen(labels, [around(cells) for cells in labels], [0, 1, 2, 0, 1, 2], 10, 0.33)
    assert [bool(held.any()) for held in split.held] == [True, False, False] * 2


def test_one_image_is_cut_with_a_guard_band_about_at_the_share():
    labels = grid((60, 360))
    split = split_seen([labels], [np.ones(labels.shape, bool)], [0], guard_px=30)
    (learn,), (held,) = split.learn, split.held
    assert not split.weak
    assert split.n_units == pytest.approx(0.25 * labels.max(), rel=0.1)
    assert 30 < apart(learn, held) <= 34
    # Each unit is one cell with its surroundings.
    for unit in range(1, split.n_units + 1):
        assert len(np.unique(labels[(held == unit) & (labels > 0)])) == 1


def test_without_room_for_a_guard_band_the_check_is_weak():
    labels = grid((60, 60))
    seen = around(labels)
    split = split_seen([labels], [seen], [0], guard_px=50)
    (learn,), (held,) = split.learn, split.held
    assert split.weak
    np.testing.assert_array_equal(learn, seen & (held == 0))
    assert split.n_units == pytest.approx(0.25 * labels.max(), abs=0.5)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_about_the_share_of_the_cells_judges(share):
    labels = grid((400, 400))
    for planes in ([labels], [labels[:200], labels[200:]], [labels[:100], labels[100:]]):
        split = split_seen(planes, [around(p) for p in planes], list(range(len(planes))), 5, share)
        assert 0.5 * share < split.n_units / labels.max() < 1.6 * share


def test_erased_spots_are_units_as_well():
    # Nothing is left of two cells; what was seen are the places where they were.
    seen = np.zeros((40, 300), bool)
    seen[10:20, 10:20] = seen[10:20, 270:280] = True
    split = split_seen([np.zeros(seen.shape, np.int32)], [seen], [0], guard_px=40)
    assert split.n_units == 1
    assert not split.weak
    assert split.learn[0].sum() == (split.held[0] > 0).sum() == 100


@pytest.mark.parametrize("cells", [0, 1])
def test_a_single_unit_is_needed_for_the_training(cells):
    labels = np.zeros((40, 50), np.int32)
    seen = np.zeros(labels.shape, bool)
    seen[10:20, 10:20] = True
    labels[12:18, 12:18] = cells
    split = split_seen([labels], [seen], [0], guard_px=5)
    assert split.n_units == 0
    assert not split.held[0].any()
    np.testing.assert_array_equal(split.learn[0], seen)


def test_nothing_seen_is_nothing_held():
    nothing = np.zeros((20, 30), bool)
    split = split_seen([grid((20, 30))], [nothing], [0], guard_px=5)
    assert split.n_units == 0
    assert not split.learn[0].any()


def test_cells_that_nobody_saw_do_not_count():
    labels = grid((60, 60))
    seen = np.zeros(labels.shape, bool)
    seen[:14, :14] = True  # one cell of 16
    assert split_seen([labels], [seen], [0], guard_px=0).n_units == 0
