"""Make layers that lie exactly over other layers, for any order of axes.

napari aligns a layer of fewer axes with the last axes of the viewer. Labels have no channels, so
they can lack the channels' axis only where it is the first one. Elsewhere they keep it with length
1, and scaled so that the labels show over each channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from napari.layers import Image, Labels
from napari.layers.base import Layer
from numpy.typing import NDArray

from napari_unet.core.arrays import Pixels
from napari_unet.plugin.viewer.colours import colours_on
from napari_unet.plugin.viewer.layers import Index, axes_of, finest
from napari_unet.plugin.viewer.record import record_of


@dataclass(frozen=True)
class Lying:
    """How a new layer lies over a plane of another.

    Attributes
    ----------
    axes
        Its axes: YX, or those of the other layer.
    options
        Of the new layer.
    """

    axes: str
    options: dict[str, object]

    def lay(self, pixels: Pixels) -> Pixels:
        """Pixels (Y, X) as data of the new layer."""
        if len(self.axes) == 2:
            return pixels
        return _spread(pixels, "YX", self.axes)


def labels_like(
    image: Image,
    labels: NDArray[np.int32],
    name: str,
    metadata: dict[str, object],
    *,
    visible: bool = True,
) -> Labels:
    """A Labels layer that lies exactly over an image layer.

    Parameters
    ----------
    image
        The image.
    labels
        (..., Y, X), without channels.
    name, metadata, visible
        Of the new layer. Of one that is not visible napari computes no picture yet.
    """
    image_axes = axes_of(image)
    axes = _kept(image_axes)
    stack = "".join(axis for axis in image_axes if axis not in "CYX") + "YX"
    options = placed_like(image) | {"colormap": colours_on(image)}
    spread = _spread(labels, stack, axes)
    layer = Labels(spread, name=name, metadata=metadata, visible=visible, **options)
    record_of(layer).axes = axes
    return layer


def placed_like(image: Image) -> dict[str, object]:
    """Options of a layer that lies over an image and has the axes of its labels."""
    axes = axes_of(image)
    keep = [number for number, axis in enumerate(axes) if axis in _kept(axes)]
    square, n = np.ix_(keep, keep), len(axes)
    scale, translate = np.array(image.scale, float), np.array(image.translate, float)
    channels = axes.find("C")
    if channels in keep:
        count = finest(image).shape[channels]
        translate[channels] += scale[channels] * (count - 1) / 2
        scale[channels] *= count
    shear = np.asarray(image.shear, float)
    if shear.ndim == 1:
        shear = np.eye(n)
        shear[np.triu_indices(n, 1)] = image.shear
    affine = [*keep, n]
    return {
        "scale": scale[keep],
        "translate": translate[keep],
        "rotate": np.asarray(image.rotate)[square],
        "shear": shear[square],
        "affine": np.asarray(image.affine)[np.ix_(affine, affine)],
        "units": tuple(image.units[number] for number in keep),
        "axis_labels": tuple(image.axis_labels[number] for number in keep),
    }


def place_in(layer: Layer, index: Index, y: float, x: float) -> NDArray[np.float64]:
    """Coordinates of a pixel of a plane in a layer's data; of the first channel."""
    position = iter(index)
    known = {"C": 0.0, "Y": y, "X": x}
    return np.array([known[a] if a in known else next(position) for a in axes_of(layer)], float)


def over_points(
    image: Image, points: Sequence[tuple[Index, float, float]]
) -> tuple[NDArray[np.float64], dict[str, object]]:
    """Data and options of a Points layer over an image: plane, y and x of each point."""
    first = len(axes_of(image)) - len(_kept(axes_of(image)))
    data = np.array([place_in(image, *point)[first:] for point in points], float)
    return data, placed_like(image)


def over_plane(layer: Layer, index: Index, origin: tuple[int, int] = (0, 0)) -> Lying:
    """How a layer of pixels (Y, X) lies over one plane of another.

    Parameters
    ----------
    layer
        The other.
    index
        The plane.
    origin
        The plane's pixel (y, x) under the first of the new layer.
    """
    axes = axes_of(layer)

    def at(y: float, x: float) -> NDArray[np.float64]:
        there = place_in(layer, index, origin[0] + y, origin[1] + x)
        return np.asarray(layer.data_to_world(there))

    if set(axes[-2:]) == {"Y", "X"}:
        affine, start = np.eye(3), at(0, 0)[-2:]
        affine[:2] = np.stack([at(1, 0)[-2:] - start, at(0, 1)[-2:] - start, start], axis=1)
        names = {"units": layer.units[-2:], "axis_labels": layer.axis_labels[-2:]}
        return Lying("YX", {"affine": affine, **names})
    n = len(axes)
    start, step = place_in(layer, index, *origin), np.ones(n)
    if "C" in axes and isinstance(layer, Image):
        channels = axes.index("C")
        step[channels] = finest(layer).shape[channels]
        start[channels] = (step[channels] - 1) / 2
    zero = np.asarray(layer.data_to_world(start))
    ends = [np.asarray(layer.data_to_world(start + step * unit)) for unit in np.eye(n)]
    affine = np.eye(n + 1)
    affine[:n] = np.stack([*(end - zero for end in ends), zero], axis=1)
    return Lying(axes, {"affine": affine, "units": layer.units, "axis_labels": layer.axis_labels})


def _kept(axes: str) -> str:
    return axes[1:] if axes[0] == "C" else axes


def _spread(array: Pixels, axes: str, wanted: str) -> Pixels:
    """An array with its axes as wanted, those that it lacks of length 1; no copy."""
    order = [axes.index(axis) for axis in wanted if axis in axes]
    lacking = tuple(n for n, axis in enumerate(wanted) if axis not in axes)
    return np.expand_dims(array.transpose(order), lacking)
