"""Where the work of a job is done: what every place promises, and this computer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.corrections.annotations import Annotated
from napari_unet.jobs import Job, Reporter
from napari_unet.learning.finetune import Improvement, improve, store_version
from napari_unet.learning.live_view import View
from napari_unet.learning.stacks import (
    annotated_stacks,
    check_segmentable,
    fewest_planes,
    improve_stacks,
    in_stacks,
)
from napari_unet.learning.training import (
    NewModel,
    annotated_planes,
    cell_diameter,
    learn,
    new_model,
    start_training,
    teach_classes,
)
from napari_unet.learning.validation import Verdict
from napari_unet.models.decoding import postprocess_for, thresholds_for
from napari_unet.models.device import choose
from napari_unet.models.loaded import Box, LoadedModel
from napari_unet.models.store import ModelStore, ModelVersion
from napari_unet.segmentation.planes import Segmentation, measure_cells, segment_planes
from napari_unet.segmentation.region import segment_box
from napari_unet.segmentation.stacks import segment_stacks

# Planes that tell how a trained model is read out.
_FEW = 4


class Backend(Protocol):
    """Does the work of jobs, here or elsewhere.

    Each method is called in the thread of a job and returns when the work is done. Before: what it
    is given was checked, and nobody changes it any more. Meanwhile: it tells the job how far it
    is; it raises `JobCancelled` within one tile or step after `Job.cancel`, and comes to an early
    end after `Job.finish`. After: the result is the same wherever it ran, on devices of one kind;
    models and corrections are in the store of the computer that the user sits at. If it raises,
    the store holds what it held before, and the corrections that were given.
    """

    def segment(
        self,
        job: Any,
        image: Any,
        axes: str,
        version: ModelVersion,
        config: PredictConfig,
        planes: tuple[tuple[int, ...], ...],
        box: Box | None = None,
    ) -> Segmentation:
        """See `segmenting.segment_planes`; only these planes of the image are read.

        With a box, that of the first plane alone: see `segmenting_box.segment_box`.
        """

    def measure(
        self, job: Job[float], plane: NDArray[Any], version: ModelVersion, config: PredictConfig
    ) -> float:
        """See `segmenting.measure_cells`."""

    def improve(
        self,
        job: Job[Improvement],
        store: ModelStore,
        annotated: Sequence[Annotated],
        parent: ModelVersion,
        config: FinetuneConfig,
        name: str,
        watch: Callable[[], View | None],
    ) -> Improvement:
        """See `improving.improve`; the corrections are kept before anything else is done."""

    def train(
        self,
        job: Job[Improvement],
        store: ModelStore,
        annotated: Sequence[Annotated],
        origin: ModelVersion | NewModel,
        config: FinetuneConfig,
        name: str,
        trained_on: Sequence[str],
    ) -> Improvement:
        """See `SegmentationService.train`."""

    def leave(self) -> None:
        """Before jobs are cancelled because the program ends: work elsewhere may go on."""

    def close(self) -> None:
        """Let go of what is elsewhere, after all jobs."""


class LocalBackend:
    """Does it on this computer; see `Backend`."""

    def __init__(self) -> None:
        self._loaded: dict[tuple[Path, int, int], LoadedModel] = {}

    def segment(
        self,
        job: Reporter,
        image: Any,
        axes: str,
        version: ModelVersion,
        config: PredictConfig,
        planes: tuple[tuple[int, ...], ...],
        box: Box | None = None,
    ) -> Segmentation:
        """See `Backend.segment`."""
        load = partial(self.load, version)
        check_segmentable(version, axes, config, box)
        if in_stacks(version.header, config):
            return segment_stacks(job, load, image, axes, version, config, planes)
        if box is not None:
            return segment_box(job, load, image, axes, version, config, planes[0], box)
        return segment_planes(job, load, image, axes, version, config, planes)

    def measure(
        self, job: Job[float], plane: NDArray[Any], version: ModelVersion, config: PredictConfig
    ) -> float:
        """See `segmenting.measure_cells`."""
        return measure_cells(job, lambda: self.load(version), plane, version, config)

    def improve(
        self,
        job: Job[Improvement],
        store: ModelStore,
        annotated: Sequence[Annotated],
        parent: ModelVersion,
        config: FinetuneConfig,
        name: str,
        watch: Callable[[], View | None],
    ) -> Improvement:
        """See `improving.improve`."""
        if parent.header.for_stacks:
            return improve_stacks(job, store, annotated, parent, config, name)
        return improve(job, store, annotated, parent, config, name, watch)

    def train(
        self,
        job: Job[Improvement],
        store: ModelStore,
        annotated: Sequence[Annotated],
        origin: ModelVersion | NewModel,
        config: FinetuneConfig,
        name: str,
        trained_on: Sequence[str],
    ) -> Improvement:
        """See `SegmentationService.train`."""
        from napari_unet.core.network.weight_standardisation import is_standardised
        from napari_unet.models.checkpoint import load_model

        job.report(0.0, "loading the model")
        parent = origin if isinstance(origin, ModelVersion) else None
        typical = cell_diameter(annotated)
        if isinstance(origin, ModelVersion):
            model = LoadedModel(*load_model(origin.path))
            # To others it would do harm: they know something with the means that they have.
            keeps = config.standardise and is_standardised(model.network)
            config = replace(config, standardise=keeps)
        else:
            model = new_model(origin, name, config.seed, fewest_planes(annotated), typical)
        if model.header.for_stacks:
            # Not tried on 3D convolutions.
            config = replace(config, standardise=False)
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
        suited = postprocess_for(planes, model, zoom) if zoom != 1 else model.header.postprocess
        if model.network.config.distance and not model.header.for_stacks:
            found = thresholds_for(model, planes, compute, job.check, _FEW)
            suited = {**suited, "peak_threshold": found.get("peak_threshold")}
        header = replace(
            model.header,
            parent=parent.sha256() if parent else None,
            zoom=zoom,
            postprocess=suited,
            diameter_px=config.diameter_px or (model.header.diameter_px if parent else typical),
            trained_on=(*model.header.trained_on, *trained_on),
            scores={},
        )
        job.check()
        added = store_version(store, model, header, name, config, steps, activate=True)
        verdict = Verdict(True, "trained on all that was given, without a check")
        return Improvement(added, parent, verdict, None, None, steps, compute.describe())

    def load(self, version: ModelVersion) -> LoadedModel:
        """A model in memory; the last one is kept there."""
        from napari_unet.models.checkpoint import load_model

        file = version.path.stat()
        key = (version.path, file.st_mtime_ns, file.st_size)
        if key not in self._loaded:
            # One model at a time is in use; the others are quick to read again.
            self._loaded.clear()
            self._loaded[key] = LoadedModel(*load_model(version.path))
        return self._loaded[key]

    def leave(self) -> None:
        """Nothing is elsewhere."""

    def close(self) -> None:
        """Nothing is elsewhere."""
