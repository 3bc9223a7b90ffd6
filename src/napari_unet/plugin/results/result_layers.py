"""The layers that Segment made: which belong to an image, which is current, what came before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import uuid4

import numpy as np
from napari.components import Dims
from napari.layers import Image, Labels
from napari.viewer import Viewer
from numpy.typing import NDArray

from napari_unet.config import Channel
from napari_unet.core.arrays import Pixels
from napari_unet.core.boxes import Box
from napari_unet.core.cells.same_cells import Change, match_cells, rename
from napari_unet.plugin.edits.draft_cells import bring_along
from napari_unet.plugin.edits.features import show_features
from napari_unet.plugin.edits.seen import States
from napari_unet.plugin.edits.tracker import DEFAULT_CLASS, EditTracker, Memo
from napari_unet.plugin.results.carry_over import carry_around, carry_over
from napari_unet.plugin.results.changes import gone_outlines
from napari_unet.plugin.results.reuniting import Kin, kin_of, reunite
from napari_unet.plugin.viewer.alignment import labels_like
from napari_unet.plugin.viewer.canvas import remove_soon
from napari_unet.plugin.viewer.colours import outline
from napari_unet.plugin.viewer.drawing import draw_ahead, show_tools, show_tools_soon
from napari_unet.plugin.viewer.garbage import leave_out_all, look_at
from napari_unet.plugin.viewer.layers import (
    Index,
    add_quietly,
    check_fits,
    finest,
    plane_of,
    stack_shape,
)
from napari_unet.plugin.viewer.record import DraftCell, Mark, helper_metadata, record_of
from napari_unet.segmentation.planes import Segmentation


@dataclass(frozen=True)
class Result:
    """What a new Labels layer holds.

    Attributes
    ----------
    labels, baseline
        Its labels, and what of them is not to count as painted; twice the same on planes that were
        segmented.
    seen
        States that came along, of each plane of which something was seen.
    marks
        Those on planes that were not segmented anew.
    classes
        Of each id that is no "cell".
    untouched
        Whether nothing was made of the result before since it was shown.
    complete
        Whether all that was made of it came along.
    highest
        The highest id.
    n_cells
        Number of cells where something was segmented, those that came along included.
    drafts
        Cells that were added as drafts, and still are.
    change
        How the cells differ from those of the result before.
    gone_outlines
        Outlines of cells that are gone, see `changes.gone_outlines`.
    """

    labels: NDArray[np.int32]
    baseline: NDArray[np.int32]
    seen: Mapping[Index, States]
    marks: tuple[Mark, ...]
    classes: Mapping[int, str]
    untouched: bool = False
    complete: bool = True
    highest: int = 0
    n_cells: int = 0
    drafts: tuple[DraftCell, ...] = ()
    change: Change = field(default_factory=Change)
    gone_outlines: Mapping[Index, Pixels] = field(default_factory=dict)


@dataclass(frozen=True)
class Origin:
    """How a result was found.

    Attributes
    ----------
    model
        NAME@VERSION.
    channel
        The channel that the model saw, "stain", or None for all.
    diameter_px
        Diameter of cells for which the image was resized; None for its own size.
    draft
        Key of the draft that strokes on the result are saved in.
    """

    model: str
    channel: Channel
    diameter_px: float | None
    draft: str


def merge(
    done: Segmentation,
    old: EditTracker | None,
    memo: Memo | None,
    ring_px: int,
    box: Box | None = None,
) -> Result:
    """Return a new result that keeps what was seen of the result before; takes long.

    Parameters
    ----------
    done
        What was found; its planes are new.
    old
        The result before, None if there is none.
    memo
        Copy of what is known of it.
    ring_px
        Width of the ring around corrected cells.
    box
        What was segmented of the planes, None for all; elsewhere the result before stays.
    """
    labels = done.labels.copy()
    kinds = {n: kind for n, kind in enumerate(done.kinds, 1) if kind != DEFAULT_CLASS}
    if old is None or memo is None or old.shape != labels.shape:
        return Result(
            labels,
            labels.copy(),
            {},
            (),
            kinds,
            complete=False,
            highest=done.n_cells,
            n_cells=done.n_cells,
        )
    planes = {plane.index: plane for plane in old.seen_planes(memo)}
    fresh = set(done.planes)
    others = set(np.ndindex(*labels.shape[:-2])) - fresh
    above = _highest(old)
    if above > np.iinfo(np.int32).max - done.n_cells:
        raise ValueError(
            f"the labels '{old.layer.name}' hold the number {above}, so there is none left for "
            "new cells; paint that cell with a smaller one"
        )
    # Ids of the result before stay as they are, for marks and classes name them.
    np.add(labels, above, out=labels, where=labels > 0)
    classes = {n + above: kind for n, kind in kinds.items()}
    classes |= memo.classes
    seen = {index: states for index, states in memo.carried.items() if index in others}
    drafts = [draft for draft in memo.drafts if tuple(draft["index"]) in others]
    kin: Kin = Counter()
    for index in fresh if box else fresh & planes.keys():
        states = np.zeros(labels.shape[-2:], np.uint8)
        if index in planes:
            states = planes[index].look(ring_px).states
        if states.any():
            seen[index] = states
        after = old.snapshot(index).after
        if box:
            labels[index] = carry_around(labels[index], after, states > 0, box)
            continue
        if done.is_linked:
            kin += kin_of(labels[index], after, states > 0)
        labels[index], went_on = carry_over(labels[index], after, states > 0)
        for ahead, before in went_on.items():
            classes[ahead] = memo.classes.get(before, DEFAULT_CLASS)
    reunite(labels, done.planes, kin)
    if memo.drafts:
        for index in fresh & planes.keys():
            look = planes[index].look(ring_px)
            if look.drafts.any():
                drafts += bring_along(labels[index], index, look.drafts, look.states > 0)
    # A cell that is the same as before keeps its id, and so its colour.
    names, change = match_cells(
        ((labels[index], plane_of(old.layer, index)) for index in done.planes), above
    )
    for index in done.planes:
        labels[index] = rename(labels[index], names)
    now = {names[cell]: classes.pop(cell, DEFAULT_CLASS) for cell in names}
    classes |= now
    if not others:
        classes = {cell: kind for cell, kind in classes.items() if cell not in change.gone}
    baseline = labels.copy()
    for index in others:
        painted = old.snapshot(index)
        labels[index], baseline[index] = painted.after, painted.before
    marks = tuple(mark for mark in memo.marks if tuple(mark["index"]) in others)
    untouched = all(
        np.array_equal(p.painted.before, p.painted.after) and not p.marks
        for index, p in planes.items()
        if index in fresh
    )
    classes = {cell: kind for cell, kind in classes.items() if kind != DEFAULT_CLASS}
    highest = int(labels.max(initial=0))
    return Result(
        labels,
        baseline,
        seen,
        marks,
        classes,
        untouched,
        highest=highest,
        # Of a box, what was found in it is told.
        n_cells=done.n_cells if box else len(names),
        drafts=tuple(drafts),
        change=change,
        gone_outlines=gone_outlines(
            ((index, plane_of(old.layer, index)) for index in done.planes), change.gone
        ),
    )


def new_layer(
    image: Image,
    result: Result,
    origin: Origin,
    diameter_px: float,
    contour: int,
    dims: Dims,
) -> Labels:
    """Return the layer of a new result; takes long, so it is made in another thread.

    Parameters
    ----------
    image
        What was segmented; neither this nor `dims` is a proxy, see `viewer.layers.bare`.
    result
        What was found, and came along.
    origin
        How it was found.
    diameter_px
        Of the median cell; 0 without cells.
    contour
        Width of the cells' outlines, in pixels; 0: filled.
    dims
        Of the viewer.
    """
    leave_out_all()
    layer = labels_like(image, result.labels, f"{image.name} cells", {}, visible=False)
    look_at(layer)
    record = record_of(layer)
    record.draft, record.draft_owner = origin.draft, uuid4().hex
    record.model, record.channel = origin.model, origin.channel
    record.diameter_px = origin.diameter_px
    record.source, record.image = image.unique_id, image.name
    record.baseline = result.baseline
    record.seen = dict(result.seen)
    record.marks = [mark.copy() for mark in result.marks]
    record.draft_cells = [draft.copy() for draft in result.drafts]
    record.classes = dict(result.classes)
    record.since_last = dict.fromkeys(result.change.new, "new") | dict.fromkeys(
        result.change.reshaped, "reshaped"
    )
    record.gone_outlines = dict(result.gone_outlines)
    layer.brush_size = max(3, round(diameter_px / 2)) if diameter_px else 10
    layer.selected_label = result.highest + 1
    outline(layer, contour)
    show_features(layer)
    show_tools(layer, shown=False)
    draw_ahead(layer, dims)
    return layer


class Results:
    """The layers that Segment made, in a viewer.

    One of an image's results is current; the others are retired: hidden, kept to go back to.

    Parameters
    ----------
    viewer
        Where they are.
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer

    def source_of(self, labels: Labels) -> Image | None:
        """Return the image layer that labels were made from; None if it is gone or unknown."""
        known = record_of(labels).source
        for layer in self._viewer.layers:
            if isinstance(layer, Image) and layer.unique_id == known:
                return layer
        return None

    def check_pair(self, image: Image, labels: Labels) -> None:
        """Check that labels belong to an image.

        Raises
        ------
        ValueError
            If they were made from another one, or have another size.
        """
        owner = self.source_of(labels)
        if owner is not None and owner != image:
            raise ValueError(
                f"the labels '{labels.name}' were made from the image '{owner.name}', not from "
                f"'{image.name}'; choose the two that belong together"
            )
        check_fits(labels, image)

    def of(self, image: Image) -> list[Labels]:
        """All results of an image, the oldest first."""
        labels = [layer for layer in self._viewer.layers if isinstance(layer, Labels)]
        return [layer for layer in labels if self.source_of(layer) == image]

    def current(self, image: Image) -> Labels | None:
        """Return the result of an image that is in use; None if there is none."""
        found = self.of(image)
        shown = [layer for layer in found if not record_of(layer).retired]
        return (shown or found or [None])[-1]

    def add(self, image: Image, result: Result, layer: Labels) -> None:
        """Show a new result; the selection of layers stays as it is.

        The current one is removed; if it was corrected, it is retired.

        Parameters
        ----------
        image
            What was segmented.
        result
            What was found, and came along.
        layer
            The layer that `new_layer` made of it.
        """
        old = self.current(image)
        if old is not None:
            # Who paints goes on with the same tool.
            layer.mode, layer.brush_size = str(old.mode), old.brush_size
            layer.preserve_labels, layer.contiguous = old.preserve_labels, old.contiguous
        if old is not None and result.untouched:
            record_of(old).retired = True
            remove_soon(self._viewer, old)
        add_quietly(self._viewer, layer)
        show_tools_soon(layer)
        if old is not None and not result.untouched:
            self._retire(old, layer)
            record_of(old).handed_on = result.complete

    def add_of_earlier(
        self, image: Image, labels: NDArray[np.int32], shape: tuple[int, ...]
    ) -> Labels | None:
        """Keep what was found in an image layer that shows another image now, in a hidden layer.

        It is no result of the layer: nothing of it is learnt, and the current result stays.

        Parameters
        ----------
        image
            The layer.
        labels
            What was found, (..., Y, X).
        shape
            Of the earlier image.

        Returns
        -------
        labels
            The new layer; None, and nothing is added, if the image has another size now.
        """
        same = tuple(finest(image).shape) == shape and stack_shape(image) == labels.shape
        if not same or image not in self._viewer.layers:
            return None
        name = f"{image.name} cells (of the earlier image)"
        layer = labels_like(image, labels, name, helper_metadata())
        layer.visible = False
        add_quietly(self._viewer, layer)
        return layer

    def go_back(self, image: Image, model: str) -> Labels | None:
        """Show the latest result of a model again, in place of the current one.

        Parameters
        ----------
        image
            Whose result.
        model
            NAME@VERSION.

        Returns
        -------
        labels
            The layer, None if there is none: nothing changes.
        """
        current = self.current(image)
        earlier = [
            layer
            for layer in self.of(image)
            if record_of(layer).model == model and layer != current
        ]
        if current is None or not earlier or record_of(current).model == model:
            return None
        record_of(current).retired = True
        current.visible = False
        back = earlier[-1]
        record = record_of(back)
        del record.retired, record.handed_on
        back.visible = True
        self._viewer.layers.selection.active = back
        return back

    def _retire(self, old: Labels, new: Labels) -> None:
        """Hide a result whose corrections came along; of those before it one step back stays."""
        new_model, old_model = record_of(new).model, record_of(old).model
        handed_on = [
            layer
            for layer in self.of(self.source_of(new))
            if layer not in (old, new) and record_of(layer).handed_on
        ]
        keep = [layer for layer in handed_on if record_of(layer).model != new_model][-1:]
        for layer in handed_on:
            if layer not in keep or old_model != new_model:
                record_of(layer).retired = True
                remove_soon(self._viewer, layer)
        record_of(old).retired = True
        old.visible = False


def _highest(old: EditTracker) -> int:
    data = old.layer.data
    highest = int(data.max(initial=0))
    return max(highest, int(old.baseline.max(initial=0)) if old.baseline is not None else 0)
