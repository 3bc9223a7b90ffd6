"""What a user does while a job runs, and after it went wrong, in the dock as napari opens it."""

from __future__ import annotations

import gc
import re
import threading
import weakref

import numpy as np
import pytest
import torch
from napari import current_viewer
from napari.layers import Image, Labels
from qtpy.QtCore import Qt
from qtpy.QtTest import QTest

from napari_unet.engine.predict import Predictor
from napari_unet.jobs import Job


@pytest.fixture
def dock(docked_by_napari, image):
    docked_by_napari.viewer.add_image(image, name="cells")
    return docked_by_napari


@pytest.fixture
def click(dock, settle):
    """Clicks Segment and waits for the end: the new layer."""

    def click() -> Labels:
        dock.segment_button.click()
        settle(dock)
        assert re.match("[34] cells,", dock.status.text()), dock.status.text()
        return dock.labels.value

    return click


@pytest.fixture
def held(dock, monkeypatch, qtbot):
    """Clicks Segment, and returns the gate at which the work waits, unless it is cancelled."""
    gate, came, report = threading.Event(), threading.Event(), Job.report

    def slow(job, *args, **kwargs):
        report(job, *args, **kwargs)
        came.set()
        while not gate.wait(0.02):
            job.check()

    def begin() -> threading.Event:
        monkeypatch.setattr(Job, "report", slow)
        dock.segment_button.click()
        qtbot.waitUntil(came.is_set, timeout=30_000)
        return gate

    yield begin
    gate.set()


@pytest.fixture
def asked(dock, monkeypatch):
    """All jobs of segmenting that the service was asked for."""
    jobs, service = [], dock.controller.service
    segment = service.segment
    monkeypatch.setattr(service, "segment", lambda *a: jobs.append(segment(*a)) or jobs[-1])
    return jobs


@pytest.mark.slow
def test_an_image_that_is_renamed_gets_its_labels(dock, held, settle, click):
    gate = held()
    source = dock.viewer.layers["cells"]
    source.name = "renamed"
    gate.set()
    settle(dock)
    assert dock.status.text().startswith("3 cells,")
    labels = dock.labels.value
    assert labels.name == "renamed cells"
    assert labels.data.max() == 3
    assert dock.image.value.name == "renamed"
    # And it is known as its own: the next result takes its place.
    assert click() == labels
    assert len(dock.viewer.layers) == 2


@pytest.mark.slow
def test_an_image_that_is_removed_costs_nothing_else(dock, held, settle, click, image):
    other = dock.viewer.add_labels(np.eye(96, dtype=np.int32), name="other")
    before = other.data.copy()
    dock.viewer.layers.selection.active = dock.viewer.layers["cells"]
    gate = held()
    dock.viewer.layers.remove("cells")
    gate.set()
    settle(dock)
    assert dock.status.text().startswith("3 cells,")
    assert dock.viewer.layers["cells cells"].data.max() == 3
    np.testing.assert_array_equal(other.data, before)
    dock.viewer.add_image(image, name="again")
    assert click().name == "again cells"


def test_a_result_that_is_removed_meanwhile_is_made_anew(dock, held, settle, click):
    first = click()
    found = first.data.copy()
    gate = held()
    dock.viewer.layers.remove("cells cells")
    gate.set()
    settle(dock)
    assert dock.status.text().startswith("3 cells,")
    second = dock.labels.value
    assert second is not first
    np.testing.assert_array_equal(second.data, found)


@pytest.mark.slow
def test_a_dock_that_is_closed_at_work_leaves_the_viewer_working(dock, held, settle, image):
    viewer = current_viewer()
    gate = held()
    (job,) = (dock.controller.follower._job,)
    viewer.window.remove_dock_widget(dock)
    QTest.qWait(200)
    assert job.reason is not None
    gate.set()
    QTest.qWait(200)
    assert [layer.name for layer in viewer.layers] == ["cells"]
    np.testing.assert_array_equal(viewer.layers[0].data, image)
    _, again = viewer.window.add_plugin_dock_widget("napari-unet")
    again.segment_button.click()
    settle(again)
    assert again.status.text().startswith("3 cells,")
    again.cleanup()


