"""What goes out of the dock and comes in: labels as files of other programs, and tracks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from napari.layers import Image, Labels, Tracks
from numpy.typing import NDArray
from qtpy.QtCore import QObject, Signal
from qtpy.QtGui import QAction
from qtpy.QtWidgets import QFileDialog, QMenu, QPushButton, QSizePolicy, QWidget

from napari_unet.core.checks import in_dock
from napari_unet.io.exports.formats import INSIDE
from napari_unet.io.exports.tracks import track_points
from napari_unet.io.image_source import ImageSource
from napari_unet.jobs import Job
from napari_unet.plugin.dock.widgets import button
from napari_unet.plugin.jobs.controller import Controller
from napari_unet.plugin.results.exporting import (
    EXPORT_FORMATS,
    ExportFormat,
    beside,
    copied,
    labelled,
    read_over,
)
from napari_unet.plugin.results.tracks import show_tracks, tracks_layer
from napari_unet.plugin.viewer.alignment import labels_like
from napari_unet.plugin.viewer.colours import outline
from napari_unet.plugin.viewer.layers import axes_of, bare, check_fits, image_from_layer
from napari_unet.service.exports import export

_TABLE_TIP = "Measure the cells as they are now, and save the table"
_TIP = "Save the cells for another program, or their table"
_LABEL_FILES = "Labels (*.tif *.tiff *.png *.zip *.roi *.geojson *.npy);;All files (*)"


class Exporting(QObject):
    """The Export menu, and the buttons that import labels and show tracks.

    Parameters
    ----------
    controller
        Runs the work.
    image, labels
        Tell what is chosen, or raise `ValueError` with a sentence for the user.
    save_table
        Asks where to save the table of the cells, and does.
    parent
        Of dialogs.

    Attributes
    ----------
    button
        Opens the menu; `actions_by_name` are its entries.
    import_button, tracks_button
        The others.
    """

    warned = Signal(str)
    # The same, of what is imported.
    import_failed = Signal(str)

    def __init__(
        self,
        controller: Controller,
        image: Callable[[], Image],
        labels: Callable[[], Labels],
        save_table: Callable[[], None],
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self._controller, self._image, self._labels = controller, image, labels
        self._window = parent
        self.button = QPushButton("Export")
        self.button.setToolTip(_TIP)
        self.menu = QMenu(self.button)
        self.menu.setToolTipsVisible(True)
        self.actions_by_name: dict[str, QAction] = {}
        self._add("table", "Table of the cells (.csv)…", _TABLE_TIP, save_table)
        for format in EXPORT_FORMATS:
            ending = f" ({format.ending or 'folder'})"
            slot = partial(self._ask_where, format)
            self._add(format.name, f"{format.title}{ending}…", format.tip, slot)
        self.menu.aboutToShow.connect(self.look)
        self.button.setMenu(self.menu)
        self.import_button = button(
            "Import…",
            "Open labels of another program over the image (Cellpose, ImageJ ROIs, QuPath, a label "
            "image): all their cells are examples to learn from",
            lambda: self._try(self._ask_labels, self.import_failed.emit),
        )
        # As high as the box beside it.
        policy = QSizePolicy.Policy
        self.import_button.setSizePolicy(policy.Minimum, policy.Ignored)
        self.tracks_button = button(
            "Show tracks",
            "Add a layer with the path of each cell through the movie, and its divisions",
            lambda: self._try(self._show_tracks),
        )

    def look(self) -> None:
        """Grey out the formats that cannot hold the labels that are chosen, with the reason."""
        try:
            labels = self._labels()
            # Labels from elsewhere get their axes here.
            check_fits(labels, self._image())
        except ValueError:
            return
        axes = axes_of(labels)
        for format in EXPORT_FORMATS:
            action, why_not = self.actions_by_name[format.name], format.why_not(axes)
            action.setEnabled(not why_not)
            action.setToolTip(why_not or format.tip)

    def write(self, path: Path, format: ExportFormat, *, overwrite: bool = False) -> None:
        """Write the chosen labels in a format, in a job.

        Raises
        ------
        ValueError
            If something runs, or the labels do not belong to the image.
        """
        labels = self._labels()
        content, name = labelled(labels, self._image()), labels.name

        def work(job: Job[Path]) -> Path:
            copy = copied(content, lambda share: job.report(share, "exporting"))
            export(path, copy, format.name, overwrite=overwrite)
            return path

        def show(path: Path) -> tuple[str, bool]:
            self._controller.detailed.emit(str(path))
            return f"'{name}' was exported to {path.name}", True

        service = self._controller.service
        self._controller.follower.run("Exporting", lambda: service.submit("export", work), show)

    def open_labels(self, path: Path) -> None:
        """Lay the labels of a file over the chosen image, in a job.

        Raises
        ------
        ValueError
            If something runs, or the axes of the image are unclear.
        """
        image = self._image()
        source = image_from_layer(image)
        about = ImageSource(source.data, source.axes, is_colour=image.rgb)

        def show(pixels: NDArray[np.int32]) -> tuple[str, bool]:
            layer = labels_like(image, pixels, path.name.split(".")[0], {})
            outline(layer, self._controller.outlines.width_px(pixels.shape))
            before = self._controller.results.current(image)
            if before is not None:
                # Two layers of cells over each other cannot be told apart.
                before.visible = False
            self._controller.viewer.add_layer(layer)
            n = len(np.unique(pixels[pixels > 0]))
            self._controller.detailed.emit(str(path))
            return f"{n} cell{'' if n == 1 else 's'} imported from {path.name}", True

        service = self._controller.service
        self._controller.follower.run(
            "Importing", lambda: service.submit("import", lambda job: read_over(path, about)), show
        )

    def _add(self, name: str, text: str, tip: str, slot: Callable[[], None]) -> None:
        action = QAction(text, self.menu)
        action.setToolTip(tip)
        action.triggered.connect(lambda checked=False: self._try(slot))
        self.menu.addAction(action)
        self.actions_by_name[name] = action

    def _ask_where(self, format: ExportFormat) -> None:
        if format.ending:
            name = beside(self._image(), self._labels(), format.ending)
            kinds = f"{format.title} (*{format.ending})"
            chosen, _ = QFileDialog.getSaveFileName(self._window, "Export", name, kinds)
        else:
            title, image = f"{format.title}: {format.ask}", self._image()
            there = image.source.path if format.name == INSIDE else None
            chosen = QFileDialog.getExistingDirectory(self._window, title, there or "")
        if chosen:
            path = format.with_ending(Path(chosen))
            # The dialog asked whether a file may be replaced, but by the name as it was typed.
            self.write(path, format, overwrite=path == Path(chosen))

    def _ask_labels(self) -> None:
        chosen, _ = QFileDialog.getOpenFileName(self._window, "Import labels", "", _LABEL_FILES)
        if chosen:
            self.open_labels(Path(chosen))

    def _show_tracks(self) -> None:
        image, labels, viewer = self._image(), self._labels(), self._controller.viewer
        content, name, below = labelled(labels, image), f"{image.name} tracks", bare(labels)

        def work(job: Job[Tracks]) -> Tracks:
            copy = copied(content, lambda share: job.report(share, "following cells"))
            return tracks_layer(below, track_points(copy), name)

        def show(layer: Tracks) -> tuple[str, bool]:
            return show_tracks(viewer, layer), True

        service = self._controller.service
        self._controller.follower.run("Tracking", lambda: service.submit("tracks", work), show)

    def _try(self, action: Callable[[], None], warn: Callable[[str], None] | None = None) -> None:
        try:
            action()
        except (ValueError, OSError) as error:
            (warn or self.warned.emit)(in_dock(error))
