"""The folder of images in the dock; hidden until one is opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_unet.config import PredictConfig
from napari_unet.core.checks import in_dock
from napari_unet.plugin.dock.keys import Keys
from napari_unet.plugin.dock.queue.image_list import SIGNS, ImageList
from napari_unet.plugin.dock.queue.score_curve import ScoreCurve
from napari_unet.plugin.dock.rows.offer_row import OfferRow
from napari_unet.plugin.dock.steps import Note, allow
from napari_unet.plugin.dock.widgets import button, row
from napari_unet.plugin.jobs.controller import Controller
from napari_unet.plugin.projects.own_labels import OwnLabels
from napari_unet.plugin.projects.queue import Queue
from napari_unet.plugin.projects.rest import Rest
from napari_unet.projects.manifest import BY_DOUBT, BY_NAME, DONE
from napari_unet.projects.table import TABLE

_RUNNING = "Something is running: wait for its end, or stop it"


class QueuePanel(QFrame):
    """Which image of a folder is open, the way to the next one, and what is done to the rest.

    Parameters
    ----------
    controller
        Of the dock.
    model
        Tells the model, and how to segment with it; raises `ValueError` with a sentence.

    Signals
    -------
    touched
        Something of the folder changed.
    warned
        A sentence, while no folder is open and the panel is hidden.
    """

    touched = Signal()
    warned = Signal(str)

    def __init__(
        self, controller: Controller, model: Callable[[], tuple[str, PredictConfig]]
    ) -> None:
        super().__init__()
        self._controller, self._model = controller, model
        self.queue = Queue(controller)
        self.rest = Rest(self.queue, lambda: self._settings()[1])
        self.own_labels = OwnLabels(self.queue)
        self._build()
        self._keys = Keys(
            controller.viewer,
            {},
            {
                "PageDown": partial(self._go, 1),
                "PageUp": partial(self._go, -1),
                "Shift-D": self.done.click,
            },
        )
        for signal, slot in self._signals:
            signal.connect(slot)
        self.hide()

    @property
    def _signals(self) -> tuple[tuple[Any, Callable[..., None]], ...]:
        queue = self.queue
        return (
            (queue.changed, self.refresh),
            (queue.arranged, self._arrange),
            (queue.told, self._tell),
            (queue.failed, self._warn),
            (self.rest.scored, self.refresh),
            (self.rest.told, self.note.say),
            (self.own_labels.offered, self._offer),
            (self.rest.failed, self._warn),
        )

    def close_down(self) -> None:
        """Save what is open and give the keys back; safe to call twice."""
        if self.queue.files.is_closed:
            return
        for signal, slot in self._signals:
            signal.disconnect(slot)
        self._keys.close()
        self.images.thumbnails.close()
        self.rest.close()
        self.own_labels.close()
        self.queue.close()

    def open_folder(
        self, folder: Path, labels: str = "labels", images: Sequence[Path] | None = None
    ) -> None:
        """Open all or some images of a folder, with their labels in a folder from there."""
        self.note.say("")
        self._try(lambda: self.queue.open_folder(folder, labels, images))

    def can_teach(self, model: object) -> bool:
        """Whether images of the folder hold corrections that no model learnt yet."""
        project = self.queue.project
        if project is None or model is None:
            return False
        return any(
            e.is_kept and e.is_changed and not e.held_out for e in project.manifest.images.values()
        )

    def refresh(self) -> None:
        """Show how far the images are."""
        queue, project = self.queue, self.queue.project
        self.setVisible(project is not None)
        if project is not None:
            self._show_place()
            if not self.folded.isHidden():
                self.images.refresh(queue.name)
            n = len(project.to_segment(self._reference()))
            busy = _RUNNING if self._controller.follower.is_busy else ""
            self.segment_rest.setText(f"Segment the rest ({n})")
            allow(self.segment_rest, busy or ("" if n else "Nothing is left to segment"))
            for part in (self.table, self.leave):
                allow(part, busy)
            self.curve.show_points(self.rest.points, self.rest.refused)
            words = self.rest.words
            self.scores.setText(words)
            self.scores.setVisible(bool(words))
        self.touched.emit()

    def _build(self) -> None:
        self.previous = button("◀", "The image before (Page Up)", partial(self._go, -1))
        self.following = button("▶", "The next image (Page Down)", partial(self._go, 1))
        self.place = QLabel()
        self.fold = button("▴", "Fold the list of images", self._fold)
        for part in (self.previous, self.following, self.fold):
            part.setFixedWidth(30)
        top = QHBoxLayout()
        for part in (self.previous, self.following):
            top.addWidget(part)
        top.addWidget(self.place, 1)
        top.addWidget(self.fold)
        self.done = QCheckBox("Done")
        self.done.setToolTip("All labels of this image are right (Shift-D)")
        self.done.clicked.connect(lambda on: self._try(partial(self.queue.set_done, on)))
        self.held_out = QCheckBox("Held out")
        self.held_out.setToolTip(
            "This image never teaches: once it is done, it judges each new model"
        )
        self.held_out.clicked.connect(lambda on: self._try(partial(self.queue.set_held_out, on)))
        self.by_doubt = QCheckBox("Most doubtful first")
        self.by_doubt.setToolTip(
            "After the open image come those of which the model is least sure: there a correction "
            "should help most. Images that are corrected or done come last. Not ticked: the order "
            "of names"
        )
        self.by_doubt.clicked.connect(lambda on: self.queue.sort(BY_DOUBT if on else BY_NAME))
        self.images = ImageList()
        self.images.chosen.connect(lambda name: self._try(partial(self.queue.open, name)))
        self.segment_rest = button(
            "Segment the rest",
            "Segment all images that are neither corrected nor done, in the background; stopped, "
            "it goes on there later. It also finds out of which of them this model is least sure",
            partial(self._try, self._segment),
        )
        self.table = button(
            "Table…", "The cells of all images in one CSV file", partial(self._try, self._ask_table)
        )
        self.leave = button(
            "Close", "Close the folder; all is saved", partial(self._try, self.queue.close_folder)
        )
        self.scores, self.note, self.curve = QLabel(), Note(), ScoreCurve()
        self.scores.setWordWrap(True)
        self.folded = QWidget()
        inner = QVBoxLayout(self.folded)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.setSpacing(2)
        for each in (row(self.by_doubt, self.held_out), self.images, self.curve, self.scores):
            inner.addWidget(each)
        self.images.show_images(None, ())
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 2)
        layout.setSpacing(2)
        layout.addLayout(top)
        layout.addWidget(self.folded)
        layout.addWidget(row(self.segment_rest, self.table, self.leave))
        self.offer = OfferRow()
        self.offer.add_button(
            "Use these labels",
            "They become the labels of this image: saved, and learnt from. Its other labels are "
            "hidden; what was corrected on them stays in the folder",
            self.own_labels.take,
        )
        layout.addWidget(self.offer)
        layout.addWidget(self.note)
        top.insertWidget(3, self.done)

    def _show_place(self) -> None:
        queue, project = self.queue, self.queue.project
        assert project is not None
        n = len(queue.names)
        if queue.name not in queue.names:
            self.place.setText(f"{n} images")
            self.place.setToolTip(str(project.folder))
        else:
            entry = project.entry(queue.name)
            number = queue.names.index(queue.name) + 1
            self.place.setText(f"{number} of {n}: {SIGNS[entry.state]} {entry.state}")
            self.place.setToolTip(f"{queue.name}, in {project.folder}")
            self.done.setChecked(entry.state == DONE)
            self.held_out.setChecked(entry.held_out)
        for part in (self.done, self.held_out):
            allow(part, "" if queue.name else "Open an image of the list")
        self.by_doubt.setChecked(project.manifest.sort == BY_DOUBT)

    def _arrange(self) -> None:
        self.images.show_images(self.queue.project, self.queue.names)
        self.refresh()

    def _fold(self) -> None:
        folds = not self.folded.isHidden()
        self.folded.setVisible(not folds)
        self.fold.setText("▾" if folds else "▴")
        self.fold.setToolTip("Show the list of images" if folds else "Fold the list of images")
        self.refresh()

    def _reference(self) -> str:
        try:
            return self._controller.service.store.find(self._model()[0]).reference
        except ValueError:
            return ""

    def _go(self, steps: int) -> None:
        if self.queue.project is not None:
            self._try(partial(self.queue.go, steps))

    def _settings(self) -> tuple[str, PredictConfig]:
        model, config = self._model()
        return model, self._controller.as_seen(self.queue.image, model, config)

    def _segment(self) -> None:
        self.rest.segment(*self._settings())

    def _ask_table(self) -> None:
        project = self.queue.project
        if project is None:
            return
        path, _ = QFileDialog.getSaveFileName(
            self, "Save table", str(project.folder / TABLE), "Table (*.csv)"
        )
        if path:
            self.rest.write_table(Path(path))

    def _try(self, action: Callable[[], None]) -> None:
        self.note.say("")
        try:
            action()
        except (ValueError, OSError) as error:
            self._warn(in_dock(error))
            self.refresh()

    def _offer(self, sentence: str) -> None:
        if sentence:
            self.offer.offer(sentence)
        else:
            self.offer.withdraw()

    def _tell(self, sentence: str) -> None:
        said = self.note.text()
        self.note.say(f"{said}\n{sentence}" if said else sentence)

    def _warn(self, sentence: str) -> None:
        self.note.say(f"⚠ {sentence}")
        if self.queue.project is None:
            self.warned.emit(sentence)
