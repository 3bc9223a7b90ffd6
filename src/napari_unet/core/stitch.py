"""Cells of neighbouring planes as one object: along z, or along t.

Everything is decided from areas and overlaps, so that a caller who never holds two planes whole
can count them block by block.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Ids = NDArray[np.int64]
# Ids of one plane, those of another that they overlap with, and the pixels that they share.
Overlaps = tuple[Ids, Ids, Ids]


@dataclass(frozen=True)
class Rule:
    """When two sections are of one object.

    They are where they cover each other (`min_iou`), or where one covers most of the other
    (`min_share`), as a cell does its own cap; of several that fit, those are chosen that give the
    largest sum of IoUs. Over missing planes they have to cover each other, for there one object
    ends and the next begins, too.

    Parameters
    ----------
    bridge
        Planes that may be missing.
    min_iou
        Shared pixels over all pixels of both.
    min_share
        Shared pixels over the pixels of the smaller.
    cap
        IoU that one which is covered needs still: specks are no caps.
    """

    bridge: int = 1
    min_iou: float = 0.4
    min_share: float = 0.7
    cap: float = 0.05


def areas(labels: NDArray[np.integer]) -> tuple[Ids, Ids]:
    """Ids of labels of any shape, in the order in which they appear, and their pixels."""
    ids, first, counts = np.unique(labels[labels > 0], return_index=True, return_counts=True)
    order = np.argsort(first)
    return ids[order].astype(np.int64), counts[order].astype(np.int64)


def overlaps(a: NDArray[np.integer], b: NDArray[np.integer]) -> Overlaps:
    """Ids of `a` and of `b` that share pixels, and how many; two labels of the same shape.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"the planes are {a.shape} and {b.shape}; give two of the same size")
    both = (a > 0) & (b > 0)
    return _counted(a[both].astype(np.int64), b[both].astype(np.int64), None)


def add_up(tables: Iterable[Overlaps]) -> Overlaps:
    """Overlaps of two planes from those of their parts."""
    columns = [np.concatenate(column) for column in zip(*tables, strict=True)]
    return _counted(columns[0], columns[1], columns[2]) if columns else _none()


class Linker:
    """Gives the cells of one plane after the other the ids of their objects, 1, 2, ...

    No two cells of a plane get the same. Nearer planes come first: over missing ones only cells
    are linked that nothing nearer was. Planes in reverse give the same objects, but for ties;
    of these, cells that come first in their plane win.

    Parameters
    ----------
    rule
        When two sections are of one object.
    """

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()
        self.n_linked = 0
        self._before: deque[_Plane] = deque(maxlen=self.rule.bridge + 1)

    def add(self, ids: Ids, areas: Ids, before: Sequence[Overlaps]) -> Ids:
        """The linked id of each cell of the next plane.

        Parameters
        ----------
        ids, areas
            The plane's cells, and their pixels.
        before
            Overlaps with each of the last `1 + bridge` planes, the nearest first; ids of that
            plane first in each. Fewer will do.

        Raises
        ------
        ValueError
            If an overlap names a cell that its plane does not have.
        """
        plane = _Plane(ids, areas)
        for gap, table in enumerate(before[: len(self._before)]):
            earlier = self._before[-1 - gap]
            first, second = earlier.find(table[0]), plane.find(table[1])
            free = ~earlier.goes_on[first] & (plane.linked[second] == 0)
            pairs = (first[free], second[free], table[2][free])
            for one, other in zip(*self._choose(earlier, plane, pairs, gap), strict=True):
                plane.linked[other] = earlier.linked[one]
                earlier.goes_on[one] = True
        new = plane.linked == 0
        plane.linked[new] = np.arange(new.sum()) + self.n_linked + 1
        self.n_linked += int(new.sum())
        self._before.append(plane)
        return plane.linked.copy()

    def _choose(
        self, earlier: _Plane, plane: _Plane, pairs: Overlaps, gap: int
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Which cells of two planes are of one object, by their places in them."""
        first, second, shared = pairs
        one, other = earlier.areas[first], plane.areas[second]
        iou, share = shared / (one + other - shared), shared / np.minimum(one, other)
        fits = iou >= self.rule.min_iou
        if gap == 0:
            fits |= (share >= self.rule.min_share) & (iou >= self.rule.cap)
        return assign(first[fits], second[fits], iou[fits])


def link(
    frames: Iterable[NDArray[np.integer]], rule: Rule | None = None
) -> Iterator[tuple[Ids, Ids]]:
    """For each of a row of planes (or volumes) its ids, and the ids of their objects.

    Parameters
    ----------
    frames
        Labels of the same shape; only the last `2 + bridge` are kept.
    rule
        When two sections are of one object.
    """
    linker = Linker(rule)
    last: deque[NDArray[np.integer]] = deque(maxlen=linker.rule.bridge + 1)
    for frame in frames:
        ids, sizes = areas(frame)
        before = [overlaps(earlier, frame) for earlier in reversed(last)]
        yield ids, linker.add(ids, sizes, before)
        last.append(frame)


def assign(
    rows: NDArray[np.intp], columns: NDArray[np.intp], values: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """One-to-one choice of pairs with the largest sum of values, all above 0.

    Kuhn's assignment (scipy's `linear_sum_assignment`) on each connected group of pairs, so that
    a plane with thousands of cells takes no matrix of all of them.
    """
    if not len(rows):
        return rows, columns
    n = int(rows.max()) + 1
    size = n + int(columns.max()) + 1
    graph = coo_array((np.ones(len(rows), bool), (rows, n + columns)), shape=(size, size))
    group = connected_components(graph, directed=False)[1][rows]
    order = np.lexsort((columns, rows, group))
    chosen: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        r, row = np.unique(rows[members], return_inverse=True)
        c, column = np.unique(columns[members], return_inverse=True)
        table = np.zeros((len(r), len(c)))
        table[row, column] = values[members]
        i, j = linear_sum_assignment(table, maximize=True)
        real = table[i, j] > 0
        chosen.append((r[i[real]], c[j[real]]))
    return np.concatenate([r for r, _ in chosen]), np.concatenate([c for _, c in chosen])


class _Plane:
    """Cells of a plane: linked to what, and whether an object goes on after it."""

    def __init__(self, ids: Ids, areas: Ids) -> None:
        self.areas = np.asarray(areas, np.int64)
        self.linked = np.zeros(len(ids), np.int64)
        self.goes_on = np.zeros(len(ids), bool)
        self._order = np.argsort(ids, kind="stable")
        self._sorted = np.asarray(ids, np.int64)[self._order]

    def find(self, ids: Ids) -> NDArray[np.intp]:
        """Places of ids in the plane."""
        at = np.searchsorted(self._sorted, ids)
        known = at < len(self._sorted)
        known[known] = self._sorted[at[known]] == ids[known]
        if not known.all():
            raise ValueError(
                f"an overlap names the cell {ids[~known][0]}, which its plane does not have; "
                "give the areas of all cells"
            )
        return self._order[at]


def _counted(a: Ids, b: Ids, counts: Ids | None) -> Overlaps:
    if not len(a):
        return _none()
    width = int(b.max()) + 1
    pairs, where = np.unique(a * width + b, return_inverse=True)
    total = np.bincount(where, counts).astype(np.int64)
    return pairs // width, pairs % width, total


def _none() -> Overlaps:
    empty = np.zeros(0, np.int64)
    return empty, empty, empty
