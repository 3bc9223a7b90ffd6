"""The labels of planes that are done, shown while the others are being segmented."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from napari.layers import Image
from napari.utils.events import Event
from napari.viewer import Viewer
from numpy.typing import NDArray

from napari_unet.plugin.edits.overlay import Overlay
from napari_unet.plugin.viewer.alignment import over_plane
from napari_unet.plugin.viewer.layers import Index, plane_in_view
from napari_unet.segmentation.plane_order import PlaneLabels


class Arriving:
    """Shows those of the plane in view, to be looked at only.

    Parameters
    ----------
    viewer
        Where they are shown.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._overlay = Overlay(viewer, "arriving cells (U-Net)", opacity=0.5)
        self._image: Image | None = None
        self._is_outdated: Callable[[], bool] = lambda: False
        self._planes: dict[Index, NDArray[np.int32]] = {}
        self._shown: Index | None = None

    def begin(self, image: Image, is_outdated: Callable[[], bool]) -> None:
        """Planes of an image are on their way.

        Parameters
        ----------
        image
            Its layer.
        is_outdated
            Tells whether that shows another image by now: then nothing is laid over it.
        """
        self.end()
        self._image, self._is_outdated = image, is_outdated
        self._viewer.dims.events.current_step.connect(self.refresh)
        image.events.data.connect(self.refresh)

    def take(self, done: Sequence[PlaneLabels]) -> None:
        """Some planes have come: the labels of each that is done."""
        if self._image is not None:
            self._planes.update((plane.index, plane.labels) for plane in done)
            self.refresh()

    def refresh(self, event: Event | None = None) -> None:
        """Show the plane in view, if it has come."""
        if self._image is None or self._image not in self._viewer.layers:
            return
        if self._is_outdated():
            self._shown = None
            self._overlay.hide()
            return
        index = plane_in_view(self._image, self._viewer.dims.point)
        if index == self._shown:
            return
        self._shown = None
        if index not in self._planes:
            self._overlay.hide()
            return
        self._overlay.show(self._planes[index], over_plane(self._image, index))
        self._shown = index

    def end(self) -> None:
        """Take all away; safe to call twice."""
        if self._image is None:
            return
        self._viewer.dims.events.current_step.disconnect(self.refresh)
        self._image.events.data.disconnect(self.refresh)
        self._image, self._shown = None, None
        self._planes.clear()
        self._overlay.remove()
