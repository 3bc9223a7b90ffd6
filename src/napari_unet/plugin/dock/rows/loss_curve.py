"""A small live curve of the training loss."""

from __future__ import annotations

import math

from qtpy.QtCore import QPointF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

# Weight of the newest value in the running mean that is drawn.
_SMOOTHING = 0.04
# A longer curve is thinned, so that drawing stays quick.
_MOST_POINTS = 1000
# Seen on dark and on light themes.
_COLOUR = "#ff9f1c"


class LossCurve(QWidget):
    """Running mean of the loss against the share of the budget, on a logarithmic scale."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.points: list[tuple[float, float]] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip("Error on your corrections while the model learns; lower is better")

    def sizeHint(self) -> QSize:
        """Preferred size."""
        return QSize(200, 44)

    def clear(self) -> None:
        """Begin a new curve."""
        self.points = []
        self.update()

    def add(self, fraction: float, loss: float) -> None:
        """Add the loss of one step."""
        before = self.points[-1][1] if self.points else loss
        self.points.append((fraction, before + _SMOOTHING * (loss - before)))
        if len(self.points) > _MOST_POINTS:
            del self.points[1::2]
        self.update()

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the curve and its last value."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if len(self.points) > 1:
            logs = [math.log(max(loss, 1e-6)) for _, loss in self.points]
            low, span = min(logs), max(max(logs) - min(logs), 0.1)
            width, height = self.width() - 2, self.height() - 4
            line = [
                QPointF(1 + width * fraction, 2 + height * (1 - (log - low) / span))
                for (fraction, _), log in zip(self.points, logs, strict=True)
            ]
            painter.setPen(QPen(QColor(_COLOUR), 2))
            # PySide6 ends with a segmentation fault where it is given an iterator.
            painter.drawPolyline(QPolygonF(line))
        painter.setPen(self.palette().color(QPalette.ColorRole.Text))
        text = f"loss {self.points[-1][1]:.3f}" if self.points else "loss"
        painter.drawText(
            self.rect().adjusted(0, 2, -4, 0),
            Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignTop,
            text,
        )
        painter.end()
