"""napari's own painting tools, beside the gestures in the dock as napari opens it."""

from __future__ import annotations

import numpy as np
import pytest

from hands import Hand

TOOLS = {"eraser": "erase", "brush": "paint", "polygon": "polygon", "fill": "fill"}


@pytest.fixture
def dock(docked_by_napari, settle, image):
    """After a click on Segment."""
    docked_by_napari.viewer.add_image(image, name="cells")
    docked_by_napari.segment_button.click()
    settle(docked_by_napari)
    return docked_by_napari


def is_on(dock) -> list[str]:
    return [name for name, made in dock.correcting.painting.buttons.items() if made.isChecked()]


def test_a_click_chooses_the_tool_on_the_labels_and_a_second_one_ends_it(dock, settle):
    layer, buttons = dock.labels.value, dock.correcting.painting.buttons
    dock.viewer.layers.selection.active = dock.viewer.layers["cells"]
    for name, mode in TOOLS.items():
        buttons[name].click()
        assert dock.viewer.layers.selection.active == layer
        assert str(layer.mode) == mode
        assert is_on(dock) == [name]
    buttons["fill"].click()
    assert str(layer.mode) == "pan_zoom"
    assert is_on(dock) == []
    layer.mode = "erase"
    assert is_on(dock) == ["eraser"], "chosen in napari's own controls"
    buttons["brush"].click()
    layer.brush_size = 8
    Hand(dock.viewer).drag([(78, 70), (78, 80)])
    settle(dock)
    assert layer.data[78, 75] == 4
    assert dock.correcting.count.text() == "1 cell corrected"


def test_a_tool_ends_the_gesture_and_the_other_way_round(dock, qtbot):
    layer, gestures = dock.labels.value, dock.correcting.gestures.buttons
    gestures["split"].click()
    dock.correcting.painting.buttons["brush"].click()
    qtbot.wait(50)
    assert not gestures["split"].isChecked()
    assert str(layer.mode) == "paint"
    gestures["split"].click()
    assert is_on(dock) == []
    gestures["split"].click()
    assert is_on(dock) == ["brush"], "the tool from before"


def test_it_follows_the_labels_and_says_what_cannot_be_painted(dock, settle):
    first, buttons = dock.labels.value, dock.correcting.painting.buttons
    buttons["brush"].click()
    other = dock.viewer.add_labels(np.zeros((96, 96), int), name="other")
    assert dock.labels.value == other
    assert is_on(dock) == []
    dock.labels.value = first
    assert is_on(dock) == ["brush"]
    buttons["brush"].click()
    first.visible = False
    buttons["brush"].click()
    assert "are hidden; show them first" in dock.status.text()
    assert is_on(dock) == []
    dock.viewer.layers.clear()
    settle(dock)
    assert not buttons["brush"].isEnabled()
    assert buttons["brush"].toolTip() == "Click Segment first"
