"""The scores on held-out images as a curve: one point for each model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPalette, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from napari_unet.projects.manifest import Score

# Seen on dark and on light themes.
_COLOUR = "#2ec4b6"
# Space beside the points for their numbers, below and above; radius of a point. In pixels.
_SIDE, _BELOW, _ABOVE, _RADIUS = 22, 16, 18, 3.5
# The least range of AP that the height stands for, so that noise does not look like a gain.
_LEAST_SPAN = 0.1


class ScoreCurve(QWidget):
    """AP on the held-out images against the number of corrected cells."""

    def __init__(self) -> None:
        super().__init__()
        self._points: tuple[Score, ...] = ()
        self._refused: Collection[str] = ()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(
            "How each model does on the held-out images: AP, from 0 to 1, above the number of "
            "cells that were corrected until then. A ring: the model was refused, and is not used"
        )
        self.hide()

    def sizeHint(self) -> QSize:
        """Preferred size."""
        return QSize(200, 84)

    def show_points(self, points: Sequence[Score], refused: Collection[str] = ()) -> None:
        """Draw these points, refused models as rings; hidden where there is no line to draw."""
        self._points, self._refused = tuple(points), refused
        self.setVisible(len(points) > 1)
        self.update()

    def places(self) -> list[QPointF]:
        """Where the points are, in pixels of the widget."""
        scores = [point.ap for point in self._points]
        cells = [point.n_corrected for point in self._points]
        if any(after <= before for before, after in pairwise(cells)):
            # Two models were taught as many cells: one after the other, then.
            cells = list(range(len(cells)))
        span = max(max(scores) - min(scores), _LEAST_SPAN)
        low = (max(scores) + min(scores) - span) / 2
        width = self.width() - 2 * _SIDE
        height = self.height() - _BELOW - _ABOVE - 2 * _RADIUS
        return [
            QPointF(
                _SIDE + width * (cell - cells[0]) / (cells[-1] - cells[0]),
                _ABOVE + _RADIUS + height * (1 - (score - low) / span),
            )
            for cell, score in zip(cells, scores, strict=True)
        ]

    def paintEvent(self, event: QPaintEvent | None) -> None:
        """Draw the line, the AP above each point, and the number of cells below."""
        if len(self._points) < 2:
            return
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        places = self.places()
        painter.setPen(QPen(QColor(_COLOUR), 2))
        painter.drawPolyline(QPolygonF(places))
        for place, point in zip(places, self._points, strict=True):
            inside = QPalette.ColorRole.Window
            is_used = point.model not in self._refused
            painter.setBrush(QColor(_COLOUR) if is_used else self.palette().color(inside))
            painter.drawEllipse(place, _RADIUS, _RADIUS)
        painter.setPen(self.palette().color(QPalette.ColorRole.Text))
        free = -1.0
        for place, point in zip(places, self._points, strict=True):
            left = place.x() - _SIDE
            # Numbers that would cover those before are left out; the sentence has them all.
            if left < free and point is not self._points[-1]:
                continue
            above = QRectF(left, place.y() - _ABOVE - _RADIUS, 2 * _SIDE, _ABOVE)
            painter.drawText(above, Qt.AlignmentFlag.AlignCenter, f"{point.ap:.2f}")
            below = QRectF(left, self.height() - _BELOW, 2 * _SIDE, _BELOW)
            painter.drawText(below, Qt.AlignmentFlag.AlignCenter, str(point.n_corrected))
            free = left + 2 * _SIDE
        painter.end()
