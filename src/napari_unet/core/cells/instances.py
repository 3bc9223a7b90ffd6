"""Turn scores into labelled cells, and labelled cells into what the network is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

Labels = NDArray[np.int32]
# Largest width and height, in pixels, of a component that is split into cells.
LARGEST_PX = 1024


def separate_touching(labels: NDArray[np.integer]) -> Labels:
    """Put background between touching cells (Ronneberger et al. 2015, section 3).

    A pixel becomes background if one of its 8 neighbours (26 in a stack) belongs to another cell,
    so two touching cells get a gap of 2 px.

    Parameters
    ----------
    labels
        (Y, X) or (Z, Y, X), 0 = background.

    Examples
    --------
    >>> separate_touching(np.array([[1, 1, 1, 2, 2, 2]]))
    array([[1, 1, 0, 0, 2, 2]], dtype=int32)
    """
    highest, lowest = _neighbour_range(labels, size=3)
    return np.where((labels > 0) & (lowest != highest), 0, labels).astype(np.int32)


def relative_distance(
    labels: NDArray[np.integer],
    seen: NDArray[np.bool_] | None = None,
    anisotropy: float = 1.0,
) -> NDArray[np.float32]:
    """Return each pixel's distance to the outline of its cell, divided by the largest in that cell.

    The values lie in [0, 1]; the background has 0. They are low where cells touch, even if the
    foreground scores leave only a narrow gap there, or none. The edge of the plane does not count
    as an outline, and neither does the edge of the seen pixels: the cell may go on beyond it.

    Parameters
    ----------
    labels
        (Y, X) or (Z, Y, X), 0 = background; touching cells are already separated.
    seen
        Bool, of that shape, where the labels are right; None for everywhere.
    anisotropy
        Distance between the planes of a stack, in pixels.

    Examples
    --------
    >>> relative_distance(np.array([[0, 1, 1, 1, 0]]))
    array([[0. , 0.5, 1. , 0.5, 0. ]], dtype=float32)
    """
    background = labels == 0
    outside = background if seen is None else background & seen
    if not outside.any():
        return np.where(background, np.float32(0), np.float32(1))
    sampling = (anisotropy, 1.0, 1.0) if labels.ndim == 3 else None
    distance = ndimage.distance_transform_edt(~outside, sampling)
    largest = np.ones(int(labels.max(initial=0)) + 1)
    np.maximum.at(largest, labels, distance)
    relative: NDArray[np.float32] = (distance / largest[labels]).astype(np.float32)
    relative[background] = 0
    return relative


def label_instances(
    foreground: NDArray[np.float32],
    threshold: float = 0.5,
    seed_threshold: float | None = None,
    min_size_px: int = 16,
    gap_px: int = 1,
    radius_px: float | None = None,
    distance: NDArray[np.float32] | None = None,
    largest_px: int = LARGEST_PX,
    peak_threshold: float | None = None,
) -> Labels:
    """Return the cells in foreground scores as labels, int32, 0 = background.

    The scores above the threshold are split into parts (`label_parts`). Then the cells get back
    the pixels that `separate_touching` takes away in training (`close_gaps`).

    Parameters
    ----------
    foreground
        (Y, X) or (Z, Y, X), probability that a pixel belongs to a cell, in [0, 1].
    threshold
        Score above which a pixel belongs to a cell.
    seed_threshold
        Relative distance (or score, if there is no `distance`) above which connected pixels are one
        core. A component with several cores is split between them by a watershed. With None nothing
        is split.
    min_size_px
        Cells of fewer pixels are dropped; so are cores of less than half as many. Components that
        are larger than `largest_px` are kept.
    gap_px
        Pixels that the separation took from each of two touching cells.
    radius_px
        Radius of a typical cell. Larger components are split at their waists (`split_at_waists`).
        With None they are not; for a stack it has to be None.
    distance
        Of the shape of the scores, the relative distance (`relative_distance`) if the model
        predicts it. Cores are then found in it instead of in the scores.
    largest_px
        Components that are wider or higher than this are not split. So no cell depends on pixels
        that are farther away, and planes can be labelled block by block.
    peak_threshold
        Relative distance that a cell has to reach somewhere; cells that do not are dropped, except
        those larger than `largest_px`. With None, or without `distance`, none is dropped.

    Examples
    --------
    >>> scores = np.zeros((6, 12), np.float32)
    >>> scores[1:5, 1:5] = scores[1:5, 7:11] = 0.9
    >>> label_instances(scores)[2]  # the gap of two pixels is closed
    array([0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 0], dtype=int32)
    >>> int(label_instances(scores, min_size_px=17).max())
    0
    """
    parts, cells = label_parts(
        foreground,
        threshold,
        seed_threshold,
        min_size_px,
        radius_px,
        distance,
        largest_px,
        peak_threshold,
    )
    # Cuts between cores take no pixel, so they have none to be given back.
    return close_gaps(_renumber(parts), gap_px, cells)


def label_parts(
    foreground: NDArray[np.float32],
    threshold: float = 0.5,
    seed_threshold: float | None = None,
    min_size_px: int = 16,
    radius_px: float | None = None,
    distance: NDArray[np.float32] | None = None,
    largest_px: int = LARGEST_PX,
    peak_threshold: float | None = None,
) -> tuple[Labels, Labels]:
    """Return the connected components above the threshold, split where they hold several cells.

    For the parameters see `label_instances`.

    Returns
    -------
    parts
        (Y, X) labels, split at waists and between cores.
    cells
        (Y, X) labels between which gaps are closed: split at waists only, and without components
        that are larger than `largest_px`.
    """
    labels, _ = ndimage.label(foreground > threshold)
    if radius_px is not None:
        labels = split_at_waists(labels, radius_px, largest_px=largest_px)
    boxes = ndimage.find_objects(labels)
    sides = np.array([0, *(_side(box) if box else 0 for box in boxes)])
    large = np.flatnonzero(sides > largest_px)
    cells = _drop_small(labels.astype(np.int32, copy=False), min_size_px, large)
    parts = cells
    if seed_threshold is not None:
        height = foreground if distance is None else distance
        parts = _split_at_cores(cells, boxes, height, seed_threshold, min_size_px, largest_px)
    if peak_threshold is not None and distance is not None:
        # Components that are too large were not split, so they still have their old ids.
        parts = _drop_flat(parts, distance > peak_threshold, large)
        cells = cells * (parts > 0)
    if large.size:
        small = np.arange(len(sides), dtype=np.int32)
        small[large] = 0
        cells = small[cells]
    return parts, cells


def split_at_waists(
    labels: NDArray[np.integer],
    radius_px: float,
    depth: float = 0.3,
    largest_px: int = LARGEST_PX,
) -> Labels:
    """Split cells that are larger than a typical one and consist of several round parts.

    Each part has a centre. Between two centres there is a waist, where the distance to the outline
    is smaller by `depth` radii or more (h-maxima of the distance transform, then a watershed:
    Soille 2003, Morphological Image Analysis, section 9.2). No pixel is removed.

    Parameters
    ----------
    labels
        (Y, X), 0 = background.
    radius_px
        Radius of a typical cell, in pixels.
    depth
        Depth of a waist, in radii.
    largest_px
        Cells that are wider or higher than this, in pixels, are not split.
    """
    out = labels.astype(np.int32)
    area = np.bincount(out.ravel())
    following = len(area)
    # An eighth of a radius is fine enough to find the centres.
    step = max(1, round(radius_px / 8))
    for cell, box in enumerate(ndimage.find_objects(out), start=1):
        if box is None or area[cell] < np.pi * radius_px**2 or _side(box) > largest_px:
            continue
        mask = np.pad(out[box] == cell, step)
        distance = ndimage.distance_transform_edt(mask)
        coarse = ndimage.gaussian_filter(distance[::step, ::step], 1)
        centres, count = ndimage.label(h_maxima(coarse, depth * radius_px))
        if count < 2:
            continue
        markers = np.zeros(mask.shape, np.int32)
        markers[::step, ::step] = centres
        parts = watershed(-distance, np.where(mask, markers, 0), mask=mask)
        inside = parts[step:-step, step:-step]
        for part in np.unique(inside[inside > 0])[1:]:
            out[box][inside == part] = following
            following += 1
    return out


def close_gaps(
    labels: NDArray[np.integer], gap_px: int = 1, cells: NDArray[np.integer] | None = None
) -> Labels:
    """Give cells back the pixels that `separate_touching` took, by growing them towards each other.

    A background pixel joins a cell that is at most `gap_px` away if there is a second cell within
    `2 gap_px`. Outlines that face no other cell stay where they are. Which of two cells a pixel
    joins depends on where they lie, not on their ids. What would touch its cell by corners only, or
    by more than `2 gap_px` such pixels in a row, does not join it: it would be a stripe in the gap.

    Parameters
    ----------
    labels
        (Y, X) or (Z, Y, X), 0 = background.
    gap_px
        Pixels that the separation took from each cell.
    cells
        Of that shape, the cells between which gaps are closed; by default those of `labels`.

    Examples
    --------
    >>> close_gaps(np.array([[0, 1, 1, 0, 0, 2, 2, 0]]))
    array([[0, 1, 1, 1, 2, 2, 2, 0]], dtype=int32)
    """
    out = labels.astype(np.int32)
    if gap_px < 1:
        return out
    highest, lowest = _neighbour_range(out if cells is None else cells, size=4 * gap_px + 1)
    between = (out == 0) & (highest > 0) & (lowest != highest)
    padded = np.ascontiguousarray(np.pad(out, 1))
    gaps = np.ravel_multi_index(tuple(line + 1 for line in np.nonzero(between)), padded.shape)
    kept = padded.ravel()
    flat = kept.copy()
    # Those that share a side come before those at corners.
    around = sorted(product((-1, 0, 1), repeat=out.ndim), key=lambda side: np.abs(side).sum())
    strides = [step // padded.itemsize for step in padded.strides]
    neighbours = [int(np.dot(side, strides)) for side in around[1:]]
    open_gaps = gaps
    for _ in range(gap_px):
        joined = np.zeros(len(open_gaps), np.int32)
        for step in neighbours:
            joined = np.where(joined == 0, flat[open_gaps + step], joined)
        flat[open_gaps] = joined
        open_gaps = open_gaps[joined == 0]
    gaps = gaps[flat[gaps] > 0]
    for _ in range(2 * gap_px):
        joined = flat[gaps]
        touches = np.zeros(len(gaps), bool)
        for step in neighbours[: 2 * out.ndim]:
            touches |= kept[gaps + step] == joined
        kept[gaps[touches]] = joined[touches]
        gaps = gaps[~touches]
    return padded[(slice(1, -1),) * out.ndim]


def split_pieces(labels: NDArray[np.integer]) -> Labels:
    """Give each connected piece of a cell its own id, 1, 2, ...; 0 stays 0.

    Examples
    --------
    >>> split_pieces(np.array([[5, 0, 5]]))
    array([[1, 0, 2]], dtype=int32)
    """
    pieces: Labels = label(labels, connectivity=2).astype(np.int32)
    return pieces


def _neighbour_range(
    labels: NDArray[np.integer], size: int
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Return the highest and the lowest id in the square window (or cube) around each pixel.

    If there is no cell in the window, they are 0 and the largest number of their type. That has 16
    bits if the ids do, which takes half the time.
    """
    is_short = labels.max(initial=0) < np.iinfo(np.uint16).max
    kind: type[np.uint16 | np.int32] = np.uint16 if is_short else np.int32
    ids: NDArray[np.integer] = labels.astype(kind)
    top = np.iinfo(kind).max
    highest = _sliding(np.maximum, ids, size, 0)
    return highest, _sliding(np.minimum, np.where(ids > 0, ids, top), size, top)


