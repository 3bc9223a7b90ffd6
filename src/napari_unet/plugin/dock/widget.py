"""The dock widget: choose an image, Segment, paint, Fine-tune."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox, Container
from napari.layers import Image, Labels
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, Qt, QTimer
from qtpy.QtWidgets import QLabel, QProgressBar, QVBoxLayout, QWidget

from napari_unet.core.checks import in_dock
from napari_unet.jobs import Progress
from napari_unet.plugin.dock.advanced import Advanced
from napari_unet.plugin.dock.corrections_panel import CorrectingPanel
from napari_unet.plugin.dock.draft_row import DraftRow
from napari_unet.plugin.dock.layer_choice import LayerBoxes, models_of
from napari_unet.plugin.dock.look_row import LookRow
from napari_unet.plugin.dock.loss_curve import LossCurve
from napari_unet.plugin.dock.measure_panel import MeasureRow
from napari_unet.plugin.dock.more_time_row import MoreTimeRow
from napari_unet.plugin.dock.server_row import ServerRow
from napari_unet.plugin.dock.version_row import VersionRow
from napari_unet.plugin.dock.view_row import ViewRow
from napari_unet.plugin.dock.widgets import Column, button, row
from napari_unet.plugin.edits.tracker import EditCount
from napari_unet.plugin.jobs.announcing import Announcement
from napari_unet.plugin.jobs.controller import Controller
from napari_unet.plugin.results.label_files import LabelsInImages
from napari_unet.plugin.results.model_files import IMPORTED
from napari_unet.plugin.viewer.record import is_helper
from napari_unet.service.segmentation import SegmentationService

# A signal and the slot that it calls. None of Qt's: Qt lets go of them itself, and PySide6 fails to
# disconnect those of a deleted object.
Connection = tuple[Any, Callable[..., Any]]

_BUDGETS = (
    ("30 seconds", 30.0),
    ("1 minute", 60.0),
    ("2 minutes", 120.0),
    ("10 minutes", 600.0),
    ("until it stops improving", "auto"),
)
_HINT = (
    "Wrong somewhere? Take the brush of the layer controls and paint: a missed cell (press M "
    "before the next one), a better outline, or rub a false one out. Right? Point at a cell and "
    "press C: what is confirmed teaches, too."
)
_STOPPING = "Stopping; what was learnt so far is kept (Cancel again: drop it)"


class SegmentWidget(QWidget):
    """Segment the cells of an image layer and teach the model what was painted.

    Parameters
    ----------
    napari_viewer
        The viewer that the widget is docked in.
    service
        Does the work; by default one with this user's models.
    drafts
        Folder for strokes that no model has learnt yet; by default one beside the models.
    """

    def __init__(
        self,
        napari_viewer: Viewer,
        service: SegmentationService | None = None,
        drafts: Path | None = None,
    ) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.controller = Controller(napari_viewer, service or SegmentationService(), drafts)
        self._docked = False
        self._announcement = Announcement()
        self._layers = LayerBoxes(napari_viewer, self.controller.results)
        self._build()
        self._labels_in_images = LabelsInImages(napari_viewer)
        controller, corrections = self.controller, self.controller.corrections
        self._connections: list[Connection] = [
            (napari_viewer.layers.events.inserted, self._layers.refresh),
            (napari_viewer.layers.events.removed, self._on_removed),
            (napari_viewer.layers.selection.events.active, self._layers.follow),
            (controller.follower.started, self._on_started),
            (controller.follower.progressed, self._on_progress),
            (controller.follower.ended, self._on_ended),
            (controller.follower.started, self._announcement.begin),
            (controller.follower.ended, self._announcement.end),
            (controller.computed_on, self._on_computed),
            (controller.models_changed, self._refresh_models),
            (controller.diameter_guessed, self._on_diameter),
            (controller.looked, self.look.show_for),
            (corrections.counted, self._on_counted),
            (corrections.failed, self._warn),
            (controller.restoring.offered, self.draft.on_offered),
            (controller.restoring.restored, self._tell),
            (controller.restoring.failed, self._warn),
            (self._labels_in_images.failed, self._warn),
            (IMPORTED.came, self._on_imported),
        ]
        for signal, slot in self._connections:
            signal.connect(slot)
        ends = (
            self.correcting.close_down,
            self._announcement.end,
            self._labels_in_images.close,
            controller.close,
        )
        self._release = partial(_release, self._connections, ends)
        # A slot of this object would no longer be called while it is being destroyed.
        self.destroyed.connect(self._release)
        self._refresh_models()
        self._layers.refresh()
        self._layers.follow()
        self._on_image()
        self.server.look()

    @property
    def is_busy(self) -> bool:
        """Whether a job runs, or is about to."""
        return self.controller.follower.is_busy

    @property
    def is_counting(self) -> bool:
        """Whether what was painted is yet to be counted, or a draft to be read."""
        return self.controller.corrections.is_counting or self.controller.restoring.is_looking > 0

    def cleanup(self) -> None:
        """Stop jobs and let go of the viewer; safe to call twice."""
        self._release()

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
        self.image, self.labels = self._layers.image, self._layers.labels
        self.model = ComboBox(label="Model", choices=models_of(self.controller.service.store))
        self.budget = ComboBox(
            label="Learn for",
            choices=_BUDGETS,
            value=60.0,
            tooltip="Until it stops improving: at most 10 minutes",
        )
        self.segment_button = button("Segment", "Find the cells of the image", self._segment)
        self.finetune_button = button(
            "Fine-tune", "Teach the model what was painted and confirmed", self._finetune
        )
        self.cancel_button = button(
            "Cancel", "Stop what is running", self.controller.follower.cancel
        )
        self.draft = DraftRow(self.controller.restoring, lambda: self.image.value)
        self.server = ServerRow(self.controller)
        self.last = VersionRow(
            self.controller.versions,
            lambda: self._try(self.controller.use_refused),
            lambda: self._try(self._back),
        )
        self.look = LookRow(self._use_as_is)
        self.view = ViewRow(self.controller.outlines)
        self.correcting = CorrectingPanel(
            self.controller, self._chosen_image, self._layers.chosen_labels
        )
        self.measuring = MeasureRow(
            self.controller,
            self._chosen_image,
            self._layers.chosen_labels,
            lambda: (self._chosen_model(), self.advanced.predict_config()),
        )
        self.hint, self.status, self.compute = QLabel(_HINT), QLabel(), QLabel()
        self.compute.setToolTip("The device that the last job ran on, and its number format")
        self.status.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        for text in (self.hint, self.status, self.compute):
            text.setWordWrap(True)
        self.progress, self.curve, self.advanced = QProgressBar(), LossCurve(), Advanced()
        self._running = row(self.progress, self.cancel_button)
        self.more_time = MoreTimeRow(self.controller.follower.extend)
        column = Column()
        for part in (
            Container(widgets=[self.image, self.model]).native,
            self.draft,
            self.server,
            self.segment_button,
            self.view,
            self.hint,
            Container(widgets=[self.labels]).native,
            self.correcting,
            Container(widgets=[self.budget]).native,
            self.finetune_button,
            self._running,
            self.more_time,
            self.curve,
            self.status,
            self.look,
            self.last,
            self.compute,
            self.measuring,
            self.advanced,
        ):
            column.add(part)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(column)
        for hidden in (self._running, self.curve):
            hidden.hide()
        self._connect()

    def _connect(self) -> None:
        self.image.changed.connect(self._on_image)
        self.labels.changed.connect(self._on_labels)
        self.model.changed.connect(self._on_model)
        self.correcting.said.connect(self._tell)
        self.correcting.warned.connect(self._warn)
        self.measuring.warned.connect(self._warn)
        self.server.failed.connect(self._warn)
        self.advanced.ring.changed.connect(self._on_ring)
        self.advanced.guess.clicked.connect(lambda: self._try_there(self._guess))
        self.advanced.preview.clicked.connect(lambda: self._try(self._preview))
        self.advanced.revert.clicked.connect(lambda: self._try(self._back))

    # What the user does

    def _segment(self) -> None:
        config, scope = self.advanced.predict_config(), self.advanced.scope.value
        self._try_there(
            lambda: self.controller.segment(
                self._chosen_image(), self._chosen_model(), config, scope=scope
            )
        )

    def _use_as_is(self) -> None:
        self.advanced.use_as_is()
        self._segment()

    def _finetune(self) -> None:
        config = self.advanced.finetune_config(self.budget.value)
        self._try_there(
            lambda: self.controller.finetune(
                self._chosen_image(), self._layers.chosen_labels(), self._chosen_model(), config
            )
        )

    def _preview(self) -> None:
        chosen = self._chosen_image(), self._layers.chosen_labels(), self._chosen_model()
        config = self.advanced.finetune_config(self.budget.value)
        self.controller.preview_augmentation(*chosen, config)

    def _guess(self) -> None:
        chosen = self._chosen_image(), self._chosen_model()
        self.controller.guess_diameter(*chosen, self.advanced.predict_config())

    def _back(self) -> None:
        self.controller.go_back(self._chosen_model(), self.image.value)

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (ValueError, OSError) as error:
            self._warn(in_dock(error))

    def _try_there(self, action: Callable[[], None]) -> None:
        """The same on the server, if one was chosen."""

        def begin() -> None:
            self.controller.use_server(self.advanced.server_file())
            action()

        self._try(begin)

    def _chosen_image(self) -> Image:
        image = self._layers.chosen_image()
        self.advanced.check_axes()
        return image

    def _chosen_model(self) -> str:
        if self.model.value is None:
            raise ValueError("there is no model; add one with: napari-unet models import FILE")
        return str(self.model.value)

    # What the controller tells

    def _on_started(self, what: str) -> None:
        self.status.setText(f"{what} …")
        self.progress.setRange(0, 0)
        self.curve.clear()
        teaching = what == "Fine-tuning"
        self.curve.setVisible(teaching)
        if teaching:
            self.controller.versions.forget()
        self._set_running(True)

    def _on_progress(self, progress: Progress) -> None:
        self.progress.setRange(0, 100)
        self.progress.setValue(round(100 * progress.fraction))
        self.status.setText(
            _STOPPING if self.controller.follower.is_finishing else progress.message
        )
        self.more_time.look(progress, is_finishing=self.controller.follower.is_finishing)
        if progress.loss is not None:
            self.curve.add(progress.fraction, progress.loss)

    def _on_ended(self, message: str, well: bool) -> None:
        (self._tell if well else self._warn)(message)
        self._set_running(self.controller.follower.is_busy)
        if self.labels.value is not None:
            self.controller.corrections.count(self.labels.value)

    def _tell(self, message: str) -> None:
        self.status.setText(message)

    def _warn(self, message: str) -> None:
        self.status.setText(f"⚠ {message}")

    def _on_counted(self, labels: Labels, text: str) -> None:
        if labels == self.labels.value:
            self.correcting.count.setText(text)

    def _on_computed(self, where: str) -> None:
        self.compute.setText(f"Computed on {where}")

    def _on_diameter(self, diameter_px: float) -> None:
        self.advanced.diameter.value = round(diameter_px)

    def _set_running(self, running: bool) -> None:
        self._running.setVisible(running)
        self.more_time.clear()
        self.server.look()
        self.last.look()
        for part in (
            self.segment_button,
            self.finetune_button,
            self.look,
            self.last,
            self.advanced.guess.native,
            self.advanced.preview.native,
            self.advanced.revert.native,
            self.measuring,
        ):
            part.setDisabled(running)

    # What the viewer tells

    def _on_removed(self, event: Any) -> None:
        self._layers.refresh()
        if isinstance(event.value, Image):
            self.controller.places.forget(event.value)
        if isinstance(event.value, Labels) and not (is_helper(event.value) or self.is_busy):
            # What was painted on it is saved still.
            QTimer.singleShot(0, self._on_image)

    def _refresh_models(self, name: str = "") -> None:
        self.model.reset_choices()
        if name:
            self.model.value = name
        self._on_model()

    def _on_imported(self, reference: str) -> None:
        self.model.reset_choices()
        if reference in self.model.choices:
            self._refresh_models(reference)

    def _on_model(self) -> None:
        if self.model.value is not None:
            header = self.controller.service.store.find(self.model.value).header
            self.correcting.class_choice.offer(header.classes[1:])

    def _on_image(self) -> None:
        self.advanced.look_at(self.image.value)
        self.controller.restoring.look(self.image.value)

    def _on_labels(self) -> None:
        self.correcting.choose(self.labels.value)
        self.controller.corrections.show(self.labels.value)
        if self.labels.value is None:
            self.correcting.count.setText(str(EditCount()))

    def _on_ring(self, ring_px: int) -> None:
        self.controller.corrections.ring_px = ring_px
        self._on_labels()


def _release(connections: list[Connection], ends: tuple[Callable[[], None], ...], *_: Any) -> None:
    for signal, slot in connections:
        signal.disconnect(slot)
    connections.clear()
    for end in ends:
        end()
