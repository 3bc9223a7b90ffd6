"""Link cells of neighbouring planes that are one cell, along z or along t.

Only areas and overlaps of cells are needed. A caller who cannot hold two whole planes in memory
can count them block by block.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from napari_unet.core.pairs import count_pairs

Ids = NDArray[np.int64]
# Ids of one plane, those of another that they overlap with, and the pixels that they share.
Overlaps = tuple[Ids, Ids, Ids]


@dataclass(frozen=True)
class Rule:
    """The rule that decides which sections belong to one linked cell.

    First, sections of neighbouring planes are linked where they cover each other (`min_iou`). If
    several fit, the pairs with the largest sum of IoUs are chosen. This gives runs of planes.
    Then a short run (`cap`) may be the cap of a long one: it is much smaller than the section
    beside it, but lies on it (`min_share`). Two long runs are never joined: they are two cells, one
    above the other.

    Parameters
    ----------
    bridge
        Largest number of planes that may be missing between two linked sections.
    min_iou
        Smallest IoU of sections on neighbouring planes: shared pixels over all pixels of both.
    bridge_iou
        Smallest IoU of sections across missing planes, where one cell may end and another begin.
    min_share
        Smallest share of the smaller section that must lie on the larger one for a cap.
    cap
        Largest number of planes of a cap; with 0 there are none.
    """

    bridge: int = 1
    min_iou: float = 0.4
    bridge_iou: float = 0.6
    min_share: float = 0.7
    cap: int = 2


def areas(labels: NDArray[np.integer]) -> tuple[Ids, Ids]:
    """Return the ids in labels of any shape, in the order in which they appear, and their areas.

    Examples
    --------
    >>> areas(np.array([[7, 7, 0, 3]]))
    (array([7, 3]), array([2, 1]))
    """
    ids, first, counts = np.unique(labels[labels > 0], return_index=True, return_counts=True)
    order = np.argsort(first)
    return ids[order].astype(np.int64), counts[order].astype(np.int64)


def overlaps(a: NDArray[np.integer], b: NDArray[np.integer]) -> Overlaps:
    """Return the ids of `a`, the ids of `b` with which they share pixels, and how many pixels.

    Parameters
    ----------
    a, b
        Labels of two planes, of the same shape.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> overlaps(np.array([[7, 7, 7, 0]]), np.array([[0, 1, 1, 1]]))
    (array([7]), array([1]), array([2]))
    """
    if a.shape != b.shape:
        raise ValueError(f"the planes are {a.shape} and {b.shape}; give two of the same size")
    both = np.flatnonzero((a > 0) & (b > 0))
    return count_pairs(a.take(both), b.take(both))


def add_up(tables: Iterable[Overlaps]) -> Overlaps:
    """Return the overlaps of two planes from the overlaps of their parts."""
    columns = [np.concatenate(column) for column in zip(*tables, strict=True)]
    return count_pairs(columns[0], columns[1], columns[2]) if columns else _none()


class Linker:
    """Links the cells of planes that are given one after the other.

    `add` gives each cell of a plane the number of its run, 1, 2, .... A run is a linked cell, or a
    piece of one; at the end `objects` returns which runs belong together. Two cells of one plane
    are never linked. Across a gap, only cells that have no link to a nearer plane are considered.
    The planes in reverse order give the same links, except for ties, where the first cells win.

    Parameters
    ----------
    rule
        Decides which sections belong together.
    """

    def __init__(self, rule: Rule | None = None) -> None:
        self.rule = rule or Rule()
        self._before: deque[_Plane] = deque(maxlen=self.rule.bridge + 1)
        self._n_planes = 0
        # The first and the last plane of each run, and the number of planes that hold it.
        self._first: list[int] = [0]
        self._last: list[int] = [0]
        self._count: list[int] = [0]
        # Candidates for caps: IoU, plane, the run that ends before it, the run that begins on it.
        self._maybe: list[tuple[float, int, int, int]] = []

    def add(self, ids: Ids, areas: Ids, before: Sequence[Overlaps]) -> Ids:
        """Add the next plane, and return the run of each of its cells.

        Parameters
        ----------
        ids, areas
            The ids of the plane's cells, and their areas in pixels.
        before
            Overlaps with each of the last `1 + bridge` planes, the nearest first; fewer are
            allowed. In each, the ids of the earlier plane come first.

        Raises
        ------
        ValueError
            If an overlap names a cell that its plane does not have.
        """
        plane = _Plane(ids, areas)
        near = None
        for gap, table in enumerate(before[: len(self._before)]):
            earlier = self._before[-1 - gap]
            pairs = _Pairs(earlier.find(table[0]), plane.find(table[1]), table[2], earlier, plane)
            near = near or pairs
            fits = pairs.free & (pairs.iou >= (self.rule.bridge_iou if gap else self.rule.min_iou))
            for one, other in zip(*assign(*pairs.of(fits)), strict=True):
                plane.runs[other] = run = earlier.runs[one]
                earlier.goes_on[one] = True
                self._last[run] = self._n_planes
                self._count[run] += 1
        new = plane.runs == 0
        begun = int(new.sum())
        plane.runs[new] = np.arange(begun) + len(self._first)
        self._first += [self._n_planes] * begun
        self._last += [self._n_planes] * begun
        self._count += [1] * begun
        if near is not None:
            self._look_for_caps(near, new)
        self._before.append(plane)
        self._n_planes += 1
        return plane.runs.copy()

    def objects(self) -> Ids:
        """Return the linked cell of each run: 0 for run 0, then 1, 2, ... as they begin."""
        root = list(range(len(self._first)))
        first, last, count = list(self._first), list(self._last), list(self._count)

        def top(run: int) -> int:
            while root[run] != run:
                run = root[run]
            return run

        for _, plane, one, other in sorted(self._maybe, key=lambda edge: (-edge[0], *edge[1:])):
            a, b = top(one), top(other)
            fits = last[a] == plane - 1 and first[b] == plane
            if fits and min(count[a], count[b]) <= self.rule.cap:
                root[b], last[a], count[a] = a, last[b], count[a] + count[b]
        tops = np.array([top(run) for run in range(len(root))])
        return np.unique(tops, return_inverse=True)[1].astype(np.int64)

    def _look_for_caps(self, pairs: _Pairs, new: NDArray[np.bool_]) -> None:
        """Remember pairs of runs of which one ends where the other begins."""
        ends = ~pairs.earlier.goes_on[pairs.first] & new[pairs.second]
        for number in np.flatnonzero(ends & (pairs.share >= self.rule.min_share)):
            one = int(pairs.earlier.runs[pairs.first[number]])
            other = int(pairs.plane.runs[pairs.second[number]])
            self._maybe.append((float(pairs.iou[number]), self._n_planes, one, other))


def link(
    frames: Sequence[tuple[Ids, Ids]],
    overlapping: Callable[[int, int], Overlaps],
    rule: Rule | None = None,
) -> list[Ids]:
    """Return the linked cell, 1, 2, ..., of each cell of a series of planes (or volumes).

    Parameters
    ----------
    frames
        For each plane, the ids of its cells and their areas in pixels.
    overlapping
        Returns the overlaps of two planes from their numbers, the earlier plane first.
    rule
        Decides which sections belong together.

    Examples
    --------
    >>> planes = np.array([[[1, 1, 1, 0, 2, 2]], [[0, 5, 5, 0, 0, 0]]])
    >>> link([areas(plane) for plane in planes], lambda a, b: overlaps(planes[a], planes[b]))
    [array([1, 2]), array([1])]
    """
    linker = Linker(rule)
    runs = []
    for number, (ids, sizes) in enumerate(frames):
        nearest = range(number - 1, max(-1, number - 2 - linker.rule.bridge), -1)
        runs.append(linker.add(ids, sizes, [overlapping(one, number) for one in nearest]))
    objects = linker.objects()
    return [objects[run] for run in runs]


def assign(
    rows: NDArray[np.intp], columns: NDArray[np.intp], values: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Choose one-to-one pairs with the largest sum of their values, which are all above 0.

    Each connected group of pairs is solved alone by Kuhn's assignment (`linear_sum_assignment` of
    scipy), so a plane with thousands of cells needs no matrix of all of them.
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
    """The cells of a plane: their runs, and whether each run goes on after the plane."""

    def __init__(self, ids: Ids, areas: Ids) -> None:
        self.areas = np.asarray(areas, np.int64)
        self.runs = np.zeros(len(ids), np.int64)
        self.goes_on = np.zeros(len(ids), bool)
        self._order = np.argsort(ids, kind="stable")
        self._sorted = np.asarray(ids, np.int64)[self._order]

    def find(self, ids: Ids) -> NDArray[np.intp]:
        """Return the positions of ids in the plane's list of cells.

        Raises
        ------
        ValueError
            If the plane has no such cell.
        """
        at = np.searchsorted(self._sorted, ids)
        known = at < len(self._sorted)
        known[known] = self._sorted[at[known]] == ids[known]
        if not known.all():
            raise ValueError(
                f"an overlap names the cell {ids[~known][0]}, which its plane does not have; "
                "give the areas of all cells"
            )
        return self._order[at]


class _Pairs:
    """Pairs of cells of two planes that share pixels, by their positions in the planes."""

    def __init__(
        self,
        first: NDArray[np.intp],
        second: NDArray[np.intp],
        shared: Ids,
        earlier: _Plane,
        plane: _Plane,
    ) -> None:
        self.first, self.second, self.earlier, self.plane = first, second, earlier, plane
        one, other = earlier.areas[first], plane.areas[second]
        self.iou = shared / (one + other - shared)
        self.share = shared / np.minimum(one, other)
        # Neither cell is linked to a nearer plane.
        self.free = ~earlier.goes_on[first] & (plane.runs[second] == 0)

    def of(
        self, which: NDArray[np.bool_]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
        """Return some of the pairs, with their IoU."""
        return self.first[which], self.second[which], self.iou[which]


def _none() -> Overlaps:
    empty = np.zeros(0, np.int64)
    return empty, empty, empty
