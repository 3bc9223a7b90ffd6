"""The next drag on the canvas draws a rectangle."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import numpy as np
from napari.layers import Labels, Shapes
from napari.utils.events import Event
from napari.viewer import Viewer
from qtpy.QtCore import QTimer

from napari_unet.core.boxes import Box
from napari_unet.plugin.viewer.alignment import over_plane
from napari_unet.plugin.viewer.layers import (
    plane_in_view,
    plane_shape,
    rows_and_columns,
)
from napari_unet.plugin.viewer.record import helper_metadata

_NAME = "mark a box (U-Net)"
# A drag that is shorter than this is a click.
_LEAST_PX = 2


class RectangleDrag:
    """Takes the next drag on the canvas, in a Shapes layer of its own; Esc ends it.

    Parameters
    ----------
    viewer
        Whose canvas.
    labels
        In whose pixels the rectangle is told; active again afterwards.
    then
        Gets the box, None if there was none.
    """

    def __init__(self, viewer: Viewer, labels: Labels, then: Callable[[Box | None], None]) -> None:
        self._viewer, self._labels, self._then = viewer, labels, then
        place = over_plane(labels, plane_in_view(labels, viewer.dims.point))
        self._layer: Shapes | None = Shapes(
            ndim=len(place.axes),
            name=_NAME,
            metadata=helper_metadata(),
            edge_color="#2ecc71",
            face_color="transparent",
            edge_width=2,
            **place.options,
        )
        viewer.add_layer(self._layer)
        viewer.layers.selection.active = self._layer
        self._layer.mode = "add_rectangle"
        self._layer.bind_key("Escape", lambda layer: self.cancel(), overwrite=True)
        self._layer.mouse_drag_callbacks.append(self._drag)

    @property
    def is_on(self) -> bool:
        """Whether it still waits for the drag."""
        return self._layer is not None and self._layer in self._viewer.layers

    def cancel(self) -> None:
        """End without a rectangle; safe to call twice."""
        # Not while the layer handles an event.
        QTimer.singleShot(0, self.end)

    def close(self) -> None:
        """End, and tell nobody; safe to call twice."""
        self._then = lambda box: None
        self.end()

    def end(self, box: Box | None = None) -> None:
        """End with what was drawn; safe to call twice."""
        layer, self._layer = self._layer, None
        if layer is None:
            return
        with suppress(ValueError):
            self._viewer.layers.remove(layer)
        if self._labels in self._viewer.layers:
            self._viewer.layers.selection.active = self._labels
        self._then(box)

    def _drag(self, layer: Shapes, event: Event) -> Iterator[None]:
        first = self._pixel(event.position)
        yield
        while event.type == "mouse_move":
            yield
        last = self._pixel(event.position)
        height, width = plane_shape(self._labels)
        (top, bottom), (left, right) = (
            (max(0, min(a, b)), min(n, max(a, b) + 1))
            for a, b, n in zip(first, last, (height, width), strict=True)
        )
        is_drag = max(abs(a - b) for a, b in zip(first, last, strict=True)) >= _LEAST_PX
        box = (slice(top, max(top, bottom)), slice(left, max(left, right))) if is_drag else None
        QTimer.singleShot(0, lambda: self.end(box))

    def _pixel(self, position: Sequence[float]) -> tuple[int, int]:
        at = self._labels.world_to_data(np.asarray(position)[-self._labels.ndim :])
        y, x = (round(float(p)) for p in np.asarray(at)[rows_and_columns(self._labels)])
        return y, x
