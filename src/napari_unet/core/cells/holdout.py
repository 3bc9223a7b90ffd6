"""Keeping a part of what the user has seen out of the training, so that it can judge.

Whole images where there are several; else one side of an image, with a guard band of the receptive
field between the two, so that no pixel that is learnt from is seen by the network where it is
judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label

Mask = NDArray[np.bool_]
# More of what is left to learn from is not given away for a guard band.
_LARGEST_LOSS = 0.25


@dataclass(frozen=True)
class Split:
    """Which seen pixels are learnt from, and which judge.

    Attributes
    ----------
    learn
        (Y, X) bool for each plane.
    held
        (Y, X) int32 for each plane: 0, or the number of the held-out unit, a cell with its
        surroundings; numbers run over all planes.
    n_units
        Held-out units.
    weak
        Whether there was no room for a guard band: the network may know the surroundings of what
        judges it.
    """

    learn: tuple[Mask, ...]
    held: tuple[NDArray[np.int32], ...]
    n_units: int
    weak: bool


def split_seen(
    labels: Sequence[NDArray[np.integer]],
    seen: Sequence[Mask],
    groups: Sequence[int],
    guard_px: int,
    share: float = 0.25,
    known: Sequence[Mask] | None = None,
    origins: Sequence[tuple[float, float]] | None = None,
) -> Split:
    """Hold out about `share` of the cells; the same split for the same planes.

    Parameters
    ----------
    labels, seen
        (Y, X) instance labels of each plane, and where they are truth.
    groups
        Number of each plane's image: planes of one image, slices or frames, show the same places
        and stay on one side. Images of low numbers are held out first.
    guard_px
        Width of the guard band, in pixels: the receptive field of the network.
    share
        Of the cells, in (0, 1).
    known
        (Y, X) bool for each plane, what the model has learnt before and cannot be judged on; its
        cells are not held out.
    origins
        Where each plane, as a piece of its image, begins in it, along Y and X in pixels.

    Returns
    -------
    With less than two units nothing is held out.
    """
    units = [seen_units(*plane) for plane in zip(labels, seen, strict=True)]
    if known is not None:
        units = [_without(*each) for each in zip(units, known, strict=True)]
    counts = np.bincount(groups, [float(unit.max(initial=0)) for unit in units])
    held = _whole_groups(counts, share)
    if held:
        chosen = [group in held for group in groups]
        return _split(seen, [u * c for u, c in zip(units, chosen, strict=True)], chosen)
    largest = int(np.argmax(counts))
    inside = [i for i, group in enumerate(groups) if group == largest]
    if counts[largest] < 2:
        return _split(seen, [np.zeros_like(unit) for unit in units], [False] * len(units))
    best: tuple[float, Split] | None = None
    for axis in (0, 1):
        for sign in (1, -1):
            along = [0.0] * len(units) if origins is None else [o[axis] for o in origins]
            cut, blocked = _cut(units, inside, axis, sign, guard_px, share, along)
            split = _split(seen, cut, blocked)
            kept = sum(int(mask.sum()) for mask in split.learn)
            left = sum(int((s & (h == 0)).sum()) for s, h in zip(seen, cut, strict=True))
            lost = 1 - kept / max(left, 1)
            if best is None or lost < best[0]:
                best = lost, split
    if best is not None and best[0] <= _LARGEST_LOSS:
        return best[1]
    cut, _ = _cut(units, inside, 0, 1, 0, share, [0.0] * len(units))
    return _split(seen, cut, [c > 0 for c in cut], weak=True)


def swapped(split: Split, known: Sequence[Mask]) -> Split:
    """The split the other way round: what was held out teaches, what taught is held out.

    With few cells each of them can judge so, once.

    Parameters
    ----------
    split
        From `split_seen`.
    known
        (Y, X) bool for each plane, what teaches both times, since it cannot judge.
    """
    held = [
        np.asarray(label(mask & ~old, connectivity=2), np.int32)
        for mask, old in zip(split.learn, known, strict=True)
    ]
    seen = [
        mask | (unit > 0) | (inside > 0)
        for mask, unit, inside in zip(split.learn, held, split.held, strict=True)
    ]
    return _split(seen, held, [False] * len(held), split.weak)


def seen_units(labels: NDArray[np.integer], seen: Mask) -> NDArray[np.int32]:
    """Number, from 1, of the nearest cell for each seen pixel; of its region where none is."""
    cells = label(np.where(seen, labels, 0), connectivity=2)
    if not cells.any():
        return np.asarray(label(seen, connectivity=2), np.int32)
    nearest = ndimage.distance_transform_edt(
        cells == 0, return_distances=False, return_indices=True
    )
    return np.where(seen, cells[tuple(nearest)], 0).astype(np.int32)


def mostly(units: NDArray[np.int32], mask: Mask) -> Mask:
    """Whether each unit 1, 2, ... lies for the most part in a mask."""
    inside = np.bincount(units[mask], minlength=int(units.max(initial=0)) + 1)
    majority: Mask = inside[1:] > np.bincount(units.ravel(), minlength=len(inside))[1:] / 2
    return majority


def _without(units: NDArray[np.int32], known: Mask) -> NDArray[np.int32]:
    """The units that are not mostly known, numbered anew."""
    new = ~mostly(units, known)
    numbers = np.concatenate([[0], np.cumsum(new) * new]).astype(np.int32)
    renumbered: NDArray[np.int32] = numbers[units]
    return renumbered


def _whole_groups(counts: NDArray[Any], share: float) -> set[int]:
    """Images that together hold about the share; none where that is not to be had."""
    wanted, held, total = share * counts.sum(), set[int](), 0.0
    for group in range(len(counts)):
        if counts[group] > 0 and total + counts[group] <= max(1.5 * wanted, 1):
            held.add(group)
            total += counts[group]
        if total >= wanted:
            break
    return held if total >= 0.5 * wanted and total < counts.sum() else set()


def _cut(
    units: Sequence[NDArray[np.int32]],
    inside: Sequence[int],
    axis: int,
    sign: int,
    guard_px: int,
    share: float,
    origins: Sequence[float],
) -> tuple[list[NDArray[np.int32]], list[Mask]]:
    """Hold out the units of one image at one of its edges.

    Returns the units held out on each plane, and the pixels too near to them to learn from.
    """
    places = [
        (sign * (centre[axis] + origins[i]), i, unit)
        for i in inside
        for unit, centre in enumerate(
            ndimage.center_of_mass(units[i] > 0, units[i], np.arange(1, units[i].max() + 1)), 1
        )
    ]
    count = min(max(1, round(share * len(places))), len(places) - 1)
    last = sorted(places)[-count:]
    held = [np.zeros_like(unit) for unit in units]
    blocked = [np.zeros(unit.shape, bool) for unit in units]
    for _, i, unit in last:
        held[i][units[i] == unit] = unit
    lines = [(i, np.flatnonzero((held[i] > 0).any(1 - axis))) for i in inside]
    edges = [sign * (line[0 if sign > 0 else -1] + origins[i]) for i, line in lines if line.size]
    edge = min(edges)
    for i in inside:
        position = sign * (np.indices(units[i].shape, sparse=True)[axis] + origins[i])
        blocked[i] |= position >= edge - guard_px
    return held, blocked


def _split(
    seen: Sequence[Mask],
    held: Sequence[NDArray[np.int32]],
    blocked: Sequence[Mask | bool],
    weak: bool = False,
) -> Split:
    learn = tuple(
        s & (unit == 0) & ~np.asarray(near)
        for s, unit, near in zip(seen, held, blocked, strict=True)
    )
    numbered, count = [], 0
    for unit in held:
        ids, index = np.unique(unit, return_inverse=True)
        first = int(ids[0] > 0)
        new = index.reshape(unit.shape) + first
        numbered.append(np.where(new > 0, new + count, 0).astype(np.int32))
        count += len(ids) - 1 + first
    return Split(learn, tuple(numbered), count, weak)
