from __future__ import annotations

import json

import numpy as np
import pytest

from napari_unet.corrections.annotations import PaintedPlane
from napari_unet.plugin.edits.draft_cells import bring_along, dashes, draft_of, pending
from napari_unet.plugin.edits.marks import box_mark, confirmed, holds, loop_mark
from napari_unet.plugin.edits.seen import CONFIRMED, CORRECTED, UNSEEN, SeenPlane
from napari_unet.plugin.viewer.record import DraftCell

CELL = np.s_[10:20, 10:20]
EVERYTHING = (slice(0, 40), slice(0, 40))


@pytest.fixture
def labels() -> np.ndarray:
    """A found cell 1, and the draft 2."""
    labels = np.zeros((40, 40), np.int32)
    labels[30:36, 30:36] = 1
    labels[CELL] = 2
    return labels


@pytest.fixture
def draft(labels: np.ndarray) -> DraftCell:
    made = draft_of((), labels, (slice(9, 21), slice(9, 21)), 2)
    return dict(json.loads(json.dumps(made)))


def test_a_draft_is_pending_until_a_pixel_of_it_changes(labels, draft):
    np.testing.assert_array_equal(pending([draft], [], (), labels) == 2, labels == 2)
    assert not pending([draft], [], (1,), labels).any()
    for at, value in (((10, 10), 0), ((9, 12), 2), ((15, 15), 3)):
        touched = labels.copy()
        touched[at] = value
        assert not pending([draft], [], (), touched).any()
    beside = labels.copy()
    beside[30:36, 30:36] = 0
    assert pending([draft], [], (), beside).any()


def test_only_a_mark_that_names_the_draft_confirms_it(labels, draft):
    before = np.where(labels == 2, 0, labels)
    earlier = box_mark((), EVERYTHING)
    plane = SeenPlane(PaintedPlane((), before, labels), None, (earlier,), (draft,))
    look = plane.look(3)
    assert (look.states[CELL] == UNSEEN).all()
    assert look.states[5, 5] == CONFIRMED
    assert look.n_cells == 0
    later = earlier | {"drafts": [2]}
    look = SeenPlane(PaintedPlane((), before, labels), None, (later,), (draft,)).look(3)
    assert (look.states[CELL] == CORRECTED).all()
    assert not look.drafts.any()


def test_the_ring_of_a_neighbour_does_not_reach_into_a_draft(labels, draft):
    after = labels.copy()
    after[10:20, 22:30] = 5
    before = np.where(labels == 2, 0, labels)
    states = SeenPlane(PaintedPlane((), before, after), None, (), (draft,)).look(8).states
    assert (states[CELL] == UNSEEN).all()
    assert states[15, 21] == CORRECTED


def test_drafts_come_along_whatever_is_found_there(labels, draft):
    drafts = pending([draft], [], (), labels)
    unseen = np.zeros(labels.shape, bool)
    # One cell under the draft and one that goes on far beyond it; a third was corrected.
    found = np.zeros_like(labels)
    found[10:20, 9:12], found[15:20, 12:40], found[20:22, 10:20] = 6, 7, 5
    fresh = found.copy()
    (came,) = bring_along(fresh, (), drafts, unseen)
    np.testing.assert_array_equal(fresh == 2, labels == 2)
    assert not (fresh == 6).any()
    np.testing.assert_array_equal(fresh == 7, (found == 7) & (labels != 2))
    assert (fresh == 5).sum() == 20
    assert pending([came], [], (), fresh).any()
    # What is right already stays, though its cell was found under the draft.
    fresh = found.copy()
    bring_along(fresh, (), drafts, found == 6)
    np.testing.assert_array_equal(fresh == 6, (found == 6) & (labels != 2))


def test_a_cell_that_the_user_erased_around_a_draft_is_corrected(labels, draft):
    before = np.where(labels == 2, 0, labels)
    before[8:28, 8:36] = 9
    states = SeenPlane(PaintedPlane((), before, labels), None, (), (draft,)).look(3).states
    assert (states[8:28, 24:36] == CORRECTED).all()
    assert (states[CELL] == UNSEEN).all()
    # A draft that is most of the cell has replaced it, which teaches nothing yet.
    before = np.where(labels == 2, 0, labels)
    before[9:20, 9:21] = 9
    states = SeenPlane(PaintedPlane((), before, labels), None, (), (draft,)).look(3).states
    assert not states.any()


def test_what_came_along_counts_the_cells_that_were_corrected_and_not_their_neighbours(labels):
    seen = np.zeros(labels.shape, np.uint8)
    # All of the cell with its ring, and the corner of a neighbour that a mark reached.
    seen[8:22, 8:22], seen[30:33, 30:33] = CORRECTED, CONFIRMED
    assert SeenPlane(PaintedPlane((), labels, labels), seen, ()).n_carried == 1
    seen[30:36, 30:35] = CONFIRMED
    assert SeenPlane(PaintedPlane((), labels, labels), seen, ()).n_carried == 2
    assert SeenPlane(PaintedPlane((), labels, labels), None, ()).n_carried == 0


def test_the_outline_is_dashed(labels, draft):
    shown = dashes(pending([draft], [], (), labels))
    assert 0 < shown.sum() < 36
    assert not shown[11:19, 11:19].any()
    assert not shown[labels != 2].any()


def test_a_loop_mark_ends_when_an_erased_cell_is_back(labels):
    loop = [(5, 5), (5, 30), (25, 30), (25, 5)]
    mark = json.loads(json.dumps(loop_mark((), labels, loop, [(12, 12)])))
    assert not holds(mark, labels)
    assert not confirmed([mark], (), labels).any()
    after = np.where(labels == 2, 0, labels)
    assert confirmed([mark], (), after)[10:20, 10:20].all()
    # Who paints there later says nothing about the rest.
    after[10:13, 10:13] = 8
    said = confirmed([mark], (), after)
    assert not said[10:13, 10:13].any()
    assert said[20, 20]
