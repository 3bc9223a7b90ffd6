"""The row of the dock for how results are shown."""

from __future__ import annotations

from qtpy.QtWidgets import QHBoxLayout, QLabel, QRadioButton, QWidget

from napari_unet.plugin.results.outlines import Outlines


class ViewRow(QWidget):
    """The choice between outlines and filled cells.

    Parameters
    ----------
    outlines
        Of the viewer.
    """

    def __init__(self, outlines: Outlines) -> None:
        super().__init__()
        self.outlined, self.filled = QRadioButton("outlines"), QRadioButton("filled")
        self.outlined.setToolTip("Show the outline of each cell, and the image inside it")
        self.filled.setToolTip("Show each cell as an area of one colour")
        self.outlined.setChecked(True)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (QLabel("Show cells as"), self.outlined, self.filled):
            layout.addWidget(part)
        layout.addStretch(1)
        # A click, and not what the program sets, is a choice.
        self.outlined.clicked.connect(lambda: outlines.choose(True))
        self.filled.clicked.connect(lambda: outlines.choose(False))
        outlines.shown.connect(self._on_shown)

    def _on_shown(self, outlined: bool) -> None:
        (self.outlined if outlined else self.filled).setChecked(True)
