"""A folder of 40 images: three corrected, fine-tuned, the rest begun, killed, opened again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_unet.projects.project import Project

WORK = """
import sys, time
from pathlib import Path
import napari, numpy as np
from qtpy.QtWidgets import QApplication
from napari_unet.config import FinetuneConfig
from napari_unet.plugin.dock.widget import SegmentWidget

def settle():
    start = time.monotonic()
    while time.monotonic() - start < 0.1 or widget.is_busy or widget.is_counting:
        QApplication.processEvents()
        time.sleep(0.005)

viewer = napari.Viewer()
widget = SegmentWidget(viewer)
viewer.window.add_dock_widget(widget)
widget.model.value = "tiny"
widget.queue.open_folder(Path(sys.argv[1]))
settle()
for n in range(3):
    widget.segment_button.click()
    settle()
    layer = widget.labels.value
    layer.selected_label = 500 + n
    layer.paint((48, 40 + n), 7)
    settle()
    np.save(f"{sys.argv[2]}/{n}.npy", layer.data)
    if n < 2:
        widget.queue.following.click()
        settle()
controller = widget.controller
config = FinetuneConfig(steps=3, tile_px=96, device="cpu")
controller.finetune(widget.image.value, widget.labels.value, "tiny", config)
settle()
print("taught", widget.queue.queue.project.entry(widget.queue.queue.names[0]).taught, flush=True)
widget.model.value = "tiny"
print("rest", flush=True)
widget.queue.segment_rest.click()
settle()
"""


def images(n, side=96):
    """Crops of images of nuclei where they are on this computer, else drawn cells."""
    place = os.environ.get("NAPARI_UNET_DATA")
    files = sorted(Path(place, "dsb2018", "images").glob("*.png")) if place else []
    if files:
        import imageio.v3 as iio

        for path in files[:n]:
            picture = np.asarray(iio.imread(path))
            grey = picture if picture.ndim == 2 else picture[..., :3].mean(-1)
            yield grey[:side, :side].astype(np.uint8)
        return
    y, x = np.mgrid[:side, :side]
    rng = np.random.default_rng(0)
    for _ in range(n):
        image = rng.integers(10, 30, (side, side), np.uint8)
        for cy, cx in rng.integers(10, side - 10, (5, 2)):
            image[(y - cy) ** 2 + (x - cx) ** 2 <= 49] = 220
        yield image


@pytest.mark.slow
def test_nothing_is_lost_where_napari_is_killed(docked, settle, models_folder, tmp_path):
    folder, known = tmp_path / "images", tmp_path / "known"
    for path in (folder, known):
        path.mkdir()
    for n, image in enumerate(images(40)):
        tifffile.imwrite(folder / f"{n:02}.tif", image)
    # The dock first, for it brings the model.
    widget = docked()
    environment = os.environ | {"NAPARI_CONFIG": str(tmp_path / "settings.yaml")}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", WORK, str(folder), str(known)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        assert process.stdout.readline() == "taught ('tiny',)\n"
        assert process.stdout.readline() == "rest\n"
        labels = folder / "labels"
        end = time.monotonic() + 120
        while len(list(labels.glob("*_labels.tif"))) < 12 and time.monotonic() < end:
            time.sleep(0.02)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        process.stdout.close()

    widget.model.value = "tiny"
    widget.queue.open_folder(folder)
    settle(widget)
    settle(widget)
    # The fine-tune had put the most doubtful images first, after the one that was open.
    assert widget.queue.place.text() == "1 of 40: ◑ corrected"
    assert widget.queue.queue.name == "02.tif"
    np.testing.assert_array_equal(widget.labels.value.data, np.load(known / "2.npy"))
    assert "corrected" in widget.correcting.count.text()
    project = widget.queue.queue.project
    begun = {name for name in project.names if project.entry(name).state == "segmented"}
    # Labels may have come to their place before the json file said so: they are made again.
    assert 8 <= len(begun) < 37
    before = {name: project.label_path(name).stat().st_mtime_ns for name in begun}
    widget.queue.segment_rest.click()
    settle(widget)
    settle(widget)
    states = [project.entry(name).state for name in sorted(project.names)]
    assert states == ["corrected"] * 3 + ["segmented"] * 37
    # What was done before is not done again.
    assert before == {name: project.label_path(name).stat().st_mtime_ns for name in begun}
    again = Project(folder)
    for n, name in enumerate(sorted(again.names)[:3]):
        kept = again.read_labels(name, again.read(name))
        np.testing.assert_array_equal(kept, np.load(known / f"{n}.npy"))
        assert again.entry(name).taught == ("tiny",)
        assert again.corrections(name) is not None
    assert not list(folder.glob("labels/.napari*"))
