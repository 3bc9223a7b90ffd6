"""Layers that show what another thread, or another layer, computed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from napari.components import ViewerModel
from napari.layers import Labels
from napari.utils import DirectLabelColormap

from napari_unet.plugin.viewer.drawing import (
    can_hand_on,
    draw_ahead,
    drawn_once,
    hand_on,
    show_tools,
)


def cells(shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Blocks of 4 x 4 pixels with ids, many of them 0; more than 16 bits hold where it is odd."""
    small = (*shape[:-2], *(-(-n // 4) for n in shape[-2:]))
    ids = np.random.default_rng(seed).integers(-40, 400, small).clip(0).astype(np.int32)
    ids *= 70_000 if seed % 2 else 1
    return ids.repeat(4, -2).repeat(4, -1)[..., : shape[-2], : shape[-1]].copy()


def plainly(labels: Labels, viewer: ViewerModel) -> np.ndarray:
    """What napari shows of the labels of a layer that was never anything else."""
    fresh = Labels(labels.data.copy())
    fresh.contour = labels.contour
    fresh._slice_dims(viewer.dims)
    return fresh._slice.image.view


def pair(shape: tuple[int, ...], contour: int, seed: int = 0):
    viewer = ViewerModel()
    old, new = viewer.add_labels(cells(shape, seed)), Labels(cells(shape, seed + 1))
    old.contour = new.contour = contour
    if len(shape) > 2:
        viewer.dims.set_current_step(0, 1)
    draw_ahead(new, viewer.dims)
    return viewer, old, new


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from([(23, 31), (3, 17, 12)]),
    st.integers(0, 3),
    st.integers(0, 99),
    st.integers(0, 12),
    st.integers(0, 12),
)
def test_a_layer_shows_handed_on_labels_as_a_new_one_would(shape, contour, seed, y, x):
    viewer, old, new = pair(shape, contour, seed)
    assert can_hand_on(new, old)
    drawn = []
    old.events.set_data.connect(lambda event: drawn.append(event))
    hand_on(new, old)
    assert len(drawn) == 1
    assert old.data is new.data
    np.testing.assert_array_equal(old._slice.image.view, plainly(old, viewer))
    # So it does when it is painted on,
    old.brush_size, old.selected_label = 5, 401
    old.paint((*(1,) * (len(shape) - 2), min(y, shape[-2] - 1), min(x, shape[-1] - 1)), 401)
    np.testing.assert_array_equal(old._slice.image.view, plainly(old, viewer))
    # and when a slider is moved.
    if len(shape) > 2:
        viewer.dims.set_current_step(0, 2)
        np.testing.assert_array_equal(old._slice.image.view, plainly(old, viewer))


@pytest.mark.parametrize(
    "what", ["slider", "outlines", "selected", "colours", "own colours", "size"]
)
def test_labels_that_would_look_different_are_not_handed_on(what):
    viewer, old, new = pair((3, 17, 12), 1)
    assert can_hand_on(new, old)
    if what == "slider":
        viewer.dims.set_current_step(0, 2)
    elif what == "outlines":
        old.contour = 2
    elif what == "selected":
        old.show_selected_label = True
    elif what == "colours":
        old.new_colormap(5)
        old.colormap = type(old.colormap)(colors=old.colormap.colors[:7])
    elif what == "own colours":
        old.colormap = DirectLabelColormap(color_dict={None: "red", 1: "blue"})
    else:
        old.data = old.data[:, :-1]
    assert not can_hand_on(new, old)


def test_what_is_changed_together_is_drawn_once():
    viewer, layer, _ = pair((23, 31), 0)
    drawn = []
    layer.events.set_data.connect(lambda event: drawn.append(event))
    with drawn_once(layer):
        layer.data = cells((23, 31), 5)
        layer.contour = 2
        layer.scale = 2, 2
    assert len(drawn) == 1
    np.testing.assert_array_equal(layer._slice.image.view, plainly(layer, viewer))
    np.testing.assert_array_equal(layer.extent.world[1], [44, 60])


def test_tools_are_made_when_they_are_shown(viewer):
    layer = Labels(cells((23, 31), 0))
    show_tools(layer, shown=False)
    viewer.add_layer(layer)
    layer.mode = "polygon"
    show_tools(layer, shown=True)
    assert all(layer._overlays[name].visible for name in ("polygon", "brush_stroke"))
