"""What was painted and confirmed on a Labels layer since Segment wrote it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from napari.layers import Labels
from napari.utils.events import Event
from numpy.typing import NDArray

from napari_unet.core.boxes import Box
from napari_unet.core.checks import mask_words, whole_labels
from napari_unet.corrections.annotations import Correction, PaintedPlane
from napari_unet.plugin.edits.dirty import Dirty, dirty_after
from napari_unet.plugin.edits.seen import SeenPlane, States, with_drafts
from napari_unet.plugin.viewer.layers import Index, plane_of, planes_of
from napari_unet.plugin.viewer.record import DraftCell, Mark, record_of

# Positions in a plane, flattened, that differ from what Segment wrote, and the labels there.
Changes = tuple[NDArray[np.int64], NDArray[np.int32]]
# Class of an id for which none is known.
DEFAULT_CLASS = "cell"


@dataclass(frozen=True)
class EditCount:
    """How much was corrected.

    Attributes
    ----------
    n_cells, n_planes
        Cells touched, and planes they lie on.
    own
        Whether Segment wrote the labels; those from elsewhere count as painted as a whole.
    n_marks
        Places marked as correct, besides those cells.
    carried
        Whether corrections came along from an earlier result.
    n_carried
        Cells that were corrected or marked then.
    name
        Of the layer.
    mask
        That labels from elsewhere are a mask, and what is made of it; else empty.
    n_drafts
        Cells added as drafts, which do not teach yet.
    """

    n_cells: int = 0
    n_planes: int = 0
    own: bool = True
    n_marks: int = 0
    carried: bool = False
    n_carried: int = 0
    name: str = ""
    mask: str = ""
    n_drafts: int = 0

    @property
    def is_new(self) -> bool:
        """Whether something was painted or marked since Segment wrote the labels."""
        return self.n_cells > 0 or self.n_marks > 0

    @property
    def is_any(self) -> bool:
        """Whether there is something to learn from."""
        return self.is_new or self.carried

    def __str__(self) -> str:
        places = "1 place" if self.n_marks == 1 else f"{self.n_marks} places"
        cells = "1 cell" if self.n_cells == 1 else f"{self.n_cells} cells"
        planes = f" on {self.n_planes} planes" if self.n_planes > 1 else ""
        said = []
        if self.n_cells and self.own and self.n_marks:
            # Short, so that it fits into one line of the dock.
            cells, places = str(self.n_cells), str(self.n_marks)
        if self.n_cells and self.own:
            said.append(f"{cells} corrected{planes}")
        elif self.n_cells:
            all_cells = cells if self.n_cells == 1 else f"All {cells}"
            are = "is used as an example" if self.n_cells == 1 else "are used as examples"
            said.append(f'{all_cells} of "{self.name}"{planes} {are}')
        if self.n_marks:
            said.append(f"{places} marked correct")
        if self.n_drafts:
            drafts = "1 draft" if self.n_drafts == 1 else f"{self.n_drafts} drafts"
            said.append(f"{drafts} to confirm (C) or touch up")
        if self.carried:
            n = f"{self.n_carried} " if self.n_carried else ""
            s = "" if self.n_carried == 1 else "s"
            said.append(f"{n}correction{s} carried over from the previous result")
        found = ", ".join(said) or "nothing corrected yet"
        return f"{found}; {self.mask}" if self.mask else found


@dataclass(frozen=True)
class Memo:
    """A copy of what a layer's record holds, for use in another thread."""

    marks: tuple[Mark, ...] = ()
    drafts: tuple[DraftCell, ...] = ()
    carried: Mapping[Index, States] = field(default_factory=dict)
    classes: Mapping[int, str] = field(default_factory=dict)

    @property
    def planes(self) -> set[Index]:
        """The planes of which something is known besides what was painted."""
        placed = (*self.marks, *self.drafts)
        return {*self.carried, *(tuple(place["index"]) for place in placed)}


@dataclass(frozen=True)
class Survey:
    """What a look at all planes found.

    Attributes
    ----------
    count
        How much was corrected.
    states
        Of each plane of which something was seen.
    changes
        Of each plane that differs from what Segment wrote.
    shown, drafts
        Of each plane with something to show: the states with the dashed outlines of drafts, and
        these outlines alone.
    """

    count: EditCount
    states: Mapping[Index, States]
    shown: Mapping[Index, States]
    drafts: Mapping[Index, States]
    changes: Mapping[Index, Changes]


