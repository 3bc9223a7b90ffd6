"""Colours and outlines of the cells of a Labels layer that can be seen on its image."""

from __future__ import annotations

import colorsys
from functools import cache

import numpy as np
from napari.layers import Image, Labels
from napari.utils.colormaps import CyclicLabelColormap
from numpy.typing import NDArray

# As many as napari's own.
_N_COLOURS = 49
# The golden ratio less 1: hues that are this fraction of their range apart spread well.
_TURN = 0.618
# Hues on dark and grey images, and on stained tissue: from orange to violet. Pink and red are left
# out, for they are hard to see on tissue.
_HUES = 0.07, 0.75
# Relative luminance, 0 to 1: what light colours have at least, and dark ones at most.
_LIGHT, _DARK = 0.5, 0.1
# Median brightness of the image on the screen, 0 to 1, above which cells get dark colours: nearly
# white. Stained tissue is below.
_BRIGHT = 0.75
# Opacity of outlines, and of filled cells, through which the image must be seen.
_OUTLINED, _FILLED = 1.0, 0.7


def outline(layer: Labels, width_px: int) -> None:
    """Show the cells of a layer as outlines of a width, or with 0 filled."""
    layer.contour = width_px
    layer.opacity = _OUTLINED if width_px else _FILLED


def colours_on(image: Image) -> CyclicLabelColormap:
    """Return colours of cells: light ones, or dark ones where the image is nearly white."""
    pixels = np.asarray(image.thumbnail).reshape(-1, 4)
    shown = pixels[pixels[:, 3] > 0, :3]
    is_bright = bool(shown.size) and float(np.median(shown.mean(axis=1))) > _BRIGHT * 255
    return CyclicLabelColormap(colors=_colours(is_bright))


@cache
def _colours(is_bright: bool) -> list[tuple[float, ...]]:
    """Return the colour of the background, and those of cells on a bright or another image."""
    first, last = (0.0, 1.0) if is_bright else _HUES
    hues = first + (last - first) * (np.arange(_N_COLOURS) * _TURN % 1)
    colours = [_darkened(hue) if is_bright else _lightened(hue) for hue in hues]
    return [(0, 0, 0, 0), *((*colour.tolist(), 1) for colour in colours)]


def _lightened(hue: float) -> NDArray[np.float64]:
    """A colour, mixed with just enough white."""
    pure = np.array(colorsys.hsv_to_rgb(hue, 1, 1))
    mixed = pure + (1 - pure) * np.linspace(0, 1, 51)[:, None]
    found: NDArray[np.float64] = mixed[np.argmax(luminance(mixed) >= _LIGHT)]
    return found


def _darkened(hue: float) -> NDArray[np.float64]:
    """A colour, mixed with just enough black."""
    mixed = np.array(colorsys.hsv_to_rgb(hue, 1, 1)) * np.linspace(1, 0, 51)[:, None]
    found: NDArray[np.float64] = mixed[np.argmax(luminance(mixed) <= _DARK)]
    return found


def luminance(colours: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative luminance of sRGB colours (..., 3), 0 (black) to 1 (white)."""
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    found: NDArray[np.float64] = linear @ (0.2126, 0.7152, 0.0722)
    return found
