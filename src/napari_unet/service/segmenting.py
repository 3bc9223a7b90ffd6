"""An image's planes through a model: what the jobs of segmenting and measuring do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import PredictConfig
from napari_unet.core.axes import get_plane, label_axes, label_shape, set_plane
from napari_unet.service.device import choose
from napari_unet.service.diameter import guess_diameter
from napari_unet.service.jobs import Job, Reporter
from napari_unet.service.linking import linked_ids
from napari_unet.service.loaded_model import MIXED_DIAMETER_PX, LoadedModel
from napari_unet.service.model_store import ModelVersion

if TYPE_CHECKING:
    from napari_unet.core.places import Place


@dataclass(frozen=True)
class Segmentation:
    """What a segmentation gives.

    Attributes
    ----------
    labels
        int32, with the image's axes without C; 0 = background, ids unique over all planes, or
        one for each object where they were linked.
    planes
        Index of each plane that was segmented; the others are 0.
    model
        The version that was used.
    compute
        Where it ran, in words.
    n_cells
        Number of cells, or of linked objects; their ids are 1, 2, ...
    diameter_px
        Of a disc of the median cell's area in a plane; 0 without cells.
    kinds
        Class of each cell 1, 2, ...
    places
        Where a correction would help most, the best first: the plane's index, and the place in it.
    is_linked
        Whether cells of several planes have one id.
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
        Indices along the axes other than C, Y, X.
    """
    from napari_unet.core.places import doubtful_places

    job.report(0.0, "loading the model")
    loaded = load()
    compute = choose(config.device, config.precision)
    labels = np.zeros(label_shape(axes, image.shape), np.int32)
    given = config.diameter_px
    votes = [np.zeros((0, len(loaded.header.classes)), np.intp)]
    places: list[tuple[tuple[int, ...], Place]] = []
    count, areas = 0, [np.zeros(0, np.intp)]
    for number, index in enumerate(planes):

        def progress(fraction: float, message: str, number: int = number) -> None:
            where = f", plane {number + 1} of {len(planes)}" if len(planes) > 1 else ""
            job.report((number + 0.98 * fraction) / len(planes), message + where)

        progress(0.0, "reading")
        plane = loaded.prepare(get_plane(image, axes, index))
        if given == "auto":
            progress(0.0, "looking for the cells' size")
            given = guess_diameter(loaded, plane, compute, job.check)
        scores = loaded.scores(plane, compute, config.tile_px, progress, loaded.zoom(given))
        progress(1.0, "labelling cells")
        found = loaded.instances(scores, config)
        job.check()
        set_plane(labels, axes, index, np.where(found, found + count, 0))
        areas.append(np.bincount(found.ravel())[1:])
        count += len(areas[-1])
        votes.append(loaded.votes(found, scores))
        cell_px = np.sqrt(4 / np.pi * np.median(areas[-1])) if len(areas[-1]) else None
        size = float(cell_px or given or loaded.header.diameter_px or MIXED_DIAMETER_PX)
        places += [(index, place) for place in doubtful_places(scores.foreground, size)]
    diameter = np.sqrt(4 / np.pi * np.median(np.concatenate(areas))) if count else 0.0
    places.sort(key=lambda found: -found[1].weight)
    cast = np.concatenate(votes)
    if config.link != "none":
        count, cast = _link(job, labels, label_axes(axes), config, cast)
    return Segmentation(
        labels,
        planes,
        version,
        compute.describe(),
        count,
        float(diameter),
        loaded.kinds(cast),
        tuple(places),
        config.link != "none",
    )


def _link(
    job: Reporter,
    labels: NDArray[np.int32],
    axes: str,
    config: PredictConfig,
    votes: NDArray[np.intp],
) -> tuple[int, NDArray[np.intp]]:
    """Link the labels in place; how many objects there are, and the votes for their classes."""
    job.report(0.98, "linking cells")
    numbers = linked_ids(labels, axes, config.link, job.check)
    count = int(numbers.max())
    for plane in labels:
        plane[:] = numbers[plane]
    cast = np.zeros((count, votes.shape[1]), votes.dtype)
    np.add.at(cast, numbers[1:] - 1, votes)
    return count, cast


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
