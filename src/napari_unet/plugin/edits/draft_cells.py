"""Cells that the program outlined and the user accepted, as *drafts*: they do not teach.

Two of five such outlines overlap the true cell by less than an IoU of 0.7, and a model learns
from those what is wrong. A draft becomes a cell like any other when its outline is touched up or
when a mark confirms it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.boxes import Box, box_of, grown
from napari_unet.plugin.edits.marks import box_mark
from napari_unet.plugin.viewer.layers import Index
from napari_unet.plugin.viewer.record import DraftCell, Mark

# Length of the dashes of a draft's outline, in pixels.
_DASH_PX = 2


def draft_of(index: Index, labels: NDArray[np.int32], box: Box, cell: int) -> DraftCell:
    """Return what is to be remembered of a cell that was just added.

    Parameters
    ----------
    index
        Plane.
    labels
        (Y, X), with the cell.
    box
        Around the cell, with a margin of a pixel: whoever touches it up changes a pixel in there.
    cell
        Its id.
    """
    place = box_mark(index, box)
    return {
        "index": place["index"],
        "box": place["box"],
        "cell": cell,
        "hash": _hash(labels[box] == cell),
    }


def pending(
    drafts: Sequence[DraftCell], marks: Sequence[Mark], index: Index, labels: NDArray[np.int32]
) -> NDArray[np.int32]:
    """Return (Y, X) labels of those cells of a plane that are drafts still.

    Parameters
    ----------
    drafts, marks
        Of all planes.
    index
        The plane.
    labels
        (Y, X), as they are now: of a draft that was undone or touched up nothing is left.
    """
    found = np.zeros_like(labels)
    done = {cell for mark in marks for cell in mark.get("drafts", ())}
    for draft in drafts:
        if tuple(draft["index"]) == tuple(index) and draft["cell"] not in done:
            top, bottom, left, right = draft["box"]
            box = slice(top, bottom), slice(left, right)
            mask = labels[box] == draft["cell"]
            if _hash(mask) == draft["hash"]:
                found[box][mask] = draft["cell"]
    return found


def bring_along(
    labels: NDArray[np.int32], index: Index, drafts: NDArray[np.int32]
) -> list[DraftCell]:
    """Put drafts of an earlier result into a new one, in place; return them.

    A draft goes where the new result has a cell on half of it or more.

    Parameters
    ----------
    labels
        (Y, X), the new result; it may hold the drafts already.
    index
        The plane.
    drafts
        (Y, X), as `pending` returns them; their ids are no others in `labels`.
    """
    came = []
    for cell in np.unique(drafts[drafts > 0]).tolist():
        mask = drafts == cell
        free = mask & ((labels == 0) | (labels == cell))
        labels[labels == cell] = 0
        if 2 * free.sum() > mask.sum():
            labels[free] = cell
            box = grown(box_of(free), 1, labels.shape)
            came.append(draft_of(index, labels, box, cell))
    return came


def dashes(drafts: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return the pixels of the drafts' outlines, dashed."""
    from scipy import ndimage

    line = (drafts > 0) & ~ndimage.binary_erosion(drafts > 0, border_value=1)
    y, x = np.ogrid[: drafts.shape[0], : drafts.shape[1]]
    dashed: NDArray[np.bool_] = line & ((y + x) // _DASH_PX % 2 == 0)
    return dashed


def _hash(mask: NDArray[np.bool_]) -> int:
    return zlib.crc32(np.packbits(mask).tobytes())
