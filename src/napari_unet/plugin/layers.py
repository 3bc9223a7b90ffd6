"""Between napari's layers and the service's arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.layers.base import Layer
from numpy.typing import NDArray

from napari_unet.core.axes import guess_axes, label_axes

Index = tuple[int, ...]


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

    @property
    def label_axes(self) -> str:
        """Axes of its labels."""
        return label_axes(self.axes)


def image_from_layer(layer: Image) -> LayerImage:
    """The image that a layer shows.

    Raises
    ------
    ValueError
        If the layer has more axes than T, Z, Y, X and colours.
    """
    data = layer.data[0] if layer.multiscale else layer.data
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


def plane_of(labels: Labels, index: Index) -> NDArray[np.int32]:
    """A copy (Y, X) of one plane of a Labels layer."""
    data = labels.data[0] if labels.multiscale else labels.data
    return np.array(data[index], dtype=np.int32)


def fits(labels: Labels, image: Image) -> bool:
    """Whether labels have one number for each pixel of an image."""
    return tuple(_spatial_shape(labels)) == tuple(_spatial_shape(image))


def _spatial_shape(layer: Layer) -> tuple[int, ...]:
    data = layer.data[0] if layer.multiscale else layer.data
    shape = tuple(int(n) for n in data.shape)
    return shape[:-1] if isinstance(layer, Image) and layer.rgb else shape
