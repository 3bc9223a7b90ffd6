"""A job here that follows one on a server: tells of its progress, sends what it wants, ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from napari_unet.core.axes import get_plane
from napari_unet.jobs import THIS_COMPUTER, FinishReason, Job, Progress
from napari_unet.learning.live_view import View, ViewLabels
from napari_unet.remote.connection import Connection, ServerAway
from napari_unet.remote.worker import Errand, unpack

# Gives the bytes that a key stands for.
Offers = Mapping[str, Callable[[], bytes]]

# A connection that broke is made again for so long, in seconds, before the job here gives up.
PERSIST_S = 60.0
# Between two questions how far the work is.
_ASK_S = 0.1


class RemoteJob:
    """The two ends of a job, by its number at the server.

    Parameters
    ----------
    job
        The one here; its cancel and finish are passed on.
    connection
        To the server.
    number
        What the server calls the job.

    Attributes
    ----------
    has_all
        Whether it was seen to learn, so that it goes on without this computer.
    """

    def __init__(self, job: Job[Any], connection: Connection, number: str) -> None:
        self._job, self._connection, self._number = job, connection, number
        self._fraction = 0.0
        self.has_all = False

    def connect(self) -> None:
        """See that the server is there.

        Raises
        ------
        ValueError
            If it cannot be reached, or refuses.
        """
        self._job.report(0.0, f"connecting to {self._connection.computer}")
        self._connection.hello(self._job.check)

    def start(self, errand: Errand) -> None:
        """Post it; once, however often the connection breaks."""
        self._ask("start", errand)

    def follow(self, offers: Offers, watch: Callable[[], View | None]) -> Any:
        """Until the end; returns the result.

        Parameters
        ----------
        offers
            What it may want.
        watch
            Tells what the user looks at.

        Raises
        ------
        ServerAway
            If the server cannot be reached for a minute; the job may go on there.
        ValueError
            If it failed, with the same sentence as here.
        JobCancelled
            If the job here was cancelled; the one there has yet to be told.
        """
        eyes, since = _Eyes(watch), 0
        while True:
            job = self._job
            state = self._ask("status", since, job.is_finishing, job.extended_s)
            if state is None:
                raise ValueError(
                    f"the server {self._connection.computer} was started again and lost this job; "
                    "start it again, your corrections are kept"
                )
            since = state["since"]
            for progress in state["news"]:
                self._tell(eyes.here(progress))
            if state["waiting"]:
                n = state["waiting"]
                self._job.report(0.0, f"waiting for {n} other job{'s' if n > 1 else ''}")
            for key in state["wants"]:
                self._give(key, offers)
            if state["reason"] is not None:
                return self._result(state)
            if (view := eyes.moved()) is not None:
                self._ask("look", view)
            if not state["wants"]:
                self._rest(_ASK_S)

    def forget(self) -> None:
        """Have the server cancel and forget it, if it can be reached."""
        self._connection.tell("cancel", self._number)

    def _tell(self, progress: Progress) -> None:
        self._fraction = progress.fraction
        self.has_all = self.has_all or progress.loss is not None
        # "This computer" is the server, where it was said.
        server, short = self._connection.computer, progress.too_short
        message = progress.message.replace(THIS_COMPUTER, server)
        self._job.report(
            progress.fraction,
            message,
            progress.loss,
            progress.preview,
            progress.held_out,
            None if short is None else replace(short, computer=server),
        )

    def _give(self, key: str, offers: Offers) -> None:
        if key not in offers:
            raise ValueError(
                "not everything had been sent when the connection ended; start it again"
            )
        self._ask("give", key, offers[key]())

    def _result(self, state: Mapping[str, Any]) -> Any:
        if state["reason"] is FinishReason.DONE:
            return unpack(self._ask("take"))
        if state["reason"] is FinishReason.CANCELLED:
            raise ValueError(
                f"the server {self._connection.computer} ended the job; start it again"
            )
        raise ValueError(state["error"])

    def _ask(self, question: str, *args: Any) -> Any:
        """Ask, and ask again for a while where the connection breaks."""
        began = time.monotonic()
        while True:
            try:
                return self._connection.ask(self._job.check, question, self._number, *args)
            except ServerAway:
                if time.monotonic() - began > PERSIST_S:
                    raise
                self._job.report(
                    self._fraction, f"{self._connection.computer} does not answer; trying again"
                )
                self._rest(1.0)

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._job.check()
            time.sleep(0.02)


class _Eyes:
    """What the user looks at, on its way there, and what the model makes of it, on its way back."""

    def __init__(self, watch: Callable[[], View | None]) -> None:
        self._watch = watch
        self._sent: View | None = None

    def moved(self) -> View | None:
        """What to send if the user looks at something else now."""
        view, sent = self._watch(), self._sent
        if view is None or (
            sent is not None
            and view.image is sent.image
            and (view.index, view.box) == (sent.index, sent.box)
        ):
            return None
        self._sent = view
        plane = np.ascontiguousarray(get_plane(view.image, view.axes, view.index))
        return replace(view, image=plane, axes="CYX", index=())

    def here(self, progress: Progress) -> Progress:
        """The same as if it had happened here: labels of what the user looks at."""
        shown = progress.preview
        if not isinstance(shown, ViewLabels):
            return progress
        if self._sent is None:
            return replace(progress, preview=None)
        view = replace(self._sent, box=shown.view.box)
        return replace(progress, preview=replace(shown, view=view))
