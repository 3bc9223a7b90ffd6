"""Cells have classes: chosen for the brush, told by the model, kept with the labels."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from napari_unet.plugin.dock.widgets import NEW_CLASS
from napari_unet.plugin.jobs.scope import as_seen
from napari_unet.plugin.viewer.record import record_of


@pytest.fixture
def add_class(qtbot):
    def add(widget, name):
        widget.correcting.class_choice.box.value = NEW_CLASS
        assert widget.correcting.class_choice.name.isVisible()
        widget.correcting.class_choice.name.clear()
        qtbot.keyClicks(widget.correcting.class_choice.name, name)
        qtbot.keyClick(widget.correcting.class_choice.name, "\r")

    return add


@pytest.mark.slow
def test_strokes_have_the_class_that_is_chosen(segmented, settle, hand, taught, add_class):
    widget, layer = segmented
    assert widget.correcting.class_choice.value == "cell"
    layer.mode, layer.brush_size = "paint", 8
    hand(widget.viewer).drag([(78, 70), (78, 80)])
    add_class(widget, "lobed")
    assert widget.correcting.class_choice.value == "lobed"
    assert not widget.correcting.class_choice.name.isVisible()
    layer.selected_label = 5
    hand(widget.viewer).drag([(50, 20), (50, 24)])
    layer.selected_label = int(layer.data[30, 70])
    hand(widget.viewer).drag([(30, 70), (30, 74)])
    settle(widget)
    found = int(layer.data[30, 70])
    classes = layer.metadata["napari_unet"]["classes"]
    assert classes == {5: "lobed", found: "lobed"}
    assert list(layer.features["class"][layer.features["index"] == 5]) == ["lobed"]
    (correction,) = taught(widget, settle)
    assert correction.classes == {5: "lobed", found: "lobed"}

    widget.correcting.class_choice.box.value = "cell"
    layer.selected_label = 5
    hand(widget.viewer).drag([(54, 20), (54, 24)])
    settle(widget)
    assert classes[5] == "cell"
    layer.mode = "erase"
    widget.correcting.class_choice.box.value = "lobed"
    hand(widget.viewer).drag([(54, 20), (54, 24)])
    assert classes[5] == "cell"


@pytest.mark.parametrize("name", ["", "   ", "x" * 31, "background", "tab\tbed"])
def test_names_that_are_none_are_refused(segmented, name, qtbot):
    widget, _ = segmented
    widget.correcting.class_choice.box.value = NEW_CLASS
    widget.correcting.class_choice.name.setText(name)
    qtbot.keyClick(widget.correcting.class_choice.name, "\r")
    assert widget.status.text().startswith("⚠ ")
    assert widget.correcting.class_choice.value == "cell"


def test_classes_of_the_model_are_offered(docked, add_model):
    add_model("kinds", classes=("background", "round", "lobed"))
    widget = docked()
    widget.model.value = "kinds"
    assert list(widget.correcting.class_choice.box.choices) == ["round", "lobed", NEW_CLASS]
    assert widget.correcting.class_choice.value == "round"
    widget.model.value = "tiny"
    assert widget.correcting.class_choice.value == "cell"


@pytest.mark.slow
def test_a_result_tells_the_classes_and_corrections_keep_them(
    segmented, settle, hand, taught, monkeypatch
):
    widget, _ = segmented
    hand(widget.viewer).point((20, 20))
    hand(widget.viewer).press("C")
    settle(widget)
    from napari_unet.models.loaded import LoadedModel

    monkeypatch.setattr(LoadedModel, "kinds", lambda self, votes: ("round", "cell", "lobed"))
    widget.segment_button.click()
    settle(widget)
    layer = widget.labels.value
    kept = int(layer.data[20, 20])
    other, last = int(layer.data[30, 70]), int(layer.data[70, 30])
    classes = layer.metadata["napari_unet"]["classes"]
    assert classes.get(kept, "cell") == "cell"
    assert classes.get(other, "cell") == "cell"
    assert classes[last] == "lobed"
    table = dict(zip(layer.features["index"], layer.features["class"], strict=True))
    assert table[last] == "lobed"
    hand(widget.viewer).point((70, 30))
    hand(widget.viewer).press("C")
    (correction,) = taught(widget, settle)
    assert correction.classes == {last: "lobed"}


def test_the_diameter_reaches_both_jobs(segmented):
    widget, _ = segmented
    assert "typically 12 px wide" in widget.status.text()
    widget.advanced.diameter.value = 30
    assert widget.advanced.predict_config().diameter_px == 30
    assert widget.advanced.finetune_config(5.0).diameter_px == 30
    widget.advanced.diameter.value = 0
    assert widget.advanced.predict_config().diameter_px == "auto"
    widget.advanced.use_as_is()
    assert widget.advanced.predict_config().diameter_px is None
    assert widget.advanced.predict_config().channel is None
    widget.advanced.colours.value = "stain"
    assert widget.advanced.predict_config().channel == "stain"
    assert widget.advanced.finetune_config(5.0).channel == "stain"
    assert widget.advanced.finetune_config(5.0).diameter_px is None


@pytest.mark.slow
def test_an_image_that_was_resized_can_be_used_as_it_is(docked, settle, discs):
    """Cells 96 px wide; what is learnt from them is seen at the size at which they were found."""
    widget = docked()
    wide = np.kron(discs((20, 20), (30, 70), (70, 30), size=96), np.ones((8, 8), np.uint8))
    widget.viewer.add_image(wide, name="wide")
    widget.segment_button.click()
    settle(widget)
    assert "shown to the model at a" in widget.status.text()
    assert not widget.look.isHidden()
    labels = widget.labels.value
    shown_for = record_of(labels).diameter_px
    assert shown_for in (48.0, 96.0, 192.0)
    find = partial(widget.controller.service.store.find, "tiny")
    image, config = widget.image.value, widget.advanced.finetune_config(5.0)
    assert as_seen(config, image, labels, find, widget.viewer).diameter_px == shown_for
    widget.look.use_as_is.click()
    settle(widget)
    assert widget.look.isHidden()
    assert "shown" not in widget.status.text()
    assert record_of(widget.labels.value).diameter_px is None
