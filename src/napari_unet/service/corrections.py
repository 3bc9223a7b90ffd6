"""From painted planes to corrections that a model can learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.edits import Edits, find_edits
from napari_unet.service.segmentation import Correction


@dataclass(frozen=True)
class PaintedPlane:
    """One plane of labels as Segment wrote it and as it is now.

    Attributes
    ----------
    index
        Position along the axes other than C, Y, X.
    before, after
        (Y, X) int32.
    """

    index: tuple[int, ...]
    before: NDArray[np.int32]
    after: NDArray[np.int32]

    def edits(self, ring_px: int) -> Edits:
        """What was changed, see `core.edits.find_edits`."""
        return find_edits(self.before, self.after, ring_px)


def corrections_of(planes: list[PaintedPlane], ring_px: int) -> tuple[Correction, ...]:
    """Corrections for each plane on which something was changed."""
    found = ((plane, plane.edits(ring_px)) for plane in planes)
    return tuple(
        Correction(plane.index, plane.after, edits.trusted)
        for plane, edits in found
        if edits.n_cells
    )