def _sliding(
    extreme: np.ufunc, values: NDArray[np.integer], size: int, outside: int
) -> NDArray[np.integer]:
    """Apply `extreme` to the square window of odd `size` around each pixel.

    The window doubles with each pass over the plane, which is five times faster than scipy's
    filters.
    """
    reach = size // 2
    values = np.pad(values, reach, constant_values=outside)
    # Work along the first axis, and then move the next axis there.
    for _ in range(values.ndim):
        width = 1
        while width < size:
            step = min(width, size - width)
            values = extreme(values[:-step], values[step:])
            width += step
        values = np.moveaxis(values, 0, -1)
    return values


def _drop_small(
    labels: Labels, min_size_px: int, kept: NDArray[np.intp] | tuple[()] = ()
) -> Labels:
    at, ids = _inside(labels)
    is_small = np.bincount(ids) < min_size_px
    # These are kept, since a block may hold only a part of them, which may be small.
    is_small[list(kept)] = False
    return _without(labels, at[is_small[ids]])


def _drop_flat(parts: Labels, peaks: NDArray[np.bool_], kept: NDArray[np.intp]) -> Labels:
    at, ids = _inside(parts)
    is_flat = np.ones(int(ids.max(initial=0)) + 1, bool)
    is_flat[ids[peaks.take(at)]] = False
    is_flat[kept] = False
    return _without(parts, at[is_flat[ids]])


