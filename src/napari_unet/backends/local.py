"""The backend that does jobs on this computer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from napari_unet.backends.requests import (
    DiameterRequest,
    FinetuneRequest,
    SegmentRequest,
    TrainRequest,
)
from napari_unet.core.axes import get_plane
from napari_unet.jobs import Job, Reporter
from napari_unet.learning.cut_short import Saving
from napari_unet.learning.finetune import Improvement, improve, resume
from napari_unet.learning.live_view import View
from napari_unet.learning.stacks import check_segmentable, improve_stacks, in_stacks
from napari_unet.learning.train import train
from napari_unet.models.device import check_torch
from napari_unet.models.loaded import LoadedModel
from napari_unet.models.store import ModelStore, ModelVersion
from napari_unet.segmentation.planes import Segmentation, measure_cells, segment_planes
from napari_unet.segmentation.region import segment_box
from napari_unet.segmentation.stacks import segment_stacks


class LocalBackend:
    """Passes requests on to the code that does them on this computer; see `base.Backend`."""

    def __init__(self) -> None:
        # By path, time of the last change, and size of the file.
        self._loaded: dict[tuple[Path, int, int], LoadedModel] = {}
        # Of the fine-tune that runs.
        self._saving: Saving | None = None

    def segment(self, job: Reporter, request: SegmentRequest) -> Segmentation:
        """See `Backend.segment`."""
        check_torch()
        image, axes, planes = request.image, request.axes, request.planes
        version, config, box = request.model, request.config, request.box
        load = partial(self.load, version)
        check_segmentable(version, axes, config, box)
        if in_stacks(version.header, config):
            return segment_stacks(job, load, image, axes, version, config, planes)
        if box is not None:
            return segment_box(job, load, image, axes, version, config, planes[0], box)
        return segment_planes(job, load, image, axes, version, config, planes)

    def guess_diameter(self, job: Job[object], request: DiameterRequest) -> float:
        """See `Backend.guess_diameter`."""
        check_torch()
        load = partial(self.load, request.model)
        plane = get_plane(request.image, request.axes, request.index)
        return measure_cells(job, load, plane, request.model, request.config)

    def finetune(
        self,
        job: Job[object],
        store: ModelStore,
        request: FinetuneRequest,
        watch: Callable[[], View | None],
    ) -> Improvement:
        """See `Backend.finetune`; models of stacks learn without a check, and `watch` is unused."""
        check_torch()
        annotated, parent = request.annotated, request.parent
        config, name = request.config, request.name
        if parent.header.for_stacks:
            return improve_stacks(job, store, annotated, parent, config, name)
        with Saving(store, name) as self._saving:
            return improve(job, store, annotated, parent, config, name, watch, self._saving)

    def resume(
        self, job: Job[object], store: ModelStore, name: str, *, keep: bool = False
    ) -> Improvement:
        """Go on with a fine-tune that was cut short; see `finetune.resume`.

        With `keep`, it can be resumed once more if it is cancelled.
        """
        check_torch()
        with Saving(store, name) as self._saving:
            self._saving.is_left = keep
            return resume(job, store, name, self._saving)

    def train(self, job: Job[object], store: ModelStore, request: TrainRequest) -> Improvement:
        """See `Backend.train`."""
        check_torch()
        return train(
            job,
            store,
            request.annotated,
            request.start,
            request.config,
            request.name,
            request.trained_on,
        )

    def load(self, version: ModelVersion) -> LoadedModel:
        """Return a model in memory; the one that was used last is kept there."""
        check_torch()
        from napari_unet.models.checkpoint import load_model

        file = version.path.stat()
        key = (version.path, file.st_mtime_ns, file.st_size)
        if key not in self._loaded:
            # One model at a time is in use; the others are quick to read again.
            self._loaded.clear()
            self._loaded[key] = LoadedModel(*load_model(version.path))
        return self._loaded[key]

    def leave(self) -> None:
        """See `Backend.leave`: a fine-tune that is cancelled from now on can be resumed."""
        if self._saving is not None:
            self._saving.is_left = True

    def close(self) -> None:
        """Do nothing: there is no connection."""
