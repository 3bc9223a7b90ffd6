"""What the user has seen of a plane: corrected, confirmed, or neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_unet.corrections.annotations import Correction, PaintedPlane
from napari_unet.plugin.edits.marks import confirmed
from napari_unet.plugin.viewer.layers import Index
from napari_unet.plugin.viewer.record import Mark

UNSEEN, CORRECTED, CONFIRMED = 0, 1, 2

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
    """

    states: States
    n_cells: int


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
    """

    painted: PaintedPlane
    carried: States | None
    marks: tuple[Mark, ...]

    @property
    def index(self) -> Index:
        """Position of the plane."""
        return self.painted.index

    def look(self, ring_px: int) -> Look:
        """Tell the states; the latest word on a pixel counts, and a stroke is the last.

        Parameters
        ----------
        ring_px
            Width of the ring around a corrected cell that counts as looked at.
        """
        after = self.painted.after
        states = np.zeros(after.shape, np.uint8) if self.carried is None else self.carried.copy()
        if self.marks:
            states[confirmed(self.marks, self.index, after) & (states == UNSEEN)] = CONFIRMED
        if np.array_equal(self.painted.before, after):
            return Look(states, 0)
        edits = self.painted.edits(ring_px)
        states[edits.trusted] = CORRECTED
        return Look(states, edits.n_cells)

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
