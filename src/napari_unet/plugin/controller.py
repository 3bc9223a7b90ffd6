"""Between the viewer and the service: starts jobs, shows their results as layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
from napari.layers import Image, Labels
from napari.viewer import Viewer
from psygnal import Signal
from superqt.utils import ensure_main_thread

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.plugin.edit_tracker import EditCount, EditTracker
from napari_unet.plugin.layers import (
    METADATA,
    Index,
    fits,
    image_from_layer,
    labels_like,
    plane_in_view,
    preview_layers,
)
from napari_unet.service.corrections import Annotated, Correction, corrections_of
from napari_unet.service.jobs import FinishReason, Job, Progress
from napari_unet.service.segmentation import Improvement, Segmentation, SegmentationService

T = TypeVar("T")


@dataclass(frozen=True)
class FinetuneIntent:
    """What the user asked of a fine-tune.

    Attributes
    ----------
    config
        Settings.
    ring_px
        Width of the ring around a corrected cell that counts as looked at.
    """

    config: FinetuneConfig
    ring_px: int = 8


class Controller:
    """Runs one job at a time for a viewer; all its signals come in the main thread.

    Parameters
    ----------
    viewer
        Where layers are read and added.
    service
        Does the work; closed with the controller.

    Signals
    -------
    started
        What begins, in a word or two.
    progressed
        `Progress` of the job.
    ended
        A sentence for the user, and whether it is good news.
    counted
        `EditCount` of the labels asked about.
    models_changed
        Name of a model with another active version.
    computed_on
        Where the last job ran, in words.
    """

    started = Signal(str)
    progressed = Signal(object)
    ended = Signal(str, bool)
    counted = Signal(object)
    models_changed = Signal(str)
    computed_on = Signal(str)

    def __init__(self, viewer: Viewer, service: SegmentationService) -> None:
        self.viewer, self.service = viewer, service
        self.job: Job[Any] | None = None
        self._trackers: dict[Labels, EditTracker] = {}
        self._counts: dict[Labels, dict[Index, int]] = {}
        # Comparing large planes takes longer than the viewer may wait.
        self._compare = ThreadPoolExecutor(1, thread_name_prefix="napari-unet-edits")
        self._closed = False
        viewer.layers.events.removed.connect(self._forget)

    def close(self) -> None:
        """Cancel what runs and let go of the viewer; safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self.viewer.layers.events.removed.disconnect(self._forget)
        for tracker in self._trackers.values():
            tracker.close()
        self._trackers.clear()
        self._compare.shutdown(wait=False, cancel_futures=True)
        self.service.close()

    def segment(
        self, image: Image, model: str, config: PredictConfig, *, all_planes: bool = False
    ) -> None:
        """Segment the plane in view, or all planes, into a Labels layer over the image.

        Raises
        ------
        ValueError
            If the image has axes that cannot be segmented, or there is no such model.
        """
        source = image_from_layer(image)
        planes = None if all_planes else [plane_in_view(image, self.viewer.dims.point)]
        job = self.service.segment(source.data, source.axes, model, config, planes)
        self._follow(job, "Segmenting", partial(self._show_segmentation, image))

    def finetune(self, image: Image, labels: Labels, model: str, intent: FinetuneIntent) -> None:
        """Teach a model what was painted on the labels; copies it now, so painting may go on.

        Raises
        ------
        ValueError
            If the labels do not fit the image.
        """

        def start(source: Annotated) -> None:
            job = self.service.finetune([source], model, intent.config)
            self._follow(job, "Fine-tuning", self._show_improvement)

        self._with_corrections(image, labels, intent.ring_px, start)

    def preview_augmentation(
        self, image: Image, labels: Labels, model: str, intent: FinetuneIntent
    ) -> None:
        """Add layers that show what fine-tuning draws from the painted cells, or from all."""

        def start(source: Annotated) -> None:
            job = self.service.preview_augmentation(source, model, intent.config)
            self._follow(job, "Drawing samples", partial(self._show_preview, image))

        self._with_corrections(image, labels, intent.ring_px, start, or_all=True)

    def cancel(self) -> None:
        """Ask the running job to end."""
        if self.job is not None:
            self.job.cancel()

    def revert(self, model: str) -> None:
        """Let a model's name stand for the parent of its active version again.

        Raises
        ------
        ValueError
            If it has none.
        """
        back = self.service.store.revert(model.partition("@")[0])
        self.models_changed.emit(back.name)
        self.ended.emit(f"{back.name} is version {back.version} again", True)

    def count(self, labels: Labels | None) -> None:
        """Count what was painted, in the background; `counted` tells."""
        if labels is None:
            self.counted.emit(EditCount())
            return
        tracker = self._tracker(labels)
        counts = self._counts.setdefault(labels, {})
        view = plane_in_view(labels, self.viewer.dims.point)
        todo = [i for i in tracker.dirty_planes() if i == view or i not in counts]
        snapshots = [tracker.snapshot(index) for index in todo]
        self._in_background(
            lambda: {plane.index: plane.edits(ring_px=0).n_cells for plane in snapshots},
            partial(self._show_count, counts),
        )

    def source_of(self, labels: Labels) -> str | None:
        """Name of the image layer that labels were made from, if Segment made them."""
        name: str | None = labels.metadata.get(METADATA, {}).get("image")
        return name

    def latest_result(self, image: Image) -> Labels | None:
        """The newest labels that Segment made from an image, None if there are none."""
        for layer in reversed(self.viewer.layers):
            if layer in self._trackers and self.source_of(layer) == image.name:
                return layer
        return None

    def _follow(self, job: Job[T], what: str, show: Callable[[T], str]) -> None:
        self.job = job
        job.progressed.connect(self._on_progress)
        job.ended.connect(partial(self._on_end, show))
        self.started.emit(what)
        # It may have ended before anybody listened.
        if job.reason is not None:
            self._on_end(show, job)

    @ensure_main_thread
    def _on_progress(self, progress: Progress) -> None:
        if not self._closed:
            self.progressed.emit(progress)

    @ensure_main_thread
    def _on_end(self, show: Callable[[Any], str], job: Job[Any]) -> None:
        if self._closed or job is not self.job:
            return
        self.job = None
        if job.reason is FinishReason.CANCELLED:
            self.ended.emit("Cancelled; nothing was changed", True)
        elif job.reason is FinishReason.FAILED:
            self.ended.emit(job.error, False)
        else:
            self.ended.emit(f"{show(job.result)} ({job.seconds:.1f} s)", True)

    def _show_segmentation(self, image: Image, done: Segmentation) -> str:
        old = self.latest_result(image)
        layer = labels_like(
            image,
            done.labels.copy(),
            f"{image.name} cells",
            {METADATA: {"image": image.name, "model": done.model.reference}},
        )
        layer.brush_size = max(3, round(done.diameter_px / 2)) if done.n_cells else 10
        if old is not None:
            if self._tracker(old).is_untouched():
                self.viewer.layers.remove(old)
            else:
                # Corrections stay in the layer that they were painted on.
                old.visible = False
        self.viewer.add_layer(layer)
        layer.selected_label = done.n_cells + 1
        self._trackers[layer] = self._new_tracker(layer, done.labels)
        self.viewer.layers.selection.active = layer
        cells = "1 cell" if done.n_cells == 1 else f"{done.n_cells} cells"
        self.computed_on.emit(done.compute)
        return f"{cells} found with {done.model.reference}"

    def _show_improvement(self, done: Improvement) -> str:
        self.models_changed.emit(done.model.name)
        self.computed_on.emit(done.compute)
        return (
            f"Learnt as {done.model.reference}: {100 * done.agreement_before:.0f} % of the painted "
            f"places were right, {100 * done.agreement_after:.0f} % are now; click Segment"
        )

    def _show_preview(self, image: Image, done: Any) -> str:
        for layer in preview_layers(image, done):
            if layer.name in self.viewer.layers:
                self.viewer.layers.remove(layer.name)
            self.viewer.add_layer(layer)
        draws, height, _ = done.grid.shape
        return f"{draws} draws shown to the right of the image, {height} px each"

    def _with_corrections(
        self,
        image: Image,
        labels: Labels,
        ring_px: int,
        start: Callable[[Annotated], None],
        *,
        or_all: bool = False,
    ) -> None:
        """Copy what was painted now, compare it in the background, and go on with the result."""
        if not fits(labels, image):
            raise ValueError(
                f"the labels '{labels.name}' have another size than the image '{image.name}'; "
                "choose labels that were made from this image"
            )
        source = image_from_layer(image)
        tracker = self._tracker(labels)
        snapshots = [tracker.snapshot(index) for index in tracker.dirty_planes()]
        otherwise = []
        if or_all:
            view = tracker.snapshot(plane_in_view(labels, self.viewer.dims.point))
            otherwise = [replace(view, before=np.zeros_like(view.before))]
        self.started.emit("Comparing")

        def go_on(corrections: Sequence[Correction]) -> None:
            try:
                start(Annotated(source.data, source.axes, tuple(corrections)))
            except ValueError as error:
                self.ended.emit(str(error), False)

        def compare() -> Sequence[Correction]:
            return corrections_of(snapshots, ring_px) or corrections_of(otherwise, ring_px)

        self._in_background(compare, go_on)

    def _in_background(self, work: Callable[[], T], then: Callable[[T], None]) -> None:
        def on_done(future: Future[T]) -> None:
            if not future.cancelled():
                self._deliver(future, then)

        if not self._closed:
            self._compare.submit(work).add_done_callback(on_done)

    @ensure_main_thread
    def _deliver(self, future: Future[T], then: Callable[[T], None]) -> None:
        if self._closed:
            return
        error = future.exception()
        if error is not None:
            self.ended.emit(str(error), False)
        else:
            then(future.result())

    def _show_count(self, counts: dict[Index, int], new: dict[Index, int]) -> None:
        counts.update(new)
        found = [n for n in counts.values() if n]
        self.counted.emit(EditCount(sum(found), len(found)))

    def _tracker(self, labels: Labels) -> EditTracker:
        if labels not in self._trackers:
            self._trackers[labels] = self._new_tracker(labels, None)
        return self._trackers[labels]

    def _new_tracker(self, labels: Labels, baseline: Any) -> EditTracker:
        return EditTracker(
            labels,
            baseline,
            lambda: plane_in_view(labels, self.viewer.dims.point),
            lambda: self.count(labels),
        )

    def _forget(self, event: Any) -> None:
        tracker = self._trackers.pop(event.value, None)
        self._counts.pop(event.value, None)
        if tracker is not None:
            tracker.close()
