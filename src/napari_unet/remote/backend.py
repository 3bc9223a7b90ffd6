"""The backend on a server: that does the work; models and corrections stay on this computer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import numpy as np

from napari_unet.backends.requests import (
    DiameterRequest,
    FinetuneRequest,
    SegmentRequest,
    TrainRequest,
)
from napari_unet.core.arrays import LazyArray
from napari_unet.core.axes import get_plane, label_axes, label_shape, plane_indices, set_plane
from napari_unet.corrections.collection import Collection
from napari_unet.io.atomic import replacing
from napari_unet.jobs import Job, JobCancelled
from napari_unet.learning.finetune import Improvement, keep
from napari_unet.learning.live_view import View
from napari_unet.learning.stacks import check_learns, check_segmentable, in_stacks
from napari_unet.models.store import ModelStore, ModelVersion
from napari_unet.remote.connection import Connection, ServerAway
from napari_unet.remote.credentials import read_credentials, require_cluster
from napari_unet.remote.job import Offers, RemoteJob
from napari_unet.remote.tasks import (
    ANNOTATED,
    DiameterTask,
    FinetuneTask,
    SegmentTask,
    SentEntry,
    Trained,
    TrainTask,
    one_by_one,
    pack_entry,
    plane_key,
    sent_model,
)
from napari_unet.remote.unfinished import UnfinishedJob, UnfinishedJobs
from napari_unet.remote.worker import NO_IMAGE, TaskInputs, pack
from napari_unet.segmentation.plane_order import number_in_order
from napari_unet.segmentation.planes import Segmentation, link_found
from napari_unet.segmentation.stacks import link_stacks, whole_stacks

T = TypeVar("T")


class RemoteBackend:
    """Sends requests to a server as tasks; see `base.Backend` and `tasks`.

    Parameters
    ----------
    server
        Path of the server's credentials.
    unfinished
        Keeps each training job on disk from its start until its result has come back.

    Raises
    ------
    ValueError
        If the file cannot be used, or Dask is not installed.
    """

    def __init__(self, server: Path, unfinished: UnfinishedJobs) -> None:
        require_cluster()
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
            offers[plane_key(number)] = partial(_plane, image, axes, index)
        settings = replace(config, link="none")
        if config.channel != "auto":
            # The image has this channel alone by now.
            settings = replace(settings, channel=None)
        sent_shape, sent_axes = (*shape, *first.shape), "TCYX" if len(shape) == 1 else "TZCYX"
        sent = SegmentRequest(
            NO_IMAGE,
            sent_axes,
            model,
            settings,
            tuple(plane_indices(sent_axes, sent_shape)),
            request.box,
        )
        done = self._do(job, SegmentTask(sent, sent_shape), offers)
        labels = np.zeros(label_shape(axes, image.shape), np.int32)
        for index, found in zip(planes, done.labels.reshape(-1, *first.shape[1:]), strict=True):
            set_plane(labels, axes, index, found)
        tops = np.maximum.accumulate([0, *(found.max(initial=0) for found in done.labels)])
        cells = [np.arange(a, b)[:, None] for a, b in pairwise(tops)]
        labels, order = number_in_order(labels, units, cells)
        places = tuple((planes[np.ravel_multi_index(at, shape)], p) for at, p in done.places)
        look = done.look
        if config.channel != "auto":
            look = replace(look, channel=config.channel)
        here = replace(
            done,
            look=look,
            labels=labels,
            planes=planes,
            model=request.model,
            places=places,
            kinds=tuple(done.kinds[cell] for cell in order[:, 0]),
            compute=self._on_server(done.compute),
        )
        return link(job, here, label_axes(axes), config.link)

    def guess_diameter(self, job: Job[object], request: DiameterRequest) -> float:
        """See `Backend.guess_diameter`."""
        plane = get_plane(request.image, request.axes, request.index)
        model, offers = sent_model(request.model)
        offers[plane_key(0)] = partial(pack, plane)
        sent = DiameterRequest(NO_IMAGE, "TCYX", (0,), model, request.config)
        return self._do(job, DiameterTask(sent), offers)

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
        for key in _keys(kept.collection, parent):
            job.check()
            content = pack_entry(kept.collection, key)
            sha256 = hashlib.sha256(content).hexdigest()
            entries.append(SentEntry(key, sha256))
            offers[sha256] = partial(pack_entry, kept.collection, key)
        offers[ANNOTATED] = partial(pack, one_by_one(annotated))
        sent = replace(request, annotated=(), parent=model)
        task = FinetuneTask(sent, tuple(entries), kept.diameter_px, kept.zoom)
        indices = tuple(c.index for item in annotated for c in item.corrections)
        unfinished = self._unfinished_job(name, parent.reference, indices)
        trained = self._do(job, task, offers, watch, unfinished)
        return self._adopt(job, store, unfinished, trained)

    def train(self, job: Job[object], store: ModelStore, request: TrainRequest) -> Improvement:
        """See `Backend.train`; copies of the images are sent."""
        start, parent = request.start, ""
        check_learns(start.header if isinstance(start, ModelVersion) else start, self.computer)
        alone = one_by_one(request.annotated)
        offers: dict[str, Callable[[], bytes]] = {
            plane_key(number): partial(pack, item) for number, item in enumerate(alone)
        }
        if isinstance(start, ModelVersion):
            parent = start.reference
            start, file = sent_model(start)
            offers.update(file)
        task = TrainTask(replace(request, annotated=(), start=start), len(alone))
        unfinished = self._unfinished_job(request.name, parent, ())
        trained = self._do(job, task, offers, unfinished=unfinished)
        return self._adopt(job, store, unfinished, trained)

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
            trained = there.follow({}, lambda: None)
        return self._adopt(job, store, unfinished, trained)

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

    def _unfinished_job(
        self, name: str, parent: str, indices: tuple[tuple[int, ...], ...]
    ) -> UnfinishedJob:
        return UnfinishedJob(uuid4().hex, name, parent, str(self._server), self.computer, indices)

    def _do(
        self,
        job: Job[object],
        task: Callable[[Job[object], TaskInputs], T],
        offers: Offers,
        watch: Callable[[], View | None] = lambda: None,
        unfinished: UnfinishedJob | None = None,
    ) -> T:
        """Run a task on the server and return its result.

        Parameters
        ----------
        job
            Follows the work.
        task
            What is to be done.
        offers
            What the task may fetch.
        watch
            Returns what the user looks at.
        unfinished
            The job as it is kept until its result has come back; None if it does not train.
        """
        there = RemoteJob(job, self._connection, unfinished.number if unfinished else uuid4().hex)
        there.connect()
        with self._ending(there, unfinished):
            if unfinished is not None:
                self._unfinished.add(unfinished)
            there.start(task)
            found: T = there.follow(offers, watch)
            return found

    @contextmanager
    def _ending(self, there: RemoteJob, unfinished: UnfinishedJob | None) -> Iterator[None]:
        """Cancel a job on the server if it ends with an error here, unless it may go on there."""
        try:
            yield
        except ServerAway:
            # The job may go on there. It stays an unfinished job, which can be resumed.
            raise
        except JobCancelled:
            if not (self._leaving and unfinished is not None and there.has_all):
                self._forget(there, unfinished)
            raise
        except BaseException:
            self._forget(there, unfinished)
            raise

    def _adopt(
        self, job: Job[object], store: ModelStore, unfinished: UnfinishedJob, trained: Trained
    ) -> Improvement:
        """Add a version from the server to the store; then remove it from the server."""
        done = trained.done

        def write(path: Path) -> None:
            with replacing(path) as part:
                part.write_bytes(trained.content)

        added = store.add(unfinished.name, write, activate=done.verdict.accepted)
        parent = store.find(unfinished.parent) if unfinished.parent else None
        slips = tuple((unfinished.indices[number], place) for (number,), place in done.slips)
        self.drop(job, unfinished)
        compute = self._on_server(done.compute)
        return replace(done, model=added, parent=parent, slips=slips, compute=compute)

    def _forget(self, there: RemoteJob, unfinished: UnfinishedJob | None) -> None:
        if unfinished is not None:
            self._unfinished.remove(unfinished)
        there.forget()

    def _on_server(self, compute: str) -> str:
        return f"{self._connection.computer}: {compute}"


def _plane(image: LazyArray, axes: str, index: tuple[int, ...]) -> bytes:
    return pack(np.ascontiguousarray(get_plane(image, axes, index)))


def _keys(collection: Collection, parent: ModelVersion) -> list[str]:
    """Return the entries that a fine-tune reads: the latest, and those the parent learnt from."""
    latest = {entry.key for entry in collection.entries()}
    every = collection.entries(superseded=True)
    return [e.key for e in every if e.key in latest or e.key in parent.header.corrections]
