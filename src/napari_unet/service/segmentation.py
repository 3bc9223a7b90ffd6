"""The service that every door calls: segment, fine-tune, train, as jobs.

Torch, scikit-image and what needs them are imported inside the jobs, so that a widget can hold a
service without loading them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from napari_unet.config import Channel, FinetuneConfig, PredictConfig
from napari_unet.core.axes import check_axes, get_plane, plane_indices, take_channel
from napari_unet.core.checks import check_array_channels, check_shape
from napari_unet.corrections.annotations import Annotated, checked
from napari_unet.io.atomic import writing_to
from napari_unet.io.ome_zarr import open_zarr
from napari_unet.jobs import Job, JobRunner, Reporter
from napari_unet.large_images.executors import workers_at
from napari_unet.large_images.job import VolumeLabels, check_in_planes, segment_volume
from napari_unet.learning.finetune import Improvement, reproduce
from napari_unet.learning.live_view import View
from napari_unet.learning.stacks import check_has_stacks, check_not_resized, check_segmentable
from napari_unet.learning.training import NewModel, preview
from napari_unet.models.loaded import Box
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
    """Segments images and improves models; one job at a time, in its own thread.

    Parameters
    ----------
    store
        The models; by default those of this user.

    Attributes
    ----------
    servers
        Where the jobs are done.
    """

    def __init__(self, store: ModelStore | None = None) -> None:
        self.store = store or ModelStore()
        self._runner = JobRunner()
        self._looks: dict[tuple[Any, ...], Look] = {}
        self.servers = Servers(self.store, self._runner)

    def close(self, timeout_s: float = 5.0) -> Thread | None:
        """Cancel what runs here and end the thread; what runs on a server goes on there.

        Returns the thread if it has not ended within the time.
        """
        self.servers.chosen.leave()
        at_work = self._runner.close(timeout_s)
        self.servers.chosen.close()
        return at_work

    def segment(
        self,
        image: Any,
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
            Array-like; planes are read one by one, when they are needed.
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
            Rows and columns of the first of the planes: only there cells are labelled. The network
            sees what lies around.

        Raises
        ------
        ValueError
            If the axes do not fit the image or the settings, there is no such model or channel, or
            the image has several separate channels: all but 3 or 4 colours as the last axis.
        """
        version = self.store.find(model)
        settings = config or PredictConfig()
        image, axes = _seen(image, axes, version, settings.channel)
        check_link(settings.link, axes)
        check_segmentable(version, axes, settings, box)
        chosen = tuple(planes) if planes is not None else tuple(plane_indices(axes, image.shape))
        backend = self.servers.chosen

        def work(job: Job[Segmentation]) -> Segmentation:
            given = settings
            asked = settings.diameter_px, settings.channel
            known: Look | None = None
            key: tuple[Any, ...] = ()
            if "auto" in asked:
                key = (version.path, version.reference, asked, *fingerprint(image, axes))
                known = self._looks.get(key)
            if known is not None:
                given = replace(settings, diameter_px=known.diameter_px, channel=known.channel)
            pixels, named = image, axes
            if settings.channel == "auto":
                pixels, named = take_channel(image, axes, given.channel)
            found = backend.segment(job, pixels, named, version, given, chosen, box)
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
        """Start to segment a zarr store of any size into an OME-Zarr.

        A job that was stopped or killed goes on where it was, when it is started again.

        Parameters
        ----------
        image, axes
            The store, and one letter of TZCYX for each axis where it does not name them.
        out
            Where the labels are to be; `out` + ".part" is used meanwhile.
        model, config
            As for `segment`.
        scheduler
            Address of a Dask cluster whose workers see the same files; None for this computer.
        overwrite
            Whether the labels may take the place of what this program did not make.

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
        """Start to segment image files, see `batch.segment_files`; `scheduler` as above.

        Raises
        ------
        ValueError
            If there is no such model.
        """
        version, settings = self.store.find(model), config or PredictConfig()
        backend, load = self.servers.chosen, partial(self.servers.local.load, version)

        def work(job: Job[tuple[FileDone, ...]]) -> tuple[FileDone, ...]:
            def segment(part: Reporter, *given: Any) -> Segmentation:
                # A server follows the job itself.
                return backend.segment(part if backend is self.servers.local else job, *given)

            with workers_at(scheduler) as workers:
                tools = Tools(segment, load, workers)
                return segment_files(job, tools, version, files, settings, told)

        return self.submit(f"segment files with {version.reference}", work)

    def submit(self, name: str, work: Callable[[Job[T]], T]) -> Job[T]:
        """Start other work, in the same thread; see `JobRunner.submit`."""
        return self._runner.submit(name, work)

    def finetune(
        self,
        annotated: Sequence[Annotated],
        model: Reference,
        config: FinetuneConfig | None = None,
        name: str | None = None,
        watch: Callable[[], View | None] = lambda: None,
    ) -> Job[Improvement]:
        """Start to improve a model from all its corrections; the result is a new version.

        Parameters
        ----------
        annotated
            Images and what was corrected on them now; kept in the model's collection.
        model
            The parent, as for `segment`.
        config
            Settings.
        name
            Model that gets the new version; by default the parent's, or a new one if that shipped.
        watch
            Asked now and then, in the job's thread, what the user looks at; the progress then
            carries `ViewLabels`.

        Raises
        ------
        ValueError
            If the axes do not fit an image, nothing was corrected, there is no such model, or
            the name cannot be one.
        """
        settings = config or FinetuneConfig()
        given = checked(annotated, settings.channel)
        parent = self.store.find(model)
        for item in given if parent.header.for_stacks else ():
            check_has_stacks(item.axes, parent.reference)
        target = name or self.store.name_for_own(parent)
        self.store.check_can_add(target)
        backend = self.servers.chosen
        return self._runner.submit(
            f"fine-tune {parent.reference}",
            lambda job: backend.improve(job, self.store, given, parent, settings, target, watch),
        )

    def guess_diameter(
        self, image: Any, axes: str, model: Reference, index: tuple[int, ...], config: PredictConfig
    ) -> Job[float]:
        """Start to look how large the cells of a plane are, in pixels.

        The job fails with a `ValueError` where no size shows cells; else as for `segment`.
        """
        version = self.store.find(model)
        check_not_resized(version.header, "looked for")
        image, axes = _seen(image, axes, version, config.channel)
        backend = self.servers.chosen
        return self._runner.submit(
            f"measure with {version.reference}",
            lambda job: backend.measure(job, get_plane(image, axes, index), version, config),
        )

    def reproduce(self, model: Reference) -> Job[bool]:
        """Start to train a version again; see `improving.reproduce`."""
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
            A model to go on from, or the architecture of a new one.
        trained_on
            What the images are, in words, for the header.

        Raises
        ------
        ValueError
            As for `finetune`.
        """
        given, words = checked(annotated, config.channel), tuple(trained_on)
        self.store.check_can_add(name)
        origin = start or NewModel()
        if not isinstance(origin, NewModel):
            origin = self.store.find(origin)
        backend = self.servers.chosen
        return self._runner.submit(
            f"train {name}",
            lambda job: backend.train(job, self.store, given, origin, config, name, words),
        )

    def preview_augmentation(
        self,
        annotated: Annotated,
        model: Reference,
        config: FinetuneConfig | None = None,
        draws: int = 4,
    ) -> Job[AugmentationPreview]:
        """Start to draw the samples that a fine-tune with these settings would learn from."""
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
    image: Any, axes: str, version: ModelVersion, channel: Channel | Literal["auto"]
) -> tuple[Any, str]:
    """What a model is to see of an array, as `core.axes.take_channel` gives it.

    Raises
    ------
    ValueError
        If it is empty, the axes or the channel do not fit it, or one of separate channels is to be
        chosen.
    """
    check_shape(image.shape)
    axes = check_axes(axes, image.shape)
    if not isinstance(channel, int):
        check_array_channels(axes, image.shape, version.header.architecture.get("in_channels", 1))
    return take_channel(image, axes, channel)
