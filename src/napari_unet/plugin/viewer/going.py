"""Moves sliders and camera to a place of a layer."""

from __future__ import annotations

import numpy as np
from napari.layers.base import Layer
from napari.viewer import Viewer

from napari_unet.plugin.viewer.alignment import place_in
from napari_unet.plugin.viewer.canvas import camera_of, canvas_size
from napari_unet.plugin.viewer.layers import Index, axes_of, rows_and_columns

# So many diameters of a cell are seen along the canvas.
_DIAMETERS = 8


def go_to(
    viewer: Viewer, layer: Layer, index: Index, y: float, x: float, diameter_px: float
) -> None:
    """Show a place of a layer in the middle, so near that cells around it can be told apart.

    Parameters
    ----------
    viewer
        Whose sliders and camera are moved.
    layer
        The layer.
    index, y, x
        The plane, and the pixel in it.
    diameter_px
        Of the cells there, in pixels.
    """
    world = np.asarray(layer.data_to_world(place_in(layer, index, y, x)))
    first = viewer.dims.ndim - len(world)
    for axis, letter in enumerate(axes_of(layer)):
        if letter not in "CYX":
            viewer.dims.set_point(first + axis, float(world[axis]))
    camera = camera_of(viewer)
    size = diameter_px * float(np.abs(layer.scale[rows_and_columns(layer)]).mean())
    shown = [axis - first for axis in viewer.dims.displayed[-2:]]
    height, width = world[shown if min(shown) >= 0 else [-2, -1]]
    camera.center = (*camera.center[:-2], float(height), float(width))
    camera.zoom = min(canvas_size(viewer)) / (_DIAMETERS * size)
