import numpy as np
import pytest


@pytest.fixture
def shown(docked_by_napari, settle, image):
    dock = docked_by_napari
    dock.viewer.add_image(image, name="cells")
    dock.segment_button.click()
    settle(dock)
    return dock


def test_a_result_shows_outlines_and_the_choice_holds_for_the_next_one(shown, settle, qtbot):
    dock = shown
    assert dock.labels.value.contour == 1
    assert dock.view.outlined.isChecked()
    dock.view.filled.click()
    assert dock.labels.value.contour == 0
    dock.segment_button.click()
    settle(dock)
    assert dock.labels.value.contour == 0
    assert dock.view.filled.isChecked()
    dock.view.outlined.click()
    assert dock.labels.value.contour == 1


def test_a_stroke_on_outlines_is_shown_as_it_is(shown, hand):
    layer = shown.labels.value
    layer.mode, layer.brush_size = "paint", 15
    layer.selected_label = int(layer.data[20, 20])
    hand(shown.viewer).drag([(22, 22), (26, 40)])
    assert layer.data[26, 40] == layer.data[20, 20]
    # napari draws the pixels around the stroke alone; drawing all says whether they are right.
    drawn = layer._slice.image.view.copy()
    layer.refresh()
    assert np.array_equal(drawn, layer._slice.image.view)


def test_a_stack_is_filled_for_napari_draws_no_outlines_in_3d(docked_by_napari, settle, image):
    dock = docked_by_napari
    dock.viewer.add_image(np.stack([image] * 3), name="stack")
    dock.segment_button.click()
    settle(dock)
    assert dock.labels.value.contour == 0
    assert dock.view.filled.isChecked()
    dock.viewer.dims.ndisplay = 3


def test_a_stack_with_outlines_can_be_seen_in_3d(docked_by_napari, settle, image):
    dock = docked_by_napari
    dock.viewer.add_image(np.stack([image] * 3), name="stack")
    dock.segment_button.click()
    settle(dock)
    dock.view.outlined.click()
    for ndisplay in (3, 2):
        dock.viewer.dims.ndisplay = ndisplay  # a warning of napari's is an error here
        dock.labels.value.refresh()
    assert dock.labels.value.contour == 1


def test_labels_of_ones_own_are_shown_as_the_switch_says(shown, image):
    dock = shown
    result = dock.labels.value
    own = dock.viewer.add_labels((image > 100).astype(np.uint8), name="own")
    assert dock.labels.value == own
    assert own.contour == 0
    assert dock.view.filled.isChecked()
    dock.view.outlined.click()
    assert own.contour == 1
    own.contour = 0  # in napari's own controls
    assert dock.view.filled.isChecked()
    dock.labels.value = result
    assert dock.view.outlined.isChecked()
    assert result.contour == 1


def test_outlines_are_wider_where_the_image_is_large(shown):
    outlines = shown.controller.outlines
    assert [outlines.width_px((side, 300)) for side in (300, 1200)] == [1, 2]


def test_restored_labels_have_outlines(docked, settle, hand, image):
    widget = docked()
    widget.viewer.add_image(image, name="cells")
    widget.segment_button.click()
    settle(widget)
    widget.labels.value.mode = "paint"
    hand(widget.viewer).drag([(78, 70), (78, 80)])
    settle(widget)
    widget.cleanup()
    again = docked()
    again.viewer.add_image(image, name="cells")
    settle(again)
    again.draft.restore.click()
    settle(again)
    assert again.labels.value.contour == 1
    assert again.view.outlined.isChecked()
