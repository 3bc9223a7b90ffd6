"""Fine-tunes that were cut short before napari ended: found, offered, gone on with."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future

from psygnal import Signal

from napari_unet.learning.cut_short import CutShort
from napari_unet.learning.finetune import Improvement
from napari_unet.plugin.jobs.follower import Follower
from napari_unet.plugin.viewer.background import Background
from napari_unet.service.segmentation import SegmentationService

logger = logging.getLogger(__name__)


class CutShortFinetunes:
    """Offers the last fine-tune on this computer that was cut short.

    Parameters
    ----------
    service
        Finds the fine-tunes, and goes on with them.
    background
        The thread that reads their files.
    follower
        Follows the job.
    show
        Called with the result; returns a sentence for the user.

    Attributes
    ----------
    is_looking
        Number of searches that have not ended.

    Signals
    -------
    offered
        A `CutShort`; None if there is none.
    """

    offered = Signal(object)

    def __init__(
        self,
        service: SegmentationService,
        background: Background,
        follower: Follower,
        show: Callable[[Improvement], str],
    ) -> None:
        self._service, self._background = service, background
        self._follower, self._show = follower, show
        self.is_looking = 0

    def look(self) -> None:
        """See whether there is one; `offered` tells."""

        def tell(future: Future[list[CutShort]]) -> None:
            self.is_looking -= 1
            if future.exception():
                logger.info("no fine-tune could be looked for", exc_info=future.exception())
            found = [] if future.exception() else future.result()
            self.offered.emit(found[0] if found and not self._follower.is_busy else None)

        if self._background.run(self._service.cut_short, tell):
            self.is_looking += 1

    def go_on(self, cut: CutShort) -> None:
        """Go on with it, and follow the job.

        Raises
        ------
        ValueError
            If something runs already.
        """
        self._follower.check_idle()
        job = self._service.resume(cut.name)
        self._follower.begin("Fine-tuning", can_finish=True)
        self._follower.follow(job, self._follower.showing(self._show))

    def discard(self, cut: CutShort) -> None:
        """Drop what it has learnt, and offer it no more."""
        self._service.discard_cut_short(cut.name)
        self.look()
