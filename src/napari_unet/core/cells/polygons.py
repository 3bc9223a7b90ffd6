"""Outlines of cells as polygons along the edges of pixels, and polygons back to pixels.

A point of an outline is a corner of a pixel: the pixel (y, x) has the corners (y, x) to
(y + 1, x + 1). So a polygon made here holds exactly the centres of the pixels of its cell, and
`fill` gives the same pixels back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Points (n, 2) of a closed line, x and y each; the first point is not repeated at the end.
Ring = NDArray[np.float64] | NDArray[np.int64]
# One outer ring, then the rings of its holes.
Polygon = list[Ring]
# From a corner to the next one, as (y, x), for each direction: right, down, left, up. A cell lies
# to the right of those who walk along its outline.
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))


@dataclass(frozen=True)
class Outline:
    """The outline of a cell in one plane.

    Attributes
    ----------
    label
        The id of the cell.
    polygons
        One for each piece of the cell whose pixels share sides.
    area_px
        Number of pixels.
    """

    label: int
    polygons: list[Polygon]
    area_px: int


def outlines(labels: NDArray[np.integer]) -> Iterator[Outline]:
    """Yield the outline of each cell of a plane, in the order of the ids.

    The rings are simple: none touches itself, and rings of one polygon share single points at
    most. Outer rings have a positive area (x to the right, y as the second axis), holes a negative.

    Examples
    --------
    >>> (cell,) = outlines(np.array([[0, 7, 7]]))
    >>> cell.label, cell.area_px, cell.polygons[0][0].tolist()
    (7, 2, [[1, 0], [3, 0], [3, 1], [1, 1]])
    """
    from scipy import ndimage

    for label, box in _boxes(labels):
        mask = labels[box] == label
        pieces, n_pieces = ndimage.label(mask)
        corner = np.array([box[1].start, box[0].start])
        polygons = []
        for piece in range(1, n_pieces + 1):
            rings = [ring + corner for ring in _rings(pieces == piece)]
            polygons.append(sorted(rings, key=_area, reverse=True))
        yield Outline(label, polygons, int(mask.sum()))


def fill(
    rings: Sequence[Ring], shape: tuple[int, int]
) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Return the pixels whose centres lie in an odd number of rings: a box, and a mask of it.

    Parameters
    ----------
    rings
        Closed lines, such as an outer ring and its holes.
    shape
        Size of the plane (Y, X); the part of the rings beyond it is left out.

    Examples
    --------
    >>> box, mask = fill([np.array([[1, 0], [3, 0], [3, 1], [1, 1]])], (2, 4))
    >>> box, mask
    ((slice(0, 1, None), slice(1, 3, None)), array([[ True,  True]]))
    """
    # Lines from each point to the next; an empty ring makes the arrays two-dimensional.
    start = np.concatenate([np.zeros((0, 2)), *rings])
    end = np.concatenate([np.zeros((0, 2)), *(np.roll(ring, -1, axis=0) for ring in rings)])
    limits = np.array(shape[::-1])
    left, top = np.clip(np.floor(start.min(0, initial=np.inf)), 0, limits).astype(int).tolist()
    right, bottom = np.clip(np.ceil(start.max(0, initial=0)), 0, limits).astype(int).tolist()
    right, bottom = max(left, right), max(top, bottom)
    # The rows whose centres lie between the ends of each line, without the lower end.
    rows = np.sort(np.stack((start[:, 1], end[:, 1])), axis=0)
    first, last = np.clip(np.ceil(rows - 0.5), top, bottom).astype(int)
    line = np.repeat(np.arange(len(start)), last - first)
    row = np.arange(len(line)) - np.searchsorted(line, line) + first[line]
    (x, y), (dx, dy) = start[line].T, (end - start)[line].T
    crossing = x + (row + 0.5 - y) * (dx / dy)
    column = np.clip(np.ceil(crossing - 0.5), left, right).astype(int)
    # Each row begins outside; what is right of a crossing changes sides.
    changes = np.zeros((bottom - top, right - left + 1), np.int32)
    np.add.at(changes, (row - top, column - left), 1)
    box = slice(top, bottom), slice(left, right)
    return box, np.cumsum(changes, axis=1)[:, :-1] % 2 == 1


def _boxes(labels: NDArray[np.integer]) -> list[tuple[int, tuple[slice, slice]]]:
    """Return the ids in a plane with the box of each; 0 is the lowest of all labels."""
    from scipy import ndimage

    highest = int(labels.max(initial=0))
    ids, numbers = np.arange(highest + 1), labels
    if highest > labels.size:
        # Few of the ids are there, and the search for boxes takes memory for each.
        ids, numbers = np.unique(np.append(labels, 0), return_inverse=True)
        numbers = numbers[:-1].reshape(labels.shape)
    places = zip(ids[1:].tolist(), ndimage.find_objects(numbers), strict=True)
    return [(label, box) for label, box in places if box is not None]


def _rings(piece: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """Yield the rings around a piece whose pixels share sides, and around its holes.

    Where two of its pixels touch at a corner only, the line changes from one to the other. So
    what is outside, or in a hole, is cut off there, and no ring touches itself: the piece is in
    one piece without that corner.
    """
    framed = np.pad(piece, 1)
    inner = framed[1:-1, 1:-1]
    # What lies beyond the top, right, bottom and left side; and where the walk along it begins.
    beyond = (framed[:-2, 1:-1], framed[1:-1, 2:], framed[2:, 1:-1], framed[1:-1, :-2])
    begins = ((0, 0), (0, 1), (1, 1), (1, 0))
    ways: dict[tuple[int, int], list[int]] = {}
    for way, (outer, (dy, dx)) in enumerate(zip(beyond, begins, strict=True)):
        for y, x in np.argwhere(inner & ~outer).tolist():
            ways.setdefault((y + dy, x + dx), []).append(way)
    while ways:
        start = place = next(iter(ways))
        points: list[tuple[int, int]] = []
        taken: list[int] = []
        while not points or place != start:
            there = ways[place]
            # Where two lines cross, turn left.
            way = (taken[-1] - 1) % 4 if points and len(there) == 2 else there[0]
            there.remove(way)
            if not there:
                del ways[place]
            points.append((place[1], place[0]))
            taken.append(way)
            place = place[0] + _STEPS[way][0], place[1] + _STEPS[way][1]
        yield np.array(points)[np.array(taken) != np.roll(taken, 1)]


def _area(ring: Ring) -> float:
    """Return the area of a ring; negative where it is a hole."""
    x, y = ring[:, 0].astype(float), ring[:, 1].astype(float)
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2