def test_a_double_click_is_one_job(dock, asked, settle):
    left = Qt.MouseButton.LeftButton
    for click in (QTest.mouseClick, QTest.mouseDClick, QTest.mouseClick):
        click(dock.segment_button, left)
    settle(dock)
    assert len(asked) == 1
    assert [layer.name for layer in dock.viewer.layers] == ["cells", "cells cells"]


@pytest.mark.slow
def test_undo_leaves_a_new_result_as_it_is(dock, click, hand):
    first = click()
    first.mode, first.brush_size = "paint", 8
    hand(dock.viewer).drag([(78, 70), (78, 80)])
    second = click()
    found = second.data.copy()
    assert found[78, 75]
    second.undo()
    np.testing.assert_array_equal(second.data, found)
    first.undo()
    assert not first.data[78, 75]
    np.testing.assert_array_equal(second.data, found)


@pytest.mark.slow
def test_what_was_undone_is_not_learnt_from(dock, click, hand, settle, taught):
    layer = click()
    layer.mode, layer.brush_size = "paint", 8
    hand(dock.viewer).drag([(78, 70), (78, 80)])
    layer.selected_label = 5
    hand(dock.viewer).drag([(50, 15), (50, 25)])
    layer.undo()
    settle(dock)
    (correction,) = taught(dock, settle)
    assert correction.trusted[78, 75]
    assert not correction.trusted[50, 20]
    layer.undo()
    settle(dock)
    assert not dock.finetune_button.isEnabled()
    assert dock.finetune_button.toolTip().startswith("Correct a cell first")


@pytest.mark.slow
def test_ids_beyond_16_bits_stay_unique(dock, settle, discs):
    """A result that another tool made uint16, on whose first plane all ids are taken."""
    dock.viewer.layers.clear()
    dock.viewer.add_image(np.stack([discs((20, 20)), discs((30, 70), (60, 60))]), name="cells")
    dock.viewer.dims.set_current_step(0, 0)
    dock.segment_button.click()
    settle(dock)
    small = dock.labels.value.data.astype(np.uint16)
    small[0, 70:80, 70:80] = 65535
    dock.labels.value.data = small
    before = small[0].copy()
    dock.viewer.dims.set_current_step(0, 1)
    dock.segment_button.click()
    settle(dock)
    assert dock.status.text().startswith("2 cells,"), dock.status.text()
    data = dock.labels.value.data
    assert data.dtype == np.int32
    np.testing.assert_array_equal(data[0], before)
    assert np.unique(data[1]).tolist() == [0, 65536, 65537]


@pytest.mark.slow
def test_labels_that_are_none_are_told_with_both_sizes_or_their_range(dock, settle, click):
    negative = np.zeros((96, 96), np.int32)
    negative[5:20, 5:20] = -3
    for data, words in (
        (np.ones((5, 5), int), "are 5 x 5 and the image 'cells' is 96 x 96; choose labels"),
        (negative, "the labels go from -3 to 0; give 0 for background and numbers up to"),
    ):
        layer = dock.viewer.add_labels(data, name="odd")
        dock.labels.value = layer
        settle(dock)
        dock.finetune_button.click()
        settle(dock)
        assert words in dock.status.text() + dock.finetune_button.toolTip()
        np.testing.assert_array_equal(layer.data, data)
        assert dock.controller.service.store.find("tiny").version == 1
        dock.viewer.layers.remove("odd")
    click()


def test_no_memory_anywhere_is_a_sentence_and_leaves_nothing(dock, settle, click, monkeypatch):
    held, names = [], [layer.name for layer in dock.viewer.layers]

    def run(self, tile):
        tensor = torch.zeros(1000)
        held.append(weakref.ref(tensor))
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "_run", run)
        dock.segment_button.click()
        settle(dock)
    assert "there is not enough memory even for a tile of" in dock.status.text()
    assert "close other programs or use a smaller model" in dock.status.text()
    assert not dock.progress.isVisible()
    gc.collect()
    assert held
    assert not [tensor for tensor in held if tensor() is not None]
    assert [layer.name for layer in dock.viewer.layers] == names
    click()


@pytest.mark.slow
def test_clicking_again_and_again_starts_no_further_threads(dock, click):
    threads = []
    for _ in range(15):
        click()
        threads.append(threading.active_count())
    assert threads[5:] == threads[5:6] * 10
    assert [type(layer) for layer in dock.viewer.layers] == [Image, Labels]
