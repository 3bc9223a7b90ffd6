"""What a file or an array is, as the dock takes it."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import tifffile

from napari_unet.plugin.layers import image_from_layer


@pytest.fixture
def dock(docked, add_model):
    """The dock with a model of 3 channels, as the one that ships."""
    add_model("colour", in_channels=3, normalisation={"low": 0.0, "high": 100.0})
    widget = docked()
    widget.model.value = "colour"
    return widget


def click(dock, settle):
    dock.segment_button.click()
    settle(dock)
    return dock.status.text()


def test_channels_that_napari_opens_as_a_stack(dock, settle, image, tmp_path):
    path = tmp_path / "i.tif"
    noise = np.random.default_rng(0).integers(0, 20, image.shape, np.uint8)
    tifffile.imwrite(path, np.stack([noise, noise, image]), imagej=True, metadata={"axes": "CYX"})
    (layer,) = dock.viewer.open(path, plugin="napari")
    dock.viewer.dims.set_current_step(0, 2)
    assert image_from_layer(layer).axes == "CYX"
    said = click(dock, settle)
    assert said.startswith("3 cells found")
    assert "seen in channel 2 (0 to 2)" in said
    assert dock.labels.value.data.shape == image.shape


def test_a_movie_that_napari_opens_as_a_stack(dock, settle, image, tmp_path):
    path = tmp_path / "i.tif"
    tifffile.imwrite(path, np.stack([image] * 2), imagej=True, metadata={"axes": "TYX"})
    (layer,) = dock.viewer.open(path, plugin="napari")
    assert image_from_layer(layer).axes == "TYX"
    # The user knows better.
    dock.advanced.axes.value = "zyx"
    assert image_from_layer(layer).axes == "ZYX"


def test_planes_a_few_pixels_wide(dock, settle, image):
    dock.viewer.add_image(np.dstack([image, image // 2]))
    said = click(dock, settle)
    assert "the image is 96 x 96 x 2: its last axis is too short for columns" in said
    assert "write YXC under Advanced, Axes" in said
    dock.advanced.axes.value = "yxc"
    assert "choose the one that shows the cells under Advanced, Channel" in click(dock, settle)


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning:napari")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning:numpy")
def test_an_empty_image(dock, settle):
    dock.viewer.add_image(np.zeros((0, 64, 64), np.uint8))
    assert "the image is empty, 0 x 64 x 64; give pixels" in click(dock, settle)


def test_missing_pixels_are_counted(dock, settle, image):
    holed = image.astype(np.float32)
    holed[::10, ::10] = np.nan
    dock.viewer.add_image(holed)
    said = click(dock, settle)
    assert said.startswith("3 cells found")
    assert "100 pixels are no numbers and were filled in from the neighbours (1 %)" in said


def test_a_plane_that_cannot_be_read(dock, settle, caplog):
    def block(block_info=None):
        if block_info[None]["chunk-location"][0] == 2:
            raise RuntimeError("disk gone")
        return np.ones(block_info[None]["chunk-shape"], np.uint8)

    lazy = da.map_blocks(block, chunks=((1, 1, 1), (64,), (64,)), dtype=np.uint8)
    dock.viewer.add_image(lazy, contrast_limits=(0, 2))
    dock.viewer.dims.set_current_step(0, 0)
    dock.advanced.scope.value = "everything"
    said = click(dock, settle)
    assert "the plane Z 2 " in said
    assert "of the image cannot be read: disk gone" in said
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_labels_of_planes_with_channels_are_measured(dock, settle, image):
    dock.viewer.add_image(np.stack([np.stack([image] * 2)] * 2), axis_labels=["z", "c", "y", "x"])
    assert click(dock, settle).startswith("3 cells found")
    dock.measuring.measure.click()
    settle(dock)
    assert dock.status.text().startswith("3 cells measured")
    assert len(dock.labels.value.features["area"]) >= 3
