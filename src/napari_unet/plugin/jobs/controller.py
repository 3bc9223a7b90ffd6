"""Starts jobs of the service for a viewer, and shows their results as layers."""

from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread

from napari.layers import Image, Labels
from napari.viewer import Viewer
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.axes import label_axes, planes_last
from napari_unet.corrections.annotations import Annotated, Correction
from napari_unet.corrections.drafts import Drafts
from napari_unet.jobs import Job, Progress
from napari_unet.learning.finetune import Improvement
from napari_unet.learning.live_view import ViewLabels
from napari_unet.plugin.edits.autosave import Autosave
from napari_unet.plugin.edits.registry import Corrections
from napari_unet.plugin.jobs.better_model import BetterModel
from napari_unet.plugin.jobs.cut_short import CutShortFinetunes
from napari_unet.plugin.jobs.follower import Follower
from napari_unet.plugin.jobs.leaving import end_despite
from napari_unet.plugin.jobs.live_view import LearningView
from napari_unet.plugin.jobs.partial_results import Arriving
from napari_unet.plugin.jobs.redrawing import Redrawing
from napari_unet.plugin.jobs.scope import PLANE, Request, as_seen, ask, channel_for, found_words
from napari_unet.plugin.results.changes import Changes
from napari_unet.plugin.results.outlines import Outlines
from napari_unet.plugin.results.renewing import can_renew, renew
from napari_unet.plugin.results.restore import Restoring
from napari_unet.plugin.results.result_layers import Origin, Result, Results, merge, new_layer
from napari_unet.plugin.results.suggestions import CHECK, NEXT, Places
from napari_unet.plugin.results.versions import Versions
from napari_unet.plugin.viewer.background import Background
from napari_unet.plugin.viewer.canvas import make_current
from napari_unet.plugin.viewer.colours import outline
from napari_unet.plugin.viewer.garbage import look_at_all
from napari_unet.plugin.viewer.layers import (
    anisotropy,
    bare,
    image_from_layer,
    plane_in_view,
    show_preview,
)
from napari_unet.segmentation.planes import Segmentation
from napari_unet.service.segmentation import SegmentationService
from napari_unet.serving.client.unfinished import UnfinishedJob

# What teaches besides an image; may take long.
Others = Callable[[], tuple[Annotated, ...]]
# A job that is cancelled has this long to end before the viewer goes on without it.
_PATIENCE_S = 1.0
# The viewer has this time to draw a layer before it is chosen.
_DRAWING_MS = 20


