"""Layers are removed without a look at all objects, and what is left out is looked at in time."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Image

from napari_unet.plugin.viewer import garbage


@pytest.fixture
def viewer(monkeypatch):
    monkeypatch.setattr(garbage, "gc", gc)
    frozen = gc.get_freeze_count()
    viewer = ViewerModel()
    viewer.layers.events.removing.connect(garbage.look_at_all)
    # The selection keeps the layer that is active.
    viewer.add_layer(Image(np.eye(3)))
    yield viewer
    garbage.look_at_all()
    if frozen:
        gc.freeze()


def in_a_cycle() -> Image:
    layer = Image(np.eye(3))
    layer.metadata["itself"] = layer
    return layer


def add(viewer: ViewerModel, layer: Image) -> Image:
    viewer.add_layer(layer)
    viewer.layers.selection.active = viewer.layers[0]
    return layer


def test_a_layer_that_was_made_since_is_collected_alone(viewer):
    before = add(viewer, in_a_cycle())
    garbage.leave_out_all()
    assert gc.get_freeze_count() > 10_000
    layer = in_a_cycle()
    garbage.look_at(layer)
    add(viewer, layer)
    gone = weakref.ref(layer)
    del layer
    viewer.layers.pop()
    gc.collect()
    assert gone() is None
    assert gc.get_freeze_count() > 10_000
    # One that was there before is collected as well.
    gone = weakref.ref(before)
    del before
    viewer.layers.pop()
    gc.collect()
    assert gone() is None
    assert gc.get_freeze_count() == 0


def test_a_second_layer_does_not_leave_the_first_out(viewer):
    layers = []
    for _ in range(2):
        garbage.leave_out_all()
        layers.append(add(viewer, in_a_cycle()))
        garbage.look_at(layers[-1])
    gone = weakref.ref(layers.pop(0))
    viewer.layers.pop(1)
    gc.collect()
    assert gone() is None


def test_where_many_modules_have_come_since_all_is_left_out_again(viewer, monkeypatch):
    garbage.leave_out_all()
    layer = add(viewer, in_a_cycle())
    garbage.look_at(layer)
    monkeypatch.setattr(garbage, "_MANY_MODULES", -1)
    garbage.leave_out_all()
    assert len(gc.get_objects()) < 1000
    # The layer that was looked at before is collected still.
    gone = weakref.ref(layer)
    del layer
    viewer.layers.pop()
    gc.collect()
    assert gone() is None


def test_small_layers_that_were_left_out_wait_until_the_later_ones_are_gone(viewer, monkeypatch):
    """Else those that are there then are left out, and who goes on waits for each of them."""
    garbage.leave_out_all()
    before = add(viewer, in_a_cycle())
    garbage.look_at(before)
    monkeypatch.setattr(garbage, "_MANY_MODULES", -1)
    # Now it is left out.
    garbage.leave_out_all()
    monkeypatch.undo()
    monkeypatch.setattr(garbage, "gc", gc)
    later = add(viewer, in_a_cycle())
    garbage.look_at(later)
    gone = [weakref.ref(before), weakref.ref(later)]
    del before
    viewer.layers.pop(1)
    gc.collect()
    assert gc.get_freeze_count() > 10_000
    assert gone[0]() is not None
    del later
    viewer.layers.pop(1)
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_a_large_one_is_collected_at_once(viewer, monkeypatch):
    garbage.leave_out_all()
    before = add(viewer, in_a_cycle())
    garbage.look_at(before)
    monkeypatch.setattr(garbage, "_MANY_MODULES", -1)
    garbage.leave_out_all()
    garbage.look_at(add(viewer, in_a_cycle()))
    monkeypatch.setattr(garbage, "_MOST_BYTES", 100)
    gone = weakref.ref(before)
    del before
    viewer.layers.pop(1)
    gc.collect()
    assert gone() is None
