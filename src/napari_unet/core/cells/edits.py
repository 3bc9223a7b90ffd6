"""Find the pixels that a user's correction says something about.

These are the cells that were painted or reshaped, the pixels that were erased, and the background
in a ring around them. Every other pixel is unseen, and unseen does not mean background. A cell
nearby that nobody painted is unseen too, because it may be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label

# When a cell is painted over in part, its rest counts as seen if the user has split the cell in
# two. That is so if at least the fraction `_INSIDE` of the painted cell lies in the old one, and
# the rest has at most `_HALVES` times and at least 1 / `_HALVES` times the painted cell's area.
_INSIDE, _HALVES = 0.9, 2.0


@dataclass(frozen=True)
class Edits:
    """The corrections of one plane.

    Attributes
    ----------
    trusted
        (Y, X) bool, pixels whose label the user has made or looked at.
    n_cells
        Number of cells that were changed. Pieces of one id that do not touch count as several.
    """

    trusted: NDArray[np.bool_]
    n_cells: int


def find_edits(before: NDArray[np.integer], after: NDArray[np.integer], ring_px: int = 8) -> Edits:
    """Compare labels (Y, X) with a snapshot taken before the user painted.

    Parameters
    ----------
    before, after
        (Y, X) labels, 0 = background.
    ring_px
        Width, in pixels, of the ring around a changed cell whose background the user has looked
        at.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> before = np.zeros((5, 5), int)
    >>> after = before.copy()
    >>> after[2, 2] = 1
    >>> edits = find_edits(before, after, ring_px=1)
    >>> edits.n_cells
    1
    >>> edits.trusted.astype(int)
    array([[0, 0, 0, 0, 0],
           [0, 0, 1, 0, 0],
           [0, 1, 1, 1, 0],
           [0, 0, 1, 0, 0],
           [0, 0, 0, 0, 0]])
    """
    if before.shape != after.shape:
        raise ValueError(
            f"the labels are {after.shape} and were {before.shape} when the cells were found; "
            "segment the image again"
        )
    changed = before != after
    ids: set[int] = set()
    extra = 0
    old, new = (label(labels, connectivity=2) for labels in (before, after))
    for labels, piece in ((before, old), (after, new)):
        met = np.unique(piece[changed & (labels > 0)])
        found = np.unique(labels[changed & (labels > 0)])
        ids.update(found.tolist())
        extra = max(extra, len(met) - len(found))
    touched = changed | np.isin(new, _seen_pieces(old, new, changed))
    seen = touched | (_dilate(touched, ring_px) & (after == 0))
    return Edits(seen, len(ids) + extra)


def _seen_pieces(
    before: NDArray[np.integer], after: NDArray[np.integer], changed: NDArray[np.bool_]
) -> list[int]:
    """Return the numbers of the connected pieces of `after` that the user made, shaped or split."""
    areas = np.bincount(after.ravel())
    seen = set(np.unique(after[changed & (after > 0)]).tolist())
    # For each old piece that lost pixels: which piece has them now, and how many.
    lost = changed & (before > 0)
    old, now, counts = _pairs(before[lost], after[lost])
    kept = ~changed & np.isin(before, np.unique(old))
    for piece, rest, _ in zip(*_pairs(before[kept], after[kept]), strict=True):
        over, inside = now[old == piece], counts[old == piece]
        if 0 in over:  # a part of it was erased
            seen.add(int(rest))
            continue
        largest = over[np.argmax(inside)]
        ratio = areas[rest] / areas[largest]
        if inside.max() >= _INSIDE * areas[largest] and 1 / _HALVES <= ratio <= _HALVES:
            seen.add(int(rest))
    return sorted(seen - {0})


def _pairs(
    first: NDArray[np.integer], second: NDArray[np.integer]
) -> tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.integer]]:
    """Return the pairs of numbers that occur, and how often each pair does."""
    pairs, counts = np.unique(np.stack([first, second]), axis=1, return_counts=True)
    return pairs[0], pairs[1], counts


def _dilate(mask: NDArray[np.bool_], reach_px: int) -> NDArray[np.bool_]:
    """Return a mask of all pixels that are at most `reach_px` pixels from this one."""
    out = mask.copy()
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not (rows.size and reach_px):
        return out
    box = tuple(
        slice(max(int(line[0]) - reach_px, 0), int(line[-1]) + reach_px + 1)
        for line in (rows, columns)
    )
    out[box] = ndimage.distance_transform_edt(~mask[box]) <= reach_px
    return out
