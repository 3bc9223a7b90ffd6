"""The service that every door calls: segment, fine-tune, train, as jobs.

Torch and the rooms that need it are imported inside the jobs, so that a widget can hold a service
without loading them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.axes import check_axes, get_plane, label_axes, plane_indices, set_plane
from napari_unet.core.instances import label_instances
from napari_unet.core.intensity import Normalisation, match_channels, measure, normalise
from napari_unet.engine.header import ModelHeader
from napari_unet.service.device import Compute, choose, default_tile_px, run_within_memory
from napari_unet.service.jobs import Job, JobRunner
from napari_unet.service.model_store import ModelStore, ModelVersion

if TYPE_CHECKING:
    from napari_unet.core.unet import UNet
    from napari_unet.engine.predict import Predictor
    from napari_unet.engine.preview import AugmentationPreview
    from napari_unet.engine.samples import AnnotatedPlane


@dataclass(frozen=True)
class Segmentation:
    """What a segmentation gives.

    Attributes
    ----------
    labels
        int32, with the image's axes without C; 0 = background, ids unique over all planes.
    planes
        Index of each plane that was segmented; the others are 0.
    model
        The version that was used.
    compute
        Where it ran, in words.
    """

    labels: NDArray[np.int32]
    planes: tuple[tuple[int, ...], ...]
    model: ModelVersion
    compute: str

    @property
    def n_cells(self) -> int:
        """Number of labelled cells."""
        return len(np.unique(self.labels[self.labels > 0]))


@dataclass(frozen=True)
class Correction:
    """Corrected labels of one plane.

    Attributes
    ----------
    index
        Position of the plane along the axes other than C, Y, X.
    labels
        (Y, X) instance labels; a copy that nobody else writes to.
    trusted
        (Y, X) bool, where the labels are truth; None where all are.
    """

    index: tuple[int, ...]
    labels: NDArray[np.int32]
    trusted: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Annotated:
    """An image and its corrections."""

    image: Any
    axes: str
    corrections: tuple[Correction, ...]


@dataclass(frozen=True)
class Improvement:
    """What training gave.

    Attributes
    ----------
    model
        The new version, which its name now stands for.
    parent
        The version it came from, None if trained from scratch.
    agreement_before, agreement_after
        Share of the trusted pixels that the model called right, as cell or background. These are
        the pixels it learnt from, so this is no estimate for other images.
    steps
        Optimiser steps taken.
    """

    model: ModelVersion
    parent: ModelVersion | None
    agreement_before: float
    agreement_after: float
    steps: int


@dataclass(frozen=True, kw_only=True)
class NewModel:
    """What a model trained from scratch looks like; see `UNetConfig`."""

    depth: int = 4
    width: int = 32
    in_channels: int = 1
    n_classes: int = 2
    dropout: float = 0.1


@dataclass
class _Loaded:
    """A model's network, kept between jobs."""

    version: ModelVersion
    network: UNet
    predictors: dict[Compute, Predictor] = field(default_factory=dict)

    def predictor(self, compute: Compute) -> Predictor:
        from napari_unet.engine.predict import Predictor

        if compute not in self.predictors:
            self.predictors[compute] = Predictor(
                self.network, compute.torch_device, compute.torch_dtype
            )
        return self.predictors[compute]


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
        self._loaded: dict[Path, _Loaded] = {}

    def close(self) -> None:
        """Cancel what runs and end the thread."""
        self._runner.close()

    def segment(
        self,
        image: Any,
        axes: str,
        model: str | Path,
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
            NAME, NAME@VERSION or the path of a model file.
        config
            Settings.
        planes
            Indices along the axes other than C, Y, X; all planes by default.

        Raises
        ------
        ValueError
            If the axes do not fit the image, or there is no such model.
        """
        axes = check_axes(axes, image.shape)
        version = self.store.find(model)
        chosen = tuple(planes) if planes is not None else tuple(plane_indices(axes, image.shape))
        settings = config or PredictConfig()
        return self._runner.submit(
            f"segment with {version.reference}",
            lambda job: self._segment(job, image, axes, version, settings, chosen),
        )

    def finetune(
        self,
        annotated: Sequence[Annotated],
        model: str | Path,
        config: FinetuneConfig | None = None,
        name: str | None = None,
    ) -> Job[Improvement]:
        """Start to improve a model from corrections; the result is a new version.

        Parameters
        ----------
        annotated
            Images and their corrections.
        model
            The parent: NAME, NAME@VERSION or the path of a model file.
        config
            Settings.
        name
            Model that gets the new version; the parent's by default.

        Raises
        ------
        ValueError
            If the axes do not fit an image, nothing was corrected, or there is no such model.
        """
        for item in annotated:
            check_axes(item.axes, item.image.shape)
        if not any(item.corrections for item in annotated):
            raise ValueError("nothing was corrected; paint on the labels first, then fine-tune")
        parent = self.store.find(model)
        settings = config or FinetuneConfig()
        return self._runner.submit(
            f"fine-tune {parent.reference}",
            lambda job: self._improve(job, annotated, parent, None, settings, name, ()),
        )

    def train(
        self,
        annotated: Sequence[Annotated],
        name: str,
        config: FinetuneConfig,
        start: str | Path | NewModel | None = None,
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
        """
        if start is None or isinstance(start, NewModel):
            parent, new = None, start or NewModel()
        else:
            parent, new = self.store.find(start), None
        return self._runner.submit(
            f"train {name}",
            lambda job: self._improve(job, annotated, parent, new, config, name, trained_on),
        )

    def preview_augmentation(
        self,
        annotated: Annotated,
        model: str | Path,
        config: FinetuneConfig | None = None,
        draws: int = 4,
    ) -> Job[AugmentationPreview]:
        """Start to draw the samples that a fine-tune with these settings would learn from."""
        check_axes(annotated.axes, annotated.image.shape)
        version = self.store.find(model)
        settings = config or FinetuneConfig()
        return self._runner.submit(
            "show the augmentation",
            lambda job: self._preview(job, annotated, version, settings, draws),
        )

    def _segment(
        self,
        job: Job[Segmentation],
        image: Any,
        axes: str,
        version: ModelVersion,
        config: PredictConfig,
        planes: tuple[tuple[int, ...], ...],
    ) -> Segmentation:
        job.report(0.0, "loading the model")
        loaded = self._load(version)
        compute = choose(config.device, config.precision)
        shape = tuple(n for axis, n in zip(axes, image.shape, strict=True) if axis != "C")
        labels = np.zeros(shape, np.int32)
        count = 0
        for number, index in enumerate(planes):

            def progress(fraction: float, message: str, number: int = number) -> None:
                where = f", plane {number + 1} of {len(planes)}" if len(planes) > 1 else ""
                job.report((number + fraction) / len(planes), message + where)

            progress(0.0, "reading")
            plane = _prepare(get_plane(image, axes, index), loaded)
            scores = _scores(loaded, plane, compute, config.tile_px, progress)
            progress(0.98, "labelling cells")
            found = label_instances(scores, **_postprocess(version.header, config))
            set_plane(labels, axes, index, np.where(found, found + count, 0))
            count += int(found.max(initial=0))
        return Segmentation(labels, planes, version, compute.describe())

    def _improve(
        self,
        job: Job[Improvement],
        annotated: Sequence[Annotated],
        parent: ModelVersion | None,
        new: NewModel | None,
        config: FinetuneConfig,
        name: str | None,
        trained_on: Sequence[str],
    ) -> Improvement:
        from napari_unet.engine.checkpoint import architecture, load_model, save_model

        job.report(0.0, "loading the model")
        if parent is not None:
            network, header = load_model(parent.path)
        else:
            assert new is not None and name is not None
            network, header = _new_network(new, name, config.seed)
        version = parent or ModelVersion(header.name, 0, Path(), header)
        job.report(0.0, "reading images")
        planes = list(_crops(annotated, _Loaded(version, network), config, job.check))
        compute = choose(config.device, config.precision)
        before = 0.0 if parent is None else _agreement(network, version, planes, compute, job.check)
        steps = _train(job, network, planes, config, compute)
        job.report(1.0, "checking")
        after = _agreement(network, version, planes, compute, job.check)
        child = replace(
            header,
            name=name or header.name,
            architecture=architecture(network),
            parent=parent.sha256() if parent else None,
            trained_on=(*header.trained_on, *(trained_on or [_describe(annotated)])),
            settings=asdict(config),
            seed=config.seed,
            steps=steps,
            scores={"agreement_before": before, "agreement_after": after},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        job.check()
        added = self.store.add(child.name, lambda path: save_model(path, network, child))
        return Improvement(added, parent, before, after, steps)

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
        planes = list(_crops([annotated], loaded, config, job.check))
        network = loaded.network.config
        device = choose(config.device, config.precision).torch_device
        return preview(Sampler(planes, network, config, device), network.depth, draws)

    def _load(self, version: ModelVersion) -> _Loaded:
        from napari_unet.engine.checkpoint import load_model

        if version.path not in self._loaded:
            # One model at a time is in use; the others are quick to read again.
            self._loaded.clear()
            self._loaded[version.path] = _Loaded(version, load_model(version.path)[0])
        return self._loaded[version.path]


def _prepare(
    plane: NDArray[Any], loaded: _Loaded, box: tuple[slice, slice] | None = None
) -> NDArray[np.float32]:
    """A raw plane (C, Y, X), or a box of it, as the network wants it."""
    settings = Normalisation(**loaded.version.header.normalisation)
    part = plane if box is None else plane[(slice(None), *box)]
    normalised, _ = normalise(part, settings, measure(plane, settings))
    return match_channels(normalised, loaded.network.config.in_channels)


def _scores(
    loaded: _Loaded,
    plane: NDArray[np.float32],
    compute: Compute,
    tile_px: int | None,
    progress: Callable[[float, str], None],
) -> NDArray[np.float32]:
    from napari_unet.core.tiling import smallest_input_px
    from napari_unet.engine.predict import foreground_scores

    def work(where: Compute, tile: int) -> NDArray[np.float32]:
        return loaded.predictor(where).logits(
            plane, tile, lambda done, total: progress(0.98 * done / total, "segmenting")
        )

    smallest = smallest_input_px(loaded.network.config.depth)
    if tile_px is not None and tile_px < smallest:
        raise ValueError(
            f"a tile of {tile_px} px is too small for this model; give {smallest} px or more"
        )
    return foreground_scores(
        run_within_memory(
            compute,
            tile_px or default_tile_px(compute),
            smallest,
            work,
            lambda message: progress(0.0, message),
        )
    )


def _postprocess(header: ModelHeader, config: PredictConfig) -> dict[str, Any]:
    asked = {"threshold": config.threshold, "min_size_px": config.min_size_px}
    return {**header.postprocess, **{k: v for k, v in asked.items() if v is not None}}


def _new_network(new: NewModel, name: str, seed: int) -> tuple[UNet, ModelHeader]:
    from napari_unet.core.unet import UNet, UNetConfig, initialise

    network = UNet(UNetConfig(**asdict(new)))
    initialise(network, seed)
    return network, ModelHeader(
        name=name,
        architecture=asdict(new),
        normalisation=asdict(Normalisation()),
        postprocess={"threshold": 0.5, "gap_px": 1, "min_size_px": 16},
    )


def _crops(
    annotated: Sequence[Annotated],
    loaded: _Loaded,
    config: FinetuneConfig,
    check: Callable[[], None],
) -> Iterator[AnnotatedPlane]:
    """Annotated planes, cut down to what training windows around trusted pixels can reach."""
    from napari_unet.engine.samples import AnnotatedPlane

    for item in annotated:
        for correction in item.corrections:
            check()
            if correction.trusted is not None and not correction.trusted.any():
                continue
            box = _reach(correction, config.tile_px)
            image = _prepare(get_plane(item.image, item.axes, correction.index), loaded, box)
            trusted = None if correction.trusted is None else correction.trusted[box]
            yield AnnotatedPlane(image, correction.labels[box].astype(np.int32), trusted)


def _reach(correction: Correction, margin_px: int) -> tuple[slice, slice]:
    if correction.trusted is None:
        return slice(None), slice(None)
    lines = (np.flatnonzero(correction.trusted.any(axis)) for axis in (1, 0))
    y, x = (slice(max(int(i[0]) - margin_px, 0), int(i[-1]) + 1 + margin_px) for i in lines)
    return y, x


def _train(
    job: Job[Improvement],
    network: UNet,
    planes: Sequence[AnnotatedPlane],
    config: FinetuneConfig,
    compute: Compute,
) -> int:
    from napari_unet.engine.finetune import finetune

    steps = 0
    start = time.perf_counter()
    for report in finetune(
        network, planes, config, compute.torch_device, compute.torch_dtype
    ):
        steps = report.step
        left = (time.perf_counter() - start) * (1 / report.fraction - 1)
        job.report(report.fraction, f"step {steps}, about {left:.0f} s left", report.loss)
    return steps


def _agreement(
    network: UNet,
    version: ModelVersion,
    planes: Sequence[AnnotatedPlane],
    compute: Compute,
    check: Callable[[], None],
) -> float:
    """Share of the trusted pixels that the network calls right, as cell or background."""
    loaded = _Loaded(version, network)
    threshold = version.header.postprocess.get("threshold", 0.5)
    right = seen = 0
    for plane in planes[:_CHECKED_PLANES]:
        scores = _scores(loaded, plane.image, compute, None, lambda fraction, message: check())
        agrees = (scores > threshold) == (plane.labels > 0)
        right += int(agrees.sum() if plane.trusted is None else agrees[plane.trusted].sum())
        seen += plane.labels.size if plane.trusted is None else int(plane.trusted.sum())
    return right / seen


# Enough for a figure to show; evaluation proper is a command of its own.
_CHECKED_PLANES = 20


def _describe(annotated: Sequence[Annotated]) -> str:
    planes = sum(len(item.corrections) for item in annotated)
    return f"corrections on {planes} plane{'s' if planes > 1 else ''}"
