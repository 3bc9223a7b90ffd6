"""Functions on napari's layers: their pixels, axes, planes, and what is in view."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from napari.layers import Image, Labels
from napari.layers.base import Layer
from napari.viewer import Viewer
from numpy.typing import NDArray

from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import axes_from_names, check_axes, label_axes, label_shape, planes_last
from napari_unet.core.checks import check_wide, size_words, whole_labels
from napari_unet.io.images import axes_in_file, channels_in_file
from napari_unet.plugin.viewer.record import helper_metadata, record_of

Index = tuple[int, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class LayerImage:
    """The pixels of an image layer, still lazy, and their axes.

    Attributes
    ----------
    data
        NumPy, dask, zarr, ...; the finest level of a pyramid.
    axes
        One letter of TZCYX for each axis.
    """

    data: LazyArray
    axes: str


def image_from_layer(layer: Image) -> LayerImage:
    """Return the pixels of an image layer and their axes.

    The axes are those that the user named, else napari's, else the usual ones for the shape.

    Raises
    ------
    ValueError
        If the axes are unclear.
    """
    data = finest(layer)
    named = axes_named(layer)
    if named:
        return LayerImage(data, _colours_last(check_axes(named, data.shape), layer))
    axes = axes_from_names(layer.axis_labels, data.shape, rgb=layer.rgb)
    if all(str(name).lstrip("axis -").isdigit() for name in layer.axis_labels):
        # napari numbers axes that nobody named; its readers do not pass on those of the file.
        axes = _axes_in_file(layer) or axes
        if axes.endswith("YX") and not layer.rgb:
            check_wide(data.shape)
    return LayerImage(data, axes)


def _axes_in_file(layer: Image) -> str:
    """Return the axes in the file that a layer was opened from; empty if there are none.

    The file is read once.
    """
    path = layer.source.path
    if not path or layer.rgb:
        return ""
    record, shape = record_of(layer), tuple(finest(layer).shape)
    found = record.file_axes
    # The layer may hold other pixels by now.
    if found is None or found[0] != shape:
        record.file_axes = found = shape, axes_in_file(Path(path), shape) or ""
    return found[1]


def channel_names(layer: Image) -> tuple[str, ...]:
    """Return the names of an image layer's channels, from the file that it was opened from.

    Empty if the file has no names, or not one for each channel. The file is read once.
    """
    path, axes = layer.source.path, axes_of(layer)
    if not path or layer.rgb or "C" not in axes:
        return ()
    record, shape = record_of(layer), tuple(finest(layer).shape)
    found = record.file_channels
    if found is None or found[0] != shape:
        record.file_channels = found = shape, channels_in_file(Path(path), shape)
    names = found[1]
    return names if len(names) == shape[axes.index("C")] else ()


def axes_named(image: Image) -> str:
    """Return the axes of an image layer as the user named them; empty if not named."""
    return record_of(image).axes


def name_axes_of(layer: Image, axes: str) -> None:
    """Set the axes of an image layer; an empty text leaves them to napari.

    Raises
    ------
    ValueError
        If the text does not fit; the layer's axes are then as napari says.
    """
    record = record_of(layer)
    del record.axes
    if axes.strip():
        checked = check_axes(axes.strip(), finest(layer).shape)
        record.axes = _colours_last(checked, layer)


def axes_of(layer: Layer) -> str:
    """One letter for each axis of a layer, the colours of RGB left out; '?' where it is unknown."""
    unknown: str = "?" * (layer.ndim - 2) + "YX"
    if isinstance(layer, Image):
        with suppress(ValueError):
            axes: str = image_from_layer(layer).axes[: layer.ndim]
            return axes
        return unknown
    known = record_of(layer).axes
    return known if len(known) == layer.ndim else unknown


def anisotropy(image: Image) -> float | None:
    """Distance of the planes over the size of a pixel, by the layer's scale; None without Z."""
    sizes = dict(zip(axes_of(image), np.abs(image.scale).tolist(), strict=True))
    return sizes["Z"] / math.sqrt(sizes["Y"] * sizes["X"]) if "Z" in sizes else None


def plane_in_view(layer: Layer, point: Sequence[float]) -> Index:
    """Index of the plane that is shown, along the axes of the layer other than C, Y, X.

    Parameters
    ----------
    layer
        The layer.
    point
        Where the viewer's sliders are, in world coordinates (`viewer.dims.point`).
    """
    position = layer.world_to_data(np.asarray(point)[-layer.ndim :])
    where = zip(axes_of(layer), position, _spatial_shape(layer), strict=True)
    return tuple(int(np.clip(round(float(p)), 0, n - 1)) for a, p, n in where if a not in "CYX")