def _renumber(labels: Labels) -> Labels:
    at, ids = _inside(labels)
    numbers = np.cumsum(np.bincount(ids) > 0).astype(np.int32)
    out = np.zeros(labels.shape, np.int32)
    out.reshape(-1)[at] = numbers[ids]
    return out


def _inside(labels: Labels) -> tuple[NDArray[np.intp], Labels]:
    """Return the positions of the cells' pixels in the flattened labels, and the ids there.

    Most pixels are background. Looking only at the others takes a fraction of the time.
    """
    at = np.flatnonzero(labels != 0)
    # Unlike `flat[...]`, `take` lets other threads go on.
    return at, labels.take(at)


def _without(labels: Labels, at: NDArray[np.intp]) -> Labels:
    """Return labels in which there is background at these positions."""
    out = labels.copy(order="C")
    out.reshape(-1)[at] = 0
    return out


def _split_at_cores(
    cells: Labels,
    boxes: Sequence[tuple[slice, ...] | None],
    height: NDArray[np.float32],
    seed_threshold: float,
    min_size_px: int,
    largest_px: int,
) -> Labels:
    # Touching cells have cores of their own.
    cores = label(np.where(height > seed_threshold, cells, 0), connectivity=1).astype(np.int32)
    cores = _drop_small(cores, max(min_size_px // 2, 1))
    at, ids = _inside(cores)
    owners = np.zeros(int(ids.max(initial=0)) + 1, np.int32)
    owners[ids] = cells.take(at)
    several = np.flatnonzero(np.bincount(owners[owners > 0], minlength=1) > 1)
    out, following = cells.copy(), int(cells.max(initial=0)) + 1
    for cell in several.tolist():
        box = boxes[cell - 1]
        if box is None or _side(box) > largest_px:
            continue
        mask = cells[box] == cell
        parts = watershed(-height[box], np.where(mask, cores[box], 0), mask=mask)
        for part in np.unique(parts[mask])[1:]:
            out[box][mask & (parts == part)] = following
            following += 1
    return out


def _side(box: tuple[slice, ...]) -> int:
    return max(int(part.stop - part.start) for part in box)
