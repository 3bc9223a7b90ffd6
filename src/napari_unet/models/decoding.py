"""How a model that learnt from corrections turns its scores into cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_unet.models.device import Compute
from napari_unet.models.loaded import Box, LoadedModel, PlaneScores

if TYPE_CHECKING:
    from napari_unet.engine.samples import AnnotatedPlane

# Of a typical cell's area, and of a small one's: what is smaller is no cell.
_PIECE, _SMALLEST = 0.3, 0.8
# Of who was taught few cells, and of who was taught cells of one size. The border weights make
# scores low at outlines, and cores are larger than noise; measured on the tissue of the demo, and
# on frames of DIC-C2DH-HeLa.
_THRESHOLD, _THRESHOLD_RESIZED, SEED_THRESHOLD = 0.35, 0.4, 0.45
# Where a threshold is looked for, and on how many planes at most.
_THRESHOLDS, _PLANES = np.arange(15, 65, 5) / 100, 16
# How far from its outline the middle of a cell is told to be, at least: less than in the models
# that ship, since who corrects has images that they know less (the tissue of the demo). Where the
# flattest tenth of taught cells is flatter, so much of what that reaches.
# Below the least, noise has middles, too: a cell that was painted where the network sees none must
# not let it in.
_PEAK, _OF_FLATTEST, _LEAST_PEAK = 0.4, 0.8, 0.25
# The lowest threshold where cells are of the size that the network knows: lower ones turn what is
# beside the cells, where nobody looked, into cells.
_LEAST_THRESHOLD = 0.3


def cell_areas(
    planes: Iterable[tuple[NDArray[np.int32], NDArray[np.bool_] | None]],
) -> NDArray[np.int64]:
    """Areas of all cells, in pixels, smallest first.

    Parameters
    ----------
    planes
        Labels (Y, X), and where they were seen, None for everywhere; cells seen in part do not
        count.
    """
    areas = [np.zeros(0, np.int64)]
    for labels, trusted in planes:
        area = np.bincount(labels.ravel())
        if trusted is not None:
            area[np.unique(labels[~trusted])] = 0
        area[0] = 0
        areas.append(area[area > 0])
    return np.sort(np.concatenate(areas))


def typical_area(areas: NDArray[np.int64], share: float = 0.5) -> int | None:
    """Area such that this share of the cells' pixels lie in smaller cells; None without a cell.

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
) -> dict[str, Any]:
    """Settings of `label_instances`, of a model that learns cells, that suit those.

    Parameters
    ----------
    planes
        What it learns from, at the network's size.
    model
        Its cores stay where it tells them already.
    zoom
        It sees their images larger by this factor.
    """
    settings = model.header.postprocess
    areas = cell_areas((plane.labels, plane.trusted) for plane in planes)
    small, typical = typical_area(areas, 0.05), typical_area(areas)
    if small is None or typical is None:
        return dict(settings)
    found = {**settings, "radius_px": float(np.sqrt(typical / np.pi)), "threshold": _THRESHOLD}
    if model.network.config.distance:
        found["seed_threshold"] = settings.get("seed_threshold") or SEED_THRESHOLD
    if zoom != 1:
        # The model is for cells of this size alone: what is much smaller is a piece of one.
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
    """Settings of `label_instances` that tell seen cells from seen background; {} without a cell.

    At `threshold`, foreground and cells have the largest IoU, over the seen pixels of all planes.
    How far scores sink depends on the image, and on how long was learnt. `peak_threshold`, where
    the model tells distances, is one that seen cells reach.

    Parameters
    ----------
    model
        With its network in evaluation mode.
    planes
        At the size the network sees; of many, some do.
    compute
        Where to run.
    check
        Called before each tile; may raise to stop.
    at_most
        Planes that are looked at.
    resized
        Whether the network sees cells at another size than it learnt them at.
    """
    from scipy import ndimage

    # Predictors made before the last step hold the old weights.
    model = LoadedModel(model.network, model.header)
    taught = [plane for plane in planes if (plane.labels > 0).any()]
    if not taught:
        return {}
    shared = np.zeros(len(_THRESHOLDS))
    united = np.zeros(len(_THRESHOLDS))
    peaks: list[float] = []
    for plane in taught[:: math.ceil(len(taught) / at_most)]:
        seen = np.ones(plane.labels.shape, bool) if plane.trusted is None else plane.trusted
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
    """Scores of the part of a plane that holds these pixels, and which part that is."""
    from napari_unet.core.tiling import smallest_input_px

    margin = smallest_input_px(model.network.config.depth)
    lines = (np.flatnonzero(where.any(axis)) for axis in (1, 0))
    y, x = (slice(max(int(i[0]) - margin, 0), int(i[-1]) + 1 + margin) for i in lines)
    part = np.ascontiguousarray(plane.image[:, y, x])
    return (y, x), model.scores(part, compute, None, lambda fraction, message: check())
