"""The row of the dock that finds the cells of the last result again, with two sliders."""

from __future__ import annotations

import math
from collections.abc import Callable

from napari.layers import Image
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSlider, QWidget

from napari_unet.plugin.dock.advanced import Advanced
from napari_unet.plugin.dock.steps import allow
from napari_unet.plugin.dock.widgets import button
from napari_unet.plugin.jobs.redrawing import Redrawing

# Thresholds at the two ends of the slider, in hundredths. A lower threshold finds more cells.
_FEWER, _MORE = 95, 5
# The slider of the smallest cell has so many steps. At its end a cell must have this many times the
# pixels that the model asks for, or those of a median cell, whichever is more.
_STEPS, _TIMES = 100, 4


class DecodeRow(QWidget):
    """Two sliders, fewer or more cells and the smallest cell, and a button that sets them back.

    The settings themselves are those of `Advanced`: what the sliders are set to is used by the next
    Segment and Fine-tune, too. They are kept for each model while the dock is open.

    Parameters
    ----------
    redrawing
        Shows the cells.
    advanced
        Has the settings.
    image
        Returns the image that is chosen in the dock.
    """

    def __init__(
        self, redrawing: Redrawing, advanced: Advanced, image: Callable[[], Image | None]
    ) -> None:
        super().__init__()
        self._redrawing, self._advanced, self._image = redrawing, advanced, image
        self._model = ""
        # Threshold and smallest cell that were set with the sliders, by the name of the model.
        self._chosen: dict[str, tuple[float, float]] = {}
        self._largest_px = 1
        self.cells = _slider(
            _FEWER - _MORE,
            "Fewer or more cells: the score above which a pixel belongs to a cell. What you "
            "corrected stays as it is",
        )
        self.smallest = _slider(_STEPS, "Smaller cells are dropped, but not those you corrected")
        self._at_least = QLabel()
        self.reset = button("Reset", "Find cells as the model itself does", self._reset)
        self.parts = (self.cells, self.smallest, self.reset)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        fewer, more = QLabel("Fewer"), QLabel("more cells")
        for part in (fewer, self.cells, more, self.smallest, self._at_least, self.reset):
            layout.addWidget(part, int(isinstance(part, QSlider)))
        self.cells.valueChanged.connect(lambda _: self._on_cells())
        self.smallest.valueChanged.connect(lambda _: self._on_smallest())
        self.look()

    def look(self, busy: str = "") -> None:
        """Show how the cells were found; grey while something runs, or where it cannot be changed.

        Parameters
        ----------
        busy
            Why nothing can be changed now; empty if it can.
        """
        image = self._image()
        why_not = self._redrawing.why_not(image)
        self.setVisible(self._redrawing.has_result(image))
        for part in self.parts:
            allow(part, busy or why_not)
        if self._redrawing.defaults is not None:
            self._show(*self._redrawing.defaults)

    def choose(self, model: str) -> None:
        """Take the settings that were made with the sliders for a model."""
        if model == self._model:
            return
        if self._model in self._chosen:
            self._remember()
        if self._model in self._chosen or model in self._chosen:
            advanced = self._advanced
            chosen = self._chosen.get(model, (0.0, 0.0))
            advanced.threshold.value, advanced.min_size.value = chosen
        self._model = model

    def _show(self, threshold: float, smallest_px: int) -> None:
        """Set the sliders to the settings in use; given are those of the model."""
        diameter = self._redrawing.diameter_px
        self._largest_px = max(_TIMES * smallest_px, round(math.pi / 4 * diameter**2), 1)
        threshold = float(self._advanced.threshold.value) or threshold
        smallest_px = int(self._advanced.min_size.value) or smallest_px
        share = min(smallest_px / self._largest_px, 1.0)
        blocked = [QSignalBlocker(self.cells), QSignalBlocker(self.smallest)]
        self.cells.setValue(_FEWER - round(100 * threshold))
        self.smallest.setValue(round(_STEPS * math.sqrt(share)))
        for blocker in blocked:
            blocker.unblock()
        self._at_least.setText(f"≥ {smallest_px} px")

    def _on_cells(self) -> None:
        self._advanced.threshold.value = (_FEWER - self.cells.value()) / 100
        self._draw()

    def _on_smallest(self) -> None:
        pixels = max(1, round(self._largest_px * (self.smallest.value() / _STEPS) ** 2))
        self._advanced.min_size.value = pixels
        self._at_least.setText(f"≥ {pixels} px")
        self._draw()

    def _reset(self) -> None:
        self._advanced.threshold.value = self._advanced.min_size.value = 0
        self.look()
        self._draw()

    def _draw(self) -> None:
        self._remember()
        self._redrawing.draw(self._advanced.predict_config())

    def _remember(self) -> None:
        advanced = self._advanced
        self._chosen[self._model] = advanced.threshold.value, advanced.min_size.value


def _slider(steps: int, tip: str) -> QSlider:
    made = QSlider(Qt.Orientation.Horizontal)
    made.setRange(0, steps)
    made.setMinimumWidth(30)
    made.setToolTip(tip)
    return made
