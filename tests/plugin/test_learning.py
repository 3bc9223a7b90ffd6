"""While a model learns: what it sees is shown, and it can be stopped."""

from __future__ import annotations

import time

import numpy as np
import pytest
from qtpy.QtWidgets import QScrollArea

from napari_unet.engine.trainer import Trainer
from napari_unet.jobs import FinishReason
from napari_unet.learning.budget import clock
from napari_unet.plugin.dock import widget as widget_module

LEARNING = "found while it learns (U-Net)"


@pytest.fixture
def learning(segmented, outlined, qtbot, monkeypatch):
    """The dock while it learns for long, and the job."""
    monkeypatch.setattr("napari_unet.learning.run._LOOK_S", 0.1)
    widget, _ = segmented
    outlined(widget)
    jobs = []
    service = widget.controller.service
    finetune = service.finetune
    monkeypatch.setattr(
        service, "finetune", lambda *a, **k: jobs.append(finetune(*a, **k)) or jobs[0]
    )
    widget.budget.choices = (("long", 600.0),)
    widget.finetune_button.click()
    qtbot.waitUntil(lambda: len(widget.curve.points) > 3, timeout=60_000)
    return widget, jobs[0]


@pytest.mark.slow
def test_what_it_sees_is_shown_and_goes_with_the_job(learning, qtbot, settle):
    widget, _ = learning
    viewer, layer = widget.viewer, widget.labels.value
    qtbot.waitUntil(lambda: LEARNING in viewer.layers, timeout=60_000)
    shown = viewer.layers[LEARNING]
    assert not shown.editable
    assert shown.contour == 2
    assert shown.data.max() >= 1
    assert viewer.layers.selection.active is layer
    assert widget.labels.value is layer
    camera = getattr(viewer, "scene", viewer).camera
    camera.center, camera.zoom = (0, 30, 70), 30.0

    def follows() -> bool:
        top, left = viewer.layers[LEARNING].data_to_world((0, 0))
        return top > 5 and left > 40

    qtbot.waitUntil(follows, timeout=60_000)
    shown = viewer.layers[LEARNING]
    assert shown.data.shape < (96, 96)
    y, x = np.round(shown.world_to_data((30, 70))).astype(int)
    assert shown.data[y, x]
    widget.cancel_button.click()
    widget.cancel_button.click()
    settle(widget)
    assert LEARNING not in viewer.layers


def test_one_click_stops_and_keeps_what_was_learnt(learning, qtbot, settle):
    widget, job = learning
    qtbot.waitUntil(lambda: "step" in widget.status.toolTip(), timeout=60_000)
    widget.cancel_button.click()
    qtbot.waitUntil(lambda: "Stopping" in widget.status.text() or not widget.is_busy, timeout=9000)
    settle(widget)
    assert job.reason is FinishReason.DONE
    assert len(widget.controller.service.store.versions("tiny")) == 2
    assert not widget.controller.follower.is_finishing


@pytest.mark.slow
def test_a_stroke_painted_meanwhile_is_for_the_next_time(learning, settle, hand):
    widget, _ = learning
    layer = widget.labels.value
    layer.selected_label, layer.brush_size = 9, 8
    hand(widget.viewer).drag([(78, 70), (78, 80)])
    assert layer.data[78, 75] == 9
    widget.cancel_button.click()
    settle(widget)
    assert layer.data[78, 75] == 9
    assert widget.correcting.count.text() == "3 cells corrected"


@pytest.mark.slow
def test_too_little_time_is_told_and_more_can_be_had(segmented, outlined, qtbot, monkeypatch):
    learn = Trainer._learn

    def slow(trainer):
        time.sleep(0.2)
        return learn(trainer)

    monkeypatch.setattr(Trainer, "_learn", slow)
    widget, _ = segmented
    # A screen of 1366 x 768 pixels, less a title and a bar of tasks.
    widget.window().resize(1366, 700)
    outlined(widget)
    assert ("until it stops improving", "auto") in widget_module._BUDGETS
    widget.budget.choices = (("a moment", 4.0),)
    widget.finetune_button.click()
    row = widget.more_time
    assert not row.isVisible()
    qtbot.waitUntil(row.isVisible, timeout=60_000)
    assert row.text.text().startswith("⚠ 4 s is enough for ")
    assert row.take.text().startswith("Train ")
    assert not widget.curve.isVisible()
    qtbot.wait(200)
    assert widget.findChild(QScrollArea).verticalScrollBar().maximum() == 0
    offered = row._offered_s
    assert offered > 8
    row.take.click()
    assert not row.isVisible()
    whole = f" of {clock(offered)}, step "
    qtbot.waitUntil(lambda: whole in widget.status.toolTip(), timeout=60_000)
    assert widget.is_busy
    assert not row.isVisible()
    for _ in range(2):
        widget.cancel_button.click()
    qtbot.waitUntil(lambda: not widget.is_busy, timeout=60_000)
    assert not row.isVisible()
