"""The tool that adds cells by boxes: their outlines are proposed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from napari.layers import Image, Labels

from napari_unet.core.arrays import Pixels
from napari_unet.core.axes import get_plane, take_channel
from napari_unet.core.boxes import Box
from napari_unet.core.cells.gestures import Mask
from napari_unet.core.cells.outlines import Sides, around, propose, resized
from napari_unet.plugin.edits.gesture_tools import Tool
from napari_unet.plugin.edits.gestures import Hand, Path
from napari_unet.plugin.viewer.layers import Index, image_from_layer, plane_shape
from napari_unet.plugin.viewer.record import DraftCell, record_of

# Modes of a Labels layer that touch an outline up.
_BRUSHES = ("paint", "erase")


class AddTool(Tool):
    """Each drag is a box around a cell, whose outline is proposed.

    The next box keeps the outline before it, as a draft; then `confirm` marks all that were kept
    as correct. What a click or Enter adds stays a draft: it is to be touched up, as is the outline
    when brush or eraser are chosen.
    """

    hint = "Drag a box around a cell, missed or wrong; Esc ends it"

    def __init__(
        self,
        hand: Hand,
        said: Callable[[str], None],
        warned: Callable[[str], None],
        ended: Callable[[], None],
        image: Image,
    ) -> None:
        self._image = image
        # The proposal, and by how many pixels the wheel made it larger.
        self._outline: tuple[Box, Mask] | None = None
        self._by_px = 0
        self._kept: list[DraftCell] = []
        super().__init__(hand, said, warned, ended)

    def _draw(self, path: Path) -> None:
        top, bottom, left, right = _sides(path)
        turn = np.linspace(0, 2 * np.pi, 33)
        ellipse = np.stack(
            [
                (top + bottom + (bottom - top) * np.sin(turn)) / 2,
                (left + right + (right - left) * np.cos(turn)) / 2,
            ],
            axis=1,
        )
        self._sketch.show(ellipse)

    def _dragged(self, path: Path) -> str:
        if self._outline is not None:
            self._say(self._keep)
        sides, index = _sides(path), self._hand.index
        box = around(sides, plane_shape(self._labels))
        pixels = self._pixels(index, box)
        y, x = (side.start for side in box)
        part, mask = propose(pixels, (sides[0] - y, sides[1] - y, sides[2] - x, sides[3] - x))
        self._outline = (
            (
                slice(part[0].start + y, part[0].stop + y),
                slice(part[1].start + x, part[1].stop + x),
            ),
            mask,
        )
        self._by_px, self._labels.mouse_zoom = 0, False
        self._show()
        before = f" with the {len(self._kept)} before" if self._kept else ""
        return (
            f"{self._hand.foresee(*self._outline)}Is the outline right? C adds it{before} as "
            "correct. For more cells draw the next box: one C adds all. The wheel resizes it, the "
            "brush (2) touches it up, a click adds it as a draft, Esc drops it"
        )

    def _clicked(self, at: tuple[float, float]) -> str:
        return self.hint if self._outline is None else self._add()[1]

    def confirm(self) -> str:
        """Mark the outline that is proposed, and those that were kept, as correct."""
        if self._outline is not None:
            self._keep()
        drafts, self._kept = self._kept, []
        return self._hand.confirm(drafts)

    def _keep(self) -> str:
        """Add the outline as a draft that `confirm` confirms."""
        draft, said = self._add()
        self._kept.append(draft)
        return said

    def _add(self) -> tuple[DraftCell, str]:
        box, mask = self._sized()
        self._drop()
        return self._hand.add(box, mask)

    def _accept(self) -> None:
        self._say(lambda: self._clicked((0, 0)))

    def end(self) -> None:
        """End the tool; brush or eraser find the outline added, with its number chosen."""
        if self._outline is not None and str(self._labels.mode) in _BRUSHES:
            self._say(self._touch_up)
        super().end()

    def _touch_up(self) -> str:
        draft, said = self._add()
        self._labels.selected_label = draft["cell"]
        return said

    def _escape(self) -> None:
        if self._outline is None:
            self.end()
        else:
            self._drop()
            self._said("The outline was dropped; drag another box, or Esc ends it")

    def _drop(self, event: object = None) -> None:
        self._outline, self._labels.mouse_zoom = None, True
        super()._drop()

    def _wheel(self, layer: Labels, event: Any) -> None:
        if self._outline is not None:
            self._by_px += int(np.sign(event.delta[1]))
            self._show()
            event.handled = True

    def _sized(self) -> tuple[Box, Mask]:
        assert self._outline is not None
        return resized(*self._outline, self._by_px, plane_shape(self._labels))

    def _show(self) -> None:
        from skimage.measure import find_contours

        box, mask = self._sized()
        lines = find_contours(np.pad(mask, 1).astype(float), 0.5)
        origin = np.array([side.start for side in box]) - 1
        self._sketch.show(max(lines, key=len) + origin)

    def _pixels(self, index: Index, box: Box) -> Pixels:
        """Return (C, Y, X), a part of the image as the model saw it."""
        source, channel = image_from_layer(self._image), record_of(self._labels).channel
        data, axes = take_channel(source.data, source.axes, None if channel == "stain" else channel)
        return get_plane(data, axes, index, box)


def _sides(path: Path) -> Sides:
    (top, bottom), (left, right) = (sorted(ends) for ends in zip(path[0], path[-1], strict=True))
    return top, bottom, left, right
