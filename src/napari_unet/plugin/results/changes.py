"""What changed since the last result: outlines of the cells that are new, reshaped or gone."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
from napari.layers import Labels
from napari.utils import DirectLabelColormap
from napari.viewer import Viewer
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_unet.plugin.edits.overlay import Overlay
from napari_unet.plugin.viewer.alignment import over_plane
from napari_unet.plugin.viewer.layers import Index, plane_in_view, plane_of, plane_shape
from napari_unet.plugin.viewer.record import record_of

NEW, RESHAPED, GONE = 1, 2, 3
# Colours of Okabe and Ito, which people with any colour vision tell apart; what is gone is dotted
# as well.
_COLOURS = {
    None: (0, 0, 0, 0),
    NEW: (0.34, 0.71, 0.91, 1),
    RESHAPED: (0.9, 0.62, 0, 1),
    GONE: (0.84, 0.37, 0, 1),
}
LEGEND = (
    "Since the last result: new cells are light blue, reshaped ones orange, cells that are gone "
    "dotted red"
)
# Width of an outline, in pixels.
_WIDTH_PX = 2
# Dots of what is gone are about so many pixels long, and as far apart.
_DOT_PX = 3


class Changes:
    """Shows what changed, over the plane in view; off at first.

    Parameters
    ----------
    viewer
        Where it is shown.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._overlay = Overlay(
            viewer,
            "changes (U-Net)",
            opacity=1,
            colormap=DirectLabelColormap(color_dict=_COLOURS),
        )
        self._labels: Labels | None = None
        self._shown: tuple[Labels, Index] | None = None
        self.is_on = False
        viewer.dims.events.current_step.connect(self._refresh)

    def close(self) -> None:
        """Let go of the viewer."""
        self._viewer.dims.events.current_step.disconnect(self._refresh)
        self.enable(on=False)

    def enable(self, *, on: bool) -> None:
        """Show what changed from now on, or not."""
        self.is_on = on
        self._refresh()

    def show(self, labels: Labels | None) -> None:
        """Show what changed in these labels, from now on."""
        self._labels = labels
        # Later: napari may be changing its list of layers now.
        QTimer.singleShot(0, self._refresh)

    def why_not(self, labels: Labels | None) -> str:
        """Return why there is nothing to show; empty if there is something."""
        if labels is None:
            return "Click Segment first"
        record = record_of(labels)
        if record.since_last or record.gone_outlines:
            return ""
        if record.source is None:
            return "These labels are not from Segment"
        return "Nothing changed since the last result, or there was none"

    def _refresh(self, *_: object) -> None:
        labels = self._labels
        if not self.is_on or labels is None or labels not in self._viewer.layers:
            self._remove()
            return
        index = plane_in_view(labels, self._viewer.dims.point)
        if self._shown == (labels, index):
            return
        if self.why_not(labels):
            self._remove()
            return
        record = record_of(labels)
        pixels = np.zeros(plane_shape(labels), np.uint8)
        gone = record.gone_outlines.get(index)
        if gone is not None:
            y, x = np.divmod(gone, pixels.shape[1])
            dots = (y // _DOT_PX + x // _DOT_PX) % 2 == 0
            pixels.flat[gone[dots]] = GONE
        here = plane_of(labels, index)
        for value, word in ((RESHAPED, "reshaped"), (NEW, "new")):
            cells = [cell for cell, what in record.since_last.items() if what == word]
            pixels.flat[_outlines(here, cells)] = value
        self._overlay.show(pixels, over_plane(labels, index), None)
        self._shown = labels, index

    def _remove(self) -> None:
        self._shown = None
        self._overlay.remove()


def gone_outlines(
    planes: Iterable[tuple[Index, NDArray[np.int32]]], gone: Collection[int]
) -> dict[Index, NDArray[np.int64]]:
    """Return the pixels of the outlines of cells that are gone, for each plane with one.

    Parameters
    ----------
    planes
        Position and labels (Y, X) of each plane, before.
    gone
        Ids of the cells.

    Returns
    -------
    Positions in the plane, counted row by row.
    """
    found = {index: _outlines(labels, gone) for index, labels in planes} if gone else {}
    return {index: pixels for index, pixels in found.items() if pixels.size}


def _outlines(labels: NDArray[np.int32], cells: Collection[int]) -> NDArray[np.int64]:
    """Return the pixels of cells that are within `_WIDTH_PX` of other cells or the background."""
    chosen = np.where(np.isin(labels, list(cells)), labels, 0)
    rows, columns = (np.flatnonzero(chosen.any(axis=axis)) for axis in (1, 0))
    if not rows.size:
        return np.empty(0, np.int64)
    # Beyond the edge of the image there is nothing.
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    inside = np.pad(chosen[box], _WIDTH_PX)
    edge = np.zeros_like(inside, bool)
    for axis in (0, 1):
        for step in range(1, _WIDTH_PX + 1):
            for way in (-step, step):
                edge |= np.roll(inside, way, axis) != inside
    edge &= inside > 0
    y, x = np.nonzero(edge)
    y, x = y - _WIDTH_PX + rows[0], x - _WIDTH_PX + columns[0]
    positions: NDArray[np.int64] = y * labels.shape[1] + x
    return positions
