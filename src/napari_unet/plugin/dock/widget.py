"""The dock widget: find cells, correct them, teach the model, results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from magicgui.widgets import ComboBox
from napari.layers import Image, Labels
from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QTimer
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_unet.core.checks import in_dock
from napari_unet.jobs import Progress
from napari_unet.plugin.dock.advanced import Advanced
from napari_unet.plugin.dock.corrections_panel import CorrectingPanel
from napari_unet.plugin.dock.head import Head
from napari_unet.plugin.dock.layer_choice import LayerBoxes
from napari_unet.plugin.dock.measure_panel import MeasureRow
from napari_unet.plugin.dock.preferences_dialog import Preferring
from napari_unet.plugin.dock.queue.panel import QueuePanel
from napari_unet.plugin.dock.read_as import ChannelBox, ReadAs
from napari_unet.plugin.dock.rows.better_model_row import BetterModelRow
from napari_unet.plugin.dock.rows.cut_short_row import CutShortRow
from napari_unet.plugin.dock.rows.decode_row import DecodeRow
from napari_unet.plugin.dock.rows.draft_row import DraftRow
from napari_unet.plugin.dock.rows.look_row import LookRow
from napari_unet.plugin.dock.rows.loss_curve import LossCurve
from napari_unet.plugin.dock.rows.model_row import ModelRow
from napari_unet.plugin.dock.rows.more_time_row import MoreTimeRow
from napari_unet.plugin.dock.rows.run_row import RunRow
from napari_unet.plugin.dock.rows.server_row import ServerRow
from napari_unet.plugin.dock.rows.verdict_card import MORE_S, VerdictCard
from napari_unet.plugin.dock.rows.view_row import ViewRow
from napari_unet.plugin.dock.steps import Messages, Note, Step, allow
from napari_unet.plugin.dock.theme import set_accent, stylesheet
from napari_unet.plugin.dock.widgets import Column, beside, button, field, row, shrink
from napari_unet.plugin.edits.tracker import EditCount
from napari_unet.plugin.jobs.announcing import Announcement
from napari_unet.plugin.jobs.controller import Controller
from napari_unet.plugin.preferences import PreferenceStore
from napari_unet.plugin.results.label_files import LabelsInImages
from napari_unet.plugin.results.model_files import IMPORTED
from napari_unet.plugin.viewer.record import is_helper
from napari_unet.projects.project import Project
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
# Jobs that change neither the model nor what was found.
_LEAVE_RESULT = ("Drawing", "Measuring", "Saving", "Segmenting files")
_STOPPING = "Stopping; what was learnt so far is kept (Stop again: drop it)"
_RUNNING = "Something is running: wait for its end, or stop it"
_NO_IMAGE = "Open an image first (File ▸ Open, or drop it here)"
_NO_LABELS = "Click Segment first"
_NOTHING_CORRECTED = "Correct a cell first: paint over it, or mark one as correct"
_NOTHING_TO_MEASURE = "Nothing to measure yet: click Segment first"


class SegmentWidget(QWidget):
    """Segment the cells of an image layer and teach the model what was painted.

    Parameters
    ----------
    napari_viewer
        The viewer that the widget is docked in.
    service
        Does the work; by default one with this user's models.
    drafts
        Folder for strokes that no model has learnt yet; by default that of the preferences, or one
        beside the models.
    """

    def __init__(
        self,
        napari_viewer: Viewer,
        service: SegmentationService | None = None,
        drafts: Path | None = None,
    ) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.preferences = PreferenceStore()
        drafts = drafts or self.preferences.values.drafts_folder
        self.controller = Controller(napari_viewer, service or SegmentationService(), drafts)
        self._docked = False
        self._count = EditCount()
        # Why what was painted could not be counted, in a sentence.
        self._fault = ""
        # A stroke was painted that is not counted yet.
        self._is_touched = False
        # The verdict is new: nothing was painted or segmented since.
        self._is_judged = self._keeps_verdict = False
        # The result is new: neither model nor image nor axes were changed since.
        self._is_found = False
        # A job runs after which the result is new, or still is.
        self._is_finding = False
        # The folder of which the last fine-tune learnt; None if it was a single image.
        self._judged_folder: Project | None = None
        self._seen_image: Image | None = None
        self._seen_axes = ""
        # Seconds that "Train more" has added to the training time.
        self._more_s = 0.0
        self._announcement = Announcement()
        self._layers = LayerBoxes(napari_viewer, self.controller.results)
        self._build()
        self._labels_in_images = LabelsInImages(napari_viewer)
        controller, corrections = self.controller, self.controller.corrections
        self._connections: list[Connection] = [
            (napari_viewer.layers.events.inserted, self._layers.refresh),
            (napari_viewer.layers.events.removed, self._on_removed),
            (napari_viewer.layers.events.renamed, self._layers.refresh),
            (napari_viewer.layers.selection.events.active, self._layers.follow),
            (controller.follower.started, self._on_started),
            (controller.follower.progressed, self._on_progress),
            (controller.follower.ended, self._on_ended),
            (controller.follower.started, self._announcement.begin),
            (controller.follower.ended, self._announcement.end),
            (controller.computed_on, self.head.show_compute),
            (controller.renewed, self._on_renewed),
            (controller.models_changed, self._refresh_models),
            (controller.detailed, self._on_details),
            (controller.diameter_guessed, self._on_diameter),
            (controller.looked, self.look.show_for),
            (controller.better_model.named, self._on_better_model),
            (controller.redrawing.changed, self._look_at_scores),
            (controller.redrawing.told, partial(self._tell, self.find_step)),
            (controller.redrawing.failed, partial(self._warn, self.find_step)),
            (corrections.counted, self._on_counted),
            (corrections.failed, partial(self._warn, self.correct_step)),
            (controller.restoring.offered, self.draft.on_offered),
            (controller.cut_short.offered, self.cut_short.on_offered),
            (controller.restoring.restored, partial(self._tell, self.correct_step)),
            (controller.restoring.failed, partial(self._warn, self.correct_step)),
            (self._labels_in_images.failed, partial(self._warn, self.find_step)),
            (IMPORTED.came, self._on_imported),
            (self.queue.queue.opened, self._on_folder),
            (self.queue.queue.arranged, self._forget_verdict_elsewhere),
            (self.preferences.changed, self.preferring.change),
            (napari_viewer.events.theme, self._on_theme),
        ]
        for signal, slot in self._connections:
            signal.connect(slot)
        ends = (
            self.queue.close_down,
            self.correcting.close_down,
            self.measuring.close_down,
            self._announcement.end,
            self._labels_in_images.close,
            self.preferences.close,
            self.advanced.server.close,
            controller.close,
        )
        self._release = partial(_release, self._connections, ends)
        # A slot of this object would no longer be called while it is being destroyed.
        self.destroyed.connect(self._release)
        self._refresh_models()
        self._layers.refresh()
        self._layers.follow()
        self._on_image()
        self._on_theme()
        self.server.look()
        self.preferring.use()
        if self.preferences.fault:
            self._warn(self.find_step, self.preferences.fault)

    @property
    def is_busy(self) -> bool:
        """Whether a job runs, or is about to."""
        return self.controller.follower.is_busy

    @property
    def is_counting(self) -> bool:
        """Whether strokes are yet to be counted, a draft to be read, or cells to be drawn again."""
        controller = self.controller
        looks = controller.restoring.is_looking + controller.cut_short.is_looking > 0
        looks = looks or self.queue.queue.is_at_work
        return controller.corrections.is_counting or looks or controller.redrawing.is_at_work

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
        self.status, self._details = Messages(), ""
        self.find_step, self.correct_step = Step("1  Find cells"), Step("2  Correct")
        self.teach_step, self.results_step = Step("3  Teach"), Step("4  Results")
        self._speaking = self.find_step
        self.advanced = Advanced(self.controller.service.servers.known)
        self.head = Head(self._restore_defaults, lambda: self.preferring.ask(self))
        self.compute = self.head.compute
        self.running = RunRow(self.controller.follower.cancel)
        self.cancel_button, self.progress = self.running.cancel, self.running.bar
        self.measuring = MeasureRow(
            self.controller,
            self._chosen_image,
            self._layers.chosen_labels,
            lambda: (self._chosen_model(), self.advanced.files_config()),
        )
        self._build_find()
        self.preferring = Preferring(
            self.preferences, self.model, self.advanced, self.controller.outlines
        )
        self._build_correct()
        self._build_teach()
        self.results_step.add(self.measuring)
        self.results_step.add_place_to_run()
        self.results_step.add(self.results_step.note)
        self.queue = QueuePanel(
            self.controller, lambda: (self._chosen_model(), self.advanced.folder_config())
        )
        self.column = Column()
        for part in (self.queue, *self._steps, self.advanced):
            self.column.add(part)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.column)
        self._connect()

    @property
    def _steps(self) -> tuple[Step, ...]:
        return self.find_step, self.correct_step, self.teach_step, self.results_step

    def _build_find(self) -> None:
        advanced = self.advanced
        self.image, self.labels = self._layers.image, self._layers.labels
        self.read_as = ReadAs(lambda axes: setattr(advanced.axes, "value", axes))
        self.channel = ChannelBox(lambda number: setattr(advanced.channel, "value", number))
        self.models = ModelRow(
            self.controller.service.store, lambda: self._try(self.teach_step, self._back)
        )
        self.model = self.models.box
        self.segment_button = button("Segment", "Find the cells of the image", self._segment)
        self.look = LookRow(self._use_as_is)
        self.view = ViewRow(self.controller.outlines, self.controller.changes)
        scope = field("Apply to", advanced.scope.native)
        self._applying = beside(scope, 4, advanced.link.native, 3)
        if (layout := self._applying.layout()) is not None:
            layout.addWidget(self.read_as.fixed)
        self.find_step.add_to_title(self.head)
        self.find_step.add(
            field("Image", self.image.native),
            self.read_as,
            self.channel,
            self.models,
            self._applying,
            self.segment_button,
        )
        self.find_step.add_place_to_run()
        found = QHBoxLayout()
        found.addWidget(self.find_step.note, 1)
        ways = QVBoxLayout()
        ways.setSpacing(2)
        ways.addWidget(advanced.guess.native)
        ways.addWidget(self.look)
        found.addLayout(ways)
        self.find_step.add_layout(found)
        self.better = BetterModelRow(self._try_model)
        self.find_step.add(self.better, self.view)
        self.decode = DecodeRow(self.controller.redrawing, self.advanced, lambda: self.image.value)
        self.find_step.add(self.decode)

    def _build_correct(self) -> None:
        self.draft = DraftRow(self.controller.restoring, lambda: self.image.value)
        self.correcting = CorrectingPanel(
            self.controller, self._chosen_image, self._layers.chosen_labels
        )
        labels = field("Labels to correct", self.labels.native)
        self._labels_field = beside(labels, 4, self.measuring.exporting.import_button, 1)
        note = self.correct_step.note
        self.correct_step.add(self.draft, self._labels_field)
        self.correct_step.add_place_to_run()
        self.correct_step.add(self.correcting, note)

    def _build_teach(self) -> None:
        self.budget = ComboBox(
            label="Training time",
            choices=_BUDGETS,
            value=60.0,
            tooltip="Training time; until it stops improving: at most 10 minutes",
        )
        shrink(self.budget.native)
        self.finetune_button = button(
            "Fine-tune", "Train the model on my corrections", self._finetune_anew
        )
        self.last = VerdictCard(
            self.controller.versions,
            self._segment,
            lambda: self._try(self.teach_step, self._back),
            self._train_more,
            lambda: self._try(self.teach_step, self.controller.use_refused),
        )
        self.server = ServerRow(self.controller)
        self.cut_short = CutShortRow(self.controller.cut_short)
        self.curve, self.more_time = LossCurve(), MoreTimeRow(self.controller.follower.extend)
        self.curve.hide()
        self._finetuning = row(self.finetune_button, field("for", self.budget.native))
        self.teach_step.add(self.server, self.cut_short, self._finetuning)
        self.teach_step.add_place_to_run()
        self.teach_step.add(self.more_time, self.curve, self.teach_step.note, self.last)

    def _connect(self) -> None:
        self.image.changed.connect(self._on_image)
        self.labels.changed.connect(self._on_labels)
        self.model.changed.connect(self._on_model_chosen)
        self.correcting.said.connect(partial(self._tell, self.correct_step))
        self.correcting.warned.connect(partial(self._warn, self.correct_step))
        self.correcting.touched.connect(self._on_touched)
        self.measuring.warned.connect(partial(self._warn, self.results_step))
        self.measuring.exporting.import_failed.connect(partial(self._warn, self.correct_step))
        self.measuring.queued.connect(self.queue.open_folder)
        self.queue.touched.connect(self._refresh)
        self.queue.warned.connect(partial(self._warn, self.results_step))
        self.models.changed.connect(self._refresh_models)
        self.models.told.connect(partial(self._tell, self.find_step))
        self.models.failed.connect(partial(self._warn, self.find_step))
        self.server.failed.connect(partial(self._warn, self.teach_step))
        self.cut_short.failed.connect(partial(self._warn, self.teach_step))
        advanced = self.advanced
        advanced.ring.changed.connect(self._on_ring)
        advanced.axes.changed.connect(self._on_axes)
        advanced.channel.changed.connect(self._on_channel)
        for setting in (advanced.scope, advanced.link):
            setting.changed.connect(self._drop_warnings)
        advanced.guess.clicked.connect(lambda: self._try_there(self.find_step, self._guess))
        advanced.preview.clicked.connect(lambda: self._try(self.teach_step, self._preview))
        advanced.server.failed.connect(partial(self._warn, self.find_step))
        advanced.new_type.clicked.connect(self.correcting.class_choice.begin_new)

    # What the user does

    def _segment(self) -> None:
        config, scope = self.advanced.predict_config(), self.advanced.scope.value
        self._try_there(
            self.find_step,
            lambda: self.controller.segment(
                self._chosen_image(), self._chosen_model(), config, scope=scope
            ),
        )

    def _use_as_is(self) -> None:
        self.advanced.use_as_is()
        self._segment()

    def _try_model(self, name: str) -> None:
        self.model.value = name
        self._segment()

    def _finetune_anew(self) -> None:
        self._more_s = 0.0
        self._finetune()

    def _train_more(self) -> None:
        self._more_s += MORE_S
        self._finetune()

    def _finetune(self) -> None:
        budget = self.budget.value
        seconds = budget if budget == "auto" else budget + self._more_s
        config = self.advanced.finetune_config(seconds)
        self.last.can_train_more = budget != "auto"

        def teach() -> None:
            labels = None if self._teaches_without_labels else self._layers.chosen_labels()
            self.controller.finetune(self._chosen_image(), labels, self._chosen_model(), config)

        self._try_there(self.teach_step, teach)

    @property
    def _teaches_without_labels(self) -> bool:
        """Whether other images of the folder were corrected, and the open one has no labels yet.

        Where it has channels, the labels tell which one was looked at.
        """
        image = self.image.value
        is_open = image is not None and image == self.queue.queue.image
        is_clear = is_open and "C" not in self.read_as.axes.removesuffix("YXC")
        return self.labels.value is None and is_clear and self.queue.can_teach(self.model.value)

    def _preview(self) -> None:
        chosen = self._chosen_image(), self._layers.chosen_labels(), self._chosen_model()
        config = self.advanced.finetune_config(self.budget.value)
        self.controller.preview_augmentation(*chosen, config)

    def _guess(self) -> None:
        chosen = self._chosen_image(), self._chosen_model()
        self.controller.guess_diameter(*chosen, self.advanced.predict_config())

    def _back(self) -> None:
        self.controller.go_back(self._chosen_model(), self.image.value)

    def _restore_defaults(self) -> None:
        self.advanced.restore_defaults()
        self.budget.value = 60.0
        self.controller.outlines.choose(None)
        self.preferring.use()
        self.view.changed.setChecked(False)
        self.correcting.show_seen.setChecked(True)
        self._on_axes()

    def _try(self, step: Step, action: Callable[[], None]) -> None:
        self._speaking = step
        try:
            action()
        except (ValueError, OSError) as error:
            self._warn(step, in_dock(error))

    def _try_there(self, step: Step, action: Callable[[], None]) -> None:
        """The same on the server, if one was chosen."""

        def begin() -> None:
            self.controller.use_server(self.advanced.server.file())
            action()

        self._try(step, begin)

    def _chosen_image(self) -> Image:
        image = self._layers.chosen_image()
        self.advanced.check_axes()
        return image

    def _chosen_model(self) -> str:
        if self.model.value is None:
            raise ValueError("there is no model; add one with Import in the menu beside Model")
        return str(self.model.value)

    # What the controller tells

    def _on_started(self, what: str) -> None:
        self._speaking = {
            "Fine-tuning": self.teach_step,
            "Drawing": self.teach_step,
            "Measuring": self.results_step,
            "Exporting": self.results_step,
            "Importing": self.correct_step,
            "Tracking": self.results_step,
            "Segmenting files": self.results_step,
            "Scoring": self.results_step,
        }.get(what, self.find_step)
        self._is_finding = what == "Segmenting" or (self._is_found and what in _LEAVE_RESULT)
        self._keeps_verdict = self._is_judged and what == "Scoring"
        self._drop_warnings()
        self._details = ""
        self.better.withdraw()
        self.cut_short.withdraw()
        self.status.say(self._speaking.note, f"{what} …")
        self.correct_step.note.say("")
        self.curve.clear()
        teaching = what == "Fine-tuning"
        self.curve.setVisible(teaching)
        if teaching:
            self.controller.versions.forget()
        self.running.begin(teaches=teaching)
        self._speaking.show_running(self.running)
        self._refresh()

    def _on_progress(self, progress: Progress) -> None:
        left = self.running.show_progress(progress.fraction)
        words = progress.message.split(", step ")[0]
        teaching = self._speaking is self.teach_step
        if self.controller.follower.is_finishing:
            words = _STOPPING
        elif left and not teaching:
            words = f"{words}, {left}"
        self.status.say(self._speaking.note, words, progress.message)
        self.more_time.look(progress, is_finishing=self.controller.follower.is_finishing)
        # A curve of so few steps says nothing, and there is no room for both.
        self.curve.setVisible(teaching and self.more_time.isHidden())
        if progress.loss is not None:
            self.curve.add(progress.fraction, progress.loss)

    def _on_ended(self, message: str, well: bool) -> None:
        step = self._speaking
        note = step.note
        self._is_judged = step is self.teach_step or self._keeps_verdict
        if step is self.teach_step:
            self._judged_folder = self.queue.queue.project
        self._is_found = well and self._is_finding
        if step is self.teach_step and self.last.is_needed and well:
            note.say("")
            note = self.last.note
            # Where there is a folder, the screen may be too small for it.
            QTimer.singleShot(0, partial(self.column.reveal, self.last, self.teach_step))
        self.curve.hide()
        self._say(note, message if well else f"⚠ {message}")
        self._refresh()
        if self.labels.value is not None:
            self.controller.corrections.count(self.labels.value)
        if step is self.find_step:
            self.controller.restoring.look(self.image.value)
        self.controller.cut_short.look()

    def _on_details(self, details: str) -> None:
        self._details = details

    def _say(self, note: Note, message: str) -> None:
        self.status.say(note, message, self._details)
        self._details = ""

    def _tell(self, step: Step, message: str) -> None:
        self._say(step.note, message)

    def _warn(self, step: Step, message: str) -> None:
        self._say(step.note, f"⚠ {message}")

    def _drop_warnings(self, *_: object) -> None:
        """Take away what was wrong: it may be right now."""
        for step in self._steps:
            if step.note.is_warning:
                step.note.say("")

    def _on_counted(self, labels: Labels, count: EditCount | str) -> None:
        if labels != self.labels.value:
            return
        self.correcting.show_count(count)
        self._is_touched = False
        self._count = count if isinstance(count, EditCount) else EditCount()
        self._fault = count if isinstance(count, str) else ""
        self._refresh()

    def _on_touched(self) -> None:
        """A stroke was painted, or a place marked: what was said of these labels is old."""
        self._is_touched, self._is_judged = True, False
        for step in () if self.is_busy else self._steps[1:]:
            step.note.say("")
        self._drop_warnings()
        self._refresh()

    def _on_diameter(self, diameter_px: float) -> None:
        self.advanced.diameter.value = round(diameter_px)

    def _refresh(self) -> None:
        """Show what can be used now, and what comes next."""
        busy = _RUNNING if self.is_busy else ""
        no_image = "" if self.image.value is not None else _NO_IMAGE
        no_labels = "" if self.labels.value is not None else _NO_LABELS
        is_corrected = self._is_touched or self._count.is_any
        can_teach = is_corrected or self.queue.can_teach(self.model.value)
        is_lacking = "" if self._teaches_without_labels else no_labels
        nothing = is_lacking or self._fault or ("" if can_teach else _NOTHING_CORRECTED)
        no_table = busy or (_NOTHING_TO_MEASURE if no_labels else "")
        advanced, measuring, exporting = self.advanced, self.measuring, self.measuring.exporting
        usable: tuple[tuple[str, Sequence[QWidget]], ...] = (
            (busy or no_image, (self.segment_button, advanced.guess.native, self.look)),
            (no_labels, self.correcting.parts),
            (no_labels if len(self.labels.choices) < 2 else "", (self.labels.native,)),
            (busy or nothing, (self.finetune_button,)),
            (nothing, (self.budget.native,)),
            (busy or no_labels, (advanced.preview.native,)),
            (busy, (self.last, self.models.more, measuring.files)),
            (no_table, (measuring.measure, exporting.button, exporting.tracks_button)),
            (busy or no_image, (exporting.import_button,)),
        )
        for why, parts in usable:
            for part in parts:
                allow(part, why)
        self.running.setVisible(self.is_busy)
        self.segment_button.setVisible(not (busy and self._speaking is self.find_step))
        self._finetuning.setVisible(not (busy and self._speaking is self.teach_step))
        self.advanced.guess.native.setVisible(not busy and not no_labels)
        if not busy:
            self.more_time.clear()
        self.server.look()
        self.last.look()
        self.decode.look(busy)
        self.view.look(self.labels.value)
        following = self._next_button(is_corrected)
        for choice in (
            self.segment_button,
            self.better.take,
            self.correcting.next_place,
            self.finetune_button,
            self.last.again,
            self.last.more,
        ):
            set_accent(choice, choice is following and not busy)

    def _look_at_scores(self) -> None:
        self.decode.look(_RUNNING if self.is_busy else "")

    def _next_button(self, is_corrected: bool) -> QPushButton:
        """The button to click next, as far as that can be known."""
        if self.last.is_needed and self._is_judged:
            return self.last.next_button or self.correcting.next_place
        if is_corrected and (self._is_touched or self._count.is_new):
            return self.finetune_button
        if not self.better.isHidden():
            return self.better.take
        is_found = self._is_found and self.labels.value is not None
        return self.correcting.next_place if is_found else self.segment_button

    # What the viewer tells

    def _on_theme(self, event: object = None) -> None:
        self.setStyleSheet(stylesheet(self.viewer))

    def _on_removed(self, event: Any) -> None:
        self._layers.refresh()
        if isinstance(event.value, Image):
            self.controller.places.forget(event.value)
        if isinstance(event.value, Labels) and not (is_helper(event.value) or self.is_busy):
            # What was painted on it is saved still.
            QTimer.singleShot(0, self._on_image)

    def _refresh_models(self, name: str = "") -> None:
        if name:
            self.controller.redrawing.drop()
        self.models.offer(name)
        self._on_model()

    def _on_imported(self, reference: str) -> None:
        self._refresh_models(reference.partition("@")[0])

    def _on_folder(self, model: str) -> None:
        """Go on with the model that was used in a folder, if it is here still."""
        with suppress(ValueError):
            self.controller.service.store.find(model)
            self.models.offer(model)
        self._keep_model()

    def _keep_model(self) -> None:
        model = str(self.model.value or "")
        self.queue.queue.change(lambda project: project.choose(model=model))

    def _on_model_chosen(self) -> None:
        """Another model: what was said of the one before is old."""
        self._keep_model()
        self._is_found = False
        self.controller.redrawing.drop()
        self._forget_better()
        self._on_model()
        if not self.controller.versions.is_about(str(self.model.value).partition("@")[0]):
            self._forget_verdict()
        self._drop_warnings()

    def _on_model(self) -> None:
        self.models.describe()
        if self.model.value is not None:
            self.decode.choose(str(self.model.value))
            header = self.controller.service.store.find(self.model.value).header
            self.correcting.class_choice.offer(header.classes[1:])

    def _on_better_model(self, name: str) -> None:
        self.better.on_named(name)
        self._refresh()

    def _forget_better(self) -> None:
        self.controller.better_model.cancel()
        self.better.withdraw()

    def _forget_verdict(self) -> None:
        if not self.is_busy:
            self.controller.versions.forget()
            self._refresh()

    def _forget_verdict_elsewhere(self) -> None:
        """All images of a folder teach together; of another image, a verdict says nothing."""
        if not self.queue.queue.teaches_with(self.image.value, self._judged_folder):
            self._forget_verdict()

    def _on_image(self) -> None:
        image = self.image.value
        self.advanced.look_at(image)
        self._show_axes()
        self.controller.restoring.look(image)
        self.controller.cut_short.look()
        if image != self._seen_image:
            self._seen_image, self._is_found = image, False
            for step in self._steps if not self.is_busy else ():
                step.note.say("")
            self.look.show_for("")
            self._forget_better()
            self._forget_verdict_elsewhere()
        self._refresh()

    def _on_axes(self) -> None:
        axes = str(self.advanced.axes.value).upper()
        if axes != self._seen_axes:
            self._seen_axes, self._is_found = axes, False
        self.queue.queue.take_axes()
        self._show_axes()
        self._drop_warnings()
        self._refresh()

    def _show_axes(self) -> None:
        image, advanced = self.image.value, self.advanced
        self.read_as.look_at(image)
        self.channel.look_at(image, self.read_as.axes, int(advanced.channel.value))
        self.measuring.exporting.tracks_button.setVisible("T" in advanced.letters)
        self.advanced.link.native.setVisible(bool(advanced.letters))

    def _on_channel(self, number: int) -> None:
        self.channel.show_chosen(int(number))
        self._drop_warnings()

    def _on_renewed(self, labels: Labels) -> None:
        """A layer holds other labels now: what was counted and said of it is old."""
        if self.labels.value == labels:
            self._on_labels()
        else:
            self.labels.value = labels

    def _on_labels(self) -> None:
        labels = self.labels.value
        self.correcting.choose(labels)
        self.controller.corrections.show(labels)
        self.controller.changes.show(labels)
        self.controller.outlines.follow(labels)
        self._count, self._fault, self._is_touched = EditCount(), "", False
        self.correcting.show_count(self._count)
        for step in () if self.is_busy else self._steps:
            step.note.say("")
        self._refresh()

    def _on_ring(self, ring_px: int) -> None:
        self.controller.corrections.ring_px = ring_px
        self._on_labels()


def _release(
    connections: list[Connection], ends: tuple[Callable[[], None], ...], *_: object
) -> None:
    for signal, slot in connections:
        signal.disconnect(slot)
    connections.clear()
    for end in ends:
        end()
