"""The backend on a server: that does the work; models and corrections stay on this computer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from napari_unet.backends.requests import (
    DiameterRequest,
    FinetuneRequest,
    SegmentRequest,
    TrainRequest,
)
from napari_unet.core.axes import get_plane, label_axes, label_shape, plane_indices, set_plane
from napari_unet.io.atomic import replacing
from napari_unet.jobs import Job, JobCancelled
from napari_unet.learning.finetune import Improvement, keep
from napari_unet.learning.live_view import Slip, View
from napari_unet.learning.stacks import check_learns, check_segmentable, in_stacks
from napari_unet.learning.training import NewModel
from napari_unet.models.device import has_torch
from napari_unet.models.header import read_header
from napari_unet.models.store import ModelStore, ModelVersion
from napari_unet.segmentation.plane_order import number_in_order
from napari_unet.segmentation.planes import Segmentation, link_found
from napari_unet.segmentation.stacks import link_stacks, whole_stacks
from napari_unet.serving.arrays import unpack_array
from napari_unet.serving.client.connection import Connection, ServerAway, check_installed, clean
from napari_unet.serving.client.following import LiveView, Offers, RemoteJob
from napari_unet.serving.client.sending import (
    entry_keys,
    sent_entry,
    sent_model,
    sent_pixels,
    sent_planes,
)
from napari_unet.serving.client.unfinished import UnfinishedJob, UnfinishedJobs
from napari_unet.serving.credentials import read_credentials
from napari_unet.serving.messages import (
    DiameterMessage,
    FinetuneMessage,
    SegmentMessage,
    SegmentResult,
    SentModel,
    TrainedResult,
    TrainMessage,
    image_key,
)

T = TypeVar("T")
# Largest model file that is taken from a server, in bytes.
_MODEL_BYTES = 4 << 30


class HttpBackend:
    """Sends requests to a server as messages; see `base.Backend` and `messages`.

    Parameters
    ----------
    server
        Path of the person's credentials.
    unfinished
        Keeps each training job on disk from its start until its result has come back.

    Raises
    ------
    ValueError
        If the file cannot be used, or httpx is not installed.
    """

    def __init__(self, server: Path, unfinished: UnfinishedJobs) -> None:
        check_installed()
        self._server = server.absolute()
        self._connection, self._unfinished = Connection(read_credentials(server)), unfinished
        self._leaving = False

    def segment(self, job: Job[object], request: SegmentRequest) -> Segmentation:
        """See `Backend.segment`; each plane is sent when the server asks for it.

        Cells are linked on this computer, where the image has all its axes.
        """
        image, axes, config = request.image, request.axes, request.config
        check_segmentable(request.model, axes, config, request.box)
        planes: tuple[tuple[int, ...], ...] = request.planes
        # What is numbered one after the other: planes, or the stacks that they lie in.
        units = planes
        link: Callable[..., Segmentation] = link_found
        shape: tuple[int, ...] = (len(planes),)
        if in_stacks(request.model.header, config):
            stacks = whole_stacks(axes, image.shape, planes)
            units, planes = tuple(stacks), tuple(chain(*stacks.values()))
            link, shape = link_stacks, (len(units), len(planes) // len(units))
        first = get_plane(image, axes, planes[0])
        model, offers = sent_model(request.model)
        for number, index in enumerate(planes):
            offers[image_key(number)] = partial(sent_pixels, image, axes, index)
        settings = replace(config, link="none")
        if config.channel != "auto":
            # The image has this channel alone by now.
            settings = replace(settings, channel=None)
        sent_axes: Literal["TCYX", "TZCYX"] = "TCYX" if len(shape) == 1 else "TZCYX"
        sent_shape = (*shape, *first.shape)
        indices = tuple(plane_indices(sent_axes, sent_shape))
        message = SegmentMessage(sent_axes, sent_shape, model, settings, indices, request.box)
        with self._done(job, "segment", message, SegmentResult, offers) as (done, there):
            found = _labels(there, (*shape, *first.shape[1:]), done)
        labels = np.zeros(label_shape(axes, image.shape), np.int32)
        for index, plane in zip(planes, found.reshape(-1, *first.shape[1:]), strict=True):
            set_plane(labels, axes, index, plane)
        tops = np.maximum.accumulate([0, *(plane.max(initial=0) for plane in found)])
        cells = [np.arange(a, b)[:, None] for a, b in pairwise(tops)]
        labels, order = number_in_order(labels, units, cells)
        allowed = {at: planes[np.ravel_multi_index(at, shape)] for at in indices}
        channel = done.look.channel if config.channel == "auto" else config.channel
        here = Segmentation(
            labels,
            planes,
            request.model,
            self._on_server(done.compute),
            len(done.kinds),
            done.diameter_px,
            tuple(clean(done.kinds[cell]) for cell in order[:, 0]),
            tuple((allowed[at], place) for at, place in done.places if at in allowed),
            warnings=tuple(map(clean, done.warnings)),
            look=replace(done.look, channel=channel, words=clean(done.look.words)),
        )
        return link(job, here, label_axes(axes), config.link)

    def guess_diameter(self, job: Job[object], request: DiameterRequest) -> float:
        """See `Backend.guess_diameter`."""
        model, offers = sent_model(request.model)
        offers[image_key(0)] = partial(sent_pixels, request.image, request.axes, request.index)
        message = DiameterMessage(model, request.config)
        with self._done(job, "diameter", message, float, offers) as (done, _):
            return done

    def finetune(
        self,
        job: Job[object],
        store: ModelStore,
        request: FinetuneRequest,
        watch: Callable[[], View | None],
    ) -> Improvement:
        """See `Backend.finetune`; the corrections are stored here, then copies are sent."""
        annotated, parent, name = request.annotated, request.parent, request.name
        check_learns(parent.header, self.computer)
        kept = keep(job, store, annotated, parent, request.config, name)
        model, offers = sent_model(parent)
        entries = []
        for key in entry_keys(kept.collection, parent):
            job.check()
            entries.append(sent_entry(kept.collection, key, offers))
        message = FinetuneMessage(
            sent_planes(annotated, offers),
            model,
            request.config,
            name,
            tuple(entries),
            kept.diameter_px,
            kept.zoom,
        )
        sent = [(c.index, item.name) for item in annotated for c in item.corrections]
        unfinished = replace(
            self._unfinished_job(name, parent.reference),
            indices=tuple(index for index, _ in sent),
            images=tuple(image for _, image in sent),
        )
        live_view = LiveView(watch, parent.header, kept.zoom)
        with self._done(job, "finetune", message, TrainedResult, offers, unfinished, live_view) as (
            done,
            there,
        ):
            return self._adopt(store, unfinished, done, there)

    def train(self, job: Job[object], store: ModelStore, request: TrainRequest) -> Improvement:
        """See `Backend.train`; copies of the images are sent."""
        start, parent, name = request.start, "", request.name
        check_learns(start.header if isinstance(start, ModelVersion) else start, self.computer)
        sent: SentModel | NewModel
        offers: dict[str, Callable[[], bytes]] = {}
        planes = sent_planes(request.annotated, offers)
        if isinstance(start, ModelVersion):
            parent = start.reference
            sent, file = sent_model(start)
            offers.update(file)
        else:
            sent = start
        message = TrainMessage(planes, sent, request.config, name, tuple(request.trained_on))
        unfinished = self._unfinished_job(name, parent)
        with self._done(job, "train", message, TrainedResult, offers, unfinished) as (done, there):
            return self._adopt(store, unfinished, done, there)

    def resume(self, job: Job[object], store: ModelStore, unfinished: UnfinishedJob) -> Improvement:
        """Follow a job that was started earlier, and add its version to the store.

        Raises
        ------
        ValueError
            If the server cannot be reached (it may be tried again), or the job failed.
        """
        there = RemoteJob(job, self._connection, unfinished.number)
        there.connect()
        with self._ending(there, unfinished):
            done = there.follow(TrainedResult, {})
            return self._adopt(store, unfinished, done, there)

    def leave(self) -> None:
        """Let jobs that have begun to learn go on there, even if they are cancelled here later."""
        self._leaving = True

    def close(self) -> None:
        """Close the connection to the server."""
        self._leaving = False
        self._connection.close()

    def is_for(self, server: Path) -> bool:
        """Return whether a file has the credentials of this backend; raises as `__init__`."""
        return read_credentials(server) == self._connection.credentials

    @property
    def computer(self) -> str:
        """The server's name, for people."""
        return self._connection.computer

    def drop(self, job: Job[object], unfinished: UnfinishedJob) -> None:
        """Cancel a job that was started earlier, and forget it."""
        self._forget(RemoteJob(job, self._connection, unfinished.number), unfinished)

    def _unfinished_job(self, name: str, parent: str) -> UnfinishedJob:
        return UnfinishedJob(uuid4().hex, name, parent, str(self._server), self.computer)

    @contextmanager
    def _done(
        self,
        job: Job[object],
        kind: str,
        message: object,
        result: type[T],
        offers: Offers,
        unfinished: UnfinishedJob | None = None,
        live_view: LiveView | None = None,
    ) -> Iterator[tuple[T, RemoteJob]]:
        """Do a job on the server; yield its result and the job, which is deleted there at the end.

        Parameters
        ----------
        job
            Follows the work.
        kind, message
            What is to be done.
        result
            Data class of the result.
        offers
            What the job may want.
        unfinished
            The job as it is kept until its result has come back; None if it does not train.
        live_view
            Sends what the user looks at.
        """
        there = RemoteJob(job, self._connection, unfinished.number if unfinished else uuid4().hex)
        there.connect()
        with self._ending(there, unfinished):
            if unfinished is not None:
                self._unfinished.add(unfinished)
            there.start(kind, message)
            yield there.follow(result, offers, live_view), there

    @contextmanager
    def _ending(self, there: RemoteJob, unfinished: UnfinishedJob | None) -> Iterator[None]:
        """Delete a job on the server when it has ended here, unless it may go on there."""
        try:
            yield
        except ServerAway:
            # The job may go on there. It stays an unfinished job, which can be resumed.
            raise
        except JobCancelled:
            if not (self._leaving and unfinished is not None and there.has_all):
                self._forget(there, unfinished)
            raise
        except OSError:
            # This computer could not keep the model, which is still there: it can be resumed.
            if unfinished is None:
                self._forget(there, unfinished)
            raise
        except BaseException:
            self._forget(there, unfinished)
            raise
        self._forget(there, unfinished)

    def _adopt(
        self,
        store: ModelStore,
        unfinished: UnfinishedJob,
        done: TrainedResult,
        there: RemoteJob,
    ) -> Improvement:
        """Add a version from the server to the store, if it is a model of that name."""
        content = there.output("model", _MODEL_BYTES)
        with TemporaryDirectory() as folder:
            path = Path(folder, "model.safetensors")
            path.write_bytes(content)
            _check_model(path, unfinished.name, self.computer)

        def write(path: Path) -> None:
            with replacing(path) as part:
                part.write_bytes(content)

        verdict = replace(done.verdict, why=clean(done.verdict.why))
        added = store.add(unfinished.name, write, activate=verdict.accepted)
        parent = store.find(unfinished.parent) if unfinished.parent else None
        sent = tuple(zip(unfinished.indices, unfinished.images, strict=False))
        slips = tuple(
            Slip(sent[n][0], place, sent[n][1]) for (n,), place in done.slips if 0 <= n < len(sent)
        )
        compute = self._on_server(done.compute)
        return Improvement(
            added, parent, verdict, done.check, done.replay, done.steps, compute, slips
        )

    def _forget(self, there: RemoteJob, unfinished: UnfinishedJob | None) -> None:
        if unfinished is not None:
            self._unfinished.remove(unfinished)
        there.forget()

    def _on_server(self, compute: str) -> str:
        return f"{self._connection.computer}: {clean(compute)}"


def _labels(there: RemoteJob, shape: tuple[int, ...], done: SegmentResult) -> NDArray[np.int32]:
    """Return the labels of a job, which fit its result.

    Raises
    ------
    ValueError
        If they are not labels of this image.
    """
    largest = 4 * int(np.prod(shape))
    # zlib makes nothing much larger than it is.
    content = there.output("labels", largest + largest // 100 + 10_000)
    labels = unpack_array(content, largest)
    ids = len(done.kinds)
    if (
        labels.shape != shape
        or labels.dtype != np.int32
        or not labels.min(initial=0) >= 0
        or labels.max(initial=0) != ids
    ):
        raise ValueError("the server sent labels that are not of this image; segment it again")
    return labels


def _check_model(path: Path, name: str, computer: str) -> None:
    """Read a model file from a server as if it came from a stranger."""
    if has_torch():
        from napari_unet.models.checkpoint import load_model

        _, header = load_model(path)
    else:
        # The weights are checked by whoever computes with them: the server, before each job.
        header = read_header(path)
    if header.name != name:
        raise ValueError(f"{computer} sent a model of another name; tell whoever runs it")
