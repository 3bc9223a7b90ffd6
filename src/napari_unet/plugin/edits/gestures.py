"""Corrections that take one gesture on the canvas, each one step of the layer's undo history.

`Hand` writes what a gesture means; the tools that take the mouse for it are in `gesture_tools` and
`add_tool`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from napari.layers import Labels
from napari.viewer import Viewer
from numpy.typing import NDArray

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
from napari_unet.plugin.edits.draft_cells import draft_of, pending
from napari_unet.plugin.edits.registry import Corrections
from napari_unet.plugin.edits.tracker import DEFAULT_CLASS
from napari_unet.plugin.viewer.layers import (
    Index,
    axes_of,
    pixel_under,
    plane_in_view,
    plane_of,
    rows_and_columns,
)
from napari_unet.plugin.viewer.record import DraftCell, record_of

Path = list[tuple[float, float]]
# Words name so many cells at most; of more, they tell the number.
_MOST_NAMED = 3


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

    def add(self, box: Box, mask: Mask) -> tuple[DraftCell, str]:
        """Add a cell as a draft; returns what is remembered of it, and a sentence."""
        plane, cell, index = plane_of(self.labels, self.index), self._next_id(), self.index
        change = place(plane, box, mask, cell)
        instead = _instead(plane, change)
        self._write(change)
        self._name_class(cell, self.corrections.brush_class)
        after = change.applied(plane)
        around_cell = grown(box_of(after == cell), 1, plane.shape)
        draft = draft_of(index, after, around_cell, cell)
        record_of(self.labels).add_draft(draft)
        return draft, (
            f"Cell {cell} added{instead} as a draft: it teaches when you confirm it (C) or touch "
            "it up"
        )

    def foresee(self, box: Box, mask: Mask) -> str:
        """Tell which cells an added one would replace, in a sentence; empty if there are none."""
        plane = plane_of(self.labels, self.index)
        instead = _instead(plane, place(plane, box, mask, 1))
        return f"The outline goes{instead}. " if instead else ""

    def confirm(self, drafts: Sequence[DraftCell]) -> str:
        """Mark drafts on this plane as correct, but what was undone or touched up since.

        Returns
        -------
        A sentence; empty if nothing is left of them here.
        """
        plane = plane_of(self.labels, self.index)
        here = pending(drafts, record_of(self.labels).marks, self.index, plane)
        cells, firsts = (found.tolist() for found in np.unique(here, return_index=True))
        for cell, first in zip(cells, firsts, strict=True):
            if cell:
                self.corrections.confirm_at(self.labels, divmod(first, plane.shape[1]))
        named = _named([cell for cell in cells if cell])
        return f"{named} added{self._where} and marked as correct" if named else ""

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


def _instead(plane: NDArray[np.int32], change: Change) -> str:
    """Tell which cells of a plane (Y, X) a change erases or cuts; empty if there are none."""
    under = plane[change.rows, change.columns]
    lost, counts = np.unique(under[under > 0], return_counts=True)
    is_whole = [n == np.count_nonzero(plane == cell) for cell, n in zip(lost, counts, strict=True)]
    gone, cut = lost[is_whole].tolist(), lost[np.logical_not(is_whole)].tolist()
    words = (("in place of", gone), ("cut out of", cut))
    return "".join(f" {how} {_named(cells).lower()}" for how, cells in words if cells)


def _named(cells: Sequence[int]) -> str:
    """Return "Cell 7", "Cells 7, 8" or "12 cells"; empty if there are none."""
    if len(cells) > _MOST_NAMED:
        return f"{len(cells)} cells"
    return f"Cell{'s' * (len(cells) > 1)} {', '.join(map(str, cells))}" if cells else ""


def inside_plane(at: tuple[float, float], shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return the pixel of a plane (Y, X) at a point; None beside it."""
    y, x = round(at[0]), round(at[1])
    return (y, x) if 0 <= y < shape[0] and 0 <= x < shape[1] else None


def _pixel(at: tuple[float, float], shape: tuple[int, ...]) -> tuple[int, int]:
    found = inside_plane(at, shape)
    if found is None:
        raise ValueError("the drag leaves the image; drag from one cell into the other")
    return found
