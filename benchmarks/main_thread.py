"""How long does the viewer's main thread stand still while a person works in the dock?

    NAPARI_UNET_DATA=FOLDER python -m benchmarks.main_thread [--sizes 2048 4096] [--runs 3]

A timer of 10 ms runs in the viewer. Where it comes late, the main thread was busy: nothing was
drawn, and no key or mouse was heard. Printed is, for each step, the gap in which the main thread
computed longest: on a busy computer it also waits for the processor. How much of that were calls of
OpenGL is given beside it: without a graphics card, OpenGL draws on the processor. Of several runs
the one counts that computed least. Rows that begin with "napari" are without the dock.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

from benchmarks.common import ROOT, mosaic, run_python
from napari_unet.projects.project import Project

RUN = "import sys; from benchmarks.main_thread import measure; measure(sys.argv[1], sys.argv[2])"
# Long enough for what follows a step in the main thread: drawing, counting what was painted.
REST_S = 1.5

# How long it was, what of that the main thread computed, and what of this were calls of OpenGL.
Gap = tuple[float, float, float]


class Watch:
    """Measures the gaps between the ticks of a timer."""

    def __init__(self) -> None:
        from qtpy.QtCore import Qt, QTimer
        from vispy.gloo.glir import GlirParser

        self.gaps: list[Gap] = []
        self._drawing = 0.0
        parse = GlirParser.parse

        def timed(parser: GlirParser, commands: object) -> None:
            begin = time.thread_time()
            parse(parser, commands)
            self._drawing += time.thread_time() - begin

        GlirParser.parse = timed
        self._last = self._now()
        self._timer = QTimer()
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self._tick)
        self._timer.start(10)

    def longest_ms(self) -> Gap:
        """The gap since the last call in which the main thread computed longest."""
        found, self.gaps = max(self.gaps, key=_computed, default=(0.0, 0.0, 0.0)), []
        return 1000 * found[0], 1000 * found[1], 1000 * found[2]

    def _now(self) -> Gap:
        return time.perf_counter(), time.thread_time(), self._drawing

    def _tick(self) -> None:
        (wall, own, drawing), self._last = self._last, self._now()
        self.gaps.append((self._last[0] - wall, self._last[1] - own, self._last[2] - drawing))


def _computed(gap: Sequence[float]) -> float:
    return gap[1]


def measure(image_path: str, seconds: str) -> None:
    """Print the gaps of one image as JSON, by step."""
    import json

    import napari
    from qtpy.QtWidgets import QApplication

    sys.path.insert(0, str(ROOT / "tests"))
    from hands import Hand

    viewer = napari.Viewer()
    image = viewer.add_image(np.load(image_path))
    labels = np.load(image_path.replace("image", "masks"))
    found: dict[str, Gap] = {}

    def rest(busy: Callable[[], bool] = lambda: False) -> None:
        end = time.monotonic() + REST_S
        while time.monotonic() < end:
            QApplication.processEvents()
            time.sleep(0.001)
            if busy():
                end = time.monotonic() + REST_S

    def stroke() -> None:
        """As large as a cell, in the middle."""
        layer = viewer.layers.selection.active
        layer.mode, layer.brush_size = "paint", 10
        middle = image.data.shape[0] / 2
        Hand(viewer).drag([(middle, middle), (middle + 8, middle + 20)])

    rest()
    watch = Watch()

    def step(
        name: str, act: Callable[[], object], busy: Callable[[], bool] = lambda: False
    ) -> None:
        watch.longest_ms()
        act()
        rest(busy)
        found[name] = watch.longest_ms()

    step("napari: adds the labels", lambda: viewer.add_labels(labels))
    step("napari: a stroke", stroke)
    step("napari: removes the labels", lambda: viewer.layers.remove(viewer.layers[-1]))
    viewer.layers.selection.active = image
    _, dock = viewer.window.add_plugin_dock_widget("napari-unet")
    follower = dock.controller.follower

    def arrives(*_: object) -> None:
        """The first layer that comes ends the step before it."""
        if "segment: while it runs" not in found:
            found["segment: while it runs"] = watch.longest_ms()

    viewer.layers.events.inserting.connect(arrives)
    dock.controller.renewed.connect(arrives)
    for name in ("first labels arrive", "labels arrive again"):
        found.pop("segment: while it runs", None)
        step(name, dock.segment_button.click, lambda: dock.is_busy or dock.is_counting)
    step("the first stroke", stroke, lambda: dock.is_counting)

    began = []

    def begins(progress: object) -> None:
        if progress.loss is not None and not began:
            began.append(True)
            found["fine-tune: begins"] = watch.longest_ms()

    def ends(*_: object) -> None:
        found["fine-tune: while it runs"] = watch.longest_ms()

    follower.progressed.connect(begins)
    dock.budget.value = float(seconds)
    # The last gap before `ended` is that of the end itself, which has just begun.
    follower.ended.connect(ends)
    step("fine-tune: ends", dock.finetune_button.click, lambda: dock.is_busy or dock.is_counting)
    follower.progressed.disconnect(begins)
    follower.ended.disconnect(ends)

    dock.queue.open_folder(_folder(Path(image_path).parent, image.data, labels))
    rest(lambda: dock.is_busy or dock.is_counting)
    for _ in range(2):
        # The first time, modules are imported.
        step("the next image of a folder", dock.queue.following.click, lambda: dock.is_busy)
    print(json.dumps(found), flush=True)
    viewer.close()


def _folder(place: Path, image: NDArray[Any], labels: NDArray[Any]) -> Path:
    """Return a folder of images that were segmented."""
    folder = Path(tempfile.mkdtemp(dir=place))
    for n in range(3):
        iio.imwrite(folder / f"{n}.tif", np.roll(image, 100 * n, axis=1))
    project = Project(folder)
    for n, name in enumerate(project.names):
        project.save_labels(name, np.roll(labels, 100 * n, axis=1), project.read(name))
        project.segmented(name, "nuclei@1", int(labels.max()), 0.1)
    return folder


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2048, 4096])
    parser.add_argument("--seconds", type=float, default=30.0, help="of the fine-tune")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()

    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        # Whatever models the user has stay out of it.
        alone = os.environ | {"NAPARI_UNET_MODELS": str(Path(folder) / "models")}
        for size in options.sizes:
            for kind in ("image", "masks"):
                np.save(Path(folder) / f"{kind}.npy", mosaic(size, kind.replace("ge", "ges")))
            arguments = str(Path(folder) / "image.npy"), str(options.seconds)
            found = [run_python(RUN, *arguments, env=alone) for _ in range(options.runs)]
            runs[size] = {
                step: min((run[step] for run in found), key=_computed) for step in found[0]
            }
    print("Milliseconds: the gap (computed in it, calls of OpenGL in that)")
    print("| step |", " | ".join(f"{size} x {size}" for size in runs), "|")
    print("|---|", "---:|" * len(runs), sep="")
    for name in runs[options.sizes[0]]:
        cells = ("{:.0f} ({:.0f}, {:.0f})".format(*run[name]) for run in runs.values())
        print(f"| {name} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
