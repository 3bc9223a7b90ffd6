"""What the axes of an image are taken for: shown always, changed in one click."""

from __future__ import annotations

import numpy as np
import pytest

from napari_unet.plugin.viewer.layers import axes_of


@pytest.fixture
def dock(docked_by_napari):
    return docked_by_napari


def offered(box) -> list[str]:
    return [box.itemText(n) for n in range(box.count())]


def test_it_is_shown_and_one_click_changes_it(dock):
    layer = dock.viewer.add_image(np.zeros((5, 64, 64), np.uint8), name="planes")
    box = dock.read_as.box
    assert box.isVisible()
    assert box.currentText() == "z-stack"
    assert offered(box) == ["z-stack", "movie", "channels"]
    assert "5 x 64 x 64, axes ZYX" in box.toolTip()
    dock.read_as.choose("TYX")
    assert axes_of(layer) == "TYX"
    assert dock.advanced.axes.value == "TYX"
    dock.advanced.axes.value = "cyx"
    assert box.currentText() == "channels"
    dock.advanced.axes.value = ""
    assert box.currentText() == "z-stack"


@pytest.mark.parametrize(
    ("shape", "rgb", "words"),
    [
        ((64, 64), False, ["grey image"]),
        ((64, 64, 3), True, ["colour image"]),
        ((5, 64, 64, 3), True, ["colour z-stack", "colour movie"]),
        ((64, 64, 3), False, ["z-stack", "movie", "channels", "colour image"]),
    ],
)
def test_what_is_offered_for_a_shape(dock, shape, rgb, words):
    dock.viewer.add_image(np.zeros(shape, np.uint8), rgb=rgb)
    box = dock.read_as.box
    assert [text for text in offered(box) if text != "choose…"] == words
    assert box.isEnabled() == (len(words) > 1)


def test_a_box_offers_the_channels_of_the_image(dock, settle):
    dock.viewer.add_image(np.zeros((3, 64, 64), np.uint8))
    assert not dock.channel.isVisible()
    dock.read_as.choose("CYX")
    assert dock.channel.isVisible()
    assert offered(dock.channel.box) == ["automatic", "0", "1", "2"]
    dock.channel.choose(2)
    assert dock.advanced.predict_config().channel == 2
    dock.advanced.channel.value = 1
    assert dock.channel.box.currentText() == "1"


def test_everything_connects_planes_and_follows_cells_over_time(dock):
    advanced = dock.advanced
    dock.viewer.add_image(np.zeros((5, 64, 64), np.uint8))
    assert advanced.predict_config().link == "none", "this plane"
    advanced.scope.value = "everything"
    assert advanced.predict_config().link == "z"
    assert advanced.files_config().link == "none", "a file may have other axes"
    dock.read_as.choose("TYX")
    assert advanced.predict_config().link == "t"
    assert "3d" not in advanced.link.choices
    advanced.link.value = "none"
    assert advanced.predict_config().link == "none"
    dock.read_as.choose("ZYX")
    advanced.link.value = "3d"
    assert advanced.predict_config().in_3d
    dock.read_as.choose("CYX")
    assert not advanced.link.native.isVisible()
    assert not advanced.predict_config().in_3d


def test_a_cell_on_three_planes_is_one_cell(dock, settle, discs):
    stack = np.stack([discs((20, 20), (60, 60)), discs((20, 20)), discs((20, 20))])
    dock.viewer.add_image(stack, name="stack")
    dock.advanced.scope.value = "whole z-stack"
    dock.segment_button.click()
    settle(dock)
    assert dock.status.text().startswith("2 cells,")
    assert set(np.unique(dock.labels.value.data)) == {0, 1, 2}
