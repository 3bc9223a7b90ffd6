"""Takes the pictures of `tutorials/`, by doing what each page says, in the real dock.

python docs/make_tutorials.py [NAME...] writes docs/images/tutorial-*.png, of all tutorials or of
those that are named. It needs a display; all of them take about five minutes on a CPU. Those of
`tutorials/tissue.md` are taken by tests/stories/test_story.py.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import napari
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from napari_unet.io.images import write_labels
from napari_unet.learning import validation
from napari_unet.plugin import drawn_images

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "images"
sys.path[:0] = [str(ROOT / "docs"), str(ROOT / "tests")]

from make_pictures import pump, wait  # noqa: E402

from hands import Hand  # noqa: E402
from pictures import save_small, time_each_step  # noqa: E402


class Stage:
    """A viewer with the dock, a folder for files, and one for pictures."""

    def __init__(self, viewer: napari.Viewer, files: Path, pictures: Path) -> None:
        self.viewer, self.files, self.pictures = viewer, files, pictures
        viewer.window.resize(1250, 800)
        _, self.dock = viewer.window.add_plugin_dock_widget("napari-unet")

    def open(self, sample: str) -> Any:
        """Open a sample; its layer."""
        (layer,) = self.viewer.open_sample("napari-unet", sample)
        self.settle()
        return layer

    def settle(self) -> None:
        """Wait until the dock has nothing to do."""
        pump()
        wait(lambda: not (self.dock.is_busy or self.dock.is_counting), 500)
        pump()

    def click(self, button: Any) -> None:
        """Click a button of the dock, and wait for what it does."""
        assert button.isEnabled(), button.toolTip()
        button.click()
        self.settle()

    def segment(self) -> Any:
        """Click Segment; the data of the labels."""
        self.click(self.dock.segment_button)
        return self.dock.labels.value.data

    def finetune(self, seconds: float = 30.0) -> None:
        """Click Fine-tune, and wait."""
        # A busy computer takes fewer steps in this time.
        validation.ENOUGH_STEPS = 1
        self.dock.budget.value = seconds
        self.click(self.dock.finetune_button)

    def take(self, name: str) -> None:
        """Take a picture of the window."""
        pump(0.8)
        pixels = self.viewer.window.screenshot(canvas_only=False, flash=False)
        picture = Image.fromarray(pixels[..., :3])
        save_small(picture, self.pictures / f"tutorial-{name}.png")


def nuclei(stage: Stage) -> None:
    """Segment, look at a doubtful cell, measure."""
    stage.open("nuclei")
    labels = stage.segment()
    truth = drawn_images.nuclei()[1]
    assert abs(len(np.unique(labels)) - len(np.unique(truth))) < 10
    stage.take("nuclei-1-segmented")
    stage.click(stage.dock.measuring.measure)
    stage.take("nuclei-2-measured")


def phase_contrast(stage: Stage) -> None:
    """Choose the model for phase contrast."""
    stage.open("phase")
    stage.dock.model.value = "phase"
    assert stage.segment().max() > 20
    stage.take("phase-contrast")


def stack(stage: Stage) -> None:
    """Segment all planes, with connected cells, and look at them in 3D."""
    stage.open("stack")
    stage.dock.advanced.scope.value = "everything"
    labels = stage.segment()
    # A cell has one number on its planes.
    assert len(np.unique(labels)) - 1 < 1.3 * drawn_images.stack()[1].max()
    stage.take("stack-1-connected")
    stage.viewer.dims.ndisplay = 3
    getattr(stage.viewer, "scene", stage.viewer).camera.angles = (0, 25, 60)
    stage.take("stack-2-in-3d")
    stage.viewer.dims.ndisplay = 2


def movie(stage: Stage) -> None:
    """Segment all times, follow the cells, show their paths."""
    stage.open("movie")
    stage.dock.advanced.scope.value = "everything"
    labels = stage.segment()
    assert len(np.intersect1d(labels[0], labels[4])) > 20
    stage.viewer.dims.set_point(0, 9)
    stage.click(stage.dock.measuring.exporting.tracks_button)
    stage.take("movie")


def channels(stage: Stage) -> None:
    """Choose the channel of the nuclei."""
    stage.open("channels")
    stage.dock.channel.choose(1)
    stage.viewer.dims.set_point(0, 1)
    labels = stage.segment()
    assert abs(len(np.unique(labels)) - 1 - drawn_images.channels()[1].max()) < 8
    stage.take("channels")


def own_labels(stage: Stage) -> None:
    """Lay labels from a file over the image, and teach the model with them."""
    stage.open("phase")
    path = stage.files / "my-labels.tif"
    write_labels(path, drawn_images.phase_contrast()[1], "YX")
    stage.dock.measuring.exporting.open_labels(path)
    stage.settle()
    stage.take("own-labels-1-imported")
    stage.finetune()
    stage.take("own-labels-2-taught")


def folder(stage: Stage) -> None:
    """Work through the images of a folder; have the rest segmented."""
    images = stage.files / "images"
    images.mkdir()
    whole = drawn_images.nuclei()[0]
    for n, name in enumerate(("day-1", "day-2", "day-3", "day-4")):
        rows, columns = 256 * (n // 2), 256 * (n % 2)
        piece = whole[rows : rows + 256, columns : columns + 256]
        tifffile.imwrite(images / f"{name}.tif", piece)
    stage.click(stage.dock.measuring.files)
    dialog = stage.dock.measuring.dialog
    dialog.choose([images])
    stage.click(dialog.queue)
    stage.segment()
    hand = Hand(stage.viewer)
    hand.point(tuple(np.argwhere(stage.dock.labels.value.data)[2000]))
    hand.press("C")
    stage.settle()
    stage.click(stage.dock.queue.segment_rest)
    written = sorted(path.name for path in (images / "labels").iterdir())
    assert written == [f"day-{n}_labels.tif" for n in (1, 2, 3, 4)]
    stage.take("folder")


@contextmanager
def serving(folder: Path) -> Iterator[Path]:
    """Run `napari-unet serve` on this computer; the file with the credentials."""
    file = folder / "server.json"
    options = ["--port", "0", "--folder", str(folder / "server"), "--credentials", str(file)]
    command = [sys.executable, "-m", "napari_unet.cli", "serve", "--as-root", *options]
    with subprocess.Popen(command) as process:
        wait(file.exists, 60)
        pump(3)
        try:
            yield file
        finally:
            process.terminate()


def server(stage: Stage) -> None:
    """Segment on a server."""
    stage.open("nuclei")
    with serving(stage.files) as file:
        stage.dock.advanced.server.choose(str(file))
        labels = stage.segment()
        assert labels.max() > 150
        assert ": CPU" in stage.dock.compute.text(), stage.dock.compute.text()
        stage.take("server")
        stage.dock.advanced.server.choose("")


def very_large(stage: Stage) -> None:
    """Segment an image from zarr to zarr on a cluster of two workers, and open the result."""
    from distributed import LocalCluster

    from napari_unet.cli import main

    image, labels = stage.files / "big.zarr", stage.files / "labels.zarr"
    pixels = drawn_images.nuclei(1024)[0]
    zarr.create_array(image, data=pixels, chunks=(512, 512))
    with LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster:
        command = ["segment", image, "-o", labels, "--scheduler", cluster.scheduler_address]
        assert main([str(word) for word in command]) == 0
    stage.viewer.add_image(pixels, name="big")
    stage.viewer.open(labels, plugin="napari-unet")
    camera = getattr(stage.viewer, "scene", stage.viewer).camera
    stage.viewer.reset_view()
    stage.take("very-large-1")
    camera.center, camera.zoom = (0, 512, 512), 1.6
    stage.take("very-large-2-closer")


TUTORIALS: tuple[Callable[[Stage], None], ...] = (
    nuclei,
    phase_contrast,
    stack,
    movie,
    channels,
    own_labels,
    folder,
    server,
    very_large,
)


def main() -> None:
    """Do what is named, or all; each in a viewer of its own."""
    os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp()
    named = sys.argv[1:]
    time_each_step(pytest.MonkeyPatch())
    for tutorial in TUTORIALS:
        if named and tutorial.__name__ not in named:
            continue
        with tempfile.TemporaryDirectory() as files:
            os.environ["NAPARI_UNET_MODELS"] = f"{files}/models"
            viewer = napari.Viewer()
            stage = Stage(viewer, Path(files), FOLDER)
            tutorial(stage)
            print(f"{tutorial.__name__}: {stage.dock.status.text()}", flush=True)
            viewer.close()


if __name__ == "__main__":
    main()
