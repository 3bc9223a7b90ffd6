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


def replaced(labels: NDArray[np.int32], drafts: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return (Y, X), the pixels of those cells in labels that drafts replace: more than half of it.

    Parameters
    ----------
    labels
        (Y, X), without the drafts.
    drafts
        (Y, X), as `pending` returns them.
    """
    from napari_unet.core.cells.gestures import mostly_inside

    return mostly_inside(labels, (slice(None), slice(None)), drafts > 0)


def bring_along(
    labels: NDArray[np.int32],
    index: Index,
    drafts: NDArray[np.int32],
    seen: NDArray[np.bool_],
) -> list[DraftCell]:
    """Put drafts of an earlier result into a new one, in place; return them.

    They stay as they are, for the user accepted them. What was found under them gives way as it
    did when they were added: a cell is erased if they cover more than half of it, else cut.

    Parameters
    ----------
    labels
        (Y, X), the new result; it may hold the drafts already.
    index
        The plane.
    drafts
        (Y, X), as `pending` returns them; their ids are no others in `labels`.
    seen
        (Y, X), where the labels stay as they are; no draft lies there.
    """
    cells = np.unique(drafts[drafts > 0]).tolist()
    labels[np.isin(labels, cells) | (replaced(labels, drafts) & ~seen)] = 0
    labels[drafts > 0] = drafts[drafts > 0]
    boxes = (grown(box_of(drafts == cell), 1, labels.shape) for cell in cells)
    return [draft_of(index, labels, box, cell) for box, cell in zip(boxes, cells, strict=True)]


def dashes(drafts: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Return the pixels of the drafts' outlines, dashed."""
    from scipy import ndimage

    line = (drafts > 0) & ~ndimage.binary_erosion(drafts > 0, border_value=1)
    y, x = np.ogrid[: drafts.shape[0], : drafts.shape[1]]
    dashed: NDArray[np.bool_] = line & ((y + x) // _DASH_PX % 2 == 0)
    return dashed


def _hash(mask: NDArray[np.bool_]) -> int:
    return zlib.crc32(np.packbits(mask).tobytes())
