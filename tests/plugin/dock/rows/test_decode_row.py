"""Two sliders find the cells of the last result again, in the dock as napari opens it."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_unet.config import PredictConfig


@pytest.fixture
def image(discs):
    """Two bright cells, a dim one, and a bright speck."""
    image = discs((20, 20), (30, 70))
    image[discs((70, 30)) == 220] = 120
    image[75:78, 75:78] = 220
    return image


@pytest.fixture
def dock(docked_by_napari, settle, image):
    dock = docked_by_napari
    dock.viewer.add_image(image, name="cells")
    dock.segment_button.click()
    settle(dock)
    return dock


DIM, BRIGHT = (70, 30), (20, 20)


def test_a_higher_threshold_finds_fewer_cells_without_a_job(dock, settle):
    first = dock.labels.value
    before = first.data
    assert before[DIM]
    kept = before[BRIGHT]
    started = []
    dock.controller.follower.started.connect(started.append)
    dock.decode.cells.setValue(10)
    settle(dock)
    layer = dock.labels.value
    assert not started
    assert not layer.data[DIM]
    assert layer.data[BRIGHT] == kept
    assert dock.correcting.count.text() == "nothing corrected yet"
    assert layer == first, "nobody had touched it"
    assert "1 gone" in dock.find_step.note.text()
    dock.decode.reset.click()
    settle(dock)
    np.testing.assert_array_equal(dock.labels.value.data > 0, before > 0)


@pytest.mark.slow
def test_a_stroke_that_was_undone_leaves_nothing_to_redo(dock, settle, hand):
    layer = dock.labels.value
    layer.mode, layer.brush_size, layer.selected_label = "paint", 8, 9
    layer.opacity = 0.4
    hand(dock.viewer).drag([(50, 10), (50, 12)])
    layer.undo()
    settle(dock)
    dock.decode.cells.setValue(10)
    settle(dock)
    assert dock.labels.value == layer
    drawn = layer.data.copy()
    assert not drawn[DIM]
    layer.redo()
    layer.undo()
    np.testing.assert_array_equal(layer.data, drawn)
    assert (layer.opacity, str(layer.mode)) == (0.4, "paint")
    # What is painted now counts from what is shown now, and is kept by the next move.
    hand(dock.viewer).drag([(50, 10), (50, 12)])
    settle(dock)
    assert dock.correcting.count.text() == "1 cell corrected"
    painted = layer.data[50, 11]
    dock.decode.cells.setValue(60)
    settle(dock)
    assert dock.labels.value != layer, "a layer that was painted on is never written to"
    assert layer.data[50, 11] == dock.labels.value.data[50, 11] == painted
    assert dock.labels.value.data[DIM]
    assert not layer.data[DIM]


@pytest.mark.parametrize("busy", ["a job", "a hand"])
def test_labels_stay_in_their_layer_while_somebody_needs_it(dock, settle, monkeypatch, busy):
    layer, before = dock.labels.value, dock.labels.value.data
    redrawing = dock.controller.redrawing
    add = redrawing._add

    def add_meanwhile(*args):
        with monkeypatch.context() as patch:
            if busy == "a job":
                patch.setattr(dock.controller.follower, "is_busy", True)
            else:
                patch.setattr(QApplication, "mouseButtons", lambda: Qt.MouseButton.LeftButton)
            return add(*args)

    redrawing._add = add_meanwhile
    dock.decode.cells.setValue(10)
    settle(dock)
    assert dock.labels.value != layer
    assert layer.data is before


def test_what_was_found_in_old_scores_is_not_shown_over_a_new_result(dock, settle, monkeypatch):
    controller, drawn = dock.controller, []
    before, bring_along = dock.labels.value.data, controller._bring_along

    def slider_moves_while_it_is_merged(*args):
        bring_along(*args)
        if not drawn:
            drawn.append(True)
            controller.redrawing.draw(PredictConfig(threshold=0.99))
            controller.redrawing._go_on()
            assert controller.redrawing.is_at_work

    monkeypatch.setattr(controller, "_bring_along", slider_moves_while_it_is_merged)
    dock.segment_button.click()
    settle(dock)
    assert drawn
    assert not controller.redrawing.is_at_work
    assert dock.labels.value.data is not before
    np.testing.assert_array_equal(dock.labels.value.data, before)


@pytest.mark.slow
def test_what_was_corrected_stays_and_counts_once(dock, settle, hand):
    layer = dock.labels.value
    layer.mode, layer.brush_size = "paint", 8
    layer.selected_label = 9
    hand(dock.viewer).drag([(50, 10), (50, 12)])
    layer.mode, layer.brush_size = "erase", 30
    hand(dock.viewer).drag([(30, 68), (30, 72)])
    settle(dock)
    assert dock.correcting.count.text() == "2 cells corrected"
    for value in (10, 90, 60):
        dock.decode.cells.setValue(value)
        settle(dock)
    shown = dock.labels.value
    assert shown.data[50, 11] == 9
    assert not shown.data[30, 70]
    count = dock.correcting.count.text()
    assert count.endswith("carried over from the previous result"), "nothing counts as painted"
    assert "corrected" not in count
    assert shown.mode == "erase"
    results = [x for x in dock.viewer.layers if "cells cells" in x.name]
    assert len(results) == 2, "the corrected one, hidden, and the current one"


def test_small_cells_are_dropped_and_a_stroke_afterwards_counts_alone(dock, settle):
    assert dock.labels.value.data[70, 30]
    dock.decode.smallest.setValue(100)
    settle(dock)
    assert dock.labels.value.data.max() < 4
    dock.decode.smallest.setValue(0)
    settle(dock)
    assert dock.labels.value.data[76, 76], "the speck of 3 x 3 pixels"
    dock.labels.value.paint((50, 50), dock.labels.value.selected_label)
    settle(dock)
    assert dock.correcting.count.text() == "1 cell corrected"


@pytest.mark.slow
def test_the_next_segment_of_this_model_finds_the_same_cells(dock, settle, add_model):
    add_model("other", normalisation={"low": 0.0, "high": 100.0})
    dock.controller.models_changed.emit("")
    dock.decode.cells.setValue(10)
    settle(dock)
    drawn = dock.labels.value.data
    assert not drawn[DIM]
    dock.segment_button.click()
    settle(dock)
    np.testing.assert_array_equal(dock.labels.value.data, drawn)
    dock.model.value = "other"
    assert "Click Segment first" in dock.decode.cells.toolTip()
    dock.segment_button.click()
    settle(dock)
    assert dock.labels.value.data[DIM], "it has its own settings"
    dock.model.value = "tiny"
    assert dock.advanced.threshold.value == 0.85


def test_the_last_of_many_moves_is_shown(dock, settle):
    for value in (0, 80, 5, 70, 10):
        dock.decode.cells.setValue(value)
    settle(dock)
    assert not dock.labels.value.data[DIM]
    assert len([x for x in dock.viewer.layers if "cells cells" in x.name]) == 1


def test_a_segment_that_ends_meanwhile_wins(dock, settle):
    dock.decode.cells.setValue(10)
    dock.advanced.threshold.value = 0
    dock.segment_button.click()
    settle(dock)
    assert dock.labels.value.data[DIM]


@pytest.mark.slow
def test_it_is_grey_and_says_why(dock, settle, image):
    assert dock.decode.isVisible()
    assert dock.decode.cells.isEnabled()
    dock.viewer.layers["cells"].data = image.copy()
    assert not dock.decode.cells.isEnabled()
    assert "up to 2048 x 2048 pixels" in dock.decode.cells.toolTip()
    dock.viewer.layers.clear()
    assert not dock.decode.isVisible()
    dock.viewer.add_image(np.stack([image, image, image]), name="stack", axis_labels="zyx")
    dock.viewer.dims.set_current_step(0, 1)
    dock.segment_button.click()
    settle(dock)
    assert dock.decode.cells.isEnabled()
    dock.viewer.dims.set_current_step(0, 0)
    assert "go back to it" in dock.decode.cells.toolTip()
    dock.viewer.dims.set_current_step(0, 1)
    dock.decode.cells.setValue(10)
    settle(dock)
    shown = dock.labels.value.data
    assert shown[1][BRIGHT]
    assert not shown[1][DIM]
    dock.advanced.scope.value = "everything"
    dock.segment_button.click()
    settle(dock)
    assert "nor where planes are connected" in dock.decode.cells.toolTip()


@pytest.mark.slow
def test_the_next_version_finds_cells_in_the_same_way(dock, settle, outlined):
    dock.decode.cells.setValue(10)
    dock.decode.smallest.setValue(60)
    settle(dock)
    smallest = int(dock.advanced.min_size.value)
    outlined(dock)
    dock.budget.choices = (("a moment", 1.0),)
    dock.finetune_button.click()
    settle(dock)
    made = dock.controller.service.store.versions("tiny")[-1].header
    assert made.postprocess["threshold"] == 0.85
    assert made.postprocess["min_size_px"] == round(smallest * made.zoom**2)
