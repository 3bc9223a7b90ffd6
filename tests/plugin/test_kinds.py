"""Images of every kind go through the dock, and get the labels that their planes get alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import dask.array as da
import numpy as np
import pytest
import zarr

import napari_unet
from napari_unet.config import PredictConfig
from napari_unet.core.axes import get_plane, plane_indices
from napari_unet.plugin.viewer.layers import planes_of
from napari_unet.plugin.viewer.record import record_of

SIZES = {"T": 2, "Z": 3, "Y": 40, "X": 56}
WORDS = {"T": "time", "Z": "slice", "C": "Channel", "Y": "y", "X": "X"}


@dataclass(frozen=True)
class Layout:
    """Axes of an image, its channels, and who names the axes: napari, the user, nobody."""

    axes: str
    channels: int = 0
    named: str = ""
    rgb: bool = False

    def __str__(self) -> str:
        return f"{self.axes}{self.channels or ''}{'rgb' if self.rgb else ''}"


LAYOUTS = (
    Layout("YX"),
    Layout("ZYX"),
    Layout("TYX", named="words"),
    Layout("TZYX"),
    Layout("YXC", 3, rgb=True),
    Layout("ZYXC", 4, rgb=True),
    Layout("CYX", 2, "text"),
    Layout("CZYX", 5, "words"),
    Layout("ZCYX", 3, "text"),
    Layout("TZCYX", 2, "words"),
    Layout("YXC", 5, "text"),
    Layout("ZYXC", 2, "words"),
    Layout("YXZ", named="words"),
)
DTYPES = ("uint8", "uint16", "float32", "float64", "int16", "bool", "int64", "uint32")
CONTAINERS = ("numpy", "dask", "zarr", "multiscale")
ROWS = [
    (layout, "uint8" if layout.rgb else DTYPES[number % len(DTYPES)], container)
    for number, (container, layout) in enumerate(product(CONTAINERS, LAYOUTS))
    # Each layout as numpy, and in one of the other containers.
    if container == "numpy" or number % len(LAYOUTS) % 3 == CONTAINERS.index(container) - 1
]


def draw(layout: Layout, dtype: str, seed: int) -> np.ndarray:
    """Bright discs on a noisy ground, others on each plane of each channel."""
    rng = np.random.default_rng(seed)
    shape = tuple(SIZES.get(axis, layout.channels) for axis in layout.axes)
    others = [n for axis, n in zip(layout.axes, shape, strict=True) if axis not in "YX"]
    last = np.zeros([*others, 40, 56])
    y, x = np.mgrid[:40, :56]
    for index in np.ndindex(*last.shape[:-2]):
        plane = rng.uniform(0, 0.2, (40, 56))
        for cy, cx in zip((10, 28), rng.integers(10, 46, 2), strict=True):
            plane[(y - cy) ** 2 + (x - cx) ** 2 <= 25] = 0.9
        last[index] = plane
    order = [axis for axis in layout.axes if axis not in "YX"] + ["Y", "X"]
    image = last.transpose([order.index(axis) for axis in layout.axes])
    if dtype == "bool":
        return image > 0.5
    if np.dtype(dtype).kind == "f":
        return image.astype(dtype)
    return (image * 200).astype(dtype)


def contain(image: np.ndarray, layout: Layout, container: str, folder) -> object:
    if container == "dask":
        return da.from_array(image, chunks=tuple(max(1, n // 2) for n in image.shape))
    if container == "zarr":
        stored = zarr.create_array(
            store=str(folder / f"{layout}.zarr"),
            shape=image.shape,
            dtype=image.dtype,
            chunks=tuple(max(1, n // 2) for n in image.shape),
        )
        stored[...] = image
        return stored
    if container == "multiscale":
        half = tuple(slice(None, None, 2 if axis in "YX" else 1) for axis in layout.axes)
        return [image, image[half]]
    return image


def alone(image: np.ndarray, axes: str, model: object, channel: int | None) -> np.ndarray:
    """Labels (..., Y, X) of each plane by itself, ids going on from plane to plane."""
    shape = [n for axis, n in zip(axes, image.shape, strict=True) if axis not in "CYX"]
    labels, count = np.zeros([*shape, 40, 56], np.int32), 0
    config = PredictConfig(channel=channel)
    for index in plane_indices(axes, image.shape):
        plane = np.ascontiguousarray(get_plane(image, axes, index))
        named = "CYX"
        if channel is None and len(plane) > 1:  # colours, which are last
            plane, named = np.moveaxis(plane, 0, -1), "YXC"
        found = napari_unet.segment(plane, model, axes=named, config=config)
        labels[index] = np.where(found, found + count, 0)
        count = int(labels.max())
    return labels


def open_row(widget, layout: Layout, data: object, container: str) -> object:
    options = {"axis_labels": [WORDS[axis] for axis in layout.axes]} if layout.named else {}
    if layout.named == "text":
        options = {}
    if container == "multiscale":
        options["multiscale"] = True
    layer = widget.viewer.add_image(data, name="image", rgb=layout.rgb, **options)
    widget.advanced.axes.value = layout.axes.lower() if layout.named == "text" else ""
    return layer


def test_the_table_is_large():
    assert len(ROWS) >= 25
    assert {dtype for _, dtype, _ in ROWS} == set(DTYPES)


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_kind_gets_the_labels_of_its_planes(docked, settle, tmp_path, container):
    widget = docked()
    model = widget.controller.service.store.find("tiny").path
    for number, (layout, dtype, kept_in) in enumerate(ROWS):
        if kept_in != container:
            continue
        image = draw(layout, dtype, number)
        layer = open_row(widget, layout, contain(image, layout, container, tmp_path), container)
        channel, where = None, layout.axes.find("C")
        if layout.channels and not layout.rgb:
            channel = 1
            if layout.axes[-1] == "C":
                # It lies along the screen: nothing tells which one is meant.
                widget.advanced.channel.value = channel
            else:
                widget.viewer.dims.set_current_step(where, channel)
        if "everything" in widget.advanced.scope.choices:
            widget.advanced.scope.value = "everything"
            widget.advanced.link.value = "none"
        widget.segment_button.click()
        settle(widget)
        row = f"{layout} {dtype} {container}: {widget.status.text()}"
        labels = widget.labels.value
        assert labels is not None, row
        expected = alone(image, layout.axes, model, channel)
        assert expected.max() >= 2, row
        np.testing.assert_array_equal(planes_of(labels), expected, err_msg=row)
        assert record_of(labels).channel == channel, row
        assert (f"channel {channel} (0 to" in widget.status.text()) == (channel is not None), row
        for axis in (layout.axes.index(letter) - layer.ndim for letter in "YX"):
            there, here = labels.extent.world[:, axis], layer.extent.world[:, axis]
            np.testing.assert_allclose(there, here, err_msg=row)
        widget.advanced.channel.value = -1
        widget.viewer.layers.clear()
        settle(widget)


@pytest.mark.slow
def test_axes_of_the_layer_are_carried_to_the_labels(docked, settle):
    widget = docked()
    layout = Layout("CZYX", 2)
    layer = widget.viewer.add_image(
        draw(layout, "uint8", 0),
        scale=(1, 2, 0.5, 0.25),
        translate=(0, 10, 3, 4),
        rotate=np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, -1], [0, 0, 1, 0]], float),
        units=("pixel", "um", "um", "um"),
        axis_labels=("c", "z", "y", "x"),
    )
    widget.segment_button.click()
    settle(widget)
    labels = widget.labels.value
    assert labels.data.shape == (3, 40, 56)
    np.testing.assert_allclose(labels.scale, (2, 0.5, 0.25))
    np.testing.assert_allclose(labels.translate, (10, 3, 4))
    np.testing.assert_allclose(labels.rotate, np.asarray(layer.rotate)[1:, 1:])
    assert labels.units == layer.units[1:]
    assert labels.axis_labels == ("z", "y", "x")
    np.testing.assert_allclose(
        labels.data_to_world((1, 20, 30)), layer.data_to_world((0, 1, 20, 30))[1:]
    )


@pytest.mark.slow
def test_channels_between_planes_keep_the_labels_under_each_of_them(docked, settle):
    widget = docked()
    layout = Layout("ZCYX", 4)
    layer = widget.viewer.add_image(
        draw(layout, "uint8", 0), scale=(2, 3, 1, 1), axis_labels=("z", "c", "y", "x")
    )
    widget.viewer.dims.set_current_step(0, 1)
    widget.segment_button.click()
    settle(widget)
    labels = widget.labels.value
    assert labels.data.shape == (3, 1, 40, 56)
    np.testing.assert_allclose(labels.extent.world[:, [0, 2, 3]], layer.extent.world[:, [0, 2, 3]])
    at = tuple(np.argwhere(labels.data)[0])
    for channel in range(4):
        widget.viewer.dims.set_current_step(1, channel)
        world = layer.data_to_world((at[0], channel, at[2], at[3]))
        np.testing.assert_array_equal(np.round(labels.world_to_data(world)), at)
        assert labels.get_value(world, dims_displayed=[2, 3], world=True)


def test_a_wrong_text_gives_a_sentence_and_an_empty_one_works_on(docked, settle):
    widget = docked()
    widget.viewer.add_image(draw(Layout("ZYX"), "uint8", 0))
    widget.advanced.axes.value = "ZQX"
    widget.segment_button.click()
    assert "use each of T, Z, C at most once" in widget.status.text()
    widget.advanced.axes.value = "YX"
    widget.segment_button.click()
    assert "give one letter for each" in widget.status.text()
    assert len(widget.viewer.layers) == 1
    widget.advanced.axes.value = ""
    widget.segment_button.click()
    settle(widget)
    assert widget.labels.value.data.shape == (3, 40, 56)


def test_the_text_belongs_to_its_image(docked, settle):
    widget = docked()
    first = widget.viewer.add_image(draw(Layout("ZYX"), "uint8", 0), name="first")
    widget.advanced.axes.value = "cyx"
    second = widget.viewer.add_image(draw(Layout("ZYX"), "uint8", 0), name="second")
    assert widget.image.value is second
    assert widget.advanced.axes.value == ""
    widget.image.value = first
    assert widget.advanced.axes.value == "CYX"
    widget.segment_button.click()
    settle(widget)
    assert widget.labels.value.data.shape == (40, 56)


def test_channels_that_do_not_fit_and_are_not_in_view_give_a_sentence(docked, settle):
    widget = docked()
    widget.viewer.add_image(draw(Layout("YXC", 5), "uint8", 0), axis_labels=("y", "x", "c"))
    widget.segment_button.click()
    settle(widget)
    assert "the image has 5 separate channels; choose" in widget.status.text()
    assert "under Channel (0 to 4)" in widget.status.text()
    widget.advanced.channel.value = 7
    widget.segment_button.click()
    settle(widget)
    assert "give one from 0 to 4" in widget.status.text()


@pytest.mark.slow
def test_finetune_sees_the_channel_of_segment(docked, settle, monkeypatch):
    widget = docked()
    image = draw(Layout("ZCYX", 5), "uint8", 0)
    widget.viewer.add_image(image, axis_labels=("z", "c", "y", "x"))
    widget.viewer.dims.set_current_step(0, 2)
    widget.viewer.dims.set_current_step(1, 3)
    widget.segment_button.click()
    settle(widget)
    widget.viewer.dims.set_current_step(1, 0)
    labels = widget.labels.value
    labels.paint((2, 0, 35, 50), 9)
    settle(widget)
    assert widget.correcting.count.text().startswith("1 cell corrected")
    given = []

    def fail(annotated, model, config, **options):
        given.append((annotated[0], config))
        raise ValueError("this is a test")

    monkeypatch.setattr(widget.controller.service, "finetune", fail)
    widget.finetune_button.click()
    settle(widget)
    ((annotated, config),) = given
    assert config.channel == 3
    assert annotated.axes == "ZCYX"
    (correction,) = annotated.corrections
    assert correction.index == (2,)
    assert correction.labels[35, 50] == 9


@pytest.mark.slow
def test_a_fine_tune_of_one_channel_learns_and_keeps_that_channel(docked, settle):
    from napari_unet.corrections.collection import collection_of

    widget = docked()
    image = draw(Layout("CYX", 5), "uint8", 0)
    widget.viewer.add_image(image, axis_labels=("c", "y", "x"))
    widget.viewer.dims.set_current_step(0, 2)
    widget.segment_button.click()
    settle(widget)
    widget.labels.value.paint((35, 50), 9)
    settle(widget)
    widget.budget.choices = (("a moment", 0.5),)
    widget.finetune_button.click()
    settle(widget)
    store = widget.controller.service.store
    assert len(store.versions("tiny")) == 2, widget.status.text()
    collection = collection_of(store, "tiny")
    (entry,) = collection.entries()
    kept = collection.read(entry)
    np.testing.assert_array_equal(np.asarray(kept.image).squeeze(), image[2])


@pytest.mark.slow
@pytest.mark.parametrize("axes", ["ZCYX", "YXC"])
def test_what_was_seen_is_kept_shown_and_restored_with_channels(docked, settle, axes):
    channels = 4
    widget = docked()
    image = draw(Layout(axes, channels), "uint8", 1)
    names = tuple(axes.lower())
    layer = widget.viewer.add_image(image, name="cells", axis_labels=names, rgb=False)
    widget.advanced.channel.value = 1
    if axes == "YXC":
        widget.viewer.dims.order = (2, 0, 1)
    widget.viewer.dims.set_current_step(axes.index("C"), 3)
    widget.segment_button.click()
    settle(widget)
    first = widget.labels.value
    index = {"ZCYX": (widget.viewer.dims.current_step[0],), "YXC": ()}[axes]
    at = {"ZCYX": (*index, 0, 35, 50), "YXC": (35, 50, 0)}[axes]
    first.paint(at, 9)
    settle(widget)
    assert widget.correcting.count.text().startswith("1 cell corrected")
    seen = widget.viewer.layers["learnt from (U-Net)"]
    place = np.array(at)
    place[axes.index("C")] = 3
    world = np.asarray(layer.data_to_world(place))
    assert seen.data[tuple(np.round(seen.world_to_data(world[-seen.ndim :])).astype(int))]
    widget.correcting.confirm.click()
    settle(widget)
    assert record_of(first).marks[0]["index"] == list(index)

    widget.segment_button.click()
    settle(widget)
    second = widget.labels.value
    assert second is not first
    assert planes_of(second)[(*index, 35, 50)]
    np.testing.assert_array_equal(planes_of(second)[index] > 0, planes_of(first)[index] > 0)
    second.paint(at, 77)
    settle(widget)
    widget.correcting.next_place.click()
    assert "⚠" not in widget.status.text()
    widget.controller.restoring.restore(layer)
    settle(widget)
    restored = widget.labels.value
    assert restored is not second
    assert restored.data.shape == second.data.shape
    np.testing.assert_array_equal(restored.data, second.data)
    np.testing.assert_allclose(restored.extent.world, second.extent.world)
    assert record_of(restored).channel == 1


def test_only_the_planes_that_are_asked_for_are_read(docked, settle):
    read = []

    def load(block_info=None):
        z = block_info[None]["chunk-location"][0]
        read.append(z)
        return draw(Layout("YX"), "uint8", z)[None]

    widget = docked()
    stack = da.map_blocks(load, chunks=((1,) * 6, (40,), (56,)), dtype=np.uint8, meta=np.zeros(0))
    widget.viewer.add_image(stack, contrast_limits=(0, 255))
    widget.viewer.dims.set_current_step(0, 4)
    read.clear()
    widget.segment_button.click()
    settle(widget)
    assert widget.labels.value.data[4].any()
    # The first and the middle one tell the image from others.
    assert set(read) <= {0, 3, 4}


@pytest.mark.slow
@pytest.mark.parametrize("axes", ["CYX", "YXC"])
def test_a_rectangle_is_dragged_over_channels(docked, settle, hand, qtbot, axes):
    widget = docked()
    image = draw(Layout(axes, 4), "uint8", 1)
    widget.viewer.add_image(image, axis_labels=tuple(axes.lower()), rgb=False)
    widget.advanced.channel.value = 1
    if axes == "YXC":
        widget.viewer.dims.order = (2, 0, 1)
    widget.viewer.dims.set_current_step(axes.index("C"), 3)
    widget.segment_button.click()
    settle(widget)
    widget.correcting.rectangle.click()
    hand(widget.viewer).drag([(5, 6), (20, 30)])
    qtbot.wait(50)
    settle(widget)
    (mark,) = record_of(widget.labels.value).marks
    np.testing.assert_allclose(mark["box"], [5, 21, 6, 31], atol=1)
    assert mark["index"] == []
