"""A simulated user with gestures, and how many strokes of a brush the same corrections take."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import find_contours

from benchmarks.gestures import between, dragged, main_id
from benchmarks.kinds import Labels, Sample
from benchmarks.user import LOOKS_RIGHT, MAY_GO, User, ids, match
from napari_unet.core.axes import get_plane
from napari_unet.core.boxes import box_of, grown
from napari_unet.core.cells import gestures
from napari_unet.core.cells.outlines import propose

Mask = NDArray[np.bool_]
# A proposed outline below this IoU is touched up with the brush.
TOUCHED_UP = 0.7
# A hand paints or erases until a cell has this IoU.
DONE = 0.8
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
    reach = max(1.0, min(radius_px, inner_radius(wanted if wanted.any() else now)))
    found: list[Mask] = []
    while len(found) < _MOST_STROKES and not is_done(now, wanted):
        best, gain = now, 0
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
                    swept = capsule(now.shape, places[one], places[other], reach)
                    after = now | swept if adds else now & ~swept
                    better = int((now ^ wanted).sum()) - int((after ^ wanted).sum())
                    if better > gain:
                        best, gain = after, better
        if not gain:
            break
        now = best
        found.append(now)
    return found


def is_done(now: Mask, wanted: Mask) -> bool:
    """Whether a hand leaves a cell as it is; one that is to go has to go whole."""
    if not wanted.any():
        return not now.any()
    return bool((now & wanted).sum() >= DONE * (now | wanted).sum())


def capsule(
    shape: tuple[int, ...], start: NDArray[np.float64], stop: NDArray[np.float64], radius: float
) -> Mask:
    """What a round brush covers that is dragged along a straight line."""
    points = np.stack(np.indices(shape), -1) - start
    way = stop - start
    along = np.clip(points @ way / max(1e-9, float(way @ way)), 0, 1)
    covered: Mask = np.linalg.norm(points - along[..., None] * way, axis=-1) <= radius
    return covered


class Painter(User):
    """Corrects with brush and eraser, and counts the drags that each cell takes."""

    def __init__(self, sample: Sample, labels: Labels) -> None:
        super().__init__(sample.truth, labels, is_partial=False)
        self.sample, self._rng = sample, np.random.default_rng(0)
        self._radius = brush_radius(sample.truth)

    def count_drags(self, now: Mask, wanted: Mask) -> list[Mask]:
        """Count the drags from one mask (Y, X) to another; the masks after each in their box."""
        box = grown(box_of(now | wanted), 4, now.shape)
        found = drags(now[box], wanted[box], self._radius, self._rng)
        self.strokes += len(found)
        return found

    def paint(self, cell: int) -> None:
        """Paint a true cell over what is there, as `User` does."""
        wanted = self.truth == cell
        super().paint(cell)
        # It counts one; what is erased beside it is counted by `erase`.
        self.strokes -= 1
        self.count_drags(np.zeros_like(wanted), wanted)

    def erase(self, found: int) -> None:
        """Erase a found cell, as `User` does."""
        gone = self.labels == found
        super().erase(found)
        self.strokes -= 1
        self.count_drags(gone, np.zeros_like(gone))


class Gesturer(Painter):
    """Corrects with gestures, and with the brush where a proposed outline is bad.

    A removed, split or merged cell is one gesture. A cell that is added is two: a box is dragged
    around it, and one key adds it and marks it as correct.
    """

    def erase(self, found: int) -> None:
        """Remove a found cell, and add the true ones that lay under it."""
        for cell in self._remove(found):
            if self.is_missed(cell):
                self.paint(cell)

    def paint(self, cell: int) -> None:
        """Split or merge what was found of a true cell, or else add it anew."""
        self.objects += 1
        if not (self._split(cell) or self._merge(cell)):
            self._add(cell)

    def _remove(self, found: int) -> list[int]:
        """Remove a found cell with a key; true cells of which much lay under it."""
        gone = self.labels == found
        at = tuple(np.argwhere(gone)[0].tolist())
        self._write(gestures.remove(self.labels, at))
        return [cell for cell in ids(self.truth[gone]) if gone[self.truth == cell].mean() > MAY_GO]

    def _write(self, change: gestures.Change) -> None:
        self.labels[:] = change.applied(self.labels)
        self.strokes += 1

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
        before, strokes = self.labels.copy(), self.strokes
        for one, other in combinations(held, 2):
            line = between(self.truth, inside, one, other)
            first, second = (main_id(self.labels, self.truth == each) for each in (one, other))
            if line is None or first != second:
                continue
            try:
                self._write(gestures.split(self.labels, line, int(self.labels.max()) + 1))
            except ValueError:
                continue
        return self._kept(cell, before, strokes)

    def _merge(self, cell: int) -> bool:
        """Join the found cells that lie in this true cell for the most part."""
        true = self.truth == cell
        parts = [
            found
            for found in ids(self.labels[true])
            if (true & (self.labels == found)).sum() > 0.5 * (self.labels == found).sum()
        ]
        before, strokes = self.labels.copy(), self.strokes
        for other in parts[1:]:
            start, end = (
                tuple(np.argwhere(self.labels == found)[0].tolist()) for found in (parts[0], other)
            )
            try:
                self._write(gestures.merge(self.labels, start, end))
            except ValueError:
                continue
        return len(parts) > 1 and self._kept(cell, before, strokes)

    def _kept(self, cell: int, before: Labels, strokes: int) -> bool:
        """Whether a cell looks right now, and is then touched up; if not, all is undone."""
        true = self.truth == cell
        if self.is_missed(cell):
            self.labels[:], self.strokes = before, strokes
            return False
        if match(true, self.labels) < TOUCHED_UP:
            # Of a split or merged cell the rest of the outline is as it was found.
            found = main_id(self.labels, true)
            after = self.count_drags(self.labels == found, true)
            if after:
                place = grown(box_of((self.labels == found) | true), 4, true.shape)
                part = self.labels[place]
                part[part == found] = 0
                part[after[-1] & ((part == 0) | true[place])] = found
        return True

    def _add(self, cell: int) -> None:
        """Remove what was found in the place of a true cell, and add it by a box."""
        true = self.truth == cell
        uncovered = self._clear(true)
        plane: NDArray[Any] = get_plane(self.sample.image, self.sample.axes, ())
        box, mask = propose(plane, dragged(true, self._rng))
        now = np.zeros_like(true)
        now[box] = mask & (self.labels[box] == 0)
        # The box, and the key: it adds the outline as correct, or as a draft, or drops it.
        self.strokes += 2
        if match(true, now.astype(np.int32)) < TOUCHED_UP:
            place = grown(box_of(now | true), 4, now.shape)
            ways = [
                drags(start[place], true[place], self._radius, self._rng)
                for start in (now, np.zeros_like(now))
            ]
            touched = min((way for way in ways if way), key=len, default=[now[place]])
            self.strokes += len(touched)
            now[place] = touched[-1]
        # Other cells are never painted over, as with napari's "preserve labels".
        self.labels[now & (self.labels == 0)] = self.labels.max() + 1
        for other in uncovered:
            if self.is_missed(other):
                self.paint(other)

    def _clear(self, true: Mask) -> list[int]:
        """Erase what was found wrongly in the place of a true cell; true cells that lay under it.

        One cell is removed with a key. Around several a loop is drawn, and those that lie mostly
        outside are removed one by one.
        """
        before = self.labels.copy()
        wrong = [found for found in ids(self.labels[true]) if self._is_in_the_way(found, true)]
        if len(wrong) > 1:
            lines = find_contours(np.pad(ndimage.binary_dilation(true, iterations=2), 1), 0.5)
            loop = max(lines, key=len) - 1
            self._write(gestures.clear(self.labels, loop.tolist())[0])
        for found in wrong:
            if (self.labels == found).any():
                self._remove(found)
        gone = (before > 0) & (self.labels == 0) & ~true
        return [cell for cell in ids(self.truth[gone]) if gone[self.truth == cell].mean() > MAY_GO]

    def _is_in_the_way(self, found: int, true: Mask) -> bool:
        """Whether a found cell is wrong, and lies on a good part of a true cell."""
        is_wrong = match(self.labels == found, self.truth) < LOOKS_RIGHT
        inside = (true & (self.labels == found)).sum()
        return is_wrong and bool(inside > 0.1 * min(true.sum(), (self.labels == found).sum()))
