"""Buttons for napari's own painting tools, beside those for gestures."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from napari.layers import Labels
from napari.viewer import Viewer
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_unet.core.checks import in_dock
from napari_unet.plugin.dock.widgets import button

# Text, napari's mode, and tooltip with napari's key.
_BUTTONS = (
    (
        "brush",
        "paint",
        "Paint with the number in napari's layer controls; M takes a new one, for the next cell, "
        "and [ and ] change the brush (2)",
    ),
    ("eraser", "erase", "Erase what is wrong of a cell, or all of it (1)"),
    (
        "polygon",
        "polygon",
        "Click along the outline of a cell; a double click closes and fills it (3)",
    ),
    ("fill", "fill", "Click on a cell to give all of it the number of the brush (4)"),
)
_PAN_ZOOM = "pan_zoom"


class PaintRow(QWidget):
    """Chooses a tool of the labels that are corrected; a second click ends it.

    Parameters
    ----------
    viewer
        Where the labels are.
    chosen_labels
        Returns the labels to correct, or raises `ValueError` with a sentence for the user.

    Attributes
    ----------
    buttons
        By their text.

    Signals
    -------
    warned
        A sentence for the user.
    """

    warned = Signal(str)

    def __init__(self, viewer: Viewer, chosen_labels: Callable[[], Labels]) -> None:
        super().__init__()
        self._viewer, self._labels = viewer, chosen_labels
        self._followed: Labels | None = None
        self._modes = {text: mode for text, mode, _ in _BUTTONS}
        self.buttons: dict[str, QPushButton] = {}
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for text, _, tip in _BUTTONS:
            made = self.buttons[text] = button(text, tip, partial(self._choose, text))
            made.setCheckable(True)
            layout.addWidget(made)

    def follow(self, labels: Labels | None) -> None:
        """Show the tool of these labels from now on."""
        if self._followed is not None:
            self._followed.events.mode.disconnect(self._show)
        self._followed = labels
        if labels is not None:
            labels.events.mode.connect(self._show)
        self._show()

    def _choose(self, text: str) -> None:
        from napari_unet.plugin.edits.gestures import check_editable

        try:
            labels = self._labels()
            check_editable(self._viewer, labels)
            self._viewer.layers.selection.active = labels
            mode = self._modes[text]
            labels.mode = _PAN_ZOOM if str(labels.mode) == mode else mode
        except ValueError as error:
            self.warned.emit(in_dock(error))
        self._show()

    def _show(self, event: object = None) -> None:
        mode = _PAN_ZOOM if self._followed is None else str(self._followed.mode)
        for text, made in self.buttons.items():
            made.setChecked(self._modes[text] == mode)
