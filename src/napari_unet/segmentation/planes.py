"""The segmentation of planes, and the search for the diameter of the cells."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import Link, PredictConfig
from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import (
    get_plane,
    label_axes,
    label_shape,
    plane_shape,
    plane_view,
    planes_last,
    take_channel,
)
from napari_unet.core.cells.cell_size import median_diameter
from napari_unet.core.missing import count_missing, missing_words
from napari_unet.jobs import Job, Reporter
from napari_unet.models.device import choose
from napari_unet.models.loaded import MIXED_DIAMETER_PX, LoadedModel
from napari_unet.models.store import ModelVersion
from napari_unet.segmentation.linking import linked_ids
from napari_unet.segmentation.looking import AS_IT_IS, Look, Scored, look, measured_px
from napari_unet.segmentation.plane_order import PlaneLabels, number_in_order
from napari_unet.segmentation.tiled_plane import LARGE_PX, LargePlane, segment_large

if TYPE_CHECKING:
    from napari_unet.core.cells.suggestions import Place

# Largest number of suggestions for a plane, and the side, in pixels, of the blocks in which they
# are searched. Larger blocks would need too much memory.
_SUGGESTIONS, _SUGGESTIONS_PX = 20, 4096


@dataclass(frozen=True)
class Segmentation:
    """The result of a segmentation.

    Attributes
    ----------
    labels
        int32, with the image's axes without C; 0 is background. Each cell has its own id. A linked
        cell has one id on all its planes.
    planes
        Index of each plane that was segmented; labels of other planes are 0. In 3D, all planes of a
        stack are segmented.
    model
        The version that was used.
    compute
        The device and number format that were used, in words.
    n_cells
        Number of cells, or of linked cells; their ids are 1, 2, ...
    diameter_px
        Diameter, in pixels, of a disc with the median area of the cells, or in 3D of a ball with
        their median volume; 0 without cells.
    kinds
        Name of the class of each cell 1, 2, ...
    places
        Suggestions where a correction would help most, the best first: the index of the plane, and
        the point in it.
    is_linked
        Whether the cells were linked over planes.
    warnings
        Warnings about the image, one sentence each.
    look
        The diameter and channel with which the model saw the image.
    """

    labels: NDArray[np.int32]
    planes: tuple[tuple[int, ...], ...]
    model: ModelVersion
    compute: str
    n_cells: int
    diameter_px: float
    kinds: tuple[str, ...]
    places: tuple[tuple[tuple[int, ...], Place], ...]
    is_linked: bool = False
    warnings: tuple[str, ...] = ()
    look: Look = AS_IT_IS


def segment_planes(
    job: Reporter,
    load: Callable[[], LoadedModel],
    image: LazyArray,
    axes: str,
    version: ModelVersion,
    config: PredictConfig,
    planes: tuple[tuple[int, ...], ...],
) -> Segmentation:
    """Segment planes of an image one by one; called in a job.

    Parameters
    ----------
    job
        Receives the progress. Its previews are the `PlaneLabels` of all planes that are done.
    load
        Returns the model.
    image, axes
        Array-like, and one letter of TZCYX for each axis.
    version
        The version that `load` returns, for the result.
    config
        Settings.
    planes
        Indices along the axes other than C, Y, X, in the order in which they are segmented.
    """
    job.report(0.0, "loading the model")
    loaded = load()
    compute = choose(config.device, config.precision)
    labels = np.zeros(label_shape(axes, image.shape), np.int32)
    segment = _segment_large if np.prod(plane_shape(axes, image.shape)) > LARGE_PX else _segment
    votes = [np.zeros((0, len(loaded.header.classes)), np.int64)]
    places: list[tuple[tuple[int, ...], Place]] = []
    count = missing = 0
    chosen, known = look(loaded, image, axes, planes, config, compute, job)
    named = axes
    if config.channel == "auto":
        image, named = take_channel(image, axes, chosen.channel)
    config = replace(config, channel=chosen.channel, diameter_px=chosen.diameter_px)
    done: tuple[PlaneLabels, ...] = ()
    for number, index in enumerate(planes):

        def progress(fraction: float, message: str, number: int = number) -> None:
            where = f", plane {number + 1} of {len(planes)}" if len(planes) > 1 else ""
            job.report((number + 0.98 * fraction) / len(planes), message + where)

        progress(0.0, "reading")
        source = LargePlane(loaded, image, named, index, config, compute)
        target = plane_view(labels, axes, index)
        if known is not None and known.index == index:
            found = _take_known(source, target, known, source.missing_px)
        else:
            found = segment(source, target, progress)
        job.check()
        target[target > 0] += count
        count += len(found.votes)
        missing += found.missing_px
        votes.append(found.votes)
        places += [(index, place) for place in found.suggestions]
        if number + 1 < len(planes):
            done += (PlaneLabels(index, planes_last(labels, label_axes(axes))[index]),)
            where = f"labelling cells, plane {number + 1} of {len(planes)}"
            job.report((number + 1) / len(planes), where, preview=done)
    labels, cast = number_in_order(labels, planes, votes[1:])
    places.sort(key=lambda found: -found[1].weight)
    whole = Segmentation(
        labels,
        planes,
        version,
        compute.describe(),
        count,
        median_diameter(cast.sum(1)),
        loaded.kinds(cast),
        tuple(places),
        warnings=missing_warning(missing, len(planes) * math.prod(plane_shape(axes, image.shape))),
        look=chosen,
    )
    return link_found(job, whole, label_axes(axes), config.link)


def missing_warning(missing_px: int, total_px: int) -> tuple[str, ...]:
    """Return a warning if some pixels are not numbers, else an empty tuple."""
    words = missing_words(missing_px, total_px)
    return (words,) if words else ()


def link_found(
    job: Reporter, found: Segmentation, axes: str, link: Link, within: str = "YX"
) -> Segmentation:
    """Link the cells of a segmentation along z, t or both, and return the new segmentation.

    Parameters
    ----------
    job
        Receives the progress.
    found
        A segmentation of single planes; its labels are changed in place.
    axes
        The axes of its labels.
    link
        The axes to link along; "none" changes nothing.
    within
        The axes along which a cell has one id already.
    """
    if link == "none":
        return found
    job.report(0.98, "linking cells")
    labels = found.labels
    numbers = linked_ids(labels, axes, link, job.check, within)
    areas = np.bincount(labels.ravel(), minlength=len(numbers))[1:]
    # A linked cell gets the class of most of its pixels.
    names, classes = np.unique(np.array(found.kinds, str), return_inverse=True)
    votes = np.zeros((int(numbers.max()), len(names)), np.int64)
    np.add.at(votes, (numbers[1:] - 1, classes), areas)
    for plane in labels:
        plane[:] = numbers[plane]
    elected = tuple(str(names[number]) for number in votes.argmax(1)) if len(votes) else ()
    return replace(found, n_cells=len(votes), kinds=elected, is_linked=True)


@dataclass(frozen=True)
class _Found:
    """The result for one plane: pixels of each cell by class, suggestions, missing pixels."""

    votes: NDArray[np.int64]
    suggestions: list[Place]
    missing_px: int


def _segment(
    source: LargePlane, target: NDArray[np.int32], progress: Callable[[float, str], None]
) -> _Found:
    """Segment a plane as a whole, and write its labels to `target`."""
    loaded = source.model
    pixels = get_plane(source.image, source.axes, source.index)
    plane = loaded.prepare(pixels)
    scores = loaded.scores(plane, source.compute, source.config.tile_px, progress, source.zoom)
    progress(1.0, "labelling cells")
    labels = loaded.instances(scores, source.config)
    return _take_known(source, target, Scored(source.index, labels, scores), count_missing(pixels))


def _take_known(
    source: LargePlane, target: NDArray[np.int32], known: Scored, missing_px: int
) -> _Found:
    """Write labels that are known already to `target`, and return the result for the plane."""
    target[...] = known.labels
    votes = source.model.votes(target, known.scores.classes)
    return _Found(votes, _suggestions(known.scores.foreground, votes, source), missing_px)


def _segment_large(
    source: LargePlane, target: NDArray[np.int32], progress: Callable[[float, str], None]
) -> _Found:
    """Segment a large plane block by block, and write its labels to `target`."""
    cells, scores = segment_large(source, target, progress)
    places = _suggestions(scores["foreground"], cells.votes, source)
    return _Found(cells.votes, places, source.missing_px)


def _suggestions(
    foreground: NDArray[np.floating], votes: NDArray[np.int64], source: LargePlane
) -> list[Place]:
    """Return suggestions where a correction would help most.

    The scores `foreground` may have the size of the plane, or the size that the network saw.
    """
    from napari_unet.core.cells.blockwise import plan_blocks
    from napari_unet.core.cells.suggestions import suggest_corrections

    known = source.config.diameter_px or source.model.header.diameter_px or MIXED_DIAMETER_PX
    size = median_diameter(votes.sum(1)) or known
    zoom = foreground.shape[0] / source.shape[0]
    found = []
    for box in plan_blocks((foreground.shape[0], foreground.shape[1]), _SUGGESTIONS_PX):
        top, left = box[0].start, box[1].start
        found += [
            replace(place, y=(place.y + top) / zoom, x=(place.x + left) / zoom)
            for place in suggest_corrections(foreground[box].astype(np.float32), size * zoom)
        ]
    return sorted(found, key=lambda place: -place.weight)[:_SUGGESTIONS]


def measure_cells(
    job: Job[object],
    load: Callable[[], LoadedModel],
    plane: NDArray[np.generic],
    version: ModelVersion,
    config: PredictConfig,
) -> float:
    """Find the diameter of the cells of a raw plane (C, Y, X), in pixels; called in a job.

    Raises
    ------
    ValueError
        If the model finds no cells at any size.
    """
    job.report(0.0, "loading the model")
    loaded = load()
    compute = choose(config.device, config.precision)
    job.report(0.0, "looking for the cells' size")
    found = measured_px(loaded, plane, config, compute, job)
    if found is None:
        raise ValueError(
            f"{version.reference} recognises no cells at any size; measure one and give its "
            "diameter in pixels"
        )
    return found
