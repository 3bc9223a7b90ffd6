"""Between the viewer and the service: starts jobs, shows their results as layers."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from napari.layers import Image, Labels
from napari.viewer import Viewer
from psygnal import Signal
from superqt.utils import ensure_main_thread

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.plugin.edit_tracker import EditCount, EditTracker
from napari_unet.plugin.layers import (
    METADATA,
    fits,
    image_from_layer,
    labels_like,
    plane_in_view,
    preview_layers,
)
from napari_unet.service.corrections import Annotated, Correction, corrections_of
from napari_unet.service.improving import Improvement
from napari_unet.service.jobs import FinishReason, Job, Progress, sentence
from napari_unet.service.segmentation import Segmentation, SegmentationService

T = TypeVar("T")
logger = logging.getLogger(__name__)


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
    edited
        Labels that may have changed; often, while a stroke is painted.
    counted
        Labels, and in words what was corrected on them.
    models_changed
        Name of a model with another active version.
    computed_on
        Where the last job ran, in words.
    """

    started = Signal(str)
    progressed = Signal(object)
    ended = Signal(str, bool)
    edited = Signal(object)
    counted = Signal(object, str)
    models_changed = Signal(str)
    computed_on = Signal(str)

    def __init__(self, viewer: Viewer, service: SegmentationService) -> None:
        self.viewer, self.service = viewer, service
        self.is_busy = False
        self._job: Job[Any] | None = None
        self._cancelled = self._closed = False
        self._trackers: dict[Labels, EditTracker] = {}
        self.is_counting = False
        # Comparing large planes takes longer than the viewer may wait.
        self._compare = ThreadPoolExecutor(1, thread_name_prefix="napari-unet-edits")
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
            If something runs already, the image has axes that cannot be segmented, or there is no
            such model.
        """
        self._check_idle()
        source = image_from_layer(image)
        planes = None if all_planes else [plane_in_view(image, self.viewer.dims.point)]
        job = self.service.segment(source.data, source.axes, model, config, planes)
        self._begin("Segmenting")
        self._follow(job, partial(self._show_segmentation, image))

    def finetune(self, image: Image, labels: Labels, model: str, intent: FinetuneIntent) -> None:
        """Teach a model what was painted on an image: on these labels, and on earlier results.

        The labels are copied, so painting may go on. That nothing was painted, or that there is
        no such model, comes with `ended`.

        Raises
        ------
        ValueError
            If something runs already, or the labels do not belong to the image.
        """

        def start(source: Annotated) -> None:
            job = self.service.finetune([source], model, intent.config)
            self._follow(job, self._show_improvement)

        self._with_corrections(image, labels, "Fine-tuning", intent.ring_px, start)

    def preview_augmentation(
        self, image: Image, labels: Labels, model: str, intent: FinetuneIntent
    ) -> None:
        """Add layers that show what fine-tuning draws from the painted cells, or from all.

        Raises
        ------
        ValueError
            As for `finetune`.
        """

        def start(source: Annotated) -> None:
            job = self.service.preview_augmentation(source, model, intent.config)
            self._follow(job, partial(self._show_preview, image))

        self._with_corrections(image, labels, "Drawing", intent.ring_px, start, or_all=True)

    def cancel(self) -> None:
        """Ask what runs to end."""
        self._cancelled = True
        if self._job is not None:
            self._job.cancel()

    def revert(self, model: str) -> None:
        """Let a model's name stand for the parent of its active version again.

        Raises
        ------
        ValueError
            If something runs already, or the model has none.
        """
        self._check_idle()
        back = self.service.store.revert(model.partition("@")[0])
        self.models_changed.emit(back.name)
        self.ended.emit(f"{back.name} is version {back.version} again", True)

    def count(self, labels: Labels) -> None:
        """Count what was painted, in the background, one count at a time; `counted` tells."""
        if self.is_counting:
            self.edited.emit(labels)
            return
        tracker = self._tracker(labels)

        def tell(future: Future[EditCount]) -> None:
            self.is_counting = False
            error = future.exception()
            self.counted.emit(labels, str(error or future.result()))

        self.is_counting = self._in_background(tracker.count, tell)

    def source_of(self, labels: Labels) -> Image | None:
        """The image layer that labels were made from; None if it is gone or Segment made none."""
        known = labels.metadata.get(METADATA, {}).get("source")
        for layer in self.viewer.layers:
            if isinstance(layer, Image) and layer.unique_id == known:
                return layer
        return None

    def latest_result(self, image: Image) -> Labels | None:
        """The newest labels that Segment made from an image, None if there are none."""
        found = self._results_of(image)
        return found[-1] if found else None

    def _results_of(self, image: Image) -> list[Labels]:
        labels = [layer for layer in self.viewer.layers if isinstance(layer, Labels)]
        return [layer for layer in labels if self.source_of(layer) is image]

    def _check_idle(self) -> None:
        if self.is_busy:
            raise ValueError("something is running still; wait for its end, or click Cancel")

    def _begin(self, what: str) -> None:
        self.is_busy, self._cancelled = True, False
        self.started.emit(what)

    def _finish(self, message: str, well: bool) -> None:
        self.is_busy, self._job = False, None
        self.ended.emit(message, well)

    def _follow(self, job: Job[T], show: Callable[[T], str]) -> None:
        self._job = job
        job.progressed.connect(self._on_progress)
        job.ended.connect(partial(self._on_end, show))
        # It may have ended before anybody listened.
        if job.reason is not None:
            self._on_end(show, job)

    @ensure_main_thread
    def _on_progress(self, progress: Progress) -> None:
        if not self._closed:
            self.progressed.emit(progress)

    @ensure_main_thread
    def _on_end(self, show: Callable[[Any], str], job: Job[Any]) -> None:
        if self._closed or job is not self._job:
            return
        if job.reason is FinishReason.CANCELLED:
            self._finish("Cancelled; nothing was changed", True)
        elif job.reason is FinishReason.FAILED:
            self._finish(job.error, False)
        else:
            self._guarded(lambda: self._finish(f"{show(job.result)} ({job.seconds:.1f} s)", True))

    def _guarded(self, action: Callable[[], None]) -> None:
        """Whatever goes wrong here, the user is told, and the dock works on."""
        try:
            action()
        except Exception as error:
            logger.exception("napari-unet failed in the viewer")
            self._finish(sentence(error), False)

    def _show_segmentation(self, image: Image, done: Segmentation) -> str:
        old = self.latest_result(image)
        labels, baseline = done.labels.copy(), done.labels
        if old is not None:
            tracker = self._tracker(old)
            tracker.carry_over(done.planes, labels, baseline)
            if tracker.is_untouched(done.planes):
                self.viewer.layers.remove(old)
            else:
                # Corrections stay in the layer that they were painted on.
                old.visible = False
        layer = labels_like(
            image,
            labels,
            f"{image.name} cells",
            {
                METADATA: {
                    "source": image.unique_id,
                    "image": image.name,
                    "model": done.model.reference,
                    "baseline": baseline,
                }
            },
        )
        layer.brush_size = max(3, round(done.diameter_px / 2)) if done.n_cells else 10
        self.viewer.add_layer(layer)
        layer.selected_label = int(labels.max(initial=0)) + 1
        self._tracker(layer)
        self.viewer.layers.selection.active = layer
        cells = "1 cell" if done.n_cells == 1 else f"{done.n_cells} cells"
        self.computed_on.emit(done.compute)
        return f"{cells} found with {done.model.reference}"

    def _show_improvement(self, done: Improvement) -> str:
        self.models_changed.emit(done.model.name)
        self.computed_on.emit(done.compute)
        return (
            f"Learnt as {done.model.reference}: {done.check or done.replay or done.verdict.why}; "
            "click Segment"
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
        what: str,
        ring_px: int,
        start: Callable[[Annotated], None],
        *,
        or_all: bool = False,
    ) -> None:
        """Copy what was painted, compare it in the background, and go on with the result."""
        self._check_idle()
        owner = self.source_of(labels)
        if owner is not None and owner is not image:
            raise ValueError(
                f"the labels '{labels.name}' were made from the image '{owner.name}', not from "
                f"'{image.name}'; choose the two that belong together"
            )
        if not fits(labels, image):
            raise ValueError(
                f"the labels '{labels.name}' have another size than the image '{image.name}'; "
                "choose labels that were made from this image"
            )
        source = image_from_layer(image)
        earlier = [layer for layer in self._results_of(image) if layer is not labels]
        trackers = [self._tracker(layer) for layer in (*earlier, labels)]
        view = plane_in_view(labels, self.viewer.dims.point)
        self._begin(what)

        def compare() -> tuple[Correction, ...]:
            painted = [plane for tracker in trackers for plane in tracker.painted_planes()]
            found = corrections_of(painted, ring_px)
            if or_all and not found:
                whole = trackers[-1].snapshot(view)
                found = corrections_of([replace(whole, before=0 * whole.before)], ring_px)
            return found

        def go_on(future: Future[tuple[Correction, ...]]) -> None:
            if self._cancelled:
                self._finish("Cancelled; nothing was changed", True)
                return
            self._guarded(lambda: start(Annotated(source.data, source.axes, future.result())))

        self._in_background(compare, go_on)

    def _in_background(self, work: Callable[[], T], then: Callable[[Future[T]], None]) -> bool:
        if self._closed:
            return False
        self._compare.submit(work).add_done_callback(partial(self._deliver, then))
        return True

    @ensure_main_thread
    def _deliver(self, then: Callable[[Future[T]], None], future: Future[T]) -> None:
        if not (self._closed or future.cancelled()):
            then(future)

    def _tracker(self, labels: Labels) -> EditTracker:
        if labels not in self._trackers:
            self._trackers[labels] = EditTracker(labels, lambda: self.edited.emit(labels))
        return self._trackers[labels]

    def _forget(self, event: Any) -> None:
        tracker = self._trackers.pop(event.value, None)
        if tracker is not None:
            tracker.close()
