"""Images that are computed, with the true cells: samples that need no download.

Each function returns the image and its labels, and draws the same image at each call.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Grey = NDArray[np.uint8]
Labels = NDArray[np.int32]
Floats = NDArray[np.float64]

# Brightness of the ground, of the noise (standard deviation), and blur of the microscope in pixels.
_GROUND, _NOISE, _BLUR_PX = 14.0, 3.0, 1.2


def nuclei(side: int = 512) -> tuple[Grey, Labels]:
    """Return nuclei in fluorescence, about 24 px wide; some touch, some are dim. (Y, X)."""
    rng = np.random.default_rng(3)
    image, labels = np.full((side, side), _GROUND), np.zeros((side, side), np.int32)
    for count, centre in enumerate(_places((side, side), 36, 13, rng)):
        brightness = rng.choice([55.0, 100.0, 160.0])
        _add(image, labels, 2 * count + 1, centre, rng.uniform(9, 14, 2), rng, brightness)
        if rng.random() < 0.15:
            beside = centre + np.array([15, 14])
            _add(image, labels, 2 * count + 2, beside, rng.uniform(9, 12, 2), rng, 100.0)
    return _as_seen(image, rng), labels


def stack(planes: int = 12, side: int = 256) -> tuple[Grey, Labels]:
    """Return nuclei in a stack, each on about five planes; planes lie 4 px apart. (Z, Y, X)."""
    rng = np.random.default_rng(5)
    shape = (planes, side, side)
    image, labels = np.full(shape, _GROUND), np.zeros(shape, np.int32)
    for count, (y, x) in enumerate(_places(shape[1:], 36, 8, rng)):
        axes = np.array([2.8, *rng.uniform(10, 13, 2)])
        centre = np.array([rng.uniform(2, planes - 3), y, x])
        _add(image, labels, count + 1, centre, axes, rng, 120.0)
    return _as_seen(image, rng), labels


def movie(times: int = 10, side: int = 256) -> tuple[Grey, Labels]:
    """Return nuclei that move by 2 px a frame; every fourth divides halfway. (T, Y, X).

    A nucleus has one number at all times, and its daughters have numbers of their own.
    """
    rng = np.random.default_rng(7)
    shape = (times, side, side)
    image, labels = np.full(shape, _GROUND), np.zeros(shape, np.int32)
    for count, start in enumerate(_places(shape[1:], 44, 6, rng)):
        step, seed = rng.uniform(-1.5, 1.5, 2), int(rng.integers(1_000_000))
        axes, number = rng.uniform(10, 13, 2), 3 * count + 1
        for t in range(times):
            centre, late = start + t * step, t - times // 2
            own = np.random.default_rng(seed)
            if count % 4 != 1 or late < 0:
                _add(image[t], labels[t], number, centre, axes, own, 120.0)
                continue
            for daughter, side_of in ((1, -1), (2, 1)):
                at = centre + side_of * (8 + min(late, 3)) * np.array([0.6, 0.8])
                _add(image[t], labels[t], number + daughter, at, 0.75 * axes, own, 150.0)
    return _as_seen(image, rng), labels


def channels(side: int = 384) -> tuple[Grey, Labels]:
    """Return cells in two channels, bodies and nuclei, (C, Y, X); labels of the nuclei, (Y, X)."""
    rng = np.random.default_rng(11)
    image, labels = np.full((2, side, side), _GROUND), np.zeros((side, side), np.int32)
    bodies = labels.copy()
    for count, centre in enumerate(_places((side, side), 48, 9, rng)):
        _add(image[0], bodies, count + 1, centre, rng.uniform(20, 26, 2), rng, 70.0)
        middle = centre + rng.uniform(-3, 3, 2)
        _add(image[1], labels, count + 1, middle, rng.uniform(9, 13, 2), rng, 140.0)
    return np.stack([_as_seen(channel, rng) for channel in image]), labels


def phase_contrast(side: int = 512) -> tuple[Grey, Labels]:
    """Return cells as in phase contrast: textured, with a bright rim, about 60 px wide. (Y, X)."""
    rng = np.random.default_rng(13)
    body, labels = np.zeros((side, side)), np.zeros((side, side), np.int32)
    for count, centre in enumerate(_places((side, side), 92, 14, rng)):
        _add(body, labels, count + 1, centre, rng.uniform(24, 36, 2), rng, 1.0)
    inside = labels > 0
    depth = ndimage.distance_transform_edt(inside)
    outside = ndimage.distance_transform_edt(~inside)
    grain = ndimage.gaussian_filter(rng.normal(size=body.shape), 2.0) * 5
    image = 118 + 70 * np.exp(-((outside / 4) ** 2)) * ~inside
    image += inside * (22 * grain + 34 * (1 - np.exp(-depth / 12)) - 26 * np.exp(-depth / 3))
    return _as_seen(image, rng), labels


def example(model: str) -> NDArray[np.uint8]:
    """Return cells that a shipped model knows, with their outlines, as RGB (192, 192, 3).

    Parameters
    ----------
    model
        "nuclei" or "phase".
    """
    image, labels = {"nuclei": nuclei, "phase": phase_contrast}[model](192)
    pixels = np.repeat(image[:, :, None], 3, axis=2)
    outlines = ndimage.grey_dilation(labels, (3, 3)) != ndimage.grey_erosion(labels, (3, 3))
    pixels[outlines & (labels > 0)] = 255, 220, 60
    return pixels


def _places(
    shape: tuple[int, ...], step: int, shift: float, rng: np.random.Generator
) -> list[Floats]:
    """Return points of a grid with so many pixels between them, each moved at random."""
    rows, columns = (range(step // 2, n - step // 3, step) for n in shape)
    return [np.array([y, x]) + rng.uniform(-shift, shift, 2) for y in rows for x in columns]


def _add(
    image: Floats,
    labels: Labels,
    number: int,
    centre: Floats,
    axes: Floats,
    rng: np.random.Generator,
    brightness: float,
) -> None:
    """Draw an ellipse or ellipsoid, turned in Y and X; where cells overlap, the first has it."""
    turn, bright = rng.uniform(0, np.pi), brightness * rng.uniform(0.85, 1.15)
    reach = np.maximum(axes, axes[-2:].max() * (np.arange(len(axes)) >= len(axes) - 2))
    low = np.maximum(np.floor(centre - reach), 0).astype(int)
    high = np.minimum(np.ceil(centre + reach) + 1, image.shape).astype(int)
    box = tuple(slice(*pair) for pair in zip(low, high, strict=True))
    at = np.stack(np.meshgrid(*map(np.arange, low, high), indexing="ij"), axis=-1) - centre
    y, x = at[..., -2].copy(), at[..., -1].copy()
    at[..., -2], at[..., -1] = (
        y * np.cos(turn) + x * np.sin(turn),
        x * np.cos(turn) - y * np.sin(turn),
    )
    distance = np.linalg.norm(at / axes, axis=-1)
    inside = distance <= 1
    image[box][inside] = np.maximum(image[box], bright * (1 - 0.25 * distance**2))[inside]
    labels[box][inside & (labels[box] == 0)] = number


def _as_seen(image: Floats, rng: np.random.Generator) -> Grey:
    """Return it blurred in Y and X, with noise, as uint8."""
    blur = (0,) * (image.ndim - 2) + (_BLUR_PX, _BLUR_PX)
    seen = ndimage.gaussian_filter(image, blur) + rng.normal(0, _NOISE, image.shape)
    return np.asarray(seen.clip(0, 255), np.uint8)
