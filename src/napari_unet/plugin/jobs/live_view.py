"""What a user sees of a model while it learns: the cells in view, outlined as it finds them."""

from __future__ import annotations

import numpy as np
from napari.layers import Image
from napari.viewer import Viewer

from napari_unet.config import Channel
from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import take_channel
from napari_unet.learning.live_view import View, ViewLabels
from napari_unet.plugin.edits.overlay import Overlay
from napari_unet.plugin.jobs.scope import view_of
from napari_unet.plugin.viewer.alignment import over_plane


class LearningView:
    """Follows what is in view of the image that teaches, and shows what the model finds there.

    Parameters
    ----------
    viewer
        Where outlines are shown.

    Attributes
    ----------
    view
        What is in view; read by the job's thread. None while nothing is learnt.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self._overlay = Overlay(viewer, "found while it learns (U-Net)", 2, opacity=0.9)
        # The image, and its channel that is seen.
        self._taught: tuple[Image, Channel] | None = None
        self.view: View | None = None
        self._taken: tuple[LazyArray, str, Channel, tuple[LazyArray, str]] | None = None

    @property
    def is_on(self) -> bool:
        """Whether a model learns from an image."""
        return self._taught is not None

    def begin(self, image: Image, channel: Channel) -> None:
        """A model learns from an image, of which it sees a channel; None for all."""
        self._taught = image, channel
        self.view = view_of(self._viewer, image, channel, self._take)

    def _take(self, data: LazyArray, axes: str, channel: Channel) -> tuple[LazyArray, str]:
        """As `take_channel`; the same array each time, by which the job knows the plane again."""
        known = self._taken
        if known is None or known[0] is not data or known[1:3] != (axes, channel):
            known = self._taken = data, axes, channel, take_channel(data, axes, channel)
        return known[3]

    def go_on(self, preview: ViewLabels | None) -> None:
        """Look at what is in view now, and show the labels, if there are any."""
        if self._taught is None:
            return
        self.view = view_of(self._viewer, *self._taught, self._take)
        if self.view is None:
            # The image is gone.
            self._overlay.remove()
            return
        if preview is None:
            return
        y, x = preview.view.box
        place = over_plane(self._taught[0], preview.view.index, (y.start, x.start))
        labels = np.asarray(preview.labels, np.int32)
        if labels.size:
            self._overlay.show(labels, place)

    def end(self) -> None:
        """Take the outlines away; safe to call twice."""
        self._taught = self.view = self._taken = None
        self._overlay.remove()
