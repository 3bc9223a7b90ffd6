"""Corrections that take one gesture on the canvas, each one step of the layer's undo history.

A tool takes the mouse of a Labels layer until it is ended: by Esc, when another tool of the layer
is chosen, or when another layer becomes active. The layer's own tool is then as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from napari.layers import Image, Labels
from napari.viewer import Viewer
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_unet.core.axes import get_plane, take_channel
from napari_unet.core.boxes import Box, box_of, grown
from napari_unet.core.cells.gestures import (
    Change,
    Mask,
    clear,
    merge,
    place,
    remove,
    split,
)
from napari_unet.core.cells.outlines import Sides, around, propose, resized
from napari_unet.core.checks import in_dock
from napari_unet.plugin.edits.draft_cells import draft_of
from napari_unet.plugin.edits.registry import Corrections
from napari_unet.plugin.edits.sketch import Sketch
from napari_unet.plugin.edits.tracker import DEFAULT_CLASS
from napari_unet.plugin.viewer.layers import (
    Index,
    axes_of,
    image_from_layer,
    pixel_under,
    plane_in_view,
    plane_of,
    plane_shape,
    rows_and_columns,
)
from napari_unet.plugin.viewer.record import record_of

Path = list[tuple[float, float]]
# A drag that is shorter than this, in pixels of the plane, is a click.
_LEAST_PX = 2
_PAN_ZOOM = "pan_zoom"


class Hand:
    """Writes what a gesture means into the plane of a Labels layer that is in view.

    Each method returns a sentence, and raises `ValueError` with one if nothing was done.

    Parameters
    ----------
    viewer
        Tells the plane in view.
    corrections
        Follows the layer.
    labels
        The layer.
    """

    def __init__(self, viewer: Viewer, corrections: Corrections, labels: Labels) -> None:
        self.viewer, self.corrections, self.labels = viewer, corrections, labels
        check_editable(viewer, labels)

    @property
    def index(self) -> Index:
        """The plane in view."""
        return plane_in_view(self.labels, self.viewer.dims.point)

    @property
    def _where(self) -> str:
        """Words of a sentence: a gesture changes one plane of several."""
        return " on this plane" if self.index else ""

    def remove(self, at: tuple[int, int] | None) -> str:
        """Erase the cell at a pixel; None is beside the image."""
        if at is None:
            raise ValueError("the pointer is beside the image; point at a cell")
        plane = plane_of(self.labels, self.index)
        self._write(remove(plane, at))
        return f"Cell {plane[at]} removed{self._where} (Ctrl-Z brings it back)"

    def split(self, path: Path) -> str:
        """Split the cell that a line crosses."""
        plane, new_id = plane_of(self.labels, self.index), self._next_id()
        change = split(plane, path, new_id)
        cell, new = int(plane[change.rows[0], change.columns[0]]), np.unique(change.values)
        self._write(change)
        for part in new.tolist():
            self._name_class(part, record_of(self.labels).classes.get(cell, DEFAULT_CLASS))
        return f"Cell {cell} split; the new cell is {', '.join(map(str, new))}"

    def merge(self, path: Path) -> str:
        """Make one cell of the two at the ends of a path."""
        plane = plane_of(self.labels, self.index)
        start, end = (_pixel(path[n], plane.shape) for n in (0, -1))
        self._write(merge(plane, start, end))
        return f"Cells {plane[start]} and {plane[end]} are one: {plane[start]}"

    def clear(self, path: Path) -> str:
        """Erase the cells in a loop, and mark its inside as background."""
        plane = plane_of(self.labels, self.index)
        change, gone = clear(plane, path)
        self._write(change)
        self.corrections.confirm_empty(self.labels, plane, path, gone)
        cells = "1 cell" if len(gone) == 1 else f"{len(gone) or 'no'} cells"
        return f"{cells} removed; the loop is marked as background"

    def add(self, box: Box, mask: Mask, *, is_right: bool = False) -> str:
        """Add a cell as a draft, or as correct."""
        plane, cell, index = plane_of(self.labels, self.index), self._next_id(), self.index
        change = place(plane, box, mask, cell)
        self._write(change)
        self._name_class(cell, self.corrections.brush_class)
        after = change.applied(plane)
        around_cell = grown(box_of(after == cell), 1, plane.shape)
        record_of(self.labels).add_draft(draft_of(index, after, around_cell, cell))
        if is_right:
            self.corrections.confirm_at(self.labels, (int(change.rows[0]), int(change.columns[0])))
            return f"Cell {cell} added{self._where} and marked as correct"
        return f"Cell {cell} added as a draft: it teaches when you confirm it (C) or touch it up"

    def _write(self, change: Change) -> None:
        """Write into the layer: one step of its history."""
        position, labels = iter(self.index), self.labels
        known = {"C": np.zeros_like(change.rows), "Y": change.rows, "X": change.columns}
        indices = tuple(
            known[axis] if axis in known else np.full_like(change.rows, next(position))
            for axis in axes_of(labels)
        )
        self.corrections.tracker(labels)
        # The tracker gives the chosen id the class of the brush, but not 0.
        chosen, labels.selected_label = labels.selected_label, 0
        try:
            with labels.block_history():
                labels.data_setitem(indices, change.values)
        finally:
            labels.selected_label = chosen

    def _next_id(self) -> int:
        """Return an id that no cell has or had; the brush gets the one after it.

        Raises
        ------
        ValueError
            If the layer's type holds none.
        """
        labels, baseline = self.labels, record_of(self.labels).baseline
        largest = 0 if baseline is None else int(baseline.max(initial=0))
        new_id = max(int(np.max(labels.data)), largest) + 1
        if new_id >= np.iinfo(labels.data.dtype).max:
            raise ValueError(
                f"the labels '{labels.name}' are {labels.data.dtype} and all numbers are used; "
                "convert them to int32 (right-click the layer)"
            )
        labels.selected_label = max(labels.selected_label, new_id + 1)
        return new_id

    def _name_class(self, cell: int, name: str) -> None:
        if name != DEFAULT_CLASS:
            record_of(self.labels).writable_classes()[cell] = name


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
        """Add what is proposed as correct; returns a sentence, empty if nothing is proposed."""
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

    def _wheel(self, layer: Labels, event: Any) -> None:
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

    def _at(self, position: Any) -> tuple[float, float]:
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
        return self._hand.remove(_inside(at, plane_shape(self._labels)))

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


class AddTool(Tool):
    """Each drag is a box around a cell, whose outline is proposed."""

    hint = "Drag a box around a cell; Esc ends it"

    def __init__(
        self,
        hand: Hand,
        said: Callable[[str], None],
        warned: Callable[[str], None],
        ended: Callable[[], None],
        image: Image,
    ) -> None:
        self._image = image
        # The proposal, and by how many pixels the wheel made it larger.
        self._outline: tuple[Box, Mask] | None = None
        self._by_px = 0
        super().__init__(hand, said, warned, ended)

    def _draw(self, path: Path) -> None:
        top, bottom, left, right = _sides(path)
        turn = np.linspace(0, 2 * np.pi, 33)
        ellipse = np.stack(
            [
                (top + bottom + (bottom - top) * np.sin(turn)) / 2,
                (left + right + (right - left) * np.cos(turn)) / 2,
            ],
            axis=1,
        )
        self._sketch.show(ellipse)

    def _dragged(self, path: Path) -> str:
        if self._outline is not None:
            self._accept()
        sides, index = _sides(path), self._hand.index
        box = around(sides, plane_shape(self._labels))
        pixels = self._pixels(index, box)
        y, x = (side.start for side in box)
        part, mask = propose(pixels, (sides[0] - y, sides[1] - y, sides[2] - x, sides[3] - x))
        self._outline = (
            (
                slice(part[0].start + y, part[0].stop + y),
                slice(part[1].start + x, part[1].stop + x),
            ),
            mask,
        )
        self._by_px, self._labels.mouse_zoom = 0, False
        self._show()
        return (
            "Is the outline right? C adds it as correct. The wheel makes it larger or smaller, "
            "a click adds it to be touched up, Esc drops it"
        )

    def _clicked(self, at: tuple[float, float]) -> str:
        return self.hint if self._outline is None else self._add(is_right=False)

    def confirm(self) -> str:
        """Add the outline that is proposed as correct."""
        return "" if self._outline is None else self._add(is_right=True)

    def _add(self, *, is_right: bool) -> str:
        box, mask = self._sized()
        self._drop()
        return self._hand.add(box, mask, is_right=is_right)

    def _accept(self) -> None:
        self._say(lambda: self._clicked((0, 0)))

    def _escape(self) -> None:
        if self._outline is None:
            self.end()
        else:
            self._drop()
            self._said("The outline was dropped; drag another box, or Esc ends it")

    def _drop(self, event: object = None) -> None:
        self._outline, self._labels.mouse_zoom = None, True
        super()._drop()

    def _wheel(self, layer: Labels, event: Any) -> None:
        if self._outline is not None:
            self._by_px += int(np.sign(event.delta[1]))
            self._show()
            event.handled = True

    def _sized(self) -> tuple[Box, Mask]:
        assert self._outline is not None
        return resized(*self._outline, self._by_px, plane_shape(self._labels))

    def _show(self) -> None:
        from skimage.measure import find_contours

        box, mask = self._sized()
        lines = find_contours(np.pad(mask, 1).astype(float), 0.5)
        origin = np.array([side.start for side in box]) - 1
        self._sketch.show(max(lines, key=len) + origin)

    def _pixels(self, index: Index, box: Box) -> NDArray[Any]:
        """Return (C, Y, X), a part of the image as the model saw it."""
        source, channel = image_from_layer(self._image), record_of(self._labels).channel
        data, axes = take_channel(source.data, source.axes, None if channel == "stain" else channel)
        return get_plane(data, axes, index, box)


def check_editable(viewer: Viewer, labels: Labels) -> None:
    """Check that a gesture can be drawn on the plane in view.

    Raises
    ------
    ValueError
        If it cannot.
    """
    if not labels.editable or not isinstance(labels.data, np.ndarray):
        raise ValueError(
            f"the labels '{labels.name}' cannot be changed, as they are no array in memory; "
            "duplicate them or segment the image"
        )
    if not labels.visible:
        raise ValueError(f"the labels '{labels.name}' are hidden; show them first")
    if not shows_plane(viewer, labels):
        raise ValueError("the view shows no plane of rows and columns; switch to 2D, Y and X")


def shows_plane(viewer: Viewer, labels: Labels) -> bool:
    """Whether the view is in 2D and shows rows and columns of a layer."""
    shown = sorted(axis - (viewer.dims.ndim - labels.ndim) for axis in viewer.dims.displayed)
    return viewer.dims.ndisplay == 2 and shown == sorted(rows_and_columns(labels))


def remove_under_pointer(viewer: Viewer, corrections: Corrections, labels: Labels) -> str:
    """Remove the cell under the pointer; returns a sentence.

    Raises
    ------
    ValueError
        If there is none.
    """
    return Hand(viewer, corrections, labels).remove(pixel_under(labels, viewer.cursor.position))


def _sides(path: Path) -> Sides:
    (top, bottom), (left, right) = (sorted(ends) for ends in zip(path[0], path[-1], strict=True))
    return top, bottom, left, right


def _inside(at: tuple[float, float], shape: tuple[int, ...]) -> tuple[int, int] | None:
    y, x = round(at[0]), round(at[1])
    return (y, x) if 0 <= y < shape[0] and 0 <= x < shape[1] else None


def _pixel(at: tuple[float, float], shape: tuple[int, ...]) -> tuple[int, int]:
    found = _inside(at, shape)
    if found is None:
        raise ValueError("the drag leaves the image; drag from one cell into the other")
    return found
