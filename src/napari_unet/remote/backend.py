"""A server does the work, this computer keeps the models and the corrections."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.axes import get_plane, label_axes, label_shape, set_plane
from napari_unet.corrections.annotations import Annotated
from napari_unet.corrections.collection import Collection
from napari_unet.io.atomic import replacing
from napari_unet.jobs import Job, JobCancelled
from napari_unet.learning.finetune import Improvement, keep
from napari_unet.learning.live_view import View
from napari_unet.learning.stacks import check_learns, check_segmentable, in_stacks
from napari_unet.learning.training import NewModel
from napari_unet.models.loaded import Box
from napari_unet.models.store import ModelStore, ModelVersion
from napari_unet.remote.connection import Connection, ServerAway
from napari_unet.remote.credentials import read_credentials, require_cluster
from napari_unet.remote.job import Offers, RemoteJob
from napari_unet.remote.tasks import (
    Learnt,
    MeasureErrand,
    SegmentErrand,
    SentEntry,
    SentModel,
    TeachErrand,
    TrainErrand,
    one_by_one,
    pack_entry,
    plane_key,
)
from napari_unet.remote.unfinished import Pending, PendingJobs
from napari_unet.remote.worker import Errand, pack
from napari_unet.segmentation.plane_order import number_in_order
from napari_unet.segmentation.planes import Segmentation, link_found
from napari_unet.segmentation.stacks import link_stacks, whole_stacks


class RemoteBackend:
    """A server, see `Backend` and `server`.

    Parameters
    ----------
    server
        The file of its credentials.
    pending
        Gets a note of each job whose result is yet to come.

    Raises
    ------
    ValueError
        If the file cannot be used, or Dask is not installed.
    """

    def __init__(self, server: Path, pending: PendingJobs) -> None:
        require_cluster()
        self._server = server.absolute()
        self._connection, self._pending = Connection(read_credentials(server)), pending
        self._leaving = False

    def segment(
        self,
        job: Job[Any],
        image: Any,
        axes: str,
        version: ModelVersion,
        config: PredictConfig,
        planes: tuple[tuple[int, ...], ...],
        box: Box | None = None,
    ) -> Segmentation:
        """See `Backend.segment`; planes, in 3D those of whole stacks, are sent in their turn."""
        check_segmentable(version, axes, config, box)
        alone: tuple[tuple[int, ...], ...] = planes
        link: Callable[..., Segmentation] = link_found
        shape: tuple[int, ...] = (len(planes),)
        if in_stacks(version.header, config):
            stacks = whole_stacks(axes, image.shape, planes)
            alone, planes = tuple(stacks), tuple(chain(*stacks.values()))
            link, shape = link_stacks, (len(alone), len(planes) // len(alone))
        first = get_plane(image, axes, planes[0])
        model, offers = _model(version)
        for number, index in enumerate(planes):
            offers[plane_key(number)] = partial(_plane, image, axes, index)
        # Cells are linked here, where they have their axes.
        settings = replace(config, link="none")
        if config.channel != "auto":
            # It was taken already.
            settings = replace(settings, channel=None)
        errand = SegmentErrand(model, (*shape, *first.shape), settings, box)
        done: Segmentation = self._do(job, errand, offers)
        labels = np.zeros(label_shape(axes, image.shape), np.int32)
        for index, found in zip(planes, done.labels.reshape(-1, *first.shape[1:]), strict=True):
            set_plane(labels, axes, index, found)
        tops = np.maximum.accumulate([0, *(found.max(initial=0) for found in done.labels)])
        cells = [np.arange(a, b)[:, None] for a, b in pairwise(tops)]
        labels, order = number_in_order(labels, alone, cells)
        places = tuple((planes[np.ravel_multi_index(at, shape)], p) for at, p in done.places)
        look = done.look
        if config.channel != "auto":
            look = replace(look, channel=config.channel)
        here = replace(
            done,
            look=look,
            labels=labels,
            planes=planes,
            model=version,
            places=places,
            kinds=tuple(done.kinds[cell] for cell in order[:, 0]),
            compute=self._place(done.compute),
        )
        return link(job, here, label_axes(axes), config.link)

    def measure(
        self, job: Job[float], plane: NDArray[Any], version: ModelVersion, config: PredictConfig
    ) -> float:
        """See `segmenting.measure_cells`."""
        model, offers = _model(version)
        offers[plane_key(0)] = partial(pack, plane)
        found: float = self._do(job, MeasureErrand(model, config), offers)
        return found

    def improve(
        self,
        job: Job[Improvement],
        store: ModelStore,
        annotated: Sequence[Annotated],
        parent: ModelVersion,
        config: FinetuneConfig,
        name: str,
        watch: Callable[[], View | None],
    ) -> Improvement:
        """See `improving.improve`; the corrections are kept here, then copies are sent."""
        check_learns(parent.header, self.computer)
        kept = keep(job, store, annotated, parent, config, name)
        model, offers = _model(parent)
        entries = []
        for key in _keys(kept.collection, parent):
            job.check()
            content = pack_entry(kept.collection, key)
            sha256 = hashlib.sha256(content).hexdigest()
            entries.append(SentEntry(key, sha256))
            offers[sha256] = partial(pack_entry, kept.collection, key)
        alone = one_by_one(annotated)
        offers["annotated"] = partial(pack, alone)
        errand = TeachErrand(model, tuple(entries), kept.diameter_px, kept.zoom, config, name)
        indices = tuple(c.index for item in annotated for c in item.corrections)
        note = self._note(name, parent.reference, indices)
        learnt = self._do(job, errand, offers, watch, note)
        return self._adopt(job, store, note, learnt)

    def train(
        self,
        job: Job[Improvement],
        store: ModelStore,
        annotated: Sequence[Annotated],
        origin: ModelVersion | NewModel,
        config: FinetuneConfig,
        name: str,
        trained_on: Sequence[str],
    ) -> Improvement:
        """See `SegmentationService.train`; copies of the images are sent."""
        check_learns(origin.header if isinstance(origin, ModelVersion) else origin, self.computer)
        alone = one_by_one(annotated)
        offers: dict[str, Callable[[], bytes]] = {
            plane_key(number): partial(pack, item) for number, item in enumerate(alone)
        }
        start: SentModel | NewModel
        parent = ""
        if isinstance(origin, ModelVersion):
            start, more = _model(origin)
            offers.update(more)
            parent = origin.reference
        else:
            start = origin
        errand = TrainErrand(start, len(alone), config, name, tuple(trained_on))
        note = self._note(name, parent, ())
        learnt = self._do(job, errand, offers, note=note)
        return self._adopt(job, store, note, learnt)

    def resume(self, job: Job[Improvement], store: ModelStore, note: Pending) -> Improvement:
        """Follow a job that was begun earlier, and add the version that it brings.

        Raises
        ------
        ValueError
            If the server cannot be reached (it may be tried again), or the job failed.
        """
        there = RemoteJob(job, self._connection, note.number)
        there.connect()
        with self._ending(there, note):
            learnt = there.follow({}, lambda: None)
        return self._adopt(job, store, note, learnt)

    def leave(self) -> None:
        """From now on a cancel leaves jobs alone that have all they need: they go on there."""
        self._leaving = True

    def close(self) -> None:
        """Let go of the server."""
        self._leaving = False
        self._connection.close()

    def is_for(self, server: Path) -> bool:
        """Whether this is the server of a file as it is now; raises as for a new one."""
        return read_credentials(server) == self._connection.credentials

    @property
    def computer(self) -> str:
        """The server's name, for people."""
        return self._connection.computer

    def drop(self, job: Job[Any], note: Pending) -> None:
        """Cancel a job that was begun earlier, and forget it."""
        self._forget(RemoteJob(job, self._connection, note.number), note)

    def _note(self, name: str, parent: str, indices: tuple[tuple[int, ...], ...]) -> Pending:
        return Pending(uuid4().hex, name, parent, str(self._server), self.computer, indices)

    def _do(
        self,
        job: Job[Any],
        errand: Errand,
        offers: Offers,
        watch: Callable[[], View | None] = lambda: None,
        note: Pending | None = None,
    ) -> Any:
        there = RemoteJob(job, self._connection, note.number if note else uuid4().hex)
        there.connect()
        with self._ending(there, note):
            if note is not None:
                self._pending.add(note)
            there.start(errand)
            return there.follow(offers, watch)

    @contextmanager
    def _ending(self, there: RemoteJob, note: Pending | None) -> Iterator[None]:
        """See to it that the server goes on with a job, or forgets it."""
        try:
            yield
        except ServerAway:
            # It may go on there, and the note of it stays.
            raise
        except JobCancelled:
            if not (self._leaving and note is not None and there.has_all):
                self._forget(there, note)
            raise
        except BaseException:
            self._forget(there, note)
            raise

    def _adopt(
        self, job: Job[Any], store: ModelStore, note: Pending, learnt: Learnt
    ) -> Improvement:
        """Add a version that a server brought; then the server may forget it."""
        done = learnt.done

        def write(path: Path) -> None:
            with replacing(path) as part:
                part.write_bytes(learnt.content)

        added = store.add(note.name, write, activate=done.verdict.accepted)
        parent = store.find(note.parent) if note.parent else None
        slips = tuple((note.indices[number], place) for (number,), place in done.slips)
        self.drop(job, note)
        compute = self._place(done.compute)
        return replace(done, model=added, parent=parent, slips=slips, compute=compute)

    def _forget(self, there: RemoteJob, note: Pending | None) -> None:
        if note is not None:
            self._pending.remove(note)
        there.forget()

    def _place(self, compute: str) -> str:
        return f"{self._connection.computer}: {compute}"


def _model(version: ModelVersion) -> tuple[SentModel, dict[str, Callable[[], bytes]]]:
    content = version.path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    return SentModel(version.name, version.version, sha256), {sha256: lambda: content}


def _plane(image: Any, axes: str, index: tuple[int, ...]) -> bytes:
    return pack(np.ascontiguousarray(get_plane(image, axes, index)))


def _keys(collection: Collection, parent: ModelVersion) -> list[str]:
    """Entries that a fine-tune reads: the latest, and earlier ones that the parent learnt from."""
    latest = {entry.key for entry in collection.entries()}
    every = collection.entries(superseded=True)
    return [e.key for e in every if e.key in latest or e.key in parent.header.corrections]
