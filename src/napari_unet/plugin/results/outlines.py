"""Whether the cells of results are shown as outlines, through which the image can be seen."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

from napari.layers import Labels
from napari.viewer import Viewer
from psygnal import Signal

from napari_unet.plugin.viewer.record import record_of

# In pixels; napari draws one more outside the cell.
_WIDTH_PX = 1
# Planes of more pixels are filled unless the user chooses otherwise: napari computes the outlines
# of all cells whenever it draws a plane anew, and half a second is too long for that.
_LARGEST_PX = 2048 * 2048


class Outlines:
    """Shows the cells of all results of a viewer as outlines, or filled.

    Parameters
    ----------
    viewer
        The viewer.

    Signals
    -------
    shown
        Whether the result that was added last has outlines.
    """

    shown = Signal(bool)

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._chosen: bool | None = None
        # napari draws no outlines in 3D, and would say so whenever it draws. Without outlines it
        # would not, but it draws before it tells a plugin that it shows 3D.
        warnings.filterwarnings("ignore", "Contours are not displayed during 3D rendering")

    def choose(self, outlined: bool | None) -> None:
        """Show all results as outlines, or filled, from now on; None: as suits each."""
        self._chosen = outlined
        for layer in list(self._viewer.layers):
            if isinstance(layer, Labels) and record_of(layer).source is not None:
                layer.contour = self.width_px(layer.data.shape)
        if outlined is not None:
            self.shown.emit(outlined)

    def width_px(self, shape: Sequence[int]) -> int:
        """Return the width of the outlines of a result of a shape; 0: filled."""
        wanted = self._chosen
        if wanted is None:
            # Stacks are filled: in 3D napari draws no outlines.
            wanted = len(shape) == 2 and math.prod(shape) <= _LARGEST_PX
        return _WIDTH_PX if wanted else 0
