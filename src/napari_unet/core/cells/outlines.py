"""Propose the outline of a cell for which a user has dragged a box.

It is the closed path around the middle of the box that follows the image's edges best and stays
near the ellipse in the box. A vote of path, ellipse and random walk was no better (see
`benchmarks.gestures`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_unet.core.boxes import Box, grown, inside
from napari_unet.core.cells.gestures import Mask

# Top, bottom, left and right of a box, in pixels of the plane.
Sides = tuple[float, float, float, float]
Floats = NDArray[np.float64]

# Around the box, what is looked at reaches this fraction of half a side further out.
_BEYOND = 0.5
# What is looked at is stretched to a square of this side, in pixels, where the ellipse is a circle.
# It bounds the time to some 10 ms, and small cells get smooth outlines.
_SIDE_PX = 64
# Number of directions from the middle in which the path has a point.
_ANGLES = 64
# Distances from the middle that the path may have; the ellipse's is 1.
_RADII = np.linspace(0.6, 1.3, 36)
# What leaving the ellipse costs the path: for a distance of 1, as much as the strongest edge.
_LEAVING = 1.0
# Smaller boxes are looked at as if half their side were this, in pixels: the outline holds a pixel.
_LEAST_HALF_PX = 2.0
# Standard deviation of the Gaussian that smooths the edges, in pixels of the square.
_SMOOTHING_PX = 1.5


def propose(image: NDArray[np.generic], sides: Sides) -> tuple[Box, Mask]:
    """Return the outline of the cell in a box: a box of pixels, and which of them are the cell's.

    Parameters
    ----------
    image
        (C, Y, X), the plane.
    sides
        The box that was dragged.

    Raises
    ------
    ValueError
        If the middle of the box lies beside the plane.

    Examples
    --------
    >>> y, x = np.mgrid[:40, :40]
    >>> disc = (y - 20) ** 2 + (x - 18) ** 2 <= 64
    >>> box, mask = propose(100.0 * disc[None], (11, 29, 9, 28))
    >>> found = np.zeros_like(disc)
    >>> found[box] = mask
    >>> bool((found & disc).sum() > 0.9 * (found | disc).sum())
    True
    """
    square = _stretched(image, sides)
    gray = _contrast(square)
    edges = ndimage.gaussian_gradient_magnitude(gray, _SMOOTHING_PX)
    return _on_plane(_path(edges), sides, image.shape[-2:])


def resized(box: Box, mask: Mask, by_px: int, shape: tuple[int, ...]) -> tuple[Box, Mask]:
    """Return an outline made larger by so many pixels on each side, or smaller.

    Parameters
    ----------
    box, mask
        As `propose` returns them.
    by_px
        Negative: smaller. A pixel is left at least.
    shape
        (Y, X) of the plane.

    Examples
    --------
    >>> box, mask = resized(np.s_[2:3, 2:3], np.ones((1, 1), bool), 1, (9, 9))
    >>> box, mask.astype(int).tolist()
    ((slice(1, 4, None), slice(1, 4, None)), [[0, 1, 0], [1, 1, 1], [0, 1, 0]])
    """
    wide = grown(box, abs(by_px), shape)
    plane = np.zeros(tuple(side.stop - side.start for side in wide), bool)
    plane[inside(box, wide)] = mask
    if by_px >= 0:
        return wide, ndimage.distance_transform_edt(~plane) <= by_px
    depth = ndimage.distance_transform_edt(np.pad(plane, 1))[1:-1, 1:-1]
    return wide, depth > min(-by_px, depth.max() - 0.5)


def _units() -> Floats:
    """Return (2, Y, X), where the pixels of the square lie: from -1 to 1 in the user's box."""
    steps = np.linspace(-1 - _BEYOND, 1 + _BEYOND, _SIDE_PX)
    return np.stack(np.meshgrid(steps, steps, indexing="ij"))


def _frame(sides: Sides) -> tuple[Floats, Floats]:
    """Return the middle of a box and half its sides, each (y, x)."""
    low, high = np.array(sides[::2]), np.array(sides[1::2])
    return (low + high) / 2, np.maximum((high - low) / 2, _LEAST_HALF_PX)


def around(sides: Sides, shape: tuple[int, ...]) -> Box:
    """Return the pixels of a plane (Y, X) that the outline in a box depends on.

    Raises
    ------
    ValueError
        If the middle of the box lies beside the plane.
    """
    middle, half = _frame(sides)
    if (middle < 0).any() or (middle > np.array(shape) - 1).any():
        raise ValueError("the middle of the box lies beside the image; drag it around a cell")
    low = np.maximum(np.floor(middle - 2 * half - 2), 0).astype(int)
    high = np.minimum(np.ceil(middle + 2 * half + 3), shape).astype(int)
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


