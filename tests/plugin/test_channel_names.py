"""Where a file has names of channels, the dock shows them."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_unet.plugin.viewer.layers import channel_names

NAMES = ("DAPI", "GFP", "Cy5")


@pytest.fixture
def channels(discs):
    return np.stack([discs((20, 20)), discs((30, 70), (60, 60)), discs((70, 30))])


def as_imagej(path, pixels):
    metadata = {"axes": "CYX", "Labels": list(NAMES)}
    tifffile.imwrite(path / "image.tif", pixels, imagej=True, metadata=metadata)
    return path / "image.tif"


def as_ome(path, pixels):
    metadata = {"axes": "CYX", "Channel": {"Name": list(NAMES)}}
    kind = {"photometric": "minisblack", "metadata": metadata}
    tifffile.imwrite(path / "image.ome.tif", pixels, **kind)
    return path / "image.ome.tif"


def as_zarr(path, pixels):
    import zarr

    group = zarr.create_group(path / "image.zarr", zarr_format=2)
    group.create_array("0", data=pixels)
    axes = [{"name": "c", "type": "channel"}] + [{"name": a, "type": "space"} for a in "yx"]
    level = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}]}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [level]}]
    group.attrs["omero"] = {"channels": [{"label": name} for name in NAMES]}
    return path / "image.zarr"


@pytest.mark.slow
@pytest.mark.parametrize("write", [as_imagej, as_ome, as_zarr])
def test_the_names_are_shown_where_a_channel_is_chosen_and_told(
    docked_by_napari, settle, tmp_path, channels, write
):
    widget = docked_by_napari
    viewer = widget.viewer
    (image,) = viewer.open(str(write(tmp_path, channels)))
    box = widget.advanced.channel
    assert channel_names(image) == NAMES
    assert "1 GFP" in box.native.toolTip()
    assert box.native.text() == "automatic"
    box.value = 1
    assert box.native.text() == "1 GFP"
    viewer.dims.set_current_step(0, 2)
    widget.segment_button.click()
    settle(widget)
    assert widget.status.text().startswith("2 cells,"), widget.status.text()
    assert "seen in channel 1, GFP (0 to 2)" in widget.status.text()
    box.value = -1
    # All channels in view at once: which one is asked for, by name.
    viewer.dims.ndisplay = 3
    widget.segment_button.click()
    settle(widget)
    assert "3 separate channels (DAPI, GFP, Cy5); choose the one" in widget.status.text()


def test_without_names_there_is_the_number(docked_by_napari, channels):
    widget = docked_by_napari
    widget.viewer.add_image(channels, axis_labels=("c", "y", "x"))
    box = widget.advanced.channel
    box.value = 1
    assert box.native.text() == "1"
    assert "GFP" not in box.native.toolTip()


def test_names_and_axes_of_a_file_are_not_those_of_other_pixels(
    docked_by_napari, settle, tmp_path, channels, discs
):
    widget = docked_by_napari
    (image,) = widget.viewer.open(str(as_imagej(tmp_path, channels)))
    assert channel_names(image) == NAMES
    image.data = discs((20, 20))
    widget.advanced.look_at(widget.image.value)
    assert channel_names(image) == ()
    widget.segment_button.click()
    settle(widget)
    assert widget.status.text().startswith("1 cell,"), widget.status.text()
