"""Where a layer was painted since it was last compared, as napari tells it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from napari.layers import Labels
from napari.utils.events import Event

from napari_unet.core.boxes import Box, union
from napari_unet.plugin.viewer.layers import Index, axes_of

# A box of each plane that was painted on; None: it is unknown where, so it may be anywhere.
Dirty = Mapping[Index, Box] | None


def dirty_after(dirty: Dirty, event: Event, labels: Labels) -> Dirty:
    """Return the boxes with what an event says was painted.

    Only events of strokes say where: undo, redo and new data do not. While a stroke is painted,
    `labels_update` tells what is drawn, and a `paint` event follows.
    """
    if dirty is None or event.type == "labels_update":
        return dirty
    atoms = getattr(event, "value", None) if event.type == "paint" else None
    if not atoms:
        return None
    boxes = dict(dirty)
    axes = axes_of(labels)
    for atom in atoms:
        lines = _lines(atom)
        if len(lines) != len(axes) or any(line.start < 0 for line in lines):
            return None
        y, x = (lines[axes.index(axis)] for axis in "YX")
        others = (line for axis, line in zip(axes, lines, strict=True) if axis not in "CYX")
        for index in product(*(range(line.start, line.stop) for line in others)):
            boxes[index] = union(boxes.get(index, (y, x)), (y, x))
    return boxes


def _lines(atom: object) -> list[slice]:
    """Where one step of a stroke painted, along each axis; empty if it cannot be told."""
    key = getattr(atom, "slice_key", None)
    if key is not None:
        return list(key)
    where = atom[0] if isinstance(atom, tuple) else ()
    if not isinstance(where, tuple):
        return []
    numbers = [np.asarray(line) for line in where]
    if any(line.dtype.kind not in "iu" or not line.size for line in numbers):
        return []
    return [slice(int(line.min()), int(line.max()) + 1) for line in numbers]
