"""Asks, while nothing else runs, whether another model that ships suits an image better."""

from __future__ import annotations

import math
from functools import partial

from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_unet.core.axes import plane_shape, take_channel
from napari_unet.jobs import FinishReason, Job, log_failure
from napari_unet.models.store import ModelVersion
from napari_unet.plugin.jobs.follower import Follower
from napari_unet.plugin.jobs.scope import Request
from napari_unet.plugin.viewer.main_thread import MainThread
from napari_unet.segmentation.tiled_plane import LARGE_PX
from napari_unet.service.segmentation import SegmentationService

# Time from a result to the question, in milliseconds; who goes on at once is not kept waiting.
_PAUSE_MS = 500


class BetterModel:
    """Asks once for each image and model that ships; what the user starts goes first.

    Nothing is asked while a server is in use, and of planes of more than 16 megapixels.

    Parameters
    ----------
    service
        Compares the models.
    follower
        Says whether something runs.

    Signals
    -------
    named
        The name of a model that suits the image better.
    """

    named = Signal(str)

    def __init__(self, service: SegmentationService, follower: Follower) -> None:
        self._service, self._follower = service, follower
        self._main = MainThread()
        self._job: Job[str | None] | None = None
        self._next: tuple[Request, ModelVersion] | None = None
        # The questions that were answered.
        self._known: set[tuple[object, ...]] = set()
        self._timer = QTimer()
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE_MS)
        self._timer.timeout.connect(self._ask)
        follower.started.connect(self.cancel)

    def ask_soon(self, asked: Request, model: ModelVersion) -> None:
        """Ask in half a second, unless something else begins, or the answer is known.

        Parameters
        ----------
        asked
            What was segmented.
        model
            With what.
        """
        servers = self._service.servers
        if not model.shipped or servers.chosen is not servers.local:
            return
        if math.prod(plane_shape(asked.source.axes, asked.source.data.shape)) > LARGE_PX:
            return
        if _key(asked, model) not in self._known:
            self._next = asked, model
            self._timer.start()

    def cancel(self, *_: object) -> None:
        """Do not ask, and do not wait for an answer; safe to call twice."""
        self._timer.stop()
        self._next = None
        job, self._job = self._job, None
        if job is not None:
            job.cancel()

    def _ask(self) -> None:
        if self._next is None or self._follower.is_busy or self._follower.is_closed:
            return
        asked, model = self._next
        data, axes = asked.source.data, asked.source.axes
        try:
            if isinstance(asked.channel, int):
                data, axes = take_channel(data, axes, asked.channel)
            self._job = job = self._service.better_model(data, axes, model, asked.planes[0])
        except (ValueError, OSError) as error:
            # A model may have been removed meanwhile; nobody waits for this answer.
            log_failure("comparing models", error)
            return
        job.ended.connect(partial(self._main.do, self._on_end, asked, model))
        # The job may have ended before the slot was connected.
        if job.reason is not None:
            self._on_end(asked, model, job)

    def _on_end(self, asked: Request, model: ModelVersion, job: Job[str | None]) -> None:
        if job is not self._job or self._follower.is_closed:
            return
        self._job = None
        if job.reason is FinishReason.CANCELLED:
            return
        self._known.add(_key(asked, model))
        if job.result is not None and not asked.is_outdated:
            self.named.emit(job.result)


def _key(asked: Request, model: ModelVersion) -> tuple[object, ...]:
    shape = tuple(asked.source.data.shape)
    return asked.image.unique_id, shape, asked.checksum, asked.channel, model.reference
