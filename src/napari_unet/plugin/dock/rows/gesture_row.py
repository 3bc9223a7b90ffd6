"""The buttons for corrections that take one gesture on the canvas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from napari.layers import Image, Labels
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_unet.core.checks import in_dock
from napari_unet.plugin.dock.widgets import button
from napari_unet.plugin.jobs.controller import Controller
from napari_unet.plugin.viewer.layers import fits

if TYPE_CHECKING:
    from napari_unet.plugin.edits.gesture_tools import Tool

# Text, key and tooltip of each button. The keys are free in napari's Labels layers and in its
# viewer; that of "remove" acts at once.
_BUTTONS = (
    (
        "add",
        "A",
        "Drag boxes around cells that are missed or wrong: their outlines are proposed, and C adds "
        "them. An outline takes the place of the wrong cells under it (A)",
    ),
    ("remove", "", "Each click removes a false cell (R: the cell under the pointer)"),
    ("split", "S", "Draw a line across a cell to split it in two (S)"),
    ("merge", "J", "Drag from one cell into another to join them (J)"),
    ("nothing here", "H", "Draw a loop around a place without cells: it is background (H)"),
)


class GestureRow(QWidget):
    """Buttons that turn the next clicks and drags on the labels into corrections.

    One is on at most; Esc, a second click, or another tool of the layer ends it.

    Parameters
    ----------
    controller
        Knows the viewer, the corrections and the image.
    chosen_labels
        Returns the labels to correct, or raises `ValueError` with a sentence for the user.
    """

    said = Signal(str)
    warned = Signal(str)

    def __init__(self, controller: Controller, chosen_labels: Callable[[], Labels]) -> None:
        super().__init__()
        self._controller, self._labels = controller, chosen_labels
        self._tool: Tool | None = None
        self.buttons: dict[str, QPushButton] = {}
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for text, _, tip in _BUTTONS:
            made = self.buttons[text] = button(text, tip, partial(self._toggle, text))
            made.setCheckable(True)
            layout.addWidget(made)

    @property
    def keys(self) -> Mapping[str, Callable[[], None]]:
        """What keys do while the labels are active."""
        toggles = {key: self.buttons[text].click for text, key, _ in _BUTTONS if key}
        return {"R": self._remove_here, **toggles}

    def confirm(self) -> str:
        """Add the outlines of the boxes as correct; returns a sentence, empty if there are none.

        Raises
        ------
        ValueError
            If other cells cover the place of the last one.
        """
        return "" if self._tool is None else self._tool.confirm()

    def close_down(self) -> None:
        """End the gesture that is on; safe to call twice."""
        if self._tool is not None:
            self._tool.end()

    def _toggle(self, text: str) -> None:
        wanted = self.buttons[text].isChecked()
        self.close_down()
        self.buttons[text].setChecked(wanted)
        if wanted:
            self._say(lambda: self._begin(text))
            self.buttons[text].setChecked(self._tool is not None)

    def _begin(self, text: str) -> str:
        # Their packages take a second to import.
        from napari_unet.plugin.edits import add_tool, gesture_tools
        from napari_unet.plugin.edits.gestures import Hand

        labels, viewer = self._labels(), self._controller.viewer
        hand = Hand(viewer, self._controller.corrections, labels)
        tell = self.said.emit, self.warned.emit, self._on_ended
        if text == "add":
            self._tool = add_tool.AddTool(hand, *tell, self._image_of(labels))
        else:
            self._tool = {
                "remove": gesture_tools.RemoveTool,
                "split": gesture_tools.SplitTool,
                "merge": gesture_tools.MergeTool,
                "nothing here": gesture_tools.ClearTool,
            }[text](hand, *tell)
        return self._tool.hint

    def _image_of(self, labels: Labels) -> Image:
        """Return the image that labels were made from, else the topmost one that they fit."""
        found = self._controller.results.source_of(labels)
        if found is not None:
            return found
        for layer in reversed(self._controller.viewer.layers):
            if isinstance(layer, Image) and fits(labels, layer):
                return layer
        raise ValueError(
            f"no image has the size of the labels '{labels.name}', so no outline can be found; "
            "open the image that they belong to"
        )

    def _remove_here(self) -> None:
        from napari_unet.plugin.edits.gestures import remove_under_pointer

        viewer, corrections = self._controller.viewer, self._controller.corrections
        self._say(lambda: remove_under_pointer(viewer, corrections, self._labels()))

    def _on_ended(self) -> None:
        self._tool = None
        for made in self.buttons.values():
            made.setChecked(False)

    def _say(self, action: Callable[[], str]) -> None:
        try:
            self.said.emit(action())
        except (ValueError, OSError) as error:
            self.warned.emit(in_dock(error))
