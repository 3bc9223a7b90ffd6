"""Labels in OME-Zarr come as Labels, other stores as napari opens them; Labels are written so."""

from __future__ import annotations

import npe2
import numpy as np
import pytest
import zarr
from napari.layers import Image, Labels
from qtpy.QtWidgets import QFileDialog

from napari_unet.io.label_stores import holds_labels, write_label_store
from napari_unet.plugin.results.label_files import get_reader, labels_in, open_labels
from napari_unet.plugin.viewer.record import record_of


@pytest.fixture
def cells():
    labels = np.zeros((3, 40, 56), np.int32)
    labels[0, 5:12, 6:20], labels[1, 20:30, 30:44] = 1, 7
    return labels


@pytest.fixture
def label_store(tmp_path, cells):
    path = tmp_path / "cells.zarr"
    um = ["micrometer"] * 3
    write_label_store(path, cells, "ZYX", [2.0, 0.25, 0.25], um, [10.0, 3.0, 4.0])
    return path


def a_plain_store(path):
    array = zarr.create_array(store=str(path), shape=(40, 56), dtype="uint8", chunks=(40, 56))
    array[...] = 7
    return path


def test_labels_of_ours_come_as_a_labels_layer(docked_by_napari, qtbot, label_store, cells):
    viewer = docked_by_napari.viewer
    viewer.open(str(label_store))
    qtbot.waitUntil(lambda: any(isinstance(x, Labels) for x in viewer.layers), timeout=10_000)
    (layer,) = viewer.layers
    assert layer.name == "cells"
    np.testing.assert_array_equal(layer.data, cells)
    np.testing.assert_allclose(layer.scale, (2, 0.25, 0.25))
    np.testing.assert_allclose(layer.translate, (10, 3, 4))
    assert [str(unit) for unit in layer.units] == ["micrometer"] * 3
    assert layer.editable


def test_they_lie_over_the_image_that_has_their_size(docked_by_napari, qtbot, label_store, cells):
    viewer = docked_by_napari.viewer
    image = viewer.add_image(np.zeros((3, 40, 56), np.uint8), name="im", scale=(1, 2, 2))
    viewer.open(str(label_store))
    qtbot.waitUntil(lambda: any(isinstance(x, Labels) for x in viewer.layers), timeout=10_000)
    (labels,) = [x for x in viewer.layers if isinstance(x, Labels)]
    np.testing.assert_array_equal(labels.data, cells)
    np.testing.assert_allclose(labels.extent.world, image.extent.world)
    # They can be corrected and learnt from, as any labels of that image.
    qtbot.waitUntil(lambda: docked_by_napari.labels.value is not None, timeout=10_000)
    assert record_of(labels).axes == "ZYX"


def test_other_stores_stay_with_the_reader_that_opened_them(docked_by_napari, qtbot, tmp_path):
    viewer = docked_by_napari.viewer
    viewer.open(str(a_plain_store(tmp_path / "image.zarr")))
    qtbot.wait(200)
    (layer,) = viewer.layers
    assert isinstance(layer, Image)
    assert not holds_labels(tmp_path / "image.zarr")
    assert not holds_labels(tmp_path)


def test_the_reader_takes_labels_and_nothing_else(viewer, tmp_path, label_store, cells):
    (layer,) = viewer.open(str(label_store), plugin="napari-unet")
    assert isinstance(layer, Labels)
    np.testing.assert_array_equal(layer.data, cells)
    np.testing.assert_allclose(layer.scale, (2, 0.25, 0.25))
    image = a_plain_store(tmp_path / "image.zarr")
    (tmp_path / "folder").mkdir()
    for other in (image, tmp_path / "folder", tmp_path / "none.zarr", tmp_path):
        assert get_reader(str(other)) is None
    assert get_reader([str(label_store), str(image)]) is None


def test_labels_that_were_open_before_the_dock(viewer, nuclei, qtbot, label_store):
    viewer.open(str(label_store))
    _, widget = viewer.window.add_plugin_dock_widget("napari-unet")
    qtbot.waitUntil(lambda: isinstance(viewer.layers[0], Labels), timeout=10_000)
    widget.cleanup()


def test_the_menu_opens_them_without_a_dock(viewer, monkeypatch, label_store, tmp_path):
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *given: str(label_store))
    open_labels(viewer)
    assert isinstance(viewer.layers[0], Labels)
    with pytest.raises(ValueError, match="holds no labels"):
        labels_in(a_plain_store(tmp_path / "image.zarr"), viewer)


def test_large_ones_come_level_by_level(viewer, monkeypatch, tmp_path):
    monkeypatch.setattr("napari_unet.plugin.results.label_files._LARGEST_PX", 1000)
    labels = np.zeros((1500, 40), np.int32)
    labels[1400:1450, 5:20] = 3
    write_label_store(tmp_path / "a.zarr", labels, "YX", [1.0, 1.0], [None, None], [0.0, 0.0])
    layer = labels_in(tmp_path / "a.zarr", viewer)
    assert layer.multiscale
    assert [level.shape for level in layer.data] == [(1500, 40), (750, 20)]
    np.testing.assert_array_equal(layer.data[0], labels)


def test_a_labels_layer_is_saved_and_comes_back(viewer, tmp_path, cells):
    names = {"axis_labels": ("z", "y", "x"), "units": ("um", "um", "um")}
    layer = viewer.add_labels(cells, scale=(3, 0.5, 0.5), translate=(0, 7, 8), **names)
    path = tmp_path / "out.zarr"
    assert layer.save(str(path)) == [str(path)]
    back = labels_in(path, viewer)
    np.testing.assert_array_equal(back.data, cells)
    np.testing.assert_allclose(back.scale, layer.scale)
    np.testing.assert_allclose(back.translate, layer.translate)
    assert back.units == layer.units
    # What this program wrote is replaced, what others wrote is not.
    layer.data = cells * 2
    layer.save(str(path))
    np.testing.assert_array_equal(labels_in(path, viewer).data, cells * 2)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["out.zarr"]
    (path / "notes.txt").write_text("mine")
    with pytest.raises(OSError, match="was not made by napari-unet"):
        layer.save(str(path))
    arrows = viewer.add_vectors(np.zeros((1, 2, 3)))
    with pytest.raises(OSError, match="2 layers are selected"):
        viewer.layers.__class__([layer, arrows]).save(str(tmp_path / "both.zarr"))
    # Without an ending napari's own writer stays the one, in whatever order plugins were found.
    writers = npe2.PluginManager.instance().iter_compatible_writers(["labels"])
    names = [writer.command.split(".")[0] for writer in writers]
    assert names.index("napari") < names.index("napari-unet")
    (other,) = viewer.add_labels(cells[0]).save(str(tmp_path / "plain"))
    assert other.endswith(".tif")
