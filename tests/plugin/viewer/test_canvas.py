"""Tests for napari_unet.plugin.viewer.canvas."""

import subprocess
import sys

import numpy as np
import pytest
from napari.components import ViewerModel

from napari_unet.plugin.viewer.canvas import make_current

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
