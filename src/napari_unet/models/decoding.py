"""How a model that learnt from corrections turns its scores into cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.boxes import Box
from napari_unet.models.device import Compute
from napari_unet.models.loaded import LoadedModel, PlaneScores

if TYPE_CHECKING:
    from napari_unet.engine.samples import AnnotatedPlane

# Smallest area of a cell, as a fraction of a typical cell's area, and as a fraction of a small
# cell's area. The smaller of the two limits is used; anything below it is a piece of a cell.
_PIECE, _SMALLEST = 0.3, 0.8
# Thresholds of the foreground score of a model that learnt few cells: first where images keep their
# size, then where they are resized. They are below 0.5, because the border weights make scores low
# at outlines. Measured on the tissue of the demo and on frames of DIC-C2DH-HeLa.
_THRESHOLD, _THRESHOLD_RESIZED = 0.35, 0.4
# Threshold of the relative distance at which the cores of touching cells are split. Cores above it
# are larger than noise.
SEED_THRESHOLD = 0.45
# Foreground thresholds that are tried on seen pixels, and the number of planes that are used.
_THRESHOLDS, _PLANES = np.arange(15, 65, 5) / 100, 16
# Highest `peak_threshold`: a cell must reach this relative distance in its middle. It is lower than
# in the shipped models, because users correct images that these models know less well.
_PEAK = 0.4
# If the flattest tenth of the taught cells is flatter than that, the threshold is this fraction of
# the distance that they reach.
_OF_FLATTEST = 0.8
# Lowest `peak_threshold`. Below it, noise is taken for cells, which could happen after a user
# painted a cell where the network sees none.
_LEAST_PEAK = 0.25
# Lowest foreground threshold where cells have the size that the network knows. Lower ones turn
# unseen background beside the cells into cells.
_LEAST_THRESHOLD = 0.3


def cell_areas(
    planes: Iterable[tuple[NDArray[np.int32], NDArray[np.bool_] | None]],
) -> NDArray[np.int64]:
    """Return the areas of all cells that were seen as a whole, in pixels, smallest first.

    Parameters
    ----------
    planes
        Labels (Y, X), and a mask (Y, X) of the seen pixels; None if all were seen.
    """
    areas = [np.zeros(0, np.int64)]
    for labels, seen in planes:
        area = np.bincount(labels.ravel())
        if seen is not None:
            area[np.unique(labels[~seen])] = 0
        area[0] = 0
        areas.append(area[area > 0])
    return np.sort(np.concatenate(areas))


def typical_area(areas: NDArray[np.int64], share: float = 0.5) -> int | None:
    """Return an area such that a fraction `share` of all cell pixels lies in smaller cells.

    It is None if there is no cell. Small specks hardly change it, because they have few pixels.

    Parameters
    ----------
    areas
        In pixels, smallest first.
    share
        In [0, 1].
    """
    if not len(areas):
        return None
    return int(areas[np.searchsorted(np.cumsum(areas), share * areas.sum())])


def postprocess_for(
    planes: Iterable[AnnotatedPlane], model: LoadedModel, zoom: float
) -> dict[str, object]:
    """Return the settings of `label_instances` that suit the cells which a model learns.

    Parameters
    ----------
    planes
        The planes that it learns from, at the size that the network sees.
    model
        The model; its own `seed_threshold` is kept if it has one.
    zoom
        Factor by which the images are enlarged for the network.
    """
    settings = model.header.postprocess
    areas = cell_areas((plane.labels, plane.seen) for plane in planes)
    small, typical = typical_area(areas, 0.05), typical_area(areas)
    if small is None or typical is None:
        return dict(settings)
    found = {**settings, "radius_px": float(np.sqrt(typical / np.pi)), "threshold": _THRESHOLD}
    if model.network.config.distance:
        found["seed_threshold"] = settings.get("seed_threshold") or SEED_THRESHOLD
    if zoom != 1:
        # The model is for cells of this size only, so much smaller pieces are not cells.
        found["min_size_px"] = round(min(_PIECE * typical, _SMALLEST * small))
        found["threshold"] = _THRESHOLD_RESIZED
    return found


def thresholds_for(
    model: LoadedModel,
    planes: Sequence[AnnotatedPlane],
    compute: Compute,
    check: Callable[[], None],
    at_most: int = _PLANES,
    *,
    resized: bool = False,
) -> dict[str, float]:
    """Find the thresholds that best separate seen cells from seen background.

    `threshold` is the one at which foreground and cells have the largest IoU, over the seen pixels
    of all planes. It differs between images, and depends on how long the model has learnt.
    `peak_threshold` is a relative distance that seen cells reach; it is returned only if the model
    predicts distances.

    Parameters
    ----------
    model
        A model with its network in evaluation mode.
    planes
        Planes at the size that the network sees.
    compute
        The device and number format.
    check
        Called before each tile; may raise to stop.
    at_most
        About how many planes are used.
    resized
        Whether the images are resized for the network.

    Returns
    -------
    Settings of `label_instances`; empty if there is no cell.
    """
    from scipy import ndimage

    # A new LoadedModel, because the predictors of the old one may hold older weights.
    model = LoadedModel(model.network, model.header)
    taught = [plane for plane in planes if (plane.labels > 0).any()]
    if not taught:
        return {}
    shared = np.zeros(len(_THRESHOLDS))
    united = np.zeros(len(_THRESHOLDS))
    peaks: list[float] = []
    for plane in taught[:: math.ceil(len(taught) / at_most)]:
        seen = np.ones(plane.labels.shape, bool) if plane.seen is None else plane.seen
        box, scores = scores_around(seen, plane, model, compute, check)
        found = scores.foreground[seen[box]] > _THRESHOLDS[:, None]
        cells = plane.labels[box][seen[box]] > 0
        shared += (found & cells).sum(1)
        united += (found | cells).sum(1)
        if scores.distance is not None:
            labels = plane.labels[box]
            peaks += ndimage.maximum(
                scores.distance, labels, np.unique(labels[labels > 0])
            ).tolist()
    best = float(_THRESHOLDS[np.argmax(shared / united)])
    settings = {"threshold": best if resized else max(best, _LEAST_THRESHOLD)}
    if peaks:
        flattest = _OF_FLATTEST * float(np.quantile(peaks, 0.1))
        settings["peak_threshold"] = float(np.clip(flattest, _LEAST_PEAK, _PEAK))
    return settings


def scores_around(
    where: NDArray[np.bool_],
    plane: AnnotatedPlane,
    model: LoadedModel,
    compute: Compute,
    check: Callable[[], None],
) -> tuple[Box, PlaneScores]:
    """Predict the scores around some pixels of a plane; return that box and its scores.

    Parameters
    ----------
    where
        (Y, X), the pixels; at least one is True.
    plane, model, compute, check
        As for `thresholds_for`.
    """
    from napari_unet.core.tiling import smallest_input_px

    margin = smallest_input_px(model.network.config.depth)
    lines = (np.flatnonzero(where.any(axis)) for axis in (1, 0))
    y, x = (slice(max(int(i[0]) - margin, 0), int(i[-1]) + 1 + margin) for i in lines)
    part = np.ascontiguousarray(plane.image[:, y, x])
    return (y, x), model.scores(part, compute, None, lambda fraction, message: check())
