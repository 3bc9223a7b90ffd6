"""Marks: what is confirmed, as small facts."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_unet.corrections.annotations import PaintedPlane
from napari_unet.plugin.edits.marks import box_mark, confirmed, mark_at
from napari_unet.plugin.edits.seen import CONFIRMED, CORRECTED, UNSEEN, SeenPlane


@pytest.fixture
def labels() -> np.ndarray:
    plane = np.zeros((30, 40), np.int32)
    plane[5:10, 5:12] = 3
    plane[20:24, 20:24] = 3  # another piece with the same number
    return plane


def test_a_box_is_right_as_a_whole(labels):
    mark = box_mark((2,), (slice(4, 8), slice(10, 20)))
    found = confirmed([mark], (2,), labels)
    assert found[4:8, 10:20].all()
    assert found.sum() == 40
    assert not confirmed([mark], (1,), labels).any()


def test_a_cell_is_right_with_its_ring_and_without_its_namesake(labels):
    mark = mark_at((), labels, (6, 6), ring_px=3, radius_px=5)
    found = confirmed([mark], (), labels)
    assert found[5:10, 5:12].all()
    assert found[7, 12:15].all()
    assert not found[7, 15]
    assert not found[20:24, 20:24].any()


def test_background_is_right_within_a_disc(labels):
    found = confirmed([mark_at((), labels, (0, 39), ring_px=3, radius_px=4)], (), labels)
    assert found[0, 35:].all()
    assert not found[0, 34]
    assert not found[4, 38]


def test_marks_are_plain_json(labels):
    marks = [
        mark_at((1, 2), labels, at, ring_px=np.int64(3), radius_px=4) for at in ((6, 6), (0, 0))
    ]
    again = json.loads(json.dumps(marks))
    np.testing.assert_array_equal(
        confirmed(again, (1, 2), labels), confirmed(marks, (1, 2), labels)
    )


def test_the_latest_word_counts(labels):
    after = labels.copy()
    after[5:7, 5:12] = 0
    carried = np.zeros(labels.shape, np.uint8)
    carried[0:3, 30:35] = CORRECTED
    carried[0:9, 0:9] = CONFIRMED
    plane = SeenPlane(
        PaintedPlane((), labels, after), carried, (box_mark((), (slice(0, 5), slice(25, 40))),)
    )
    look = plane.look(ring_px=2)
    assert look.n_cells == 1
    assert look.states[6, 6] == CORRECTED
    assert look.states[1, 32] == CORRECTED
    assert look.states[1, 26] == CONFIRMED
    assert look.states[0, 0] == CONFIRMED
    assert look.states[29, 39] == UNSEEN
    correction = plane.correction(ring_px=2, classes={3: "lobed", 9: "gone"})
    np.testing.assert_array_equal(correction.trusted, look.states > 0)
    assert correction.classes == {3: "lobed"}


def test_a_plane_of_which_nothing_was_seen_teaches_nothing(labels):
    assert SeenPlane(PaintedPlane((), labels, labels), None, ()).correction(8, {}) is None
    confirmed_only = SeenPlane(
        PaintedPlane((), labels, labels), None, (box_mark((), (slice(0, 9), slice(0, 9))),)
    )
    assert confirmed_only.correction(8, {}).trusted.sum() == 81
