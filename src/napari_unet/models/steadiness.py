"""How steady a model is: whether it finds the same cells in an image that is turned and resized.

It needs no truth, and goes with how good the labels are (`benchmarks/steady.py`). So it says how
far a parent's word on what nobody has looked at can be believed, and whether a new version has
understood what it was taught.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import PredictConfig
from napari_unet.models.device import Compute
from napari_unet.models.loaded import LoadedModel

if TYPE_CHECKING:
    from napari_unet.engine.samples import AnnotatedPlane

# How an image is changed: mirrored along this axis of (C, Y, X), and shown larger by this factor.
VIEWS = ((1, 0.8), (2, 1.25))
# Overlap (IoU) from which two cells are the same one.
_SAME = 0.5
# Of a large plane a window of so many pixels along an axis is looked at.
_WINDOW_PX = 512
# A parent's word counts for nothing up to the first steadiness, and fully from the second on.
_DOUBTED, _BELIEVED = 0.7, 0.9


@dataclass(frozen=True)
class Sight:
    """The cells that a model finds in a window of a plane.

    Attributes
    ----------
    labels
        (Y, X) int32.
    seen
        (Y, X) bool, where the user has looked.
    again
        Cells that it finds again in the changed windows.
    total
        Those, the ones that it does not find again, and the ones that it finds there alone.
    """

    labels: NDArray[np.int32]
    seen: NDArray[np.bool_]
    again: int
    total: int

    @property
    def elsewhere(self) -> NDArray[np.int32]:
        """The labels without the cells that meet what the user has looked at."""
        met = np.unique(self.labels[self.seen])
        return np.where(np.isin(self.labels, met), 0, self.labels)


def sight(
    model: LoadedModel, plane: AnnotatedPlane, compute: Compute, check: Callable[[], None]
) -> Sight:
    """Look at a window of a plane, as it is, and mirrored at two other sizes.

    Parameters
    ----------
    model
        Of planes, with its network in evaluation mode.
    plane
        At the size the network sees.
    compute
        Where to run.
    check
        Called before each tile; may raise to stop.
    """
    # Predictors made before the last step hold the old weights.
    model = LoadedModel(model.network, model.header)
    seen = np.ones(plane.labels.shape, bool) if plane.seen is None else plane.seen
    y, x = (_around(np.asarray(seen.any(axis))) for axis in (1, 0))
    image = plane.image[:, y, x]

    def find(image: NDArray[np.float32], zoom: float = 1.0) -> NDArray[np.int32]:
        part = np.ascontiguousarray(image)
        scores = model.scores(part, compute, None, lambda fraction, message: check(), zoom)
        return model.instances(scores, PredictConfig())

    labels = find(image)
    return Sight(labels, seen[y, x], *found_again(find, image, labels))


def found_again(
    find: Callable[[NDArray[np.float32], float], NDArray[np.int32]],
    image: NDArray[np.float32],
    labels: NDArray[np.int32],
    views: Sequence[tuple[int, float]] = VIEWS,
) -> tuple[int, int]:
    """Cells that a model finds again in changed images, and all that it finds in either.

    Parameters
    ----------
    find
        Gives the labels (Y, X) of an image (C, Y, X) that is shown larger by a factor.
    image
        (C, Y, X).
    labels
        What it finds in that.
    views
        How the image is changed: mirrored along this axis, and shown larger by this factor.
    """
    again = total = 0
    for axis, zoom in views:
        hits, n = matches(labels, np.flip(find(np.flip(image, axis), zoom), axis - 1))
        again, total = again + hits, total + n
    return again, total


def steadiness(sights: Collection[Sight]) -> float:
    """Share of the cells that are found again, in [0, 1]: the AP of a model against itself."""
    return sum(s.again for s in sights) / max(1, sum(s.total for s in sights))


def belief(sights: Collection[Sight]) -> float:
    """How far a parent's word counts where nobody looked, in [0, 1]."""
    part = (steadiness(sights) - _DOUBTED) / (_BELIEVED - _DOUBTED)
    return min(1.0, max(0.0, part))


def _around(line: NDArray[np.bool_]) -> slice:
    """At most a window's width around the middle of what is true."""
    if len(line) <= _WINDOW_PX:
        return slice(0, len(line))
    places = np.flatnonzero(line)
    middle = (int(places[0]) + int(places[-1])) // 2 if len(places) else len(line) // 2
    start = min(max(0, middle - _WINDOW_PX // 2), len(line) - _WINDOW_PX)
    return slice(start, start + _WINDOW_PX)


def matches(first: NDArray[np.int32], second: NDArray[np.int32]) -> tuple[int, int]:
    """Cells that both have, and all different ones."""
    from napari_unet.core.cells.metrics import count_matches, overlaps

    iou, _ = overlaps(first, second)
    hits = count_matches(iou, _SAME)
    return hits, iou.shape[0] + iou.shape[1] - hits
