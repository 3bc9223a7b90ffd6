"""A hand on the canvas: mouse and key events as a person's, through Qt."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest
from napari.layers import Labels
from qtpy.QtCore import QEvent, QPointF, Qt
from qtpy.QtGui import QMouseEvent
from qtpy.QtTest import QTest
from qtpy.QtWidgets import QApplication

from napari_unet.corrections.annotations import Annotated, Correction
from napari_unet.models.store import ModelStore
from napari_unet.plugin.dock.widget import SegmentWidget
from napari_unet.service.segmentation import SegmentationService

Point = tuple[float, float]


@pytest.fixture
def docked(
    make_napari_viewer: Callable[..., object],
    store: ModelStore,
    add_model: Callable[..., object],
) -> Iterator[Callable[..., SegmentWidget]]:
    """Docks the widget, with a model `tiny` to which cells are what is bright, in a viewer."""
    add_model("tiny", normalisation={"low": 0.0, "high": 100.0})
    widgets = []

    def dock(**options: object) -> SegmentWidget:
        viewer = make_napari_viewer(show=True, **options)
        widget = SegmentWidget(viewer, SegmentationService(store))
        viewer.window.add_dock_widget(widget, name="U-Net", area="right")
        widgets.append(widget)
        return widget

    yield dock
    for widget in widgets:
        widget.cleanup()


@pytest.fixture
def discs() -> Callable[..., np.ndarray]:
    """Bright discs on a dark ground, (size, size) uint8: `discs((y, x), ...)`."""

    def draw(*centres: tuple[int, int], size: int = 96, radius: int = 6) -> np.ndarray:
        y, x = np.mgrid[:size, :size]
        image = np.full((size, size), 20, np.uint8)
        for cy, cx in centres:
            image[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = 220
        return image

    return draw


@pytest.fixture
def image(discs: Callable[..., np.ndarray]) -> np.ndarray:
    return discs((20, 20), (30, 70), (70, 30))


@pytest.fixture
def segmented(
    docked: Callable[..., SegmentWidget],
    settle: Callable[[SegmentWidget], None],
    image: np.ndarray,
) -> tuple[SegmentWidget, Labels]:
    """The dock after a click on Segment, and its result: three cells."""
    widget = docked()
    widget.viewer.add_image(image, name="cells")
    widget.segment_button.click()
    settle(widget)
    return widget, widget.labels.value


class Hand:
    """Moves the mouse over the canvas of a viewer in 2D."""

    def __init__(self, viewer: object) -> None:
        self.viewer = viewer
        self.canvas = next(
            w for w in QApplication.allWidgets() if type(w).__name__ == "CanvasBackendDesktop"
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
def outlined() -> Callable[[SegmentWidget], Labels]:
    """Makes two cells of `image` a little larger, with a brush; returns their layer."""

    def outline(widget: SegmentWidget) -> Labels:
        layer = widget.labels.value
        layer.mode, layer.brush_size = "paint", 15
        for y, x in ((20, 20), (30, 70)):
            layer.selected_label = int(layer.data[y, x])
            Hand(widget.viewer).drag([(y, x), (y, x + 1)])
        return layer

    return outline


@pytest.fixture
def taught(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Correction, ...]]:
    """Clicks Fine-tune, and returns the corrections that the service was given, which fails."""

    def click(
        widget: SegmentWidget, settle: Callable[[SegmentWidget], None]
    ) -> tuple[Correction, ...]:
        given = []

        def fail(annotated: Sequence[Annotated], *args: object, **options: object) -> None:
            given.extend(annotated)
            raise ValueError("this is a test")

        with monkeypatch.context() as patch:
            patch.setattr(widget.controller.service, "finetune", fail)
            widget.finetune_button.click()
            settle(widget)
        assert "this is a test" in widget.status.text()
        return given[0].corrections

    return click


@pytest.fixture
def settle(qtbot: object) -> Callable[[SegmentWidget], None]:
    """Waits until no job runs and everything painted was counted."""

    def wait(widget: SegmentWidget, timeout_s: float = 60.0) -> None:
        qtbot.wait(50)

        def idle() -> bool:
            return not (widget.is_busy or widget.is_counting)

        qtbot.waitUntil(idle, timeout=int(1000 * timeout_s))

    return wait


@pytest.fixture
def docked_by_napari(
    make_napari_viewer: Callable[..., object], add_model: Callable[..., object]
) -> Iterator[SegmentWidget]:
    """The dock as napari opens it: what it is given is a proxy of the viewer."""
    add_model("tiny", normalisation={"low": 0.0, "high": 100.0})
    viewer = make_napari_viewer(show=True)
    _, widget = viewer.window.add_plugin_dock_widget("napari-unet")
    yield widget
    widget.cleanup()


@pytest.fixture(autouse=True)
def any_number_of_steps_will_do(monkeypatch):
    """A network of these tests learns in the second that it is given, on a slow computer too."""
    monkeypatch.setattr("napari_unet.learning.validation.ENOUGH_STEPS", 1)
