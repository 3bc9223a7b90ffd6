"""Suggest where to look next: where a correction helps most, and where one may be a mistake."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# The doubt is averaged over square blocks; this many of them make a cell's diameter.
_BLOCKS = 8
# A place is suggested only if the mean doubt around it is above this. Doubt lies in [0, 1].
_LEAST_DOUBT = 0.05
# A model contradicts what was painted if it gives the contrary a probability above this.
_SURE = 0.9


@dataclass(frozen=True)
class Place:
    """A suggestion: a point of a plane that is worth a look.

    Attributes
    ----------
    y, x
        The point, in pixels.
    weight
        How important it is, in (0, 1]; only points of one plane can be compared.
    """

    y: float
    x: float
    weight: float


def suggest_corrections(
    scores: NDArray[np.float32],
    diameter_px: float,
    seen: NDArray[np.bool_] | None = None,
    count: int = 20,
) -> list[Place]:
    """Return suggestions where to paint next, the best first, at least a cell's diameter apart.

    Doubt is 4 p (1 - p): it is 1 where a pixel is as likely cell as background. Its mean over an
    area of a cell's size tells both how unsure the model is and on how many pixels. So a line of
    doubt between two cells counts too, which decides whether they are one cell.

    Parameters
    ----------
    scores
        (Y, X), probability p that a pixel belongs to a cell.
    diameter_px
        Diameter of a typical cell, in pixels.
    seen
        (Y, X) bool, pixels that the user has seen already; they are left out.
    count
        Largest number of suggestions.
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
    suggestions: list[Place] = []
    while len(left) and len(suggestions) < count:
        y, x = np.minimum((left[0] + 0.5) * block - 0.5, limit)
        suggestions.append(Place(float(y), float(x), float(blocks[tuple(left[0])])))
        # Drop the peaks nearby: where the doubt is the same everywhere, each block is a peak.
        left = left[np.abs(left - left[0]).max(1) >= _BLOCKS]
    return suggestions


def contradicted_places(
    scores: NDArray[np.float32],
    foreground: NDArray[np.bool_],
    seen: NDArray[np.bool_],
    diameter_px: float,
    count: int = 20,
) -> list[Place]:
    """Return where a trained model is sure of the contrary of what was painted, largest spot first.

    Parameters
    ----------
    scores
        (Y, X), probability that a pixel belongs to a cell.
    foreground
        (Y, X) bool, whether the pixel was painted as part of a cell.
    seen
        (Y, X) bool, whether the user has seen the pixel.
    diameter_px
        Diameter of a typical cell, in pixels. Spots of less than a tenth of its area are left out:
        they are differences of outlines, not mistakes.
    count
        Largest number of places.
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
    """Return the means over squares of `block` px; squares at the far edges may be smaller."""
    for axis in (0, 1):
        n = values.shape[axis]
        starts = np.arange(0, n, block)
        shape = (-1, 1) if axis == 0 else (1, -1)
        sizes = np.diff(np.append(starts, n)).reshape(shape)
        values = (np.add.reduceat(values, starts, axis=axis) / sizes).astype(np.float32)
    return values
