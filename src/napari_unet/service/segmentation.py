"""The service that every door calls: segment, fine-tune, train, as jobs.

Torch, scikit-image and what needs them are imported inside the jobs, so that a widget can hold a
service without loading them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.axes import check_axes, get_plane, plane_indices
from napari_unet.service.corrections import Annotated
from napari_unet.service.device import choose
from napari_unet.service.gate import Verdict
from napari_unet.service.improving import Improvement, improve, reproduce, store_version
from napari_unet.service.jobs import Job, JobRunner
from napari_unet.service.loaded_model import LoadedModel
from napari_unet.service.model_store import ModelStore, ModelVersion, Reference, check_name
from napari_unet.service.segmenting import Segmentation, measure_cells, segment_planes
from napari_unet.service.stacks import (
    annotated_stacks,
    check_has_stacks,
    check_not_resized,
    fewest_planes,
    improve_stacks,
)
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

if TYPE_CHECKING:
    from napari_unet.engine.preview import AugmentationPreview


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
            Indices along the axes other than C, Y, X; all planes by default. A model of stacks
            segments the whole stacks that they lie in.

        Raises
        ------
        ValueError
            If the axes do not fit the image, or there is no such model.
        """
        axes = check_axes(axes, image.shape)
        version = self.store.find(model)
        chosen = tuple(planes) if planes is not None else tuple(plane_indices(axes, image.shape))
        settings = config or PredictConfig()
        if version.header.for_stacks:
            check_has_stacks(axes, version.reference)
            check_not_resized(version.header, settings.diameter_px)
        return self._runner.submit(
            f"segment with {version.reference}",
            lambda job: segment_planes(
                job, partial(self._load, version), image, axes, version, settings, chosen
            ),
        )

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
        given = _checked(annotated)
        parent = self.store.find(model)
        target = name or self.store.name_for_own(parent)
        check_name(target)
        settings = config or FinetuneConfig()
        if parent.header.for_stacks:
            for item in given:
                check_has_stacks(item.axes, parent.reference)
            return self._runner.submit(
                f"fine-tune {parent.reference}",
                lambda job: improve_stacks(job, self.store, given, parent, settings, target),
            )
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
        axes, version = check_axes(axes, image.shape), self.store.find(model)
        check_not_resized(version.header, "auto")
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
        given, words = _checked(annotated), tuple(trained_on)
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
        _checked([annotated])
        version = self.store.find(model)
        if version.header.for_stacks:
            raise ValueError(
                f"{version.reference} learns from stacks, whose augmentation cannot be shown; "
                "choose a model of planes"
            )
        settings = config or FinetuneConfig()
        return self._runner.submit(
            "show the augmentation",
            lambda job: self._preview(job, annotated, version, settings, draws),
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
        from napari_unet.engine.checkpoint import load_model

        job.report(0.0, "loading the model")
        parent = origin if isinstance(origin, ModelVersion) else None
        if isinstance(origin, ModelVersion):
            model = LoadedModel(*load_model(origin.path))
        else:
            model = new_model(origin, name, config.seed, fewest_planes(annotated))
        corrections = [correction for item in annotated for correction in item.corrections]
        model = teach_classes(model, {k for c in corrections for k in c.classes.values()})
        zoom = model.zoom(config.diameter_px)
        job.report(0.0, "reading images")
        read = annotated_stacks if model.header.for_stacks else annotated_planes
        planes = list(read(annotated, model, config, job.check, zoom))
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


def _checked(annotated: Sequence[Annotated]) -> tuple[Annotated, ...]:
    for item in annotated:
        check_axes(item.axes, item.image.shape)
    if not any(item.corrections for item in annotated):
        raise ValueError("nothing was corrected; paint on the labels first, then fine-tune")
    return tuple(annotated)
