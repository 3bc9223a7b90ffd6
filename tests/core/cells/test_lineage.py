import numpy as np
import pytest

from napari_unet.core.cells.lineage import Track, find_tracks


def tracks(*frames):
    """The tracks of frames that are written as texts: a digit is a cell of one pixel, 0 nothing."""
    made = find_tracks([np.array([int(digit) for digit in frame]) for frame in frames])
    return [(t.id, t.label, t.begin, t.end, t.parent, t.is_daughter) for t in made]


def test_a_cell_is_one_track():
    assert tracks("1102", "0110", "0000") == [
        (1, 1, 0, 1, 0, False),
        (2, 2, 0, 0, 0, False),
    ]


def test_a_mother_that_ends_divides():
    assert tracks("1111", "1111", "2203") == [
        (1, 1, 0, 1, 0, False),
        (2, 2, 2, 2, 1, True),
        (3, 3, 2, 2, 1, True),
    ]


def test_a_mother_that_goes_on_is_a_daughter_too():
    assert tracks("1111", "1103", "1103") == [
        (1, 1, 0, 0, 0, False),
        (3, 3, 1, 2, 1, True),
        (4, 1, 1, 2, 1, True),
    ]


def test_a_cell_that_only_changes_its_id_did_not_divide():
    assert tracks("1110", "0222") == [(1, 1, 0, 0, 0, False), (2, 2, 1, 1, 1, False)]


@pytest.mark.parametrize(("width", "parent"), [(9, 1), (10, 1), (11, 0)])
def test_a_mother_lies_below_a_tenth_of_a_new_cell(width, parent):
    _, new, *_ = tracks("11" + 12 * "0", "1" + width * "2" + (13 - width) * "0")
    assert new == (2, 2, 1, 1, parent, parent == 1)


def test_a_gap_ends_a_track():
    assert tracks("1", "0", "1", "1") == [(1, 1, 0, 0, 0, False), (2, 1, 2, 3, 1, False)]


def test_a_cell_that_comes_back_after_it_divided_has_no_parent():
    assert tracks("111100", "220330", "000010") == [
        (1, 1, 0, 0, 0, False),
        (2, 2, 1, 1, 1, True),
        (3, 3, 1, 1, 1, True),
        (4, 1, 2, 2, 0, False),
    ]


def test_three_daughters():
    found = tracks("111111", "220304")
    assert [(t[0], t[4], t[5]) for t in found] == [
        (1, 0, False),
        (2, 1, True),
        (3, 1, True),
        (4, 1, True),
    ]


def test_the_larger_overlap_decides():
    assert tracks("1112", "3333")[2] == (3, 3, 1, 1, 1, False)


def test_in_stacks():
    before = np.zeros((2, 3, 3), np.int32)
    before[:, 1] = 4
    after = before * 0
    after[0, 1], after[1, 1] = 5, 6
    assert find_tracks([before, after])[1:] == [
        Track(5, 5, 1, 1, 4, True),
        Track(6, 6, 1, 1, 4, True),
    ]


def test_nothing():
    assert find_tracks([]) == []
    assert tracks("000", "000") == []
