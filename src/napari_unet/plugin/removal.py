"""Takes layers away one at a time."""

from __future__ import annotations

from contextlib import suppress

from napari.layers.base import Layer
from napari.viewer import Viewer
from qtpy.QtCore import QTimer

# Long enough for the viewer to draw in between.
_PAUSE_MS = 120


class Removal:
    """Lets layers vanish at once and removes them soon, one after the other.

    napari 0.9 with vispy 0.17 ends with a segmentation fault when the canvas changes its size
    after a layer was removed that was not drawn since the last change: because it was hidden, or
    because another one had been removed just before. So they are drawn once more, transparent.

    Parameters
    ----------
    viewer
        Where the layers are.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._queue: list[tuple[Layer, str, float]] = []

    def take_away(self, layer: Layer) -> None:
        """Remove a layer soon; no matter if somebody else does so first."""
        if layer not in self._viewer.layers or any(layer is queued[0] for queued in self._queue):
            return
        self._queue.append((layer, layer.name, layer.opacity))
        layer.opacity, layer.visible = 0, True
        # The next one may want the name.
        layer.name = f"{layer.name} (going)"
        if len(self._queue) == 1:
            QTimer.singleShot(_PAUSE_MS, self._remove_next)

    def keep(self, layer: Layer) -> bool:
        """Show a layer again, if it is there still; tells whether it is."""
        for number, (queued, name, opacity) in enumerate(self._queue):
            if queued is layer:
                del self._queue[number]
                layer.name, layer.opacity = name, opacity
                break
        return layer in self._viewer.layers

    def _remove_next(self) -> None:
        # The viewer may be closed by now.
        with suppress(RuntimeError, ValueError):
            if self._queue:
                self._viewer.layers.remove(self._queue.pop(0)[0])
        if self._queue:
            QTimer.singleShot(_PAUSE_MS, self._remove_next)
