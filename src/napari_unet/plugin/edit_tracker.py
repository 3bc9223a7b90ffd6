"""What was painted on a Labels layer since Segment wrote it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_unet.plugin.layers import Index, plane_of
from napari_unet.service.corrections import PaintedPlane


@dataclass(frozen=True)
class EditCount:
    """How much was corrected."""

    n_cells: int = 0
    n_planes: int = 0

    def __str__(self) -> str:
        if not self.n_cells:
            return "nothing corrected yet"
        cells = "1 cell" if self.n_cells == 1 else f"{self.n_cells} cells"
        planes = f" on {self.n_planes} planes" if self.n_planes > 1 else ""
        return f"{cells} corrected{planes}"


class EditTracker:
    """Compares a Labels layer with what Segment wrote into it.

    napari's events only say that a plane may have changed (undo, fill and scripts send different
    ones); what changed is found by comparison, so undone strokes count as nothing.

    Parameters
    ----------
    layer
        The layer that is painted on.
    baseline
        What Segment wrote, never changed; None for labels from elsewhere, all of which count as
        painted.
    plane_in_view
        Tells which plane of the layer is shown.
    on_change
        Called when the layer may have changed.
    """

    def __init__(
        self,
        layer: Labels,
        baseline: NDArray[np.int32] | None,
        plane_in_view: Callable[[], Index],
        on_change: Callable[[], None],
    ) -> None:
        self.layer = layer
        self._baseline = baseline
        self._plane_in_view, self._on_change = plane_in_view, on_change
        shape = layer.data.shape[:-2]
        self._dirty: set[Index] = set() if baseline is not None else set(np.ndindex(*shape))
        self._events = (layer.events.paint, layer.events.set_data, layer.events.labels_update)
        for event in self._events:
            event.connect(self._mark)

    def close(self) -> None:
        """Stop listening."""
        for event in self._events:
            event.disconnect(self._mark)

    def snapshot(self, index: Index) -> PaintedPlane:
        """A copy of one plane, beside what it was."""
        after = plane_of(self.layer, index)
        before = np.zeros_like(after) if self._baseline is None else self._baseline[index]
        return PaintedPlane(index, before, after)

    def dirty_planes(self) -> list[Index]:
        """Planes that may differ from what Segment wrote, in order."""
        return sorted(self._dirty)

    def is_untouched(self) -> bool:
        """Whether nothing differs from what Segment wrote."""
        return self._baseline is not None and all(
            np.array_equal(self._baseline[index], self.layer.data[index]) for index in self._dirty
        )

    def _mark(self) -> None:
        if self.layer.n_edit_dimensions > 2:
            self._dirty.update(np.ndindex(*self.layer.data.shape[:-2]))
        else:
            self._dirty.add(self._plane_in_view())
        self._on_change()
