"""Properties of the cells of one plane: size, position, intensity, shape, as columns.

The values are those of `skimage.measure.regionprops`. All cells are measured at once, not one after
the other, but for the convex hull.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.arrays import Pixels

Ids = NDArray[np.int32]
# Columns that describe the shape of a cell in its plane, by the names of scikit-image.
SHAPE = ("axis_major_length", "axis_minor_length", "eccentricity", "solidity", "perimeter")
# Length of outline that a pixel of it stands for, by 1 + 2 a + 10 b: a of its neighbours in the
# outline share a side with it, b a corner (Benkrid and Crookes 2000, as in scikit-image).
_OUTLINE = np.zeros(1 + 2 * 4 + 10 * 4 + 1)
_OUTLINE[[5, 7, 15, 17, 25, 27]] = 1
_OUTLINE[[21, 33]] = np.sqrt(2)
_OUTLINE[[13, 23]] = (1 + np.sqrt(2)) / 2
_NEIGHBOURS = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]


@dataclass(frozen=True)
class Properties:
    """Columns of n cells, and of C channels.

    Attributes
    ----------
    n_px
        (n,), pixels of each cell.
    centroid
        (n, 2), y and x, in units of the spacing.
    mean, max, min
        (n, C), intensities; NaN where no pixel is a number.
    shape
        (n, 5), the columns of `SHAPE`; the perimeter is NaN where pixels are not square.
    n_missing
        Pixels in cells that are not finite in one channel or more.
    """

    n_px: NDArray[np.float64]
    centroid: NDArray[np.float64]
    mean: NDArray[np.float64]
    max: NDArray[np.float64]
    min: NDArray[np.float64]
    shape: NDArray[np.float64]
    n_missing: int = 0


def properties(
    labels: Ids,
    pixels: Pixels,
    ids: Ids,
    spacing: tuple[float, float] = (1.0, 1.0),
    check: Callable[[], None] = lambda: None,
) -> Properties:
    """Return the properties of some cells of a plane.

    Parameters
    ----------
    labels
        (Y, X), 0 = background. The cells that are measured lie in it whole.
    pixels
        (C, Y, X).
    ids
        (n,), the cells, in ascending order.
    spacing
        Size of a pixel along Y and X.
    check
        Called for each cell; may raise to stop.

    Examples
    --------
    >>> labels = np.array([[1, 1, 1, 0], [1, 1, 1, 0]], np.int32)
    >>> found = properties(labels, 10 * labels[None], np.array([1], np.int32))
    >>> found.n_px, found.centroid, found.mean
    (array([6.]), array([[0.5, 1. ]]), array([[10.]]))
    """
    n = len(ids)
    y, x = np.nonzero(np.isin(labels, ids))
    cell = np.searchsorted(ids, labels[y, x])
    n_px = np.bincount(cell, minlength=n).astype(np.float64)

    def mean(values: NDArray[np.floating]) -> NDArray[np.float64]:
        return np.bincount(cell, values, n) / n_px

    centre = np.stack((mean(y * spacing[0]), mean(x * spacing[1])), 1)
    dy, dx = y * spacing[0] - centre[cell, 0], x * spacing[1] - centre[cell, 1]
    major, minor, eccentricity = _ellipse(mean(dy * dy), mean(dx * dx), mean(dy * dx))
    perimeter = np.full(n, np.nan)
    if spacing[0] == spacing[1]:
        perimeter = spacing[0] * _perimeter(labels, y, x, cell, n)
    solidity = n_px / _convex_px(labels, ids, y, x, cell, check)
    values = pixels[:, y, x]
    mean_of, highest, lowest = (np.stack(rows, 1) for rows in _intensities(values, cell, n))
    is_missing = ~np.isfinite(values).all(0) if values.dtype.kind == "f" else np.zeros(0)
    return Properties(
        n_px, centre, mean_of, highest, lowest,
        np.stack((major, minor, eccentricity, solidity, perimeter), 1),
        int(is_missing.sum()),
    )  # fmt: skip


def boxes(labels: Ids) -> tuple[Ids, NDArray[np.intp], NDArray[np.intp]]:
    """Return the ids of the cells of a plane, and the first and the last row of each.

    Examples
    --------
    >>> boxes(np.array([[0, 7], [3, 7], [3, 3]], np.int32))
    (array([3, 7], dtype=int32), array([1, 0]), array([2, 1]))
    """
    # A row names each of its runs of equal labels once, which is far less than all pixels.
    is_start = np.ones(labels.shape, bool)
    is_start[:, 1:] = labels[:, 1:] != labels[:, :-1]
    rows, columns = np.nonzero(is_start & (labels > 0))
    ids, cell = np.unique(labels[rows, columns], return_inverse=True)
    first = np.full(len(ids), labels.shape[0], np.intp)
    last = np.zeros(len(ids), np.intp)
    np.minimum.at(first, cell, rows)
    np.maximum.at(last, cell, rows)
    return ids, first, last


def _ellipse(
    yy: NDArray[np.float64], xx: NDArray[np.float64], yx: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return major and minor axis, and eccentricity, of ellipses with these second moments."""
    half, root = (yy + xx) / 2, np.hypot((yy - xx) / 2, yx)
    large, small = half + root, np.maximum(half - root, 0)
    ratio = np.divide(small, large, out=np.ones_like(large), where=large > 0)
    return 4 * np.sqrt(large), 4 * np.sqrt(small), np.sqrt(1 - ratio)


