"""Hold out some of the corrected cells: they are not trained on, and validate the new model.

If there are several images, whole images are held out. Otherwise it is the cells at one side of an
image, with a guard band as wide as the network's receptive field. So, when the network is scored
on held-out cells, it sees no pixel that it was trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import label

Mask = NDArray[np.bool_]
# Largest fraction of the pixels to train on that may be lost to a guard band. If more would be
# lost, there is no guard band.
_LARGEST_LOSS = 0.25


@dataclass(frozen=True)
class Split:
    """The seen pixels to train on, and those that are held out.

    Attributes
    ----------
    learn
        (Y, X) bool for each plane, the pixels to train on.
    held
        (Y, X) int32 for each plane: 0, or the number of the held-out unit, which is a cell with
        its surroundings. No two planes use the same number.
    n_units
        Number of held-out units.
    weak
        Whether there was no room for a guard band. The network may then know the surroundings of
        the held-out cells, so the validation is weak.
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
    """Hold out about `share` of the cells. The same planes always give the same split.

    Parameters
    ----------
    labels, seen
        (Y, X) labels of each plane, and where they were seen.
    groups
        Number of each plane's image. Planes of one image show the same places, so they are held
        out together or not at all. Images with low numbers are held out first.
    guard_px
        Width of the guard band, in pixels: the receptive field of the network.
    share
        Fraction of the cells to hold out, in (0, 1).
    known
        (Y, X) bool for each plane, pixels that the model was trained on before. Cells there are
        not held out, since they cannot validate it.
    origins
        For each plane that is a piece of its image: where it begins in the image, along Y and X,
        in pixels.

    Returns
    -------
    The split. With fewer than two units nothing is held out.
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
    """Return the reverse of a split: pixels to train on are held out, and held-out ones trained on.

    With few cells, each of them can so be held out once (cross-validation with two folds).

    Parameters
    ----------
    split
        A result of `split_seen`.
    known
        (Y, X) bool for each plane, pixels that the model was trained on before. They are trained on
        both times, since they cannot validate it.
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
    """Return, for each seen pixel, the number of the nearest seen cell, from 1; else 0.

    If no cell was seen, the connected regions of seen background are numbered instead.

    Examples
    --------
    >>> labels = np.array([[5, 0, 0, 0, 9]])
    >>> seen_units(labels, np.array([[True, True, False, True, True]]))
    array([[1, 1, 0, 2, 2]], dtype=int32)
    """
    cells = label(np.where(seen, labels, 0), connectivity=2)
    if not cells.any():
        return np.asarray(label(seen, connectivity=2), np.int32)
    nearest = ndimage.distance_transform_edt(
        cells == 0, return_distances=False, return_indices=True
    )
    return np.where(seen, cells[tuple(nearest)], 0).astype(np.int32)


def mostly(units: NDArray[np.int32], mask: Mask) -> Mask:
    """Return, for each unit 1, 2, ..., whether more than half of it lies in a mask."""
    inside = np.bincount(units[mask], minlength=int(units.max(initial=0)) + 1)
    majority: Mask = inside[1:] > np.bincount(units.ravel(), minlength=len(inside))[1:] / 2
    return majority


def _without(units: NDArray[np.int32], known: Mask) -> NDArray[np.int32]:
    """Return the units that do not mostly lie in `known`, with new numbers."""
    new = ~mostly(units, known)
    numbers = np.concatenate([[0], np.cumsum(new) * new]).astype(np.int32)
    renumbered: NDArray[np.int32] = numbers[units]
    return renumbered


def _whole_groups(counts: NDArray[np.number], share: float) -> set[int]:
    """Return images that together hold about this share of the cells; none if there are no such."""
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

    Returns the held-out units of each plane, and the pixels that are too near them to train on.
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
