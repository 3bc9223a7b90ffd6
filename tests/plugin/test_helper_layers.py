"""Layers that only show something stay out of the way: two at most, and none that is empty."""

from __future__ import annotations

import numpy as np
import pytest

from hands import Hand
from napari_unet.plugin.edits.seen import CORRECTED, DRAFT, UNSEEN
from napari_unet.plugin.results.suggestions import NEXT
from napari_unet.plugin.viewer.record import is_helper

SEEN = "learnt from (U-Net)"


@pytest.fixture
def dock(docked_by_napari, settle, discs):
    """After a click on Segment; two of three cells are doubtful."""
    dock = docked_by_napari
    image = discs((20, 20))
    for y, x in ((20, 70), (70, 30)):
        image[y - 5 : y + 6, x - 5 : x + 6] = 118
    dock.viewer.add_image(image, name="cells")
    dock.segment_button.click()
    settle(dock)
    return dock


def helpers(dock) -> list[str]:
    return [layer.name for layer in dock.viewer.layers if is_helper(layer)]


def add_draft(dock, hand, settle) -> None:
    """Add a cell with a box and a click."""
    hand.press("A")
    hand.drag([(64, 64), (76, 76)])
    hand.drag([(90, 90)])
    hand.press("A")
    settle(dock)


@pytest.mark.slow
def test_there_are_two_at_most_and_they_go_when_there_is_nothing_to_show(dock, settle, qtbot):
    viewer, layer, hand = dock.viewer, dock.labels.value, Hand(dock.viewer)
    add_draft(dock, hand, settle)
    assert helpers(dock) == [SEEN]
    assert dock.correcting.count.text() == "1 draft to confirm (C) or touch up"
    hand.point((20, 20))
    hand.press("R")
    settle(dock)
    shown = viewer.layers[SEEN].data
    assert (shown[20, 20], shown[70, 70]) == (CORRECTED, UNSEEN)
    assert DRAFT in shown[60:80, 60:80]
    dock.correcting.next_place.click()
    viewer.reset_view()
    assert sorted(helpers(dock)) == [NEXT, SEEN]
    # Without the tint the drafts are shown still: they wait for the user.
    dock.correcting.show_seen.click()
    shown = viewer.layers[SEEN].data
    assert set(np.unique(shown)) == {UNSEEN, DRAFT}
    dock.correcting.show_seen.click()
    # Other cells are added above; what helps is above them, for outlines would hide its dashes.
    dock.segment_button.click()
    settle(dock)
    newer = dock.labels.value
    assert newer != layer
    assert viewer.layers.index(viewer.layers[SEEN]) > viewer.layers.index(newer)
    assert DRAFT in viewer.layers[SEEN].data[60:80, 60:80]
    assert viewer.layers.selection.active == newer


@pytest.mark.slow
def test_when_all_is_undone_or_no_draft_is_left_no_helper_is(dock, settle, qtbot):
    viewer, hand = dock.viewer, Hand(dock.viewer)
    add_draft(dock, hand, settle)
    hand.press("Z", "ControlModifier")
    settle(dock)
    assert SEEN not in helpers(dock)
    qtbot.waitUntil(lambda: not helpers(dock))
    dock.correcting.show_seen.click()
    add_draft(dock, hand, settle)
    assert helpers(dock) == [SEEN]
    hand.point((70, 70))
    hand.press("C")
    settle(dock)
    assert dock.correcting.count.text() == "1 cell corrected"
    qtbot.waitUntil(lambda: not helpers(dock))
    dock.correcting.show_seen.click()
    assert helpers(dock) == [SEEN]
    assert viewer.layers.selection.active == dock.labels.value


@pytest.mark.slow
def test_rings_are_around_the_cells_of_one_image(dock, settle, qtbot):
    viewer = dock.viewer
    dock.correcting.next_place.click()
    first = viewer.layers["cells"]
    viewer.add_image(np.roll(first.data, 3, axis=1), name="second")
    dock.segment_button.click()
    settle(dock)
    dock.correcting.next_place.click()
    assert "Doubtful cell 1" in dock.status.text()
    assert [name for name in helpers(dock) if "going" not in name] == [NEXT]
    for _ in range(2):
        dock.correcting.next_place.click()
    assert "seen every doubtful cell" in dock.status.text()
    qtbot.waitUntil(lambda: not helpers(dock))
