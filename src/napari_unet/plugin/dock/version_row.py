"""The line in the dock on the version that the last fine-tune gave."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.plugin.dock.widgets import button, row
from napari_unet.plugin.results.versions import Versions


class VersionRow(QWidget):
    """Offers to use what the check refused, or to go back; empty where there is nothing to do.

    Parameters
    ----------
    versions
        Knows what the last fine-tune gave.
    use, back
        What the buttons do.
    """

    def __init__(
        self, versions: Versions, use: Callable[[], None], back: Callable[[], None]
    ) -> None:
        super().__init__()
        self._versions = versions
        self.use = button("Use it anyway", "The new version in spite of the check", use)
        self.back = button("Go back", "To the model before the fine-tune, and its labels", back)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(row(self.use, self.back))
        self.look()

    def look(self) -> None:
        """Show the buttons that have something to do."""
        self.use.setVisible(self._versions.refused is not None)
        self.back.setVisible(self._versions.can_go_back)
