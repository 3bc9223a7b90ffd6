"""The steps of a training job: from annotated images to a better network, and how much better."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_unet.config import FinetuneConfig
from napari_unet.core.axes import get_plane
from napari_unet.core.intensity import Normalisation
from napari_unet.engine.header import ModelHeader
from napari_unet.service.corrections import Annotated, Correction
from napari_unet.service.device import Compute, is_out_of_memory
from napari_unet.service.jobs import Job
from napari_unet.service.loaded_model import Box, LoadedModel

if TYPE_CHECKING:
    from napari_unet.engine.samples import AnnotatedPlane

# Enough for a figure to show; evaluation proper is a command of its own.
_CHECKED_PLANES = 20


@dataclass(frozen=True, kw_only=True)
class NewModel:
    """What a model trained from scratch looks like; see `UNetConfig`.

    The default width is what reaches good labels soonest on a CPU (`benchmarks/presets.py`).
    """

    depth: int = 4
    width: int = 16
    in_channels: int = 1
    n_classes: int = 2
    dropout: float = 0.1


def new_model(new: NewModel, name: str, seed: int) -> LoadedModel:
    """A network with random weights, and the header that it begins with."""
    from napari_unet.core.unet import UNet, UNetConfig, initialise

    network = UNet(UNetConfig(**asdict(new)))
    initialise(network, seed)
    header = ModelHeader(
        name=name,
        architecture=asdict(new),
        normalisation=asdict(Normalisation()),
        postprocess={"threshold": 0.5, "gap_px": 1, "min_size_px": 16},
    )
    return LoadedModel(network, header)


def annotated_planes(
    annotated: Sequence[Annotated],
    model: LoadedModel,
    config: FinetuneConfig,
    check: Callable[[], None],
) -> Iterator[AnnotatedPlane]:
    """Annotated planes, cut down to what training windows around trusted pixels can reach.

    Parameters
    ----------
    annotated
        Images and their corrections. Labels outside a trusted region become 0 here: nobody has
        looked at them, and cells there would weigh on the borders of those inside.
    model
        Says how the images are prepared.
    config
        Says how large the windows are.
    check
        Called before each plane; may raise to stop.
    """
    from napari_unet.engine.samples import AnnotatedPlane

    for item in annotated:
        for correction in item.corrections:
            check()
            trusted = correction.trusted
            if trusted is not None and not trusted.any():
                continue
            box = _reach(correction, config.tile_px)
            plane = get_plane(item.image, item.axes, correction.index)
            image = model.prepare(plane, box, item.statistics)
            labels = correction.labels[box].astype(np.int32)
            if trusted is not None:
                trusted = trusted[box]
                labels[~trusted] = 0
            yield AnnotatedPlane(image, labels, trusted)


def train(
    job: Job[Any],
    model: LoadedModel,
    planes: Sequence[AnnotatedPlane],
    config: FinetuneConfig,
    compute: Compute,
) -> int:
    """Train a model's network in place, reporting each step; returns the number of steps.

    Raises
    ------
    ValueError
        If memory runs out.
    """
    from napari_unet.engine.finetune import finetune

    steps = 0
    start = time.perf_counter()
    device, dtype = compute.torch_device, compute.torch_dtype
    try:
        for report in finetune(model.network, planes, config, device, dtype):
            steps = report.step
            left = (time.perf_counter() - start) * (1 / report.fraction - 1)
            job.report(report.fraction, f"step {steps}, about {left:.0f} s left", report.loss)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            f"there is not enough memory to train with tiles of {config.tile_px} px on the "
            f"{compute.device}; give a smaller tile_px, or another device"
        ) from error
    return steps


def agreement(
    model: LoadedModel,
    planes: Sequence[AnnotatedPlane],
    compute: Compute,
    check: Callable[[], None],
) -> float:
    """Share of the trusted pixels that a model calls right, as cell or background."""
    # Predictors made before the training hold the old weights.
    model = LoadedModel(model.network, model.header)
    threshold = model.header.postprocess.get("threshold", 0.5)
    right = seen = 0
    for plane in planes[:_CHECKED_PLANES]:
        scores = model.scores(plane.image, compute, None, lambda fraction, message: check())
        agrees = (scores > threshold) == (plane.labels > 0)
        right += int(agrees.sum() if plane.trusted is None else agrees[plane.trusted].sum())
        seen += plane.labels.size if plane.trusted is None else int(plane.trusted.sum())
    return right / seen


def _reach(correction: Correction, margin_px: int) -> Box:
    if correction.trusted is None:
        return slice(None), slice(None)
    lines = (np.flatnonzero(correction.trusted.any(axis)) for axis in (1, 0))
    y, x = (slice(max(int(i[0]) - margin_px, 0), int(i[-1]) + 1 + margin_px) for i in lines)
    return y, x
