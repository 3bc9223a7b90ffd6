"""Takes the pictures of `dock.md`: the four steps of the dock on a drawn image, light and dark.

python docs/make_pictures.py writes docs/images/dock-*.png: the window at 1366 x 768, and the dock
alone with twice as many pixels. It needs a display, and takes a few minutes on a CPU.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import napari
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from qtpy.QtCore import QPoint
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QApplication
from scipy import ndimage

from napari_unet.learning import validation

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "images"
sys.path.insert(0, str(ROOT / "tests"))

from hands import Hand  # noqa: E402
from pictures import save_small  # noqa: E402

LIMIT = 150_000
SIDE = 420
# Half axes of a drawn nucleus, in pixels.
AXES = (11.0, 15.0)


def nuclei(seed: int = 3) -> tuple[NDArray[np.uint8], list[tuple[float, float]]]:
    """Draw blurred nuclei (Y, X) on a dark ground; some overlap, some are dim. Their centres."""
    rng = np.random.default_rng(seed)
    image, centres = np.full((SIDE, SIDE), 12.0), []
    for y in range(30, SIDE - 20, 48):
        for x in range(30, SIDE - 20, 48):
            at = np.array([y, x]) + rng.uniform(-9, 9, 2)
            draw(image, at, rng)
            centres.append(at)
            if rng.random() < 0.2:
                centres.append(np.add(at, (13, 12)))
                draw(image, centres[-1], rng)
    picture = ndimage.gaussian_filter(image, 1.6).clip(0, 255).astype(np.uint8)
    return picture, [(float(y), float(x)) for y, x in centres]


def draw(image: NDArray[np.float64], at: NDArray[np.float64], rng: np.random.Generator) -> None:
    """Draw an ellipse of one brightness into an image, turned at random."""
    turn, axes = rng.uniform(0, np.pi), rng.uniform(*AXES, 2)
    way = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    place = np.moveaxis(np.indices(image.shape), 0, -1) - at
    inside = np.linalg.norm(place @ way.T / axes, axis=-1) <= 1
    image[inside] = np.maximum(image[inside], rng.choice([50.0, 95.0, 150.0]))


def pump(seconds: float = 0.3) -> None:
    """Let Qt work."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        QApplication.processEvents()
        time.sleep(0.005)


def wait(holds: Callable[[], bool], seconds: float = 900.0) -> None:
    """Let Qt work until something holds."""
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        pump(0.1)


def pixels(image: QImage) -> Image.Image:
    """A picture of Qt as one of Pillow."""
    image = image.convertToFormat(QImage.Format.Format_RGB888)
    data = bytes(image.constBits().asstring(image.sizeInBytes()))
    size = image.width(), image.height()
    return Image.frombuffer("RGB", size, data, "raw", "RGB", image.bytesPerLine(), 1)


def main() -> None:
    """Work through the four steps."""
    os.environ["NAPARI_UNET_MODELS"] = tempfile.mkdtemp()
    os.environ["XDG_CONFIG_HOME"] = tempfile.mkdtemp()
    image, centres = nuclei()
    viewer = napari.Viewer()
    viewer.window.resize(1366, 768)
    viewer.add_image(image, name="nuclei")
    _, dock = viewer.window.add_plugin_dock_widget("napari-unet")

    def settle() -> None:
        pump()
        wait(lambda: not (dock.is_busy or dock.is_counting))
        pump()

    def take(name: str) -> None:
        for theme in ("light", "dark"):
            viewer.theme = theme
            pump(0.8)
            window = viewer.window.screenshot(canvas_only=False, flash=False)
            path = FOLDER / f"dock-{name}-{theme}.png"
            save_small(Image.fromarray(window[..., :3]), path, LIMIT)
            large = QPixmap(2 * dock.size())
            large.setDevicePixelRatio(2)
            dock.render(large, QPoint())
            path = FOLDER / f"dock-{name}-{theme}@2x.png"
            save_small(pixels(large.toImage()), path, LIMIT)

    dock.segment_button.click()
    settle()
    take("1-find")

    hand, labels = Hand(viewer), dock.labels.value
    found = [int(labels.data[round(y), round(x)]) for y, x in centres]
    wrong = [at for at, cell in zip(centres, found, strict=True) if found.count(cell) > 1][:4]
    # Of two nuclei that were found as one, the cell is removed, and both are added.
    for y, x in wrong:
        if labels.data[round(y), round(x)]:
            hand.point((y, x))
            hand.press("R")
            settle()
    hand.press("A")
    for y, x in wrong:
        hand.drag([(y - AXES[1], x - AXES[1]), (y + AXES[1], x + AXES[1])])
        hand.press("C")
        settle()
    hand.press("Escape")
    pump()
    for y, x in [at for at in centres if labels.data[round(at[0]), round(at[1])]][:4]:
        hand.point((y, x))
        hand.press("C")
    settle()
    take("2-correct")

    # A busy computer takes fewer steps in a minute.
    validation.ENOUGH_STEPS = 1
    dock.finetune_button.click()
    settle()
    take("3-teach")

    if dock.last.again.isVisible():
        dock.last.again.click()
        settle()
    dock.measuring.measure.click()
    settle()
    take("4-results")
    print(len(wrong), "put right;", dock.last.note.text(), "|", dock.status.text())
    viewer.close()


if __name__ == "__main__":
    main()
