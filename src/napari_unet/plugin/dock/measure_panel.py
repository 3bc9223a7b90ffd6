"""The row of the dock for what comes of labels: a table of the cells, and many files at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from napari.layers import Image, Labels
from qtpy.QtCore import QAbstractProxyModel, Qt, QTimer, Signal
from qtpy.QtWidgets import (
    QDockWidget,
    QFileDialog,
    QMainWindow,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_unet.config import PredictConfig
from napari_unet.core.checks import in_dock, mask_words, whole_labels
from napari_unet.jobs import Job
from napari_unet.plugin.dock.export_menu import Exporting
from napari_unet.plugin.dock.files_dialog import FilesDialog
from napari_unet.plugin.dock.widgets import button, row
from napari_unet.plugin.edits.features import Columns, show_features, with_classes
from napari_unet.plugin.jobs.controller import Controller
from napari_unet.plugin.results.exporting import beside
from napari_unet.plugin.results.table_rows import TableRows
from napari_unet.plugin.viewer.layers import axes_of, check_fits, finest, image_from_layer
from napari_unet.plugin.viewer.record import record_of
from napari_unet.segmentation.measurements import measure, write_table
from napari_unet.service.files import FileDone, summary

# Numbers that a mask holds at most.
_FEW = 3
# Height of the table over that of the window.
_TABLE = 0.33
# Failures that fit into the dock.
_MOST_LINES = 6


@dataclass(frozen=True)
class Measured:
    """What was measured, and sentences on what was odd."""

    columns: Columns
    warnings: tuple[str, ...]


def cells_words(columns: Columns) -> str:
    """Return how many cells a table has, such as "1 cell"."""
    n = len(columns["label"])
    return f"{n} cell{'' if n == 1 else 's'}"


class MeasureRow(QWidget):
    """Buttons to measure the cells, to export them, to show tracks, and to segment files.

    Parameters
    ----------
    controller
        Runs the work.
    image, labels
        Tell what is chosen, or raise `ValueError` with a sentence for the user.
    model
        Tells the model, and how to segment with it; raises likewise.
    """

    warned = Signal(str)
    # A folder that is to be opened, and the folder of its labels from there.
    queued = Signal(object, str, object)

    def __init__(
        self,
        controller: Controller,
        image: Callable[[], Image],
        labels: Callable[[], Labels],
        model: Callable[[], tuple[str, PredictConfig]],
    ) -> None:
        super().__init__()
        self._controller, self._image, self._labels = controller, image, labels
        self._model = model
        self.dialog: FilesDialog | None = None
        self._rows: TableRows | None = None
        self.measure = button(
            "Measure",
            "Size, place, brightness and shape of each cell, as a table",
            lambda: self._try(self._measure),
        )
        self.exporting = Exporting(controller, image, labels, self._ask_where, self)
        self.exporting.warned.connect(self.warned)
        self.files = button(
            "Folder of images…",
            "Open the images of a folder one by one, correct a few, and have the rest segmented; "
            "or segment many without opening them",
            lambda: self._try(self._ask_files),
        )
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(row(self.measure, self.exporting.button, self.files))
        layout.addWidget(self.exporting.tracks_button)

    def close_down(self) -> None:
        """Let go of the table; safe to call twice."""
        if self._rows is not None:
            self._rows.close()

    def save_table(self, path: Path) -> None:
        """Measure the chosen labels, and write the table.

        Raises
        ------
        ValueError
            If something runs still, or the labels do not belong to the image.
        """
        image, labels = self._image(), self._labels()
        measuring, unit = self._measuring(image, labels)
        classes = dict(record_of(labels).classes)

        def work(job: Job[Measured]) -> Measured:
            found = measuring(job)
            write_table(path, with_classes(found.columns, classes, unit))
            return found

        def show(found: Measured) -> tuple[str, bool]:
            self._controller.detailed.emit(str(path))
            written = f"{cells_words(found.columns)} written to {path.name}"
            return "; ".join([written, *found.warnings]), True

        self._run("Exporting", work, show)

    def _measure(self) -> None:
        image, labels = self._image(), self._labels()
        work, unit = self._measuring(image, labels)

        def show(found: Measured) -> tuple[str, bool]:
            record = record_of(labels)
            record.measured = found.columns
            record.unit = unit
            show_features(labels)
            self._open_table(labels)
            return "; ".join([f"{cells_words(found.columns)} measured", *found.warnings]), True

        self._run("Measuring", work, show)

    def _measuring(
        self, image: Image, labels: Labels
    ) -> tuple[Callable[[Job[Measured]], Measured], str]:
        """Return what measures the cells, in a job, and the unit of lengths; "" if unknown."""
        check_fits(labels, image)
        source = image_from_layer(image)
        # Read plane by plane in the job, each copied: painting may go on. Where the channels are
        # not the first axis of the image, its labels have one of length 1 for them.
        axes = axes_of(labels)
        kept = [n for n, axis in enumerate(axes) if axis != "C"]
        data = finest(labels)[tuple(0 if axis == "C" else slice(None) for axis in axes)]
        scale = tuple(labels.scale[n] for n in kept)
        units = {str(unit) for unit in labels.units[-2:]}

        def work(job: Job[Measured]) -> Measured:
            warnings: list[str] = []
            told = job.check, warnings.append, job.report
            found = measure(data, source.data, source.axes, scale, *told)
            # Who paints two cells with one brush has made them what they are.
            if record_of(labels).baseline is None and len(found["label"]) <= _FEW:
                letters = "".join(axes[n] for n in kept)
                mask = mask_words(whole_labels(np.asarray(data)), letters)
                if mask:
                    warnings.append(
                        f"the labels hold {mask}: a mask, and each value was measured as one "
                        "cell; give one number to each cell"
                    )
            return Measured(found, tuple(warnings))

        return work, units.pop() if len(units) == 1 else ""

    def _run(
        self,
        what: str,
        work: Callable[[Job[Measured]], Measured],
        show: Callable[[Measured], tuple[str, bool]],
    ) -> None:
        service = self._controller.service
        self._controller.follower.run(what, lambda: service.submit("measure", work), show)

    def _open_table(self, labels: Labels) -> None:
        """Open napari's table of features, once, for these labels."""
        viewer, window = self._controller.viewer, self.window()
        viewer.layers.selection.active = labels
        if not isinstance(window, QMainWindow):
            return
        known = set(window.findChildren(QDockWidget))
        _, table = viewer.window.add_plugin_dock_widget("napari", "Features table widget")
        # Below the image: at the right it would take the place of this dock, and below napari's
        # docks there is room for one row on a small screen.
        area, corner = Qt.DockWidgetArea, Qt.Corner
        window.setCorner(corner.BottomRightCorner, area.RightDockWidgetArea)
        window.setCorner(corner.BottomLeftCorner, area.LeftDockWidgetArea)
        new = list(set(window.findChildren(QDockWidget)) - known)
        for dock in new:
            window.addDockWidget(area.BottomDockWidgetArea, dock)
        height = round(_TABLE * window.height())
        # Later: Qt lays the docks out first.
        vertical = Qt.Orientation.Vertical
        QTimer.singleShot(0, lambda: window.resizeDocks(new, [height] * len(new), vertical))
        self._follow_rows(table, labels)

    def _follow_rows(self, table: QWidget, labels: Labels) -> None:
        """Have the rows of napari's table lead to the cells of these labels."""
        view = table.findChild(QTableView)
        rows = None if view is None else view.model()
        if not isinstance(rows, QAbstractProxyModel):
            return
        if self._rows is None or self._rows.view != view:
            self.close_down()
            self._rows = TableRows(self._controller.viewer, view, rows)
        self._rows.follow(labels)

    def _ask_where(self) -> None:
        name = beside(self._image(), self._labels(), ".csv")
        path, _ = QFileDialog.getSaveFileName(self, "Save table", name, "Table (*.csv)")
        if path:
            chosen = Path(path)
            self.save_table(chosen if chosen.suffix else chosen.with_suffix(".csv"))

    def _ask_files(self) -> None:
        model, config = self._model()
        self.dialog = FilesDialog(self)
        self.dialog.setModal(True)
        self.dialog.queued.connect(self.queued)
        self.dialog.accepted.connect(lambda: self._try(lambda: self._segment(model, config)))
        self.dialog.show()

    def _segment(self, model: str, config: PredictConfig) -> None:
        if self.dialog is None:
            return
        files, folder = self.dialog.plan(), self.dialog.folder

        def show(done: tuple[FileDone, ...]) -> tuple[str, bool]:
            told, well = summary(done), [outcome for outcome in done if not outcome.error]
            n = sum(outcome.n_cells for outcome in well)
            found = f"{n} cells in {len(well)} of {len(done)} images, in {folder}"
            notes = dict.fromkeys(note for outcome in well for note in outcome.notes)
            lines = [*told.splitlines(), *notes]
            if len(lines) > _MOST_LINES:
                lines = [*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} more"]
            return "\n".join([found, *lines]), not told

        service = self._controller.service
        self._controller.follower.run(
            "Segmenting files", lambda: service.segment_files(files, model, config), show
        )

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (ValueError, OSError) as error:
            self.warned.emit(in_dock(error))
