"""Label a plane block by block; the cells are the same as if the plane had been labelled at once.

Each block is labelled in a window that is large enough to hold all its cells whole. Blocks that
share a cell therefore see the same cell, and give it the same key: the number of its first pixel.
So nothing has to be joined afterwards. The exception is a component that is larger than
`largest_px`. It is never split, and its pieces are joined where blocks meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_unet.core.boxes import Box, grown, inside
from napari_unet.core.cells.instances import LARGEST_PX, close_gaps, label_parts

# Foreground scores of a box (y, x), and the relative distance of its pixels or None.
Scores = tuple[NDArray[np.float32], NDArray[np.float32] | None]
# A coordinate along one axis, or those of many pixels.
Place = TypeVar("Place", int, NDArray[np.intp])


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """The settings that turn scores into labels.

    Each is the parameter of the same name of `core.cells.instances.label_instances`.
    """

    threshold: float = 0.5
    seed_threshold: float | None = None
    min_size_px: int = 16
    gap_px: int = 1
    radius_px: float | None = None
    largest_px: int = LARGEST_PX
    peak_threshold: float | None = None


@dataclass(frozen=True)
class BlockLabels:
    """The cells of one block.

    Attributes
    ----------
    labels
        (y, x) int32, 0 = background, else 1, 2, ...
    keys
        (n,) int64, key of each label, the background included: the number of the cell's first
        pixel, counted row by row in the plane.
    seams
        (m, 2) int64, for components that are too large to be seen whole: the number of each of
        their pixels near the block's edge, on both sides of it, and the key of the component.
    """

    labels: NDArray[np.int32]
    keys: NDArray[np.int64]
    seams: NDArray[np.int64]


def plan_blocks(shape: tuple[int, int], side_px: int) -> list[Box]:
    """Return boxes, at most `side_px` wide and high, that cover a plane (Y, X), row by row.

    Examples
    --------
    >>> plan_blocks((4, 6), 4)
    [(slice(0, 4, None), slice(0, 4, None)), (slice(0, 4, None), slice(4, 6, None))]
    """
    starts = [range(0, n, side_px) for n in shape]
    return [
        (slice(y, min(y + side_px, shape[0])), slice(x, min(x + side_px, shape[1])))
        for y in starts[0]
        for x in starts[1]
    ]


def label_block(
    read: Callable[[Box], Scores],
    shape: tuple[int, int],
    block: Box,
    decoding: Decoding,
    margin_px: int = 64,
) -> BlockLabels:
    """Label one block of a plane.

    Parameters
    ----------
    read
        Returns the scores of a box of the plane.
    shape
        (Y, X) of the plane.
    block
        The box to label.
    decoding
        The settings that turn scores into labels.
    margin_px
        How far the window reaches beyond the block at first, in pixels. It is doubled until all
        cells of the block are whole.
    """
    reach = _reach(decoding)
    limit = decoding.largest_px + reach + 1
    margin = min(max(margin_px, reach + 1), limit)
    while True:
        window = grown(block, margin, shape)
        foreground, distance = read(window)
        cut = _cut(foreground > decoding.threshold, window, grown(block, reach, shape), shape)
        if margin == limit or not cut:
            break
        margin = min(2 * margin, limit)
    parts, cells = label_parts(
        foreground,
        decoding.threshold,
        decoding.seed_threshold,
        decoding.min_size_px,
        decoding.radius_px,
        distance,
        decoding.largest_px,
        decoding.peak_threshold,
    )
    labels = close_gaps(parts, decoding.gap_px, cells)
    return _name(parts, labels, window, block, shape[1], decoding)


def number_cells(
    found: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
) -> tuple[list[NDArray[np.int32]], int]:
    """Give ids 1, 2, ... to the cells of all blocks of a plane, in the order of their first pixels.

    Parameters
    ----------
    found
        Keys and seams of each block (see `BlockLabels`).

    Returns
    -------
    numbers
        For each block, the id of each of its labels; 0 for background.
    count
        Number of cells in the plane.
    """
    keys = [block_keys for block_keys, _ in found]
    unique, position = np.unique(np.concatenate(keys), return_inverse=True)
    names = _join(unique, np.concatenate([seams for _, seams in found]))
    _, number = np.unique(names, return_inverse=True)
    ids = np.split(number[position] + 1, np.cumsum([len(block_keys) for block_keys in keys])[:-1])
    numbers = [np.concatenate([[0], of_block]).astype(np.int32) for of_block in ids]
    return numbers, int(number.max(initial=-1)) + 1


def _join(keys: NDArray[np.int64], seams: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each key, the lowest key of the component that it is a piece of.

    Two keys belong to one component if they share a pixel, directly or through other keys.
    """
    seams = seams[np.argsort(seams[:, 0], kind="stable")]
    same = seams[1:, 0] == seams[:-1, 0]
    owners = np.searchsorted(keys, seams[:, 1])
    pairs = owners[:-1][same], owners[1:][same]
    graph = coo_array((np.ones(len(pairs[0]), np.int8), pairs), shape=(len(keys),) * 2)
    _, component = connected_components(graph, directed=False)
    first = np.full(len(keys), np.iinfo(np.int64).max)
    np.minimum.at(first, component, keys)
    joined: NDArray[np.int64] = first[component]
    return joined


