"""A simulated user with gestures, and how many strokes of a brush the same corrections take."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.gestures import OFF, between, dragged, main_id
from benchmarks.kinds import Labels, Sample
from benchmarks.user import MAY_GO, User, ids, match
from napari_unet.core.axes import get_plane
from napari_unet.core.boxes import Box, box_of, grown
from napari_unet.core.cells import gestures
from napari_unet.core.cells.outlines import propose, resized

Mask = NDArray[np.bool_]
# A hand works at a cell until it has this IoU.
DONE = 0.7
# Pixels by which the wheel makes an outline larger or smaller.
_WHEEL = range(-5, 6)
# A cell that is right may lose so much of its IoU to one that is added beside it.
_SUFFERS = 0.1
# A hand gives up after so many strokes at one cell.
_MOST_STROKES = 12
# Places from which, and to which, a hand may drag the brush over a cell.
_PLACES = 16


def brush_radius(truth: Labels) -> float:
    """Radius of a round brush as large as fits into the typical cell, in pixels."""
    return float(np.median([inner_radius(truth == cell) for cell in ids(truth)]))


def inner_radius(mask: Mask) -> float:
    """Radius of the largest disc in a mask."""
    return float(ndimage.distance_transform_edt(np.pad(mask[box_of(mask)], 1)).max())


def drags(now: Mask, wanted: Mask, radius_px: float, rng: np.random.Generator) -> list[Mask]:
    """Straight drags of a round brush that each bring one mask closest to another one.

    A hand begins and ends a drag beside where it meant to, by up to `OFF` of the cell's sides, as
    it does with a box. What made things worse is undone and tried again.

    Parameters
    ----------
    now, wanted
        (Y, X), the pixels of a cell as they are, and as they should be.
    radius_px
        Of the brush; a smaller one is taken for a cell that it does not fit into.
    rng
        Chooses where drags may begin and end.

    Returns
    -------
    The mask after each drag, until the IoU is `DONE` or no drag helps.
    """
    cell = wanted if wanted.any() else now
    reach = max(1.0, min(radius_px, inner_radius(cell)))
    sides_px = np.array([side.stop - side.start for side in box_of(cell)])
    found: list[Mask] = []
    while len(found) < _MOST_STROKES and not is_done(now, wanted):
        best, gain = None, 0
        for adds in (True, False):
            todo = wanted & ~now if adds else now & ~wanted
            if not todo.any():
                continue
            # Where the brush may stand without leaving what it works at.
            inside = wanted if adds else ~wanted
            depth = ndimage.distance_transform_edt(np.pad(inside, 1, mode="edge"))[1:-1, 1:-1]
            near = ndimage.distance_transform_edt(~todo) < reach
            free = np.argwhere(near & (depth >= 0.7 * min(reach, depth[near].max(initial=0))))
            if not len(free):
                continue
            places = free[rng.permutation(len(free))[:_PLACES]].astype(float)
            for one in range(len(places)):
                for other in range(one + 1):
                    after = brushed(now, places[one], places[other], reach, adds)
                    better = int((now ^ wanted).sum()) - int((after ^ wanted).sum())
                    if better > gain:
                        best, gain = (places[one], places[other], adds), better
        if best is None:
            break
        start, stop, adds = best
        off = rng.uniform(-OFF, OFF, (2, 2)) * sides_px
        # A click ends where it begins.
        end = start + off[0] if (start == stop).all() else stop + off[1]
        after = brushed(now, start + off[0], end, reach, adds)
        if (after ^ wanted).sum() < (now ^ wanted).sum():
            now = after
        found.append(now)
    return found


def brushed(
    now: Mask, start: NDArray[np.float64], stop: NDArray[np.float64], radius: float, adds: bool
) -> Mask:
    """What a straight drag of a round brush, or eraser, makes of a mask."""
    swept = capsule(now.shape, start, stop, radius)
    return now | swept if adds else now & ~swept


def is_done(now: Mask, wanted: Mask) -> bool:
    """Whether a hand leaves a cell as it is; one that is to go has to go whole."""
    if not wanted.any():
        return not now.any()
    return bool((now & wanted).sum() >= DONE * (now | wanted).sum())


def capsule(
    shape: tuple[int, ...], start: NDArray[np.float64], stop: NDArray[np.float64], radius: float
) -> Mask:
    """What a round brush covers that is dragged along a straight line."""
    points = np.moveaxis(np.indices(shape), 0, -1) - start
    way = stop - start
    along = np.clip(points @ way / max(1e-9, float(way @ way)), 0, 1)
    covered: Mask = np.linalg.norm(points - along[..., None] * way, axis=-1) <= radius
    return covered


class Painter(User):
    """Corrects with brush and eraser, and counts the drags that each cell takes.

    A cell is painted anew, or what was found of it is reshaped, whichever takes fewer drags.
    """

    def __init__(self, sample: Sample, labels: Labels) -> None:
        super().__init__(sample.truth, labels, is_partial=False)
        self.sample, self._rng = sample, np.random.default_rng(0)
        self._radius = brush_radius(sample.truth)
        # True cells that were corrected.
        self.cells: list[int] = []

    def shaped(self, starts: Sequence[Mask], wanted: Mask) -> list[Mask]:
        """Return the mask after each drag from that mask which takes the fewest to another one."""
        ways = []
        for now in starts:
            box = grown(box_of(now | wanted), 4, now.shape)
            way = [now]
            for part in drags(now[box], wanted[box], self._radius, self._rng):
                way.append(now.copy())
                way[-1][box] = part
            ways.append(way)
        return min(ways, key=lambda way: (not is_done(way[-1], wanted), len(way)))

    def outline(self, cell: int) -> Mask:
        """What the brush makes of a true cell, which it paints over nothing that is right."""
        self.cells.append(cell)
        true = self.truth == cell
        found = self.labels == main_id(self.labels, true)
        starts = [np.zeros_like(true), found & (self.labels > 0)]
        way = self.shaped(starts if starts[1].any() else starts[:1], true)
        # `paint` counts one.
        self.strokes += len(way) - 2
        if (way[0] & found).any():
            self.labels[found & ~way[-1]] = 0
        return self.on_free(way[-1], true, way[0])

    def on_free(self, mask: Mask, true: Mask, found: Mask) -> Mask:
        """Return the pixels of a mask that belong to no other cell that is right."""
        right = [f for f in ids(self.labels[mask & ~found]) if not self.is_wrong(f)]
        return mask & (true | found | ~np.isin(self.labels, right))

    def erase(self, found: int) -> None:
        """Erase a found cell, as `User` does."""
        gone = self.labels == found
        super().erase(found)
        # It counts one.
        self.strokes += len(self.shaped([gone], np.zeros_like(gone))) - 2


class Exact(Painter):
    """Counts as the `Painter` does, and teaches the exact outline."""

    def outline(self, cell: int) -> Mask:
        """The true cell, as `User` paints it."""
        super().outline(cell)
        return User.outline(self, cell)


class Gesturer(Painter):
    """Corrects with gestures, each cell with those that take the fewest strokes.

    A removed, split or merged cell is one gesture. So is a box around a cell that is missed or
    wrong; one key marks all outlines of a row of boxes as correct. An outline that is bad is made
    larger or smaller with the wheel (one stroke), or touched up with the brush, or dropped (one
    stroke) and painted. Where no gesture helps, the brush paints the cell from the first.
    """

    def __init__(self, sample: Sample, labels: Labels) -> None:
        super().__init__(sample, labels)
        # Whether outlines wait for the key that marks them as correct.
        self._waits = False

    def erase(self, found: int) -> None:
        """Remove a found cell with a key, and add the true ones that lay under it."""
        gone = self.labels == found
        at = tuple(np.argwhere(gone)[0].tolist())
        self._write(gestures.remove(self.labels, at))
        self._put_back(gone)

    def paint(self, cell: int) -> None:
        """Correct a true cell by the way that takes the fewest strokes."""
        self.objects += 1
        self.cells.append(cell)
        before = self.labels.copy(), self.strokes, self._waits, len(self.cells), self.objects
        done = []
        for way in (self._split, self._merge, self._add, self._brush):
            self.labels[:], self.strokes, self._waits = before[0], *before[1:3]
            del self.cells[before[3] :]
            self.objects = before[4]
            if way(cell):
                state = self.labels.copy(), self.strokes, self._waits, self.cells[:], self.objects
                done.append(state)
        # `_add` always does it.
        best = min(done, key=lambda state: state[1] + state[2])
        self.labels[:] = best[0]
        _, self.strokes, self._waits, self.cells, self.objects = best

    def finish(self) -> None:
        """Press the key that marks outlines as correct, if some wait for it."""
        self.strokes += self._waits
        self._waits = False

    def _write(self, change: gestures.Change) -> None:
        self.labels[:] = change.applied(self.labels)
        self.strokes += 1

    def _put_back(self, gone: Mask) -> None:
        """Add those true cells that were erased with a wrong one."""
        for cell in ids(self.truth[gone]):
            if gone[self.truth == cell].mean() > MAY_GO and self.is_missed(cell):
                self.paint(cell)

    def _split(self, cell: int) -> bool:
        """Split the found cell that holds most of this true cell and of others."""
        found = main_id(self.labels, self.truth == cell)
        inside = self.labels == found
        held = [
            other
            for other in ids(self.truth[inside])
            if (inside & (self.truth == other)).sum() > 0.5 * (self.truth == other).sum()
        ]
        if not found or len(held) < 2 or cell not in held:
            return False
        self.finish()
        for one, other in combinations(held, 2):
            line = between(self.truth, inside, one, other)
            first, second = (main_id(self.labels, self.truth == each) for each in (one, other))
            if line is None or first != second:
                continue
            try:
                self._write(gestures.split(self.labels, line, int(self.labels.max()) + 1))
            except ValueError:
                continue
        return self._is_right(cell)

    def _merge(self, cell: int) -> bool:
        """Join the found cells that lie in this true cell for the most part."""
        true = self.truth == cell
        parts = [
            found
            for found in ids(self.labels[true])
            if (true & (self.labels == found)).sum() > 0.5 * (self.labels == found).sum()
        ]
        if len(parts) < 2:
            return False
        self.finish()
        for other in parts[1:]:
            start, end = (
                tuple(np.argwhere(self.labels == found)[0].tolist()) for found in (parts[0], other)
            )
            try:
                self._write(gestures.merge(self.labels, start, end))
            except ValueError:
                continue
        return self._is_right(cell)

    def _is_right(self, cell: int) -> bool:
        """Touch a split or merged cell up; whether it looks right then."""
        if self.is_missed(cell):
            return False
        self._touch_up(self.labels == main_id(self.labels, self.truth == cell), cell)
        return True

    def _touch_up(self, now: Mask, cell: int) -> None:
        """Bring a cell of the labels closer to a true one, with the brush, where it is bad."""
        true, number = self.truth == cell, self.labels[now][0]
        way = self.shaped([now], true)
        self.strokes += len(way) - 1
        after = self.on_free(way[-1], true, now)
        self.labels[now & ~after] = 0
        self.labels[after] = number

    def _add(self, cell: int) -> bool:
        """Drag a box around a true cell, and see to what was found wrongly under the outline."""
        true, before = self.truth == cell, self.labels.copy()
        plane: NDArray[Any] = get_plane(self.sample.image, self.sample.axes, ())
        box, mask = propose(plane, dragged(true, self._rng))
        self.strokes += 1
        sizes = {by: self._placed(*resized(box, mask, by, true.shape)) for by in _WHEEL}
        quality = {by: self._worth(after, true) for by, after in sizes.items()}
        best = max(quality, key=lambda by: (quality[by], by == 0))
        by = 0 if quality[0] >= DONE or quality[best] < DONE else best
        self.strokes += by != 0
        if quality[by] >= DONE:
            self.labels[:], self._waits = sizes[by], True
        else:
            # The brush takes the tool away, so those that wait are marked first. It finds the
            # outline added, to be touched up; a bad one is dropped with Esc.
            self.finish()
            outline = sizes[0] == sizes[0].max()
            starts = [np.zeros_like(true)] + [outline] * (quality[0] > 0)
            way = self.shaped(starts, true)
            self.strokes += len(way) - 1 if way[0].any() else len(way)
            if way[0].any():
                self.labels[:] = np.where(outline, 0, sizes[0])
            after = self.on_free(way[-1], true, np.zeros_like(true))
            self.labels[after] = before.max() + 1
        number = main_id(self.labels, true)
        for found in ids(before[self.labels == number]):
            left = self.labels == found
            if left.any() and found != number and self.is_wrong(found):
                self.erase(found)
        self._put_back((before > 0) & (self.labels == 0))
        return True

    def _brush(self, cell: int) -> bool:
        """Paint a true cell as the `Painter` does."""
        self.finish()
        # Both are counted already.
        self.objects -= 1
        self.cells.pop()
        super().paint(cell)
        return True

    def _placed(self, box: Box, mask: Mask) -> Labels:
        """Return the labels with an added cell, whose number is the largest."""
        try:
            change = gestures.place(self.labels, box, mask, int(self.labels.max()) + 1)
        except ValueError:
            return self.labels
        return change.applied(self.labels)

    def _worth(self, after: Labels, true: Mask) -> float:
        """Return the IoU of a cell that was just added; 0 if one that was right suffers."""
        if after is self.labels:
            return 0.0
        new = after == after.max()
        for found in ids(self.labels[(after != self.labels) & ~true]):
            worse = match(self.labels == found, self.truth) - match(after == found, self.truth)
            if not self.is_wrong(found) and worse > _SUFFERS:
                return 0.0
        return float((new & true).sum() / (new | true).sum())
