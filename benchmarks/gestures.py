"""How good are the outlines and the splits that one gesture gives?

    NAPARI_UNET_DATA=FOLDER python -m benchmarks.gestures [--kinds hela ...] [--cells 30]

*Add*: for cells of each of the loop's kinds (`kinds.py`), a user drags a box of which each side is
off by up to 10 % of its length. The outline is compared with the true cell, as are the ellipse in
the box, and the vote of outline, ellipse and a random walk.

*Split*: the model that ships segments the images. Where a found cell holds most of two or more true
ones, a user draws a straight line between each two of them. The cell is mended if then each of them
is found with an IoU of at least 0.5. A perfect cut, along the true cells, is told beside: where it
does not mend a cell, its outline is wrong.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from contextlib import closing
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import random_walker, watershed

from benchmarks.common import data_folder
from benchmarks.kinds import KINDS, Labels, Sample, read
from benchmarks.user import ids, match
from napari_unet.core.axes import get_plane
from napari_unet.core.cells.gestures import box_of, split
from napari_unet.core.cells.outlines import Sides, around, propose
from napari_unet.models.store import ModelStore
from napari_unet.service.segmentation import SegmentationService

Mask = NDArray[np.bool_]
# How far the user's line begins and ends beside the cell, in pixels.
BEYOND_PX = 4
# A hand drags to a place beside the one that it means, by up to this fraction of a cell's side.
OFF = 0.1
# Cells of fewer pixels are specks at the border of an image.
LEAST_PX = 20
WAYS = ("outline", "ellipse", "vote")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    whole = [name for name, kind in KINDS.items() if not kind.is_partial]
    parser.add_argument("--kinds", nargs="+", default=whole, choices=whole)
    parser.add_argument("--cells", type=int, default=30, help="boxes for each kind")
    options = parser.parse_args()
    data_folder()
    samples = {name: [s for part in read(KINDS[name], 512) for s in part] for name in options.kinds}
    print("add: mean IoU, share of IoU >= 0.5, share of IoU >= 0.7")
    everything = np.concatenate([add(name, samples[name], options.cells) for name in samples])
    tell("all", everything)
    print("\nsplit: merged cells, mended by a perfect cut, by lines; lines that did not cut")
    counts = np.zeros(4, int)
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(SegmentationService(ModelStore(Path(folder)))) as service,
    ):
        for name in samples:
            of_kind = np.zeros(4, int)
            for sample in samples[name]:
                done = service.segment(sample.image, sample.axes, KINDS[name].model).wait()
                of_kind += split_merged(sample.truth, done.labels)
            print(f"{name:9}", *of_kind, flush=True)
            counts += of_kind
    print(f"{'all':9}", *counts)


def add(name: str, samples: list[Sample], n_cells: int) -> NDArray[np.float64]:
    """IoU (N, 3) of each way for cells of a kind."""
    rng = np.random.default_rng(0)
    cells = [(s, cell) for s in samples for cell in ids(s.truth)]
    cells = [cells[n] for n in rng.permutation(len(cells))]
    found: list[list[float]] = []
    for sample, cell in cells:
        mask = sample.truth == cell
        if mask.sum() >= LEAST_PX and len(found) < n_cells:
            plane = get_plane(sample.image, sample.axes, ())
            guesses = guess(plane, dragged(mask, rng))
            found.append([iou(guesses[way], mask) for way in WAYS])
    tell(name, np.array(found))
    return np.array(found)


def tell(name: str, found: NDArray[np.float64]) -> None:
    """Print the scores of each way."""
    parts = (
        f"{way} {ious.mean():.2f} {(ious >= 0.5).mean():.0%} {(ious >= 0.7).mean():.0%}"
        for way, ious in zip(WAYS, found.T, strict=True)
    )
    print(f"{name:9} {len(found):4} cells; {'; '.join(parts)}", flush=True)


def dragged(mask: Mask, rng: np.random.Generator) -> Sides:
    """The box that a user drags around a cell."""
    (top, bottom), (left, right) = ((side.start - 0.5, side.stop - 0.5) for side in box_of(mask))
    off = rng.uniform(-OFF, OFF, 4) * np.repeat([bottom - top, right - left], 2)
    return top + off[0], bottom + off[1], left + off[2], right + off[3]


def guess(plane: NDArray[np.generic], sides: Sides) -> dict[str, Mask]:
    """What each way makes of a box: (Y, X) bool."""
    outline = np.zeros(plane.shape[1:], bool)
    box, mask = propose(plane, sides)
    outline[box] = mask
    rows, columns = np.indices(outline.shape)
    distance = np.hypot(
        (2 * rows - sides[0] - sides[1]) / (sides[1] - sides[0]),
        (2 * columns - sides[2] - sides[3]) / (sides[3] - sides[2]),
    )
    ellipse = distance <= 1
    walk = np.zeros_like(ellipse)
    box = around(sides, outline.shape)
    gray = plane[:, *box].mean(0).astype(float)
    gray = (gray - gray.mean()) / (gray.std() + 1e-9)
    seeds = np.where(distance[box] < 0.5, 1, np.where(distance[box] > 1.25, 2, 0))
    with warnings.catch_warnings():
        # It recommends other solvers, which need more packages.
        warnings.simplefilter("ignore")
        walk[box] = random_walker(gray, seeds, beta=200, mode="cg_j", tol=1e-2) == 1
    vote = np.sum([outline, ellipse, walk], axis=0) >= 2
    return {"outline": outline, "ellipse": ellipse, "vote": vote}


def iou(one: Mask, other: Mask) -> float:
    """Overlap of two masks over what either holds."""
    return float((one & other).sum() / (one | other).sum())


def split_merged(truth: Labels, labels: Labels) -> tuple[int, int, int, int]:
    """Merged cells, how many a perfect cut and lines mend, and lines that did not cut through."""
    merged = perfect = mended = failed = 0
    for found in ids(labels):
        inside = labels == found
        cells, counts = np.unique(truth[inside], return_counts=True)
        held = [
            int(cell)
            for cell, count in zip(cells, counts, strict=True)
            if cell and count > 0.5 * (truth == cell).sum() and count >= LEAST_PX
        ]
        if len(held) < 2:
            continue
        merged += 1
        best = parts_of(np.where(np.isin(truth, held), truth, 0), inside)
        perfect += all(match(truth == cell, best) >= 0.5 for cell in held)
        after = labels.copy()
        for one, other in combinations(held, 2):
            line = between(truth, inside, one, other)
            if line is None or main_id(after, truth == one) != main_id(after, truth == other):
                continue
            try:
                after = split(after, line, int(after.max()) + 1).applied(after)
            except ValueError:
                failed += 1
        mended += all(match(truth == cell, after) >= 0.5 for cell in held)
    return merged, perfect, mended, failed


def main_id(labels: Labels, cell: Mask) -> int:
    """The found cell that most of a true one is in."""
    return int(np.bincount(labels[cell]).argmax())


def parts_of(truth: Labels, inside: Mask) -> Labels:
    """A found cell cut between true ones: each pixel has the number of the nearest."""
    parts: Labels = watershed(np.zeros(truth.shape, np.uint8), truth * inside, mask=inside)
    return parts


def between(truth: Labels, inside: Mask, one: int, other: int) -> list[tuple[float, float]] | None:
    """The straight line that a user draws between two true cells in a found one.

    None where they do not touch in there.
    """
    nearest = parts_of(truth, inside)
    border = (nearest == one) & ndimage.binary_dilation(nearest == other, iterations=2)
    points = np.argwhere(border).astype(float)
    if len(points) < 2:
        return None
    middle = points.mean(0)
    way = np.linalg.svd(points - middle, full_matrices=False)[2][0]
    along = (points - middle) @ way
    return [
        tuple(middle + way * reach(inside, middle, way, float(along.min()), -1)),
        tuple(middle + way * reach(inside, middle, way, float(along.max()), 1)),
    ]


def reach(
    inside: Mask, middle: NDArray[np.float64], way: NDArray[np.float64], end: float, step: int
) -> float:
    """Where a line that goes on from this end is clearly out of the cell."""

    def is_inside(along: float) -> bool:
        at = np.round(middle + way * along).astype(int)
        return bool((at >= 0).all() and (at < inside.shape).all() and inside[tuple(at)])

    while is_inside(end):
        end += step
    return end + step * BEYOND_PX


if __name__ == "__main__":
    main()
