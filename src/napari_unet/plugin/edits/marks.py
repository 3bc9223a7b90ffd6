"""Confirmed places: small facts that json can hold, kept in a Labels layer's metadata.

A mark names a plane and a box of it, and says which pixels of the box are right as they are
labelled: all of them, a cell with a ring around it, a disc, or the background in a loop.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.boxes import Box, grown
from napari_unet.plugin.viewer.layers import Index
from napari_unet.plugin.viewer.record import Mark

Point = Sequence[float]


def box_mark(index: Index, box: Box) -> Mark:
    """All that lies in a box is right."""
    y, x = box
    return {"index": list(index), "box": [int(v) for v in (y.start, y.stop, x.start, x.stop)]}


def mark_at(
    index: Index, labels: NDArray[np.int32], at: tuple[int, int], ring_px: int, radius_px: int
) -> Mark:
    """The cell at a point is right, with a ring around it; on background, a disc is.

    Parameters
    ----------
    index
        Plane.
    labels
        (Y, X), as they are now.
    at
        The point (y, x), inside the plane.
    ring_px
        Width of the ring.
    radius_px
        Of the disc.
    """
    cell = int(labels[at])
    if not cell:
        y, x = at
        around = grown((slice(y, y + 1), slice(x, x + 1)), radius_px, labels.shape)
        mark = box_mark(index, around)
        return mark | {"disc": [int(y), int(x), int(radius_px)]}
    from napari_unet.core.cells.gestures import piece_at

    box = grown(piece_at(labels, at)[0], ring_px, labels.shape)
    return box_mark(index, box) | {"cell": cell, "ring_px": int(ring_px)}


def loop_mark(
    index: Index, labels: NDArray[np.int32], loop: Sequence[Point], gone: Sequence[tuple[int, int]]
) -> Mark:
    """There is no cell in a loop.

    Parameters
    ----------
    index
        Plane.
    labels
        (Y, X), before the cells in the loop were erased.
    loop
        Points (y, x).
    gone
        A pixel of each cell that is erased. When that is undone, the mark says nothing.
    """
    from napari_unet.core.cells.gestures import inside_loop

    box, _ = inside_loop(labels.shape, loop)
    return box_mark(index, box) | {
        "loop": [[round(float(y), 1), round(float(x), 1)] for y, x in loop],
        "gone": [[y, x, int(labels[y, x])] for y, x in gone],
    }


def holds(mark: Mark, labels: NDArray[np.int32]) -> bool:
    """Whether what a mark was made with still stands; Ctrl-Z brings erased cells back."""
    return not any(labels[y, x] == cell for y, x, cell in mark.get("gone", ()))


def marks_within(mark: Mark, labels: NDArray[np.int32], where: NDArray[np.bool_]) -> bool:
    """Whether a mark is of a single cell, all of which lies in a mask (Y, X)."""
    if "cell" not in mark:
        return False
    top, bottom, left, right = mark["box"]
    box = slice(top, bottom), slice(left, right)
    return bool(where[box][labels[box] == mark["cell"]].all())


def confirmed(marks: Sequence[Mark], index: Index, labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(Y, X) bool, what the marks of a plane say is right; later marks need not be disjoint."""
    out = np.zeros(labels.shape, bool)
    for mark in marks:
        if tuple(mark["index"]) != tuple(index) or not holds(mark, labels):
            continue
        top, bottom, left, right = mark["box"]
        box = slice(top, bottom), slice(left, right)
        if "cell" in mark:
            out[box] |= _near(labels[box] == mark["cell"], mark["ring_px"])
        elif "disc" in mark:
            y, x, radius = mark["disc"]
            rows, columns = np.ogrid[box]
            out[box] |= (rows - y) ** 2 + (columns - x) ** 2 <= radius**2
        elif "loop" in mark:
            out |= _empty(mark["loop"], labels)
        else:
            out[box] = True
    return out


def _empty(loop: Sequence[Point], labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    from napari_unet.core.cells.gestures import inside_loop

    out = np.zeros(labels.shape, bool)
    box, inside = inside_loop(labels.shape, loop)
    out[box] = inside & (labels[box] == 0)
    return out


def _near(mask: NDArray[np.bool_], reach_px: int) -> NDArray[np.bool_]:
    from scipy import ndimage

    if not mask.any():
        return mask
    near: NDArray[np.bool_] = ndimage.distance_transform_edt(~mask) <= reach_px
    return near
