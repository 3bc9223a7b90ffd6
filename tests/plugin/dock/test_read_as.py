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
    assert box.isVisible() == (len(words) > 1)
    assert dock.read_as.fixed.isVisible() == (words == [words[0]])
    dock.window().resize(1366, 768)
    dock.grab()
    scope = dock.advanced.scope.native
    text_px = scope.fontMetrics().horizontalAdvance(scope.currentText())
    # The arrow takes some 30 px.
    assert text_px + 30 < scope.width(), "beside it there is room for the size"


def test_a_long_name_is_seen_with_the_size_of_the_image(dock):
    dock.window().resize(1366, 768)
    name = "2026-11-28 HeLa, plate 3, well B07.tif"
    layer = dock.viewer.add_image(np.zeros((64, 48), np.uint8), name=name)
    assert dock.read_as.fixed.text() == "64 x 48, grey"
    dock.grab()
    box = dock.image.native
    assert box.fontMetrics().horizontalAdvance(name) < box.width() - 30
    layer.name = 3 * name
    assert layer.name in box.toolTip(), "longer ones are in the tooltip"
    assert "The image to find cells in" in box.toolTip()
    dock.viewer.add_labels(np.zeros((64, 48), int), name="cells of it")
    dock.advanced.axes.value = "yx"
    assert dock.labels.native.toolTip().startswith("cells of it\nThe cells that you correct")
    dock.viewer.add_image(np.zeros((9, 64, 48), np.uint8))
    assert dock.read_as.label.text() == "9 x 64 x 48, read as"
    assert (dock.read_as.isVisible(), dock.read_as.fixed.isVisible()) == (True, False)
    dock.image.value = layer
    assert (dock.read_as.isVisible(), dock.read_as.fixed.isVisible()) == (False, True)
    dock.viewer.layers.clear()
    assert not dock.read_as.fixed.isVisible()


def test_a_name_that_is_too_long_is_cut_in_the_middle(dock, qtbot):
    dock.window().resize(1366, 768)
    name = "2026-11-28 HeLa, plate 3, well B07.tif"
    dock.viewer.add_image(np.zeros((64, 48), np.uint8), name=name)
    ends = []
    for ending in ("cells", "nuclei"):
        labels = dock.viewer.add_labels(np.zeros((64, 48), int), name=f"{name} {ending}")
        assert dock.labels.value == labels
        box = dock.labels.native
        assert box.currentText() == labels.name
        qtbot.wait(50)
        ends.append(box.grab().toImage())
    assert ends[0] != ends[1], "the end tells them apart"


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
