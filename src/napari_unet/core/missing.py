"""Missing pixels (NaN or infinite): count them, and fill them in from their neighbours."""

from __future__ import annotations

from itertools import product

import numpy as np

from napari_unet.core.arrays import Pixels

# A missing pixel is filled in from pixels that are at most this far away along Y and X, in pixels.
REACH_PX = 2


def count_missing(pixels: Pixels) -> int:
    """Return how many pixels of an array (C, ...) are not finite in one channel or more.

    Examples
    --------
    >>> count_missing(np.array([[[1.0, np.nan, np.inf]]]))
    2
    """
    if pixels.dtype.kind != "f":
        return 0
    return int((~np.isfinite(pixels)).any(0).sum())


def filled(plane: Pixels) -> Pixels:
    """Return planes (..., Y, X) in which each missing pixel is the mean of its neighbours.

    The neighbours are the finite pixels in the 5 x 5 pixels around it, so a part of a plane gives
    the same values as the whole plane. If there is none, the pixel becomes NaN. If nothing is
    missing, the planes are returned as they are, not copied.

    Examples
    --------
    >>> filled(np.array([[1.0, np.nan, 3.0]]))
    array([[1., 2., 3.]])
    """
    if plane.dtype.kind != "f":
        return plane
    there = np.isfinite(plane)
    if there.all():
        return plane
    *places, y, x = np.nonzero(~there)
    height, width = plane.shape[-2:]
    total, count = np.zeros(len(y)), np.zeros(len(y), int)
    for dy, dx in product(range(-REACH_PX, REACH_PX + 1), repeat=2):
        is_inside = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        near = (*places, np.where(is_inside, y + dy, y), np.where(is_inside, x + dx, x))
        known = is_inside & there[near]
        total += np.where(known, plane[near], 0)
        count += known
    out = plane.copy()
    out[~there] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return out


def missing_words(count: int, total: int) -> str:
    """Return a sentence that says how many pixels were missing; "" if none were."""
    if not count:
        return ""
    share = 100 * count / max(total, 1)
    percent = "less than 1" if share < 0.5 else f"{share:.0f}"
    what = "pixel is no number and was" if count == 1 else "pixels are no numbers and were"
    return f"{count} {what} filled in from the neighbours ({percent} %)"
