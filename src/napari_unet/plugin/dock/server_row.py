"""The line in the dock that offers what a server has yet to bring back."""

from __future__ import annotations

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_unet.plugin.dock.widgets import button, row
from napari_unet.plugin.jobs.controller import Controller
from napari_unet.remote.unfinished import UnfinishedJob


class ServerRow(QWidget):
    """Offers to reconnect to a job on a server; hidden where there is none.

    Parameters
    ----------
    controller
        Knows the jobs, and follows them.
    """

    failed = Signal(str)

    def __init__(self, controller: Controller) -> None:
        super().__init__()
        self._controller = controller
        self._note: UnfinishedJob | None = None
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.reconnect = button("Reconnect", "Follow it, and get its model", self._reconnect)
        self.drop = button("Drop it", "End it there, and ask no more", self._drop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addWidget(row(self.reconnect, self.drop))
        self.hide()

    def look(self) -> None:
        """Offer the oldest job, unless something runs."""
        notes = [] if self._controller.is_busy else self._controller.service.servers.pending()
        self._note = notes[0] if notes else None
        self.setVisible(bool(notes))
        if notes:
            self.text.setText(f"{notes[0].computer} was left teaching {notes[0].name}")

    def _reconnect(self) -> None:
        if self._note is not None:
            self._try(self._note)

    def _try(self, note: UnfinishedJob) -> None:
        try:
            self._controller.reconnect(note)
        except (ValueError, OSError) as error:
            self.failed.emit(str(error))

    def _drop(self) -> None:
        if self._note is not None:
            self._controller.service.servers.drop(self._note)
            self.look()
