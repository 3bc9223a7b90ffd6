"""The note that another shipped model suits an image better, in the dock as napari opens it."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtWidgets import QScrollArea

from napari_unet.jobs import FinishReason
from napari_unet.models import store as model_store
from napari_unet.plugin.viewer.record import record_of

WEIGHTS = model_store.SHIPPED
# Longer than the pause before the question, in milliseconds.
PAUSE_MS = 900


@pytest.fixture
def dock(docked_by_napari, monkeypatch):
    """With the models that ship; `phase` is chosen, and bright discs do not suit it."""
    monkeypatch.setattr(model_store, "SHIPPED", WEIGHTS)
    dock = docked_by_napari
    dock.window().resize(1366, 768)
    dock.controller.models_changed.emit("phase")
    rng = np.random.default_rng(0)
    y, x = np.indices((240, 240)) % 40 - 20
    noise = rng.normal(0, 4, y.shape)
    discs = 30 + 150 * np.clip(10 - np.hypot(y, x), 0, 1) + noise
    dock.viewer.add_image(np.clip(discs, 0, 255).astype(np.uint8), name="discs")
    return dock


@pytest.fixture
def asked(dock, monkeypatch):
    """The questions, as jobs."""
    jobs = []
    service = dock.controller.service
    ask = service.better_model
    monkeypatch.setattr(service, "better_model", lambda *args: jobs.append(ask(*args)) or jobs[-1])
    return jobs


@pytest.mark.slow
def test_a_better_model_is_named_once_and_tried_with_a_click(dock, asked, settle, qtbot):
    busy = []
    dock.segment_button.click()
    settle(dock)
    dock.controller.follower.started.connect(busy.append)
    assert not dock.better.isVisible()
    qtbot.waitUntil(dock.better.isVisible, timeout=60_000)
    assert not busy
    assert dock.better.text.text() == '"nuclei" seems to suit this image better.'
    assert dock.better.take.text() == "Try nuclei"
    assert dock.better.take.property("accent"), "it is the next thing to do"
    qtbot.wait(200)
    assert dock.findChild(QScrollArea).verticalScrollBar().maximum() == 0
    dock.better.take.click()
    settle(dock)
    assert dock.model.value == "nuclei"
    assert record_of(dock.labels.value).model.startswith("nuclei@")
    assert not dock.better.isVisible()
    dock.model.value = "phase"
    dock.segment_button.click()
    settle(dock)
    qtbot.wait(PAUSE_MS)
    assert [job.name for job in asked].count("compare models with phase@1") == 1


@pytest.mark.slow
def test_what_the_user_starts_goes_first(dock, asked, settle, qtbot):
    dock.segment_button.click()
    settle(dock)
    qtbot.waitUntil(lambda: bool(asked), timeout=10_000)
    dock.segment_button.click()
    settle(dock)
    assert asked[0].reason is FinishReason.CANCELLED
    qtbot.waitUntil(dock.better.isVisible, timeout=60_000)
    dock.model.value = "tiny"
    assert not dock.better.isVisible()


@pytest.mark.slow
def test_a_model_of_ones_own_is_not_compared(dock, asked, settle, qtbot):
    dock.model.value = "tiny"
    dock.segment_button.click()
    settle(dock)
    qtbot.wait(PAUSE_MS)
    assert not asked
