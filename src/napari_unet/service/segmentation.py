"""The service that the dock, the command line and Python call: segment, fine-tune, train, as jobs.

Torch, scikit-image and the modules that need them are imported inside the jobs. So a widget can
hold a service without loading them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Literal, TypeVar

from napari_unet.backends.requests import (
    DiameterRequest,
    FinetuneRequest,
    SegmentRequest,
    TrainRequest,
)
from napari_unet.config import Channel, FinetuneConfig, PredictConfig
from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import check_axes, get_plane, plane_indices, take_channel
from napari_unet.core.boxes import Box
from napari_unet.core.checks import check_array_channels, check_shape
from napari_unet.corrections.annotations import Annotated, checked
from napari_unet.io.atomic import writing_to
from napari_unet.io.ome_zarr import open_zarr
from napari_unet.jobs import Job, JobRunner, Reporter
from napari_unet.large_images.executors import workers_at
from napari_unet.large_images.job import VolumeLabels, check_in_planes, segment_volume
from napari_unet.learning.cut_short import CutShort, discard, find_cut_short
from napari_unet.learning.finetune import Improvement, reproduce
from napari_unet.learning.live_view import View
from napari_unet.learning.stacks import check_has_stacks, check_not_resized, check_segmentable
from napari_unet.learning.training import NewModel, preview
from napari_unet.models.store import ModelStore, ModelVersion, Reference
from napari_unet.segmentation.linking import check_link
from napari_unet.segmentation.looking import Look, fingerprint
from napari_unet.segmentation.planes import Segmentation
from napari_unet.service.backend_choice import Servers
from napari_unet.service.files import FileDone, FileJob, Tools, segment_files

if TYPE_CHECKING:
    from napari_unet.engine.augmentation_preview import AugmentationPreview

T = TypeVar("T")


class SegmentationService:
    """Segments images and improves models.

    - Each method checks what it is given, starts a `Job` and returns it at once.
    - One job runs at a time, in a thread of its own; the others wait for their turn.

    Parameters
    ----------
    store
        The models; by default those of this user.

    Attributes
    ----------
    servers
        Chooses whether the jobs run on this computer or on a server.
    """

    def __init__(self, store: ModelStore | None = None) -> None:
        self.store = store or ModelStore()
        self._runner = JobRunner()
        self._looks: dict[tuple[object, ...], Look] = {}
        self.servers = Servers(self.store, self._runner)

    def close(self, timeout_s: float = 5.0) -> Thread | None:
        """Cancel the jobs on this computer and end the thread; jobs on a server go on there.

        A fine-tune on this computer can be resumed later, see `cut_short`.

        Returns the thread if it has not ended after `timeout_s`, else None.
        """
        for backend in (self.servers.local, self.servers.chosen):
            backend.leave()
        at_work = self._runner.close(timeout_s)
        self.servers.chosen.close()
        return at_work

    def segment(
        self,
        image: LazyArray,
        axes: str,
        model: Reference,
        config: PredictConfig | None = None,
        planes: Sequence[tuple[int, ...]] | None = None,
        box: Box | None = None,
    ) -> Job[Segmentation]:
        """Start to segment an image.

        Parameters
        ----------
        image
            Array-like; each plane is read when it is needed.
        axes
            One letter of TZCYX for each axis.
        model
            NAME, NAME@VERSION, the path of a model file, or a version.
        config
            Settings.
        planes
            Indices along the axes other than C, Y, X, in the order of the work; all planes by
            default. The ids do not depend on the order. A model of stacks segments the whole stacks
            that they lie in.
        box
            Rows and columns of the first of the planes, in pixels: only there cells are labelled.
            The network also sees the pixels around the box.

        Raises
        ------
        ValueError
            If the axes do not fit the image or the settings, there is no such model or channel, or
            no channel is chosen of an image with several separate channels. Colours are no separate
            channels: these are 3 or 4 values as the last axis.
        """
        version = self.store.find(model)
        settings = config or PredictConfig()
        image, axes = _seen(image, axes, version, settings.channel)
        check_link(settings.link, axes)
        check_segmentable(version, axes, settings, box)
        chosen = tuple(planes) if planes is not None else tuple(plane_indices(axes, image.shape))
        backend = self.servers.chosen

        def work(job: Job[Segmentation]) -> Segmentation:
            # A search for the size of the cells or for the channel takes time: what was found is
            # used again for the same image and model.
            given = settings
            asked = settings.diameter_px, settings.channel
            known: Look | None = None
            key: tuple[object, ...] = ()
            if "auto" in asked:
                key = (version.path, version.reference, asked, *fingerprint(image, axes))
                known = self._looks.get(key)
            if known is not None:
                given = replace(settings, diameter_px=known.diameter_px, channel=known.channel)
            pixels, named = image, axes
            if settings.channel == "auto":
                pixels, named = take_channel(image, axes, given.channel)
            request = SegmentRequest(pixels, named, version, given, chosen, box)
            found = backend.segment(job, request)
            if key and found.n_cells:
                self._looks[key] = known or found.look
            return replace(found, look=known or found.look)

        return self._runner.submit(f"segment with {version.reference}", work)

    def segment_volume(
        self,
        image: Path,
        out: Path,
        model: Reference,
        config: PredictConfig | None = None,
        axes: str | None = None,
        scheduler: str | None = None,
        *,
        overwrite: bool = False,
    ) -> Job[VolumeLabels]:
        """Start to segment a zarr store of any size; the labels become an OME-Zarr.

        A job that was stopped or killed keeps its finished pieces, and continues when it is started
        again.

        Parameters
        ----------
        image, axes
            The store, and one letter of TZCYX for each axis where it does not name them.
        out
            Path of the labels. Until the job ends they are at `out` + ".part".
        model, config
            As for `segment`.
        scheduler
            Address of a Dask cluster whose workers can read and write the same files; None for
            this computer.
        overwrite
            Whether the labels may replace a store that this program did not make.

        Raises
        ------
        ValueError
            If there is no such model.
        """
        version, settings = self.store.find(model), config or PredictConfig()
        load = partial(self.servers.local.load, version)

        def work(job: Job[VolumeLabels]) -> VolumeLabels:
            check_in_planes(version, settings)
            source = open_zarr(image, axes).source
            check_link(settings.link, source.axes)
            n_channels = version.header.architecture.get("in_channels", 1)
            source.check_channels(settings.channel, n_channels)
            with workers_at(scheduler) as workers, writing_to(out):
                return segment_volume(
                    job, load, version, image, axes, out, settings, workers, overwrite=overwrite
                )

        return self.submit(f"segment with {version.reference}", work)

    def segment_files(
        self,
        files: Sequence[FileJob],
        model: Reference,
        config: PredictConfig | None = None,
        told: Callable[[FileDone], None] = lambda done: None,
        scheduler: str | None = None,
    ) -> Job[tuple[FileDone, ...]]:
        """Start to segment image files one after the other; see `files.segment_files`.

        Parameters
        ----------
        files
            The images, and where their labels and tables go.
        model, config
            As for `segment`.
        told
            Called after each image, in the job's thread, with its outcome.
        scheduler
            As for `segment_volume`; used where an image and its labels are zarr stores.

        Raises
        ------
        ValueError
            If there is no such model.
        """
        version, settings = self.store.find(model), config or PredictConfig()
        backend, local = self.servers.chosen, self.servers.local
        load = partial(local.load, version)

        def work(job: Job[tuple[FileDone, ...]]) -> tuple[FileDone, ...]:
            def segment(part: Reporter, request: SegmentRequest) -> Segmentation:
                # The backend of a server needs the job itself, not a part of it.
                if backend is not local:
                    return backend.segment(job, request)
                return local.segment(part, request)

            with workers_at(scheduler) as workers:
                tools = Tools(segment, load, workers)
                return segment_files(job, tools, version, files, settings, told)

        return self.submit(f"segment files with {version.reference}", work)

    def submit(self, name: str, work: Callable[[Job[T]], T]) -> Job[T]:
        """Start any other work in the thread of the jobs; see `JobRunner.submit`."""
        return self._runner.submit(name, work)

    def finetune(
        self,
        annotated: Sequence[Annotated],
        model: Reference,
        config: FinetuneConfig | None = None,
        name: str | None = None,
        watch: Callable[[], View | None] = lambda: None,
    ) -> Job[Improvement]:
        """Start to improve a model from all its corrections; this makes a new version.

        Parameters
        ----------
        annotated
            Images and what was corrected on them now; stored in the model's collection.
        model
            The parent, as for `segment`.
        config
            Settings.
        name
            Model that gets the new version. By default this is the parent's model, or a new one if
            the parent came with the program.
        watch
            Called now and then, in the job's thread: returns what the user looks at, or None. The
            progress then carries `ViewLabels`.

        Raises
        ------
        ValueError
            If the axes do not fit an image, nothing was corrected, there is no such model, or
            the name cannot be one.
        """
        settings = config or FinetuneConfig()
        parent = self.store.find_to_train(model)
        given = checked(annotated, settings.channel)
        for item in given if parent.header.for_stacks else ():
            check_has_stacks(item.axes, parent.reference)
        target = name or self.store.name_for_own(parent)
        self.store.check_can_add(target)
        backend = self.servers.chosen
        request = FinetuneRequest(given, parent, settings, target)
        return self._runner.submit(
            f"fine-tune {parent.reference}",
            lambda job: backend.finetune(job, self.store, request, watch),
        )

    def cut_short(self) -> list[CutShort]:
        """Return the fine-tunes on this computer that were cut short, the last one first.

        It reads small files, among them all corrections of their models.
        """
        return find_cut_short(self.store)

    def resume(self, name: str, *, keep: bool = False) -> Job[Improvement]:
        """Start to go on with a fine-tune of this model that was cut short; see `cut_short`.

        The job fails with a sentence if it cannot go on. With `keep`, it can be resumed once more
        if it is cancelled.
        """
        local = self.servers.local
        return self._runner.submit(
            f"go on with the fine-tune of {name}",
            lambda job: local.resume(job, self.store, name, keep=keep),
        )

    def discard_cut_short(self, name: str) -> None:
        """Delete the state of a fine-tune of this model that was cut short."""
        discard(self.store, name)

    def guess_diameter(
        self,
        image: LazyArray,
        axes: str,
        model: Reference,
        index: tuple[int, ...],
        config: PredictConfig,
    ) -> Job[float]:
        """Start to guess the typical diameter of the cells of a plane, in pixels.

        Parameters
        ----------
        image, axes, model
            As for `segment`.
        index
            The plane, along the axes other than C, Y, X.
        config
            Settings; its `diameter_px` is not used.

        Raises
        ------
        ValueError
            As for `segment`. The job fails with one if the model recognises no cells at any size.
        """
        version = self.store.find(model)
        check_not_resized(version.header, "looked for")
        image, axes = _seen(image, axes, version, config.channel)
        backend = self.servers.chosen
        request = DiameterRequest(image, axes, index, version, config)
        return self._runner.submit(
            f"measure with {version.reference}", lambda job: backend.guess_diameter(job, request)
        )

    def better_model(
        self, image: LazyArray, axes: str, model: Reference, index: tuple[int, ...]
    ) -> Job[str | None]:
        """Start to look whether a model that ships suits an image clearly better than this one.

        The job returns its name, or None. It looks at samples of one plane, on this computer, and
        takes about a second where this model does not suit, less elsewhere.

        Parameters
        ----------
        image, axes, model
            As for `segment`.
        index
            The plane, along the axes other than C, Y, X.

        Raises
        ------
        ValueError
            If the axes do not fit the image, or there is no such model.
        """
        own = self.store.find(model)
        axes = check_axes(axes, image.shape)
        shipped = [v for v in map(self.store.find, self.store.names()) if v.shipped]
        others = [v for v in shipped if v.name != own.name and not v.header.for_stacks]

        def work(job: Job[str | None]) -> str | None:
            from napari_unet.models.device import choose
            from napari_unet.segmentation.looking import is_better, steadiness_at_best

            config = PredictConfig()
            compute = choose(config.device, config.precision)
            plane = get_plane(image, axes, index)

            def steadiness(version: ModelVersion) -> float:
                loaded = self.servers.local.load(version)
                return steadiness_at_best(loaded, plane, config, compute, job)

            if own.header.for_stacks:
                return None
            now = steadiness(own)
            can_be_better = is_better(now, 1.0)
            return next(
                (v.name for v in others if can_be_better and is_better(now, steadiness(v))), None
            )

        return self._runner.submit(f"compare models with {own.reference}", work)

    def reproduce(self, model: Reference) -> Job[bool]:
        """Start to train a version again, and compare the weights; see `finetune.reproduce`."""
        version = self.store.find(model)
        return self._runner.submit(
            f"train {version.reference} again", lambda job: reproduce(job, self.store, version)
        )

    def train(
        self,
        annotated: Sequence[Annotated],
        name: str,
        config: FinetuneConfig,
        start: Reference | NewModel | None = None,
        trained_on: Sequence[str] = (),
    ) -> Job[Improvement]:
        """Start to train a model on densely labelled images, from scratch or from a model.

        Parameters
        ----------
        annotated
            Images and labels.
        name
            The model that gets the new version.
        config
            Settings; see `config.train_config`.
        start
            A model to go on from, or the architecture of a new one; by default a `NewModel()`.
        trained_on
            What the images are, in words, for the header.

        Raises
        ------
        ValueError
            As for `finetune`.
        """
        given = checked(annotated, config.channel)
        self.store.check_can_add(name)
        origin = start or NewModel()
        if not isinstance(origin, NewModel):
            origin = self.store.find_to_train(origin)
        backend = self.servers.chosen
        request = TrainRequest(given, origin, config, name, tuple(trained_on))
        return self._runner.submit(
            f"train {name}", lambda job: backend.train(job, self.store, request)
        )

    def preview_augmentation(
        self,
        annotated: Annotated,
        model: Reference,
        config: FinetuneConfig | None = None,
        draws: int = 4,
    ) -> Job[AugmentationPreview]:
        """Start to draw samples as a fine-tune with these settings would learn from them.

        Parameters
        ----------
        annotated
            An image and its corrections.
        model, config
            As for `finetune`.
        draws
            How many samples.

        Raises
        ------
        ValueError
            As for `finetune`, or if the model is one of stacks.
        """
        settings = config or FinetuneConfig()
        (given,) = checked([annotated], settings.channel)
        version = self.store.find(model)
        if version.header.for_stacks:
            raise ValueError(
                f"{version.reference} learns from stacks, whose augmentation cannot be shown; "
                "choose a model of planes"
            )
        return self._runner.submit(
            "show the augmentation",
            lambda job: preview(job, self.servers.local.load(version), given, settings, draws),
        )


def _seen(
    image: LazyArray, axes: str, version: ModelVersion, channel: Channel | Literal["auto"]
) -> tuple[LazyArray, str]:
    """Return the part of an array that a model sees, and its axes; see `core.axes.take_channel`.

    Raises
    ------
    ValueError
        If the array is empty, the axes or the channel do not fit it, or it has several separate
        channels and none is chosen.
    """
    check_shape(image.shape)
    axes = check_axes(axes, image.shape)
    if not isinstance(channel, int):
        check_array_channels(axes, image.shape, version.header.architecture.get("in_channels", 1))
    return take_channel(image, axes, channel)