def _intensities(
    values: Pixels, cell: NDArray[np.intp], n: int
) -> Iterator[list[NDArray[np.float64]]]:
    """Yield the means, the highest and the lowest values of n cells, each a list of channels."""
    known = [np.isfinite(channel) for channel in values]
    given = [
        (cell[there], channel[there].astype(np.float64))
        for channel, there in zip(values, known, strict=True)
    ]
    counts = [np.bincount(where, minlength=n) for where, _ in given]
    with np.errstate(invalid="ignore"):  # 0 / 0: no pixel is a number
        yield [
            np.bincount(where, channel, n) / count
            for (where, channel), count in zip(given, counts, strict=True)
        ]
    for extreme, worst in ((np.maximum, -np.inf), (np.minimum, np.inf)):
        columns = []
        for (where, channel), count in zip(given, counts, strict=True):
            column = np.full(n, worst)
            extreme.at(column, where, channel)
            columns.append(np.where(count > 0, column, np.nan))
        yield columns


def _perimeter(
    labels: Ids, y: NDArray[np.intp], x: NDArray[np.intp], cell: NDArray[np.intp], n: int
) -> NDArray[np.float64]:
    """Return the length of the outline of n cells, in pixels."""
    framed = np.pad(labels, 1)
    own = labels[y, x]

    def same(dy: int, dx: int) -> NDArray[np.bool_]:
        return np.asarray(framed[y + 1 + dy, x + 1 + dx] == own)

    is_outer = ~(same(-1, 0) & same(1, 0) & same(0, -1) & same(0, 1))
    y, x, own, cell = y[is_outer] + 1, x[is_outer] + 1, own[is_outer], cell[is_outer]
    outline = np.zeros_like(framed)
    outline[y, x] = own
    code = np.ones(len(y), np.intp)
    for dy, dx in _NEIGHBOURS:
        code += (10 if dy and dx else 2) * (outline[y + dy, x + dx] == own)
    return np.bincount(cell, _OUTLINE[code], n).astype(np.float64)


def _convex_px(
    labels: Ids,
    ids: Ids,
    y: NDArray[np.intp],
    x: NDArray[np.intp],
    cell: NDArray[np.intp],
    check: Callable[[], None],
) -> NDArray[np.float64]:
    """Return the pixels of the convex hull of each cell."""
    from skimage.morphology import convex_hull_image

    ends = []
    for values in (y, x):
        first, last = np.full(len(ids), np.iinfo(np.intp).max), np.zeros(len(ids), np.intp)
        np.minimum.at(first, cell, values)
        np.maximum.at(last, cell, values)
        ends += [first, last + 1]
    hulls = np.zeros(len(ids))
    for number, (top, bottom, left, right) in enumerate(zip(*ends, strict=True)):
        check()
        hulls[number] = convex_hull_image(labels[top:bottom, left:right] == ids[number]).sum()
    return hulls
