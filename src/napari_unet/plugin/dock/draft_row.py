"""The line in the dock that offers what was saved."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from napari.layers import Image
from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_unet.plugin.dock.widgets import button, row
from napari_unet.plugin.results.restore import Restoring


class DraftRow(QWidget):
    """Offers corrections that were saved before; hidden where there are none.

    Parameters
    ----------
    restoring
        Finds them, and brings them back.
    image
        Tells which image is chosen.
    """

    def __init__(self, restoring: Restoring, image: Callable[[], Image | None]) -> None:
        super().__init__()
        self._restoring, self._image = restoring, image
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.restore = button("Restore", "Bring back what was painted then", self._restore)
        self.dismiss = button("Dismiss", "Begin anew, and ask no more", self._dismiss)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addWidget(row(self.restore, self.dismiss))
        self.hide()

    def on_offered(self, image: Image | None, created: str) -> None:
        """Offer what was begun at a time (ISO 8601); an empty text offers nothing."""
        if image != self._image():
            return
        self.setVisible(bool(created))
        if created:
            when = datetime.fromisoformat(created).astimezone()
            self.text.setText(f"Corrections of {when:%Y-%m-%d %H:%M} were saved")

    def _restore(self) -> None:
        image = self._image()
        if image is not None:
            self._restoring.restore(image)

    def _dismiss(self) -> None:
        image = self._image()
        if image is not None:
            self._restoring.dismiss(image)
