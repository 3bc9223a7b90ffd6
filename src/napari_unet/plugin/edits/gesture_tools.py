"""Tools that take the mouse of a Labels layer for one kind of gesture.

A tool is on until it is ended: by Esc, when another tool of the layer is chosen, or when another
layer becomes active. The layer's own tool is then as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QTimer

from napari_unet.core.checks import in_dock
from napari_unet.plugin.edits.gestures import Hand, Path, inside_plane, shows_plane
from napari_unet.plugin.edits.sketch import Sketch
from napari_unet.plugin.viewer.layers import plane_shape, rows_and_columns

# A drag that is shorter than this, in pixels of the plane, is a click.
_LEAST_PX = 2
_PAN_ZOOM = "pan_zoom"


class Tool:
    """Takes the mouse of a Labels layer for one kind of gesture, until it is ended.

    Parameters
    ----------
    hand
        Writes into the layer.
    said, warned
        Get sentences for the user.
    ended
        Called when it ended.
    """

    # What to do, in a sentence.
    hint = ""

    def __init__(
        self,
        hand: Hand,
        said: Callable[[str], None],
        warned: Callable[[str], None],
        ended: Callable[[], None],
    ) -> None:
        self._hand, self._said, self._warned, self._ended = hand, said, warned, ended
        viewer, labels = hand.viewer, hand.labels
        self._viewer, self._labels = viewer, labels
        self._sketch = Sketch(viewer, labels)
        self.is_on = True
        viewer.layers.selection.active = labels
        self._mode = str(labels.mode)
        labels.mode, labels.mouse_pan, labels.cursor = _PAN_ZOOM, False, "cross"
        labels.mouse_drag_callbacks.append(self._drag)
        labels.mouse_wheel_callbacks.append(self._wheel)
        labels.bind_key("Escape", lambda layer: self._later(self._escape), overwrite=True)
        labels.bind_key("Enter", lambda layer: self._later(self._accept), overwrite=True)
        self._events = (
            (labels.events.mode, self._on_change),
            (viewer.layers.selection.events.active, self._on_change),
            (viewer.dims.events.ndisplay, self._on_change),
            (viewer.dims.events.order, self._on_change),
            (viewer.dims.events.current_step, self._drop),
        )
        for event, slot in self._events:
            event.connect(slot)

    def end(self) -> None:
        """Give the mouse back, with the tool that the layer had; safe to call twice."""
        if not self.is_on:
            return
        self.is_on = False
        for event, slot in self._events:
            event.disconnect(slot)
        labels = self._labels
        labels.mouse_drag_callbacks.remove(self._drag)
        labels.mouse_wheel_callbacks.remove(self._wheel)
        for key in ("Escape", "Enter"):
            labels.bind_key(key, None)
        self._drop()
        self._sketch.remove()
        if str(labels.mode) == _PAN_ZOOM:
            labels.mouse_pan, labels.cursor, labels.mode = True, "standard", self._mode
        self._ended()

    def confirm(self) -> str:
        """Mark what was just added as correct; returns a sentence, empty if there is nothing."""
        return ""

    # What a kind of gesture does

    def _draw(self, path: Path) -> None:
        """Show what is being dragged."""
        self._sketch.show(path)

    def _dragged(self, path: Path) -> str:
        """Do what a drag means."""
        raise NotImplementedError

    def _clicked(self, at: tuple[float, float]) -> str:
        """Do what a click means."""
        return self.hint

    def _accept(self) -> None:
        """Enter was pressed."""

    def _escape(self) -> None:
        """Esc was pressed."""
        self.end()

    def _drop(self, event: object = None) -> None:
        """Forget what was not accepted."""
        self._sketch.clear()

    def _wheel(self, layer: Labels, event: object) -> None:
        """The wheel was turned."""

    # What the viewer tells

    def _drag(self, layer: Labels, event: Any) -> Iterator[None]:
        if event.button != 1:
            return
        path = [self._at(event.position)]
        yield
        while event.type == "mouse_move":
            path.append(self._at(event.position))
            self._draw(path)
            yield
        reach = np.ptp(np.array(path), axis=0).max()
        if reach < _LEAST_PX:
            self._say(lambda: self._clicked(path[-1]))
        else:
            self._sketch.clear()
            self._say(lambda: self._dragged(path))

    def _say(self, action: Callable[[], str]) -> None:
        try:
            self._said(action())
        except (ValueError, OSError) as error:
            self._warned(in_dock(error))

    def _at(self, position: object) -> tuple[float, float]:
        at = self._labels.world_to_data(np.asarray(position)[-self._labels.ndim :])
        y, x = np.asarray(at)[rows_and_columns(self._labels)]
        return float(y), float(x)

    def _on_change(self, event: object) -> None:
        # Later: other layers are active for a moment while they are added.
        self._later(self._end_if_left)

    def _end_if_left(self) -> None:
        active = self._viewer.layers.selection.active
        taken = active == self._labels and str(self._labels.mode) == _PAN_ZOOM
        if not (taken and shows_plane(self._viewer, self._labels)):
            self.end()

    def _later(self, action: Callable[[], None]) -> None:
        """Do something when the viewer is done with the event, unless the tool ended."""
        QTimer.singleShot(0, lambda: action() if self.is_on else None)


class RemoveTool(Tool):
    """Each click removes a cell."""

    hint = "Click on cells to remove them; Esc ends it"

    def _draw(self, path: Path) -> None:
        pass

    def _clicked(self, at: tuple[float, float]) -> str:
        return self._hand.remove(inside_plane(at, plane_shape(self._labels)))

    def _dragged(self, path: Path) -> str:
        return self.hint


class SplitTool(Tool):
    """Each drag splits a cell."""

    hint = "Draw a line across a cell to split it; Esc ends it"

    def _dragged(self, path: Path) -> str:
        return self._hand.split(path)


class MergeTool(Tool):
    """Each drag joins two cells."""

    hint = "Drag from one cell into the other to make them one; Esc ends it"

    def _dragged(self, path: Path) -> str:
        return self._hand.merge(path)


class ClearTool(Tool):
    """Each drag is a loop that holds no cells."""

    hint = "Draw a loop around a place without cells; Esc ends it"

    def _draw(self, path: Path) -> None:
        self._sketch.show(path, closed=True)

    def _dragged(self, path: Path) -> str:
        return self._hand.clear(path)
