"""A simulated user, who corrects labels until they look right, and what the dock makes of that."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import disk

from benchmarks.kinds import Labels, Sample
from napari_unet.config import Channel
from napari_unet.corrections.annotations import Annotated, PaintedPlane
from napari_unet.models.store import Reference
from napari_unet.plugin.edits.marks import Box, box_mark
from napari_unet.plugin.edits.seen import SeenPlane
from napari_unet.plugin.results.carry_over import carry_over
from napari_unet.service.segmentation import SegmentationService

# Width of the ring around a corrected cell that counts as seen, as in the dock, in pixels.
RING_PX = 8
# Overlap with the true cell from which a found one looks right to the user.
LOOKS_RIGHT = 0.5
# Share of a true cell that may be erased with something else before the user paints it again.
MAY_GO = 0.2
# Side of the box that the user makes right, in pixels.
BOX_PX = 128
# What the user does instead of correcting objects and nothing else.
WAYS = {
    "boxes": f"make all right in a box of {BOX_PX} px, and confirm it",
    "whole": "correct objects, and say of the whole image that it is right: common elsewhere",
    "dense": "paint all true cells of the image: what more corrections could give",
}


def ids(labels: Labels) -> list[int]:
    """The numbers of the cells."""
    found: list[int] = np.unique(labels[labels > 0]).tolist()
    return found


def match(mask: NDArray[np.bool_], labels: Labels) -> float:
    """IoU of a mask and the label that overlaps it best."""
    met, common = np.unique(labels[mask], return_counts=True)
    areas = np.array([(labels == number).sum() for number in met])
    iou = common / (mask.sum() + areas - common)
    return float(iou[met > 0].max(initial=0))


def painted(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """What a round brush of an eighth of a cell's diameter makes of a cell: its corners go."""
    radius = max(1, round(np.sqrt(mask.sum() / np.pi) / 8))
    wide = np.pad(mask, radius, mode="edge")
    opened = ndimage.binary_opening(wide, disk(radius))[radius:-radius, radius:-radius]
    return opened if 2 * opened.sum() > mask.sum() else mask


class User:
    """Corrects one image until its labels look right.

    Parameters
    ----------
    truth
        (Y, X), what the user would paint.
    labels
        (Y, X), what is shown; changed in place.
    is_partial
        Whether there are true cells that `truth` lacks: then nothing is erased.

    Attributes
    ----------
    objects
        Cells painted, and false ones erased.
    strokes
        The same, and what of found cells was erased around a painted one.
    """

    def __init__(self, truth: Labels, labels: Labels, *, is_partial: bool) -> None:
        self.truth, self.labels, self.is_partial = truth, labels, is_partial
        self.objects = self.strokes = 0

    def is_missed(self, cell: int) -> bool:
        """Whether no found cell looks like this true one."""
        return match(self.truth == cell, self.labels) < LOOKS_RIGHT

    def is_wrong(self, found: int) -> bool:
        """Whether a found cell looks like no true one."""
        return match(self.labels == found, self.truth) < LOOKS_RIGHT

    def false_cells(self, part: Labels) -> list[int]:
        """Found cells in a part of the labels that are wrong and lie beside the true ones."""
        wrong = [] if self.is_partial else [f for f in ids(part) if self.is_wrong(f)]
        return [f for f in wrong if (self.truth[self.labels == f] > 0).mean() < 0.5]

    def paint(self, cell: int) -> None:
        """Paint a true cell, and put right what of found cells is left around it."""
        mask = self.outline(cell)
        under = ids(self.labels[mask])
        self.labels[mask] = self.labels.max() + 1
        self.objects += 1
        self.strokes += 1
        for found in under:
            left = (self.labels == found).any()
            if left and self.is_wrong(found) and not self.is_partial:
                self.erase(found)

    def outline(self, cell: int) -> NDArray[np.bool_]:
        """What the user paints of a true cell."""
        return painted(self.truth == cell)

    def erase(self, found: int) -> None:
        """Erase a found cell, and paint the true ones that lay under it."""
        gone = self.labels == found
        self.labels[gone] = 0
        self.strokes += 1
        for cell in ids(self.truth[gone]):
            if gone[self.truth == cell].mean() > MAY_GO and self.is_missed(cell):
                self.paint(cell)

    def put_right(self, false: Sequence[int], missed: Sequence[int]) -> None:
        """Correct objects, but those that went right with one before."""
        for found in false:
            if (self.labels == found).any():
                self.objects += 1
                self.erase(found)
        for cell in missed:
            if self.is_missed(cell):
                self.paint(cell)

    def correct(self, count: int, rng: np.random.Generator) -> None:
        """Correct so many of the worst objects, at random among those that are as bad.

        An error is as bad as it has wrong pixels, in steps of half a cell.
        """
        areas = np.bincount(self.truth.ravel())[1:]
        half = float(np.median(areas[areas > 0])) / 2
        false, missed = self.false_cells(self.labels), ids(self.truth)
        bad = [((self.labels == f).sum() / half, [f], []) for f in false]
        for cell in filter(self.is_missed, missed):
            mask = self.truth == cell
            bad.append(((1 - match(mask, self.labels)) * mask.sum() / half, [], [cell]))
        bad = [bad[n] for n in rng.permutation(len(bad))]
        for _, *what in sorted(bad, key=lambda error: -round(error[0])):
            if self.objects >= count:
                break
            self.put_right(*what)
        self.finish()

    def finish(self) -> None:
        """What the user does after the last object: nothing, but for hands that leave a rest."""

    def correct_box(self, box: Box) -> None:
        """Make everything right in a box."""
        self.put_right(self.false_cells(self.labels[box]), ids(self.truth[box]))


