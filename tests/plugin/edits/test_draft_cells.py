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


def test_drafts_come_along_where_nothing_was_found(labels, draft):
    drafts = pending([draft], [], (), labels)
    new = np.zeros_like(labels)
    new[15:20, 10:40] = 7
    fresh = new.copy()
    fresh[15:16] = 0
    (came,) = bring_along(fresh, (), drafts)
    assert (fresh[10:16, 10:20] == 2).all()
    assert (fresh[16:20, 10:20] == 7).all()
    assert pending([came], [], (), fresh).any()
    kept = new.copy()
    assert bring_along(kept, (), drafts) == []
    np.testing.assert_array_equal(kept, new)


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
