"""What napari draws of Labels layers: computed in another thread, handed on, or made later.

Some of it is no public part of napari. Where that is missing, napari does the same itself, in the
viewer's thread.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial

import numpy as np
from napari.components import Dims
from napari.layers import Labels
from napari.utils import CyclicLabelColormap
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

# napari makes the pictures of its polygon and its brush with each Labels layer: half of what adding
# one takes.
_TOOLS = "polygon", "brush_stroke"
# From showing a layer to making the pictures of its tools.
_TOOLS_MS = 50


def draw_ahead(layer: Labels, dims: Dims) -> None:
    """Have a new layer compute what it shows, once, and make it visible.

    For a large one, in another thread than the viewer's.

    So is what vispy computes once for the first layer: the patterns of dashed lines.

    Parameters
    ----------
    layer
        The layer, which is in no viewer yet. If it is not visible, nothing was computed in vain.
    dims
        Of the viewer that it will be added to; no proxy, see `layers.bare`.
    """
    with suppress(AttributeError, TypeError), layer._block_refresh():
        layer.visible = True
    with suppress(AttributeError, TypeError), _quick_outlines(layer):
        layer._slice_dims(dims)
        if layer._slice.empty:
            layer.set_view_slice()
    if not layer.visible:
        layer.visible = True
    with suppress(ImportError):
        from vispy.visuals.line.dash_atlas import DashAtlas

        DashAtlas()


@contextmanager
def _quick_outlines(layer: Labels) -> Iterator[None]:
    """Have a layer find the outlines of its cells in a quarter of the time that napari takes."""
    if not hasattr(layer, "_calculate_contour"):
        yield
        return

    def outlines(
        labels: NDArray[np.integer], part: tuple[slice, ...]
    ) -> NDArray[np.integer] | None:
        if layer.contour < 1 or labels.ndim != 2:
            return None
        return outlined(labels, layer.contour)[part]

    layer._calculate_contour = outlines
    try:
        yield
    finally:
        del layer._calculate_contour


def outlined(labels: NDArray[np.integer], width_px: int) -> NDArray[np.integer]:
    """Return labels (Y, X) without the insides of cells, as napari shows them with a contour.

    A pixel stays if its neighbours above, below, left and right have a higher id, or if a pixel
    that is up to `width_px` steps away has a lower one.

    Examples
    --------
    >>> outlined(np.array([[0, 0, 7, 7, 7, 7, 7]]), 2)
    array([[0, 0, 7, 7, 0, 0, 0]])
    """
    # Half the memory takes half the time.
    ids = labels.astype(np.uint16) if labels.max(initial=0) <= np.iinfo(np.uint16).max else labels
    lowest = ids
    for _ in range(width_px):
        lowest = _of_neighbours(np.minimum, lowest)
    lines: NDArray[np.integer] = labels * (_of_neighbours(np.maximum, ids) != lowest)
    return lines


def _of_neighbours(extreme: np.ufunc, values: NDArray[np.integer]) -> NDArray[np.integer]:
    """Apply `extreme` to each pixel and the four around it."""
    found = values.copy()
    for out, source in ((found, values), (found.T, values.T)):
        extreme(out[1:], source[:-1], out=out[1:])
        extreme(out[:-1], source[1:], out=out[:-1])
    return found


def show_tools(layer: Labels, *, shown: bool) -> None:
    """Have the pictures of polygon and brush made, or not yet.

    Without them a layer can be looked at, and even painted on.
    """
    overlays = getattr(layer, "_overlays", {})
    for name in _TOOLS:
        if name in overlays:
            overlays[name].visible = shown


def show_tools_soon(layer: Labels) -> None:
    """Have them made in a moment of their own, when the layer was drawn."""
    QTimer.singleShot(_TOOLS_MS, partial(show_tools, layer, shown=True))


@contextmanager
def drawn_once(layer: Labels) -> Iterator[None]:
    """Change several things of a layer, which is drawn anew at the end instead of at each."""
    with getattr(layer, "_block_refresh", nullcontext)():
        yield
    layer.refresh()


def can_hand_on(new: Labels, old: Labels) -> bool:
    """Return whether what a new layer computed ahead is what an old one would show of its labels.

    That is so unless the user moved a slider meanwhile, or chose other colours.
    """
    colours = new.colormap, old.colormap
    return (
        hasattr(old, "_block_refresh")
        and hasattr(old, "_refresh_sync")
        and hasattr(getattr(old, "_slicing_state", None), "_slice")
        and all(isinstance(c, CyclicLabelColormap) and not c.use_selection for c in colours)
        and len(colours[0].colors) == len(colours[1].colors)
        and colours[0].background_value == colours[1].background_value
        and new.contour == old.contour
        and old.loaded
        and not new._slice.empty
        and new._slice_input == old._slice_input
        and np.array_equal(new.data.shape, old.data.shape)
    )


def hand_on(new: Labels, old: Labels) -> None:
    """Show the labels of a new layer in an old one, with what the new one computed ahead.

    Only where `can_hand_on`, and both layers lie alike.
    """
    with old._block_refresh():
        old.data = new.data
    old._slicing_state._slice = new._slicing_state._slice
    old._refresh_sync(thumbnail=True, data_displayed=True, highlight=True, extent=True)
