"""The line in the dock on an image that the model was not shown as it is."""

from __future__ import annotations

from collections.abc import Callable

from qtpy.QtWidgets import QVBoxLayout, QWidget

from napari_unet.plugin.dock.widgets import button


class LookRow(QWidget):
    """Offers to show the model an image as it is; empty where it was.

    Parameters
    ----------
    use_as_is
        What the button does.
    """

    def __init__(self, use_as_is: Callable[[], None]) -> None:
        super().__init__()
        tip = "Segment again, at the image's own size and in its own colours"
        self.use_as_is = button("Use it as it is", tip, use_as_is)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.use_as_is)
        self.show_for("")

    def show_for(self, words: str) -> None:
        """Show the button if there are words on how the model looked."""
        self.setVisible(bool(words))
