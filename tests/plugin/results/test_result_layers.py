"""A new result brings along what was made of the one before; the way back stays open."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.plugin.edits.seen import CONFIRMED, CORRECTED


def painted_and_confirmed(widget, layer, hand, settle) -> None:
    layer.mode, layer.brush_size = "paint", 8
    hand(widget.viewer).drag([(78, 70), (78, 80)])
    hand(widget.viewer).point((30, 70))
    hand(widget.viewer).press("C")
    settle(widget)


def segment(widget, settle):
    widget.segment_button.click()
    settle(widget)
    return widget.labels.value


def facts(layer) -> dict:
    return layer.metadata["napari_unet"]


@pytest.mark.slow
def test_what_was_seen_comes_along_and_teaches_again(segmented, settle, hand, taught):
    widget, first = segmented
    widget.advanced.ring.value = 3
    painted_and_confirmed(widget, first, hand, settle)
    before = taught(widget, settle)
    second = segment(widget, settle)
    # The model finds 3 of them.
    assert widget.status.text().startswith("4 cells, typically "), widget.status.text()
    assert second is not first
    assert not first.visible
    np.testing.assert_array_equal(second.data > 0, first.data > 0)
    seen = facts(second)["seen"][()]
    assert seen[78, 75] == CORRECTED
    assert seen[30, 70] == CONFIRMED
    np.testing.assert_array_equal(facts(second)["baseline"], second.data)
    assert widget.correcting.count.text() == "2 corrections carried over from the previous result"
    after = taught(widget, settle)
    np.testing.assert_array_equal(after[0].trusted, before[0].trusted)
    np.testing.assert_array_equal(after[0].labels > 0, before[0].labels > 0)

    second.mode, second.brush_size = "paint", 6
    hand(widget.viewer).drag([(50, 20), (50, 24)])
    settle(widget)
    assert widget.correcting.count.text() == (
        "1 cell corrected, 2 corrections carried over from the previous result"
    )
    third = segment(widget, settle)
    assert third.data[50, 22]
    assert third.data[78, 75]
    (correction,) = taught(widget, settle)
    assert correction.trusted[50, 22]
    assert correction.trusted[78, 75]
    assert correction.trusted[30, 70]
    # The same model found all three: one step back is enough.
    assert [x for x in (first, second, third) if x in widget.viewer.layers] == [second, third]


def test_a_cell_that_was_rubbed_out_stays_away(segmented, settle, hand):
    widget, first = segmented
    first.mode, first.brush_size = "erase", 20
    hand(widget.viewer).drag([(20, 18), (20, 22)])
    settle(widget)
    second = segment(widget, settle)
    assert not second.data[10:30, 10:30].any()
    assert second.data[30, 70]
    widget.undo = second.undo()
    settle(widget)
    assert widget.correcting.count.text() == "corrections carried over from the previous result"


def test_a_stroke_that_is_painted_while_the_model_looks_comes_along(segmented, settle, monkeypatch):
    widget, first = segmented
    first.paint((78, 75), 9)
    settle(widget)
    from napari_unet.plugin.jobs import controller

    merge, done = controller.merge, []

    def slow(*args):
        result = merge(*args)
        if not done:
            first.paint((50, 22), 9)
        done.append(result)
        return result

    monkeypatch.setattr(controller, "merge", slow)
    second = segment(widget, settle)
    assert len(done) == 2
    assert second.data[78, 75]
    assert second.data[50, 22]


@pytest.mark.slow
def test_go_back_shows_the_labels_of_the_parent(segmented, settle, hand, outlined):
    widget, first = segmented
    store = widget.controller.service.store
    assert not widget.last.back.isVisible()
    outlined(widget)
    painted = first.data.copy()
    widget.budget.choices = (("a moment", 1.0),)
    widget.finetune_button.click()
    settle(widget)
    assert widget.status.text().startswith('New model "tiny", version 2, is ready: '), (
        widget.status.text()
    )
    assert widget.last.back.isVisible()
    assert not widget.last.use.isVisible()
    second = segment(widget, settle)
    assert facts(second)["model"] == "tiny@2"
    third = segment(widget, settle)  # in the layer of the second, which nobody touched
    assert third == second
    assert widget.last.back.isVisible()
    widget.last.back.click()
    settle(widget)
    # It told of the cells of the newer model.
    assert widget.find_step.note.text() == ""
    assert store.find("tiny").version == 1
    assert widget.model.value == "tiny"
    assert first.visible
    assert not third.visible
    assert widget.labels.value is first
    np.testing.assert_array_equal(first.data, painted)
    assert not widget.last.back.isVisible()
    assert widget.correcting.count.text() == "2 cells corrected"
    fourth = segment(widget, settle)
    assert facts(fourth)["model"] == "tiny@1"
    assert third in widget.viewer.layers
    assert not first.visible
    assert facts(fourth)["seen"][()][20, 20] == CORRECTED


@pytest.mark.slow
def test_a_refused_version_waits_for_the_user(segmented, settle, hand):
    widget, first = segmented
    store = widget.controller.service.store
    # What is painted is not in the image.
    first.mode, first.brush_size = "paint", 8
    hand(widget.viewer).drag([(78, 70), (78, 80)])
    widget.budget.choices = (("a moment", 0.5),)
    widget.finetune_button.click()
    settle(widget)
    assert widget.status.text().startswith("The old model stays in use: ")
    assert store.find("tiny").version == 1
    assert [v.version for v in store.versions("tiny")] == [1, 2]
    assert widget.last.use.isVisible()
    assert not widget.last.back.isVisible()
    assert widget.model.choices == ("tiny",)
    widget.last.use.click()
    assert widget.model.choices == ("tiny",)
    assert store.find("tiny").version == 2
    assert widget.model.value == "tiny"
    assert widget.status.text() == 'The new version of "tiny" is in use'
    assert not widget.last.use.isVisible()
    assert widget.last.back.isVisible()
    widget.last.back.click()
    assert store.find("tiny").version == 1


@pytest.mark.slow
def test_what_is_learnt_from_a_shipped_model_is_another_model(
    segmented, settle, outlined, store, monkeypatch
):
    widget, first = segmented
    monkeypatch.setattr(store, "name_for_own", lambda model: f"my-{model.name}")
    outlined(widget)
    widget.budget.choices = (("a moment", 1.0),)
    widget.finetune_button.click()
    settle(widget)
    assert widget.status.text().startswith('New model "my-tiny" is ready: ')
    assert widget.model.value == "my-tiny"
    second = segment(widget, settle)
    widget.last.back.click()
    assert widget.model.value == "tiny"
    assert widget.labels.value is first
    assert not second.visible
    widget.models.fill()
    assert not widget.models.menu.actions()[0].isEnabled()
    widget.models._go_back()
    assert "no earlier version" in widget.status.text()


def test_labels_that_changed_their_size_are_kept(segmented, settle):
    widget, first = segmented
    first.data = np.ones((5, 5), np.int32)
    settle(widget)
    second = segment(widget, settle)
    assert second.data.shape == (96, 96)
    assert first in widget.viewer.layers
    third = segment(widget, settle)
    assert first in widget.viewer.layers
    assert third.data.max() == 3
