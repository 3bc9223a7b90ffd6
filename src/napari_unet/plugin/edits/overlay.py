"""Layers that only show something: what was seen, and what a model sees while it learns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from napari.layers import Labels
from napari.utils import DirectLabelColormap
from napari.viewer import Viewer
from numpy.typing import NDArray

from napari_unet.core.arrays import Pixels
from napari_unet.plugin.edits.seen import CONFIRMED, CORRECTED, DRAFT, UNSEEN, States
from napari_unet.plugin.viewer.alignment import Lying, over_plane
from napari_unet.plugin.viewer.canvas import remove_soon
from napari_unet.plugin.viewer.drawing import draw_ahead, drawn_once, show_tools
from napari_unet.plugin.viewer.garbage import leave_out_all, look_at
from napari_unet.plugin.viewer.layers import (
    Index,
    add_quietly,
    bare,
    plane_in_view,
    plane_shape,
)
from napari_unet.plugin.viewer.record import helper_metadata

_COLOURS = {
    None: (0, 0, 0, 0),
    UNSEEN: (0, 0, 0, 0),
    CORRECTED: (0.15, 0.45, 1, 0.25),
    CONFIRMED: (0.1, 0.85, 0.3, 0.25),
    DRAFT: (1, 0.8, 0.1, 1),
}
# The tint covers the box of what was seen, so that what it costs follows the strokes and not the
# plane. Its sides are whole numbers of this many pixels, so that they seldom change.
_STEP_PX = 256


class Overlay:
    """A Labels layer over one plane that comes and goes without touching the selection.

    Parameters
    ----------
    viewer
        Where it is shown.
    name
        Of the layer.
    contour
        Width of outlines, in pixels; 0 fills the cells.
    options
        More of the layer's.
    """

    def __init__(self, viewer: Viewer, name: str, contour: int = 0, **options: object) -> None:
        self._viewer, self._name, self._options = viewer, name, options
        self._contour = contour
        self._layer: Labels | None = None

    def show(self, pixels: Pixels, place: Lying, above: Labels | None = None) -> None:
        """Show pixels (Y, X), lying as `alignment.over_plane` says, above a layer."""
        layer, pixels = self._layer, place.lay(pixels)
        if layer is not None and layer.ndim != pixels.ndim:
            self.remove()
            layer = None
        if layer is not None and layer in self._viewer.layers:
            with drawn_once(layer):
                layer.affine = place.options["affine"]
                layer.data = pixels
                # New data make it editable again.
                layer.editable, layer.visible = False, True
            layers = self._viewer.layers
            if above in layers and layers.index(layer) < layers.index(above):
                layers.move(layers.index(layer), len(layers))
            return
        options = self._options | place.options
        leave_out_all()
        layer = Labels(
            pixels, name=self._name, metadata=helper_metadata(), visible=False, **options
        )
        look_at(layer)
        layer.editable, layer.contour = False, self._contour
        # Nobody paints on it.
        show_tools(layer, shown=False)
        draw_ahead(layer, bare(self._viewer.dims))
        self._layer = layer
        add_quietly(self._viewer, layer)

    def hide(self) -> None:
        """Do not show the layer until there is something else to show."""
        if self._layer is not None:
            self._layer.visible = False

    def remove(self) -> None:
        """Take the layer away; safe to call twice."""
        layer, self._layer = self._layer, None
        if layer is not None:
            remove_soon(self._viewer, layer)


class SeenOverlay:
    """Tints what was corrected and what was confirmed, and outlines drafts, on the plane in view.

    It lies above the labels, whose own outlines would hide those of the drafts.

    Parameters
    ----------
    viewer
        Where it is shown.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        colours = DirectLabelColormap(color_dict=_COLOURS)
        self._overlay = Overlay(viewer, "learnt from (U-Net)", opacity=1, colormap=colours)
        self._shown: tuple[Labels, States] | None = None

    def show(self, labels: Labels, states: Mapping[Index, States]) -> None:
        """Show the states of the plane of `labels` that is in view.

        Parameters
        ----------
        labels
            What is corrected.
        states
            Of each plane of which something was seen; without any, the layer goes.
        """
        if not states or labels not in self._viewer.layers:
            self.remove()
            return
        index = plane_in_view(labels, self._viewer.dims.point)
        here: States | None = states.get(index)
        if here is None and self._shown is None:
            return
        if here is None:
            here = np.zeros(np.minimum(plane_shape(labels), _STEP_PX), np.uint8)
        if self._shown is not None and self._shown[0] == labels and self._shown[1] is here:
            return
        y, x = _box_of(here)
        self._overlay.show(here[y, x], over_plane(labels, index, (y.start, x.start)), labels)
        self._shown = labels, here

    def remove(self) -> None:
        """Take the layer away; safe to call twice."""
        self._shown = None
        self._overlay.remove()


def _box_of(states: States) -> tuple[slice, slice]:
    """Rows and columns of all that was seen, in whole steps of `_STEP_PX`; never empty."""
    rows = np.flatnonzero(states.any(axis=1))
    columns = np.flatnonzero(states[rows].any(axis=0))
    height, width = states.shape
    return _steps(rows, height), _steps(columns, width)


def _steps(places: NDArray[np.intp], length: int) -> slice:
    first, last = (places[0], places[-1]) if places.size else (0, 0)
    start, stop = (int(place) // _STEP_PX * _STEP_PX for place in (first, last))
    return slice(start, min(stop + _STEP_PX, length))
