"""An image's planes through a model: what the jobs of segmenting and measuring do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import PredictConfig
from napari_unet.core.axes import get_plane, label_shape, plane_shape, plane_view
from napari_unet.service.device import choose
from napari_unet.service.diameter import guess_diameter, widest_px
from napari_unet.service.jobs import Job
from napari_unet.service.large_plane import LARGE_PX, LargePlane, segment_large
from napari_unet.service.loaded_model import MIXED_DIAMETER_PX, LoadedModel
from napari_unet.service.model_store import ModelVersion

if TYPE_CHECKING:
    from napari_unet.core.places import Place

# Places of a plane at most, and what they are looked for in at a time.
_PLACES, _PLACES_PX = 20, 4096


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
    n_cells
        Number of cells; their ids are 1, 2, ...
    diameter_px
        Of a disc of the median cell's area; 0 without cells.
    kinds
        Class of each cell 1, 2, ...
    places
        Where a correction would help most, the best first: the plane's index, and the place in it.
    """

    labels: NDArray[np.int32]
    planes: tuple[tuple[int, ...], ...]
    model: ModelVersion
    compute: str
    n_cells: int
    diameter_px: float
    kinds: tuple[str, ...]
    places: tuple[tuple[tuple[int, ...], Place], ...]


def segment_planes(
    job: Job[Segmentation],
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
        Indices along the axes other than C, Y, X.
    """
    job.report(0.0, "loading the model")
    loaded = load()
    compute = choose(config.device, config.precision)
    labels = np.zeros(label_shape(axes, image.shape), np.int32)
    segment = _segment_large if np.prod(plane_shape(axes, image.shape)) > LARGE_PX else _segment
    kinds: list[str] = []
    places: list[tuple[tuple[int, ...], Place]] = []
    count, areas = 0, [np.zeros(0, np.int64)]
    for number, index in enumerate(planes):

        def progress(fraction: float, message: str, number: int = number) -> None:
            where = f", plane {number + 1} of {len(planes)}" if len(planes) > 1 else ""
            job.report((number + 0.98 * fraction) / len(planes), message + where)

        progress(0.0, "reading")
        source = LargePlane(loaded, image, axes, index, config, compute)
        if config.diameter_px == "auto":
            progress(0.0, "looking for the cells' size")
            size = guess_diameter(loaded, source.middle(widest_px(loaded)), compute, job.check)
            config = replace(config, diameter_px=size)
            source = replace(source, config=config)
        target = plane_view(labels, axes, index)
        found = segment(source, target, progress)
        job.check()
        target[target > 0] += count
        count += len(found.areas)
        areas.append(found.areas)
        kinds += found.kinds
        places += [(index, place) for place in found.places]
    diameter = np.sqrt(4 / np.pi * np.median(np.concatenate(areas))) if count else 0.0
    places.sort(key=lambda found: -found[1].weight)
    return Segmentation(
        labels,
        planes,
        version,
        compute.describe(),
        count,
        float(diameter),
        tuple(kinds),
        tuple(places),
    )


@dataclass(frozen=True)
class _Found:
    """What was found in a plane: areas in pixels and classes of its cells, and places."""

    areas: NDArray[np.int64]
    kinds: tuple[str, ...]
    places: list[Place]


def _segment(
    source: LargePlane, target: NDArray[np.int32], progress: Callable[[float, str], None]
) -> _Found:
    """Segment a plane at once."""
    loaded = source.model
    plane = loaded.prepare(get_plane(source.image, source.axes, source.index))
    scores = loaded.scores(plane, source.compute, source.config.tile_px, progress, source.zoom)
    progress(1.0, "labelling cells")
    target[...] = loaded.instances(scores, source.config)
    areas = np.bincount(target.ravel())[1:]
    kinds = loaded.kinds_of(target, scores)
    return _Found(areas, kinds, _places(scores.foreground, areas, source))


def _segment_large(
    source: LargePlane, target: NDArray[np.int32], progress: Callable[[float, str], None]
) -> _Found:
    """Segment a plane block by block."""
    cells, scores = segment_large(source, target, progress)
    kinds = (source.model.header.classes[1],) * len(cells.areas)
    if "kinds" in scores:
        kinds = source.model.elected(cells.votes)
    return _Found(cells.areas, kinds, _places(scores["foreground"], cells.areas, source))


def _places(
    foreground: NDArray[np.float32], areas: NDArray[np.int64], source: LargePlane
) -> list[Place]:
    """Where a correction would help most; the scores may be those that the network gave."""
    from napari_unet.core.places import doubtful_places
    from napari_unet.engine.blocks import plan_blocks

    known = source.config.diameter_px or source.model.header.diameter_px or MIXED_DIAMETER_PX
    size = np.sqrt(4 / np.pi * np.median(areas)) if len(areas) else known
    zoom = foreground.shape[0] / source.shape[0]
    found = []
    for box in plan_blocks((foreground.shape[0], foreground.shape[1]), _PLACES_PX):
        top, left = box[0].start, box[1].start
        found += [
            replace(place, y=(place.y + top) / zoom, x=(place.x + left) / zoom)
            for place in doubtful_places(foreground[box], float(size) * zoom)
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
    found = guess_diameter(loaded, loaded.prepare(plane), compute, job.check)
    if found is None:
        raise ValueError(
            f"{version.reference} recognises no cells at any size; measure one and give its "
            "diameter in pixels"
        )
    return found
