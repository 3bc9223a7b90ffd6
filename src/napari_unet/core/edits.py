"""What a user changed: the pixels that a correction says something about.

A correction speaks for the objects that it touched, in their old and their new extent, and for a
ring around them; every other pixel is unseen, and unseen is not background.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label


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
        Width of the ring around a touched object that the user has looked at, in pixels.

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
    touched = changed.copy()
    ids: set[int] = set()
    extra = 0
    for labels in (before, after):
        pieces = label(labels, connectivity=2)
        met = np.unique(pieces[changed & (labels > 0)])
        found = np.unique(labels[changed & (labels > 0)])
        touched |= np.isin(pieces, met)
        ids.update(found.tolist())
        extra = max(extra, len(met) - len(found))
    trusted = _dilate(touched, ring_px)
    return Edits(trusted, len(ids) + extra)


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
