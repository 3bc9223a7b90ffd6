"""What is right can be said as well as what is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_unet.plugin.edits.seen import CONFIRMED, CORRECTED, UNSEEN

SEEN = "learnt from (U-Net)"


def test_c_confirms_the_cell_under_the_pointer(segmented, settle, hand, taught):
    widget, layer = segmented
    before = layer.data.copy()
    hand(widget.viewer).point((20, 20))
    hand(widget.viewer).press("C")
    settle(widget)
    assert widget.correcting.count.text() == "1 place marked correct"
    assert widget.status.text() == f"Cell {layer.data[20, 20]} marked as correct"
    seen = widget.viewer.layers[SEEN]
    assert seen.data[20, 20] == seen.data[20, 33] == CONFIRMED
    assert seen.data[20, 37] == seen.data[30, 70] == UNSEEN
    np.testing.assert_array_equal(layer.data, before)
    assert widget.viewer.layers.selection.active is layer
    assert widget.labels.value is layer
    (correction,) = taught(widget, settle)
    np.testing.assert_array_equal(correction.trusted, seen.data > 0)
    np.testing.assert_array_equal(correction.labels, before)


def test_c_over_background_confirms_a_brush_of_it(segmented, settle, hand):
    widget, layer = segmented
    layer.brush_size = 10
    hand(widget.viewer).point((50, 50))
    hand(widget.viewer).press("C")
    settle(widget)
    seen = widget.viewer.layers[SEEN].data
    assert seen[50, 46] == seen[54, 50] == CONFIRMED
    assert seen[50, 43] == UNSEEN
    hand(widget.viewer).point((-20, 50))
    hand(widget.viewer).press("C")
    assert "beside the image" in widget.status.text()


@pytest.mark.slow
def test_the_view_is_confirmed_by_button_and_key_and_taken_back(segmented, settle, hand, qtbot):
    widget, _ = segmented
    viewer = widget.viewer
    camera = getattr(viewer, "scene", viewer).camera
    camera.center, camera.zoom = (0, 30, 70), 30.0
    qtbot.wait(200)
    widget.correcting.confirm.click()
    settle(widget)
    seen = viewer.layers[SEEN].data
    rows, columns = np.nonzero(seen)
    assert rows.min() > 0
    assert columns.min() > 30
    assert seen[30, 70] == CONFIRMED
    camera.center = (0, 70, 30)
    qtbot.wait(200)
    hand(viewer).press("C", "ShiftModifier")
    settle(widget)
    assert widget.correcting.count.text() == "2 places marked correct"
    assert viewer.layers[SEEN].data[70, 30] == CONFIRMED
    hand(viewer).press("U")
    settle(widget)
    assert widget.correcting.count.text() == "1 place marked correct"
    assert viewer.layers[SEEN].data[70, 30] == UNSEEN
    widget.correcting.take_back.click()
    settle(widget)
    assert SEEN not in viewer.layers
    widget.correcting.take_back.click()
    assert "no mark to undo" in widget.status.text()


@pytest.mark.slow
def test_a_rectangle_is_dragged_and_paints_nothing(segmented, settle, hand, qtbot):
    widget, layer = segmented
    before = layer.data.copy()
    layer.mode = "paint"
    widget.correcting.rectangle.click()
    assert widget.status.text().startswith("Draw a box")
    hand(widget.viewer).drag([(10, 12), (40, 50)])
    qtbot.wait(50)
    settle(widget)
    assert len(layer.metadata["napari_unet"]["marks"]) == 1
    seen = widget.viewer.layers[SEEN].data
    assert (seen[11:40, 13:50] == CONFIRMED).all()
    assert not seen[:, 52:].any()
    assert not seen[42:].any()
    np.testing.assert_array_equal(layer.data, before)
    assert widget.viewer.layers.selection.active is layer
    assert layer.mode == "paint"
    assert [x.name for x in widget.viewer.layers] == ["cells", "cells cells", SEEN]


@pytest.mark.slow
def test_escape_ends_the_rectangle(segmented, settle, hand, qtbot):
    widget, layer = segmented
    widget.correcting.rectangle.click()
    hand(widget.viewer).press("Escape")
    qtbot.wait(50)
    assert widget.status.text() == "No box was drawn"
    assert widget.viewer.layers.selection.active is layer
    assert len(widget.viewer.layers) == 2
    layer.mode = "paint"
    hand(widget.viewer).drag([(78, 70), (78, 80)])
    settle(widget)
    assert widget.correcting.count.text() == "1 cell corrected"


def test_painting_on_what_was_confirmed_is_a_correction(segmented, settle, hand):
    widget, layer = segmented
    widget.advanced.ring.value = 2
    widget.correcting.confirm.click()
    layer.mode, layer.brush_size = "paint", 8
    hand(widget.viewer).drag([(78, 70), (78, 80)])
    settle(widget)
    assert widget.correcting.count.text() == "1 corrected, 1 marked correct"
    seen = widget.viewer.layers[SEEN].data
    assert seen[78, 75] == CORRECTED
    assert seen[50, 50] == CONFIRMED
    layer.undo()
    settle(widget)
    assert widget.correcting.count.text() == "1 place marked correct"
    assert widget.viewer.layers[SEEN].data[78, 75] == CONFIRMED


def test_the_overlay_can_be_switched_off_and_goes_with_the_dock(segmented, settle, hand):
    widget, layer = segmented
    hand(widget.viewer).point((20, 20))
    hand(widget.viewer).press("C")
    settle(widget)
    assert SEEN in widget.viewer.layers
    assert SEEN not in [choice.name for choice in widget.labels.choices if choice]
    widget.correcting.show_seen.click()
    assert SEEN not in widget.viewer.layers
    widget.correcting.show_seen.click()
    assert SEEN in widget.viewer.layers
    widget.viewer.window.remove_dock_widget(widget)
    assert SEEN not in widget.viewer.layers
    assert json.loads(json.dumps(layer.metadata["napari_unet"]["marks"]))
    hand(widget.viewer).press("C")
    assert len(layer.metadata["napari_unet"]["marks"]) == 1


@pytest.mark.slow
def test_the_overlay_follows_the_slider(docked, settle, hand, discs):
    widget = docked()
    viewer = widget.viewer
    viewer.add_image(
        np.stack([discs((20, 20)), discs((30, 70), (60, 60))]), name="movie", scale=(2, 0.5, 0.5)
    )
    viewer.dims.set_point(0, 0)
    widget.advanced.scope.value = "everything"
    widget.segment_button.click()
    settle(widget)
    hand(viewer).point((10, 10))
    hand(viewer).press("C")
    settle(widget)
    overlay = viewer.layers[SEEN]
    assert overlay.ndim == 2
    np.testing.assert_allclose(overlay.data_to_world((20, 20)), (10, 10))
    assert overlay.data[20, 20] == CONFIRMED
    viewer.dims.set_point(0, 2)
    assert not viewer.layers[SEEN].data.any()
    viewer.dims.set_point(0, 0)
    assert viewer.layers[SEEN].data[20, 20] == CONFIRMED
    assert widget.labels.value.metadata["napari_unet"]["marks"][0]["index"] == [0]


def test_without_labels_there_is_nothing_to_mark(docked, hand):
    widget = docked()
    for part in (widget.correcting.confirm, widget.correcting.rectangle):
        assert not part.isEnabled()
        assert part.toolTip() == "Click Segment first"
    hand(widget.viewer).press("N")
    assert "there is no image" in widget.status.text()


@pytest.mark.slow
def test_on_a_large_plane_the_tint_covers_what_was_seen(docked, settle, hand, discs):
    widget = docked()
    viewer = widget.viewer
    viewer.add_image(discs((20, 20), (600, 700), size=800), name="large", scale=(0.5, 0.5))
    widget.segment_button.click()
    settle(widget)
    hand(viewer).point((300, 350))
    hand(viewer).press("C")
    settle(widget)
    seen = viewer.layers[SEEN]
    assert seen.data.shape == (256, 256)
    np.testing.assert_allclose(seen.data_to_world((88, 188)), (300, 350))
    assert seen.data[88, 188] == CONFIRMED
    hand(viewer).point((10, 10))
    hand(viewer).press("C")
    settle(widget)
    assert viewer.layers[SEEN] is seen
    assert seen.data.shape == (768, 768)
    assert seen.data[20, 20] == seen.data[600, 700] == CONFIRMED
    np.testing.assert_allclose(seen.data_to_world((20, 20)), (10, 10))
    assert viewer.layers.selection.active is widget.labels.value
