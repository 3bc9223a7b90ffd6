"""napari's own tools on a result: the polygon teaches, and the tool stays as it was."""

from __future__ import annotations

import pytest


@pytest.mark.slow
def test_a_polygon_is_a_correction_and_tool_and_brush_stay(docked_by_napari, settle, image, hand):
    dock = docked_by_napari
    dock.viewer.add_image(image, name="cells")
    dock.segment_button.click()
    settle(dock)
    layer = dock.labels.value
    typical_px = float(dock.find_step.note.text().split("typically ")[1].split(" px")[0])
    assert layer.brush_size == round(typical_px / 2), "it follows the typical cell"
    mouse = hand(dock.viewer)
    mouse.press("3")
    assert layer.mode == "polygon"
    corners = [(60, 60), (60, 80), (80, 80), (80, 60)]
    for corner in corners:
        mouse.drag([corner])
    mouse.press("Return")
    settle(dock)
    assert layer.data[70, 70] == 4
    assert dock.correcting.count.text() == "1 cell corrected"
    layer.brush_size, layer.preserve_labels = 17, True
    dock.segment_button.click()
    settle(dock)
    after = dock.labels.value
    assert after != layer
    assert after.data[70, 70] > 0
    assert (after.mode, after.brush_size, after.preserve_labels) == ("polygon", 17, True)
