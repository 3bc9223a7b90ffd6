"""The part of the dock for corrections: classes, confirming, what was seen, where to go next."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from napari.layers import Image, Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QCheckBox, QLabel, QVBoxLayout, QWidget

from napari_unet.core.checks import in_dock
from napari_unet.plugin.dock.gesture_row import GestureRow
from napari_unet.plugin.dock.keys import Keys
from napari_unet.plugin.dock.widgets import ClassChoice, button, row
from napari_unet.plugin.edits.marks import Box
from napari_unet.plugin.edits.rectangle import RectangleDrag
from napari_unet.plugin.jobs.controller import Controller


class CorrectingPanel(QWidget):
    """What a user says of labels besides painting them; buttons, and keys in the viewer.

    Parameters
    ----------
    controller
        Does it.
    image, labels
        Tell what is chosen, or raise `ValueError` with a sentence for the user.
    """

    said = Signal(str)
    warned = Signal(str)

    def __init__(
        self, controller: Controller, image: Callable[[], Image], labels: Callable[[], Labels]
    ) -> None:
        super().__init__()
        self._controller, self._corrections = controller, controller.corrections
        self._image, self._labels = image, labels
        self._rectangle: RectangleDrag | None = None
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
        self._keys.close()

    def choose(self, labels: Labels | None) -> None:
        """Labels that the keys are for, from now on."""
        self._keys.attach(labels)

    def _build(self) -> None:
        self.class_choice = ClassChoice()
        self.class_choice.changed.connect(partial(setattr, self._corrections, "brush_class"))
        self.class_choice.refused.connect(self.warned)
        self.gestures = GestureRow(self._controller, self._labels)
        self.gestures.said.connect(self.said)
        self.gestures.warned.connect(self.warned)
        self.confirm = button(
            "Confirm view",
            "All that the view shows is right as it is (Shift-C; C: the cell under the pointer)",
            partial(self._say, self._confirm_view),
        )
        self.rectangle = button(
            "Confirm rectangle",
            "The next drag over the image says what is right; Esc ends it",
            partial(self._say, self._confirm_rectangle),
        )
        self.take_back = button(
            "Take back", "Unsay the last confirmation (U)", partial(self._say, self._take_back)
        )
        self.next_place = button(
            "Next place",
            "Go where a correction would help most (N)",
            partial(self._say, self._next_place),
        )
        self.show_seen = QCheckBox("Show what was seen")
        self.show_seen.setToolTip("Blue: corrected; green: confirmed; the rest teaches nothing")
        self.show_seen.setChecked(True)
        self.show_seen.toggled.connect(self._corrections.enable_overlay)
        self.count = QLabel()
        self.count.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (
            self.class_choice,
            self.gestures,
            row(self.confirm, self.rectangle),
            row(self.take_back, self.next_place),
            self.show_seen,
            self.count,
        ):
            layout.addWidget(part)

    def _confirm_view(self) -> str:
        return self._corrections.confirm_view(self._labels())

    def _confirm_cell(self) -> str:
        return self._corrections.confirm_under_pointer(self._labels())

    def _confirm_rectangle(self) -> str:
        labels = self._labels()
        if self._rectangle is not None and self._rectangle.is_on:
            self._rectangle.cancel()
            return "No rectangle was drawn"

        def confirm(box: Box | None) -> None:
            if box is None:
                self.said.emit("No rectangle was drawn")
            elif labels in self._controller.viewer.layers:
                self._say(lambda: self._corrections.confirm_box(labels, box))

        self._rectangle = RectangleDrag(self._controller.viewer, labels, confirm)
        return "Drag a rectangle over what is right; Esc ends it"

    def _take_back(self) -> str:
        return self._corrections.take_back(self._labels())

    def _next_place(self) -> str:
        return self._controller.next_place(self._image())

    def _say(self, action: Callable[[], str]) -> None:
        try:
            self.said.emit(action())
        except (ValueError, OSError) as error:
            self.warned.emit(in_dock(error))
