"""Resize planes, so that a network sees cells at the diameter that it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.boxes import Box

Scalar = TypeVar("Scalar", bound=np.generic)


def zoomed_shape(shape: tuple[int, int], zoom: float) -> tuple[int, int]:
    """Return the shape (Y, X) of a plane after a zoom; at least 1 px along each axis.

    Examples
    --------
    >>> zoomed_shape((100, 51), 0.5)
    (50, 26)
    """
    return max(1, round(shape[0] * zoom)), max(1, round(shape[1] * zoom))


def resize_plane(plane: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    """Resize a plane (C, Y, X) to another shape (Y, X) by bilinear interpolation.

    A plane that shrinks is smoothed first. Pixels are areas: the outer edges of both planes lie
    on each other. A stack can only be given its own shape, which returns it as it is.

    Examples
    --------
    >>> plane = np.array([[[0, 4]]], np.float32)
    >>> resize_plane(plane, (1, 4)).tolist()
    [[[0.0, 1.0, 3.0, 4.0]]]
    """
    if plane.shape[1:] == tuple(shape):
        return plane
    (y, x), known = shape, (plane.shape[1], plane.shape[2])
    whole = (slice(0, y), slice(0, x))
    return resize_box(lambda box: plane[(slice(None), *box)], known, (y, x), whole)


def resize_box(
    read: Callable[[Box], NDArray[np.float32]],
    known: tuple[int, int],
    shape: tuple[int, int],
    box: Box,
) -> NDArray[np.float32]:
    """Return one box of a resized plane; each pixel is exactly that of `resize_plane`.

    Parameters
    ----------
    read
        Returns a box of the plane (C, Y, X).
    known
        Shape (Y, X) of the plane.
    shape
        Shape (Y, X) of the resized plane.
    box
        Rows and columns of the resized plane that are wanted.
    """
    if known == shape:
        return read(box)
    taps = [_taps(n, m, part) for n, m, part in zip(known, shape, box, strict=True)]
    rows, columns = (slice(int(index.min()), int(index.max()) + 1) for index, _ in taps)
    plane = read((rows, columns))
    # One axis, then, turned, the other.
    for start, (index, weight) in zip((rows.start, columns.start), taps, strict=True):
        plane = np.ascontiguousarray(_blend(plane, index - start, weight).transpose(0, 2, 1))
    return plane


def resize_labels(labels: NDArray[Scalar], shape: Sequence[int]) -> NDArray[Scalar]:
    """Resize labels or a mask (Y, X) to another shape; each pixel takes the nearest one's value.

    Examples
    --------
    >>> resize_labels(np.array([[1, 2]]), (1, 4))
    array([[1, 1, 2, 2]])
    """
    if labels.shape == tuple(shape):
        return labels
    rows, columns = (nearest(n, m) for n, m in zip(labels.shape, shape, strict=True))
    out: NDArray[Scalar] = labels[rows[:, None], columns]
    return out


def nearest(n: int, m: int) -> NDArray[np.intp]:
    """Return, for an axis of n pixels resized to m, the old pixel in which each new one lies."""
    return np.minimum(((np.arange(m) + 0.5) * (n / m)).astype(np.intp), n - 1)


def _taps(n: int, m: int, part: slice) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return which of n pixels are averaged into each of the m new pixels of `part`.

    The weights fall in a straight line to both sides of the new pixel's centre (a triangle).

    Returns
    -------
    index
        (length of `part`, k), the old pixels.
    weight
        Of that shape, their weights; each row sums to 1.
    """
    scale = n / m
    reach = max(scale, 1.0)
    centre = (np.arange(part.start, part.stop) + 0.5) * scale
    first = np.floor(centre - reach + 0.5)
    # The number of old pixels is the same for every new one, so that sums are made in one order.
    index = first[:, None] + np.arange(int(np.ceil(2 * reach)) + 1)
    weight = np.maximum(1 - np.abs(index + 0.5 - centre[:, None]) / reach, 0)
    weight[(index < 0) | (index >= n)] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    return index.clip(0, n - 1).astype(np.intp), weight.astype(np.float32)


def _blend(
    plane: NDArray[np.float32], index: NDArray[np.intp], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    out = np.zeros((plane.shape[0], len(index), plane.shape[2]), np.float32)
    for k in range(index.shape[1]):
        out += plane[:, index[:, k]] * weight[:, k, None]
    return out
