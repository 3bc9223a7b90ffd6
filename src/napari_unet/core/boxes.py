"""Boxes: rows and columns of a plane, as two slices with a start and a stop."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice]


def box_of(mask: NDArray[np.bool_]) -> Box:
    """Return the smallest box around the pixels of a mask (Y, X), which has some.

    Examples
    --------
    >>> box_of(np.array([[False, False, False], [False, True, True]]))
    (slice(1, 2, None), slice(1, 3, None))
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def union(one: Box, other: Box) -> Box:
    """Return the smallest box that holds two boxes.

    Examples
    --------
    >>> union((slice(0, 2), slice(3, 4)), (slice(1, 5), slice(0, 1)))
    (slice(0, 5, None), slice(0, 4, None))
    """
    y, x = (
        slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
    return y, x


def grown(box: Box, margin_px: int, shape: tuple[int, ...]) -> Box:
    """Return a box that is larger on each side by a margin, but ends where the plane (Y, X) ends.

    Examples
    --------
    >>> grown((slice(0, 4), slice(4, 6)), 3, (100, 100))
    (slice(0, 7, None), slice(1, 9, None))
    """
    y, x = (
        slice(max(0, part.start - margin_px), min(n, part.stop + margin_px))
        for part, n in zip(box, shape, strict=True)
    )
    return y, x


def inside(box: Box, window: Box) -> Box:
    """Return a box in the coordinates of a window that it lies in.

    Examples
    --------
    >>> inside((slice(4, 6), slice(4, 6)), (slice(1, 9), slice(4, 9)))
    (slice(3, 5, None), slice(0, 2, None))
    """
    y, x = (
        slice(part.start - outer.start, part.stop - outer.start)
        for part, outer in zip(box, window, strict=True)
    )
    return y, x


def outside(box: Box, window: Box) -> Box:
    """Return a box, given in the coordinates of a window, in those of the plane.

    Examples
    --------
    >>> outside((slice(3, 5), slice(0, 2)), (slice(1, 9), slice(4, 9)))
    (slice(4, 6, None), slice(4, 6, None))
    """
    y, x = (
        slice(part.start + outer.start, part.stop + outer.start)
        for part, outer in zip(box, window, strict=True)
    )
    return y, x
