"""The demo, on a real image: segment, correct, fine-tune, and segment again."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray
from skimage import data, draw
from skimage.segmentation import find_boundaries

from napari_unet.config import FinetuneConfig
from napari_unet.core.cells.metrics import overlaps
from napari_unet.corrections.annotations import Annotated, PaintedPlane, corrections_of
from napari_unet.models.store import ModelStore
from napari_unet.service.segmentation import SegmentationService

# Nuclei of the tissue sample that were marked by hand as strokes of a brush: start (y, x), end
# (y, x) and radius, all in pixels. First come those of the brown epithelium, then those of the pale
# stroma.
NUCLEI = (
    ((186, 14), (202, 8), 5.0),
    ((116, 414), (107, 432), 4.5),
    ((207, 26), (217, 33), 6.0),
    ((186, 304), (172, 311), 5.5),
    ((214, 54), (230, 47), 5.0),
    ((146, 405), (146, 424), 5.0),
    ((270, 55), (265, 68), 5.0),
    ((126, 304), (127, 317), 5.0),
    ((191, 130), (204, 135), 4.0),
    ((285, 91), (283, 101), 5.0),
    ((212, 313), (194, 321), 5.5),
    ((167, 145), (189, 144), 3.5),
    ((255, 43), (243, 57), 4.5),
    ((82, 420), (82, 440), 6.0),
    ((236, 60), (235, 69), 3.0),
    ((254, 72), (246, 78), 4.0),
    ((302, 95), (309, 119), 3.5),
    ((163, 120), (176, 119), 3.5),
    ((176, 98), (196, 102), 3.0),
    ((130, 368), (130, 384), 4.0),
    ((85, 331), (84, 341), 3.0),
    ((80, 368), (72, 388), 4.5),
    ((194, 425), (200, 440), 4.0),
    ((54, 323), (53, 331), 4.5),
    ((208, 331), (214, 333), 4.0),
    ((265, 170), (268, 175), 3.5),
    ((252, 290), (250, 302), 3.5),
    ((271, 267), (268, 273), 3.0),
    ((265, 254), (265, 263), 2.0),
    ((297, 207), (294, 213), 2.5),
    ((321, 192), (331, 193), 2.5),
    ((332, 204), (338, 207), 2.5),
    ((317, 240), (325, 241), 3.0),
    ((346, 187), (366, 190), 3.0),
    ((374, 192), (387, 196), 2.5),
    ((349, 222), (360, 224), 2.5),
    ((374, 225), (383, 226), 2.5),
    ((391, 228), (391, 228), 3.0),
    ((395, 176), (391, 185), 3.5),
    ((296, 282), (291, 293), 3.5),
    ((280, 289), (280, 301), 3.0),
    ((383, 236), (397, 240), 3.0),
    ((266, 192), (267, 204), 2.0),
    ((273, 120), (281, 122), 2.5),
    ((300, 134), (312, 138), 2.5),
    ((244, 150), (257, 160), 3.0),
)
# Number of missed nuclei that the demo paints.
_PAINTED = 8
# Budget of the fine-tune in seconds.
_SECONDS = 30.0
# The shipped version of the model, so that the demo is the same whatever the user has trained.
_MODEL = "nuclei@1"
# Smallest IoU with a stroke at which a nucleus counts as found. It is below the usual 0.5, because
# strokes are rougher than outlines.
_FOUND = 0.3

Labels = NDArray[np.int32]


def run_in_viewer(out: Path) -> int:
    """Open napari with the sample and the dock, and return the exit status.

    Without a display, `run_headless` is called instead.
    """
    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        print("there is no display: the same story goes into pictures", file=sys.stderr)
        return run_headless(out)
    import napari

    viewer = napari.Viewer()
    viewer.open_sample("napari-unet", "tissue")
    viewer.window.add_plugin_dock_widget("napari-unet")
    napari.run()
    return 0


def run_headless(out: Path) -> int:
    """Segment the sample, paint missed nuclei, fine-tune and segment again; write pictures.

    The user's models stay as they are, because the new version goes into a temporary store. Returns
    the exit status.

    Parameters
    ----------
    out
        Folder for the pictures, which is made if it does not exist.
    """
    image = data.immunohistochemistry()
    out.mkdir(parents=True, exist_ok=True)
    parent = ModelStore().find(_MODEL).path
    with tempfile.TemporaryDirectory() as folder:
        service = SegmentationService(ModelStore(Path(folder)))
        try:
            first = service.segment(image, "YXC", parent).wait()
            painted, corrected = _paint_missed(first.labels)
            plane = PaintedPlane((), first.labels, corrected)
            config = FinetuneConfig(seconds=_SECONDS)
            job = service.finetune(
                [Annotated(image, "YXC", corrections_of([plane], ring_px=8))], parent, config
            )
            learnt = job.wait()
            second = service.segment(image, "YXC", learnt.model.path).wait()
        finally:
            service.close()
    for name, labels in (
        ("1-image", np.zeros_like(first.labels)),
        ("2-segmented", first.labels),
        ("3-painted", corrected),
        ("4-segmented-again", second.labels),
    ):
        iio.imwrite(out / f"{name}.png", outlined(image, labels))
    others = [i for i in range(len(NUCLEI)) if i not in painted]
    print(
        f"{first.n_cells} cells found on {first.compute}\n"
        f"{len(painted)} missed nuclei painted with a brush, {learnt.steps} steps learnt in "
        f"{job.seconds:.0f} s\n"
        f"{second.n_cells} cells found now\n"
        f"hand-marked nuclei found: painted {found(first.labels, painted)} -> "
        f"{found(second.labels, painted)} of {len(painted)}, others "
        f"{found(first.labels, others)} -> {found(second.labels, others)} of {len(others)}\n"
        f"pictures: {out.resolve()}"
    )
    return 0


def outlined(image: NDArray[np.uint8], labels: Labels, zoom: int = 2) -> NDArray[np.uint8]:
    """Return an RGB image (Y, X, 3), enlarged by `zoom`, with outlines of its cells in yellow."""
    large = np.kron(image, np.ones((zoom, zoom, 1), np.uint8))
    edges = find_boundaries(np.kron(labels, np.ones((zoom, zoom), np.int32)), mode="inner")
    large[edges] = 255, 230, 0
    return large


def _paint_missed(labels: Labels) -> tuple[list[int], Labels]:
    """Paint the first hand-marked nuclei that were missed; return their numbers and the labels.

    Each gets an id of its own.
    """
    corrected = labels.copy()
    painted: list[int] = []
    for number in range(len(NUCLEI)):
        if len(painted) < _PAINTED and not found(labels, [number]):
            painted.append(number)
            corrected[stroke_mask(number, labels.shape)] = corrected.max() + 1
    return painted, corrected


def found(labels: Labels, numbers: list[int]) -> int:
    """Return how many of these hand-marked nuclei have a cell with an IoU of 0.3 or more."""
    strokes = np.zeros(labels.shape, np.int32)
    for number in numbers:
        strokes[stroke_mask(number, labels.shape)] = number + 1
    iou, _ = overlaps(strokes, labels)
    return int((iou.max(axis=1, initial=0) >= _FOUND).sum())


def stroke_mask(number: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the mask of the pixels under the stroke of one hand-marked nucleus."""
    start, stop, radius = NUCLEI[number]
    mask = np.zeros(shape, bool)
    for y, x in zip(*draw.line(*start, *stop), strict=True):
        mask[draw.disk((y, x), radius + 0.5, shape=shape)] = True
    return mask
