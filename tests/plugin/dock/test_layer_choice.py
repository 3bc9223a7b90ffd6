"""Which image and labels the dock works on, when a layer is selected in napari's list."""

from __future__ import annotations

import numpy as np
import pytest


@pytest.mark.slow
def test_a_click_on_the_image_keeps_its_labels(docked_by_napari, settle, outlined, image, qtbot):
    widget = docked_by_napari
    viewer = widget.viewer
    first = viewer.add_image(image, name="cells")
    widget.segment_button.click()
    settle(widget)
    labels = outlined(widget)
    settle(widget)
    assert widget.correcting.count.text() == "2 cells corrected"
    viewer.layers.selection.active = first
    settle(widget)
    assert widget.image.value == first
    assert widget.labels.value == labels
    assert widget.correcting.count.text() == "2 cells corrected"
    given = []
    service = widget.controller.service
    finetune = service.finetune
    service.finetune = lambda *a, **k: given.extend(a[0]) or finetune(*a, **k)
    widget.budget.choices = (("a moment", 2.0),)
    widget.finetune_button.click()
    settle(widget)
    assert len(given[0].corrections) == 1
    assert widget.controller.service.store.find("tiny").version == 2


@pytest.mark.slow
def test_a_click_on_the_image_keeps_labels_that_are_not_the_latest(
    docked_by_napari, settle, outlined, image
):
    widget = docked_by_napari
    viewer = widget.viewer
    first = viewer.add_image(image, name="cells")
    for _ in range(2):
        widget.segment_button.click()
        settle(widget)
        labels = outlined(widget)
        settle(widget)
    earlier = next(layer for layer in viewer.layers if layer.name == "cells cells")
    assert earlier != labels
    widget.labels.value = earlier
    viewer.layers.selection.active = first
    assert widget.labels.value == earlier


def test_a_layer_with_another_name_stays_chosen(docked_by_napari, settle, outlined, image):
    widget = docked_by_napari
    picture = widget.viewer.add_image(image, name="cells")
    widget.segment_button.click()
    settle(widget)
    labels = widget.labels.value
    labels.name, picture.name = "mine", "picture"
    assert widget.labels.native.currentText() == "mine"
    assert widget.image.native.currentText() == "picture"
    assert (widget.image.value, widget.labels.value) == (picture, labels)
    widget.viewer.add_labels(np.zeros_like(image), name="others")
    widget.viewer.layers.selection.active = labels
    outlined(widget)
    settle(widget)
    assert widget.labels.value == labels
    assert widget.correcting.count.text() == "2 cells corrected"


def test_only_the_chosen_labels_are_shown(docked_by_napari, settle, image):
    widget = docked_by_napari
    widget.viewer.add_image(image, name="cells")
    widget.segment_button.click()
    settle(widget)
    result = widget.labels.value
    own = widget.viewer.add_labels((image > 100).astype(np.uint8), name="own")
    assert (widget.labels.value, own.visible, result.visible) == (own, True, False)
    small = widget.viewer.add_labels(np.ones((5, 5), int), name="of something else")
    assert (widget.labels.value, small.visible) == (small, True)
    widget.labels.value = result
    assert result.visible


def test_another_image_brings_its_own_labels(docked_by_napari, settle, image):
    widget = docked_by_napari
    viewer = widget.viewer
    first = viewer.add_image(image, name="first")
    widget.segment_button.click()
    settle(widget)
    labels = widget.labels.value
    second = viewer.add_image(np.flip(image, 0).copy(), name="second")
    assert (widget.image.value, widget.labels.value) == (second, None)
    viewer.layers.selection.active = first
    assert (widget.image.value, widget.labels.value) == (first, labels)
    viewer.layers.selection.active = labels
    widget.controller.results.check_pair(widget.image.value, widget.labels.value)


@pytest.mark.slow
def test_mistakes_are_told_in_the_dock_and_nowhere_else(
    docked_by_napari, settle, image, caplog, capfd
):
    widget = docked_by_napari
    viewer = widget.viewer
    capfd.readouterr()

    def said(button, *words) -> None:
        button.click()
        settle(widget)
        text = widget.status.text()
        assert all(word in text for word in words), text
        assert "Error" not in text

    viewer.add_image(image, name="cells")
    said(widget.segment_button, "3 cells")
    said(widget.correcting.take_back, "no mark to undo")
    small = viewer.add_labels(np.ones((5, 5), int), name="small")
    widget.labels.value = small
    settle(widget)
    said(widget.finetune_button, "'small'", "5 x 5", "96 x 96")
    said(widget.measuring.measure, "'small'", "5 x 5", "96 x 96")
    assert not [r for r in caplog.records if r.levelname in ("WARNING", "ERROR", "CRITICAL")]
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.slow
def test_a_dock_that_is_opened_takes_the_uppermost_image_that_is_visible(
    viewer, add_model, image, settle
):
    add_model("tiny", normalisation={"low": 0.0, "high": 100.0})
    viewer.add_image(image, name="lowest")
    wanted = viewer.add_image(image, name="wanted")
    viewer.add_image(image, name="hidden", visible=False)
    viewer.layers.selection.clear()
    place, widget = viewer.window.add_plugin_dock_widget("napari-unet")
    assert widget.image.value == wanted
    assert widget.segment_button.isEnabled()
    widget.segment_button.click()
    settle(widget)
    labels = widget.labels.value
    viewer.window.remove_dock_widget(place)
    viewer.layers.selection = {viewer.layers["lowest"], viewer.layers["hidden"]}
    _, other = viewer.window.add_plugin_dock_widget("napari-unet")
    assert other.image.value == viewer.layers["lowest"], "a selected one"
    viewer.layers.selection.active = labels
    assert (other.image.value, other.labels.value) == (wanted, labels)
    other.cleanup()