class Controller:
    """Starts one job at a time for a viewer; all its signals come in the main thread.

    Parameters
    ----------
    viewer
        Where layers are read and added.
    service
        Does the work; closed with the controller.
    drafts
        Folder for what is painted and not yet learnt; by default one beside the models.

    Attributes
    ----------
    follower
        The job that runs: its progress, its end, and the way to cancel it.
    corrections
        What was painted and confirmed.
    results
        The layers that Segment made.
    outlines
        Whether their cells are shown as outlines.
    changes
        Shows what changed since the last result.
    places
        Where to paint next.
    restoring
        Corrections that were saved before.
    versions
        Which version of a model is used, and the way back.
    redrawing
        The cells of the last result with other settings, without the network.
    better_model
        Whether another model suits the image better.
    cut_short
        The last fine-tune that was cut short.

    Signals
    -------
    models_changed
        Name of a model with another active version, or of the one to choose.
    computed_on
        Where the last job ran, in words.
    diameter_guessed
        Diameter of the cells in view, in pixels.
    detailed
        Details of the message that comes next.
    looked
        How the model was shown the image, in words; empty if as it is.
    renewed
        A Labels layer that holds another result now.
    learnt
        `Improvement`, after each fine-tune.
    segmented
        Image, its new Labels layer, and the `Segmentation`.
    """

    models_changed = Signal(str)
    computed_on = Signal(str)
    diameter_guessed = Signal(float)
    detailed = Signal(str)
    looked = Signal(str)
    renewed = Signal(object)
    learnt = Signal(object)
    segmented = Signal(object, object, object)

    def __init__(
        self, viewer: Viewer, service: SegmentationService, drafts: Path | None = None
    ) -> None:
        self.follower = Follower(self._on_progress, self._on_end)
        self.viewer, self.service = viewer, service
        # Comparing large planes takes longer than the viewer may wait.
        self._background = Background()
        self._autosave = Autosave(Drafts(drafts or service.store.root.parent / "drafts"))
        # Stays when the dock goes: its layers do, too.
        viewer.layers.events.removing.connect(make_current)
        viewer.layers.events.removing.connect(look_at_all)
        self.results, self.outlines = Results(viewer), Outlines(viewer)
        self.changes = Changes(viewer, self._background)
        self.corrections = Corrections(viewer, self._background, self._autosave)
        self.places = Places(viewer)
        self.restoring = Restoring(
            viewer, self._background, self._autosave, self.results, self.outlines
        )
        self.versions = Versions(service.store)
        self.redrawing = Redrawing(viewer, self.results, self._bring_along, self._redraw)
        self.better_model = BetterModel(service, self.follower)
        # The image that it was about need not be here.
        self.cut_short = CutShortFinetunes(
            service, self._background, self.follower, partial(self._show_improvement, None)
        )
        # Given the image that teaches, and a function that finds the name of the new model: returns
        # what teaches besides, a function for the background. Raises ValueError if the image must
        # not teach.
        self.also_teach: Callable[[Image, Callable[[], str]], Others] = _alone
        self._learning, self._arriving = LearningView(viewer), Arriving(viewer)
        # While Qt is there still: a script may end, or IPython, with its window open.
        atexit.register(self._at_exit)
        # The thread of a job that did not end in time.
        self._at_work: Thread | None = None

    @property
    def saving(self) -> tuple[Background, Autosave]:
        """The thread in which what was painted is compared, and what saves it there."""
        return self._background, self._autosave

    def close(self) -> None:
        """Cancel what runs, save what was painted, let go of the viewer; safe to call twice."""
        if self.follower.is_closed:
            return
        self.follower.is_closed = True
        self.corrections.close()
        self._background.close()
        self._learning.end()
        self._arriving.end()
        self.places.close()
        self.changes.close()
        self.redrawing.close()
        self.better_model.cancel()
        look_at_all()
        self._at_work = self.service.close(_PATIENCE_S)
        if self._at_work is None:
            atexit.unregister(self._at_exit)

    def _at_exit(self) -> None:
        self.close()
        if self._at_work is not None:
            end_despite(self._at_work)

    def segment(
        self, image: Image, model: str, config: PredictConfig, *, scope: str = PLANE
    ) -> None:
        """Segment planes, or a part of the one in view, into a Labels layer over the image.

        Parameters
        ----------
        image, model, config
            What, with what, and how.
        scope
            One of `scope.SCOPES`.

        Raises
        ------
        ValueError
            If something runs already, the image has axes that cannot be segmented, or there is no
            such model or channel.
        """
        self.follower.check_idle()
        asked = ask(image, self.service.store.find(model), config.channel, scope, self.viewer)
        data, axes = asked.source.data, asked.source.axes
        config = replace(config, channel=asked.channel, anisotropy=anisotropy(image))
        job = self.service.segment(data, axes, model, config, asked.planes, asked.box)
        self.follower.begin("Segmenting")
        self._arriving.begin(image, lambda: asked.is_outdated)
        self.follower.follow(job, partial(self._merge, asked))

    def as_seen(self, image: Image | None, model: str, config: PredictConfig) -> PredictConfig:
        """Settings with which other images are seen in the channel in which this one is.

        Raises
        ------
        ValueError
            If there is no such model, or the axes of the image are unclear.
        """
        version = self.service.store.find(model)
        if image is None or isinstance(config.channel, int):
            return config
        labels, dims = self.results.current(image), self.viewer.dims
        channel = channel_for(image, version, config.channel, dims, labels)
        return replace(config, channel=channel) if isinstance(channel, int) else config

    def guess_diameter(self, image: Image, model: str, config: PredictConfig) -> None:
        """Look how large the cells of the plane in view are.

        Raises
        ------
        ValueError
            As for `segment`.
        """
        self.follower.check_idle()
        source = image_from_layer(image)
        index = plane_in_view(image, self.viewer.dims.point)
        version = self.service.store.find(model)
        channel = channel_for(image, version, config.channel, self.viewer.dims)
        config = replace(config, channel=channel)
        job = self.service.guess_diameter(source.data, source.axes, model, index, config)
        self.follower.begin("Estimating")

        def show(diameter_px: float) -> str:
            self.diameter_guessed.emit(diameter_px)
            return f"The cells are about {diameter_px:.0f} px wide; click Segment again"

        self.follower.follow(job, self.follower.showing(show))

    def finetune(
        self, image: Image, labels: Labels | None, model: str, config: FinetuneConfig
    ) -> None:
        """Teach a model what was painted and confirmed on an image, and on others of its folder.

        The labels are copied, so painting may go on. That nothing was painted, or that there is
        no such model, comes with `ended`.

        Raises
        ------
        ValueError
            If something runs already, or the labels do not belong to the image.
        """
        find = partial(self.service.store.find, model)
        config = as_seen(config, image, labels, find, self.viewer)

        def start(*sources: Annotated) -> None:
            watch = lambda: self._learning.view  # noqa: E731
            job = self.service.finetune(sources, model, config, watch=watch)
            mask = ""
            if labels is not None and labels in self.viewer.layers:
                mask = self.corrections.tracker(labels).mask
            note = f". {mask[0].upper()}{mask[1:]}" if mask else ""

            def show(done: Improvement) -> str:
                return self._show_improvement(image, done) + note

            self.follower.follow(job, self.follower.showing(show))

        also = self.also_teach(image, lambda: self.service.store.name_for_own(find()))
        self._with_corrections(image, labels, "Fine-tuning", start, also=also)
        self._learning.begin(image, config.channel)

    def use_server(self, server: Path | None) -> None:
        """Have what begins next done on a server, or on this computer again.

        Raises
        ------
        ValueError
            If something runs already, or the file of the server cannot be used.
        """
        self.follower.check_idle()
        self.service.servers.use(server)

    def reconnect(self, note: UnfinishedJob) -> None:
        """Follow a fine-tune that was left on a server, and take its model.

        Raises
        ------
        ValueError
            As for `use_server`.
        """
        self.follower.check_idle()
        job = self.service.servers.resume(note)
        self.follower.begin("Fine-tuning", can_finish=True)

        # The image that it was about need not be here.
        show = partial(self._show_improvement, None)
        self.follower.follow(job, self.follower.showing(lambda done: show(replace(done, slips=()))))

    def preview_augmentation(
        self, image: Image, labels: Labels, model: str, config: FinetuneConfig
    ) -> None:
        """Add layers that show what fine-tuning draws from the painted cells, or from all.

        Raises
        ------
        ValueError
            As for `finetune`.
        """
        find = partial(self.service.store.find, model)
        config = as_seen(config, image, labels, find, self.viewer)

        def start(source: Annotated) -> None:
            job = self.service.preview_augmentation(source, model, config)
            self.follower.follow(
                job, self.follower.showing(partial(show_preview, self.viewer, image))
            )

        self._with_corrections(image, labels, "Drawing", start, or_all=True)

    def use_refused(self) -> None:
        """Use the version that the check refused, at the user's own risk.

        Raises
        ------
        ValueError
            If something runs already, or no version was refused.
        """
        self.follower.check_idle()
        used = self.versions.use_refused()
        self.models_changed.emit(used.name)
        self.follower.ended.emit(f'The new version of "{used.name}" is in use', True)

    def go_back(self, model: str, image: Image | None) -> None:
        """Use the parent of a model again, and show its labels of the image.

        Raises
        ------
        ValueError
            If something runs already, or the model has no parent here.
        """
        self.follower.check_idle()
        parent, choice = self.versions.go_back(model)
        shown = self.results.go_back(image, parent.reference) if image is not None else None
        self.models_changed.emit(choice)
        labels = f"; '{shown.name}' is shown as it was" if shown is not None else ""
        self.follower.ended.emit(
            f'Version {parent.version} of "{parent.name}" is in use again{labels}', True
        )

    def next_place(self, image: Image) -> str:
        """Move to the next place that is worth a look; returns a sentence.

        Raises
        ------
        ValueError
            If the image was not segmented since napari was opened.
        """
        labels = self.results.current(image)
        if labels is None or not self.places.has(image):
            raise ValueError("no doubtful cells are known yet; click Segment first")
        stop = self.places.go_on(image, self.corrections.states(labels))
        return str(stop or "You have seen every doubtful cell")

    def _on_progress(self, progress: Progress) -> None:
        if self._learning.is_on:
            shown = progress.preview
            self._learning.go_on(shown if isinstance(shown, ViewLabels) else None)
        elif isinstance(progress.preview, Sequence):
            self._arriving.take(progress.preview)

    def _on_end(self) -> None:
        self._learning.end()
        self._arriving.end()

    def _merge(self, asked: Request, job: Job[Segmentation]) -> None:
        """Bring along what was seen of the current result, then show the new one."""
        source = asked.source
        done: Segmentation = job.result  # type: ignore[assignment]
        done = replace(done, labels=planes_last(done.labels, label_axes(source.axes)))

        def show(future: Future[tuple[Segmentation, Result, Labels]]) -> None:
            # It may have been changed while a layer was made of the result, which then fails.
            if asked.is_outdated:
                self.follower.guarded(lambda: self._show_beside(asked, done))
            else:
                self.follower.guarded(lambda: self._show(asked, *future.result(), job.seconds))

        if asked.is_outdated:
            self._show_beside(asked, done)
        else:
            self._bring_along(asked, lambda: done, show)

    def _bring_along(
        self,
        asked: Request,
        find: Callable[[], Segmentation],
        show: Callable[[Future[tuple[Segmentation, Result, Labels]]], None],
    ) -> None:
        """Merge what `find` returns with the current result, in the background; then `show` it."""
        image, source = asked.image, asked.source
        labels = self.results.current(image)
        old = self.corrections.tracker(labels) if labels is not None else None
        revision = old.revision if old is not None else 0
        ring_px = self.corrections.ring_px
        memo, dims = old.memo() if old else None, bare(self.viewer.dims)

        def work() -> tuple[Segmentation, Result, Labels]:
            done = find()
            result = merge(done, old, memo, ring_px, asked.box)
            # The number that is told is that of the cells in the layer.
            done = replace(done, n_cells=result.n_cells)
            key = self._autosave.key_of(str(image.unique_id), source, image.name)
            channel = done.look.channel if asked.channel == "auto" else asked.channel
            origin = Origin(done.model.reference, channel, done.look.diameter_px, key)
            contour = self.outlines.width_px(done.labels.shape)
            layer = new_layer(bare(image), result, origin, done.diameter_px, contour, dims)
            return done, result, layer

        def go_on(future: Future[tuple[Segmentation, Result, Labels]]) -> None:
            is_touched = old is not None and (old.is_outdated or old.revision != revision)
            if is_touched or self.results.current(image) != labels:
                # A stroke was painted meanwhile, or other cells were drawn: they come along, too.
                self._bring_along(asked, find, show)
            else:
                show(future)

        self._background.run(work, go_on)

    def _redraw(self, image: Image, result: Result, layer: Labels) -> Labels:
        # A job that runs may be reading the labels.
        shown = self._add_or_renew(image, result, layer, is_free=not self.follower.is_busy)
        if shown is layer:
            self.viewer.layers.selection.active = shown
        return shown

    def _add_or_renew(
        self, image: Image, result: Result, layer: Labels, *, is_free: bool = True
    ) -> Labels:
        """Show a result in the layer of the one before if nothing was made of it, else add it.

        Parameters
        ----------
        image, result, layer
            What `new_layer` made of a result.
        is_free
            Whether no job reads the labels of the layer before.

        Returns
        -------
        The layer that shows it.
        """
        # The user may have chosen otherwise meanwhile.
        contour = self.outlines.width_px(result.labels.shape)
        if layer.contour != contour:
            outline(layer, contour)
        old = self.results.current(image)
        if old is None or not is_free or not result.untouched or not can_renew(old, layer):
            self.results.add(image, result, layer)
            self.corrections.tracker(layer)
            return layer
        # First, so that a comparison that runs in the background counts no more.
        self.corrections.start_again(old)
        renew(old, layer)
        self.corrections.tracker(old)
        self.renewed.emit(old)
        return old

    def _show(
        self, asked: Request, done: Segmentation, result: Result, layer: Labels, seconds: float
    ) -> None:
        image = asked.image
        # What is being found in its scores is no longer wanted.
        self.redrawing.drop()
        layer = self._add_or_renew(image, result, layer)
        # Adding a layer takes napari long enough: the viewer may draw before it goes on.
        tell = partial(self._tell, asked, done, result, layer, seconds)
        QTimer.singleShot(_DRAWING_MS, partial(self.follower.guarded, tell))

    def _tell(
        self, asked: Request, done: Segmentation, result: Result, layer: Labels, seconds: float
    ) -> None:
        """Say what was found, and shown in a layer."""
        if self.follower.is_closed:
            return
        image = asked.image
        if layer in self.viewer.layers:
            self.viewer.layers.selection.active = layer
        self.redrawing.keep(asked, done, layer)
        self.places.offer(image, NEXT, done.places, done.diameter_px)
        self.segmented.emit(image, layer, done)
        self.computed_on.emit(done.compute)
        self.looked.emit("" if done.look.is_as_it_is else done.look.words)
        self.detailed.emit(
            f"Model {done.model.name}, version {done.model.version}, {seconds:.1f} s\n"
            f"Computed on {done.compute}"
        )
        changed = f"; since the last result {result.change}" if str(result.change) else ""
        self.follower.finish(f"{found_words(asked, done)}{changed}", True)
        self.better_model.ask_soon(asked, done.model)

    def _show_beside(self, asked: Request, done: Segmentation) -> None:
        """The layer shows another image now: what was found is not laid over it."""
        image, shape = asked.image, tuple(asked.source.data.shape)
        layer = self.results.add_of_earlier(image, done.labels, shape)
        kept = ""
        if layer is not None:
            # Nobody knows which of the pixels were read before they were changed in place.
            when = "before" if image.data is not asked.pixels else "before or meanwhile"
            kept = f"; what was found {when} is kept in the hidden layer '{layer.name}'"
        told = f"the image '{image.name}' was changed meanwhile; click Segment{kept}"
        self.follower.finish(told, False)

    def _show_improvement(self, image: Image | None, done: Improvement) -> str:
        if image is not None and image in self.viewer.layers:
            slips = [slip for slip in done.slips if slip.image == image.name]
            self.places.offer(image, CHECK, [(slip.index, slip.place) for slip in slips])
        self.learnt.emit(done)
        told = self.versions.learnt(done, "" if image is None else image.name)
        self.models_changed.emit(done.model.name if done.verdict.accepted else "")
        self.computed_on.emit(done.compute)
        self.detailed.emit(self.versions.scores)
        return told

    def _with_corrections(
        self,
        image: Image,
        labels: Labels | None,
        what: str,
        start: Callable[..., None],
        *,
        or_all: bool = False,
        also: Others = tuple,
    ) -> None:
        """Copy what was painted, compare it in the background, and go on with the result."""
        self.follower.check_idle()
        source = image_from_layer(image)
        compare: Callable[[], tuple[Correction, ...]] = tuple
        if labels is not None:
            self.results.check_pair(image, labels)
            compare = self.corrections.snapshot(labels, or_all=or_all)
        self.follower.begin(what, can_finish=not or_all)

        def find() -> tuple[Annotated, ...]:
            others = also()
            own = Annotated(source.data, source.axes, compare(), image.name)
            return (own, *others) if own.corrections or not others else others

        def go_on(future: Future[tuple[Annotated, ...]]) -> None:
            if self.follower.was_cancelled:
                self.follower.finish_cancelled()
                return
            self.follower.guarded(lambda: start(*future.result()))

        self._background.run(find, go_on)


def _alone(image: Image, name: Callable[[], str]) -> Others:
    return tuple
