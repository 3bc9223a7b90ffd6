"""A hand on the canvas: mouse and key events as a person's, through Qt.

`hand` and `settle` are fixtures: a conftest or a test takes them by `hand, settle = hands.hand,
hands.settle`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pytest
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication, QWidget

if TYPE_CHECKING:
    from napari_unet.plugin.dock.widget import SegmentWidget

Point = tuple[float, float]


class Hand:
    """Moves the mouse over the canvas of a viewer in 2D."""

    def __init__(self, viewer: object) -> None:
        self.viewer = viewer
        # A plugin is given a proxy that hides the window.
        window = getattr(viewer, "__wrapped__", viewer).window._qt_window
        self.canvas = next(
            w for w in window.findChildren(QWidget) if type(w).__name__ == "CanvasBackendDesktop"
        )

    def drag(self, points: Sequence[Point]) -> None:
        """Press the left button at the first world point (y, x), move on, let go at the last."""
        self._send(QEvent.Type.MouseMove, points[0], Qt.MouseButton.NoButton)
        self._send(QEvent.Type.MouseButtonPress, points[0], Qt.MouseButton.LeftButton)
        for start, stop in pairwise(points):
            for share in np.linspace(0, 1, 8)[1:]:
                at = tuple(a + share * (b - a) for a, b in zip(start, stop, strict=True))
                self._send(QEvent.Type.MouseMove, at, Qt.MouseButton.LeftButton)
        self._send(QEvent.Type.MouseButtonRelease, points[-1], Qt.MouseButton.LeftButton)

    def point(self, at: Point) -> None:
        """Move the mouse to a world point (y, x), no button pressed."""
        for _ in range(2):
            self._send(QEvent.Type.MouseMove, at, Qt.MouseButton.NoButton)

    def press(self, key: str, modifier: str = "NoModifier") -> None:
        """Press a key, the canvas having the focus."""
        held = getattr(Qt.KeyboardModifier, modifier)
        QTest.keyClick(self.canvas, getattr(Qt.Key, f"Key_{key}"), held)
        QApplication.processEvents()

    def _send(self, kind: QEvent.Type, at: Point, button: Qt.MouseButton) -> None:
        y, x = self._on_canvas(at)
        local = QPointF(x, y)
        moving = kind == QEvent.Type.MouseMove
        held = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseButtonRelease else button
        event = QMouseEvent(
            kind,
            local,
            QPointF(self.canvas.mapToGlobal(local.toPoint())),
            Qt.MouseButton.NoButton if moving else button,
            held,
            Qt.KeyboardModifier.NoModifier,
        )
        QApplication.sendEvent(self.canvas, event)
        QApplication.processEvents()

    def _on_canvas(self, at: Point) -> Point:
        # napari 0.9 moved the camera.
        camera = getattr(self.viewer, "scene", self.viewer).camera
        size = (self.canvas.height(), self.canvas.width())
        y, x = (
            (world - centre) * camera.zoom + length / 2
            for world, centre, length in zip(at, camera.center[-2:], size, strict=True)
        )
        return y, x


@pytest.fixture
def hand() -> type[Hand]:
    return Hand


@pytest.fixture
def settle(qtbot: object) -> Callable[[SegmentWidget], None]:
    """Waits until no job runs and everything painted was counted."""

    def wait(widget: SegmentWidget, timeout_s: float = 60.0) -> None:
        qtbot.wait(50)

        def idle() -> bool:
            return not (widget.is_busy or widget.is_counting)

        qtbot.waitUntil(idle, timeout=int(1000 * timeout_s))

    return wait
