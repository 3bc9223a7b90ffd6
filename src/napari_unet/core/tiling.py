"""Overlap tiles on one lattice (Ronneberger et al. 2015, figure 2).

A valid-convolution U-Net of depth d commutes with shifts by 2^d. Tiles whose origins are
multiples of 2^d therefore give exactly the logits of the whole plane at once. The paper's own
step, the output size, is 4 more than such a multiple and would break this; the step here is the
output size less 4. Along each axis of a plane or a stack the same holds with its own d.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

# Slices along (Z,) Y and X.
Box = tuple[slice, ...]
# (start, stop) along each axis, in pixels.
Span = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Tile:
    """One tile of a plane, or of a stack.

    Attributes
    ----------
    read
        (start, stop) along (Z,) Y and X of the input, in coordinates of the plane; may lie outside
        it, where the image is mirrored.
    write
        Slices of the plane that this tile fills; the writes of a plan cover it exactly once.
    crop
        Slices of the tile's output that belong there.
    """

    read: Span
    write: Box
    crop: Box


def smallest_input_px(depth: int) -> int:
    """Return the side of the smallest useful input tile, in pixels: 204 at depth 4.

    Its output is one step of 2^depth pixels and the 4 pixels by which outputs overlap.

    Examples
    --------
    >>> smallest_input_px(4)
    204
    """
    step: int = 2**depth
    return 13 * step - 4


def valid_input_px(largest_px: int, depth: int) -> int:
    """Return the largest valid input size that is not larger than `largest_px`, in pixels.

    Raises
    ------
    ValueError
        If `largest_px` is less than `smallest_input_px`.

    Examples
    --------
    >>> valid_input_px(600, depth=4)
    588
    """
    step: int = 2**depth
    smallest = smallest_input_px(depth)
    if largest_px < smallest:
        raise ValueError(
            f"a tile of {largest_px} px is too small for a network of depth {depth}; "
            f"give {smallest} px or more"
        )
    return (largest_px - 4 * (step - 1)) // step * step + 4 * (step - 1)


def plan_tiles(shape: Sequence[int], largest_px: int, depth: int | Sequence[int]) -> list[Tile]:
    """Return the tiles that cover a plane: as few as possible, and all about equally large.

    Parameters
    ----------
    shape
        (Y, X) of the plane, or (Z, Y, X) of the stack, in pixels.
    largest_px
        Largest input tile along an axis, halo included, in pixels.
    depth
        Number of poolings of the network, or the numbers along each axis.

    Raises
    ------
    ValueError
        If the plane is empty or the tile too small.

    Examples
    --------
    >>> tiles = plan_tiles((500, 500), largest_px=572, depth=4)
    >>> len(tiles)
    4
    >>> tiles[0].read[1], tiles[0].write[1]
    ((-92, 352), slice(0, 256, None))
    """
    if min(shape) < 1:
        size = " x ".join(str(length) for length in shape)
        raise ValueError(
            f"the {'plane' if len(shape) == 2 else 'stack'} is {size} px; "
            f"it needs {' x '.join('1' for _ in shape)} or more"
        )
    depths = [depth] * len(shape) if isinstance(depth, int) else depth
    axes = [_plan_axis(length, largest_px, d) for length, d in zip(shape, depths, strict=True)]
    return [Tile(*zip(*spans, strict=True)) for spans in product(*axes)]


def read_mirrored(
    read: Callable[[Box], NDArray[np.float32]],
    shape: Sequence[int],
    spans: Span,
) -> NDArray[np.float32]:
    """Return a part of a plane or stack that may reach beyond it, where the image is mirrored.

    Parameters
    ----------
    read
        Returns a box of the plane (C, Y, X), or of the stack (C, Z, Y, X). It is only called for
        boxes that lie inside.
    shape
        (Y, X) of the plane, or (Z, Y, X) of the stack.
    spans
        (start, stop) of the part along each of these axes. It may lie outside, however far.

    Examples
    --------
    >>> plane = np.array([[[1, 2, 3]]], np.float32)
    >>> read_mirrored(lambda box: plane[(slice(None), *box)], (1, 3), ((0, 1), (-2, 4))).tolist()
    [[[3.0, 2.0, 1.0, 2.0, 3.0, 2.0]]]
    """
    lines = [_mirror(np.arange(*span), n) for span, n in zip(spans, shape, strict=True)]
    part = read(tuple(slice(int(line.min()), int(line.max()) + 1) for line in lines))
    wanted = tuple(len(line) for line in lines)
    if part.shape[1:] == wanted and min(start for start, _ in spans) >= 0:
        return part
    index = np.ix_(*(line - line.min() for line in lines))
    return part[(slice(None), *index)]


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
