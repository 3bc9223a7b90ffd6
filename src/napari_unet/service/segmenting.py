"""An image's planes through a model: what the jobs of segmenting and measuring do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import PredictConfig
from napari_unet.core.axes import (
    get_plane,
    get_stack,
    label_shape,
    plane_indices,
    set_plane,
    set_stack,
    split_index,
)
from napari_unet.service.device import choose
from napari_unet.service.diameter import guess_diameter
from napari_unet.service.jobs import Job
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
        int32, with the image's axes without C; 0 = background, ids unique over all planes.
    planes
        Index of each plane that was segmented; the others are 0. A model of stacks segments all
        planes of a stack.
    model
        The version that was used.
    compute
        Where it ran, in words.
    n_cells
        Number of cells; their ids are 1, 2, ...
    diameter_px
        Of a disc of the median cell's area, in a stack of a ball of its volume; 0 without cells.
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
    from napari_unet.core.places import doubtful_places

    job.report(0.0, "loading the model")
    loaded = load()
    compute = choose(config.device, config.precision)
    if loaded.header.for_stacks:
        return segment_stacks(job, loaded, image, axes, version, config, planes)
    labels = np.zeros(label_shape(axes, image.shape), np.int32)
    given = config.diameter_px
    kinds: list[str] = []
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
        kinds += loaded.kinds_of(found, scores)
        cell_px = np.sqrt(4 / np.pi * np.median(areas[-1])) if len(areas[-1]) else None
        size = float(cell_px or given or loaded.header.diameter_px or MIXED_DIAMETER_PX)
        places += [(index, place) for place in doubtful_places(scores.foreground, size)]
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


def segment_stacks(
    job: Job[Segmentation],
    loaded: LoadedModel,
    image: Any,
    axes: str,
    version: ModelVersion,
    config: PredictConfig,
    planes: tuple[tuple[int, ...], ...],
) -> Segmentation:
    """Segment the stacks that planes lie in; ids are objects in 3D. For parameters see above."""
    from napari_unet.core.places import doubtful_places

    compute = choose(config.device, config.precision)
    labels = np.zeros(label_shape(axes, image.shape), np.int32)
    within: dict[tuple[int, ...], list[tuple[int, ...]]] = {
        split_index(axes, plane)[0]: [] for plane in planes
    }
    for plane in plane_indices(axes, image.shape):
        index, _ = split_index(axes, plane)
        if index in within:
            within[index].append(plane)
    kinds: list[str] = []
    places: list[tuple[tuple[int, ...], Place]] = []
    count, volumes = 0, [np.zeros(0, np.intp)]
    for number, (index, own) in enumerate(within.items()):

        def progress(fraction: float, message: str, number: int = number) -> None:
            where = f", stack {number + 1} of {len(within)}" if len(within) > 1 else ""
            job.report((number + 0.98 * fraction) / len(within), message + where)

        progress(0.0, "reading")
        stack = loaded.prepare(get_stack(image, axes, index))
        scores = loaded.scores(stack, compute, config.tile_px, progress)
        progress(1.0, "labelling cells")
        found = loaded.instances(scores, config)
        job.check()
        set_stack(labels, axes, index, np.where(found, found + count, 0))
        volumes.append(np.bincount(found.ravel())[1:])
        count += len(volumes[-1])
        kinds += loaded.kinds_of(found, scores)
        size = _diameter(volumes[-1], loaded) or MIXED_DIAMETER_PX
        for plane, foreground in zip(own, scores.foreground, strict=True):
            places += [(plane, place) for place in doubtful_places(foreground, size)]
    places.sort(key=lambda found: -found[1].weight)
    return Segmentation(
        labels,
        tuple(plane for own in within.values() for plane in own),
        version,
        compute.describe(),
        count,
        _diameter(np.concatenate(volumes), loaded),
        tuple(kinds),
        tuple(places),
    )


def _diameter(volumes: NDArray[np.intp], loaded: LoadedModel) -> float:
    """Diameter, in pixels, of a ball of the median volume in voxels; 0 without cells."""
    if not len(volumes):
        return 0.0
    return float(np.cbrt(6 / np.pi * np.median(volumes) * (loaded.header.anisotropy or 1)))


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
