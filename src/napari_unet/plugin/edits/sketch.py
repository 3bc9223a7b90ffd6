"""A line over the plane in view, while a gesture is drawn."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from napari.layers import Labels, Shapes
from napari.viewer import Viewer
from numpy.typing import ArrayLike

from napari_unet.plugin.viewer.alignment import over_plane
from napari_unet.plugin.viewer.canvas import camera_of
from napari_unet.plugin.viewer.garbage import leave_out_all, look_at
from napari_unet.plugin.viewer.layers import add_quietly, plane_in_view, rows_and_columns
from napari_unet.plugin.viewer.record import helper_metadata

_NAME = "gesture (U-Net)"
_COLOUR = "#ffcc1a"
# Width of the line, in pixels of the screen.
_WIDTH_PX = 2.0


class Sketch:
    """Shows one line in a Shapes layer of its own, which never becomes the active one.

    Parameters
    ----------
    viewer
        Where it is shown.
    labels
        In whose pixels the line is told.
    """

    def __init__(self, viewer: Viewer, labels: Labels) -> None:
        self._viewer, self._labels = viewer, labels
        self._layer: Shapes | None = None

    def show(self, path: ArrayLike, *, closed: bool = False) -> None:
        """Show a line through points (N, 2) of the plane in view, in place of the one before."""
        points = np.asarray(path, float)
        points = np.concatenate([points, points[:1]]) if closed else points
        if len(points) < 2:
            return
        place = over_plane(self._labels, plane_in_view(self._labels, self._viewer.dims.point))
        layer = self._layer
        if layer is None or layer not in self._viewer.layers:
            leave_out_all()
            layer = Shapes(
                ndim=len(place.axes), name=_NAME, metadata=helper_metadata(), **place.options
            )
            look_at(layer)
            add_quietly(self._viewer, layer)
            self._layer = layer
        layer.affine = place.options["affine"]
        line = np.zeros((len(points), layer.ndim))
        line[:, [place.axes.index("Y"), place.axes.index("X")]] = points
        pixel = float(
            np.min(np.abs(np.asarray(self._labels.scale)[rows_and_columns(self._labels)]))
        )
        width = _WIDTH_PX / (camera_of(self._viewer).zoom * pixel)
        layer.data = []
        layer.add_paths([line], edge_color=_COLOUR, edge_width=width)

    def clear(self) -> None:
        """Show nothing."""
        if self._layer is not None:
            self._layer.data = []

    def remove(self) -> None:
        """Take the layer away; safe to call twice."""
        layer, self._layer = self._layer, None
        if layer is not None:
            with suppress(ValueError):
                self._viewer.layers.remove(layer)
