"""Follows a job on a server: reports its progress, sends it data, and ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from napari_unet.core.axes import get_plane, take_channel
from napari_unet.jobs import THIS_COMPUTER, FinishReason, Job, Progress
from napari_unet.learning.live_view import View, ViewLabels
from napari_unet.remote.connection import Connection, ServerAway
from napari_unet.remote.worker import NO_IMAGE, JobStatus, PackedTask, Task, pack, unpack

# What a task may fetch: by key, a function that returns the bytes.
Offers = Mapping[str, Callable[[], bytes]]

# After a connection broke, calls are repeated for so many seconds; then the job here fails.
PERSIST_S = 60.0
# Seconds between two calls that ask for the state of the job.
_POLL_S = 0.1


class RemoteJob:
    """A job on a server, and the job on this computer that follows it.

    Parameters
    ----------
    job
        The job on this computer; `cancel`, `finish` and `extend` of it are passed on.
    connection
        To the server.
    number
        Id of the job on the server.

    Attributes
    ----------
    has_all
        Whether it has begun to learn: it has all its data then, and goes on without this computer.
    """

    def __init__(self, job: Job[object], connection: Connection, number: str) -> None:
        self._job, self._connection, self._number = job, connection, number
        self._fraction = 0.0
        self.has_all = False

    def connect(self) -> None:
        """Check that the server can be reached.

        Raises
        ------
        ValueError
            If it cannot be reached, refuses the credentials, or has another release.
        """
        self._job.report(0.0, f"connecting to {self._connection.computer}")
        self._connection.hello(self._job.check)

    def start(self, task: Task) -> None:
        """Add the job to the server's queue; it runs once, even if the call has to be repeated."""
        self._call("start", PackedTask(pack(task)))

    def follow(self, offers: Offers, watch: Callable[[], View | None]) -> Any:
        """Follow the job until it ends, and return its result.

        Parameters
        ----------
        offers
            What the task may fetch.
        watch
            Returns what the user looks at, or None.

        Raises
        ------
        ServerAway
            If the server cannot be reached for `PERSIST_S`; the job may go on there.
        ValueError
            If the job failed, with the sentence of its error.
        JobCancelled
            If the job here was cancelled; `forget` cancels the one on the server.
        """
        live_view, since = _LiveView(watch), 0
        while True:
            job = self._job
            state: JobStatus | None = self._call("status", since, job.is_finishing, job.extended_s)
            if state is None:
                raise ValueError(
                    f"the server {self._connection.computer} was started again and lost this job; "
                    "start it again, your corrections are kept"
                )
            since = state["since"]
            for progress in state["news"]:
                self._report(live_view.with_own_image(progress))
            if state["waiting"]:
                n = state["waiting"]
                self._job.report(0.0, f"waiting for {n} other job{'s' if n > 1 else ''}")
            for key in state["wants"]:
                self._give(key, offers)
            if state["reason"] is not None:
                return self._result(state)
            if (view := live_view.if_changed()) is not None:
                self._call("set_view", view)
            if not state["wants"]:
                self._sleep(_POLL_S)

    def forget(self) -> None:
        """Cancel and delete the job on the server, if that can be reached."""
        self._connection.notify("cancel", self._number)

    def _report(self, progress: Progress) -> None:
        """Report progress of the server to the job here, with the server's name in the words."""
        self._fraction = progress.fraction
        self.has_all = self.has_all or progress.loss is not None
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
        self._call("give", key, offers[key]())

    def _result(self, state: JobStatus) -> Any:
        if state["reason"] is FinishReason.DONE:
            return unpack(self._call("result"))
        if state["reason"] is FinishReason.CANCELLED:
            raise ValueError(
                f"the server {self._connection.computer} ended the job; start it again"
            )
        raise ValueError(state["error"])

    def _call(self, method: str, *args: object) -> Any:
        """Call a method of the queue; repeat this for `PERSIST_S` if the connection breaks."""
        began = time.monotonic()
        while True:
            try:
                return self._connection.call(self._job.check, method, self._number, *args)
            except ServerAway:
                if time.monotonic() - began > PERSIST_S:
                    raise
                self._job.report(
                    self._fraction, f"{self._connection.computer} does not answer; trying again"
                )
                self._sleep(1.0)

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._job.check()
            time.sleep(0.02)


class _LiveView:
    """Sends what the user looks at to the server, and puts the labels that come back on it."""

    def __init__(self, watch: Callable[[], View | None]) -> None:
        self._watch = watch
        self._sent: View | None = None

    def if_changed(self) -> View | None:
        """Return a view to send if the user looks at another one now.

        Its image is the plane alone, or `NO_IMAGE` where that was sent before.
        """
        view, sent = self._watch(), self._sent
        if view is None:
            return None
        self._sent = view
        if sent is not None and view.shows_plane_of(sent):
            if view.box == sent.box:
                return None
            plane = NO_IMAGE
        else:
            image, axes = take_channel(view.image, view.axes, view.channel)
            plane = np.ascontiguousarray(get_plane(image, axes, view.index))
        return replace(view, image=plane, axes="CYX", index=(), channel=None)

    def with_own_image(self, progress: Progress) -> Progress:
        """Return progress whose labels, if there are any, belong to the image on this computer."""
        shown = progress.preview
        if not isinstance(shown, ViewLabels):
            return progress
        if self._sent is None:
            return replace(progress, preview=None)
        view = replace(self._sent, box=shown.view.box)
        return replace(progress, preview=replace(shown, view=view))
