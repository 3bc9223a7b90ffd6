"""Corrections that take one gesture: each function returns the pixels of a plane to write.

Labels are (Y, X), points are pixels (y, x). A cell is a connected piece of one id, for a user may
paint two cells with one id. No function writes into the labels that it gets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.draw import line as line_pixels
from skimage.draw import polygon
from skimage.measure import label
from skimage.segmentation import watershed

from napari_unet.core.boxes import Box, box_of, grown, outside

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]
Point = tuple[int, int]
Path = Sequence[Sequence[float]]

# A part that a line cuts off is a cell if it has at least this fraction of the cell's pixels.
# Smaller ones are where the line runs along the outline; they stay with their neighbour.
_LEAST_PART = 0.05
# Radius, in pixels, of the largest disc that closes the gap between two cells that are merged: it
# bridges about twice as much.
_GAP_RADIUS_PX = 4
# A cell belongs to a loop, or is replaced by a new cell, if more than this fraction of its pixels
# lies inside.
_INSIDE = 0.5


@dataclass(frozen=True)
class Change:
    """Pixels of a plane and their new labels.

    Attributes
    ----------
    rows, columns
        (N,) positions.
    values
        (N,) int32, the labels to write there.
    """

    rows: NDArray[np.intp]
    columns: NDArray[np.intp]
    values: Labels

    def applied(self, labels: Labels) -> Labels:
        """Return a copy of labels (Y, X) with the change."""
        changed = labels.copy()
        changed[self.rows, self.columns] = self.values
        return changed


def piece_at(labels: Labels, at: Point) -> tuple[Box, Mask]:
    """Return the box of the cell at a pixel, and which pixels of the box are the cell's.

    Raises
    ------
    ValueError
        If there is background.
    """
    cell = labels[at]
    if not cell:
        raise ValueError("there is no cell here; point at a cell")
    same = labels == cell
    box = box_of(same)
    pieces = label(same[box], connectivity=2)
    mask = pieces == pieces[at[0] - box[0].start, at[1] - box[1].start]
    inner = box_of(mask)
    return outside(inner, box), mask[inner]


def remove(labels: Labels, at: Point) -> Change:
    """Return the change that erases the cell at a pixel.

    Raises
    ------
    ValueError
        If there is background.

    Examples
    --------
    >>> labels = np.array([[1, 1, 0, 1], [1, 0, 0, 1]], np.int32)
    >>> remove(labels, (0, 0)).applied(labels)
    array([[0, 0, 0, 1],
           [0, 0, 0, 1]], dtype=int32)
    """
    box, mask = piece_at(labels, at)
    return _fill(box, mask, 0)


def split(labels: Labels, path: Path, new_id: int) -> Change:
    """Return the change that splits the cell which a line crosses.

    The largest part keeps the id. The line's own pixels stay cell.

    Parameters
    ----------
    labels
        (Y, X).
    path
        Points of the line; it may lead out of the plane. It splits the cell that most of it is in.
    new_id
        Id of the second part. A bent line may cut off more parts; they get the ids that follow.

    Raises
    ------
    ValueError
        If the line crosses no cell, or does not cut through.

    Examples
    --------
    >>> labels = np.array([[0, 7, 7, 7, 7, 7], [0, 7, 7, 7, 7, 7]], np.int32)
    >>> split(labels, [(0, 2), (2, 2)], 8).applied(labels)
    array([[0, 8, 8, 7, 7, 7],
           [0, 8, 8, 7, 7, 7]], dtype=int32)
    """
    rows, columns = _on_path(path, labels.shape)
    crossed = labels[rows, columns]
    if not crossed.any():
        raise ValueError("the line crosses no cell; draw it across the cell to split")
    cell = np.bincount(crossed[crossed > 0]).argmax()
    inside = np.flatnonzero(crossed == cell)
    middle = inside[len(inside) // 2]
    box, mask = piece_at(labels, (int(rows[middle]), int(columns[middle])))
    cut = np.zeros(labels.shape, bool)
    cut[rows, columns] = True
    parts, _ = ndimage.label(mask & ~cut[box])
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    large = np.flatnonzero(areas >= max(1, _LEAST_PART * mask.sum()))
    if len(large) < 2:
        raise ValueError("the line does not cut through the cell; begin and end it outside")
    seeds = np.where(np.isin(parts, large), parts, 0)
    owner = watershed(np.zeros(mask.shape, np.uint8), seeds, connectivity=2, mask=mask)
    sizes = np.bincount(owner.ravel())[large]
    ids = np.zeros(len(areas), np.int32)
    # Of the largest part it stays 0, which means that nothing changes there.
    ids[large[np.argsort(-sizes, kind="stable")][1:]] = new_id + np.arange(len(large) - 1)
    new = ids[owner]
    return replace(_fill(box, new > 0, 0), values=new[new > 0])


def merge(labels: Labels, start: Point, end: Point) -> Change:
    """Return the change that makes two cells one, with the id of the cell at the start.

    A narrow gap between them is closed; other cells stay as they are.

    Raises
    ------
    ValueError
        If there are no two cells at the points, or the gap is wide.

    Examples
    --------
    >>> labels = np.array([[1, 1, 0, 2, 2]] * 4, np.int32)
    >>> merge(labels, (1, 0), (2, 4)).applied(labels)
    array([[1, 1, 0, 1, 1],
           [1, 1, 1, 1, 1],
           [1, 1, 1, 1, 1],
           [1, 1, 0, 1, 1]], dtype=int32)
    """
    if not (labels[start] and labels[end]):
        raise ValueError("only one end is in a cell; drag from one cell into the other")
    both = np.zeros(labels.shape, bool)
    for at in (start, end):
        box, mask = piece_at(labels, at)
        both[box] |= mask
        if at == start and both[end]:
            raise ValueError("both ends are in the same cell; drag from one cell into the other")
    box = grown(box_of(both), 2 * _GAP_RADIUS_PX + 1, labels.shape)
    both, free = both[box], labels[box] == 0
    first, last = (
        tuple(p - side.start for p, side in zip(at, box, strict=True)) for at in (start, end)
    )
    for radius in range(_GAP_RADIUS_PX + 1):
        joined = both | (_closed(both, radius) & free)
        pieces = label(joined, connectivity=2)
        if pieces[first] == pieces[last]:
            return _fill(
                box, (pieces == pieces[first]) & (labels[box] != labels[start]), int(labels[start])
            )
    raise ValueError(
        f"more than {2 * _GAP_RADIUS_PX} px or another cell lie between the two cells; "
        "paint what joins them"
    )


def inside_loop(shape: tuple[int, ...], loop: Path) -> tuple[Box, Mask]:
    """Return the box of a closed loop in a plane of this shape, and which of its pixels are inside.

    Raises
    ------
    ValueError
        If there are none.
    """
    y, x = np.asarray(loop, float).reshape(-1, 2).T
    rows, columns = polygon(y, x, shape)
    if not len(rows):
        raise ValueError("there is nothing in that loop; draw it around a part of the image")
    box = (
        slice(int(rows.min()), int(rows.max()) + 1),
        slice(int(columns.min()), int(columns.max()) + 1),
    )
    mask = np.zeros((box[0].stop - box[0].start, box[1].stop - box[1].start), bool)
    mask[rows - box[0].start, columns - box[1].start] = True
    return box, mask


def clear(labels: Labels, loop: Path) -> tuple[Change, list[Point]]:
    """Return the change that erases the cells in a closed loop, and one pixel of each.

    A cell goes as a whole where more than half of it lies inside, else it stays.

    Raises
    ------
    ValueError
        If the loop holds no pixel of the plane.

    Examples
    --------
    >>> labels = np.array([[1, 1, 0, 0], [0, 0, 0, 2], [3, 0, 0, 2]], np.int32)
    >>> change, gone = clear(labels, [(1, 1), (1, 3), (2, 3), (2, 1)])
    >>> change.applied(labels)
    array([[1, 1, 0, 0],
           [0, 0, 0, 0],
           [3, 0, 0, 0]], dtype=int32)
    >>> gone
    [(1, 3)]
    """
    box, mask = inside_loop(labels.shape, loop)
    gone = mostly_inside(labels, box, mask)
    if not gone.any():
        return _fill(box, np.zeros_like(mask), 0), []
    box = box_of(gone)
    change = _fill(box, gone[box], 0)
    pieces = label(np.where(gone[box], labels[box], 0), connectivity=2)
    _, firsts = np.unique(pieces[gone[box]], return_index=True)
    return change, [(int(change.rows[n]), int(change.columns[n])) for n in firsts]


def place(labels: Labels, box: Box, mask: Mask, new_id: int) -> Change:
    """Return the change that puts a new cell into a plane.

    A cell of which more than half lies under the new one is replaced: all of it is erased. Out of
    one that covers more than half of the new cell, the new one is cut. Other cells keep their
    pixels; of what they leave, the largest connected piece is taken.

    Raises
    ------
    ValueError
        If they leave nothing.

    Examples
    --------
    >>> labels = np.array([[5, 5, 5, 0], [5, 0, 0, 7]], np.int32)
    >>> place(labels, np.s_[0:2, 2:4], np.ones((2, 2), bool), 6).applied(labels)
    array([[5, 5, 5, 6],
           [5, 0, 6, 6]], dtype=int32)
    """
    gone = mostly_inside(labels, box, mask)
    inside = labels[box]
    met, common = np.unique(inside[mask & (inside > 0) & ~gone[box]], return_counts=True)
    cut = met[common > _INSIDE * mask.sum()]
    pieces, n = ndimage.label(mask & ((inside == 0) | gone[box] | np.isin(inside, cut)))
    if not n:
        raise ValueError("other cells cover all of this place; remove or split them first")
    largest = np.bincount(pieces.ravel())[1:].argmax() + 1
    new = _fill(box, pieces == largest, new_id)
    gone[new.rows, new.columns] = False
    rows, columns = np.nonzero(gone)
    return Change(
        np.concatenate([new.rows, rows]),
        np.concatenate([new.columns, columns]),
        np.concatenate([new.values, np.zeros(len(rows), np.int32)]),
    )


def mostly_inside(labels: Labels, box: Box, mask: Mask) -> Mask:
    """Return (Y, X), the pixels of those cells of which more than half lies in a mask.

    Parameters
    ----------
    labels
        (Y, X).
    box, mask
        A box of the plane, and which of its pixels are meant.

    Examples
    --------
    >>> labels = np.array([[1, 1, 0, 2], [1, 0, 0, 2]], np.int32)
    >>> mostly_inside(labels, np.s_[0:2, 1:4], np.ones((2, 3), bool)).astype(int)
    array([[0, 0, 0, 1],
           [0, 0, 0, 1]])
    """
    met = np.unique(labels[box][mask])
    if not met.any():
        return np.zeros(labels.shape, bool)
    gone = np.isin(labels, met[met > 0])
    around = box_of(gone)
    under = np.zeros(labels.shape, bool)
    under[box] = mask
    pieces = label(np.where(gone[around], labels[around], 0), connectivity=2)
    areas = np.bincount(pieces.ravel())
    goes = np.bincount(pieces[under[around]], minlength=len(areas)) > _INSIDE * areas
    goes[0] = False
    gone[around] = goes[pieces]
    return gone


def _fill(box: Box, mask: Mask, value: int) -> Change:
    rows, columns = np.nonzero(mask)
    return Change(rows + box[0].start, columns + box[1].start, np.full(len(rows), value, np.int32))


def _on_path(path: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the pixels of a line through these points, in order, those outside left out."""
    points = np.round(np.asarray(path, float).reshape(-1, 2)).astype(int)
    points = points if len(points) > 1 else points.repeat(2, axis=0)
    pieces = [np.stack(line_pixels(*a, *b)) for a, b in pairwise(points)]
    rows, columns = np.concatenate(pieces, axis=1)
    kept = (rows >= 0) & (rows < shape[0]) & (columns >= 0) & (columns < shape[1])
    return rows[kept], columns[kept]


def _closed(mask: Mask, radius: int) -> Mask:
    if not radius:
        return mask
    wide = ndimage.distance_transform_edt(~np.pad(mask, radius + 1)) <= radius
    closed = ndimage.distance_transform_edt(wide) > radius
    inner: Mask = closed[radius + 1 : -radius - 1, radius + 1 : -radius - 1]
    return inner
