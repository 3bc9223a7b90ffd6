"""A crash costs the last stroke at most."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from napari_unet.plugin.edits.seen import CONFIRMED, CORRECTED
from napari_unet.plugin.viewer.record import record_of

PAINT = """
import sys, time
import napari, numpy as np
from qtpy.QtWidgets import QApplication
from napari_unet.plugin.dock.widget import SegmentWidget
viewer = napari.Viewer()
viewer.add_image(np.load(sys.argv[1]), name="cells")
widget = SegmentWidget(viewer)
viewer.window.add_dock_widget(widget)
widget.model.value = "tiny"
widget.segment_button.click()
while widget.is_busy:
    QApplication.processEvents()
    time.sleep(0.01)
layer = widget.labels.value
window = viewer.window._qt_window
layer.paint((78, 75), 9)
print("painted", flush=True)
napari.run()
"""


@pytest.fixture
def killed(image, add_model, models_folder, tmp_path):
    """A napari that was killed a second after a stroke."""
    add_model("tiny", normalisation={"low": 0.0, "high": 100.0})
    np.save(tmp_path / "image.npy", image)
    environment = os.environ | {"NAPARI_CONFIG": str(tmp_path / "settings.yaml")}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PAINT, str(tmp_path / "image.npy")],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout.readline() == "painted\n"
        time.sleep(1.0)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.slow
def test_a_stroke_outlives_napari(killed, docked, settle, image):
    widget = docked()
    layer = widget.viewer.add_image(image, name="cells")
    settle(widget)
    assert widget.draft.isVisible()
    assert widget.draft.text.text().startswith("Unfinished corrections from today ")
    widget.draft.restore.click()
    settle(widget)
    assert not widget.draft.isVisible()
    assert widget.status.text() == "The corrections are loaded"
    again = widget.labels.value
    assert again.data[78, 75] == 9
    assert again.data[20, 20]
    assert widget.controller.results.source_of(again) is layer
    assert widget.correcting.count.text() == "1 cell corrected"


@pytest.fixture
def again(docked, settle, image):
    """A second dock, as after a restart, with the image alone."""

    def start(widget, name="cells"):
        settle(widget)
        widget.cleanup()
        other = docked()
        other.viewer.add_image(image, name=name)
        settle(other)
        return other

    return start


@pytest.mark.slow
def test_all_that_was_known_comes_back(segmented, settle, hand, again, taught):
    widget, layer = segmented
    widget.advanced.ring.value = 3
    layer.mode, layer.brush_size = "paint", 8
    hand(widget.viewer).drag([(78, 70), (78, 80)])
    settle(widget)
    widget.segment_button.click()
    settle(widget)
    layer = widget.labels.value
    layer.mode, layer.brush_size = "paint", 8
    widget.controller.corrections.brush_class = "lobed"
    hand(widget.viewer).drag([(50, 20), (50, 24)])
    hand(widget.viewer).point((30, 70))
    hand(widget.viewer).press("C")
    settle(widget)
    before = taught(widget, settle)
    other = again(widget)
    assert other.draft.isVisible()
    other.advanced.ring.value = 3
    other.draft.restore.click()
    settle(other)
    restored = other.labels.value
    np.testing.assert_array_equal(restored.data, layer.data)
    after = taught(other, settle)
    np.testing.assert_array_equal(after[0].trusted, before[0].trusted)
    assert after[0].classes == before[0].classes != {}
    states = other.controller.corrections.states(restored)[()]
    assert states[78, 75] == states[50, 22] == CORRECTED
    assert states[30, 70] == CONFIRMED
    # It goes on being saved.
    restored.paint((10, 80), 99)
    third = again(other)
    third.draft.restore.click()
    settle(third)
    assert third.labels.value.data[10, 80] == 99
    assert third.labels.value.data[50, 22] == restored.data[50, 22]


@pytest.mark.slow
def test_dismissed_is_asked_no_more(segmented, settle, again):
    widget, layer = segmented
    layer.paint((78, 75), 9)
    other = again(widget)
    assert other.draft.isVisible()
    other.draft.dismiss.click()
    assert not other.draft.isVisible()
    third = again(other)
    assert not third.draft.isVisible()


@pytest.mark.slow
def test_nothing_is_offered_for_another_image_or_without_strokes(segmented, settle, again):
    widget, _ = segmented
    other = again(widget)
    assert not other.draft.isVisible()
    other.segment_button.click()
    settle(other)
    other.labels.value.paint((78, 75), 9)
    third = again(other, name="others")
    assert not third.draft.isVisible()


@pytest.mark.slow
def test_an_undone_stroke_is_not_saved(segmented, settle, hand, again):
    widget, layer = segmented
    layer.mode = "paint"
    hand(widget.viewer).drag([(78, 70), (78, 80)])
    settle(widget)
    layer.undo()
    assert not again(widget).draft.isVisible()


@pytest.mark.slow
def test_an_outline_that_was_added_and_undone_is_not_saved(segmented, settle, hand, again):
    widget, layer = segmented
    mouse = hand(widget.viewer)
    mouse.press("A")
    mouse.drag([(72, 70), (84, 82)])
    mouse.press("Return")
    settle(widget)
    assert "1 draft" in widget.correcting.count.text()
    mouse.press("Z", "ControlModifier")
    settle(widget)
    assert layer.data[78, 76] == 0
    assert not again(widget).draft.isVisible()


def test_a_removed_layer_can_be_brought_back(segmented, settle):
    widget, layer = segmented
    layer.paint((78, 75), 9)
    settle(widget)
    widget.viewer.layers.remove(layer)
    settle(widget)
    assert widget.draft.isVisible()
    widget.draft.restore.click()
    settle(widget)
    assert widget.labels.value.data[78, 75] == 9


def test_a_full_disk_is_told_and_painting_goes_on(segmented, settle, monkeypatch):
    widget, layer = segmented

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("napari_unet.corrections.drafts.Drafts.begin", full)
    layer.paint((78, 75), 9)
    settle(widget)
    assert "not being saved: the file system says: No space left" in widget.status.text()
    assert widget.correcting.count.text() == "1 cell corrected"


@pytest.mark.slow
def test_strokes_are_saved_where_the_model_saw_the_stain(segmented, settle, again):
    widget, layer = segmented
    record_of(layer).channel = "stain"
    layer.paint((78, 75), 9)
    settle(widget)
    assert widget.correcting.count.text() == "1 cell corrected"
    other = again(widget)
    other.draft.restore.click()
    settle(other)
    assert other.labels.value.data[78, 75] == 9
    assert record_of(other.labels.value).channel == "stain"
