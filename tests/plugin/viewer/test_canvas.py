"""Tests for napari_unet.plugin.viewer.canvas."""

import subprocess
import sys
import time

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_unet.plugin.viewer import canvas
from napari_unet.plugin.viewer.canvas import make_current, remove_soon

# A segmentation fault would end the tests, too.
RUN = """
import time

import napari
import numpy
from qtpy.QtWidgets import QApplication

viewer = napari.Viewer()
viewer.window.add_plugin_dock_widget("napari-unet")
window = viewer.window._qt_window
labels = numpy.kron(numpy.arange(64).reshape(8, 8), numpy.ones((32, 32), int))


def draw():
    end = time.monotonic() + 0.3
    while time.monotonic() < end:
        QApplication.processEvents()


viewer.add_image(labels)
for size in (1100, 1200):
    hidden = viewer.add_labels(labels)
    draw()
    hidden.visible = False
    others = [viewer.add_labels(labels)]
    draw()
    viewer.layers.remove(hidden)
    draw()
    window.resize(size, size)
    draw()
    others.append(viewer.add_labels(labels))
    draw()
    viewer.layers.selection = set(others)
    viewer.layers.remove_selected()
    draw()
    window.resize(size - 100, size)
    draw()
viewer.close()
"""


@pytest.mark.slow
def test_the_viewer_survives_the_removal_of_layers_that_are_not_shown():
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_without_a_canvas_nothing_happens():
    viewer = ViewerModel()
    viewer.layers.events.removing.connect(make_current)
    viewer.add_image(np.eye(2))
    viewer.layers.clear()
    assert not viewer.layers


@pytest.mark.slow
def test_a_layer_leaves_when_the_pointer_rests(viewer, qtbot):
    layer = viewer.add_labels(np.eye(9, dtype=int), name="old")
    remove_soon(viewer, layer)
    assert layer in viewer.layers
    assert not layer.visible
    for at in range(30):
        viewer.cursor.position = (at, at)
        qtbot.wait(20)
    assert layer in viewer.layers
    qtbot.waitUntil(lambda: layer not in viewer.layers, timeout=20_000)


def test_a_layer_that_is_to_leave_may_be_gone_before(viewer, qtbot):
    layer = viewer.add_labels(np.eye(9, dtype=int))
    remove_soon(viewer, layer)
    viewer.layers.clear()
    qtbot.wait(400)
    assert not viewer.layers


@pytest.mark.slow
def test_two_layers_leave_one_after_the_other(viewer, qtbot, monkeypatch):
    # Longer than it takes to remove one, on any computer.
    monkeypatch.setattr(canvas, "_BETWEEN_S", 2.0)
    layers = [viewer.add_labels(np.eye(9, dtype=int)) for _ in range(2)]
    left = []
    viewer.layers.events.removed.connect(lambda event: left.append(time.monotonic()))
    for layer in layers:
        remove_soon(viewer, layer)
    qtbot.waitUntil(lambda: not viewer.layers, timeout=20_000)
    assert left[1] - left[0] > 1.9, "napari collects garbage for each"
