"""How long does the dock take to open, over napari's own start?

    python -m benchmarks.dock_opening [--runs 5]

Each run is a fresh interpreter that opens a viewer, then the dock through napari's plugin menu.
"""

from __future__ import annotations

import argparse
import statistics

from benchmarks.common import run_python

RUN = """
import json, sys, time
start = time.perf_counter()
import napari
from qtpy.QtWidgets import QApplication
viewer = napari.Viewer()
QApplication.processEvents()
opened = time.perf_counter()
viewer.window.add_plugin_dock_widget("napari-unet")
QApplication.processEvents()
docked = time.perf_counter()
print(json.dumps([opened - start, docked - opened, "torch" in sys.modules]))
viewer.close()
"""


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    runs = [run_python(RUN) for _ in range(parser.parse_args().runs)]
    viewer, dock = (statistics.median(run[i] for run in runs) for i in (0, 1))
    print(
        f"napari {viewer:.2f} s, the dock {1000 * dock:.0f} ms more "
        f"({dock / viewer:.1%}); torch loaded: {any(run[2] for run in runs)}"
    )


if __name__ == "__main__":
    main()
