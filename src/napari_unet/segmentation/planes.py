"""An image's planes through a model: what the jobs of segmenting and measuring do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import Link, PredictConfig
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

# Places of a plane at most, and what they are looked for in at a time.
_PLACES, _PLACES_PX = 20, 4096


@dataclass(frozen=True)
class Segmentation:
    """What a segmentation gives.

    Attributes
    ----------
    labels
        int32, with the image's axes without C; 0 = background, ids unique over all planes, or
        one for each object where they were linked.
    planes
        Index of each plane that was segmented; the others are 0. A model of stacks segments all
        planes of a stack.
    model
        The version that was used.
    compute
        Where it ran, in words.
    n_cells
        Number of cells, or of linked objects; their ids are 1, 2, ...
    diameter_px
        Of a disc of the median cell's area in a plane, or of a ball of its volume in a stack; 0
        without cells.
    kinds
        Class of each cell 1, 2, ...
    places
        Where a correction would help most, the best first: the plane's index, and the place in it.
    is_linked
        Whether cells of several planes have one id.
    warnings
        What the user is to know of the image, a sentence each.
    look
        How the model looked at the image.
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
    image: Any,
    axes: str,
    version: ModelVersion,
    config: PredictConfig,
    planes: tuple[tuple[int, ...], ...],
) -> Segmentation:
    """Segment planes of an image one by one; called in a job.

    Parameters
    ----------
    job
        Told how far it is.
    load
        Gives the model.
    image, axes
        Array-like, and one letter of TZCYX for each axis.
    version
        What the model is called.
    config
        Settings.
    planes
        Indices along the axes other than C, Y, X, in the order of the work. The progress carries
        `PlaneLabels` of all that are done.
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
            found = _read_off(source, target, known, source.missing_px)
        else:
            found = segment(source, target, progress)
        job.check()
        target[target > 0] += count
        count += len(found.votes)
        missing += found.missing_px
        votes.append(found.votes)
        places += [(index, place) for place in found.places]
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
    """The warning on pixels that are no numbers, if there are any."""
    words = missing_words(missing_px, total_px)
    return (words,) if words else ()


def link_found(
    job: Reporter, found: Segmentation, axes: str, link: Link, within: str = "YX"
) -> Segmentation:
    """The same with one id for each object along z, t or both.

    Parameters
    ----------
    job
        Told how far it is.
    found
        Cells of single planes; its labels are changed.
    axes
        Of its labels.
    link
        Along what; "none" changes nothing.
    within
        Axes along which a cell has one id already.
    """
    if link == "none":
        return found
    job.report(0.98, "linking cells")
    labels = found.labels
    numbers = linked_ids(labels, axes, link, job.check, within)
    areas = np.bincount(labels.ravel(), minlength=len(numbers))[1:]
    # Each section votes for its class with its pixels.
    names, kinds = np.unique(np.array(found.kinds, str), return_inverse=True)
    votes = np.zeros((int(numbers.max()), len(names)), np.int64)
    np.add.at(votes, (numbers[1:] - 1, kinds), areas)
    for plane in labels:
        plane[:] = numbers[plane]
    elected = tuple(str(names[kind]) for kind in votes.argmax(1)) if len(votes) else ()
    return replace(found, n_cells=len(votes), kinds=elected, is_linked=True)


@dataclass(frozen=True)
class _Found:
    """What was found in a plane: pixels of each cell by their class, places, missing pixels."""

    votes: NDArray[np.int64]
    places: list[Place]
    missing_px: int


def _segment(
    source: LargePlane, target: NDArray[np.int32], progress: Callable[[float, str], None]
) -> _Found:
    """Segment a plane at once."""
    loaded = source.model
    pixels = get_plane(source.image, source.axes, source.index)
    plane = loaded.prepare(pixels)
    scores = loaded.scores(plane, source.compute, source.config.tile_px, progress, source.zoom)
    progress(1.0, "labelling cells")
    labels = loaded.instances(scores, source.config)
    return _read_off(source, target, Scored(source.index, labels, scores), count_missing(pixels))


def _read_off(
    source: LargePlane, target: NDArray[np.int32], known: Scored, missing_px: int
) -> _Found:
    """Take what is known of a plane."""
    target[...] = known.labels
    votes = source.model.votes(target, known.scores.kinds)
    return _Found(votes, _places(known.scores.foreground, votes, source), missing_px)


def _segment_large(
    source: LargePlane, target: NDArray[np.int32], progress: Callable[[float, str], None]
) -> _Found:
    """Segment a plane block by block."""
    cells, scores = segment_large(source, target, progress)
    places = _places(scores["foreground"], cells.votes, source)
    return _Found(cells.votes, places, source.missing_px)


def _places(
    foreground: NDArray[np.floating], votes: NDArray[np.int64], source: LargePlane
) -> list[Place]:
    """Where a correction would help most; the scores may be those that the network gave."""
    from napari_unet.core.cells.blockwise import plan_blocks
    from napari_unet.core.cells.suggestions import doubtful_places

    known = source.config.diameter_px or source.model.header.diameter_px or MIXED_DIAMETER_PX
    size = median_diameter(votes.sum(1)) or known
    zoom = foreground.shape[0] / source.shape[0]
    found = []
    for box in plan_blocks((foreground.shape[0], foreground.shape[1]), _PLACES_PX):
        top, left = box[0].start, box[1].start
        found += [
            replace(place, y=(place.y + top) / zoom, x=(place.x + left) / zoom)
            for place in doubtful_places(foreground[box].astype(np.float32), size * zoom)
        ]
    return sorted(found, key=lambda place: -place.weight)[:_PLACES]


def measure_cells(
    job: Job[float],
    load: Callable[[], LoadedModel],
    plane: NDArray[Any],
    version: ModelVersion,
    config: PredictConfig,
) -> float:
    """Diameter of the cells of a raw plane (C, Y, X), in pixels; called in a job.

    Raises
    ------
    ValueError
        If no size shows cells.
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
