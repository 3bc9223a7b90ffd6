"""What was corrected and confirmed on the Labels layers of a viewer: counted, shown, saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial

import numpy as np
from napari.layers import Labels
from napari.utils.events import Event
from napari.viewer import Viewer
from numpy.typing import NDArray
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_unet.core.boxes import Box
from napari_unet.corrections.annotations import Correction, corrections_of
from napari_unet.jobs import log_failure, sentence
from napari_unet.plugin.edits.autosave import Autosave, info_of
from napari_unet.plugin.edits.draft_cells import pending
from napari_unet.plugin.edits.features import show_features
from napari_unet.plugin.edits.marks import box_mark, confirmed, holds, loop_mark, mark_at
from napari_unet.plugin.edits.overlay import SeenOverlay
from napari_unet.plugin.edits.seen import States
from napari_unet.plugin.edits.tracker import DEFAULT_CLASS, Changes, EditTracker, Survey
from napari_unet.plugin.viewer.background import Background
from napari_unet.plugin.viewer.layers import Index, pixel_under, plane_in_view, visible_box
from napari_unet.plugin.viewer.record import Mark, record_of

Path = Sequence[tuple[float, float]]
Point = tuple[int, int]
# After the last event of a stroke.
_PAUSE_MS = 200


class Corrections:
    """Follows, counts and saves what is painted and confirmed on all Labels layers.

    Parameters
    ----------
    viewer
        Where the layers are.
    background
        The thread for comparisons.
    autosave
        Keeps drafts; belongs into that thread.

    Attributes
    ----------
    ring_px
        Width of the ring around a corrected cell that counts as looked at.
    brush_class
        Class of what is painted.

    Signals
    -------
    counted
        Labels, and an `EditCount`, or a sentence if counting failed.
    failed
        A sentence for the user.
    """

    counted = Signal(object, object)
    failed = Signal(str)

    def __init__(self, viewer: Viewer, background: Background, autosave: Autosave) -> None:
        self._viewer, self._background, self._autosave = viewer, background, autosave
        self.ring_px = 8
        self.brush_class = DEFAULT_CLASS
        self._trackers: dict[Labels, EditTracker] = {}
        self._overlay, self._is_tinted = SeenOverlay(viewer), True
        self._shown: Labels | None = None
        self._due: set[Labels] = set()
        self._surveying = 0
        self._timer = QTimer()
        self._timer.setInterval(_PAUSE_MS)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._survey_due)
        viewer.layers.events.removed.connect(self._forget)
        viewer.dims.events.current_step.connect(self.refresh)

    def close(self) -> None:
        """Save what is not saved yet, and let go of the viewer."""
        self._viewer.layers.events.removed.disconnect(self._forget)
        self._viewer.dims.events.current_step.disconnect(self.refresh)
        self._timer.stop()
        self._survey_due()
        self._overlay.remove()
        for tracker in self._trackers.values():
            tracker.close()
        self._trackers.clear()

    @property
    def is_counting(self) -> bool:
        """Whether something painted is yet to be counted."""
        return self._timer.isActive() or self._surveying > 0

    def tracker(self, labels: Labels) -> EditTracker:
        """Return the tracker of a layer; the first call makes it."""
        if labels not in self._trackers:
            self._trackers[labels] = EditTracker(
                labels, partial(self.count, labels), lambda: self.brush_class
            )
        return self._trackers[labels]

    def start_again(self, labels: Labels) -> None:
        """Forget what was painted on labels, which are about to be replaced as a whole."""
        tracker = self._trackers.pop(labels, None)
        if tracker is not None:
            tracker.is_outdated = True
            tracker.close()

    def snapshot(
        self, labels: Labels, *, or_all: bool = False
    ) -> Callable[[], tuple[Correction, ...]]:
        """Return a function that finds the corrections made until now.

        Call it outside the viewer's thread. With `or_all`, and without corrections, it returns the
        plane in view as it is.
        """
        tracker, ring_px = self.tracker(labels), self.ring_px
        memo, index = tracker.memo(), plane_in_view(labels, self._viewer.dims.point)

        def compare() -> tuple[Correction, ...]:
            found = tracker.corrections(memo, ring_px)
            if or_all and not found:
                found = corrections_of([tracker.whole(index)], ring_px)
            return found

        return compare

    def count(self, labels: Labels) -> None:
        """Count and save what was painted on labels, soon; `counted` tells."""
        self._due.add(labels)
        self._timer.start()

    def save_now(self) -> None:
        """Begin at once to count and save what is to be counted."""
        self._timer.stop()
        self._survey_due()

    def show(self, labels: Labels | None) -> None:
        """Tint what was seen of these labels, from now on."""
        self._shown = labels
        if labels is not None:
            self.count(labels)
        # Later: napari may be changing its list of layers now.
        QTimer.singleShot(0, self.refresh)

    def enable_overlay(self, enabled: bool) -> None:
        """Switch the tint on or off; outlines of drafts stay."""
        self._is_tinted = enabled
        self.refresh()

    def refresh(self, event: Event | None = None) -> None:
        """Tint the plane in view."""
        labels = self._shown
        if labels is None:
            self._overlay.remove()
            return
        tracker = self.tracker(labels)
        self._overlay.show(labels, tracker.shown if self._is_tinted else tracker.drafts)

    def states(self, labels: Labels) -> Mapping[Index, States]:
        """States of each plane of which something was seen, as they were last counted."""
        return self.tracker(labels).states

    # What the user confirms

    def confirm_view(self, labels: Labels) -> str:
        """All that is on the canvas is right; returns a sentence."""
        return self.confirm_box(labels, visible_box(labels))

    def confirm_box(self, labels: Labels, box: Box) -> str:
        """All that lies in a box of the plane in view is right; returns a sentence."""
        y, x = box
        if y.stop <= y.start or x.stop <= x.start:
            raise ValueError("there is nothing in that box; draw it over the image")
        self._add(labels, box_mark(plane_in_view(labels, self._viewer.dims.point), box))
        return f"{y.stop - y.start} × {x.stop - x.start} px marked as correct"

    def confirm_under_pointer(self, labels: Labels) -> str:
        """The cell under the pointer is right, or the background there; returns a sentence.

        Raises
        ------
        ValueError
            If the pointer is beside the labels.
        """
        at = pixel_under(labels, self._viewer.cursor.position)
        if at is None:
            raise ValueError("the pointer is beside the image; point at a cell")
        return self.confirm_at(labels, at)

    def confirm_at(self, labels: Labels, at: Point) -> str:
        """The cell at a pixel of the plane in view is right, or the background there."""
        index = plane_in_view(labels, self._viewer.dims.point)
        plane = self.tracker(labels).plane(index)
        radius = max(1, round(labels.brush_size / 2))
        self._add(labels, mark_at(index, plane, at, self.ring_px, radius))
        return (
            f"Cell {plane[at]} marked as correct" if plane[at] else "Background marked as correct"
        )

    def confirm_empty(
        self, labels: Labels, before: NDArray[np.int32], loop: Path, gone: Sequence[Point]
    ) -> None:
        """There is no cell in a loop on the plane in view; see `marks.loop_mark`."""
        index = plane_in_view(labels, self._viewer.dims.point)
        self._add(labels, loop_mark(index, before, loop, gone))

    def take_back(self, labels: Labels) -> str:
        """Take the last mark back; returns a sentence.

        Raises
        ------
        ValueError
            If there is none.
        """
        marks, tracker = record_of(labels).marks, self.tracker(labels)
        while marks and not holds(marks[-1], tracker.plane(tuple(marks[-1]["index"]))):
            marks.pop()
        if not marks:
            raise ValueError("there is no mark to undo on these labels")
        marks.pop()
        tracker.notify()
        return f"The last mark was undone, {len(marks) or 'none'} left"

    def _add(self, labels: Labels, mark: Mark) -> None:
        drafts = record_of(labels).draft_cells
        if drafts:
            index = tuple(mark["index"])
            plane = self.tracker(labels).plane(index)
            here = pending(drafts, record_of(labels).marks, index, plane)
            met = np.unique(here[confirmed([mark], index, plane)])
            mark = mark | {"drafts": met[met > 0].tolist()}
        record_of(labels).writable_marks().append(mark)
        self.tracker(labels).notify()

    # In the background

    def _survey_due(self) -> None:
        due, self._due = self._due, set()
        for labels in due:
            if labels in self._viewer.layers:
                self._survey(labels)

    def _survey(self, labels: Labels) -> None:
        tracker, ring_px = self.tracker(labels), self.ring_px
        memo, record = tracker.memo(), record_of(labels)
        key, owner = record.draft, record.draft_owner
        # Read here, in the viewer's thread; packing the states takes long.
        pack = partial(info_of, memo, record.image, record.model, record.channel)

        def save(changes: Mapping[Index, Changes]) -> None:
            if key is None or tracker.baseline is None or tracker.is_outdated:
                return
            try:
                self._autosave.save(key, owner, tracker.baseline, pack(), changes)
            except OSError as error:
                log_failure("saving the strokes", error)
                failures.append(f"strokes are not being saved: {sentence(error)}")

        failures: list[str] = []

        def tell(future: Future[Survey]) -> None:
            self._surveying -= 1
            if tracker.is_outdated:
                return
            error = future.exception()
            if error is not None:
                self.counted.emit(labels, sentence(error))
                return
            found = future.result()
            tracker.states, tracker.shown = found.states, found.shown
            tracker.drafts = found.drafts
            show_features(labels)
            self.counted.emit(labels, found.count)
            self.refresh()
            if failures:
                self.failed.emit(failures[0])

        work = partial(tracker.survey, memo, ring_px, save, tracker.take_dirty())
        if self._background.run(work, tell):
            self._surveying += 1

    def _forget(self, event: Event) -> None:
        tracker = self._trackers.pop(event.value, None)
        if tracker is not None:
            tracker.close()
        if event.value == self._shown:
            self._shown = None
            # Not while the viewer is at it: it may be removing all layers.
            QTimer.singleShot(0, self.refresh)
