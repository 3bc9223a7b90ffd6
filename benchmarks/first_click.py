"""How long from the click on Segment to labels in the viewer, cold and warm?

    NAPARI_UNET_DATA=FOLDER python -m benchmarks.first_click [--runs 3] [--size 512]

Each run is a fresh interpreter: a viewer with an image of nuclei, the dock, a click (cold: torch is
not loaded, the model not read, though the system may hold their files in memory), then five more
(warm). A last one tells how much of its time the network takes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import mosaic, run_python

RUN = """
import json, statistics, sys, time
import napari, numpy
from qtpy.QtWidgets import QApplication

viewer = napari.Viewer()
image = viewer.add_image(numpy.load(sys.argv[1]))
_, dock = viewer.window.add_plugin_dock_widget("napari-unet")
end = time.monotonic() + 1
while time.monotonic() < end:
    QApplication.processEvents()
assert "torch" not in sys.modules

def click():
    for layer in [layer for layer in viewer.layers if layer is not image]:
        viewer.layers.remove(layer)
    QApplication.processEvents()
    start = time.perf_counter()
    dock.segment_button.click()
    while dock.is_busy:
        QApplication.processEvents()
        time.sleep(0.001)
    QApplication.processEvents()
    seconds = time.perf_counter() - start
    assert viewer.layers[-1].data.max() > 0, dock.status.text()
    return seconds

cold, warm = click(), statistics.median(click() for _ in range(5))
from napari_unet.engine.predict import Predictor
plain, spent = Predictor._run, []

def timed(self, tile):
    start = time.perf_counter()
    out = plain(self, tile)
    spent.append(time.perf_counter() - start)
    return out

Predictor._run = timed
last = click()
print(json.dumps([cold, warm, sum(spent) / last]))
viewer.close()
"""


def measure(runs: int, size_px: int) -> tuple[float, float, float]:
    """Median seconds of a cold and of a warm click, and the network's share of the last one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.npy"
        np.save(path, mosaic(size_px, "images"))
        # Whatever models the user has stay out of it.
        alone = os.environ | {"NAPARI_UNET_MODELS": folder}
        done = [run_python(RUN, str(path), env=alone) for _ in range(runs)]
    cold, warm, network = (statistics.median(run[i] for run in done) for i in range(3))
    return cold, warm, network


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    cold, warm, network = measure(options.runs, options.size)
    print(f"cold {cold:.2f} s, warm {warm:.2f} s, of which the network {network:.0%}")


if __name__ == "__main__":
    main()
