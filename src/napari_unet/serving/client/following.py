"""Follows a job on a server: reports its progress, sends it data, and ends it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np

from napari_unet.core.axes import get_plane
from napari_unet.core.intensity import Normalisation, measure_sample
from napari_unet.jobs import THIS_COMPUTER, Job
from napari_unet.learning.live_view import View, ViewLabels
from napari_unet.models.header import ModelHeader
from napari_unet.serving.arrays import pack_array, unpack_array
from napari_unet.serving.client.connection import (
    Connection,
    NotThere,
    ServerAway,
    begin,
    clean,
    wait,
)
from napari_unet.serving.messages import (
    SHA256,
    JobStatus,
    SentInput,
    SentPreview,
    SentProgress,
    SentView,
    Wishes,
)

T = TypeVar("T")
# What a job may want: by key, a function that returns the bytes.
Offers = Mapping[str, Callable[[], bytes]]

# After a connection broke, requests are repeated for so many seconds; then the job here fails.
PERSIST_S = 60.0
# A first request is repeated for so many seconds: a server that is away is told soon.
_GREET_S = 2.0
# Longest wait for news, in seconds: so long a wish of the user waits to be passed on.
_NEWS_S = 0.5


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
        self._job, self._connection = job, connection
        self._path = f"/v1/jobs/{number}"
        self._fraction = 0.0
        self._wishes = Wishes()
        self.has_all = False

    def connect(self) -> None:
        """Check that the server can be reached.

        Raises
        ------
        ValueError
            If it cannot be reached, refuses the token, or has another release.
        """
        self._job.report(0.0, f"connecting to {self._connection.computer}")
        self._call(self._connection.hello, _GREET_S)

    def start(self, kind: str, request: object) -> None:
        """Add the job to the server's queue; it runs once, even if the call has to be repeated."""
        content = {"kind": kind, "request": request}
        self._call(lambda: self._connection.send("PUT", self._path, content))

    def follow(self, kind: type[T], offers: Offers, live_view: LiveView | None = None) -> T:
        """Follow the job until it ends, and return its result.

        Parameters
        ----------
        kind
            Data class of the result.
        offers
            What the job may want.
        live_view
            Sends what the user looks at; None if nobody looks.

        Raises
        ------
        ServerAway
            If the server cannot be reached for `PERSIST_S`; the job may go on there.
        ValueError
            If the job failed, with the sentence of its error.
        JobCancelled
            If the job here was cancelled; `forget` cancels the one on the server.
        """
        since, connection = 0, self._connection
        while True:
            path = f"{self._path}?since={since}&wait={_NEWS_S}"
            state = self._call(partial(connection.ask, JobStatus, "GET", path))
            since = state.since
            for progress in state.news:
                self._report(progress, live_view)
            if state.state == "waiting":
                self._report_place(state)
            for key in state.wants:
                self._give(key, offers)
            if state.state == "done":
                return self._call(lambda: connection.ask(kind, "GET", f"{self._path}/result"))
            if state.state in ("failed", "cancelled"):
                raise ValueError(clean(state.error) or "the job ended there; start it again")
            self._pass_on(live_view)

    def output(self, name: str, largest: int) -> bytes:
        """Return a file that the job has made, of at most so many bytes."""
        path = f"{self._path}/outputs/{name}"
        return self._call(lambda: self._connection.download(path, largest, self._job.check))

    def forget(self) -> None:
        """Cancel and delete the job on the server, if that can be reached."""
        self._connection.notify("DELETE", self._path)

    def _report(self, progress: SentProgress, live_view: LiveView | None) -> None:
        """Report progress of the server to the job here, with the server's name in the words."""
        self._fraction = min(max(progress.fraction, 0.0), 1.0)
        self.has_all = self.has_all or progress.loss is not None
        server, short = self._connection.computer, progress.too_short
        shown = progress.preview
        preview = live_view.labels(shown) if live_view and shown else None
        self._job.report(
            self._fraction,
            clean(progress.message.replace(THIS_COMPUTER, server)),
            progress.loss,
            preview,
            progress.held_out,
            None if short is None else replace(short, computer=server),
        )

    def _report_place(self, state: JobStatus) -> None:
        n = state.position
        before = f"waiting for {n} other job{'s' if n > 1 else ''}"
        if state.begins_s is not None:
            before += f", about {max(state.begins_s / 60, 1):.0f} min"
        again = "the worker of the server ended; beginning again"
        self._job.report(0.0, before if n else again if state.begun else "waiting for a worker")

    def _give(self, key: str, offers: Offers) -> None:
        if key not in offers:
            raise ValueError(
                "not everything had been sent when the connection ended; start it again"
            )
        content = offers[key]()

        def give() -> None:
            sha256 = self._connection.upload(content, self._job.check)
            if not SHA256.fullmatch(key):
                said = SentInput(key, sha256)
                self._connection.send("PUT", f"{self._path}/inputs", said)

        # Both are repeated: another job of this person that ends takes its images along, which
        # may be the same.
        self._call(give)

    def _pass_on(self, live_view: LiveView | None) -> None:
        """Tell the server what the user wishes, and looks at, if that has changed."""
        wishes = Wishes(self._job.is_finishing, self._job.extended_s)
        if wishes != self._wishes:
            self._call(lambda: self._connection.send("PUT", f"{self._path}/wishes", wishes))
            self._wishes = wishes
        if live_view is not None and self.has_all and (found := live_view.if_changed()):
            view, piece = found

            def show() -> None:
                self._connection.upload(piece, self._job.check)
                self._connection.send("PUT", f"{self._path}/view", view)

            self._call(show)

    def _call(self, work: Callable[[], T], persist_s: float | None = None) -> T:
        """Make a request; if the connection breaks, repeat it for so many seconds."""
        persist_s = PERSIST_S if persist_s is None else persist_s
        began = time.monotonic()
        while True:
            try:
                return wait(begin(work), self._job.check)
            except NotThere as error:
                raise ValueError(
                    f"the server {self._connection.computer} has lost this job; "
                    "start it again, your corrections are kept"
                ) from error
            except ServerAway:
                if time.monotonic() - began > persist_s:
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


