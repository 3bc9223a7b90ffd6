"""The titled steps of the dock, their messages, and widgets that are greyed with a reason."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QFrame, QHBoxLayout, QLabel, QLayout, QVBoxLayout, QWidget

# Name of the Qt property in which a widget keeps its own tooltip while it is greyed.
_TIP = "own_tooltip"


def allow(part: QWidget, why_not: str = "") -> None:
    """Make a widget usable; with a reason, grey it out and show the reason as its tooltip."""
    if part.property(_TIP) is None:
        part.setProperty(_TIP, part.toolTip())
    part.setEnabled(not why_not)
    part.setToolTip(why_not or str(part.property(_TIP)))


def describe(part: QWidget, tip: str) -> None:
    """Give a widget another tooltip; one that is grey shows it when it can be used again."""
    part.setProperty(_TIP, tip)
    if part.isEnabled():
        part.setToolTip(tip)


class Note(QLabel):
    """A message below the button that caused it; hidden while it is empty."""

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.is_warning = False
        self.hide()

    def say(self, text: str, details: str = "") -> None:
        """Show a text, with details as its tooltip; an empty text hides the note."""
        self.is_warning = text.startswith("⚠")
        self.setText(text)
        self.setToolTip(details)
        self.setVisible(bool(text))


class Step(QWidget):
    """A titled part of the dock.

    Parameters
    ----------
    title
        Its title.

    Attributes
    ----------
    note
        The message of this step.
    """

    def __init__(self, title: str) -> None:
        super().__init__()
        self.note = Note()
        heading, line = QLabel(f"<b>{title}</b>"), QFrame()
        line.setProperty("line", True)
        line.setFixedHeight(1)
        self._top = top = QHBoxLayout()
        top.addWidget(heading)
        top.addWidget(line, 1)
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(2)
        self._layout.addLayout(top)
        # The bar of a job that was started here.
        self._running = QVBoxLayout()

    def add_to_title(self, part: QWidget) -> None:
        """Add a widget at the right end of the title."""
        self._top.addWidget(part)

    def add(self, *parts: QWidget) -> None:
        """Add widgets at the bottom."""
        for part in parts:
            self._layout.addWidget(part)

    def add_layout(self, layout: QLayout) -> None:
        """Add a layout at the bottom."""
        self._layout.addLayout(layout)

    def add_place_to_run(self) -> None:
        """Leave a place for the progress bar at the bottom."""
        self._layout.addLayout(self._running)

    def show_running(self, bar: QWidget) -> None:
        """Take the progress bar over from the step that has it."""
        self._running.addWidget(bar)


class Messages:
    """The messages of all steps; knows the latest one."""

    def __init__(self) -> None:
        self._latest = Note()

    def say(self, note: Note, text: str, details: str = "") -> None:
        """Show a text in a note."""
        self._latest = note
        note.say(text, details)

    def text(self) -> str:
        """The latest message; empty if it is gone."""
        return self._latest.text()

    def toolTip(self) -> str:
        """Details of the latest message."""
        return self._latest.toolTip()
