"""How long does a slider of the dock take to show other cells?

    NAPARI_UNET_DATA=FOLDER python -m benchmarks.sliders [--sizes 1024 2048] [--moves 12]

"Fewer or more cells" is moved to one place after another. Printed are the shortest and the median
time until the labels are drawn, and what of it the main thread computed. A pause of 10 ms, in which
the program waits for the next move, is part of the time.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.common import ROOT, mosaic, run_python

RUN = "import sys; from benchmarks.sliders import measure; measure(sys.argv[1], sys.argv[2])"
# Moves that are far apart, so that each changes some cells.
PLACES = (60, 30, 75, 45)


def measure(image_path: str, moves: str) -> None:
    """Print the times of one image as JSON: milliseconds for each move, and of the main thread."""
    import json

    import napari
    from qtpy.QtWidgets import QApplication

    sys.path.insert(0, str(ROOT / "tests"))
    viewer = napari.Viewer()
    viewer.add_image(np.load(image_path))
    _, dock = viewer.window.add_plugin_dock_widget("napari-unet")

    def rest(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.001)
            if dock.is_busy or dock.is_counting:
                end = time.monotonic() + seconds

    dock.segment_button.click()
    rest(1.5)
    told: list[str] = []
    dock.controller.redrawing.told.connect(told.append)
    taken, computed = [], []
    for number in range(int(moves)):
        told.clear()
        begin, own = time.perf_counter(), time.thread_time()
        dock.decode.cells.setValue(PLACES[number % len(PLACES)])
        while not told:
            QApplication.processEvents()
            time.sleep(0.001)
        # What was told is drawn by the next events.
        QApplication.processEvents()
        taken.append(1000 * (time.perf_counter() - begin))
        computed.append(1000 * (time.thread_time() - own))
        rest(0.5)
    print(json.dumps([taken, computed]), flush=True)
    viewer.close()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048])
    parser.add_argument("--moves", type=int, default=12)
    options = parser.parse_args()
    print("| plane | shortest (ms) | median (ms) | main thread, shortest (ms) |")
    print("|---|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        # Whatever models the user has stay out of it.
        alone = os.environ | {"NAPARI_UNET_MODELS": str(Path(folder) / "models")}
        for size in options.sizes:
            np.save(Path(folder) / "image.npy", mosaic(size, "images"))
            path = str(Path(folder) / "image.npy")
            taken, computed = run_python(RUN, path, str(options.moves), env=alone)
            print(f"| {size} x {size} | {min(taken):.0f} | {median(taken):.0f} |", end="")
            print(f" {min(computed):.0f} |")


if __name__ == "__main__":
    main()
