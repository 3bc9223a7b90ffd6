"""Propose the outline of a cell for which a user has dragged a box.

It is the closed path around the middle of the box that follows the image's edges best, parts what
looks like the middle from what looks like the surroundings, and stays near an ellipse that touches
the four sides of the box. Such an ellipse may lean, as cells do that lie across. A vote of path,
ellipse and random walk was no better (see `benchmarks.gestures`), nor were the scores of the model
beside the image: of missed cells they know too little.
"""

from __future__ import annotations

from collections.abc import Sequence

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
# What leaving the ellipse costs the path: for the square of a distance of 1, as much as so many of
# the strongest edges.
_LEAVING = 4.0
# Ellipses that are tried: the correlation of rows and columns in each. What a lean costs each
# point of the path: for the square of 1, as much as so many of the strongest edges.
_LEANS = np.array([-0.8, -0.6, -0.3, 0.0, 0.3, 0.6, 0.8])
_LEANING = 0.2
# Inside of the first, outside of the second times the ellipse is what the cell and its surroundings
# look like; these end at the third times the ellipse that does not lean.
_INNER, _OUTER, _OUTMOST = 0.7, 1.2, 1.6
# What it counts for the path that it holds a pixel that looks like the cell, for each deviation by
# which it does, up to 2 of them, and a distance of 1.
_LIKENESS = 0.5
# Standard deviations of the Gaussians that smooth texture and likeness, in pixels of the square.
_TEXTURE_PX, _LIKENESS_PX = 3.0, 2.0
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
    y, x = _units()
    plain = np.hypot(y, x)
    gray = _contrast(square, plain < _INNER, plain > _OUTER)
    edges = ndimage.gaussian_gradient_magnitude(gray, _SMOOTHING_PX)
    rough = [
        ndimage.gaussian_filter(ndimage.gaussian_gradient_magnitude(channel, 1.0), _TEXTURE_PX)
        for channel in square
    ]
    looks = np.concatenate([square, rough])
    likeness = [
        _likeness(looks, distance < _INNER, (distance > _OUTER) & (plain < _OUTMOST))
        for distance in (_distance(y, x, lean) for lean in _LEANS)
    ]
    return _on_plane(
        _path(edges / (edges[plain < _OUTMOST].max() + 1e-3), likeness), sides, image.shape[-2:]
    )


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


def _distance(y: Floats, x: Floats, lean: float) -> Floats:
    """Return the distance from the middle; 1 is an ellipse that leans and touches all sides."""
    distance: Floats = np.sqrt((y * y - 2 * lean * y * x + x * x) / (1 - lean * lean))
    return distance


def _contrast(looks: Floats, inside: Mask, outside: Mask) -> Floats:
    """Return (Y, X), the mix of the channels in which two parts of the square differ most."""
    either = looks[:, inside | outside]
    # What varies by less than a millionth of its size is flat.
    least = 1e-6 * np.abs(either).max(1) + 1e-9
    scaled = looks / (either.std(1) + least)[:, None, None]
    one, other = scaled[:, inside], scaled[:, outside]
    spread = np.atleast_2d(np.cov(one)) + np.atleast_2d(np.cov(other))
    spread += (1e-2 * np.trace(spread) / len(looks) + 1e-9) * np.eye(len(looks))
    mix = np.linalg.solve(spread, one.mean(1) - other.mean(1))
    if not mix.any():
        mix = np.ones(len(looks))
    gray: Floats = np.tensordot(mix, scaled, 1)
    return gray


def _likeness(looks: Floats, inside: Mask, outside: Mask) -> Floats:
    """Return (Y, X), how much more a pixel looks like the inside: from -2 to 2 deviations."""
    gray = ndimage.gaussian_filter(_contrast(looks, inside, outside), _LIKENESS_PX)
    one, other = gray[inside], gray[outside]
    between = np.median(one) - np.median(other)
    middle = (np.median(one) + np.median(other)) / 2
    found: Floats = (gray - middle) * between / ((one.var() + other.var()) / 2 + 1e-9)
    return np.clip(found, -2, 2)


def _path(edges: Floats, likeness: Sequence[Floats]) -> Mask:
    """Return what the best closed path around the middle holds.

    The path has one point in each direction, and from one to the next it moves by at most one step
    of `_RADII`. For each place where it may begin, dynamic programming finds the best one.

    Parameters
    ----------
    edges
        (Y, X), the square; the strongest edge is 1.
    likeness
        (Y, X) for each of `_LEANS`.
    """
    angles = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    unit_px = (_SIDE_PX - 1) / (2 * (1 + _BEYOND))
    ways = np.stack([np.sin(angles), np.cos(angles)])
    # (L, A): for each lean and direction, how far out the ellipse lies.
    ellipses = np.stack([1 / _distance(ways[0], ways[1], lean) for lean in _LEANS])
    gain = np.stack(
        [
            _gain(
                edges, like, (_SIDE_PX - 1) / 2 + unit_px * ways[:, :, None] * out[:, None] * _RADII
            )
            for like, out in zip(likeness, ellipses, strict=True)
        ]
    )
    gain -= _LEANING * (_LEANS**2)[:, None, None]
    n = len(_RADII)
    # total[l, s, r]: the best path along ellipse l that began at radius s and is at r now.
    total = np.where(np.eye(n, dtype=bool), gain[:, 0, None], -np.inf)
    came = np.zeros((_ANGLES, *total.shape), np.int8)
    for number in range(1, _ANGLES):
        ways_in = np.stack([_shifted(total, -1), total, _shifted(total, 1)])
        came[number] = ways_in.argmax(0) - 1
        total = ways_in.max(0) + gain[:, number, None]
    closes = np.abs(np.subtract.outer(np.arange(n), np.arange(n))) <= 1
    lean, start, here = np.unravel_index(np.where(closes, total, -np.inf).argmax(), total.shape)
    radii = np.zeros(_ANGLES)
    for number in range(_ANGLES - 1, -1, -1):
        radii[number] = _RADII[here]
        here += came[number, lean, start, here]
    y, x = _units()
    reach = np.interp(np.arctan2(y, x), angles, radii * ellipses[lean], period=2 * np.pi)
    held: Mask = np.hypot(y, x) <= reach
    return held


def _gain(edges: Floats, likeness: Floats, at: Floats) -> Floats:
    """Return (A, R), what a point of the path is worth in each direction and distance.

    Parameters
    ----------
    edges, likeness
        (Y, X), the square.
    at
        (2, A, R), places in it.
    """
    crossed, like = (
        ndimage.map_coordinates(values, at, order=1, mode="nearest") for values in (edges, likeness)
    )
    held = np.cumsum(like * _RADII, axis=1) * (_RADII[1] - _RADII[0])
    # More than the ellipse holds, so that ellipses compare by what the path adds to them.
    held -= held[:, [np.abs(_RADII - 1).argmin()]]
    gain: Floats = crossed + _LIKENESS * held - _LEAVING * (_RADII - 1) ** 2
    return gain


def _shifted(total: Floats, by: int) -> Floats:
    """Return the totals of the neighbouring radius: column r holds that of r + by."""
    out = np.full_like(total, -np.inf)
    if by < 0:
        out[..., 1:] = total[..., :-1]
    else:
        out[..., :-1] = total[..., 1:]
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
