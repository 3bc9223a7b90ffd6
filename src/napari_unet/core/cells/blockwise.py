"""Labels of a plane, block by block: each cell as if the plane had been labelled at once.

A block looks at a window that holds each of its cells whole. All blocks that meet in a cell then
see the same cell, and call it by the same name, its first pixel; nothing is joined afterwards.
Only what is larger than `largest_px`, which is one part whatever it looks like, is joined where
blocks meet.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_unet.core.cells.instances import LARGEST_PX, close_gaps, label_parts

Box = tuple[slice, slice]
# Foreground scores of a box, and the distance where it is needed.
Scores = tuple[NDArray[np.float32], NDArray[np.float32] | None]


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How scores become labels; see `core.cells.instances.label_instances`."""

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
        (n,) int64, name of each cell: the number of its first pixel, in rows, in the plane.
    seams
        (m, 2) int64: of what is too large to be seen whole, the numbers of its pixels on both
        sides of the block's edge, and its key here.
    """

    labels: NDArray[np.int32]
    keys: NDArray[np.int64]
    seams: NDArray[np.int64]


def plan_blocks(shape: tuple[int, int], side_px: int) -> list[Box]:
    """Boxes of at most `side_px` that cover a plane (Y, X), row by row."""
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
        Gives the scores of a box of the plane.
    shape
        (Y, X) of the plane.
    block
        The box to label.
    decoding
        How.
    margin_px
        What it looks at beyond the block at first; doubled until its cells are seen whole.
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
    """Ids 1, 2, ... for the cells of all blocks of a plane, in the order of their first pixels.

    Parameters
    ----------
    found
        Keys and seams of each block (see `BlockLabels`).

    Returns
    -------
    numbers
        Of each block, the id of each of its labels, 0 for background.
    count
        Cells in all.
    """
    keys = [block_keys for block_keys, _ in found]
    unique, position = np.unique(np.concatenate(keys), return_inverse=True)
    names = _join(unique, np.concatenate([seams for _, seams in found]))
    _, number = np.unique(names, return_inverse=True)
    ids = np.split(number[position] + 1, np.cumsum([len(block_keys) for block_keys in keys])[:-1])
    numbers = [np.concatenate([[0], of_block]).astype(np.int32) for of_block in ids]
    return numbers, int(number.max(initial=-1)) + 1


def _join(keys: NDArray[np.int64], seams: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each key the first of those that share a pixel with it, directly or through others."""
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


def grown(box: Box, margin: int, shape: tuple[int, int]) -> Box:
    """A box with so many pixels around it, as far as the plane goes."""
    y, x = (
        slice(max(0, part.start - margin), min(n, part.stop + margin))
        for part, n in zip(box, shape, strict=True)
    )
    return y, x


def inside(box: Box, window: Box) -> Box:
    """A box as a part of a window that it lies in."""
    y, x = (
        slice(part.start - outer.start, part.stop - outer.start)
        for part, outer in zip(box, window, strict=True)
    )
    return y, x


def _cut(mask: NDArray[np.bool_], window: Box, needed: Box, shape: tuple[int, int]) -> bool:
    """Whether a component that is needed goes on beyond the window."""
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
    """Cut the block out of labelled pixels of its window; `parts` are those before gaps closed."""
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
        # Wider than gaps are closed: of some blocks it has no more than that.
        y, x = np.nonzero(_ring(parts, block, window, _reach(decoding)) == cell)
        pixels = _number(y, x, window, width)
        seams.append(np.stack([pixels, np.full(len(pixels), keys[n])], axis=1))
    labelled = local[:-1].reshape(own.shape).astype(np.int32)
    return BlockLabels(labelled, keys[1:], np.concatenate(seams))


def _ring(parts: NDArray[np.int32], block: Box, window: Box, reach: int) -> NDArray[np.int32]:
    """Parts within `reach` of the block's edge, on both sides of it; 0 elsewhere."""
    ring = np.zeros_like(parts)
    (top, bottom), (left, right) = ((p.start, p.stop) for p in inside(block, window))
    outer = (
        slice(max(0, top - reach), bottom + reach),
        slice(max(0, left - reach), right + reach),
    )
    ring[outer] = parts[outer]
    ring[top + reach : max(bottom - reach, 0), left + reach : max(right - reach, 0)] = 0
    return ring


def _number(y: Any, x: Any, box: Box, width: int) -> Any:
    """Number of a pixel of a box, in rows, in a plane of this width."""
    return (y + box[0].start) * width + x + box[1].start


def _reach(decoding: Decoding) -> int:
    # A filled pixel depends on cells 2 gaps away from it or from its neighbours in the gap.
    return 3 * decoding.gap_px + 1
