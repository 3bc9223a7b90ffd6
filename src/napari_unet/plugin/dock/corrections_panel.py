"""The part of the dock for corrections: cell types, marks, what is learnt, where to go next."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from napari.layers import Image, Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from napari_unet.core.boxes import Box
from napari_unet.core.checks import in_dock
from napari_unet.plugin.dock.keys import Keys
from napari_unet.plugin.dock.rows.gesture_row import GestureRow
from napari_unet.plugin.dock.rows.paint_row import PaintRow
from napari_unet.plugin.dock.widgets import ClassChoice, button, row
from napari_unet.plugin.edits.rectangle import RectangleDrag
from napari_unet.plugin.edits.tracker import EditCount
from napari_unet.plugin.jobs.controller import Controller

_HINT = "Correct cells with a tool; over a right cell press C."
_HINT_TIP = "Five to ten cells are enough. Next doubtful cell leads to those that teach most"


class CorrectingPanel(QWidget):
    """What a user says of labels besides painting them; buttons, and keys in the viewer.

    Parameters
    ----------
    controller
        Does it.
    image, labels
        Tell what is chosen, or raise `ValueError` with a sentence for the user.

    Signals
    -------
    said, warned
        A sentence for the user.
    touched
        Something was painted or marked; it is yet to be counted.
    """

    touched = Signal()
    said = Signal(str)
    warned = Signal(str)

    def __init__(
        self, controller: Controller, image: Callable[[], Image], labels: Callable[[], Labels]
    ) -> None:
        super().__init__()
        self._controller, self._corrections = controller, controller.corrections
        self._image, self._labels = image, labels
        self._rectangle: RectangleDrag | None = None
        # The layer whose strokes are listened to.
        self._painted: Labels | None = None
        self._build()
        self._keys = Keys(
            controller.viewer,
            {
                "C": partial(self._say, self._confirm_cell),
                "Shift-C": partial(self._say, self._confirm_view),
                "U": partial(self._say, self._take_back),
                **self.gestures.keys,
            },
            {"N": partial(self._say, self._next_place)},
        )

    def close_down(self) -> None:
        """Give the keys back and take away what is only shown; safe to call twice."""
        if self._rectangle is not None:
            self._rectangle.close()
        self.gestures.close_down()
        self.choose(None)
        self._keys.close()

    def choose(self, labels: Labels | None) -> None:
        """Labels that the keys are for, from now on."""
        if self._painted is not None:
            self._painted.events.paint.disconnect(self._on_paint)
        self._painted = labels
        if labels is not None:
            labels.events.paint.connect(self._on_paint)
        self._keys.attach(labels)
        self.painting.follow(labels)

    def show_count(self, count: EditCount | str) -> None:
        """Show what was corrected, or why it could not be counted; before that, what to do."""
        self.count.setText(str(count))
        self.hint.setVisible(isinstance(count, EditCount) and not count.is_any)

    @property
    def parts(self) -> tuple[QWidget, ...]:
        """What needs labels."""
        return (
            self.class_choice,
            self.gestures,
            *self.painting.buttons.values(),
            self.confirm,
            self.rectangle,
            self.take_back,
            self.next_place,
            self.show_seen,
        )

    def _on_paint(self, event: object) -> None:
        self.touched.emit()

    def _build(self) -> None:
        self.class_choice = ClassChoice()
        self.class_choice.changed.connect(partial(setattr, self._corrections, "brush_class"))
        self.class_choice.refused.connect(self.warned)
        self.gestures = GestureRow(self._controller, self._labels)
        self.gestures.said.connect(self.said)
        self.gestures.warned.connect(self.warned)
        self.painting = PaintRow(self._controller.viewer, self._labels)
        self.painting.warned.connect(self.warned)
        self.confirm = button(
            "Mark view",
            "Mark the visible area as correct: its cells, and its background as background "
            "(Shift-C). For one cell, point at it and press C",
            partial(self._say, self._confirm_view),
        )
        self.rectangle = button(
            "Mark box",
            "Mark a box as correct: draw it over the image; background in it is taught as "
            "background (Esc ends it)",
            partial(self._say, self._confirm_rectangle),
        )
        self.take_back = button(
            "Undo last mark", "Undo the last mark (U)", partial(self._say, self._take_back)
        )
        self.next_place = button(
            "Next doubtful cell",
            "Go to the next cell that the model is unsure of: correcting it helps most (N)",
            partial(self._say, self._next_place),
        )
        self.show_seen = QCheckBox("Show what the model will learn from")
        self.show_seen.setToolTip("Blue: corrected; green: marked as correct; the rest is ignored")
        self.show_seen.setChecked(True)
        self.show_seen.toggled.connect(self._corrections.enable_overlay)
        self.hint = QLabel(_HINT)
        self.hint.setWordWrap(True)
        self.hint.setToolTip(_HINT_TIP)
        self.count = QLabel()
        self.count.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.class_choice)
        layout.addWidget(self.gestures)
        layout.addWidget(self.painting)
        counted = QWidget()
        line = QHBoxLayout(counted)
        line.setContentsMargins(0, 0, 0, 0)
        line.addWidget(self.count, 1)
        line.addWidget(self.next_place)
        for part in (
            self.hint,
            counted,
            row(self.confirm, self.rectangle, self.take_back),
            self.show_seen,
        ):
            layout.addWidget(part)

    def _confirm_view(self) -> str:
        return self._touch(self._corrections.confirm_view(self._labels()))

    def _confirm_cell(self) -> str:
        labels = self._labels()
        told = self.gestures.confirm() or self._corrections.confirm_under_pointer(labels)
        return self._touch(told)

    def _confirm_rectangle(self) -> str:
        labels = self._labels()
        if self._rectangle is not None and self._rectangle.is_on:
            self._rectangle.cancel()
            return "No box was drawn"

        def confirm(box: Box | None) -> None:
            if box is None:
                self.said.emit("No box was drawn")
            elif labels in self._controller.viewer.layers:
                self._say(lambda: self._touch(self._corrections.confirm_box(labels, box)))

        self._rectangle = RectangleDrag(self._controller.viewer, labels, confirm)
        return "Draw a box over what is correct; Esc ends it"

    def _touch(self, told: str) -> str:
        self.touched.emit()
        return told

    def _take_back(self) -> str:
        return self._corrections.take_back(self._labels())

    def _next_place(self) -> str:
        return self._controller.next_place(self._image())

    def _say(self, action: Callable[[], str]) -> None:
        try:
            self.said.emit(action())
        except (ValueError, OSError) as error:
            self.warned.emit(in_dock(error))
