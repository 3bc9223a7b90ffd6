"""Cells that are known on some planes of a stack, on the planes between: shape-based interpolation.

Signed distances to a cell's outline are averaged between its sections, which are moved onto each
other before (Raya and Udupa 1990, IEEE Transactions on Medical Imaging 9:32-42). A cell that is
known not to be on the next plane that was looked at shrinks until there.
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

# A section is known if so much of it was seen; so is that a cell is absent where it would be.
_MOSTLY = 0.5


def fill_between(labels: NDArray[np.integer], seen: Mask, reach: int = 10) -> NDArray[np.int32]:
    """Cells on the planes between those on which they are known.

    Sections of one id that share no pixel, seen from above, are two cells: nothing is put between
    them. Where cells would meet, the outline is where both are as deep.

    Parameters
    ----------
    labels
        (Z, Y, X) ids, the same along Z for what is one object; 0 = background.
    seen
        (Z, Y, X) bool, where they are known to be right.
    reach
        Planes from one known section to the next at most.

    Returns
    -------
    filled
        (Z, Y, X) ids of what was put between, 0 elsewhere: wherever `seen` holds, too.

    Raises
    ------
    ValueError
        If the shapes differ or are not of a stack.
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
    """A cell on a plane, in a box of rows and columns."""

    z: int
    box: tuple[slice, slice]
    mask: Mask

    @property
    def centre(self) -> tuple[float, float]:
        y, x = ndimage.center_of_mass(self.mask)
        return self.box[0].start + y, self.box[1].start + x

    def within(self, box: tuple[slice, slice]) -> Mask:
        """The mask in a box that holds this one."""
        before = [b.start - a.start for a, b in zip(box, self.box, strict=True)]
        after = [a.stop - b.stop for a, b in zip(box, self.box, strict=True)]
        return np.pad(self.mask, list(zip(before, after, strict=True)))


@dataclass(frozen=True)
class _Gap:
    """Planes from a section to the next one, or to a plane `end` without the cell.

    `box` holds whatever may come between, within the plane.
    """

    first: _Section
    last: _Section | None
    end: int
    box: tuple[slice, slice]

    def planes(self) -> Iterator[tuple[int, Distances]]:
        """Each plane between, and how deep in the cell its pixels are, in pixels."""
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
    """Sections of which most was seen, by the cell, in the order of the planes."""
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
    """The gaps of a cell that can be filled."""
    height, width = seen.shape[1:]
    for number, section in enumerate(sections):
        after = sections[number + 1] if number + 1 < len(sections) else None
        before = sections[number - 1].z if number else -1
        if after is not None and 1 < after.z - section.z <= reach:
            box = _around(section, after, (height, width))
            if True:
                yield _Gap(section, after, after.z, box)
                continue
        if after is None or after.z - section.z > reach:
            yield from _end(section, seen, [z for z in looked if z > section.z], reach)
        if before < 0 or section.z - before > reach:
            yield from _end(section, seen, [z for z in reversed(looked) if z < section.z], reach)


def _end(section: _Section, seen: Mask, planes: list[int], reach: int) -> Iterator[_Gap]:
    """From the last section to the first plane on which the cell is known not to be."""
    for z in planes:
        if abs(z - section.z) > reach:
            return
        if seen[z][section.box][section.mask].mean() > _MOSTLY:
            if abs(z - section.z) > 1:
                yield _Gap(section, None, z, section.box)
            return


def _around(one: _Section, other: _Section, shape: tuple[int, int]) -> tuple[slice, slice]:
    """A box for both and all between: a section that is moved stays in it."""
    move = np.abs(np.subtract(one.centre, other.centre))
    return tuple(
        slice(max(0, min(a.start, b.start) - by), min(n, max(a.stop, b.stop) + by))
        for a, b, by, n in zip(
            one.box, other.box, (math.ceil(float(m)) for m in move), shape, strict=True
        )
    )  # type: ignore[return-value]


def _depth(mask: Mask) -> Distances:
    """Distance to the outline, which lies between pixels: positive inside."""
    ground = np.pad(mask, 1)
    inside = ndimage.distance_transform_edt(ground)
    outside = ndimage.distance_transform_edt(~ground)
    depth: Distances = np.where(ground, inside - 0.5, 0.5 - outside)[1:-1, 1:-1]
    return depth


def _moved(depth: Distances, by: NDArray[np.float64]) -> Distances:
    return ndimage.shift(depth, by, order=1, mode="nearest") if by.any() else depth
