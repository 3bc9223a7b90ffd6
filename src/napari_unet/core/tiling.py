"""Overlap tiles on one lattice (Ronneberger et al. 2015, figure 2).

A valid-convolution U-Net of depth d commutes with shifts by 2^d. Tiles whose origins are
multiples of 2^d therefore give exactly the logits of the whole plane at once. The paper's own
step, the output size, is 4 more than such a multiple and would break this; the step here is the
output size less 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice]


@dataclass(frozen=True)
class Tile:
    """One tile of a plane.

    Attributes
    ----------
    read
        (start, stop) along Y and X of the input, in plane coordinates; may lie outside the plane,
        where the image is mirrored.
    write
        Slices of the plane that this tile fills; the writes of a plan cover it exactly once.
    crop
        Slices of the tile's output that belong there.
    """

    read: tuple[tuple[int, int], tuple[int, int]]
    write: Box
    crop: Box


def smallest_input_px(depth: int) -> int:
    """Smallest input tile that advances by one lattice step, in pixels: 204 at depth 4."""
    step: int = 2**depth
    return 13 * step - 4


def valid_input_px(largest_px: int, depth: int) -> int:
    """Largest valid input size of at most `largest_px` pixels.

    Raises
    ------
    ValueError
        If even the smallest network input is larger.
    """
    step: int = 2**depth
    smallest = smallest_input_px(depth)
    if largest_px < smallest:
        raise ValueError(
            f"a tile of {largest_px} px is too small for a network of depth {depth}; "
            f"give {smallest} px or more"
        )
    return (largest_px - 4 * (step - 1)) // step * step + 4 * (step - 1)


def plan_tiles(shape: tuple[int, int], largest_px: int, depth: int) -> list[Tile]:
    """Tiles that cover a plane, balanced: as few as fit, and none larger than needed.

    Parameters
    ----------
    shape
        (Y, X) of the plane, in pixels.
    largest_px
        Largest input tile along an axis, halo included, in pixels.
    depth
        Number of poolings of the network.

    Raises
    ------
    ValueError
        If the plane is empty or the tile too small.
    """
    if min(shape) < 1:
        raise ValueError(f"the plane is {shape[0]} x {shape[1]} px; it needs 1 x 1 or more")
    axes = [_plan_axis(length, largest_px, depth) for length in shape]
    return [
        Tile(read=(y[0], x[0]), write=(y[1], x[1]), crop=(y[2], x[2])) for y, x in product(*axes)
    ]


def read_mirrored(
    read: Callable[[Box], NDArray[np.float32]],
    shape: tuple[int, int],
    spans: tuple[tuple[int, int], tuple[int, int]],
) -> NDArray[np.float32]:
    """Part of a plane, continued by mirroring at its edges, however far it reaches.

    Parameters
    ----------
    read
        Gives a box of the plane (C, Y, X); is asked for one that lies inside.
    shape
        (Y, X) of the plane.
    spans
        (start, stop) along Y and X; may lie outside.
    """
    y, x = (_mirror(np.arange(*span), n) for span, n in zip(spans, shape, strict=True))
    top, left = int(y.min()), int(x.min())
    part = read((slice(top, int(y.max()) + 1), slice(left, int(x.max()) + 1)))
    if part.shape[1:] == (len(y), len(x)) and min(spans[0][0], spans[1][0]) >= 0:
        return part
    return part[:, y[:, None] - top, x - left]


def _plan_axis(
    length: int, largest_px: int, depth: int
) -> list[tuple[tuple[int, int], slice, slice]]:
    lattice: int = 2**depth
    halo = 6 * lattice - 4
    largest_step = valid_input_px(largest_px, depth) - 2 * halo - 4
    # The last tile may use the 4 extra pixels of its output.
    count = max(1, -(-(length - 4) // largest_step))
    step = max(1, -(-(length - 4) // (count * lattice))) * lattice
    spans = []
    for index in range(count):
        start = index * step
        stop = min(start + step, length) if index < count - 1 else length
        read = (start - halo, start + step + 4 + halo)
        spans.append((read, slice(start, stop), slice(0, stop - start)))
    return spans


def _mirror(index: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Reflect indices into [0, length) without repeating the edge, as often as it takes."""
    if length == 1:
        return np.zeros_like(index)
    period = 2 * (length - 1)
    index = np.abs(index) % period
    return np.minimum(index, period - index)
