"""The viewer's canvas: its size, and how layers leave it."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial

from napari.components import Camera
from napari.layers import Layer
from napari.utils.events import Event
from napari.viewer import Viewer
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QApplication

# A layer is removed when the user has moved nothing for this long, in ms; enough to draw once, too.
_PAUSE_MS = 250
# Between two removals there is this time at least, in seconds, so that the viewer can draw.
_BETWEEN_S = 0.1
_last_removal_s = -_BETWEEN_S
# For how many things that are being shown the layers that are to leave wait.
_n_held = 0
# The part of the canvas that a layer takes when the whole of it is shown.
_MARGIN = 0.95


def canvas_size(viewer: Viewer) -> tuple[int, int]:
    """Height and width of the canvas, in pixels of the screen."""
    canvas = getattr(viewer, "canvas", None)
    height, width = canvas.size if canvas is not None else viewer._canvas_size
    return int(height), int(width)


def camera_of(viewer: Viewer) -> Camera:
    """The camera, which napari 0.9 moved."""
    camera: Camera = getattr(viewer, "scene", viewer).camera
    return camera


def fit(viewer: Viewer, layer: Layer) -> None:
    """Show the whole of a layer, whatever else is in the viewer."""
    camera, extent = camera_of(viewer), layer.extent.world
    low, high = (end[-2:] for end in extent)
    camera.center = (*tuple(camera.center)[:-2], *((low + high) / 2).tolist())
    sizes = zip(canvas_size(viewer), (high - low).tolist(), strict=True)
    camera.zoom = _MARGIN * min(length / max(size, 1e-9) for length, size in sizes)


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
    """Hide a layer, and remove it when the user rests; no matter if it is gone by then.

    napari 0.9 collects garbage for each removal, which takes a third of a second. So layers leave
    one after the other.
    """
    if layer in viewer.layers:
        # The next one may want the name.
        layer.name, layer.visible = f"{layer.name} (going)", False
        _wait(viewer, layer)


def hold_layers(*, held: bool) -> None:
    """Let the layers that are to leave wait while others come; call it once more when they came."""
    global _n_held
    _n_held += 1 if held else -1


def _wait(viewer: Viewer, layer: Layer) -> None:
    QTimer.singleShot(_PAUSE_MS, partial(_remove, viewer, layer, _at_hand(viewer)))


def _at_hand(viewer: Viewer) -> tuple[object, ...]:
    """What the user moves: pointer, camera, sliders."""
    camera = camera_of(viewer)
    return (
        tuple(viewer.cursor.position),
        tuple(camera.center),
        camera.zoom,
        tuple(viewer.dims.current_step),
    )


def _remove(viewer: Viewer, layer: Layer, before: tuple[object, ...]) -> None:
    global _last_removal_s
    is_pressed = QApplication.mouseButtons() != Qt.MouseButton.NoButton
    is_too_soon = _n_held > 0 or time.monotonic() < _last_removal_s + _BETWEEN_S
    # Somebody else may have, or the viewer be closed.
    with suppress(RuntimeError, ValueError):
        if is_pressed or is_too_soon or _at_hand(viewer) != before:
            _wait(viewer, layer)
        else:
            viewer.layers.remove(layer)
            _last_removal_s = time.monotonic()
