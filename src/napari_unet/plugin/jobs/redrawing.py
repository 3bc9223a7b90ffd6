"""The cells of the last result, found again with other settings in scores that are in memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial

from napari.layers import Image, Labels
from napari.utils.events import Event
from napari.viewer import Viewer
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_unet.config import PredictConfig
from napari_unet.jobs import log_failure, sentence
from napari_unet.plugin.jobs.scope import Request, found_words
from napari_unet.plugin.results.result_layers import Result, Results
from napari_unet.plugin.viewer.layers import plane_in_view
from napari_unet.segmentation.planes import Segmentation, again

Merged = Future[tuple[Segmentation, Result, Labels]]
# Results of more pixels in all planes are not drawn again: copying them would take seconds.
_LARGEST_PX = 4 * 2048 * 2048
_NO_RESULT = "Click Segment first"
_NO_SCORES = (
    "Click Segment first. This works for a whole plane of up to 2048 x 2048 pixels that this "
    "computer segmented; not in full 3D, nor where planes are connected"
)
_OTHER_PLANE = "This works on the plane that was segmented last: go back to it, or click Segment"


@dataclass(frozen=True)
class _Kept:
    """A request, what was found with its scores, and the layer that shows it now."""

    asked: Request
    done: Segmentation
    layer: Labels


class Redrawing:
    """Keeps the scores of the last result, and shows its cells with other settings.

    What comes is a new current result, as after Segment: what was corrected stays as it is, cells
    that are the same keep their ids, and what changed does not count as painted. Labels that nobody
    touched are replaced in their layer, where that is quicker than another one.

    Parameters
    ----------
    viewer
        Where the results are.
    results
        Which of them is current.
    bring_along
        Called with a request, a function that finds cells, and what to call in the main thread
        when they were merged with the current result in the background.
    add
        Shows a merged result as the current one, and returns the layer that does.

    Signals
    -------
    changed
        What can be drawn again is something else now.
    told
        What was found, in words.
    failed
        Why nothing was found, in a sentence.
    """

    changed = Signal()
    told = Signal(str)
    failed = Signal(str)

    def __init__(
        self,
        viewer: Viewer,
        results: Results,
        bring_along: Callable[
            [Request, Callable[[], Segmentation], Callable[[Merged], None]], None
        ],
        add: Callable[[Image, Result, Labels], Labels],
    ) -> None:
        self._viewer, self._results = viewer, results
        self._bring_along, self._add = bring_along, add
        self._kept: _Kept | None = None
        # The settings that were asked for last, until they are being used.
        self._wanted: PredictConfig | None = None
        self._is_at_work = False
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        # Moves that come at once are one.
        self._timer.setInterval(0)
        self._timer.timeout.connect(self._go_on)
        viewer.layers.events.removed.connect(self._on_removed)
        viewer.dims.events.current_step.connect(self._on_moved)

    def close(self) -> None:
        """Let go of the viewer and of the scores."""
        self._viewer.layers.events.removed.disconnect(self._on_removed)
        self._viewer.dims.events.current_step.disconnect(self._on_moved)
        self.drop()

    @property
    def is_at_work(self) -> bool:
        """Whether settings were asked for that are not shown yet."""
        return self._wanted is not None or self._is_at_work

    @property
    def defaults(self) -> tuple[float, int] | None:
        """The model's own threshold, and its smallest cell in pixels; None without scores."""
        scores = self._kept.done.scores if self._kept is not None else None
        return None if scores is None else scores.defaults

    @property
    def diameter_px(self) -> float:
        """Diameter of the cells, as Segment found it; 0 without cells or scores."""
        return self._kept.done.diameter_px if self._kept is not None else 0.0

    def keep(self, asked: Request, done: Segmentation, layer: Labels) -> None:
        """Keep the scores of a new result, in place of those before."""
        self.drop()
        if done.scores is not None and done.labels.size <= _LARGEST_PX:
            self._kept = _Kept(asked, done, layer)
            asked.image.events.data.connect(self._on_data)
        self.changed.emit()

    def drop(self) -> None:
        """Forget the scores: the image, the model or the result is another one."""
        self._wanted = None
        self._timer.stop()
        if self._kept is not None:
            self._kept.asked.image.events.data.disconnect(self._on_data)
            self._kept = None
            self.changed.emit()

    def has_result(self, image: Image | None) -> bool:
        """Whether an image was segmented."""
        return image is not None and self._results.current(image) is not None

    def why_not(self, image: Image | None) -> str:
        """Return why the cells of an image cannot be drawn again; empty if they can."""
        current = None if image is None else self._results.current(image)
        if image is None or current is None:
            return _NO_RESULT
        kept = self._kept
        if kept is None or kept.done.scores is None or kept.layer != current:
            return _NO_SCORES
        here = plane_in_view(image, self._viewer.dims.point)
        return "" if here == kept.done.scores.index else _OTHER_PLANE

    def draw(self, config: PredictConfig) -> None:
        """Show the cells with a `threshold` and a `min_size_px`, soon; None is the model's own."""
        if self._kept is not None:
            self._wanted = config
            self._timer.start()

    def _go_on(self) -> None:
        kept, config = self._kept, self._wanted
        if kept is None or config is None or self._is_at_work:
            return
        self._wanted = None
        if kept.asked.is_outdated or self.why_not(kept.asked.image):
            self.drop()
            return
        self._is_at_work = True
        find = partial(again, kept.done, config)
        self._bring_along(kept.asked, find, partial(self._show, kept))

    def _show(self, kept: _Kept, merged: Merged) -> None:
        self._is_at_work = False
        try:
            # The user may have changed the image, segmented, or gone back to another result.
            is_current = self._results.current(kept.asked.image) == kept.layer
            if self._kept is kept and is_current:
                done, result, layer = merged.result()
                shown = self._add(kept.asked.image, result, layer)
                self._kept = replace(kept, layer=shown)
                self.changed.emit()
                changed = f"; {result.change}" if str(result.change) else ""
                self.told.emit(f"{found_words(kept.asked, done)}{changed}")
        except Exception as error:
            log_failure("drawing the cells again", error)
            self.failed.emit(sentence(error))
        if self._wanted is not None:
            self._timer.start()

    def _on_removed(self, event: Event) -> None:
        kept = self._kept
        if kept is not None and event.value in (kept.layer, kept.asked.image):
            self.drop()

    def _on_data(self, event: Event) -> None:
        if self._kept is not None and self._kept.asked.image.data is not self._kept.asked.pixels:
            self.drop()

    def _on_moved(self, event: Event) -> None:
        self.changed.emit()