def _cut(mask: NDArray[np.bool_], window: Box, needed: Box, shape: tuple[int, int]) -> bool:
    """Whether a component in the box `needed` may go on beyond the window."""
    components, count = ndimage.label(mask)
    cut = np.zeros(count + 1, bool)
    for axis, (part, n) in enumerate(zip(window, shape, strict=True)):
        for edge, inner in ((0, part.start > 0), (-1, part.stop < n)):
            if inner:
                cut[np.take(components, edge, axis=axis)] = True
    cut[0] = False
    return bool(cut[components[inside(needed, window)]].any())


def _name(
    parts: NDArray[np.int32],
    labels: NDArray[np.int32],
    window: Box,
    block: Box,
    width: int,
    decoding: Decoding,
) -> BlockLabels:
    """Cut the block out of the labels of its window, and find the keys and the seams of its cells.

    `parts` are the labels before the gaps between cells were closed.
    """
    own = labels[inside(block, window)]
    ids, local = np.unique(np.append(own.ravel(), np.int32(0)), return_inverse=True)
    keys = np.zeros(len(ids), np.int64)
    seams = [np.zeros((0, 2), np.int64)]
    boxes = ndimage.find_objects(parts)
    for n, cell in enumerate(ids[1:], start=1):
        box = boxes[cell - 1]
        if max(part.stop - part.start for part in box) <= decoding.largest_px:
            y, x = box[0].start, box[1].start + int(np.argmax(parts[box[0].start, box[1]] == cell))
            keys[n] = _number(y, x, window, width)
            continue
        y, x = divmod(int(np.argmax(own.ravel() == cell)), own.shape[1])
        keys[n] = _number(y, x, block, width)
        # The ring has to be wider than the gaps that were closed: in some blocks the component has
        # only pixels that it got then.
        y, x = np.nonzero(_ring(parts, block, window, _reach(decoding)) == cell)
        pixels = _number(y, x, window, width)
        seams.append(np.stack([pixels, np.full(len(pixels), keys[n])], axis=1))
    labelled = local[:-1].reshape(own.shape).astype(np.int32)
    return BlockLabels(labelled, keys[1:], np.concatenate(seams))


def _ring(parts: NDArray[np.int32], block: Box, window: Box, reach: int) -> NDArray[np.int32]:
    """Return the parts within `reach` pixels of the block's edge, on both sides; 0 elsewhere."""
    ring = np.zeros_like(parts)
    (top, bottom), (left, right) = ((p.start, p.stop) for p in inside(block, window))
    outer = (
        slice(max(0, top - reach), bottom + reach),
        slice(max(0, left - reach), right + reach),
    )
    ring[outer] = parts[outer]
    ring[top + reach : max(bottom - reach, 0), left + reach : max(right - reach, 0)] = 0
    return ring


def _number(y: Place, x: Place, box: Box, width: int) -> Place:
    """Return the number of a pixel of a box, counted row by row in a plane of this width."""
    number: Place = (y + box[0].start) * width + x + box[1].start
    return number


def _reach(decoding: Decoding) -> int:
    # A filled pixel depends on cells 2 gaps away from it or from its neighbours in the gap, and on
    # the pixels, twice as many as the gap, by which it touches its cell.
    return 5 * decoding.gap_px + 1
