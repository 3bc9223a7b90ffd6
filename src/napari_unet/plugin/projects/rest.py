"""What is done to all images of a folder: the rest segmented, a table, scores on held-out ones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_unet.config import PredictConfig
from napari_unet.core.checks import in_dock
from napari_unet.jobs import Job
from napari_unet.learning.finetune import Improvement
from napari_unet.plugin.projects.queue import Queue
from napari_unet.plugin.viewer.main_thread import MainThread
from napari_unet.projects.manifest import Score
from napari_unet.projects.project import Project
from napari_unet.projects.rest import RestDone, segment_rest
from napari_unet.projects.scoring import curve, curve_words, judges, refused_in, score_models
from napari_unet.projects.table import write_cells
from napari_unet.service.files import FileDone, summary

# Failures that fit into the dock.
_MOST_LINES = 4


class Rest:
    """Jobs on all images of the folder that is open.

    Parameters
    ----------
    queue
        The folder.
    settings
        Tells how images are segmented.

    Signals
    -------
    scored
        The models were scored on the held-out images.
    told, failed
        What came of the rest, in sentences. They stay beside the list of images: messages of the
        steps go when an image is opened, or read again.
    """

    scored = Signal()
    told = Signal(str)
    failed = Signal(str)

    def __init__(self, queue: Queue, settings: Callable[[], PredictConfig]) -> None:
        self._queue, self._controller, self._settings = queue, queue.controller, settings
        self._main = MainThread()
        self._controller.learnt.connect(self._on_learnt)

    def close(self) -> None:
        """Let go of the controller."""
        self._controller.learnt.disconnect(self._on_learnt)

    def segment(self, model: str, config: PredictConfig) -> None:
        """Segment all images that nobody corrected, in the background.

        Raises
        ------
        ValueError
            If something runs, there is no such model, or nothing is left.
        """
        queue, service = self._queue, self._controller.service
        project = queue.project
        if project is None:
            return
        n = len(project.to_segment(service.store.find(model).reference))
        taken: list[str] = []

        def tell(done: RestDone) -> None:
            self._main.do(self._on_image, done, taken)

        def show(done: tuple[FileDone, ...]) -> tuple[str, bool]:
            told = summary(done)
            n_cells = sum(outcome.n_cells for outcome in done)
            lines = told.splitlines()
            if len(lines) > _MOST_LINES:
                lines = [*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} more"]
            found = f"{n_cells} cells in {len(taken)} images, in {project.folder}"
            (self.failed if told else self.told).emit("\n".join([found, *lines]))
            queue.arrange()
            return "", True

        def stopped() -> str:
            queue.arrange()
            self.told.emit(
                f"Stopped: {len(taken)} of {n} images are done; Segment the rest goes on there"
            )
            return ""

        self._controller.follower.run(
            "Segmenting files",
            lambda: segment_rest(service, project, model, config, tell),
            show,
            stopped,
        )

    def write_table(self, path: Path) -> None:
        """Write the cells of all images into one CSV file.

        Raises
        ------
        ValueError
            If something runs.
        """
        project = self._queue.project
        if project is None:
            return
        failed: list[str] = []

        def work(job: Job[int]) -> int:
            return write_cells(job, project, path, failed.append)

        def show(n_cells: int) -> tuple[str, bool]:
            written = "\n".join([f"{n_cells} cells written to {path}", *failed[:_MOST_LINES]])
            (self.failed if failed else self.told).emit(written)
            return "", True

        service = self._controller.service
        self._controller.follower.run("Saving", lambda: service.submit("measure", work), show)

    @property
    def words(self) -> str:
        """The curve of the held-out images, in words; or what is missing for one."""
        project = self._queue.project
        if project is None:
            return ""
        held_out = [name for name in project.names if project.entry(name).held_out]
        said = curve_words(self.points, self.refused)
        if said or not held_out:
            return said
        ready = len(judges(project))
        if not ready:
            return "Correct the held-out images and mark them as done: then they judge new models"
        return f"{ready} of {len(held_out)} held-out images judge the next model"

    @property
    def points(self) -> tuple[Score, ...]:
        """The curve of the held-out images."""
        return () if self._queue.project is None else curve(self._queue.project)

    @property
    def refused(self) -> set[str]:
        """Models of the curve that are not used, as their checks refused them."""
        return refused_in(self.points, self._controller.service.store)

    def _on_image(self, done: RestDone, taken: list[str]) -> None:
        queue = self._queue
        if done.taken:
            taken.append(done.name)
            if done.name == queue.name and queue.is_untouched:
                queue.reload()
        queue.changed.emit()

    def _on_learnt(self, done: Improvement) -> None:
        queue = self._queue
        project, names = queue.project, queue.teaching
        queue.teaching = ()
        if project is None or not names:
            return
        queue.slips = done.slips
        queue.offer_slips()

        def note(project: Project) -> None:
            corrected = [name for name in names if project.is_corrected(name)]
            project.taught(corrected, done.model.name, is_used=done.verdict.accepted)

        queue.change(note, queue.arrange)
        # A training that was too short tells nothing of what was corrected.
        if judges(project) and (done.verdict.accepted or not done.verdict.wants_time):
            # After the end of the fine-tune was told.
            QTimer.singleShot(0, partial(self._score, done))

    def _score(self, done: Improvement) -> None:
        project, controller = self._queue.project, self._controller
        if project is None or controller.follower.is_busy or controller.follower.is_closed:
            return
        versions = [version for version in (done.parent, done.model) if version is not None]

        def show(found: tuple[Score, ...]) -> tuple[str, bool]:
            self.scored.emit()
            return self.words, True

        try:
            controller.follower.run(
                "Scoring",
                lambda: score_models(controller.service, project, versions, self._settings()),
                show,
            )
        except ValueError as error:
            self.failed.emit(in_dock(error))
