"""The segmentation of whole stacks in 3D, by a model of stacks or, from three sides, of planes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import Link, PredictConfig
from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import get_stack, label_axes, plane_indices, split_index, stack_view
from napari_unet.core.missing import count_missing, filled
from napari_unet.jobs import Reporter
from napari_unet.models.loaded import MIXED_DIAMETER_PX, LoadedModel, PlaneScores
from napari_unet.models.store import ModelVersion
from napari_unet.segmentation.planes import (
    Found,
    Progress,
    Segmentation,
    link_found,
    prepare,
    segment_each,
)
from napari_unet.segmentation.three_views import label_stack, stack_scores
from napari_unet.segmentation.tiled_plane import PlaneSource

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

    stacks = whole_stacks(axes, image.shape, planes)
    first = next(iter(stacks.values()), [])
    prepared = prepare(job, load, image, axes, version, config, first)
    source = prepared.source
    anisotropy = source.model.header.anisotropy or config.anisotropy or 1.0

    def diameter(volumes: NDArray[np.int64]) -> float:
        """Return the diameter, in pixels, of a ball with the median volume; 0 without cells."""
        return float(np.cbrt(6 / np.pi * np.median(volumes) * anisotropy)) if len(volumes) else 0.0

    def segment(index: Index, target: NDArray[np.int32], progress: Progress) -> Found:
        stack = get_stack(source.image, source.axes, index)
        target[...], scores = _segment(source, filled(stack), progress)
        votes = source.model.votes(target, scores.classes)
        size = diameter(votes.sum(1)) or MIXED_DIAMETER_PX
        suggestions = [
            (plane, place)
            for plane, foreground in zip(stacks[index], scores.foreground, strict=True)
            for place in suggest_corrections(foreground, size)
        ]
        return Found(votes, suggestions, count_missing(stack), target.size)

    targets = {index: stack_view(prepared.labels, axes, index) for index in stacks}
    found = segment_each(job, prepared, targets, segment, tuple(chain(*stacks.values())), diameter)
    return link_stacks(job, found, label_axes(axes), config.link)


def link_stacks(job: Reporter, found: Segmentation, axes: str, link: Link) -> Segmentation:
    """Link cells along t if `link` says so; along z they have one id already.

    For parameters see `planes.link_found`.
    """
    along: Link = "t" if "t" in link else "none"
    return replace(link_found(job, found, axes, along, "ZYX"), is_linked=True)


def _segment(
    source: PlaneSource, stack: NDArray[np.generic], progress: Progress
) -> tuple[NDArray[np.int32], PlaneScores]:
    """Return the labels of a stack (C, Z, Y, X), and its scores."""
    model, compute, config = source.model, source.compute, source.config
    if model.header.for_stacks:
        scores = model.scores(model.prepare(stack), compute, config.tile_px, progress)
    else:
        scores = stack_scores(model, stack, compute, config, progress)
    progress(1.0, "labelling cells")
    label = model.instances if model.header.for_stacks else partial(label_stack, model)
    return label(scores, config), scores


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
