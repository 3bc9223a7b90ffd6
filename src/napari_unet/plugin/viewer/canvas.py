"""The viewer's canvas: its size, and how layers leave it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

from napari.components import Camera
from napari.layers import Layer
from napari.utils.events import Event
from napari.viewer import Viewer
from qtpy.QtCore import QTimer

# Long enough for the viewer to draw.
_PAUSE_MS = 120


def canvas_size(viewer: Viewer) -> tuple[int, int]:
    """Height and width of the canvas, in pixels of the screen."""
    canvas = getattr(viewer, "canvas", None)
    height, width = canvas.size if canvas is not None else viewer._canvas_size
    return int(height), int(width)


def camera_of(viewer: Viewer) -> Camera:
    """The camera, which napari 0.9 moved."""
    camera: Camera = getattr(viewer, "scene", viewer).camera
    return camera


def make_current(event: Event | None = None) -> None:
    """Have OpenGL work on the canvas; to be called before a layer is removed.

    napari 0.9 with vispy 0.17 frees what a removed layer had on the graphics card in whichever
    context is current. Often that is Qt's own, and the program ends with a segmentation fault when
    the canvas is next drawn in another size.
    """
    from vispy.gloo import get_current_canvas

    canvas = get_current_canvas()
    # Without a window there is none; it may be closing.
    with suppress(RuntimeError):
        if canvas is not None:
            canvas.set_current()


def remove_soon(viewer: Viewer, layer: Layer) -> None:
    """Hide a layer, and remove it when what comes in its place is drawn; no matter if it is gone.

    napari 0.9 collects garbage for each removal, which takes a third of a second.
    """
    if layer in viewer.layers:
        # The next one may want the name.
        layer.name, layer.visible = f"{layer.name} (going)", False
        QTimer.singleShot(_PAUSE_MS, partial(_remove, viewer, layer))


def _remove(viewer: Viewer, layer: Layer) -> None:
    # Somebody else may have, or the viewer be closed.
    with suppress(RuntimeError, ValueError):
        viewer.layers.remove(layer)
