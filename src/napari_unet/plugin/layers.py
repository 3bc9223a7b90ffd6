"""Between napari's layers and the service's arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.layers.base import Layer
from numpy.typing import NDArray

from napari_unet.core.axes import guess_axes
from napari_unet.service.inputs import whole_labels

Index = tuple[int, ...]
# Where a layer's metadata say what this plugin knows of it.
METADATA = "napari_unet"


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

    data: Any
    axes: str


def image_from_layer(layer: Image) -> LayerImage:
    """The image that a layer shows.

    Raises
    ------
    ValueError
        If the layer has more axes than T, Z, Y, X and colours.
    """
    data = _finest(layer)
    return LayerImage(data, guess_axes(data.shape, rgb=layer.rgb))


def plane_in_view(layer: Layer, point: Sequence[float]) -> Index:
    """Index of the plane that is shown, along all axes of the layer but the last two.

    Parameters
    ----------
    layer
        The layer.
    point
        Where the viewer's sliders are, in world coordinates (`viewer.dims.point`).
    """
    position = layer.world_to_data(np.asarray(point)[-layer.ndim :])
    shape = _spatial_shape(layer)
    return tuple(
        int(np.clip(round(float(p)), 0, n - 1))
        for p, n in zip(position[:-2], shape[:-2], strict=True)
    )


def labels_like(
    image: Image, labels: NDArray[np.int32], name: str, metadata: dict[str, Any]
) -> Labels:
    """A Labels layer that lies exactly over an image layer."""
    return Labels(
        labels,
        name=name,
        metadata=metadata,
        scale=image.scale,
        translate=image.translate,
        rotate=image.rotate,
        shear=image.shear,
        affine=image.affine,
        units=image.units,
        axis_labels=image.axis_labels,
    )


def preview_layers(image: Image, preview: Any) -> list[Layer]:
    """Layers that show an `AugmentationPreview` to the right of an image.

    First column: the window and a regular grid; second: both deformed, and the labels; third: the
    weights of the loss.
    """
    scale, width = image.scale[-2:], preview.grid.shape[-1]
    right = image.extent.data[1][-1] + 32
    grid = {"colormap": "green", "blending": "additive", "contrast_limits": (0, 1)}

    def place(column: int) -> dict[str, Any]:
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


def memory(layer: Layer) -> dict[str, Any]:
    """What this plugin knows of a layer; kept in the layer itself, so that it outlives the dock."""
    found: dict[str, Any] = layer.metadata.setdefault(METADATA, {})
    return found


def helper_metadata() -> dict[str, Any]:
    """Metadata of a layer that only shows something: painting on it teaches nothing."""
    return {METADATA: {"helper": True}}


def is_helper(layer: Layer) -> bool:
    """Whether a layer is one of those that only show something."""
    return bool(layer.metadata.get(METADATA, {}).get("helper"))


def over_plane(layer: Layer, index: Index, origin: tuple[int, int] = (0, 0)) -> dict[str, Any]:
    """Options with which a layer of two axes lies over one plane of another.

    Parameters
    ----------
    layer
        The other.
    index
        The plane.
    origin
        The plane's pixel (y, x) under the first of the new layer.
    """

    def at(y: float, x: float) -> NDArray[np.float64]:
        return np.asarray(layer.data_to_world((*index, origin[0] + y, origin[1] + x)))[-2:]

    affine, start = np.eye(3), at(0, 0)
    affine[:2] = np.stack([at(1, 0) - start, at(0, 1) - start, start], axis=1)
    return {"affine": affine, "units": layer.units[-2:], "axis_labels": layer.axis_labels[-2:]}


def visible_box(layer: Layer) -> tuple[slice, slice]:
    """Rows and columns of a layer that are on the canvas; all before it was drawn."""
    height, width = _spatial_shape(layer)[-2:]
    factor = layer.downsample_factors[layer.data_level][-2:] if layer.multiscale else (1, 1)
    (top, left), (bottom, right) = np.asarray(layer.corner_pixels)[:, -2:] * factor
    if bottom <= top or right <= left:
        return slice(0, height), slice(0, width)
    return (
        slice(max(0, int(top)), min(height, int(bottom) + 1)),
        slice(max(0, int(left)), min(width, int(right) + 1)),
    )


def pixel_under(layer: Layer, point: Sequence[float]) -> tuple[int, int] | None:
    """The pixel (y, x) of a layer at a point of the world; None outside."""
    y, x = (round(float(p)) for p in layer.world_to_data(np.asarray(point)[-layer.ndim :])[-2:])
    height, width = _spatial_shape(layer)[-2:]
    return (y, x) if 0 <= y < height and 0 <= x < width else None


def add_quietly(viewer: Any, layer: Layer, below: Layer | None = None) -> None:
    """Add a layer, under another one if that is given, and let the selection be."""
    layers = viewer.layers
    chosen, active = set(layers.selection), layers.selection.active
    layers.insert(layers.index(below) if below in layers else len(layers), layer)
    layers.selection.active = active
    layers.selection.update(chosen)
    layers.selection.discard(layer)


def plane_of(labels: Labels, index: Index) -> NDArray[np.int32]:
    """A copy (Y, X) of one plane of a Labels layer.

    Raises
    ------
    ValueError
        If an id is negative or beyond int32.
    """
    return whole_labels(_finest(labels)[index])


def fits(labels: Labels, image: Image) -> bool:
    """Whether labels have one number for each pixel of an image."""
    return tuple(_spatial_shape(labels)) == tuple(_spatial_shape(image))


def _finest(layer: Layer) -> Any:
    return layer.data[0] if layer.multiscale else layer.data


def _spatial_shape(layer: Layer) -> tuple[int, ...]:
    shape = tuple(int(n) for n in _finest(layer).shape)
    return shape[:-1] if isinstance(layer, Image) and layer.rgb else shape
