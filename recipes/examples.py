"""Draw where a model fails worst, or what it usually does.

    python recipes/examples.py MODEL OUT.png FOLDER [FOLDER ...] [--typical] [--found]
        [--only NAME] [--images 4] [--side 160]

A FOLDER holds images/ and masks/, as those that the recipes make. Each gives a row: the images of
which the smallest share is right (AP at 0.5), each shown where most is wrong, or with `--typical`
those in the middle of the order, each shown where most cells are. Each is shown twice: as it is,
and with the true outlines in green, the found ones in magenta, and white where they agree;
`--found` draws the found ones alone, `--only` takes one image.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import find_boundaries

from napari_unet.core.cells.metrics import Scores, overlaps
from napari_unet.corrections.labelled_folders import list_pairs, read_pair
from napari_unet.models.store import ModelStore, Reference
from napari_unet.service.segmentation import SegmentationService

# Screens show a pixel of the image as so many.
ENLARGED = 2
GAP_PX = 4


def wrong(truth: NDArray[Any], found: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels of cells that were missed, and of those that are none."""
    iou, _ = overlaps(truth, found)
    sides = []
    for labels, best in ((truth, iou.max(1, initial=0)), (found, iou.max(0, initial=0))):
        ids = np.unique(labels[labels > 0])
        sides.append(np.isin(labels, ids[best <= 0.5]))
    return sides[0] | sides[1]


def window(where: NDArray[np.bool_], side: int) -> tuple[slice, slice]:
    """The square in which most pixels are set."""
    sizes = [min(side, n) for n in where.shape]
    share = ndimage.uniform_filter(where.astype(np.float32), sizes, mode="constant")
    middle = np.unravel_index(int(share.argmax()), share.shape)
    starts = (
        int(np.clip(m - size // 2, 0, n - size))
        for m, size, n in zip(middle, sizes, where.shape, strict=True)
    )
    y, x = (slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
    return y, x


def panel(
    image: NDArray[Any], truth: NDArray[Any], found: NDArray[Any], options: argparse.Namespace
) -> NDArray[np.uint8]:
    """Both views of a window, side by side, (side, 2 side, 3) and enlarged."""
    side = options.side
    box = window(truth > 0 if options.typical else wrong(truth, found), side)
    part = (image if image.ndim == 3 else image[..., None])[box][..., :3].astype(float)
    low, high = np.percentile(part, (0.5, 99.5))
    plain = np.broadcast_to(((part - low) / max(high - low, 1)).clip(0, 1), (*part.shape[:2], 3))
    plain = np.kron(plain, np.ones((ENLARGED, ENLARGED, 1)))
    lines = [
        find_boundaries(np.kron(labels[box], np.ones((ENLARGED, ENLARGED), int)), mode="inner")
        for labels in (truth, found)
    ]
    drawn = plain * 0.7
    colours = [(lines[1], (1, 0, 1))]
    if not options.found:
        colours = [(lines[0], (0, 1, 0)), *colours, (lines[0] & lines[1], (1, 1, 1))]
    for where, colour in colours:
        drawn[where] = colour
    out = np.ones((ENLARGED * side, 2 * ENLARGED * side, 3))
    height, width = plain.shape[:2]
    out[:height, :width] = plain
    out[:height, ENLARGED * side : ENLARGED * side + width] = drawn
    return (255 * out).astype(np.uint8)


def row(
    service: SegmentationService, model: Reference, folder: Path, options: argparse.Namespace
) -> list[NDArray[np.uint8]]:
    """The worst images of a folder, or those in the middle."""
    seen = []
    for path, masks in list_pairs(folder / "images", folder / "masks"):
        if options.only not in ("", path.stem):
            continue
        image, truth = read_pair(path, masks)
        found = service.segment(image.data, image.axes, model).wait().labels
        scores = Scores()
        scores.add(truth, found)
        seen.append((scores.summary()["ap50"], path.name, image.data, truth, found))
    first = (len(seen) - options.images + 1) // 2 if options.typical else 0
    shown = sorted(seen, key=lambda each: each[:2])[max(first, 0) :][: options.images]
    for ap, name, *_ in shown:
        print(f"{folder.name:14} {name:40} AP {ap:.2f}", flush=True)
    return [panel(image, truth, found, options) for _, _, image, truth, found in shown]


def main() -> None:
    """Segment, sort, draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a file, or the name of a model")
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--typical", action="store_true", help="those in the middle of the order")
    parser.add_argument("--found", action="store_true", help="no true outlines")
    parser.add_argument("--only", default="", help="name of the one image to draw")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--side", type=int, default=160)
    options = parser.parse_args()
    model = Path(options.model) if Path(options.model).exists() else options.model
    service = SegmentationService(ModelStore())
    rows = [row(service, model, part, options) for part in options.folders]
    service.close()
    tall, wide = ENLARGED * options.side + GAP_PX, 2 * ENLARGED * options.side + GAP_PX
    sheet = np.full((len(rows) * tall - GAP_PX, options.images * wide - GAP_PX, 3), 255, np.uint8)
    for y, panels in enumerate(rows):
        for x, drawn in enumerate(panels):
            sheet[y * tall :, x * wide :][: drawn.shape[0], : drawn.shape[1]] = drawn
    iio.imwrite(options.out, sheet)


if __name__ == "__main__":
    main()
