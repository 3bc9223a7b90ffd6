"""Give the cells of a new result the ids that they had in the result before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.integer]

# A new cell is an old one if their IoU is above this. Of two that are not, at most one can be, so
# no id is given twice.
_SAME = 0.5
# With an IoU below this, a cell that was there before counts as reshaped.
_UNCHANGED = 0.9


@dataclass(frozen=True)
class Change:
    """How the cells of a result differ from those of the result before.

    Attributes
    ----------
    new, reshaped
        Ids of cells that were not there, or had another outline.
    gone
        Ids of cells that were there and are not any more.
    """

    new: frozenset[int] = field(default_factory=frozenset)
    reshaped: frozenset[int] = field(default_factory=frozenset)
    gone: frozenset[int] = field(default_factory=frozenset)

    def __str__(self) -> str:
        counts = (self.new, "new"), (self.gone, "gone"), (self.reshaped, "reshaped")
        return ", ".join(f"{len(ids)} {word}" for ids, word in counts if ids)


def match_cells(planes: Iterable[tuple[Plane, Plane]], above: int) -> tuple[dict[int, int], Change]:
    """Return which id each cell gets, and what changed.

    Parameters
    ----------
    planes
        New labels (Y, X) and those of the same plane before. A new id may be on several planes.
        New ids up to `above` are old ones and stay; the others are free to change.
    above
        The highest old id.

    Returns
    -------
    names
        The id of each cell in the new labels. Of those that are free, a cell that overlaps an old
        one with an IoU above 0.5 has its id; the others are numbered from `above + 1` on, in their
        order.
    change
        How the cells, so named, differ from those before.

    Examples
    --------
    >>> new, old = np.array([[7, 7, 0, 8]]), np.array([[2, 2, 2, 0]])
    >>> names, change = match_cells([(new, old)], above=5)
    >>> names
    {7: 2, 8: 6}
    >>> print(change)
    1 new, 1 reshaped
    """
    # It needs all of scipy, which the dock does not load before it is used.
    from napari_unet.core.cells.linking import add_up, overlaps

    tables = []
    sizes: tuple[Counter[int], Counter[int]] = Counter(), Counter()
    for both in planes:
        tables.append(overlaps(*both))
        for known, labels in zip(sizes, both, strict=True):
            known.update(_sizes(labels))
    there, before = sizes
    iou = {
        (ahead, behind): shared / (there[ahead] + before[behind] - shared)
        for ahead, behind, shared in zip(
            *(column.tolist() for column in add_up(tables)), strict=True
        )
    }
    names = {
        ahead: behind
        for (ahead, behind), share in iou.items()
        if share > _SAME and ahead > above and behind not in there
    }
    rest = (cell for cell in sorted(there) if cell > above and cell not in names)
    names |= {cell: number for number, cell in enumerate(rest, above + 1)}
    named = {cell: names.get(cell, cell) for cell in there}
    now = set(named.values())
    unchanged = {b for (a, b), share in iou.items() if named[a] == b and share >= _UNCHANGED}
    change = Change(
        frozenset(now - before.keys()),
        frozenset((now & before.keys()) - unchanged),
        frozenset(before.keys() - now),
    )
    return named, change


def rename(labels: Plane, names: Mapping[int, int]) -> NDArray[np.int32]:
    """Return labels with other ids; those that have no new name stay."""
    highest = int(labels.max(initial=0))
    if highest <= labels.size:
        # Looking each pixel up takes a tenth of the time of searching for it among the ids.
        table = np.arange(highest + 1, dtype=np.int32)
        for cell, name in names.items():
            if cell <= highest:
                table[cell] = name
        return table[labels]
    ids = np.unique(labels)
    table = np.array([names.get(cell, cell) for cell in ids.tolist()], np.int32)
    return table[np.searchsorted(ids, labels)]


def _sizes(labels: Plane) -> dict[int, int]:
    """Return the number of pixels of each cell."""
    inside = labels.take(np.flatnonzero(labels > 0))
    if labels.max(initial=0) > labels.size:  # counting all ids up to it would take much memory
        ids, counts = np.unique(inside, return_counts=True)
    else:
        found = np.bincount(inside)
        ids = np.flatnonzero(found)
        counts = found[ids]
    return dict(zip(ids.tolist(), counts.tolist(), strict=True))
