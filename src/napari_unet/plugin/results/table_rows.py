"""Rows of napari's table of features: one that is chosen leads to its cell."""

from __future__ import annotations

import numpy as np
from napari.layers import Labels
from napari.viewer import Viewer
from qtpy.QtCore import QAbstractProxyModel, QItemSelectionModel, QModelIndex, QTimer
from qtpy.QtWidgets import QTableView

from napari_unet.core.arrays import Pixels
from napari_unet.plugin.edits.features import INDEX, LABEL
from napari_unet.plugin.viewer.going import go_to
from napari_unet.plugin.viewer.layers import axes_of, rows_and_columns
from napari_unet.plugin.viewer.record import record_of


class TableRows:
    """Moves the view to the cell whose row is chosen, and marks the row of the brush's number.

    napari 0.9 takes the position of a row for the number of its cell: a click on a row would give
    the brush the number of another cell. So the table gets a selection that napari does not follow,
    and the brush keeps its number.

    Parameters
    ----------
    viewer
        Whose view is moved.
    view, rows
        The table, which shows the layer that is active, and its rows, which may be sorted.
    """

    def __init__(self, viewer: Viewer, view: QTableView, rows: QAbstractProxyModel) -> None:
        self._viewer, self.view, self._rows = viewer, view, rows
        self._followed: Labels | None = None
        self._chosen = QItemSelectionModel(rows, view)
        view.setSelectionBehavior(QTableView.SelectionBehavior.SelectRows)
        view.setSelectionModel(self._chosen)
        self._chosen.currentRowChanged.connect(self._go)
        # A second click on the same row leads back to the cell.
        view.clicked.connect(self._go)

    def follow(self, labels: Labels) -> None:
        """Mark the rows of these labels from now on."""
        self.close()
        self._followed = labels
        for event in (labels.events.selected_label, labels.events.features):
            event.connect(self._mark_later)

    def close(self) -> None:
        """Let go of the labels; safe to call twice."""
        labels, self._followed = self._followed, None
        if labels is not None:
            for event in (labels.events.selected_label, labels.events.features):
                event.disconnect(self._mark_later)

    def _go(self, index: QModelIndex, before: object = None) -> None:
        labels = self._shown
        if labels is None or not index.isValid():
            return
        row = self._rows.mapToSource(index).row()
        measured = record_of(labels).measured or {LABEL: np.zeros(0)}
        cell = labels.features[INDEX].iloc[row]
        found = np.flatnonzero(measured[LABEL] == cell)
        if found.size:
            _go_to_cell(self._viewer, labels, {name: c[found[0]] for name, c in measured.items()})

    @property
    def _shown(self) -> Labels | None:
        """The layer whose rows are in the table, if it is the one that is followed."""
        layers = set(self._viewer.layers.selection)
        return self._followed if layers == {self._followed} else None

    def _mark_later(self, event: object) -> None:
        # napari marks another row, before or after this.
        QTimer.singleShot(0, self._mark)

    def _mark(self) -> None:
        labels, table = self._shown, self._rows.sourceModel()
        if labels is None or table is None:
            return
        self._chosen.clearSelection()
        found = np.flatnonzero(labels.features[INDEX] == labels.selected_label)
        if found.size:
            index = self._rows.mapFromSource(table.index(int(found[0]), 0))
            flags = QItemSelectionModel.SelectionFlag
            self._chosen.select(index, flags.Select | flags.Rows)
            self.view.scrollTo(index)


def _go_to_cell(viewer: Viewer, labels: Labels, cell: dict[str, Pixels]) -> None:
    """Show a cell, of which there is a row of what Measure found."""
    height, width = np.abs(np.asarray(labels.scale))[rows_and_columns(labels)]
    # Of one that lies on several planes, the one in the middle.
    index = tuple(
        int(cell[axis] if axis in cell else (cell[f"{axis}_first"] + cell[f"{axis}_last"]) // 2)
        for axis in axes_of(labels).lower()
        if axis in "tz"
    )
    y, x = cell["centroid_y"] / height, cell["centroid_x"] / width
    go_to(viewer, labels, index, float(y), float(x), float(cell["equivalent_diameter"] / height))
