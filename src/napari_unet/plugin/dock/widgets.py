"""Parts of the dock: rows of buttons, and the choice of a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from magicgui.widgets import ComboBox
from qtpy.QtCore import QSize, Qt, Signal
from qtpy.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from napari_unet.plugin.edits.tracker import DEFAULT_CLASS

NEW_CLASS = "New class…"
_LONGEST_NAME = 30


def button(text: str, tip: str, slot: Callable[[], None]) -> QPushButton:
    """A button."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.clicked.connect(lambda: slot())
    return made


def row(*parts: QWidget) -> QWidget:
    """Widgets side by side."""
    made = QWidget()
    layout = QHBoxLayout(made)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        layout.addWidget(part, 1)
    return made


class Column(QScrollArea):
    """Widgets below each other, with a scroll bar where the screen is too small for them."""

    def __init__(self) -> None:
        super().__init__()
        self._inner = QWidget()
        self._layout = QVBoxLayout(self._inner)
        self._layout.addStretch(1)
        self.setWidget(self._inner)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def add(self, part: QWidget) -> None:
        """Add a widget at the bottom."""
        self._layout.insertWidget(self._layout.count() - 1, part)

    def minimumSizeHint(self) -> QSize:
        """Wide enough for all, and as low as may be."""
        bar = self.verticalScrollBar()
        width = self._inner.minimumSizeHint().width() + (bar.sizeHint().width() if bar else 0)
        return QSize(width, 200)

    def sizeHint(self) -> QSize:
        """High enough for all."""
        return self._inner.sizeHint().expandedTo(self.minimumSizeHint())


class ClassChoice(QWidget):
    """Which class the cells are that are painted next."""

    changed = Signal(str)
    refused = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._known: list[str] = [DEFAULT_CLASS]
        self._own: list[str] = []
        self.box = ComboBox(label="Class", choices=self._choices)
        self.box.changed.connect(self._on_changed)
        self.name = QLineEdit()
        self.name.setPlaceholderText("Name of the new class, then Enter")
        self.name.returnPressed.connect(self._add)
        self.name.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(row(QLabel("Class"), self.box.native))
        layout.addWidget(self.name)

    @property
    def value(self) -> str:
        """The class that is chosen."""
        chosen = str(self.box.value)
        return DEFAULT_CLASS if chosen == NEW_CLASS else chosen

    def offer(self, classes: Sequence[str]) -> None:
        """Offer the classes of a model, besides those that were added here."""
        before = self.box.value
        self._known = list(classes) or [DEFAULT_CLASS]
        choices = self._choices(None)
        # Anew, or those that were there before keep their place.
        self.box.choices = ()
        self.box.reset_choices()
        self.box.value = before if before in choices else choices[0]
        self.changed.emit(self.value)

    def _choices(self, widget: object) -> list[str]:
        return [*dict.fromkeys([*self._known, *self._own]), NEW_CLASS]

    def _on_changed(self) -> None:
        is_new = self.box.value == NEW_CLASS
        self.name.setVisible(is_new)
        if is_new:
            self.name.setFocus()
        self.changed.emit(self.value)

    def _add(self) -> None:
        name = self.name.text().strip()
        if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable() or name == NEW_CLASS:
            self.refused.emit(f"a class has a name of 1 to {_LONGEST_NAME} letters; give another")
            return
        if name.lower() == "background":
            self.refused.emit("background is what is erased; give the class another name")
            return
        if name not in self._own:
            self._own.append(name)
        self.name.clear()
        self.box.reset_choices()
        self.box.value = name
