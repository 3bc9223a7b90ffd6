"""The bar of what runs, with the time left and the button that stops it."""

from __future__ import annotations

import time
from collections.abc import Callable

from qtpy.QtWidgets import QHBoxLayout, QProgressBar, QWidget

from napari_unet.plugin.dock.widgets import button

# The time left is told after so many seconds and this fraction of the work: before, it is a guess.
_SURE_S, _SURE_FRACTION = 2.0, 0.03


class RunRow(QWidget):
    """A progress bar, and a button that stops the job; hidden while nothing runs.

    Parameters
    ----------
    cancel
        Stops the job.
    """

    def __init__(self, cancel: Callable[[], None]) -> None:
        super().__init__()
        self._began_s = 0.0
        self.bar = QProgressBar()
        self.cancel = button("Cancel", "Stop what is running", cancel)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.bar, 1)
        layout.addWidget(self.cancel)
        self.hide()

    def begin(self, *, teaches: bool) -> None:
        """A job begins."""
        self._began_s = time.monotonic()
        self.bar.setRange(0, 0)
        self.cancel.setText("Stop" if teaches else "Cancel")
        self.cancel.setToolTip(
            "Stop and keep what was learnt; a second click drops it"
            if teaches
            else "Stop what is running; nothing is changed"
        )
        self.show()

    def show_progress(self, fraction: float) -> str:
        """Move the bar; returns the time left in words, empty while it is unknown."""
        self.bar.setRange(0, 100)
        self.bar.setValue(round(100 * fraction))
        taken_s = time.monotonic() - self._began_s
        if taken_s < _SURE_S or fraction < _SURE_FRACTION:
            return ""
        left_s = round(taken_s * (1 - fraction) / fraction)
        return f"about {left_s // 60}:{left_s % 60:02d} left"
