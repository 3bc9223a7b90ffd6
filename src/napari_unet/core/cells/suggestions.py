"""Places that are worth a look: where a correction would help most, and where one may be a slip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Blocks along a cell's diameter that the doubt is averaged over.
_BLOCKS = 8
# Mean doubt over a cell's surroundings below which nothing is worth a look.
_LEAST_DOUBT = 0.05
# A model that is this sure of the contrary of what was painted contradicts it.
_SURE = 0.9


@dataclass(frozen=True)
class Place:
    """A point of a plane.

    Attributes
    ----------
    y, x
        In pixels.
    weight
        How much it matters, in (0, 1]; comparable within one plane.
    """

    y: float
    x: float
    weight: float


def doubtful_places(
    scores: NDArray[np.float32],
    diameter_px: float,
    seen: NDArray[np.bool_] | None = None,
    count: int = 20,
) -> list[Place]:
    """Where to paint next, the most helpful place first, a cell's diameter apart.

    Doubt is 4 p (1 - p): 1 where a pixel is as likely cell as background. Its mean over the
    surroundings of a cell's size weighs both how unsure the model is and on how many pixels;
    a line of doubt between two cells, which decides whether they are one, counts as well.

    Parameters
    ----------
    scores
        (Y, X), probability p that a pixel belongs to a cell.
    diameter_px
        Of a typical cell.
    seen
        (Y, X) bool, what the user has seen already; left out.
    count
        Places at most.
    """
    doubt = 4 * scores * (1 - scores)
    if seen is not None:
        doubt[seen] = 0
    block = max(1, round(diameter_px / _BLOCKS))
    blocks = ndimage.gaussian_filter(_block_means(doubt, block), _BLOCKS / 4, mode="constant")
    peaks = blocks == ndimage.maximum_filter(blocks, size=_BLOCKS + 1)
    found = np.argwhere(peaks & (blocks > _LEAST_DOUBT))
    left = found[np.argsort(-blocks[tuple(found.T)], kind="stable")]
    limit = np.asarray(scores.shape) - 1
    places: list[Place] = []
    while len(left) and len(places) < count:
        y, x = np.minimum((left[0] + 0.5) * block - 0.5, limit)
        places.append(Place(float(y), float(x), float(blocks[tuple(left[0])])))
        # Where the doubt is the same everywhere, each block is a peak.
        left = left[np.abs(left - left[0]).max(1) >= _BLOCKS]
    return places


def contradicted_places(
    scores: NDArray[np.float32],
    foreground: NDArray[np.bool_],
    seen: NDArray[np.bool_],
    diameter_px: float,
    count: int = 20,
) -> list[Place]:
    """Where a model that has learnt is sure of the contrary of what was painted, largest first.

    Parameters
    ----------
    scores
        (Y, X), probability that a pixel belongs to a cell.
    foreground
        (Y, X) bool, whether it was painted as one.
    seen
        (Y, X) bool, where that was said.
    diameter_px
        Of a typical cell; spots of less than a tenth of its area are outlines, not slips.
    count
        Places at most.
    """
    against = seen & (np.where(foreground, 1 - scores, scores) > _SURE)
    spots, n = ndimage.label(against)
    area = np.bincount(spots.ravel(), minlength=n + 1)[1:]
    cell = np.pi / 4 * diameter_px**2
    order = np.argsort(-area, kind="stable")[:count]
    chosen = [i + 1 for i in order if area[i] >= 0.1 * cell]
    found = []
    for spot in chosen:
        inside = np.argwhere(spots == spot)
        # A pixel of the spot: the centroid of a ring lies outside it.
        y, x = inside[((inside - inside.mean(0)) ** 2).sum(1).argmin()]
        found.append(Place(float(y), float(x), min(1.0, float(area[spot - 1] / cell))))
    return found


def _block_means(values: NDArray[np.float32], block: int) -> NDArray[np.float32]:
    """Means over squares of `block` px; those at the far edges may be smaller."""
    for axis in (0, 1):
        n = values.shape[axis]
        starts = np.arange(0, n, block)
        shape = (-1, 1) if axis == 0 else (1, -1)
        sizes = np.diff(np.append(starts, n)).reshape(shape)
        values = (np.add.reduceat(values, starts, axis=axis) / sizes).astype(np.float32)
    return values
