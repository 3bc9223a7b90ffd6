"""The list of the images of a folder: picture, name, and how far each is."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSize, Signal
from qtpy.QtGui import QShowEvent
from qtpy.QtWidgets import QListWidget, QListWidgetItem

from napari_unet.plugin.dock.queue.thumbnails import SIDE_PX, Thumbnails
from napari_unet.projects.manifest import CORRECTED, DONE, NEW, SEGMENTED, ImageEntry
from napari_unet.projects.project import Project

# A sign for each state, besides its word.
SIGNS = {NEW: "○", SEGMENTED: "◔", CORRECTED: "◑", DONE: "✔"}
# Height of a line, and of the list at most, in pixels.
_ROW_PX, _HEIGHT_PX = SIDE_PX + 6, 200


def words(name: str, entry: ImageEntry) -> str:
    """Return a line of the list."""
    said = [f"{SIGNS[entry.state]} {entry.state}"]
    if entry.n_corrected:
        said.append(f"{entry.n_corrected} corrected")
    if entry.held_out:
        said.append("held out")
    return f"{name}\n{', '.join(said)}"


class ImageList(QListWidget):
    """Shows the images; `chosen` tells the name of one that is clicked.

    Pictures are made for what is in view.
    """

    chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._project: Project | None = None
        self._names: list[str] = []
        self.thumbnails = Thumbnails(self._on_picture)
        self.setIconSize(QSize(SIDE_PX, SIDE_PX))
        self.setUniformItemSizes(True)
        self.itemClicked.connect(lambda item: self.chosen.emit(self._names[self.row(item)]))
        bar = self.verticalScrollBar()
        if bar is not None:
            bar.valueChanged.connect(lambda value: self._show_pictures())

    def show_images(self, project: Project | None, names: Sequence[str]) -> None:
        """List the images of a project in this order."""
        if project is not self._project:
            self.thumbnails.clear()
        self._project, self._names = project, list(names)
        self.clear()
        for name in names:
            item = QListWidgetItem(name)
            item.setSizeHint(QSize(100, _ROW_PX))
            self.addItem(item)
        # No higher than its images.
        self.setFixedHeight(min(_HEIGHT_PX, _ROW_PX * len(names) + 2 * self.frameWidth()))
        self.refresh("")

    def refresh(self, current: str) -> None:
        """Show the states as they are now, and which image is open."""
        project = self._project
        if project is None:
            return
        for number, name in enumerate(self._names):
            item, text = self.item(number), words(name, project.entry(name))
            if item is not None and item.text() != text:
                item.setText(text)
        if current in self._names:
            self.setCurrentRow(self._names.index(current))
        self._show_pictures()

    def showEvent(self, event: QShowEvent | None) -> None:
        """Show the pictures of what comes into view."""
        super().showEvent(event)
        self._show_pictures()

    def _show_pictures(self) -> None:
        project = self._project
        if project is None or not self.isVisible() or not self._names:
            return
        bar = self.verticalScrollBar()
        top = self.indexAt(self.rect().topLeft()).row() if bar is not None else 0
        first = max(0, top)
        for number in range(first, min(len(self._names), first + self.height() // _ROW_PX + 2)):
            item = self.item(number)
            icon = self.thumbnails.icon(project, self._names[number])
            if item is not None and icon is not None and item.icon().isNull():
                item.setIcon(icon)

    def _on_picture(self, name: str) -> None:
        if name in self._names:
            self._show_pictures()
