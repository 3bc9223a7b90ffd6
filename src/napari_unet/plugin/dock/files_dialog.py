"""Which files to segment, and where the results go."""

from __future__ import annotations

import os
from pathlib import Path

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QDialog,
    QFileDialog,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_unet.io.images import SUFFIXES, list_images
from napari_unet.plugin.dock.widgets import button, row
from napari_unet.projects.folder import folder_of
from napari_unet.service.files import FileJob, plan_files


class FilesDialog(QDialog):
    """Asks for images, by files or by folder, and for the folder of the results.

    Attributes
    ----------
    images
        Files and folders that were chosen.
    folder
        Where the labels and tables go.

    Signals
    -------
    queued
        Images are to be opened one by one: their folder, that of the labels from there, and which
        ones; None: all.
    """

    queued = Signal(object, str, object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Folder of images")
        self.images: list[Path] = []
        self.folder: Path | None = None
        self.chosen, self.where = QLabel(), QLabel()
        for text in (self.chosen, self.where):
            text.setWordWrap(True)
        self.queue = button(
            "Open one by one",
            "Look at the images one after the other, correct a few, and have the rest segmented",
            self._queue,
        )
        self.table = QCheckBox("Also a table of the cells (CSV) for each image")
        self.start = button(
            "Segment all", "With the model and the settings of the dock", self.accept
        )
        layout = QVBoxLayout(self)
        for part in (
            row(
                button("Files…", "Choose images", self._ask_files),
                button(
                    "Folder…", "All images of a folder, or a plate in OME-Zarr", self._ask_folder
                ),
            ),
            self.chosen,
            button("Save to…", "Choose a folder for labels and tables", self._ask_where),
            self.where,
            self.table,
            row(self.queue, self.start, button("Cancel", "Do nothing", self.reject)),
        ):
            layout.addWidget(part)
        self._show()

    def choose(self, images: list[Path]) -> None:
        """Take these files or folders."""
        self.images = images
        self._show()

    def save_to(self, folder: Path) -> None:
        """Put the results there."""
        self.folder = folder
        self._show()

    def plan(self) -> list[FileJob]:
        """What is to be done.

        Raises
        ------
        ValueError
            If something is not chosen, or does not go together.
        """
        if not self.images or self.folder is None:
            raise ValueError("images, or the folder for the labels, are missing; choose both")
        # A folder named like a file is still a folder.
        self.folder.mkdir(parents=True, exist_ok=True)
        return plan_files(list_images(self.images), self.folder, table=self.table.isChecked())

    def _show(self) -> None:
        names = ", ".join(path.name for path in self.images[:3])
        more = f" and {len(self.images) - 3} more" if len(self.images) > 3 else ""
        self.chosen.setText(f"{names}{more}" if names else "No images yet")
        where = "No folder for the labels yet"
        if self.images:
            where += f" (one by one: {folder_of(self.images)[0].name}/labels)"
        self.where.setText(f"To {self.folder}" if self.folder else where)
        self.queue.setEnabled(bool(self.images))
        self.start.setEnabled(bool(self.images) and self.folder is not None)

    def _queue(self) -> None:
        folder, images = folder_of(self.images)
        labels = "labels"
        if self.folder is not None:
            labels = Path(os.path.relpath(self.folder, folder)).as_posix()
        self.reject()
        self.queued.emit(folder, labels, images)

    def _ask_files(self) -> None:
        endings = " ".join(f"*{suffix}" for suffix in sorted(SUFFIXES))
        names, _ = QFileDialog.getOpenFileNames(self, "Images", "", f"Images ({endings})")
        if names:
            self.choose([Path(name) for name in names])

    def _ask_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder of images")
        if name:
            self.choose([Path(name)])

    def _ask_where(self) -> None:
        name = QFileDialog.getExistingDirectory(self, "Folder for labels and tables")
        if name:
            self.save_to(Path(name))
