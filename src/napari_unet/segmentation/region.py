"""The segmentation of a part of a plane, with the same labels as in the whole plane."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import PredictConfig
from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import get_plane, plane_shape, plane_view
from napari_unet.core.boxes import Box
from napari_unet.core.cells.cell_size import median_diameter
from napari_unet.jobs import Reporter
from napari_unet.models.loaded import MIXED_DIAMETER_PX, LoadedModel
from napari_unet.models.store import ModelVersion
from napari_unet.segmentation.planes import Found, Progress, Segmentation, prepare, segment_each


def segment_box(
    job: Reporter,
    load: Callable[[], LoadedModel],
    image: LazyArray,
    axes: str,
    version: ModelVersion,
    config: PredictConfig,
    index: tuple[int, ...],
    box: Box,
) -> Segmentation:
    """Segment a box of one plane; called in a job.

    The labels in the box are those of the whole plane, cut at the edges of the box. For this,
    intensities are measured on the whole plane, and the network also sees the pixels around the
    box. If the image is resized, outlines may differ by a pixel.

    Parameters
    ----------
    job, load, image, axes, version, config
        As for `segment_planes`.
    index
        Position of the plane along the axes other than C, Y, X.
    box
        The box: rows and columns.

    Raises
    ------
    ValueError
        If the box lies outside the plane.
    """
    from napari_unet.core.cells.suggestions import suggest_corrections

    y, x = (
        slice(*side.indices(n)[:2])
        for side, n in zip(box, plane_shape(axes, image.shape), strict=True)
    )
    if y.stop <= y.start or x.stop <= x.start:
        raise ValueError("nothing of the image is in view; move it into view, or press Ctrl-R")
    prepared = prepare(job, load, image, axes, version, config, [index])
    source = replace(prepared.source, index=index)
    model, given = source.model, prepared.look.diameter_px
    cell_px = given or model.header.diameter_px or MIXED_DIAMETER_PX
    wide = _around((y, x), model.network.config.depth, source.zoom, 2 * cell_px)
    top, left = wide[0].start, wide[1].start

    def segment(index: tuple[int, ...], target: NDArray[np.int32], progress: Progress) -> Found:
        pixels = get_plane(source.image, source.axes, index, wide)
        part = model.prepare(pixels, statistics=source.statistics)
        scores = model.scores(part, source.compute, config.tile_px, progress, source.zoom)
        progress(1.0, "labelling cells")
        found = model.instances(scores, config)
        inside = found[y.start - top : y.stop - top, x.start - left : x.stop - left]
        cells = np.unique(inside[inside > 0])
        table = np.zeros(int(found.max(initial=0)) + 1, np.int32)
        table[cells] = np.arange(1, len(cells) + 1)
        target[...] = table[inside]
        votes = model.votes(found, scores.classes)[cells - 1]
        places = (
            replace(place, y=place.y + top, x=place.x + left)
            for place in suggest_corrections(
                scores.foreground, median_diameter(votes.sum(1)) or cell_px
            )
        )
        suggestions = [
            (index, place)
            for place in places
            if y.start <= place.y < y.stop and x.start <= place.x < x.stop
        ]
        return Found(votes, suggestions, source.missing_px, math.prod(source.shape))

    target = plane_view(prepared.labels, axes, index)[y, x]
    return segment_each(job, prepared, {index: target}, segment, (index,))


def _around(box: Box, depth: int, zoom: float, more_px: float) -> Box:
    """Return a larger box, with all pixels that influence the scores and the cells in the box.

    It begins at a multiple of 2**depth. At other positions the scores would differ.
    """
    step = 2**depth
    # The halo of `core.tiling` is a little less than six steps.
    margin = math.ceil(6 * step / zoom + more_px)
    y, x = (slice(max(side.start - margin, 0) // step * step, side.stop + margin) for side in box)
    return y, x
