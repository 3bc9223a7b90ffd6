"""The line in the dock that says that a training is too short, and offers more time."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QLabel, QVBoxLayout, QWidget

from napari_unet.jobs import Progress, duration
from napari_unet.plugin.dock.widgets import button


class MoreTimeRow(QWidget):
    """Offers to train for longer; hidden where there is no need.

    Parameters
    ----------
    extend
        Has the training that runs take so many seconds in all.
    """

    def __init__(self, extend: Callable[[float], None]) -> None:
        super().__init__()
        self._extend, self._taken_s, self._offered_s = extend, 0.0, 0.0
        self.text = QLabel()
        self.text.setWordWrap(True)
        self.take = button("Train longer", "Go on with the training for so long", self._take)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addWidget(self.take)
        self.hide()

    def clear(self) -> None:
        """Offer nothing, for now."""
        self._taken_s = 0.0
        self.hide()

    def look(self, progress: Progress, *, is_finishing: bool) -> None:
        """Offer what the progress of a job says."""
        if progress.preview is not None:
            return  # it tells of something else
        short = None if is_finishing else progress.too_short
        # What was taken a moment ago, the training may not know yet.
        if short is None or short.enough_s <= self._taken_s:
            self.hide()
            return
        self._offered_s = short.enough_s
        self.text.setText(f"⚠ {short}.")
        self.take.setText(f"Train {duration(short.enough_s)}")
        self.show()

    def _take(self) -> None:
        self._taken_s = self._offered_s
        self._extend(self._taken_s)
        self.hide()
