"""The truth about a plane: labels of the seen pixels; and how new truth joins earlier truth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_unet.core.boxes import Box, box_of, union
from napari_unet.core.pairs import count_pairs
from napari_unet.corrections.annotations import Correction

# Name of the class of an id for which no class is given.
CELL = "cell"
# An old cell is the same as a new one if at least this fraction of its pixels that were seen again
# lies in the new one.
_SAME = 0.9
_LARGEST_ID = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Truth:
    """Labels and seen pixels within a box of a plane.

    Attributes
    ----------
    labels
        (Y, X) int32, 0 where unseen.
    seen
        (Y, X) bool, True where the user has looked and the labels are truth.
    classes
        Name of the class of each id whose class is not "cell".
    box
        Position of the arrays in the plane.
    """

    labels: NDArray[np.int32]
    seen: NDArray[np.bool_]
    classes: Mapping[int, str]
    box: Box

    def within(self, box: Box) -> Truth:
        """Return the truth in another box of the plane; pixels outside this one are unseen."""
        if box == self.box:
            return self
        shape = tuple(line.stop - line.start for line in box)
        labels, seen = np.zeros(shape, np.int32), np.zeros(shape, bool)
        common = [
            slice(max(a.start, b.start), min(a.stop, b.stop))
            for a, b in zip(self.box, box, strict=True)
        ]
        if all(line.stop > line.start for line in common):
            to, of = (
                tuple(
                    slice(line.start - frame.start, line.stop - frame.start)
                    for line, frame in zip(common, place, strict=True)
                )
                for place in (box, self.box)
            )
            labels[to], seen[to] = self.labels[of], self.seen[of]
        return Truth(labels, seen, _present(labels, self.classes), box)

    def seen_box(self, margin_px: int, shape: tuple[int, ...]) -> Box:
        """Return the box around the seen pixels and a margin, in a plane (Y, X) of this shape."""
        (top, bottom), (left, right) = (
            (max(frame.start + line.start - margin_px, 0), frame.start + line.stop + margin_px)
            for frame, line in zip(self.box, box_of(self.seen), strict=True)
        )
        return slice(top, min(bottom, shape[0])), slice(left, min(right, shape[1]))

    def n_cells(self) -> int:
        """Return the number of cells; separate pieces with one id count as separate cells."""
        return int(_pieces(self.labels).max(initial=0))

    def class_names(self) -> tuple[str, ...]:
        """Return the names of the classes of the cells, sorted."""
        ids = np.unique(self.labels[self.labels > 0]).tolist()
        return tuple(sorted({self.classes.get(i, CELL) for i in ids}))


def truth_of(correction: Correction) -> Truth:
    """Return the truth of a correction, cut to the box of its seen pixels (at least one)."""
    seen = correction.trusted
    if seen is None:
        seen = np.ones(correction.labels.shape, bool)
    box = box_of(seen)
    labels = np.where(seen[box], correction.labels[box], 0).astype(np.int32)
    return Truth(labels, seen[box].astype(bool), _present(labels, correction.classes), box)


def merge(new: Truth, old: Truth) -> Truth:
    """Return the new truth where pixels were seen now, and the old truth elsewhere.

    An old cell may lie partly on pixels that were seen now. If it is the same as a new cell there,
    its other pixels join the new cell. Otherwise they become unseen, because half a cell would
    teach a wrong outline. The other old cells get ids after those of the new cells.
    """
    box = union(new.box, old.box)
    new, old = new.within(box), old.within(box)
    pieces = _pieces(old.labels)
    met = np.unique(pieces[new.seen])
    joins = _same_objects(pieces, new)
    kept = old.seen & ~new.seen & ~np.isin(pieces, list(set(met.tolist()) - {0} - set(joins)))
    joined = kept & np.isin(pieces, list(joins))
    rest = np.where(kept & ~joined, old.labels, 0)
    labels, classes = new.labels.copy(), new.classes
    for piece, number in joins.items():
        labels[joined & (pieces == piece)] = number
    if int(labels.max(initial=0)) + rest.size > _LARGEST_ID:
        labels, classes = _renumbered(labels, classes, 0)
    rest, rest_classes = _renumbered(rest, old.classes, int(labels.max(initial=0)))
    return Truth(labels + rest, new.seen | kept, {**classes, **rest_classes}, box)


def same(one: Truth, other: Truth) -> bool:
    """Return whether two truths agree on seen pixels, cells and classes; ids may differ."""
    box = union(one.box, other.box)
    one, other = one.within(box), other.within(box)
    cells = one.labels > 0
    if not (np.array_equal(one.seen, other.seen) and np.array_equal(cells, other.labels > 0)):
        return False
    a, b, _ = count_pairs(one.labels[cells], other.labels[cells])
    if not len(np.unique(a)) == len(np.unique(b)) == len(a):
        return False
    return all(
        one.classes.get(i, CELL) == other.classes.get(j, CELL)
        for i, j in zip(a.tolist(), b.tolist(), strict=True)
    )


def _same_objects(pieces: NDArray[np.intp], new: Truth) -> dict[int, int]:
    """Return the old pieces that are the same as a new cell, with the id of that cell."""
    here = new.seen & (pieces > 0)
    pairs = count_pairs(pieces[here], new.labels[here])
    met = np.bincount(pieces[here])
    return {
        int(piece): int(number)
        for piece, number, count in zip(*pairs, strict=True)
        if number and count >= _SAME * met[piece]
    }


def _pieces(labels: NDArray[np.int32]) -> NDArray[np.intp]:
    from skimage.measure import label

    pieces: NDArray[np.intp] = label(labels, connectivity=2)
    return pieces


def _renumbered(
    labels: NDArray[np.int32], classes: Mapping[int, str], above: int
) -> tuple[NDArray[np.int32], dict[int, str]]:
    """Return labels with the ids above + 1, above + 2, ..., and the classes of these ids."""
    cells = labels > 0
    ids = np.unique(labels[cells])
    out = np.zeros_like(labels)
    out[cells] = np.searchsorted(ids, labels[cells]) + (above + 1)
    named = enumerate(ids.tolist(), above + 1)
    return out, {number: classes[i] for number, i in named if i in classes}


def _present(labels: NDArray[np.int32], classes: Mapping[int, str]) -> dict[int, str]:
    """Return the classes of the ids that occur, without ids of the class "cell"."""
    named = [i for i, name in classes.items() if name != CELL]
    if not named:
        return {}
    there = np.unique(labels[np.isin(labels, named)]).tolist()
    return {i: classes[i] for i in there if i}
