"""Fill in cells on the planes between those on which they are known (shape-based interpolation).

The two known sections of a cell are moved onto each other, and the signed distances to their
outlines are averaged (Raya and Udupa 1990, IEEE Transactions on Medical Imaging 9:32-42). If the
next plane that the user looked at does not hold the cell, the cell shrinks until that plane.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Mask = NDArray[np.bool_]
Distances = NDArray[np.float64]

# A section of a cell is known if more than this fraction of its pixels was seen. A cell is known
# to be absent from a plane if more than this fraction of its last section's pixels was seen there.
_MOSTLY = 0.5


def fill_between(labels: NDArray[np.integer], seen: Mask, reach: int = 10) -> NDArray[np.int32]:
    """Return the cells on the planes between those on which they are known.

    Where two cells would meet, the outline between them is where a pixel lies equally deep in both.

    Parameters
    ----------
    labels
        (Z, Y, X) ids, the same on all planes of one cell; 0 = background.
    seen
        (Z, Y, X) bool, where the labels are known to be right.
    reach
        Largest distance of two known sections that are joined, in planes.

    Returns
    -------
    filled
        (Z, Y, X) ids of the pixels that were filled in, 0 elsewhere. Pixels that were seen are 0.

    Raises
    ------
    ValueError
        If the shapes differ or are not those of a stack.

    Examples
    --------
    >>> labels = np.zeros((3, 5, 5), int)
    >>> labels[0, 1:4, 1:4] = labels[2, 1:4, 1:4] = 7
    >>> seen = np.zeros(labels.shape, bool)
    >>> seen[0] = seen[2] = True
    >>> fill_between(labels, seen)[1, 2].tolist()
    [0, 7, 7, 7, 0]
    """
    if labels.ndim != 3 or labels.shape != seen.shape:
        raise ValueError(
            f"labels of a stack (Z, Y, X) and what was seen of them are needed, and these are "
            f"{labels.shape} and {seen.shape}; give two of the same size"
        )
    filled = np.zeros(labels.shape, np.int32)
    deepest = np.zeros(labels.shape, np.float32)
    looked = [z for z in range(len(seen)) if seen[z].any()]
    for cell, sections in _known(labels, seen, looked).items():
        for gap in _gaps(sections, seen, looked, reach):
            for z, depth in gap.planes():
                box = (z, *gap.box)
                here = (depth > deepest[box]) & ~seen[box]
                filled[box][here] = cell
                deepest[box][here] = depth[here]
    return filled


@dataclass(frozen=True)
class _Section:
    """The pixels of one cell on one plane, in a box of rows and columns."""

    z: int
    box: tuple[slice, slice]
    mask: Mask

    @property
    def centre(self) -> tuple[float, float]:
        y, x = ndimage.center_of_mass(self.mask)
        return self.box[0].start + y, self.box[1].start + x

    def within(self, box: tuple[slice, slice]) -> Mask:
        """Return the mask in a larger box, which must hold the box of this section."""
        before = [b.start - a.start for a, b in zip(box, self.box, strict=True)]
        after = [a.stop - b.stop for a, b in zip(box, self.box, strict=True)]
        return np.pad(self.mask, list(zip(before, after, strict=True)))


@dataclass(frozen=True)
class _Gap:
    """The planes between a section and the next one, or a plane `end` that lacks the cell.

    `box` holds the rows and columns in which the cell may lie on these planes.
    """

    first: _Section
    last: _Section | None
    end: int
    box: tuple[slice, slice]

    def planes(self) -> Iterator[tuple[int, Distances]]:
        """Yield each plane between, and how deep in the cell its pixels lie, in pixels."""
        one = _depth(self.first.within(self.box))
        other = one - one.max() if self.last is None else _depth(self.last.within(self.box))
        way = np.zeros(2)
        if self.last is not None:
            way = np.subtract(self.last.centre, self.first.centre)
        step = 1 if self.end > self.first.z else -1
        for z in range(self.first.z + step, self.end, step):
            share = (z - self.first.z) / (self.end - self.first.z)
            yield (
                z,
                (1 - share) * _moved(one, share * way) + share * _moved(other, (share - 1) * way),
            )


def _known(labels: NDArray[np.integer], seen: Mask, looked: list[int]) -> dict[int, list[_Section]]:
    """Return, for each cell, its sections that were mostly seen, in the order of the planes."""
    known: dict[int, list[_Section]] = defaultdict(list)
    for z in looked:
        ids = np.unique(labels[z][seen[z]])
        ids = ids[ids > 0]
        if not ids.size:
            continue
        # Ids may be large and few.
        numbers = np.searchsorted(ids, labels[z])
        numbers = np.where(ids[np.minimum(numbers, len(ids) - 1)] == labels[z], numbers + 1, 0)
        for number, box in enumerate(ndimage.find_objects(numbers), 1):
            mask = numbers[box] == number
            if seen[z][box][mask].mean() > _MOSTLY:
                known[int(ids[number - 1])].append(_Section(z, box, mask))
    return known


def _gaps(sections: list[_Section], seen: Mask, looked: list[int], reach: int) -> Iterator[_Gap]:
    """Yield the gaps of a cell that can be filled."""
    height, width = seen.shape[1:]
    for number, section in enumerate(sections):
        after = sections[number + 1] if number + 1 < len(sections) else None
        before = sections[number - 1].z if number else -1
        if after is not None and 1 < after.z - section.z <= reach:
            box = _around(section, after, (height, width))
            yield _Gap(section, after, after.z, box)
            continue
        if after is None or after.z - section.z > reach:
            yield from _end(section, seen, [z for z in looked if z > section.z], reach)
        if before < 0 or section.z - before > reach:
            yield from _end(section, seen, [z for z in reversed(looked) if z < section.z], reach)


def _end(section: _Section, seen: Mask, planes: list[int], reach: int) -> Iterator[_Gap]:
    """Yield the gap between the last section and the first plane known not to hold the cell."""
    for z in planes:
        if abs(z - section.z) > reach:
            return
        if seen[z][section.box][section.mask].mean() > _MOSTLY:
            if abs(z - section.z) > 1:
                yield _Gap(section, None, z, section.box)
            return


def _around(one: _Section, other: _Section, shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return a box that holds both sections and every section between them."""
    move = np.abs(np.subtract(one.centre, other.centre))
    return tuple(
        slice(max(0, min(a.start, b.start) - by), min(n, max(a.stop, b.stop) + by))
        for a, b, by, n in zip(
            one.box, other.box, (math.ceil(float(m)) for m in move), shape, strict=True
        )
    )  # type: ignore[return-value]


def _depth(mask: Mask) -> Distances:
    """Return the distance of each pixel to the outline, in pixels: positive inside the cell.

    The outline lies between pixels, so no distance is 0.
    """
    ground = np.pad(mask, 1)
    inside = ndimage.distance_transform_edt(ground)
    outside = ndimage.distance_transform_edt(~ground)
    depth: Distances = np.where(ground, inside - 0.5, 0.5 - outside)[1:-1, 1:-1]
    return depth


def _moved(depth: Distances, by: NDArray[np.float64]) -> Distances:
    return ndimage.shift(depth, by, order=1, mode="nearest") if by.any() else depth
