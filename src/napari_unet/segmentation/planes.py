"""The segmentation of planes, and the search for the diameter of the cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import Link, PredictConfig
from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import (
    get_plane,
    label_axes,
    label_shape,
    plane_view,
    take_channel,
)
from napari_unet.core.cells.cell_size import median_diameter
from napari_unet.core.missing import count_missing, missing_words
from napari_unet.jobs import Job, Reporter
from napari_unet.models.device import choose
from napari_unet.models.loaded import MIXED_DIAMETER_PX, LoadedModel
from napari_unet.models.store import ModelVersion
from napari_unet.segmentation.kept_scores import KeptScores, keep
from napari_unet.segmentation.linking import linked_ids
from napari_unet.segmentation.looking import AS_IT_IS, Look, Scored, look, measured_px
from napari_unet.segmentation.plane_order import PlaneLabels, number_in_order
from napari_unet.segmentation.tiled_plane import LARGE_PX, PlaneSource, segment_large

if TYPE_CHECKING:
    from napari_unet.core.cells.suggestions import Place

# Is called with (fraction, message), and may raise to stop.
Progress = Callable[[float, str], None]
# Largest number of suggestions for a plane, and the side, in pixels, of the blocks in which they
# are searched. Larger blocks would need too much memory.
_SUGGESTIONS, _SUGGESTIONS_PX = 20, 4096
# The doubt of an image is the mean over so many suggestions. On 60 images its rank correlation with
# the AP was -0.55; that of the steadiness, which takes two more passes of the network, was 0.65.
_DOUBTED = 10


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
    scores
        Of the first plane, to find its cells again with other settings (`again`); None of large
        planes, parts of planes, stacks and linked cells, and where a server segmented.
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
    scores: KeptScores | None = field(default=None, repr=False, compare=False)

    @property
    def doubt(self) -> float:
        """How unsure the model is of the image, in [0, 1]: the mean of its largest suggestions."""
        weights = sorted((place.weight for _, place in self.places), reverse=True)[:_DOUBTED]
        return sum(weights) / max(1, len(weights))


@dataclass(frozen=True)
class Prepared:
    """A model in memory, and an image as this model is to see it.

    Attributes
    ----------
    source
        The image with its model and settings, without the index of a plane.
    look
        How the model sees it.
    known
        A plane that was segmented on the way; None if there is none.
    version
        The version of the model.
    labels
        The labels of the image, which are 0 at first.
    """

    source: PlaneSource
    look: Look
    known: Scored | None
    version: ModelVersion
    labels: NDArray[np.int32]


@dataclass(frozen=True)
class Found:
    """The result for one plane or stack.

    Attributes
    ----------
    votes
        The pixels of each cell by their class, (cells, classes).
    suggestions
        Where a correction would help most: the index of a plane, and the point in it.
    missing_px, n_px
        Number of pixels that are not numbers, and of all pixels.
    """

    votes: NDArray[np.int64]
    suggestions: list[tuple[tuple[int, ...], Place]]
    missing_px: int
    n_px: int


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
    prepared = prepare(job, load, image, axes, version, config, planes)
    known = prepared.known
    is_large = math.prod(prepared.source.shape) > LARGE_PX
    first: list[KeptScores | None] = []

    def segment(index: tuple[int, ...], target: NDArray[np.int32], progress: Progress) -> Found:
        source = replace(prepared.source, index=index)
        if known is not None and known.index == index:
            scored, missing_px = known, source.missing_px
        elif is_large:
            return _segment_large(source, target, progress)
        else:
            scored, missing_px = _segment(source, progress)
        if index == planes[0] and config.link == "none":
            first.append(keep(index, source.model, scored.scores))
        return _take_known(source, target, scored, missing_px)

    targets = {index: plane_view(prepared.labels, axes, index) for index in planes}
    found = segment_each(job, prepared, targets, segment, planes)
    found = replace(found, scores=first[0] if first else None)
    return link_found(job, found, label_axes(axes), config.link)


def prepare(
    job: Reporter,
    load: Callable[[], LoadedModel],
    image: LazyArray,
    axes: str,
    version: ModelVersion,
    config: PredictConfig,
    planes: Sequence[tuple[int, ...]],
) -> Prepared:
    """Load the model, and find the size and channel in which it is to see the image.

    For parameters see `segment_planes`; one of the planes is looked at.
    """
    job.report(0.0, "loading the model")
    model = load()
    compute = choose(config.device, config.precision)
    labels = np.zeros(label_shape(axes, image.shape), np.int32)
    chosen, known = look(model, image, axes, planes, config, compute, job)
    if config.channel == "auto":
        image, axes = take_channel(image, axes, chosen.channel)
    config = replace(config, channel=chosen.channel, diameter_px=chosen.diameter_px)
    source = PlaneSource(model, image, axes, (), config, compute)
    return Prepared(source, chosen, known, version, labels)


def segment_each(
    job: Reporter,
    prepared: Prepared,
    targets: Mapping[tuple[int, ...], NDArray[np.int32]],
    segment: Callable[[tuple[int, ...], NDArray[np.int32], Progress], Found],
    planes: tuple[tuple[int, ...], ...],
    diameter: Callable[[NDArray[np.int64]], float] = median_diameter,
) -> Segmentation:
    """Segment planes or stacks one after the other, and number their cells over all of them.

    Parameters
    ----------
    job
        Receives the progress.
    prepared
        The model and the image.
    targets
        A view of the labels, (Y, X) or (Z, Y, X), for each index, in the order of the work.
    segment
        Writes ids 1, 2, ... to a view and returns what it found; called with an index, its view,
        and a function to call with (fraction, message).
    planes
        All planes that are segmented.
    diameter
        Returns the typical diameter of cells, in pixels, from their areas or volumes.
    """
    votes: list[NDArray[np.int64]] = []
    places: list[tuple[tuple[int, ...], Place]] = []
    count = missing = n_px = number = 0
    done: tuple[PlaneLabels, ...] = ()
    name = "plane" if all(target.ndim == 2 for target in targets.values()) else "stack"

    def progress(fraction: float, message: str) -> None:
        job.part(number, len(targets), name).report(0.98 * fraction, message)

    for number, (index, target) in enumerate(targets.items()):
        progress(0.0, "reading")
        found = segment(index, target, progress)
        job.check()
        target[target > 0] += count
        votes.append(found.votes)
        places += found.suggestions
        count, missing = count + len(found.votes), missing + found.missing_px
        n_px += found.n_px
        if name == "plane" and number + 1 < len(targets):
            done += (PlaneLabels(index, target),)
            where = f"labelling cells, plane {number + 1} of {len(targets)}"
            job.report((number + 1) / len(targets), where, preview=done)
    labels, cast = number_in_order(prepared.labels, list(targets), votes)
    places.sort(key=lambda found: -found[1].weight)
    return Segmentation(
        labels,
        planes,
        prepared.version,
        prepared.source.compute.describe(),
        count,
        diameter(cast.sum(1)),
        prepared.source.model.kinds(cast),
        tuple(places),
        warnings=missing_warning(missing, n_px),
        look=prepared.look,
    )


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

    def progress(number: int, count: int) -> None:
        words = f"linking cells, plane {number + 1} of {count}"
        job.report(0.98 + 0.02 * number / count, words)

    numbers = linked_ids(labels, axes, link, job.check, within, progress)
    areas = np.bincount(labels.ravel(), minlength=len(numbers))[1:]
    # A linked cell gets the class of most of its pixels.
    names, classes = np.unique(np.array(found.kinds, str), return_inverse=True)
    votes = np.zeros((int(numbers.max()), len(names)), np.int64)
    np.add.at(votes, (numbers[1:] - 1, classes), areas)
    for plane in labels:
        plane[:] = numbers[plane]
    elected = tuple(str(names[number]) for number in votes.argmax(1)) if len(votes) else ()
    return replace(found, n_cells=len(votes), kinds=elected, is_linked=True)


def again(found: Segmentation, config: PredictConfig) -> Segmentation:
    """Return the cells of the plane whose scores are kept, as other settings find them.

    Parameters
    ----------
    found
        Labels (..., Y, X), and scores.
    config
        Its `threshold` and `min_size_px` are used.

    Raises
    ------
    ValueError
        If no scores are kept.
    """
    scores = found.scores
    if scores is None:
        raise ValueError("no scores of this result are in memory; click Segment")
    labels = np.zeros_like(found.labels)
    labels[scores.index], votes = scores.cells(config)
    return replace(
        found,
        labels=labels,
        planes=(scores.index,),
        n_cells=len(votes),
        diameter_px=median_diameter(votes.sum(1)),
        kinds=scores.model.kinds(votes),
    )


def _segment(source: PlaneSource, progress: Progress) -> tuple[Scored, int]:
    """Segment a plane as a whole; return it, and the number of its pixels without a value."""
    loaded = source.model
    pixels = get_plane(source.image, source.axes, source.index)
    plane = loaded.prepare(pixels)
    scores = loaded.scores(plane, source.compute, source.config.tile_px, progress, source.zoom)
    progress(1.0, "labelling cells")
    labels = loaded.instances(scores, source.config)
    return Scored(source.index, labels, scores), count_missing(pixels)


def _take_known(
    source: PlaneSource, target: NDArray[np.int32], known: Scored, missing_px: int
) -> Found:
    """Write labels that are known already to `target`, and return the result for the plane."""
    target[...] = known.labels
    votes = source.model.votes(target, known.scores.classes)
    suggestions = _suggestions(known.scores.foreground, votes, source)
    return Found(votes, suggestions, missing_px, target.size)


def _segment_large(source: PlaneSource, target: NDArray[np.int32], progress: Progress) -> Found:
    """Segment a large plane block by block, and write its labels to `target`."""
    cells, scores = segment_large(source, target, progress)
    suggestions = _suggestions(scores["foreground"], cells.votes, source)
    return Found(cells.votes, suggestions, source.missing_px, target.size)


def _suggestions(
    foreground: NDArray[np.floating], votes: NDArray[np.int64], source: PlaneSource
) -> list[tuple[tuple[int, ...], Place]]:
    """Return suggestions where a correction would help most: index of the plane, and the point.

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
    best = sorted(found, key=lambda place: -place.weight)[:_SUGGESTIONS]
    return [(source.index, place) for place in best]


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