def preview_layers(image: Image, preview: Any) -> list[Layer]:
    """Layers that show an `AugmentationPreview` to the right of an image.

    First column: the window and a regular grid; second: both deformed, and the labels; third: the
    weights of the loss.
    """
    scale, width = image.scale[-2:], preview.grid.shape[-1]
    right = image.extent.data[1][-1] + 32
    grid = {"colormap": "green", "blending": "additive", "contrast_limits": (0, 1)}

    def place(column: int) -> dict[str, object]:
        offset = np.array([0, right + column * (width + 16)]) * scale
        return {
            "scale": (1, *scale),
            "translate": (0, *(image.translate[-2:] + offset)),
            "metadata": helper_metadata(),
        }

    def picture(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        return pixels.clip(0, 1) if pixels.shape[-1] == 3 else pixels[..., 0]

    name = "augmentation: {}".format
    before, after = picture(preview.image), picture(preview.deformed_image)
    return [
        Image(before, name=name("image"), **place(0)),
        Image(preview.grid, name=name("grid"), **grid, **place(0)),
        Image(after, name=name("deformed image"), **place(1)),
        Labels(preview.deformed_labels, name=name("deformed labels"), opacity=0.5, **place(1)),
        Image(preview.deformed_grid, name=name("deformed grid"), **grid, **place(1)),
        Image(preview.weight, name=name("weight"), colormap="magma", **place(2)),
    ]


def show_preview(viewer: Viewer, image: Image, preview: Any) -> str:
    """Show these layers in place of those before; returns a sentence."""
    for layer in preview_layers(image, preview):
        if layer.name in viewer.layers:
            viewer.layers.remove(layer.name)
        viewer.add_layer(layer)
    draws, height, _ = preview.grid.shape
    return f"{draws} draws shown to the right of the image, {height} px each"


def visible_box(layer: Layer) -> tuple[slice, slice]:
    """Rows and columns of a layer that are on the canvas; all before it was drawn."""
    height, width = plane_shape(layer)
    yx = rows_and_columns(layer)
    factor = layer.downsample_factors[layer.data_level][yx] if layer.multiscale else (1, 1)
    (top, left), (bottom, right) = np.asarray(layer.corner_pixels)[:, yx] * factor
    if bottom <= top or right <= left:
        return slice(0, height), slice(0, width)
    return (
        slice(max(0, int(top)), min(height, int(bottom) + 1)),
        slice(max(0, int(left)), min(width, int(right) + 1)),
    )


def pixel_under(layer: Layer, point: Sequence[float]) -> tuple[int, int] | None:
    """The pixel (y, x) of a layer at a point of the world; None outside."""
    at = np.asarray(layer.world_to_data(np.asarray(point)[-layer.ndim :]))
    y, x = (round(float(p)) for p in at[rows_and_columns(layer)])
    height, width = plane_shape(layer)
    return (y, x) if 0 <= y < height and 0 <= x < width else None


def add_quietly(viewer: Viewer, layer: Layer) -> None:
    """Add a layer on top of the others; the selection stays as it is."""
    layers = viewer.layers
    chosen, active = set(layers.selection), layers.selection.active
    events = layers.selection.events
    # napari chooses what is added: nobody needs to hear of that, and to show its controls.
    with events.active.blocker(), events.changed.blocker():
        layers.append(layer)
        layers.selection.active = active
        layers.selection.update(chosen)
        layers.selection.discard(layer)


def bare(thing: T) -> T:
    """Return a napari object itself where a plugin was given a proxy of it.

    Proxies change Python's warning filters at each access, so they are for the main thread alone.
    """
    found: T = getattr(thing, "__wrapped__", thing)
    return found


def rows_and_columns(layer: Layer) -> list[int]:
    """Return the positions of Y and X among the axes of a layer."""
    axes = axes_of(layer)
    return [axes.index("Y"), axes.index("X")]


def planes_of(labels: Labels) -> LazyArray:
    """The labels of a layer, without channels, Y and X as the last axes; no copy."""
    data, axes = finest(labels), axes_of(labels)
    if "C" in axes:
        data = data[tuple(0 if axis == "C" else slice(None) for axis in axes)]
    # NumPy moves the axes of Dask's arrays as well.
    return planes_last(data, label_axes(axes))  # type: ignore[arg-type]


def plane_of(labels: Labels, index: Index) -> NDArray[np.int32]:
    """A copy (Y, X) of one plane of a Labels layer.

    Raises
    ------
    ValueError
        If an id is negative or beyond int32.
    """
    return whole_labels(planes_of(labels)[index])


def plane_shape(layer: Layer) -> tuple[int, int]:
    """Rows and columns."""
    height, width = np.asarray(_spatial_shape(layer))[rows_and_columns(layer)]
    return int(height), int(width)


def stack_shape(image: Image) -> tuple[int, ...]:
    """Shape of the planes of an image, Y and X last."""
    axes, shape = axes_of(image), _spatial_shape(image)
    return (*(n for a, n in zip(axes, shape, strict=True) if a not in "CYX"), *plane_shape(image))


def fits(labels: Labels, image: Image) -> bool:
    """Whether labels have one number for each pixel of an image.

    If labels from elsewhere have the shape of the image's labels, they get their axes here.
    """
    axes: str = label_axes(axes_of(image))
    shape = label_shape(axes_of(image), _spatial_shape(image))
    record = record_of(labels)
    if not record.axes and tuple(finest(labels).shape) == shape:
        record.axes = axes
    return tuple(planes_of(labels).shape) == stack_shape(image)


def check_fits(labels: Labels, image: Image) -> None:
    """Check that labels have one number for each pixel of an image.

    Raises
    ------
    ValueError
        If they have not.
    """
    if not fits(labels, image):
        own, wanted = finest(labels).shape, label_shape(axes_of(image), _spatial_shape(image))
        raise ValueError(
            f"the labels '{labels.name}' are {size_words(own)} and the image '{image.name}' is "
            f"{size_words(wanted)}; choose labels that were made from this image"
        )


def _colours_last(axes: str, layer: Image) -> str:
    if layer.rgb and axes[-1] != "C":
        raise ValueError(f"the axes are {axes!r} and the last one holds the colours; name it C")
    return axes


def finest(layer: Layer) -> LazyArray:
    """The data of a layer; of a pyramid, its finest level."""
    data: LazyArray = layer.data[0] if layer.multiscale else layer.data
    return data


def _spatial_shape(layer: Layer) -> tuple[int, ...]:
    shape = tuple(int(n) for n in finest(layer).shape)
    return shape[:-1] if isinstance(layer, Image) and layer.rgb else shape
