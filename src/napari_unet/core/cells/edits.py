"""What a user changed: the pixels that a correction says something about.

A correction speaks for the cells that were painted or shaped, for what was erased, and for the
background in a ring around them. Every other pixel is unseen, and unseen is not background. A cell
beside them, which nobody painted, is unseen as well: it may be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label

# A found cell that was painted over in part is seen as the other half of a split where so much of
# the painted cell lies in it, and what is left of it is at most so many times larger or smaller.
_INSIDE, _HALVES = 0.9, 2.0


@dataclass(frozen=True)
class Edits:
    """The corrections of one plane.

    Attributes
    ----------
    trusted
        (Y, X) bool, pixels whose label the user has made or looked at.
    n_cells
        Objects touched; pieces of one id that do not connect count as objects of their own.
    """

    trusted: NDArray[np.bool_]
    n_cells: int


def find_edits(before: NDArray[np.integer], after: NDArray[np.integer], ring_px: int = 8) -> Edits:
    """Compare labels (Y, X) with a snapshot taken before the user painted.

    Parameters
    ----------
    before, after
        (Y, X) instance labels, 0 = background.
    ring_px
        Width of the ring around a touched object whose background the user has looked at, in
        pixels.

    Raises
    ------
    ValueError
        If the shapes differ.
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
    trusted = touched | (_dilate(touched, ring_px) & (after == 0))
    return Edits(trusted, len(ids) + extra)


def _seen_pieces(
    before: NDArray[np.integer], after: NDArray[np.integer], changed: NDArray[np.bool_]
) -> list[int]:
    """Numbers of the connected pieces of `after` that the user has made, shaped or split off."""
    areas = np.bincount(after.ravel())
    seen = set(np.unique(after[changed & (after > 0)]).tolist())
    # Each old piece that lost pixels, with what is there now.
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
    """The pairs of numbers that occur, and how often each does."""
    pairs, counts = np.unique(np.stack([first, second]), axis=1, return_counts=True)
    return pairs[0], pairs[1], counts


def _dilate(mask: NDArray[np.bool_], reach_px: int) -> NDArray[np.bool_]:
    """Every pixel at most `reach_px` from the mask; works within the mask's box."""
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