# Makes the user who corrects labels of a sample, which are changed in place.
Hand = Callable[[Sample, Labels], User]


class Desk:
    """A work image with its labels, as the dock keeps them."""

    def __init__(
        self, sample: Sample, *, is_partial: bool = False, hand: Hand | None = None
    ) -> None:
        self.sample, self.is_partial, self.hand = sample, is_partial, hand
        self.plane: SeenPlane | None = None
        # What the model saw of the image; a fine-tune sees the same.
        self.channel: Channel = None

    def segment(self, service: SegmentationService, model: Reference) -> None:
        """Click on Segment: what was corrected before comes along."""
        done = service.segment(self.sample.image, self.sample.axes, model).wait()
        labels, self.channel = done.labels, done.look.channel
        states = None
        if self.plane is not None:
            before = self.plane.painted.after
            states = self.plane.look(RING_PX).states
            labels = np.where(labels > 0, labels + before.max(), 0).astype(np.int32)
            labels, _ = carry_over(labels, before, states > 0)
        self.plane = SeenPlane(PaintedPlane((), labels, labels), states, ())

    def correct(self, way: str, count: int, rng: np.random.Generator) -> User:
        """Let the user correct the labels, and tell what that took."""
        assert self.plane is not None
        truth, labels = self.sample.truth, self.plane.painted.before.copy()
        user = (
            User(truth, labels, is_partial=self.is_partial)
            if self.hand is None
            else self.hand(self.sample, labels)
        )
        everything: Box = (slice(0, truth.shape[0]), slice(0, truth.shape[1]))
        confirmed = everything if way in ("whole", "dense") else None
        if way == "boxes":
            confirmed = self.next_box(rng)
            user.correct_box(confirmed)
        elif way == "dense":
            labels[:] = truth
            user.objects = user.strokes = len(ids(truth))
        else:
            user.correct(count, rng)
        self.plane = replace(
            self.plane,
            painted=replace(self.plane.painted, after=labels),
            marks=(box_mark((), confirmed),) if confirmed else (),
        )
        return user

    def next_box(self, rng: np.random.Generator) -> Box:
        """A box around a cell, by chance one of those whose surroundings were seen least."""
        assert self.plane is not None
        states = self.plane.look(RING_PX).states

        def around(cell: int) -> Box:
            middle = np.argwhere(self.sample.truth == cell).mean(0)
            y, x = (
                int(np.clip(round(m - BOX_PX / 2), 0, max(0, n - BOX_PX)))
                for m, n in zip(middle, states.shape, strict=True)
            )
            return slice(y, y + BOX_PX), slice(x, x + BOX_PX)

        boxes = [around(cell) for cell in rng.permutation(ids(self.sample.truth))]
        return min(boxes, key=lambda box: round(10 * (states[box] > 0).mean()))

    def annotated(self) -> Annotated:
        """What Fine-tune learns from."""
        assert self.plane is not None
        given = self.plane.correction(RING_PX, {})
        corrections = () if given is None else (given,)
        return Annotated(self.sample.image, self.sample.axes, corrections, self.sample.name)
