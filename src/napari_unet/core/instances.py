"""From scores to labelled cells, and from labelled cells to what the network learns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import h_maxima
from skimage.segmentation import watershed

Labels = NDArray[np.int32]


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
    ids = np.arange(int(labels.max(initial=0)) + 1)
    largest = np.maximum(ndimage.maximum(distance, labels, ids), 1)
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
) -> Labels:
    """Instance labels (Y, X), int32, of foreground scores (Y, X) in [0, 1]; or of a stack's.

    Connected components above the threshold, given back the pixels that the separation took, and
    each split where it holds several cores.

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
        Smaller cells, and cores of less than half of it, are dropped.
    gap_px
        Pixels that the separation took from each of two touching cells.
    radius_px
        Of a typical cell; components that are larger than it are split where they have a waist
        (`split_at_waists`). None splits nothing; a stack can only be given that.
    distance
        (Y, X), where a model tells it (`relative_distance`); cores are looked for there, else in
        the score.
    """
    labels, _ = ndimage.label(foreground > threshold)
    if radius_px is not None:
        labels = split_at_waists(labels, radius_px)
    # Before the split: its cuts take no pixel, so they have none to be given back.
    labels = close_gaps(_drop_small(labels, min_size_px), gap_px)
    if seed_threshold is not None:
        height = foreground if distance is None else distance
        labels = _split_at_cores(labels, height, seed_threshold, min_size_px)
    return _renumber(labels)


def split_at_waists(labels: NDArray[np.integer], radius_px: float, depth: float = 0.3) -> Labels:
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
    """
    out = labels.astype(np.int32)
    area = np.bincount(out.ravel())
    following = len(area)
    # An eighth of a radius is fine enough to find the centres.
    step = max(1, round(radius_px / 8))
    for cell, box in enumerate(ndimage.find_objects(out), start=1):
        if box is None or area[cell] < np.pi * radius_px**2:
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


def close_gaps(labels: NDArray[np.integer], gap_px: int = 1) -> Labels:
    """Give back what `separate_touching` took: grow instances towards each other only.

    A background pixel joins an instance that is at most `gap_px` away if a second instance lies
    within `2 gap_px`; free outlines stay where they are.
    """
    out = labels.astype(np.int32)
    if gap_px < 1:
        return out
    highest, lowest = _neighbour_range(out, size=4 * gap_px + 1)
    between = (out == 0) & (highest > 0) & (lowest != highest)
    for _ in range(gap_px):
        out = np.where(between & (out == 0), _sliding(np.maximum, out, 3, 0), out)
    return out


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


def _drop_small(labels: Labels, min_size_px: int) -> Labels:
    area = np.bincount(labels.ravel())
    kept = np.where(area < min_size_px, 0, np.arange(len(area), dtype=np.int32))
    dropped: Labels = kept[labels]
    return dropped


def _renumber(labels: Labels) -> Labels:
    present = np.bincount(labels.ravel()) > 0
    present[0] = False
    numbers = np.where(present, np.cumsum(present), 0).astype(np.int32)
    renumbered: Labels = numbers[labels]
    return renumbered


def _split_at_cores(
    labels: Labels, height: NDArray[np.float32], seed_threshold: float, min_size_px: int
) -> Labels:
    cores, _ = ndimage.label((height > seed_threshold) & (labels > 0))
    cores = _drop_small(cores, max(min_size_px // 2, 1))
    inside = np.flatnonzero(cores)
    owners = np.zeros(int(cores.max(initial=0)) + 1, np.int32)
    owners[cores.flat[inside]] = labels.flat[inside]
    several = np.flatnonzero(np.bincount(owners[owners > 0], minlength=1) > 1)
    out, following = labels.copy(), int(labels.max(initial=0)) + 1
    boxes = ndimage.find_objects(labels)
    for cell in several:
        box = boxes[cell - 1]
        mask = labels[box] == cell
        parts = watershed(-height[box], np.where(mask, cores[box], 0), mask=mask)
        for part in np.unique(parts[mask])[1:]:
            out[box][mask & (parts == part)] = following
            following += 1
    return out
