"""Labels that a user made or brought for an image of a folder are saved as its labels."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_unet.plugin.projects.teaching import annotated
from napari_unet.plugin.viewer.record import is_helper
from napari_unet.projects.project import Project


def segment(widget, settle):
    widget.segment_button.click()
    settle(widget)
    return widget.labels.value


def go(widget, settle, steps):
    (widget.queue.following if steps > 0 else widget.queue.previous).click()
    settle(widget)
    settle(widget)


def test_a_layer_that_is_painted_by_hand_is_there_after_a_kill(
    opened, settle, hand, docked, folder
):
    viewer = opened.viewer
    # The button "new labels" of napari.
    viewer._new_labels()
    settle(opened)
    layer = viewer.layers[-1]
    assert Project(folder).entry("a.tif").state == "new"
    layer.mode, layer.brush_size, layer.selected_label = "paint", 9, 3
    hand(viewer).drag([(40, 40), (40, 44)])
    settle(opened)
    settle(opened)
    assert opened.labels.value is layer
    assert f'"{layer.name}" is saved as the labels of a.tif' in opened.queue.note.text()
    layer.selected_label = 4
    hand(viewer).drag([(60, 60), (60, 64)])
    settle(opened)
    settle(opened)
    painted = np.asarray(layer.data).copy()
    assert set(np.unique(painted)) == {0, 3, 4}
    assert "2 cells corrected" in opened.correcting.count.text()
    # As after a kill: nobody closed the folder or the dock. What is on the disk is read by others.
    project = Project(folder)
    assert (project.entry("a.tif").state, project.entry("a.tif").n_corrected) == ("corrected", 2)
    np.testing.assert_array_equal(project.read_labels("a.tif", project.read("a.tif")), painted)
    assert project.to_teach("tiny") == ["a.tif"]
    (taught,) = annotated(project, ["a.tif"], 3)
    assert set(np.unique(taught.corrections[0].labels)) >= {0, 3, 4}
    again = docked()
    again.queue.open_folder(folder)
    settle(again)
    settle(again)
    np.testing.assert_array_equal(again.labels.value.data, painted)
    assert "2 cells corrected" in again.correcting.count.text()
    # Segment keeps the cells that were painted.
    assert (segment(again, settle).data[40, 40:45] > 0).all()


def test_labels_that_are_imported_belong_to_the_image(opened, settle, folder, tmp_path):
    mine = np.zeros((96, 96), np.uint16)
    mine[10:20, 10:20], mine[50:60, 50:60] = 7, 300
    tifffile.imwrite(tmp_path / "mine.tif", mine)
    opened.measuring.exporting.open_labels(tmp_path / "mine.tif")
    settle(opened)
    settle(opened)
    go(opened, settle, 1)
    shown = [layer.name for layer in opened.viewer.layers if not is_helper(layer)]
    assert shown == ["b.tif"]
    project = Project(folder)
    np.testing.assert_array_equal(project.read_labels("a.tif", project.read("a.tif")), mine)
    go(opened, settle, -1)
    np.testing.assert_array_equal(opened.labels.value.data, mine)


@pytest.mark.parametrize("wanted", [True, False])
def test_where_there_are_labels_others_are_taken_only_if_that_is_asked_for(
    opened, settle, hand, folder, wanted
):
    result = segment(opened, settle)
    opened.labels.value.selected_label = 99
    opened.labels.value.paint((80, 80), 99)
    settle(opened)
    mine = np.zeros((96, 96), np.int32)
    mine[10:20, 10:20] = 7
    opened.viewer.add_labels(mine, name="mine")
    settle(opened)
    offer = opened.queue.offer
    assert offer.isVisible()
    assert offer.text.text() == 'The labels "mine" are not saved: a.tif has other labels'
    project = Project(folder)
    assert project.read_labels("a.tif", project.read("a.tif"))[80, 80] == 99
    if not wanted:
        opened.viewer.layers.selection.active = result
        settle(opened)
        assert not offer.isVisible()
        return
    offer.findChild(type(opened.segment_button)).click()
    settle(opened)
    settle(opened)
    assert not offer.isVisible()
    assert not result.visible
    found = Project(folder).read_labels("a.tif", project.read("a.tif"))
    np.testing.assert_array_equal(found, mine)
    # What was painted on the other ones is kept as the draft before.
    before = project.drafts.load("a.tif", previous=True)
    assert before.labels[80, 80] == 99


def test_labels_of_another_image_are_not_taken_by_themselves(opened, settle, folder):
    segment(opened, settle)
    opened.viewer.add_labels(np.eye(96, dtype=np.int32), name="mine")
    settle(opened)
    go(opened, settle, 1)
    assert not opened.queue.offer.isVisible()
    layer = opened.viewer.layers["mine"]
    opened.viewer.layers.selection.active = layer
    layer.paint((30, 5), 6)
    settle(opened)
    assert 'The labels "mine" are not saved as those of b.tif' in opened.queue.offer.text.text()
    assert Project(folder).entry("b.tif").state == "new"
    opened.viewer.layers.remove(layer)
    assert not opened.queue.offer.isVisible()
