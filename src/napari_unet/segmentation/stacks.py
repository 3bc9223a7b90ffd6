"""The segmentation of whole stacks in 3D, by a model of stacks or, from three sides, of planes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import Link, PredictConfig
from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import (
    get_stack,
    label_axes,
    label_shape,
    plane_indices,
    set_stack,
    split_index,
    take_channel,
)
from napari_unet.core.missing import count_missing, filled
from napari_unet.jobs import Reporter
from napari_unet.models.device import Compute, choose
from napari_unet.models.loaded import MIXED_DIAMETER_PX, LoadedModel, PlaneScores
from napari_unet.models.store import ModelVersion
from napari_unet.segmentation.looking import look
from napari_unet.segmentation.plane_order import number_in_order
from napari_unet.segmentation.planes import Segmentation, link_found, missing_warning
from napari_unet.segmentation.three_views import label_stack, stack_scores

if TYPE_CHECKING:
    from napari_unet.core.cells.suggestions import Place

Index = tuple[int, ...]


def segment_stacks(
    job: Reporter,
    load: Callable[[], LoadedModel],
    image: LazyArray,
    axes: str,
    version: ModelVersion,
    config: PredictConfig,
    planes: tuple[Index, ...],
) -> Segmentation:
    """Segment the whole stacks that contain the given planes; called in a job.

    For parameters see `planes.segment_planes`. Each cell has one id on all planes of its stack.
    """
    from napari_unet.core.cells.suggestions import suggest_corrections

    job.report(0.0, "loading the model")
    loaded = load()
    compute = choose(config.device, config.precision)
    labels = np.zeros(label_shape(axes, image.shape), np.int32)
    within = whole_stacks(axes, image.shape, planes)
    first = next(iter(within.values()), [])
    chosen, _ = look(loaded, image, axes, first, config, compute, job)
    named = axes
    if config.channel == "auto":
        image, named = take_channel(image, axes, chosen.channel)
    config = replace(config, channel=chosen.channel, diameter_px=chosen.diameter_px)
    anisotropy = loaded.header.anisotropy or config.anisotropy or 1.0
    votes: list[NDArray[np.int64]] = []
    places: list[tuple[Index, Place]] = []
    count = missing = 0
    for number, (index, own) in enumerate(within.items()):

        def progress(fraction: float, message: str, number: int = number) -> None:
            where = f", stack {number + 1} of {len(within)}" if len(within) > 1 else ""
            job.report((number + 0.98 * fraction) / len(within), message + where)

        progress(0.0, "reading")
        stack = get_stack(image, named, index)
        missing += count_missing(stack)
        stack = filled(stack)
        found, scores = _segment(loaded, stack, compute, config, progress)
        job.check()
        set_stack(labels, axes, index, np.where(found, found + count, 0))
        votes.append(loaded.votes(found, scores.classes))
        count += len(votes[-1])
        size = _diameter(votes[-1], anisotropy) or MIXED_DIAMETER_PX
        for plane, foreground in zip(own, scores.foreground, strict=True):
            places += [(plane, place) for place in suggest_corrections(foreground, size)]
    labels, cast = number_in_order(labels, list(within), votes)
    places.sort(key=lambda found: -found[1].weight)
    whole = Segmentation(
        labels,
        tuple(plane for own in within.values() for plane in own),
        version,
        compute.describe(),
        count,
        _diameter(cast, anisotropy),
        loaded.kinds(cast),
        tuple(places),
        warnings=missing_warning(missing, labels.size),
        look=chosen,
    )
    return link_stacks(job, whole, label_axes(axes), config.link)


def link_stacks(job: Reporter, found: Segmentation, axes: str, link: Link) -> Segmentation:
    """Link cells along t if `link` says so; along z they have one id already.

    For parameters see `planes.link_found`.
    """
    along: Link = "t" if "t" in link else "none"
    return replace(link_found(job, found, axes, along, "ZYX"), is_linked=True)


def _segment(
    loaded: LoadedModel,
    stack: NDArray[np.generic],
    compute: Compute,
    config: PredictConfig,
    progress: Callable[[float, str], None],
) -> tuple[NDArray[np.int32], PlaneScores]:
    """Return the labels of a stack (C, Z, Y, X), and its scores."""
    if loaded.header.for_stacks:
        scores = loaded.scores(loaded.prepare(stack), compute, config.tile_px, progress)
    else:
        scores = stack_scores(loaded, stack, compute, config, progress)
    progress(1.0, "labelling cells")
    if loaded.header.for_stacks:
        return loaded.instances(scores, config), scores
    return label_stack(loaded, scores, config), scores


def whole_stacks(
    axes: str, shape: tuple[int, ...], planes: tuple[Index, ...]
) -> dict[Index, list[Index]]:
    """Return the stacks that contain these planes: the indices of all planes of each stack."""
    within: dict[Index, list[Index]] = {split_index(axes, plane)[0]: [] for plane in planes}
    for plane in plane_indices(axes, shape):
        index, _ = split_index(axes, plane)
        if index in within:
            within[index].append(plane)
    return within


def _diameter(votes: NDArray[np.int64], anisotropy: float) -> float:
    """Return the diameter, in pixels, of a ball with the median volume; 0 without cells."""
    if not len(votes):
        return 0.0
    volume = np.median(votes.sum(1)) * anisotropy
    return float(np.cbrt(6 / np.pi * volume))
