"""The dock in a viewer, with a small model and an image of three cells."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from napari import Viewer
from napari._qt.qt_main_window import _QtMainWindow
from napari._qt.qt_viewer import QtViewer
from napari._qt.widgets.qt_viewer_dock_widget import QtViewerDockWidget
from napari.layers import Labels
from napari.settings import get_settings
from qtpy.QtCore import QEvent, QSize
from qtpy.QtWidgets import QApplication

import hands
from hands import Hand
from napari_unet.corrections.annotations import Annotated, Correction
from napari_unet.models.store import ModelStore
from napari_unet.plugin.dock.widget import SegmentWidget
from napari_unet.plugin.viewer import garbage
from napari_unet.service.segmentation import SegmentationService

_begun: list[str] = []
# Modules are imported by the first test; what later ones leave behind grows slowly.
_LEAVE_OUT_EVERY = 15


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave what is there out of garbage collections, from the second test on.

    Each layer that is removed is followed by a collection. This makes tests a fifth shorter.
    """
    _begun.append(item.nodeid)
    if len(_begun) % _LEAVE_OUT_EVERY == 2:
        gc.collect()
        gc.freeze()


# Fixtures that the stories use as well.
hand, settle = hands.hand, hands.settle


class KeptViewer:
    """A viewer that tests share, since opening one takes longer than most of them."""

    def __init__(self) -> None:
        self._viewer: Viewer | None = None
        self._size = QSize()

    def empty(self) -> Viewer:
        """The viewer without layers and docks, as a new one has them; a new one where it broke."""
        if self._viewer is None:
            self._viewer = Viewer(show=True, show_welcome_screen=False)
            # napari's own fixture holds every viewer that is left to be a leak.
            QtViewer._instances.clear()
            window = self._viewer.window._qt_window
            # A canvas that glides to its new size is not where a hand expects it.
            window.setAnimated(False)
            # It sees all events of Qt, in Python, for a menu bar that hides: 3 % of these tests.
            QApplication.instance().removeEventFilter(window)
            self._size = window.size()
        return self._viewer

    def clear(self) -> None:
        """Make it empty again; close it where that fails."""
        viewer = self._viewer
        if viewer is None:
            return
        try:
            viewer.window.remove_dock_widget("all")
            viewer.dims.ndisplay = 2
            viewer.layers.clear()
            viewer.dims.reset()
            # napari 0.9 moved the camera.
            getattr(viewer, "scene", viewer).camera.reset()
            viewer.theme, viewer.title = "dark", "napari"
            viewer.window._qt_window.resize(self._size)
            # What was removed is deleted now, and not while the next test runs.
            QApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
            QApplication.processEvents()
        except Exception:  # napari is left half done by images that it cannot show
            self.close()

    def close(self) -> None:
        """Close it; the next test has a new one."""
        viewer, self._viewer = self._viewer, None
        if viewer is not None:
            viewer.close()


@pytest.fixture(scope="session")
def kept_viewer(qapp: QApplication) -> Iterator[KeptViewer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("napari._qt.threads.status_checker.StatusChecker.start", lambda _: None)
        patch.setattr(_QtMainWindow, "_save_current_window_settings", lambda _: None)
        # Where a dock lies is written to napari's settings each time that one opens.
        patch.setattr(QtViewerDockWidget, "_update_default_dock_area", lambda *_: None)
        kept = KeptViewer()
        yield kept
        kept.close()


@pytest.fixture
def viewer(kept_viewer: KeptViewer, request: pytest.FixtureRequest) -> Iterator[Viewer]:
    """A viewer without layers and docks."""
    get_settings().reset()
    yield kept_viewer.empty()
    kept_viewer.clear()
    if request.node.rep_call.failed:
        kept_viewer.close()
    get_settings().reset()
    gc.collect(1)


@pytest.fixture
def docked(
    viewer: Viewer,
    kept_viewer: KeptViewer,
    store: ModelStore,
    add_model: Callable[..., object],
) -> Iterator[Callable[[], SegmentWidget]]:
    """Docks the widget, with a model `tiny` to which cells are what is bright, in a viewer.

    A second call is as after a restart: the viewer is empty again.
    """
    add_model("tiny", normalisation={"low": 0.0, "high": 100.0})
    widgets = []

    def dock() -> SegmentWidget:
        if widgets:
            kept_viewer.clear()
        widget = SegmentWidget(viewer, SegmentationService(store))
        viewer.window.add_dock_widget(widget, name="U-Net", area="right")
        QApplication.processEvents()
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
def docked_by_napari(viewer: Viewer, add_model: Callable[..., object]) -> Iterator[SegmentWidget]:
    """The dock as napari opens it: what it is given is a proxy of the viewer."""
    add_model("tiny", normalisation={"low": 0.0, "high": 100.0})
    _, widget = viewer.window.add_plugin_dock_widget("napari-unet")
    yield widget
    widget.cleanup()


@pytest.fixture(autouse=True)
def any_number_of_steps_will_do(monkeypatch):
    """A network of these tests learns in the second that it is given, on a slow computer too."""
    monkeypatch.setattr("napari_unet.learning.validation.ENOUGH_STEPS", 1)


@pytest.fixture(autouse=True)
def garbage_is_collected_as_ever(monkeypatch):
    """What tests leave behind is collected, and what `pytest_runtest_setup` left out is not."""
    monkeypatch.setattr(garbage, "gc", SimpleNamespace(freeze=lambda: None, unfreeze=lambda: None))


@pytest.fixture(autouse=True)
def preferences_of_nobody(tmp_path, monkeypatch):
    """No test reads or writes the preferences of whoever runs it; returns the file of a test's."""
    from napari import settings

    path = tmp_path / "preferences.json"
    monkeypatch.setenv("NAPARI_UNET_PREFERENCES", str(path))
    monkeypatch.setattr(settings, "_CFG_PATH", str(tmp_path / "settings.yaml"), raising=False)
    monkeypatch.setattr(settings, "_PLUGIN_SETTINGS", {}, raising=False)
    return path
