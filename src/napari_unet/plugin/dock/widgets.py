"""Parts of the dock: rows of buttons, and the choice of a class."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from magicgui.widgets import ComboBox
from qtpy.QtCore import QEvent, QObject, QSize, Qt, Signal
from qtpy.QtWidgets import (
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QPushButton,
    QScrollArea,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_unet.plugin.edits.tracker import DEFAULT_CLASS

NEW_CLASS = "New cell type…"
_LONGEST_NAME = 30
# Width of the list of a box that may be narrower than its entries, in pixels.
_LIST_PX = 220
# Width of the dock, in pixels of the screen as Qt counts them.
WIDTH_PX = 368


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


def beside(left: QWidget, left_share: int, right: QWidget, right_share: int) -> QWidget:
    """Two widgets side by side, with their shares of the width."""
    made = row(left, right)
    layout = made.layout()
    if isinstance(layout, QHBoxLayout):
        layout.setStretch(0, left_share)
        layout.setStretch(1, right_share)
    return made


def menu_button(text: str, tip: str, menu: QMenu) -> QToolButton:
    """A small button that opens a menu."""
    made = QToolButton()
    made.setProperty("menu", True)
    made.setText(text)
    made.setToolTip(tip)
    made.setMenu(menu)
    made.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
    return made


def field(text: str, part: QWidget) -> QWidget:
    """A widget with its name to the left."""
    made = QWidget()
    layout = QHBoxLayout(made)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.addWidget(QLabel(text))
    layout.addWidget(part, 1)
    return made


class _Shortened(QObject):
    """Draws a box whose text is too long for it with dots in the middle; Qt would cut its end."""

    def eventFilter(self, box: QObject | None, event: QEvent | None) -> bool:
        """Draw the box."""
        if event is None or event.type() != QEvent.Type.Paint or not isinstance(box, QComboBox):
            return super().eventFilter(box, event)
        option, style, kinds = QStyleOptionComboBox(), box.style(), QStyle.ComplexControl
        if style is None:
            return False
        box.initStyleOption(option)
        part = QStyle.SubControl.SC_ComboBoxEditField
        room = style.subControlRect(kinds.CC_ComboBox, option, part, box).width()
        cut = Qt.TextElideMode.ElideMiddle
        option.currentText = box.fontMetrics().elidedText(box.currentText(), cut, room)
        painter = QStylePainter(box)
        painter.drawComplexControl(kinds.CC_ComboBox, option)
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
        painter.end()
        return True


def shrink(box: QComboBox) -> None:
    """Let a box be narrower than its longest entry."""
    box.installEventFilter(_Shortened(box))
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setMinimumContentsLength(3)
    view = box.view()
    if view is not None:
        view.setMinimumWidth(_LIST_PX)


class Column(QScrollArea):
    """Widgets below each other, with a scroll bar where the screen is too small for them."""

    def __init__(self) -> None:
        super().__init__()
        self._inner = QWidget()
        self._layout = QVBoxLayout(self._inner)
        self._layout.setContentsMargins(6, 0, 6, 0)
        self._layout.setSpacing(2)
        self._layout.addStretch(1)
        self.setWidget(self._inner)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def add(self, part: QWidget) -> None:
        """Add a widget at the bottom."""
        self._layout.insertWidget(self._layout.count() - 1, part)

    def reveal(self, part: QWidget, beside: QWidget) -> None:
        """Scroll to a widget that has come, if the user sees the one that it came to."""
        if not beside.visibleRegion().isEmpty():
            self._layout.activate()
            self.ensureWidgetVisible(part)

    def minimumSizeHint(self) -> QSize:
        """Wide enough for all, and as low as may be."""
        bar = self.verticalScrollBar()
        width = self._inner.minimumSizeHint().width() + (bar.sizeHint().width() if bar else 0)
        return QSize(min(width, WIDTH_PX), 200)

    def sizeHint(self) -> QSize:
        """High enough for all."""
        hint = self._inner.sizeHint().expandedTo(self.minimumSizeHint())
        height = self._inner.heightForWidth(WIDTH_PX)
        return QSize(WIDTH_PX, height if height > 0 else hint.height())


class ClassChoice(QWidget):
    """The type of the cells that are painted next; hidden until there are two."""

    changed = Signal(str)
    refused = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self._known: list[str] = [DEFAULT_CLASS]
        self._own: list[str] = []
        self.box = ComboBox(
            label="Cell type",
            choices=self._choices,
            tooltip="The type of the cells that you paint next",
        )
        self.box.changed.connect(self._on_changed)
        self.name = QLineEdit()
        self.name.setPlaceholderText("Name of the new cell type, then Enter")
        self.name.returnPressed.connect(self._add)
        self.name.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(field("Cell type", self.box.native))
        layout.addWidget(self.name)
        self._show_if_needed()

    @property
    def value(self) -> str:
        """The class that is chosen."""
        chosen = str(self.box.value)
        return DEFAULT_CLASS if chosen == NEW_CLASS else chosen

    def begin_new(self) -> None:
        """Ask for the name of another cell type."""
        self.box.value = NEW_CLASS

    def offer(self, classes: Sequence[str]) -> None:
        """Offer the classes of a model, besides those that were added here."""
        before = self.box.value
        self._known = list(classes) or [DEFAULT_CLASS]
        choices = self._choices(None)
        # Anew, or those that were there before keep their place.
        self.box.choices = ()
        self.box.reset_choices()
        self.box.value = before if before in choices else choices[0]
        self._show_if_needed()
        self.changed.emit(self.value)

    def _show_if_needed(self) -> None:
        two = len(self._choices(None)) > 2
        self.setVisible(two or self.box.value == NEW_CLASS)

    def _choices(self, widget: object) -> list[str]:
        return [*dict.fromkeys([*self._known, *self._own]), NEW_CLASS]

    def _on_changed(self) -> None:
        is_new = self.box.value == NEW_CLASS
        self.name.setVisible(is_new)
        self._show_if_needed()
        if is_new:
            self.name.setFocus()
        self.changed.emit(self.value)

    def _add(self) -> None:
        name = self.name.text().strip()
        if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable() or name == NEW_CLASS:
            self.refused.emit(
                f"a cell type has a name of 1 to {_LONGEST_NAME} letters; give another"
            )
            return
        if name.lower() == "background":
            self.refused.emit("background is what is erased; give the cell type another name")
            return
        if name not in self._own:
            self._own.append(name)
        self.name.clear()
        self.box.reset_choices()
        self.box.value = name
