"""A folder of images as a queue: one is open at a time, and is saved as it is corrected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from napari.layers import Image, Labels
from napari.layers.base import Layer
from napari.utils.events import Event
from psygnal import Signal

from napari_unet.config import Channel
from napari_unet.core.arrays import LazyArray
from napari_unet.corrections.annotations import Annotated
from napari_unet.io.image_source import ImageSource
from napari_unet.jobs import log_failure, sentence
from napari_unet.learning.live_view import Slip
from napari_unet.plugin.edits.tracker import EditCount, EditTracker
from napari_unet.plugin.jobs.controller import Controller, Others
from napari_unet.plugin.projects.layers import Opened, open_image
from napari_unet.plugin.projects.teaching import annotated
from napari_unet.plugin.results.suggestions import CHECK
from napari_unet.plugin.viewer.background import Background
from napari_unet.plugin.viewer.canvas import fit, remove_soon
from napari_unet.plugin.viewer.drawing import show_tools_soon
from napari_unet.plugin.viewer.layers import (
    add_quietly,
    bare,
    fits,
    image_from_layer,
    planes_of,
)
from napari_unet.plugin.viewer.record import record_of
from napari_unet.plugin.viewer.turns import in_turns
from napari_unet.projects.classes import save_classes
from napari_unet.projects.manifest import BY_DOUBT, NOT_CHOSEN
from napari_unet.projects.project import Project, in_image_order
from napari_unet.segmentation.planes import Segmentation

T = TypeVar("T")
# While one of these runs for the open image, no other image is opened.
_ABOUT_THE_IMAGE = ("Segmenting", "Estimating", "Drawing")


class Open:
    """The image that is open, or that was closed and is being saved still.

    Parameters
    ----------
    opened
        The image and the layers that it was opened with.
    """

    def __init__(self, opened: Opened) -> None:
        self.opened = opened
        self.tracker: EditTracker | None = None
        # The labels that are on the disk: whose they are, their revision, and how much of them is
        # corrected. A count may be of an earlier revision. What was read with corrections is
        # written again: the last stroke before a kill may be in the corrections alone.
        is_as_read = opened.labels is not None and not opened.is_restored
        self.saved: tuple[str | None, int, int] | None = (
            (opened.owner, 0, 0) if is_as_read else None
        )
        # What Segment found since: model, number of cells, doubt, and the channel that it saw.
        self.found: tuple[str, int, float, Channel] | None = None
        self.n_corrected = 0


class Queue:
    """Opens the images of a folder one after the other.

    Parameters
    ----------
    controller
        Of the dock.

    Attributes
    ----------
    project
        The folder; None if none is open.
    names
        Its images, in the order in which they are shown. It changes only where `arrange` is called,
        so that the next image is the next one. By doubt, the image that is open then is the first,
        so that the next one is the most doubtful.
    name
        The image that is open; empty if none is.

    Signals
    -------
    opened
        A folder was opened, and the model that was used there; empty: none was.
    changed
        Something of the folder is to be shown anew.
    arranged
        The names, or their order, are others.
    told, failed
        A sentence for the user.
    """

    opened = Signal(str)
    changed = Signal()
    arranged = Signal()
    told = Signal(str)
    failed = Signal(str)

    def __init__(self, controller: Controller) -> None:
        self.controller, self.viewer = controller, controller.viewer
        self.project: Project | None = None
        self.names: list[str] = []
        self.name = ""
        self.files = Background()
        self._edits, self._autosave = controller.saving
        self._open: Open | None = None
        self._leaving: dict[str, Open] = {}
        self._wanted = ""
        # The order that the names were taken in.
        self._sort = NOT_CHOSEN
        self._running = ""
        self._pending = 0
        # The images whose corrections the fine-tune that runs has been given.
        self.teaching: tuple[str, ...] = ()
        # Likely slips of the brush on images of the folder, from the last fine-tune.
        self.slips: tuple[Slip, ...] = ()
        controller.also_teach = self._also_teach
        controller.follower.started.connect(self._on_started)
        controller.follower.ended.connect(self._on_ended)
        controller.corrections.counted.connect(self._on_counted)
        controller.segmented.connect(self._on_segmented)
        self.viewer.layers.events.removed.connect(self._on_removed)

    @property
    def is_at_work(self) -> bool:
        """Whether an image is being opened or saved."""
        return self._pending > 0

    @property
    def image(self) -> Image | None:
        """The layer of the image that is open."""
        return None if self._open is None else self._open.opened.image

    def close(self) -> None:
        """Save what is not saved yet, and let go of the viewer; safe to call twice."""
        # At the end of a script the controller is closed already, and saved what was painted.
        if self._open is not None and not self.controller.follower.is_closed:
            self.controller.corrections.save_now()
            self._save_last(self._open)
        self.project, self._open = None, None
        self.files.close()
        self._leaving.clear()
        controller = self.controller
        for signal, slot in (
            (controller.follower.started, self._on_started),
            (controller.follower.ended, self._on_ended),
            (controller.corrections.counted, self._on_counted),
            (controller.segmented, self._on_segmented),
            (self.viewer.layers.events.removed, self._on_removed),
        ):
            signal.disconnect(slot)

    def open_folder(
        self, folder: Path, labels: str = "labels", images: Sequence[Path] | None = None
    ) -> None:
        """Open a folder, or images of it, as `Project`; `failed` tells what is wrong.

        The image that was open last is opened.
        """
        self._check_may_move()

        def show(project: Project) -> None:
            self._leave()
            self.project, self.slips = project, ()
            self.opened.emit(project.manifest.model)
            self._sort = project.manifest.sort
            names, last = project.names, project.manifest.current
            self.open(last if last in names else names[0])
            self.arrange()
            for note in project.notes:
                self.told.emit(note)

        self._run(lambda: Project(folder, images, labels), show)

    def close_folder(self) -> None:
        """Save and close the folder, and the image that is open.

        Raises
        ------
        ValueError
            If something runs that needs it.
        """
        self.controller.follower.check_idle()
        self._leave()
        self.project, self.names = None, []
        self.arranged.emit()
        self.changed.emit()

    def arrange(self) -> None:
        """Take the order of the images as it is now."""
        self.names = [] if self.project is None else self.project.names
        sort = NOT_CHOSEN if self.project is None else self.project.manifest.sort
        here = self._wanted or self.name
        if sort == BY_DOUBT and here in self.names:
            self.names.remove(here)
            self.names.insert(0, here)
        before, self._sort = self._sort, sort
        self.arranged.emit()
        self.changed.emit()
        if self.project is not None and (before, sort) == (NOT_CHOSEN, BY_DOUBT):
            entries = [self.project.entry(name) for name in self.names]
            is_known = any(entry.doubt is not None and not entry.is_kept for entry in entries)
            how = "" if is_known else ", once Segment the rest has found out which these are"
            self.told.emit(f"The most doubtful images come first now{how}")

    def sort(self, by: str) -> None:
        """Show the images in another order, one of `projects.manifest.SORTS`."""
        self.change(lambda project: project.choose(sort=by), self.arrange)

    def go(self, steps: int) -> None:
        """Open the image that comes so many places later.

        Raises
        ------
        ValueError
            If there is none, or something runs for the open image.
        """
        here = self._wanted or self.name
        if here not in self.names:
            return
        at = self.names.index(here) + steps
        if not 0 <= at < len(self.names):
            raise ValueError("this is the last image" if steps > 0 else "this is the first image")
        self.open(self.names[at])

    def open(self, name: str) -> None:
        """Open an image, and close the one before as soon as this one is read.

        Raises
        ------
        ValueError
            If something runs for the open image.
        """
        project = self.project
        if project is None or name == (self._wanted or self.name):
            return
        self._check_may_move()
        self._wanted = name
        self.changed.emit()
        self._read(project, name)

    def reload(self) -> None:
        """Read the open image again: its labels were found in the background."""
        if self.project is not None and self.name and not self._wanted:
            self._wanted = self.name
            self._read(self.project, self.name)

    def set_done(self, done: bool) -> None:
        """Say that all labels of the open image are right, or take it back."""
        name = self.name
        if name:
            self.controller.corrections.save_now()
            self.change(lambda project: project.set_done(name, done))

    def set_held_out(self, held_out: bool) -> None:
        """Let the open image judge models instead of teaching them, or take it back."""
        name = self.name
        if name:
            self.change(lambda project: project.set_held_out(name, held_out))

    def take_axes(self) -> None:
        """Read images like the open one as the user wants to have that read."""
        opened = None if self._open is None else self._open.opened
        if self._open is None or opened is None:
            return
        # The user may be writing the letters.
        with suppress(ValueError):
            axes, source = image_from_layer(opened.image).axes, opened.source
            if axes != source.axes:
                named = source.named({source.axes: axes})
                self._open.opened = replace(opened, source=named)
                self.change(lambda project: project.name_axes(named.file_axes, axes))

    def offer_slips(self) -> None:
        """Let *Next doubtful cell* lead to the slips on the open image first."""
        slips = [(slip.index, slip.place) for slip in self.slips if slip.image == self.name]
        if self.image is not None and slips:
            self.controller.places.offer(self.image, CHECK, slips)

    def change(
        self, work: Callable[[Project], object], then: Callable[[], None] | None = None
    ) -> None:
        """Change something of the project in the thread of its files, then show it."""
        project = self.project
        if project is not None:
            self._run(lambda: work(project), lambda done: (then or self.changed.emit)())

    @property
    def is_untouched(self) -> bool:
        """Whether nothing was done to the labels of the open image since it was opened."""
        tracker = None if self._open is None else self._open.tracker
        return tracker is None or tracker.revision == 0

    def teaches_with(self, image: Image | None, project: Project | None) -> bool:
        """Whether an image belongs to this folder, or no image is open while the next one comes."""
        return project is not None and project is self.project and image in (None, self.image)

    # Opening and closing

    def _check_may_move(self) -> None:
        if self._running in _ABOUT_THE_IMAGE:
            raise ValueError("something is running for this image; wait for its end, or stop it")

    def _read(self, project: Project, name: str) -> None:
        contour, dims = self.controller.outlines.width_px, bare(self.viewer.dims)

        def show(opened: Opened) -> None:
            if self.project is project and self._wanted == name:
                self._show(opened)

        def read(future: Future[None]) -> None:
            self._pending -= 1
            self._run(lambda: open_image(project, name, contour, dims), show, self._stay)

        # After what is being saved of the images before.
        if self._edits.run(lambda: None, read):
            self._pending += 1

    def _stay(self) -> None:
        self._wanted = ""
        self.changed.emit()

    def _show(self, opened: Opened) -> None:
        project = self.project
        assert project is not None
        is_another = opened.name != self.name
        self._leave()
        image, labels = opened.image, opened.labels
        self._wanted, self.name, self._open = "", opened.name, Open(opened)
        unique_id = str(image.unique_id)
        self._autosave.keep_in(unique_id, opened.key, project.drafts, opened.name)
        if opened.is_restored:
            self._autosave.adopt(opened.key, opened.owner)

        def add_image() -> None:
            if labels is None:
                self.viewer.add_layer(image)
            else:
                # Its controls would be made for nothing, as the labels are chosen.
                add_quietly(self.viewer, image)
            if is_another:
                fit(self.viewer, image)

        def add_labels() -> None:
            if labels is not None:
                add_quietly(self.viewer, labels)

        def choose() -> None:
            if labels is not None and self._open is not None:
                self.viewer.layers.selection.active = labels
                show_tools_soon(labels)
                self._open.tracker = self.controller.corrections.tracker(labels)
            self.offer_slips()
            if opened.told:
                self.failed.emit(opened.told)
            self.change(lambda p: p.choose(current=opened.name))
            self.changed.emit()

        def end() -> None:
            self._pending -= 1

        state = self._open
        self._pending += 1
        # Another image may be open by the next step, or none.
        in_turns([add_image, add_labels, choose], lambda: self._open is state, end)

    def _leave(self) -> None:
        """Save the open image, and take its layers away."""
        left, self._open, self.name = self._open, None, ""
        if left is None:
            return
        key, image = left.opened.key, left.opened.image
        current = self.controller.results.current(image)
        if current is not None:
            self._leaving[key] = left
            self.controller.corrections.count(current)
            self.controller.corrections.save_now()
        self._forget_soon(str(image.unique_id), key)
        self.controller.places.forget(image)
        gone: list[Layer] = [*self.controller.results.of(image), image]
        for layer in gone:
            # The dock offers it no more.
            record_of(layer).helper = True
            remove_soon(self.viewer, layer)

    def _forget_soon(self, unique_id: str, key: str) -> None:
        self._edits.run(
            partial(self._autosave.let_go, unique_id, key), lambda future: self._forget(key)
        )

    def _forget(self, key: str) -> None:
        self._leaving.pop(key, None)

    def _on_removed(self, event: Event) -> None:
        """The user may take the layer of the image away: then no image is open."""
        left = self._open
        if left is None or event.value != left.opened.image:
            return
        self._open, self.name = None, ""
        self._save_last(left)
        self._forget_soon(str(left.opened.image.unique_id), left.opened.key)
        self.changed.emit()

    # Saving

    def _on_segmented(self, image: Image, labels: Labels, done: Segmentation) -> None:
        if self._open is not None and image == self._open.opened.image:
            channel = record_of(labels).channel
            self._open.found = done.model.reference, done.n_cells, done.doubt, channel

    def _on_counted(self, labels: Labels, count: EditCount | str) -> None:
        record = record_of(labels)
        key = record.draft or ""
        is_open = self._open is not None and self._open.opened.key == key
        state = self._leaving.get(key) or (self._open if is_open else None)
        if state is None or record.retired or not isinstance(count, EditCount):
            return
        if labels in self.viewer.layers:
            state.tracker = self.controller.corrections.tracker(labels)
        state.n_corrected = count.n_cells + count.n_marks + count.n_carried
        self._save(state, labels)

    def _save(self, state: Open, labels: Labels) -> None:
        """Write the labels of an image, if they changed; in another thread."""
        project, opened = self.project, state.opened
        if project is None or not fits(labels, opened.image):
            return
        tracker, owner = state.tracker, record_of(labels).draft_owner
        revision = tracker.revision if tracker is not None and tracker.layer == labels else 0
        if state.saved == (owner, revision, state.n_corrected):
            return
        state.saved = owner, revision, state.n_corrected
        found, state.found = state.found, None
        is_new = revision > 0
        planes = planes_of(bare(labels))
        name, n_corrected, source = opened.name, state.n_corrected, opened.source
        classes = dict(record_of(labels).classes)

        def write() -> None:
            _write(project, name, planes, source)
            save_classes(project.label_path(name), classes)
            if found is not None:
                project.segmented(name, *found)
            project.corrected(name, n_corrected, is_new=is_new)

        self._run(write, lambda nothing: self.changed.emit())

    def _save_last(self, state: Open) -> None:
        """Save the labels of an image that nobody will count any more."""
        tracker = state.tracker
        if tracker is None:
            return
        if state.saved is not None and tracker.revision > state.saved[1]:
            state.n_corrected = max(1, state.n_corrected)
        self._save(state, tracker.layer)

    # Teaching

    def _also_teach(self, image: Image, name_of_model: Callable[[], str]) -> Others:
        """What the other images of the folder teach, besides an image of it."""
        project, here = self.project, self.name
        if project is None or image != self.image:
            return tuple
        if project.entry(here).held_out:
            raise ValueError(
                f"{here} is held out: it judges models and never teaches; take that back, or "
                "go to another image"
            )
        ring_px = self.controller.corrections.ring_px

        def find() -> tuple[Annotated, ...]:
            others = [name for name in project.to_teach(name_of_model()) if name != here]
            self.teaching = (here, *others)
            return annotated(project, others, ring_px)

        return find

    # Threads

    def _on_started(self, what: str) -> None:
        self._running = what
        self.changed.emit()

    def _on_ended(self, message: str, well: bool) -> None:
        self._running = ""
        self.changed.emit()

    def _run(
        self,
        work: Callable[[], T],
        show: Callable[[T], None],
        fail: Callable[[], None] = lambda: None,
    ) -> None:
        """Do something in the thread of the files; what goes wrong is told."""

        def tell(future: Future[T]) -> None:
            self._pending -= 1
            try:
                done = future.result()
            except Exception as error:
                log_failure("the folder of images", error)
                self.failed.emit(sentence(error))
                fail()
                self.changed.emit()
                return
            show(done)

        if self.files.run(work, tell):
            self._pending += 1


def _write(project: Project, name: str, planes: LazyArray, source: ImageSource) -> None:
    labels = np.array(planes, np.int32)
    project.save_labels(name, in_image_order(labels, source.axes), source)
