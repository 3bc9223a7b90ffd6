"""How large are the cells? A model that knows one size finds them by looking at several."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from napari_unet.service.device import Compute
from napari_unet.service.loaded_model import LoadedModel
from napari_unet.service.read_out import cell_areas, typical_area

# Sizes at which the network looks, over the size that it was made for.
_FACTORS = (4.0, 2.0, 1.0, 0.5, 0.25, 0.125)
# It looks at the middle of the plane, so many of its pixels wide, and at no less than the least.
_SIDE_PX, _LEAST_PX = 400, 24
# Fewer cells may be anything; n cells are distrusted by so much over the root of n.
_LEAST_CELLS, _SCATTER = 3, 2.0


def median_diameter(areas: NDArray[np.int64]) -> float:
    """Diameter of a disc of the median of these areas, in pixels; 0 without any."""
    return float(np.sqrt(4 / np.pi * np.median(areas))) if len(areas) else 0.0


def widest_px(model: LoadedModel) -> int:
    """What `guess_diameter` looks at most, in pixels along an axis, from the plane's middle."""
    return round(_SIDE_PX / (min(_FACTORS) * model.header.zoom))


def guess_diameter(
    model: LoadedModel,
    plane: NDArray[np.float32],
    compute: Compute,
    check: Callable[[], None] = lambda: None,
) -> float | None:
    """Diameter of the cells of a prepared plane (C, Y, X), in pixels.

    The size at which the network draws cells with the surest cores tells; half of the cells'
    pixels lie in larger cells than that.

    Parameters
    ----------
    model
        Best one that tells the distance (`core.instances.relative_distance`).
    plane
        From `LoadedModel.prepare`.
    compute
        Where to run.
    check
        Called before each tile; may raise to stop.

    Returns
    -------
    None where no size shows cells.
    """
    from napari_unet.config import PredictConfig
    from napari_unet.core.resample import resize_plane, zoomed_shape

    best, found = -np.inf, None
    for factor in _FACTORS:
        zoom = factor * model.header.zoom
        side = round(_SIDE_PX / zoom)
        middle = tuple(
            slice(max(0, (n - side) // 2), max(0, (n - side) // 2) + side) for n in plane.shape[1:]
        )
        part = np.ascontiguousarray(plane[(slice(None), *middle)])
        shape = zoomed_shape((part.shape[1], part.shape[2]), zoom)
        if min(shape) < _LEAST_PX:
            continue
        seen = resize_plane(part, shape)
        scores = model.scores(seen, compute, None, lambda fraction, message: check())
        labels = model.instances(scores, PredictConfig())
        n_cells = int(labels.max(initial=0))
        typical = typical_area(cell_areas([(labels, None)]))
        if typical is None or n_cells < _LEAST_CELLS:
            continue
        # Few cells are sure by chance.
        sure = _sureness(labels, scores.foreground, scores.distance) - _SCATTER / n_cells**0.5
        if sure > best:
            best, found = sure, float(np.sqrt(4 / np.pi * typical)) / zoom
    return found


def _sureness(
    labels: NDArray[np.int32],
    foreground: NDArray[np.float32],
    distance: NDArray[np.float32] | None,
) -> float:
    """Mean height of the cells' cores, each cell weighing as much as its area."""
    from scipy import ndimage

    cells = labels > 0
    if distance is None:
        return float(foreground[cells].mean())
    peaks = ndimage.maximum(distance, labels, np.arange(labels.max() + 1))
    return float(peaks[labels[cells]].mean())
