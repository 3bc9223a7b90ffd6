"""Show a new result in the layer of the one before, which takes napari less than another layer."""

from __future__ import annotations

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QApplication

from napari_unet.plugin.viewer.drawing import can_hand_on, hand_on
from napari_unet.plugin.viewer.layers import plane_shape
from napari_unet.plugin.viewer.record import record_of

# Of planes with more pixels napari computes the colours and outlines, which it does in the main
# thread for labels that were not drawn ahead, for longer than it takes to add a layer.
_LARGEST_PX = 1280 * 1280


def can_renew(old: Labels, new: Labels) -> bool:
    """Return whether the labels of a layer can be replaced by those of another.

    Nobody may be painting on it, and the new labels have to lie where the old ones do.
    """
    height, width = plane_shape(old)
    return (
        # This is no public method of napari. Without it, undo would write old pixels into new
        # labels.
        hasattr(old, "_reset_history")
        and not old.multiscale
        and (height * width <= _LARGEST_PX or can_hand_on(new, old))
        and old.data.shape == new.data.shape
        and np.allclose(_corners(old), _corners(new))
        and QApplication.mouseButtons() == Qt.MouseButton.NoButton
    )


def renew(old: Labels, new: Labels) -> None:
    """Replace the labels of a layer, and what is known of them, by those of another.

    Its name, tool and look stay as the user chose them. What was painted can be undone no more.
    """
    record = record_of(old).writable()
    record.clear()
    record.update(record_of(new).stored)
    # Even where it is visible, this would put the tool down.
    if not old.visible:
        old.visible = True
    old._reset_history()
    if can_hand_on(new, old):
        hand_on(new, old)
    else:
        old.data = new.data
    old.features = new.features
    old.selected_label = new.selected_label


def _corners(layer: Labels) -> NDArray[np.float64]:
    """Where a pixel, and its neighbour along each axis, lie in the world."""
    points = np.vstack([np.zeros(layer.ndim), np.eye(layer.ndim)])
    return np.array([layer.data_to_world(point) for point in points])
