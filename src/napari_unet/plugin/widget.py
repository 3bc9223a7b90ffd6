"""The dock widget: choose an image, Segment, paint, Fine-tune."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from magicgui.widgets import CheckBox, ComboBox, Container, FloatSlider, PushButton, SpinBox
from magicgui.widgets.bases import Widget
from napari.layers import Image, Labels, Layer
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)
from superqt import QCollapsible

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.plugin.controller import Controller, FinetuneIntent
from napari_unet.plugin.edit_tracker import EditCount
from napari_unet.plugin.layers import is_preview
from napari_unet.plugin.loss_curve import LossCurve
from napari_unet.service.jobs import Progress
from napari_unet.service.segmentation import SegmentationService

# A signal and the slot that it calls.
Connection = tuple[Any, Callable[..., Any]]

_BUDGETS = (("30 seconds", 30.0), ("1 minute", 60.0), ("2 minutes", 120.0), ("10 minutes", 600.0))
_HINT = (
    "Wrong somewhere? Take the brush of the layer controls and paint: a missed cell (press M "
    "before the next one), a better outline, or rub a false one out."
)
# The model file decides where the slider stands at this value.
_MODEL_DECIDES = 0.0


class SegmentWidget(QWidget):
    """Segment the cells of an image layer and teach the model what was painted.

    Parameters
    ----------
    napari_viewer
        The viewer that the widget is docked in.
    service
        Does the work; by default one with this user's models.
    """

    def __init__(self, napari_viewer: Viewer, service: SegmentationService | None = None) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.controller = Controller(napari_viewer, service or SegmentationService())
        self._recount = QTimer(self)
        self._recount.setInterval(300)
        self._recount.setSingleShot(True)
        self._recount.timeout.connect(self._count)
        self._docked = False
        self._build()
        self._connections: list[Connection] = [
            (napari_viewer.layers.events.inserted, self._refresh_layers),
            (napari_viewer.layers.events.removed, self._refresh_layers),
            (napari_viewer.layers.selection.events.active, self._follow_active),
            (self.controller.started, self._on_started),
            (self.controller.progressed, self._on_progress),
            (self.controller.ended, self._on_ended),
            (self.controller.edited, self._on_edited),
            (self.controller.counted, self._on_counted),
            (self.controller.computed_on, self._on_computed),
            (self.controller.models_changed, self._refresh_models),
        ]
        for signal, slot in self._connections:
            signal.connect(slot)
        # A slot of this object would no longer be called while it is being destroyed.
        self.destroyed.connect(partial(_release, self._connections, self.controller))
        self._refresh_models()
        self._refresh_layers()
        self._follow_active()

    @property
    def is_busy(self) -> bool:
        """Whether a job runs, or is about to."""
        return self.controller.is_busy

    @property
    def is_counting(self) -> bool:
        """Whether what was painted is yet to be counted."""
        return self._recount.isActive() or self.controller.is_counting

    def cleanup(self) -> None:
        """Stop jobs and let go of the viewer; safe to call twice."""
        _release(self._connections, self.controller)

    def changeEvent(self, event: QEvent | None) -> None:
        """Stop jobs when napari takes the widget out of its dock, which is how a dock is closed."""
        if event is not None and event.type() == QEvent.Type.ParentChange:
            if self._docked and self.parent() is None:
                self.cleanup()
            self._docked = self.parent() is not None
        super().changeEvent(event)

    def closeEvent(self, event: Any) -> None:
        """Stop jobs when the dock is closed for good."""
        self.cleanup()
        super().closeEvent(event)

    def _build(self) -> None:
        self.image = ComboBox(label="Image", choices=self._layers(Image), nullable=True)
        self.model = ComboBox(label="Model", choices=self._models)
        self.labels = ComboBox(label="Corrections in", choices=self._layers(Labels), nullable=True)
        self.labels.changed.connect(lambda: self._recount.start())
        self.budget = ComboBox(label="Learn for", choices=_BUDGETS, value=60.0)
        self.segment_button = _button("Segment", "Find the cells of the image", self._segment)
        self.finetune_button = _button(
            "Fine-tune", "Teach the model what was painted", self._finetune
        )
        self.cancel_button = _button("Cancel", "Stop what is running", self.controller.cancel)
        self.hint, self.count, self.status = QLabel(_HINT), QLabel(), QLabel()
        self.compute = QLabel()
        self.compute.setToolTip("The device that the last job ran on, and its number format")
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        for text in (self.hint, self.count, self.status, self.compute):
            text.setWordWrap(True)
        self.progress = QProgressBar()
        self.curve = LossCurve()
        self._running = QWidget()
        row = QHBoxLayout(self._running)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self.progress, 1)
        row.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        for part in (
            Container(widgets=[self.image, self.model]).native,
            self.segment_button,
            self.hint,
            Container(widgets=[self.labels]).native,
            self.count,
            Container(widgets=[self.budget]).native,
            self.finetune_button,
            self._running,
            self.curve,
            self.status,
            self.compute,
            self._build_advanced(),
        ):
            layout.addWidget(part)
        layout.addStretch(1)
        self._running.hide()
        self.curve.hide()

    def _build_advanced(self) -> QWidget:
        self.all_planes = CheckBox(text="Segment all planes of a stack")
        self.threshold = FloatSlider(
            label="Cell threshold",
            min=0.0,
            max=0.95,
            step=0.05,
            value=_MODEL_DECIDES,
            tooltip="Score above which a pixel belongs to a cell; 0: as the model says",
        )
        self.min_size = SpinBox(
            label="Smallest cell (px)",
            min=0,
            max=100_000,
            value=0,
            tooltip="Cells of fewer pixels are dropped; 0: as the model says",
        )
        self.device = ComboBox(label="Compute on", choices=["auto", "cpu", "cuda", "mps"])
        self.precision = ComboBox(label="Precision", choices=["auto", "float32", "bfloat16"])
        self.ring = SpinBox(
            label="Ring (px)",
            min=0,
            max=100,
            value=8,
            tooltip="Around a corrected cell, this far counts as looked at",
        )
        self.seed = SpinBox(label="Seed", min=0, max=2**31 - 1, value=0)
        self.preview_button = PushButton(
            text="Show the augmentation", tooltip="Add layers with what fine-tuning draws"
        )
        self.preview_button.clicked.connect(lambda: self._try(self._preview))
        self.revert_button = PushButton(
            text="Go back to the earlier model", tooltip="Undo the last fine-tune of this model"
        )
        self.revert_button.clicked.connect(lambda: self._try(self._revert))
        fields: Container[Widget] = Container(
            widgets=[
                self.all_planes,
                self.threshold,
                self.min_size,
                self.device,
                self.precision,
                self.ring,
                self.seed,
                self.preview_button,
                self.revert_button,
            ]
        )
        self.advanced = QCollapsible("Advanced")
        self.advanced.addWidget(fields.native)
        return self.advanced

    # What the user does

    def _segment(self) -> None:
        self._try(
            lambda: self.controller.segment(
                self._chosen_image(),
                self._chosen_model(),
                PredictConfig(
                    device=self.device.value,
                    precision=self.precision.value,
                    threshold=self.threshold.value or None,
                    min_size_px=self.min_size.value or None,
                ),
                all_planes=self.all_planes.value,
            )
        )

    def _finetune(self) -> None:
        self._try(
            lambda: self.controller.finetune(
                self._chosen_image(), self._chosen_labels(), self._chosen_model(), self._intent()
            )
        )

    def _preview(self) -> None:
        self.controller.preview_augmentation(
            self._chosen_image(), self._chosen_labels(), self._chosen_model(), self._intent()
        )

    def _revert(self) -> None:
        self.controller.revert(self._chosen_model())

    def _intent(self) -> FinetuneIntent:
        return FinetuneIntent(
            FinetuneConfig(
                seconds=self.budget.value,
                device=self.device.value,
                precision=self.precision.value,
                seed=self.seed.value,
            ),
            self.ring.value,
        )

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (ValueError, OSError) as error:
            self._on_ended(str(error), False)

    def _chosen_image(self) -> Image:
        if self.image.value is None:
            raise ValueError("there is no image; open one (File ▸ Open, or drop it here)")
        return self.image.value

    def _chosen_labels(self) -> Labels:
        if self.labels.value is None:
            raise ValueError("there are no labels to learn from; click Segment, then paint")
        return self.labels.value

    def _chosen_model(self) -> str:
        if self.model.value is None:
            raise ValueError("there is no model; add one with: napari-unet models import FILE")
        return str(self.model.value)

    # What the controller tells

    def _on_started(self, what: str) -> None:
        self.status.setText(f"{what} …")
        self.progress.setRange(0, 0)
        self.curve.clear()
        self.curve.setVisible(what == "Fine-tuning")
        self._set_running(True)

    def _on_progress(self, progress: Progress) -> None:
        self.progress.setRange(0, 100)
        self.progress.setValue(round(100 * progress.fraction))
        self.status.setText(progress.message)
        if progress.loss is not None:
            self.curve.add(progress.fraction, progress.loss)

    def _on_ended(self, message: str, well: bool) -> None:
        self.status.setText(message if well else f"⚠ {message}")
        self._set_running(self.controller.is_busy)
        self._recount.start()

    def _on_edited(self, labels: Labels) -> None:
        if labels is self.labels.value:
            self._recount.start()

    def _on_counted(self, labels: Labels, text: str) -> None:
        if labels is self.labels.value:
            self.count.setText(text)

    def _on_computed(self, where: str) -> None:
        self.compute.setText(f"Computed on {where}")

    def _set_running(self, running: bool) -> None:
        self._running.setVisible(running)
        for button in (
            self.segment_button,
            self.finetune_button,
            self.preview_button.native,
            self.revert_button.native,
        ):
            button.setDisabled(running)

    # What the viewer tells

    def _layers(self, kind: type[Layer]) -> Callable[[Any], list[tuple[str, Any]]]:
        return lambda widget: [
            (layer.name, layer)
            for layer in self.viewer.layers[::-1]
            if isinstance(layer, kind) and not is_preview(layer)
        ]

    def _models(self, widget: Any) -> list[str]:
        store = self.controller.service.store
        return [
            choice
            for name in store.names()
            for choice in (name, *(v.reference for v in store.versions(name)[::-1]))
        ]

    def _refresh_layers(self) -> None:
        for box in (self.image, self.labels):
            box.reset_choices()

    def _refresh_models(self, name: str = "") -> None:
        self.model.reset_choices()
        if name:
            self.model.value = name

    def _follow_active(self) -> None:
        layer = self.viewer.layers.selection.active
        if layer is None or is_preview(layer):
            return
        if isinstance(layer, Image):
            self.image.value = layer
            result = self.controller.latest_result(layer)
            chosen = self.labels.value
            if result is not None or (chosen and self.controller.source_of(chosen)):
                self.labels.value = result
        elif isinstance(layer, Labels):
            self.labels.value = layer
            source = self.controller.source_of(layer)
            if source is not None:
                self.image.value = source
        self._recount.start()

    def _count(self) -> None:
        if self.labels.value is None:
            self.count.setText(str(EditCount()))
        else:
            self.controller.count(self.labels.value)


def _release(connections: list[Connection], controller: Controller, *_: Any) -> None:
    for signal, slot in connections:
        signal.disconnect(slot)
    connections.clear()
    controller.close()


def _button(text: str, tip: str, slot: Callable[[], None]) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tip)
    button.clicked.connect(slot)
    return button
