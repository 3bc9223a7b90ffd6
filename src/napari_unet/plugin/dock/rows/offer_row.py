"""A row of the dock that offers something: a sentence, and buttons that do it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from qtpy.QtWidgets import QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from napari_unet.plugin.dock.widgets import button


class OfferRow(QWidget):
    """A sentence above one or two buttons; hidden while there is nothing to offer.

    Attributes
    ----------
    text
        The sentence.
    """

    def __init__(self) -> None:
        super().__init__()
        self.text = QLabel()
        self.text.setWordWrap(True)
        self._buttons = QHBoxLayout()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.text)
        layout.addLayout(self._buttons)
        self.withdraw()

    def add_button(self, text: str, tip: str, slot: Callable[[], None]) -> QPushButton:
        """Add a button to the right of those before."""
        made = button(text, tip, slot)
        self._buttons.addWidget(made, 1)
        return made

    def offer(self, sentence: str = "") -> None:
        """Show the row, with a sentence if the buttons need one."""
        self.text.setText(sentence)
        self.text.setVisible(bool(sentence))
        self.show()

    def withdraw(self) -> None:
        """Hide the row: there is nothing to offer."""
        self.hide()


def when_words(time: datetime) -> str:
    """Return a time in words, such as "today 12:03", in the time zone of this computer."""
    here = time.astimezone()
    is_today = here.date() == datetime.now().astimezone().date()
    return f"{'today' if is_today else f'{here:%Y-%m-%d}'} {here:%H:%M}"
