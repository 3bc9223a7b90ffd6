"""The segmentation of a part of a plane, with the same labels as in the whole plane."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from napari_unet.config import PredictConfig
from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import get_plane, label_shape, plane_view, take_channel
from napari_unet.core.cells.cell_size import median_diameter
from napari_unet.jobs import Reporter
from napari_unet.models.device import choose
from napari_unet.models.loaded import MIXED_DIAMETER_PX, Box, LoadedModel
from napari_unet.models.store import ModelVersion
from napari_unet.segmentation.looking import look
from napari_unet.segmentation.planes import Segmentation, missing_warning
from napari_unet.segmentation.tiled_plane import LargePlane


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

    job.report(0.0, "loading the model")
    loaded = load()
    compute = choose(config.device, config.precision)
    job.report(0.0, "reading")
    source = LargePlane(loaded, image, axes, index, config, compute)
    y, x = (slice(*s.indices(n)[:2]) for s, n in zip(box, source.shape, strict=True))
    if y.stop <= y.start or x.stop <= x.start:
        raise ValueError("nothing of the image is in view; move it into view, or press Home")
    chosen, _ = look(loaded, image, axes, [index], config, compute, job)
    if config.channel == "auto":
        pixels, named = take_channel(image, axes, chosen.channel)
        source = replace(source, image=pixels, axes=named)
    given = chosen.diameter_px
    zoom = loaded.zoom(given)
    cell_px = given or loaded.header.diameter_px or MIXED_DIAMETER_PX
    wide = _around((y, x), loaded.network.config.depth, zoom, 2 * cell_px)
    part = loaded.prepare(
        get_plane(source.image, source.axes, index, wide), statistics=source.statistics
    )
    scores = loaded.scores(part, compute, config.tile_px, job.report, zoom)
    job.report(0.98, "labelling cells")
    found = loaded.instances(scores, config)
    top, left = wide[0].start, wide[1].start
    inside = found[y.start - top : y.stop - top, x.start - left : x.stop - left]
    cells = np.unique(inside[inside > 0])
    table = np.zeros(int(found.max(initial=0)) + 1, np.int32)
    table[cells] = np.arange(1, len(cells) + 1)
    labels = np.zeros(label_shape(axes, image.shape), np.int32)
    plane_view(labels, axes, index)[y, x] = table[inside]
    votes = loaded.votes(found, scores.classes)[cells - 1]
    diameter = median_diameter(votes.sum(1))
    places = (
        replace(place, y=place.y + top, x=place.x + left)
        for place in suggest_corrections(scores.foreground, diameter or cell_px)
    )
    return Segmentation(
        labels,
        (index,),
        version,
        compute.describe(),
        len(cells),
        diameter,
        loaded.kinds(votes),
        tuple(
            (index, place)
            for place in places
            if y.start <= place.y < y.stop and x.start <= place.x < x.stop
        ),
        warnings=missing_warning(source.missing_px, math.prod(source.shape)),
        look=chosen,
    )


def _around(box: Box, depth: int, zoom: float, more_px: float) -> Box:
    """Return a larger box, with all pixels that influence the scores and the cells in the box.

    It begins at a multiple of 2**depth. At other positions the scores would differ.
    """
    step = 2**depth
    # The halo of `core.tiling` is a little less than six steps.
    margin = math.ceil(6 * step / zoom + more_px)
    y, x = (slice(max(side.start - margin, 0) // step * step, side.stop + margin) for side in box)
    return y, x