class EditTracker:
    """Compares a Labels layer with what Segment wrote into it.

    What Segment wrote, the baseline, is kept in the layer's metadata, as are the confirmed marks,
    the states that came along from an earlier result and the classes: they outlive the dock.
    No event of napari tells all changes: undo, fill and scripts send different ones or none. So
    events only start a comparison with the baseline, and undone strokes do not count. Where an
    event says which pixels were painted (`edits.dirty`), only these are compared anew.

    Parameters
    ----------
    layer
        The layer that is painted on.
    on_change
        Called when the layer may have changed; often, while a stroke is painted.
    brush_class
        Asked after a stroke which class was chosen.
    """

    def __init__(
        self,
        layer: Labels,
        on_change: Callable[[], None],
        brush_class: Callable[[], str] = lambda: DEFAULT_CLASS,
    ) -> None:
        self.layer = layer
        self.baseline = record_of(layer).baseline
        # Goes up whenever the layer may have changed.
        self.revision = 0
        # Whether the layer holds other labels by now than those that are compared with `baseline`.
        self.is_outdated = False
        self._dirty: Dirty = None
        # What the last survey found; of its thread.
        self._changes: dict[Index, Changes] | None = None
        self._n_carried: dict[Index, int] = {}
        self.states: Mapping[Index, States] = {}
        self.shown: Mapping[Index, States] = {}
        self.drafts: Mapping[Index, States] = {}
        # Of labels from elsewhere, see `EditCount.mask`.
        self.mask = ""
        self._on_change, self._brush_class = on_change, brush_class
        self._events = (layer.events.paint, layer.events.set_data, layer.events.labels_update)
        for event in self._events:
            event.connect(self.notify)
        layer.events.paint.connect(self._name_class)

    def close(self) -> None:
        """Stop listening."""
        for event in self._events:
            event.disconnect(self.notify)
        self.layer.events.paint.disconnect(self._name_class)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the planes, Y and X last."""
        return tuple(planes_of(self.layer).shape)

    def notify(self, event: Event | None = None) -> None:
        """Say that something may have changed; without an event, no pixel has."""
        self.revision += 1
        if event is not None:
            self._dirty = dirty_after(self._dirty, event, self.layer)
        del record_of(self.layer).handed_on
        self._on_change()

    def memo(self) -> Memo:
        """Return a copy of what the layer's record holds; quick."""
        record = record_of(self.layer)
        marks = tuple(mark.copy() for mark in record.marks)
        drafts = tuple(draft.copy() for draft in record.draft_cells)
        return Memo(marks, drafts, dict(record.seen), dict(record.classes))

    def snapshot(self, index: Index) -> PaintedPlane:
        """A copy of one plane (Y, X), beside what it was."""
        after = plane_of(self.layer, index)
        before = np.zeros_like(after) if self.baseline is None else self.baseline[index]
        return PaintedPlane(index, before, after)

    def take_dirty(self) -> Dirty:
        """Return where the next survey has to compare, which starts a new list of places."""
        dirty, self._dirty = self._dirty, {}
        return dirty

    def plane(self, index: Index) -> NDArray[np.int32]:
        """One plane (Y, X), to look at only: where it can be, it is no copy."""
        plane = planes_of(self.layer)[index]
        if isinstance(plane, np.ndarray) and plane.dtype == np.int32:
            return plane
        return plane_of(self.layer, index)

    def whole(self, index: Index) -> PaintedPlane:
        """A copy of one plane, as if all of it had been painted."""
        plane = self.snapshot(index)
        return replace(plane, before=np.zeros_like(plane.before))

    def seen_planes(self, memo: Memo) -> list[SeenPlane]:
        """Copies of the planes of which something was seen, in order.

        Takes long for large stacks: not for the viewer's thread.

        Raises
        ------
        ValueError
            If the layer has another size than Segment gave it.
        """
        self._check_size()
        known = memo.planes
        found = []
        for index in np.ndindex(*self.shape[:-2]):
            painted = self.snapshot(index)
            if index in known or not np.array_equal(painted.before, painted.after):
                marks = tuple(m for m in memo.marks if tuple(m["index"]) == index)
                found.append(SeenPlane(painted, memo.carried.get(index), marks, memo.drafts))
        return found

    def corrections(self, memo: Memo, ring_px: int) -> tuple[Correction, ...]:
        """What a model can learn from; not for the viewer's thread."""
        planes = self.seen_planes(memo)
        self._look_for_mask(planes)
        found = (p.correction(ring_px, memo.classes) for p in planes)
        return tuple(correction for correction in found if correction is not None)

    def survey(
        self,
        memo: Memo,
        ring_px: int,
        save: Callable[[Mapping[Index, Changes]], None],
        dirty: Dirty = None,
    ) -> Survey:
        """Look at all that was painted; not for the viewer's thread either.

        Parameters
        ----------
        memo
            Copy of what is known of the layer.
        ring_px
            Width of the ring around corrected cells.
        save
            Gets the changes first, for the rest takes a while.
        dirty
            Where something may have been painted since the last survey.
        """
        known, self._changes = self._changes, None
        if known is None or dirty is None or self.baseline is None:
            planes = self.seen_planes(memo)
            self._look_for_mask(planes)
            changes = {plane.index: _changes(plane.painted) for plane in planes}
        else:
            self._check_size()
            changes = known | {
                index: self._compared(index, box, known.get(index)) for index, box in dirty.items()
            }
            planes = self._known_planes(memo, changes)
        changes = {index: change for index, change in changes.items() if change[0].size}
        self._changes = changes
        if self.baseline is not None:
            save(changes)
        looks = {plane.index: plane.look(ring_px) for plane in planes}
        n_cells = [look.n_cells for look in looks.values() if look.n_cells]
        count = EditCount(
            sum(n_cells),
            len(n_cells),
            own=self.baseline is not None,
            n_marks=sum(look.n_marks for look in looks.values()),
            carried=bool(memo.carried),
            n_carried=sum(self._count_carried(plane) for plane in planes),
            name=self.layer.name,
            mask=self.mask,
            n_drafts=sum(
                len(set(look.drafts[look.drafts > 0].tolist())) for look in looks.values()
            ),
        )
        states = {index: look.states for index, look in looks.items() if look.states.any()}
        shown = {index: with_drafts(look, look.states) for index, look in looks.items()}
        drafts = {
            index: with_drafts(look, np.zeros_like(look.states))
            for index, look in looks.items()
            if look.drafts.any()
        }
        shown = {index: tint for index, tint in shown.items() if tint.any()}
        return Survey(count, states, shown, drafts, changes)

    def _count_carried(self, plane: SeenPlane) -> int:
        """Cells of a plane that came along, counted once: neither they nor the baseline change."""
        if plane.index not in self._n_carried:
            self._n_carried[plane.index] = plane.n_carried
        return self._n_carried[plane.index]

    def _compared(self, index: Index, box: Box, known: Changes | None) -> Changes:
        """The changes of a plane, compared anew in a box."""
        assert self.baseline is not None
        before, after = self.baseline[index], whole_labels(self.plane(index)[box])
        y, x = np.nonzero(before[box] != after)
        where = (y + box[0].start) * before.shape[1] + x + box[1].start
        if known is None:
            return where, after[y, x]
        rows, columns = np.divmod(known[0], before.shape[1])
        inside = (rows >= box[0].start) & (rows < box[0].stop)
        inside &= (columns >= box[1].start) & (columns < box[1].stop)
        where = np.concatenate([known[0][~inside], where])
        order = np.argsort(where)
        return where[order], np.concatenate([known[1][~inside], after[y, x]])[order]

    def _known_planes(self, memo: Memo, changes: Mapping[Index, Changes]) -> list[SeenPlane]:
        """The planes of which something was seen, not copied; the changes are known."""
        assert self.baseline is not None
        found = []
        nothing = np.zeros(0, np.int64)
        painted = {index for index, change in changes.items() if change[0].size}
        for index in sorted(memo.planes | painted):
            plane = PaintedPlane(index, self.baseline[index], self.plane(index))
            marks = tuple(m for m in memo.marks if tuple(m["index"]) == index)
            where = changes[index][0] if index in painted else nothing
            found.append(SeenPlane(plane, memo.carried.get(index), marks, memo.drafts, where))
        return found

    def _look_for_mask(self, planes: list[SeenPlane]) -> None:
        """See whether labels from elsewhere number no cells; their pieces are cells then."""
        found = ""
        if self.baseline is None and planes:
            found = mask_words(np.stack([plane.painted.after for plane in planes]), "ZYX")
        self.mask = ""
        if found:
            self.mask = (
                f"the labels hold {found}: a mask, so each piece is a cell, and cells that touch "
                "are one"
            )

    def _check_size(self) -> None:
        if self.baseline is not None and self.baseline.shape != self.shape:
            raise ValueError(
                f"the labels '{self.layer.name}' are {self.shape} and were "
                f"{self.baseline.shape} when the cells were found; segment the image again"
            )

    def _name_class(self, event: Event | None = None) -> None:
        """Give the painted id the class that is chosen."""
        layer = self.layer
        painted, name = int(layer.selected_label), self._brush_class()
        if not painted or str(layer.mode) == "erase":
            return
        classes = record_of(layer).writable_classes()
        if name != DEFAULT_CLASS or painted in classes:
            classes[painted] = name


def _changes(plane: PaintedPlane) -> Changes:
    where = np.flatnonzero(plane.before != plane.after).astype(np.int64)
    return where, plane.after.ravel()[where]
