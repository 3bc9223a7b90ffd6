"""What the user has seen of a plane: corrected, confirmed, or neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_unet.corrections.annotations import Correction, PaintedPlane
from napari_unet.plugin.edits.draft_cells import dashes, pending, replaced
from napari_unet.plugin.edits.marks import confirmed, holds, marks_within
from napari_unet.plugin.viewer.layers import Index
from napari_unet.plugin.viewer.record import DraftCell, Mark

UNSEEN, CORRECTED, CONFIRMED = 0, 1, 2
# Only to be shown: the dashed outline of a draft, whose cell is unseen.
DRAFT = 3

States = NDArray[np.uint8]


@dataclass(frozen=True)
class Look:
    """A plane as the user has seen it.

    Attributes
    ----------
    states
        (Y, X): `UNSEEN`, `CORRECTED` or `CONFIRMED`.
    n_cells
        Cells that were corrected since Segment wrote the labels.
    n_marks
        Places that were marked as correct; a cell among those that were corrected is not one.
    drafts
        (Y, X), those cells that are drafts still (`edits.draft_cells`); they are `UNSEEN`.
    """

    states: States
    n_cells: int
    n_marks: int
    drafts: NDArray[np.int32]


@dataclass(frozen=True)
class SeenPlane:
    """All that is known of what the user has seen of a plane.

    Attributes
    ----------
    painted
        The labels as Segment wrote them and as they are now.
    carried
        States that came along from an earlier result, None if there were none.
    marks
        What was confirmed since.
    drafts
        Cells that were added as drafts since.
    where
        Positions in the flattened plane outside of which nothing was painted; None if unknown.
    """

    painted: PaintedPlane
    carried: States | None
    marks: tuple[Mark, ...]
    drafts: tuple[DraftCell, ...] = ()
    where: NDArray[np.int64] | None = None

    @property
    def index(self) -> Index:
        """Position of the plane."""
        return self.painted.index

    @property
    def n_carried(self) -> int:
        """Number of cells in what came along from an earlier result; takes long.

        Neighbours of which less than half was seen are none.
        """
        if self.carried is None:
            return 0
        before = self.painted.before
        seen = (self.carried != UNSEEN) & (before > 0)
        ids, inside = np.unique(before[seen], return_counts=True)
        area = np.unique(before[np.isin(before, ids)], return_counts=True)[1]
        return int(np.count_nonzero(2 * inside >= area))

    def look(self, ring_px: int) -> Look:
        """Tell the states; the latest word on a pixel counts, and a stroke is the last.

        Parameters
        ----------
        ring_px
            Width of the ring around a corrected cell that counts as looked at.
        """
        from napari_unet.core.cells.edits import find_edits

        after = self.painted.after
        states = np.zeros(after.shape, np.uint8) if self.carried is None else self.carried.copy()
        if self.marks:
            states[confirmed(self.marks, self.index, after) & (states == UNSEEN)] = CONFIRMED
        drafts = pending(self.drafts, self.marks, self.index, after)
        before = self.painted.before
        if drafts.any():
            # As they were before: the drafts, and what they erased of cells that they replaced.
            is_old = (drafts > 0) | ((after == 0) & replaced(before, drafts))
            after = np.where(is_old, before, after)
        edits = find_edits(before, after, ring_px, self.where)
        states[edits.trusted] = CORRECTED
        states[drafts > 0] = UNSEEN
        n_marks = sum(
            holds(mark, self.painted.after) and not marks_within(mark, after, edits.trusted)
            for mark in self.marks
        )
        return Look(states, edits.n_cells, n_marks, drafts)

    def correction(self, ring_px: int, classes: Mapping[int, str]) -> Correction | None:
        """What a model can learn from the plane; None if nothing of it was seen.

        Parameters
        ----------
        ring_px
            As in `look`.
        classes
            Class of each id that is no "cell".
        """
        seen = self.look(ring_px).states != UNSEEN
        if not seen.any():
            return None
        labels = self.painted.after
        here = set(np.unique(labels[seen]).tolist()) & set(classes)
        return Correction(self.index, labels, seen, {cell: classes[cell] for cell in sorted(here)})


def with_drafts(look: Look, states: States) -> States:
    """Return states (Y, X) with `DRAFT` on the dashed outlines of the drafts; no copy without."""
    if not look.drafts.any():
        return states
    return np.where(dashes(look.drafts), np.uint8(DRAFT), states)
