"""Whether the cells of results are shown as outlines, through which the image can be seen."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

from napari.layers import Labels
from napari.viewer import Viewer
from psygnal import Signal

from napari_unet.plugin.viewer.colours import outline
from napari_unet.plugin.viewer.record import record_of

# In pixels; napari draws one more outside the cell. Planes with a longer side are shown smaller
# than they are on most screens.
_WIDTH_PX, _WIDER_PX = 1, 2
_LONG_PX = 800
# Planes of more pixels are filled unless the user chooses otherwise: napari computes the outlines
# of all cells whenever it draws a plane anew, and half a second is too long for that.
_LARGEST_PX = 2048 * 2048


class Outlines:
    """Shows the cells of all results of a viewer, and of own labels, as outlines or filled.

    Parameters
    ----------
    viewer
        The viewer.

    Signals
    -------
    shown
        Whether the labels that are corrected have outlines.
    """

    shown = Signal(bool)

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._chosen: bool | None = None
        self._followed: Labels | None = None
        # napari draws no outlines in 3D, and would say so whenever it draws. Without outlines it
        # would not, but it draws before it tells a plugin that it shows 3D.
        warnings.filterwarnings("ignore", "Contours are not displayed during 3D rendering")

    def follow(self, labels: Labels | None) -> None:
        """Labels that are corrected from now on: `shown` tells how they are shown."""
        if self._followed is not None:
            self._followed.events.contour.disconnect(self._tell)
        self._followed = labels
        if labels is not None:
            labels.events.contour.connect(self._tell)
            self._tell()

    def choose(self, outlined: bool | None) -> None:
        """Show results and the labels that are corrected as outlines, or filled, from now on.

        With None, each result is shown as suits it.
        """
        self._chosen = outlined
        for layer in list(self._viewer.layers):
            is_own = layer == self._followed and outlined is not None
            if isinstance(layer, Labels) and (record_of(layer).source is not None or is_own):
                outline(layer, self.width_px(layer.data.shape))
        if outlined is not None:
            self.shown.emit(outlined)

    def width_px(self, shape: Sequence[int]) -> int:
        """Return the width of the outlines of a result of a shape; 0: filled."""
        wanted = self._chosen
        if wanted is None:
            # Stacks are filled: in 3D napari draws no outlines.
            wanted = len(shape) == 2 and math.prod(shape) <= _LARGEST_PX
        width = _WIDER_PX if max(shape[-2:]) > _LONG_PX else _WIDTH_PX
        return width if wanted else 0

    def _tell(self, event: object = None) -> None:
        if self._followed is not None:
            self.shown.emit(self._followed.contour > 0)
