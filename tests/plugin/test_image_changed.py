"""The image is not the same any more when the labels come: they are not laid over it."""

from __future__ import annotations

from threading import Event

import numpy as np
import pytest

from napari_unet.plugin.jobs import controller
from napari_unet.plugin.jobs.controller import new_layer
from napari_unet.plugin.viewer.record import is_helper

EARLIER = "cells cells (of the earlier image)"


def change(image, how: str) -> None:
    if how == "in place":
        image.data[..., 20:40, :] = 0
    elif how == "the same size":
        image.data = np.zeros(image.data.shape, np.uint8)
    elif how == "fewer axes":
        image.data = np.zeros((30, 40), np.uint8)
    else:
        image.data = np.zeros((*image.data.shape[:-2], 30, 40), np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "scope"),
    [
        ("another size", "this plane"),
        ("the same size", "this plane"),
        ("in place", "visible area"),
        ("the same size", "everything"),
        ("fewer axes", "everything"),
    ],
)
def test_what_was_found_is_not_laid_over_another_image(docked_by_napari, settle, discs, how, scope):
    widget = docked_by_napari
    viewer = widget.viewer
    planes = [discs((20, 20)), discs((30, 70)), discs((70, 30))]
    image = viewer.add_image(np.stack(planes), name="cells")
    viewer.dims.set_current_step(0, 1)
    widget.advanced.scope.value = scope
    widget.segment_button.click()
    settle(widget)
    first = widget.labels.value
    first.paint((1, 80, 80), 9)
    settle(widget)
    before = {x.name: np.array(x.data) for x in viewer.layers if x.name != "cells"}
    widget.segment_button.click()
    assert widget.is_busy
    change(image, how)
    now = np.array(image.data)
    settle(widget)

    told = widget.status.text()
    assert told.startswith("⚠ the image 'cells' was changed meanwhile; click Segment"), told
    np.testing.assert_array_equal(image.data, now)
    for name, data in before.items():
        np.testing.assert_array_equal(viewer.layers[name].data, data)
    assert first.visible
    assert widget.labels.value is first
    new = {x.name for x in viewer.layers} - before.keys() - {"cells"}
    if how in ("another size", "fewer axes"):
        assert not new
        assert "hidden layer" not in told
        return
    assert new == {EARLIER}
    assert f"'{EARLIER}'" in told
    kept = viewer.layers[EARLIER]
    assert not kept.visible
    # Nothing can be learnt from it: it is no result of the image that is shown now.
    assert is_helper(kept)
    assert kept not in widget.labels.choices
    if how == "the same size":
        assert kept.data[1, 30, 70]

    # The next click takes the new pixels.
    widget.segment_button.click()
    settle(widget)
    assert "changed meanwhile" not in widget.status.text()
    assert widget.labels.value is not first


def test_it_may_change_while_a_layer_is_made_of_what_was_found(
    docked_by_napari, settle, discs, monkeypatch, qtbot
):
    widget = docked_by_napari
    image = widget.viewer.add_image(np.stack([discs((20, 20)), discs((30, 70))]), name="cells")
    widget.segment_button.click()
    settle(widget)
    is_making, may_go_on = Event(), Event()

    def make_slowly(*of_result):
        is_making.set()
        may_go_on.wait()
        return new_layer(*of_result)

    monkeypatch.setattr(controller, "new_layer", make_slowly)
    widget.segment_button.click()
    qtbot.waitUntil(is_making.is_set, timeout=60_000)
    change(image, "fewer axes")
    may_go_on.set()
    settle(widget)
    told = widget.status.text()
    assert told == "⚠ the image 'cells' was changed meanwhile; click Segment", told


def test_a_pyramid_that_was_not_changed_gets_its_labels(docked_by_napari, settle, discs):
    widget = docked_by_napari
    image = discs((20, 20), (30, 70))
    widget.viewer.add_image([image, image[::2, ::2]], multiscale=True, name="cells")
    widget.segment_button.click()
    settle(widget)
    assert widget.status.text().startswith("2 cells,"), widget.status.text()
