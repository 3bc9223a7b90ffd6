"""What changed since the last result: outlines of the cells that are new, reshaped or gone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import Future

import numpy as np
from napari.layers import Labels
from napari.utils import DirectLabelColormap
from napari.viewer import Viewer
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from napari_unet.core.checks import whole_labels
from napari_unet.plugin.edits.overlay import Overlay
from napari_unet.plugin.viewer.alignment import over_plane
from napari_unet.plugin.viewer.background import Background
from napari_unet.plugin.viewer.layers import Index, plane_in_view, planes_of
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
    background
        Draws the outlines: on large planes that takes longer than the viewer may wait.
    """

    def __init__(self, viewer: Viewer, background: Background) -> None:
        self._viewer, self._background = viewer, background
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
        # A layer may hold another result now.
        self._labels, self._shown = labels, None
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
        self._shown = labels, index
        record, planes = record_of(labels), planes_of(labels)
        gone, since_last = record.gone_outlines.get(index), record.since_last

        def show(drawn: Future[NDArray[np.uint8]]) -> None:
            if self._shown == (labels, index) and labels in self._viewer.layers:
                self._overlay.show(drawn.result(), over_plane(labels, index), labels)

        self._background.run(lambda: _drawn(whole_labels(planes[index]), since_last, gone), show)

    def _remove(self) -> None:
        self._shown = None
        self._overlay.remove()


def _drawn(
    labels: NDArray[np.int32], since_last: Mapping[int, str], gone: NDArray[np.int64] | None
) -> NDArray[np.uint8]:
    """Return the colour of each pixel of a plane (Y, X), 0 where nothing changed."""
    pixels = np.zeros(labels.shape, np.uint8)
    if gone is not None:
        y, x = np.divmod(gone, labels.shape[1])
        dots = (y // _DOT_PX + x // _DOT_PX) % 2 == 0
        pixels.flat[gone[dots]] = GONE
    for value, word in ((RESHAPED, "reshaped"), (NEW, "new")):
        cells = [cell for cell, what in since_last.items() if what == word]
        pixels.flat[_outlines(labels, cells)] = value
    return pixels


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
    # Most planes have few of these cells, and comparing all pixels would take long.
    flat = labels.ravel()
    at = np.flatnonzero(np.isin(flat, list(cells)))
    y, x = np.divmod(at, labels.shape[1])
    own, is_edge = flat[at], np.zeros(at.shape, bool)
    for step in range(-_WIDTH_PX, _WIDTH_PX + 1):
        # Beyond the edge of the image there is nothing.
        for places, length, stride in (
            (y, labels.shape[0], labels.shape[1]),
            (x, labels.shape[1], 1),
        ):
            there = places + step
            is_out = (there < 0) | (there >= length)
            is_edge |= is_out | (flat[np.where(is_out, at, at + step * stride)] != own)
    edge: NDArray[np.int64] = at[is_edge]
    return edge
