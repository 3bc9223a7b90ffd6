"""From scores to labelled cells, and from labelled cells to what the network learns."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

Labels = NDArray[np.int32]
# Of what is split, along an axis.
LARGEST_PX = 1024


def separate_touching(labels: NDArray[np.integer]) -> Labels:
    """Put background between touching instances (Ronneberger et al. 2015, section 3).

    Each pixel (Y, X) with another instance among its 8 neighbours becomes background, so a line of
    contact turns into a gap of 2 px. In a stack (Z, Y, X) it is one among 26.
    """
    highest, lowest = _neighbour_range(labels, size=3)
    return np.where((labels > 0) & (lowest != highest), 0, labels).astype(np.int32)


def relative_distance(
    labels: NDArray[np.integer],
    trusted: NDArray[np.bool_] | None = None,
    anisotropy: float = 1.0,
) -> NDArray[np.float32]:
    """Distance to the cell's outline over the largest one in that cell, in [0, 1].

    It falls between touching cells, where foreground scores alone leave a narrow gap or none. The
    edge of the plane, and of what is trusted, is no outline: nobody knows how a cell goes on there.

    Parameters
    ----------
    labels
        (Y, X) or (Z, Y, X), 0 = background; touching instances already separated.
    trusted
        Of that shape, where the labels are truth; None for everywhere.
    anisotropy
        Distance of planes, in pixels.
    """
    background = labels == 0
    outside = background if trusted is None else background & trusted
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
    """Instance labels (Y, X), int32, of foreground scores (Y, X) in [0, 1]; or of a stack's.

    The parts of `label_parts`, given back the pixels that the separation took (`close_gaps`).

    Parameters
    ----------
    foreground
        Probability that a pixel belongs to a cell.
    threshold
        Score above which it does.
    seed_threshold
        Distance, or score, above which connected pixels are one core; a component with several
        cores is split between them by a watershed. None splits nothing.
    min_size_px
        Smaller cells, and cores of less than half of it, are dropped, but for what is larger than
        `largest_px`.
    gap_px
        Pixels that the separation took from each of two touching cells.
    radius_px
        Of a typical cell; components that are larger than it are split where they have a waist
        (`split_at_waists`). None splits nothing; a stack can only be given that.
    distance
        (Y, X), where a model tells it (`relative_distance`); cores are looked for there, else in
        the score.
    largest_px
        What is wider or higher than this stays in one part. So no part depends on pixels that are
        farther away, and planes can be labelled block by block.
    peak_threshold
        Distance that each cell has to reach somewhere: what has no middle is none, but for what is
        larger than `largest_px`. None drops nothing, nor where no distance is told.
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
    return _renumber(close_gaps(parts, gap_px, cells))


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
    """Connected components above the threshold, split where they hold several cells.

    For parameters see `label_instances`.

    Returns
    -------
    parts
        (Y, X), split at waists and between cores.
    cells
        (Y, X), split at waists alone, so that neighbours are pixels away, and without what is
        larger than `largest_px`: what gaps are closed between.
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
        parts = _split_at_cores(cells, height, seed_threshold, min_size_px, largest_px)
    small = np.arange(len(sides), dtype=np.int32)
    small[large] = 0
    if peak_threshold is not None and distance is not None:
        # What is too large was not split: its ids are those of before.
        parts = _drop_flat(parts, distance > peak_threshold, large)
        cells = np.where(parts > 0, cells, 0)
    return parts, small[cells]


def split_at_waists(
    labels: NDArray[np.integer],
    radius_px: float,
    depth: float = 0.3,
    largest_px: int = LARGEST_PX,
) -> Labels:
    """Split instances that are larger than a typical cell and consist of several round parts.

    A part has a centre whose distance to the outline is by `depth` radii larger than on every way
    to the centre of another (h-maxima of the distance transform, then a watershed: Soille 2003,
    Morphological Image Analysis, section 9.2). It takes no pixel away.

    Parameters
    ----------
    labels
        (Y, X), 0 = background.
    radius_px
        Of a typical cell.
    depth
        Of a waist, in radii.
    largest_px
        What is wider or higher stays as it is.
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
    """Give back what `separate_touching` took: grow instances towards each other only.

    A background pixel joins an instance that is at most `gap_px` away if a second instance lies
    within `2 gap_px`; free outlines stay where they are. Which of two instances it joins follows
    from where they lie, not from their ids.

    Parameters
    ----------
    labels
        (Y, X) or (Z, Y, X), 0 = background.
    gap_px
        Pixels that the separation took from each.
    cells
        Of that shape, the instances that gaps are between, where they are not those of `labels`.
    """
    out = labels.astype(np.int32)
    if gap_px < 1:
        return out
    highest, lowest = _neighbour_range(out if cells is None else cells, size=4 * gap_px + 1)
    between = (out == 0) & (highest > 0) & (lowest != highest)
    padded = np.ascontiguousarray(np.pad(out, 1))
    gaps = np.ravel_multi_index(tuple(line + 1 for line in np.nonzero(between)), padded.shape)
    flat = padded.ravel()
    # Those that share a side come before those at corners.
    around = sorted(product((-1, 0, 1), repeat=out.ndim), key=lambda side: np.abs(side).sum())
    strides = [step // padded.itemsize for step in padded.strides]
    sides = [int(np.dot(side, strides)) for side in around[1:]]
    for _ in range(gap_px):
        joined = np.zeros(len(gaps), np.int32)
        for side in sides:
            joined = np.where(joined == 0, flat[gaps + side], joined)
        flat[gaps] = joined
        gaps = gaps[joined == 0]
    return padded[(slice(1, -1),) * out.ndim]


def split_pieces(labels: NDArray[np.integer]) -> Labels:
    """Give each connected piece of an instance an id of its own, 1, 2, ...; 0 stays 0."""
    pieces: Labels = label(labels, connectivity=2).astype(np.int32)
    return pieces


def _neighbour_range(labels: NDArray[np.integer], size: int) -> tuple[Labels, Labels]:
    """Highest and lowest id within a square window, or a cube; with none there, 0 and the top."""
    ids = labels.astype(np.int32)
    top = np.iinfo(np.int32).max
    highest = _sliding(np.maximum, ids, size, 0)
    return highest, _sliding(np.minimum, np.where(ids > 0, ids, top), size, top)


def _sliding(extreme: np.ufunc, values: Labels, size: int, outside: int) -> Labels:
    """`extreme` over the square window of odd `size` around each pixel.

    Windows double: a few passes over the plane, five times faster than scipy's filters.
    """
    reach = size // 2
    values = np.pad(values, reach, constant_values=outside)
    # Along the rows of what is turned each time.
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
    area = np.bincount(labels.ravel())
    numbers = np.where(area < min_size_px, 0, np.arange(len(area), dtype=np.int32))
    # A block that does not see it whole cannot tell how many pixels it has.
    numbers[list(kept)] = kept
    dropped: Labels = numbers[labels]
    return dropped


def _drop_flat(parts: Labels, peaks: NDArray[np.bool_], kept: NDArray[np.intp]) -> Labels:
    reached = np.zeros(int(parts.max(initial=0)) + 1, np.int32)
    found = parts[peaks]
    reached[found] = found
    reached[kept] = kept
    dropped: Labels = reached[parts]
    return dropped


def _renumber(labels: Labels) -> Labels:
    present = np.bincount(labels.ravel()) > 0
    present[0] = False
    numbers = np.where(present, np.cumsum(present), 0).astype(np.int32)
    renumbered: Labels = numbers[labels]
    return renumbered


def _split_at_cores(
    cells: Labels,
    height: NDArray[np.float32],
    seed_threshold: float,
    min_size_px: int,
    largest_px: int,
) -> Labels:
    # Touching cells have cores of their own.
    cores = label(np.where(height > seed_threshold, cells, 0), connectivity=1).astype(np.int32)
    cores = _drop_small(cores, max(min_size_px // 2, 1))
    inside = np.flatnonzero(cores)
    owners = np.zeros(int(cores.max(initial=0)) + 1, np.int32)
    owners[cores.flat[inside]] = cells.flat[inside]
    several = np.flatnonzero(np.bincount(owners[owners > 0], minlength=1) > 1)
    out, following = cells.copy(), int(cells.max(initial=0)) + 1
    boxes = ndimage.find_objects(cells)
    for cell in several:
        box = boxes[cell - 1]
        if _side(box) > largest_px:
            continue
        mask = cells[box] == cell
        parts = watershed(-height[box], np.where(mask, cores[box], 0), mask=mask)
        for part in np.unique(parts[mask])[1:]:
            out[box][mask & (parts == part)] = following
            following += 1
    return out


def _side(box: tuple[slice, ...]) -> int:
    return max(int(part.stop - part.start) for part in box)