def _stretched(image: NDArray[np.generic], sides: Sides) -> Floats:
    """Return (C, Y, X), the square; beyond the plane its last pixels go on."""
    middle, half = _frame(sides)
    at = middle[:, None, None] + _units() * half[:, None, None]
    step = half * 2 * (1 + _BEYOND) / _SIDE_PX
    box = around(sides, image.shape[-2:])
    low = np.array([side.start for side in box])
    part = image[:, *box].astype(np.float64)
    blur = np.maximum(0, step - 1) / 2
    return np.stack(
        [
            ndimage.map_coordinates(
                ndimage.gaussian_filter(channel, blur),
                at - low[:, None, None],
                order=1,
                mode="nearest",
            )
            for channel in part
        ]
    )


def _contrast(square: Floats) -> Floats:
    """Return (Y, X), the mix of the channels in which middle and surroundings differ most."""
    distance = np.hypot(*_units())
    inside, outside = square[:, distance < 0.7], square[:, distance > 1.2]
    spread = np.atleast_2d(np.cov(inside)) + np.atleast_2d(np.cov(outside))
    spread += (1e-3 * np.trace(spread) + 1e-9) * np.eye(len(square))
    mix = np.linalg.solve(spread, inside.mean(1) - outside.mean(1))
    if not mix.any():
        mix = np.ones(len(square))
    gray = np.tensordot(mix, square, 1)
    scaled: Floats = (gray - gray.mean()) / (gray.std() + 1e-9)
    return scaled


def _path(edges: Floats) -> Mask:
    """Return what the strongest closed path around the middle holds.

    The path has one point in each direction, and from one to the next it moves by at most one step
    of `_RADII`. For each place where it may begin, dynamic programming finds the best one.
    """
    angles = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    unit_px = (_SIDE_PX - 1) / (2 * (1 + _BEYOND))
    ways = np.stack([np.sin(angles), np.cos(angles)])
    at = (_SIDE_PX - 1) / 2 + unit_px * ways[:, :, None] * _RADII
    polar = ndimage.map_coordinates(edges, at, order=1)
    gain = polar / (polar.max() + 1e-9) - _LEAVING * np.abs(_RADII - 1)
    n = len(_RADII)
    # total[s, r]: the best path that began at radius s and is at r now.
    total = np.where(np.eye(n, dtype=bool), gain[0], -np.inf)
    came = np.zeros((_ANGLES, n, n), np.intp)
    for number in range(1, _ANGLES):
        ways_in = np.stack([_shifted(total, -1), total, _shifted(total, 1)])
        came[number] = ways_in.argmax(0) - 1
        total = ways_in.max(0) + gain[number]
    closes = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= 1
    start, here = np.unravel_index(np.where(closes, total, -np.inf).argmax(), total.shape)
    radii = np.zeros(_ANGLES)
    for number in range(_ANGLES - 1, -1, -1):
        radii[number] = _RADII[here]
        here += came[number, start, here]
    y, x = _units()
    reach = np.interp(np.arctan2(y, x), angles, radii, period=2 * np.pi)
    held: Mask = np.hypot(y, x) <= reach
    return held


def _shifted(total: Floats, by: int) -> Floats:
    """Return the totals of the neighbouring radius: column r holds that of r + by."""
    out = np.full_like(total, -np.inf)
    if by < 0:
        out[:, 1:] = total[:, :-1]
    else:
        out[:, :-1] = total[:, 1:]
    return out


def _on_plane(mask: Mask, sides: Sides, shape: tuple[int, ...]) -> tuple[Box, Mask]:
    """Return what the square holds as pixels of the plane."""
    middle, half = _frame(sides)
    reach = half * (1 + _BEYOND)
    low = np.maximum(np.floor(middle - reach), 0).astype(int)
    high = np.minimum(np.ceil(middle + reach) + 1, shape).astype(int)
    box = slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
    pixels = np.mgrid[box]
    units = (pixels - middle[:, None, None]) / half[:, None, None]
    at = (units + 1 + _BEYOND) * (_SIDE_PX - 1) / (2 * (1 + _BEYOND))
    held: Mask = ndimage.map_coordinates(mask.astype(float), at, order=1) > 0.5
    return box, held
