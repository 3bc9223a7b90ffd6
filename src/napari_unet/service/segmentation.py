"""The service that every door calls: segment, fine-tune, train, as jobs.

Torch, scikit-image and what needs them are imported inside the jobs, so that a widget can hold a
service without loading them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.axes import check_axes, get_plane, plane_indices, take_channel
from napari_unet.service.batch import FileDone, FileJob, segment_files
from napari_unet.service.corrections import Annotated
from napari_unet.service.device import choose
from napari_unet.service.gate import Verdict
from napari_unet.service.improving import Improvement, improve, reproduce, store_version
from napari_unet.service.jobs import Job, JobRunner
from napari_unet.service.linking import check_link
from napari_unet.service.loaded_model import Box, LoadedModel
from napari_unet.service.model_store import ModelStore, ModelVersion, Reference, check_name
from napari_unet.service.segmenting import Segmentation, measure_cells, segment_planes
from napari_unet.service.segmenting_box import segment_box
from napari_unet.service.training import (
    NewModel,
    annotated_planes,
    cell_diameter,
    learn,
    new_model,
    postprocess_for,
    start_training,
    teach_classes,
    zoom_for,
)
from napari_unet.service.views import View
from napari_unet.service.volumes import VolumeLabels, segment_volume
from napari_unet.service.workers import workers_at

if TYPE_CHECKING:
    from napari_unet.engine.preview import AugmentationPreview

T = TypeVar("T")


class SegmentationService:
    """Segments images and improves models; one job at a time, in its own thread.

    Parameters
    ----------
    store
        The models; by default those of this user.
    """

    def __init__(self, store: ModelStore | None = None) -> None:
        self.store = store or ModelStore()
        self._runner = JobRunner()
        self._loaded: dict[tuple[Path, int, int], LoadedModel] = {}

    def close(self) -> None:
        """Cancel what runs and end the thread."""
        self._runner.close()

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
            default. The ids do not depend on the order.
        box
            Rows and columns of the first of the planes: only there cells are labelled. The network
            sees what lies around.

        Raises
        ------
        ValueError
            If the axes do not fit the image or the settings, or there is no such model or channel.
        """
        version = self.store.find(model)
        settings = config or PredictConfig()
        image, axes = take_channel(image, check_axes(axes, image.shape), settings.channel)
        check_link(settings.link, axes)
        chosen = tuple(planes) if planes is not None else tuple(plane_indices(axes, image.shape))
        if box is not None:
            load = partial(self._load, version)
            return self._runner.submit(
                f"segment with {version.reference}",
                lambda job: segment_box(job, load, image, axes, version, settings, chosen[0], box),
            )
        return self._runner.submit(
            f"segment with {version.reference}",
            lambda job: segment_planes(
                job, partial(self._load, version), image, axes, version, settings, chosen
            ),
        )

    def segment_volume(
        self,
        image: Path,
        out: Path,
        model: Reference,
        config: PredictConfig | None = None,
        axes: str | None = None,
        scheduler: str | None = None,
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

        Raises
        ------
        ValueError
            If there is no such model.
        """
        version, settings = self.store.find(model), config or PredictConfig()
        load = partial(self._load, version)

        def work(job: Job[VolumeLabels]) -> VolumeLabels:
            with workers_at(scheduler) as workers:
                return segment_volume(job, load, version, image, axes, out, settings, workers)

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
        load = partial(self._load, version)

        def work(job: Job[tuple[FileDone, ...]]) -> tuple[FileDone, ...]:
            with workers_at(scheduler) as workers:
                return segment_files(job, load, version, files, settings, told, workers)

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
        given = _checked(annotated, settings.channel)
        parent = self.store.find(model)
        target = name or self.store.name_for_own(parent)
        check_name(target)
        return self._runner.submit(
            f"fine-tune {parent.reference}",
            lambda job: improve(job, self.store, given, parent, settings, target, watch),
        )

    def guess_diameter(
        self, image: Any, axes: str, model: Reference, index: tuple[int, ...], config: PredictConfig
    ) -> Job[float]:
        """Start to look how large the cells of a plane are, in pixels.

        The job fails with a `ValueError` where no size shows cells; else as for `segment`.
        """
        version = self.store.find(model)
        image, axes = take_channel(image, check_axes(axes, image.shape), config.channel)
        return self._runner.submit(
            f"measure with {version.reference}",
            lambda job: measure_cells(
                job, partial(self._load, version), get_plane(image, axes, index), version, config
            ),
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
        given, words = _checked(annotated, config.channel), tuple(trained_on)
        check_name(name)
        origin = start or NewModel()
        if not isinstance(origin, NewModel):
            origin = self.store.find(origin)
        return self._runner.submit(
            f"train {name}",
            lambda job: self._train(job, given, origin, config, name, words),
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
        (given,) = _checked([annotated], settings.channel)
        version = self.store.find(model)
        return self._runner.submit(
            "show the augmentation",
            lambda job: self._preview(job, given, version, settings, draws),
        )

    def _train(
        self,
        job: Job[Improvement],
        annotated: tuple[Annotated, ...],
        origin: ModelVersion | NewModel,
        config: FinetuneConfig,
        name: str,
        trained_on: tuple[str, ...],
    ) -> Improvement:
        from napari_unet.core.standardise import is_standardised
        from napari_unet.engine.checkpoint import load_model

        job.report(0.0, "loading the model")
        parent = origin if isinstance(origin, ModelVersion) else None
        if isinstance(origin, ModelVersion):
            model = LoadedModel(*load_model(origin.path))
            # To others it would do harm: they know something with the means that they have.
            keeps = config.standardise and is_standardised(model.network)
            config = replace(config, standardise=keeps)
        else:
            model = new_model(origin, name, config.seed)
        corrections = [correction for item in annotated for correction in item.corrections]
        model = teach_classes(model, {k for c in corrections for k in c.classes.values()})
        zoom = model.zoom(config.diameter_px)
        job.report(0.0, "reading images")
        planes = list(annotated_planes(annotated, model, config, job.check, zoom))
        compute = choose(config.device, config.precision)
        trainer = start_training(model, planes, config, compute)
        steps = learn(job, trainer)
        # From scratch the cells may be of any size; only who gave theirs says that they are alike.
        told = model.network.config.distance
        sizes = postprocess_for(planes, zoom, distance=told) if zoom != 1 else {}
        header = replace(
            model.header,
            parent=parent.sha256() if parent else None,
            zoom=zoom,
            postprocess={**model.header.postprocess, **sizes},
            diameter_px=config.diameter_px or model.header.diameter_px,
            trained_on=(*model.header.trained_on, *trained_on),
            scores={},
        )
        job.check()
        added = store_version(self.store, model, header, name, config, steps, activate=True)
        verdict = Verdict(True, "trained on all that was given, without a check")
        return Improvement(added, parent, verdict, None, None, steps, compute.describe())

    def _preview(
        self,
        job: Job[AugmentationPreview],
        annotated: Annotated,
        version: ModelVersion,
        config: FinetuneConfig,
        draws: int,
    ) -> AugmentationPreview:
        from napari_unet.engine.preview import preview
        from napari_unet.engine.samples import Sampler

        job.report(0.0, "drawing samples")
        loaded = self._load(version)
        diameter = config.diameter_px or cell_diameter([annotated])
        zoom = zoom_for(loaded, diameter, asked=config.diameter_px is not None)
        planes = list(annotated_planes([annotated], loaded, config, job.check, zoom))
        network = loaded.network.config
        device = choose(config.device, config.precision).torch_device
        return preview(Sampler(planes, network, config, device), network.depth, draws)

    def _load(self, version: ModelVersion) -> LoadedModel:
        from napari_unet.engine.checkpoint import load_model

        file = version.path.stat()
        key = (version.path, file.st_mtime_ns, file.st_size)
        if key not in self._loaded:
            # One model at a time is in use; the others are quick to read again.
            self._loaded.clear()
            self._loaded[key] = LoadedModel(*load_model(version.path))
        return self._loaded[key]


def _checked(annotated: Sequence[Annotated], channel: int | None) -> tuple[Annotated, ...]:
    """What is learnt from, with the channel that the network is to see."""
    seen = []
    for item in annotated:
        axes = check_axes(item.axes, item.image.shape)
        image, axes = take_channel(item.image, axes, channel)
        seen.append(replace(item, image=image, axes=axes))
    if not any(item.corrections for item in annotated):
        raise ValueError("nothing was corrected; paint on the labels first, then fine-tune")
    return tuple(seen)
