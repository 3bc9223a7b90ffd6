"""Pixels that are no numbers (NaN, infinite): counted, and filled in from their neighbours."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

# A pixel is filled in from those at most so far away along Y and X.
REACH_PX = 2


def count_missing(pixels: NDArray[Any]) -> int:
    """How many pixels of (C, ...) are no finite number in one channel or more."""
    if pixels.dtype.kind != "f":
        return 0
    return int((~np.isfinite(pixels)).any(0).sum())


def filled(plane: NDArray[Any]) -> NDArray[Any]:
    """Planes (..., Y, X) with each missing pixel as the mean of those that are there near by.

    Near by are 5 x 5 pixels, so that a part of a plane gives the same as the whole. Where none of
    them is there, the pixel is NaN. The planes themselves come back if nothing is missing.
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
    """A sentence on missing pixels; empty if there are none."""
    if not count:
        return ""
    share = 100 * count / max(total, 1)
    percent = "less than 1" if share < 0.5 else f"{share:.0f}"
    what = "pixel is no number and was" if count == 1 else "pixels are no numbers and were"
    return f"{count} {what} filled in from the neighbours ({percent} %)"
