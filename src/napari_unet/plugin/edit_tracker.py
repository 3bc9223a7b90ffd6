"""What was painted on a Labels layer since Segment wrote it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray

from napari_unet.plugin.layers import METADATA, Index, plane_of
from napari_unet.service.corrections import PaintedPlane


@dataclass(frozen=True)
class EditCount:
    """How much was corrected.

    Attributes
    ----------
    n_cells, n_planes
        Cells touched, and planes they lie on.
    own
        Whether Segment wrote the labels; those from elsewhere count as painted as a whole.
    """

    n_cells: int = 0
    n_planes: int = 0
    own: bool = True

    def __str__(self) -> str:
        if not self.n_cells:
            return "nothing corrected yet"
        cells = "1 cell" if self.n_cells == 1 else f"{self.n_cells} cells"
        planes = f" on {self.n_planes} planes" if self.n_planes > 1 else ""
        if self.own:
            return f"{cells} corrected{planes}"
        return f"{cells}{planes} in labels from elsewhere: all count as corrected"


class EditTracker:
    """Compares a Labels layer with what Segment wrote into it.

    What Segment wrote, the baseline, is kept in the layer's metadata, so that it outlives the dock.
    Of napari's events none tells all changes (undo, fill and scripts send different ones or none):
    they only say when to look. What changed is found by comparison, so undone strokes count as
    nothing.

    Parameters
    ----------
    layer
        The layer that is painted on.
    on_change
        Called when the layer may have changed; often, while a stroke is painted.
    """

    def __init__(self, layer: Labels, on_change: Callable[[], None]) -> None:
        self.layer = layer
        self.baseline: NDArray[np.int32] | None = layer.metadata.get(METADATA, {}).get("baseline")
        self._on_change = on_change
        self._events = (layer.events.paint, layer.events.set_data, layer.events.labels_update)
        for event in self._events:
            event.connect(self._notify)

    def close(self) -> None:
        """Stop listening."""
        for event in self._events:
            event.disconnect(self._notify)

    def painted_planes(self) -> list[PaintedPlane]:
        """Copies (Y, X) of the planes that differ from what Segment wrote, in order.

        Takes long for large stacks: not for the viewer's thread.

        Raises
        ------
        ValueError
            If the layer has another size than Segment gave it.
        """
        self._check_size()
        planes = (self.snapshot(index) for index in np.ndindex(*self.layer.data.shape[:-2]))
        return [plane for plane in planes if not np.array_equal(plane.before, plane.after)]

    def snapshot(self, index: Index) -> PaintedPlane:
        """A copy of one plane (Y, X), beside what it was."""
        after = plane_of(self.layer, index)
        before = np.zeros_like(after) if self.baseline is None else self.baseline[index]
        return PaintedPlane(index, before, after)

    def count(self) -> EditCount:
        """Count what was painted; not for the viewer's thread either."""
        found = [plane.edits(ring_px=0).n_cells for plane in self.painted_planes()]
        return EditCount(sum(found), len(found), own=self.baseline is not None)

    def is_untouched(self, planes: Iterable[Index]) -> bool:
        """Whether none of these planes differs from what Segment wrote."""
        return (
            self.baseline is not None
            and self.baseline.shape == self.layer.data.shape
            and all(np.array_equal(self.baseline[i], self.layer.data[i]) for i in planes)
        )

    def carry_over(
        self, segmented: Iterable[Index], labels: NDArray[np.int32], baseline: NDArray[np.int32]
    ) -> None:
        """Take the planes that were not segmented anew, and what was painted on them, from here.

        Parameters
        ----------
        segmented
            Planes that the new result holds; their ids go above those of the others.
        labels, baseline
            The new result, twice, with the axes of the layer; changed in place.
        """
        planes = set(segmented)
        others = set(np.ndindex(*labels.shape[:-2])) - planes
        data = self.layer.data
        if not others or self.baseline is None or data.shape != labels.shape:
            return
        above = max(int(data.max(initial=0)), int(self.baseline.max(initial=0)))
        for array in (labels, baseline):
            for index in planes:
                array[index] = np.where(array[index] > 0, array[index] + above, 0)
        for index in others:
            labels[index], baseline[index] = data[index], self.baseline[index]

    def _check_size(self) -> None:
        if self.baseline is not None and self.baseline.shape != self.layer.data.shape:
            raise ValueError(
                f"the labels '{self.layer.name}' are {self.layer.data.shape} and were "
                f"{self.baseline.shape} when the cells were found; segment the image again"
            )

    def _notify(self, event: Any = None) -> None:
        self._on_change()