class LiveView:
    """Sends what the user looks at, and puts the labels that come back on it.

    Only the part that is segmented is sent, with the intensities of its plane.

    Parameters
    ----------
    watch
        Returns what the user looks at, or None.
    header
        Of the model that learns.
    zoom
        Factor by which images are enlarged for the network.
    """

    def __init__(self, watch: Callable[[], View | None], header: ModelHeader, zoom: float) -> None:
        self._watch, self._zoom = watch, zoom
        self._normalisation = Normalisation(**header.normalisation)
        self._sent: View | None = None
        self._sha256 = ""
        self._measured: View | None = None

    def if_changed(self) -> tuple[SentView, bytes] | None:
        """Return a view to send, and its pixels, if the user looks at another one now."""
        view, sent = self._watch(), self._sent
        if view is None or (_same_plane(view, sent) and sent and view.box == sent.box):
            return None
        self._sent = view
        if not _same_plane(view, self._measured):
            statistics = measure_sample(view.sample(), self._normalisation)
            self._measured = replace(view, statistics=statistics)
        assert self._measured is not None
        assert self._measured.statistics is not None
        _, wide = view.parts(self._zoom)
        piece = get_plane(view.image, view.axes, view.index, wide)
        content = pack_array(np.ascontiguousarray(piece))
        rows, columns = (
            view.image.shape[view.axes.index(axis)] if axis in view.axes else 1 for axis in "YX"
        )
        at = (wide[0].start, wide[1].start)
        self._sha256 = hashlib.sha256(content).hexdigest()
        shape = (len(piece), rows, columns)
        return SentView(shape, view.box, at, self._measured.statistics, self._sha256), content

    def labels(self, shown: SentPreview) -> ViewLabels | None:
        """Return labels from the server on the image that they belong to; None if they do not."""
        view = self._sent
        if view is None or shown.sha256 != self._sha256:
            return None
        shape = tuple(part.stop - part.start for part in shown.box)
        inside = all(
            whole.start <= part.start and part.stop <= whole.stop
            for part, whole in zip(shown.box, view.box, strict=True)
        )
        try:
            found = unpack_array(base64.b64decode(shown.labels, validate=True), 1 << 28)
        except (ValueError, binascii.Error):
            return None
        if (
            not inside
            or found.shape != shape
            or found.dtype != np.int32
            or found.min(initial=0) < 0
        ):
            return None
        return ViewLabels(replace(view, box=shown.box), found)


def _same_plane(one: View, other: View | None) -> bool:
    return other is not None and one.image is other.image and one.index == other.index
