"""The row of the dock for how results are shown."""

from __future__ import annotations

from napari.layers import Labels
from qtpy.QtWidgets import QCheckBox, QHBoxLayout, QLabel, QRadioButton, QWidget

from napari_unet.plugin.dock.steps import allow
from napari_unet.plugin.results.changes import LEGEND, Changes
from napari_unet.plugin.results.outlines import Outlines


class ViewRow(QWidget):
    """The choice between outlines and filled cells, and the switch for what changed.

    Parameters
    ----------
    outlines, changes
        Of the viewer.
    """

    def __init__(self, outlines: Outlines, changes: Changes) -> None:
        super().__init__()
        self.outlined, self.filled = QRadioButton("outlines"), QRadioButton("filled")
        self.outlined.setToolTip("Show the outline of each cell, and the image inside it")
        self.filled.setToolTip("Show each cell as an area of one colour")
        self.outlined.setChecked(True)
        self.changed = QCheckBox("changes")
        self.changed.setToolTip(LEGEND)
        self._changes = changes
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (QLabel("Show cells as"), self.outlined, self.filled):
            layout.addWidget(part)
        layout.addStretch(1)
        layout.addWidget(self.changed)
        self.changed.toggled.connect(lambda on: changes.enable(on=on))
        # A click, and not what the program sets, is a choice.
        self.outlined.clicked.connect(lambda: outlines.choose(True))
        self.filled.clicked.connect(lambda: outlines.choose(False))
        outlines.shown.connect(self._on_shown)

    def look(self, labels: Labels | None) -> None:
        """Grey out the switch where there is nothing to show, unless it is on."""
        allow(self.changed, "" if self.changed.isChecked() else self._changes.why_not(labels))

    def _on_shown(self, outlined: bool) -> None:
        (self.outlined if outlined else self.filled).setChecked(True)
