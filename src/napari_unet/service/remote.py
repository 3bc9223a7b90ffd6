"""A server does the work, this computer keeps the models and the corrections."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from napari_unet.config import FinetuneConfig, PredictConfig
from napari_unet.core.axes import get_plane, label_shape, set_plane
from napari_unet.engine.safe_files import replacing
from napari_unet.service.collection import Collection
from napari_unet.service.connection import Connection, ServerAway
from napari_unet.service.corrections import Annotated
from napari_unet.service.credentials import read_credentials, require_cluster
from napari_unet.service.desk import Errand, pack, unpack
from napari_unet.service.errands import (
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
from napari_unet.service.improving import Improvement, keep
from napari_unet.service.jobs import FinishReason, Job, JobCancelled, Progress
from napari_unet.service.model_store import ModelStore, ModelVersion
from napari_unet.service.pending import Pending, PendingJobs
from napari_unet.service.segmenting import Segmentation
from napari_unet.service.training import NewModel
from napari_unet.service.views import View, ViewLabels

# Gives the bytes that a key stands for.
Offers = Mapping[str, Callable[[], bytes]]

# A connection that broke is made again for so long, in seconds, before the job here gives up.
_PERSIST_S = 60.0
# Between two questions how far the work is.
_ASK_S = 0.1


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
        job: Job[Segmentation],
        image: Any,
        axes: str,
        version: ModelVersion,
        config: PredictConfig,
        planes: tuple[tuple[int, ...], ...],
    ) -> Segmentation:
        """See `segmenting.segment_planes`; the planes are sent when their turn comes."""
        first = get_plane(image, axes, planes[0])
        model, offers = _model(version)
        for number, index in enumerate(planes):
            offers[plane_key(number)] = partial(_plane, image, axes, index)
        errand = SegmentErrand(model, (len(planes), *first.shape), config)
        done: Segmentation = self._do(job, errand, offers)
        labels = np.zeros(label_shape(axes, image.shape), np.int32)
        for index, found in zip(planes, done.labels, strict=True):
            set_plane(labels, axes, index, found)
        places = tuple((planes[number], place) for (number,), place in done.places)
        return replace(
            done,
            labels=labels,
            planes=planes,
            model=version,
            places=places,
            compute=self._place(done.compute),
        )

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
        return self._adopt(store, note, learnt)

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
        return self._adopt(store, note, learnt)

    def resume(self, job: Job[Improvement], store: ModelStore, note: Pending) -> Improvement:
        """Follow a job that was begun earlier, and add the version that it brings.

        Raises
        ------
        ValueError
            If the server cannot be reached (it may be tried again), or the job failed.
        """
        self._connection.hello(job.check)
        return self._adopt(store, note, self._follow(job, note.number, {}, lambda: None, note))

    def close(self) -> None:
        """Let go: jobs that have all they need go on at the server."""
        self._leaving = True

    @property
    def computer(self) -> str:
        """The server's name, for people."""
        return self._connection.computer

    def drop(self, note: Pending) -> None:
        """Cancel a job that was begun earlier, and forget it."""
        self._forget(note.number, note)

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
        job.report(0.0, f"connecting to {self._connection.computer}")
        self._connection.hello(job.check)
        number = note.number if note else uuid4().hex
        self._persist(job, "start", number, errand)
        if note is not None:
            self._pending.add(note)
        return self._follow(job, number, offers, watch, note)

    def _follow(
        self,
        job: Job[Any],
        number: str,
        offers: Offers,
        watch: Callable[[], View | None],
        note: Pending | None,
    ) -> Any:
        """Tell of a job's progress, send what it wants, and return its result."""
        eyes = _Eyes(watch)
        stays = False
        try:
            while True:
                since = eyes.since
                state = self._persist(job, "status", number, since, job.is_finishing)
                if state is None:
                    raise ValueError(
                        f"the server {self._connection.computer} was started again and lost this "
                        "job; start it again, your corrections are kept"
                    )
                eyes.since = state["since"]
                for progress in state["news"]:
                    stays = stays or progress.loss is not None
                    eyes.tell(job, progress)
                if state["waiting"]:
                    n = state["waiting"]
                    job.report(0.0, f"waiting for {n} other job{'s' if n > 1 else ''}")
                for key in state["wants"]:
                    if key not in offers:
                        raise ValueError(
                            "not everything had been sent when the connection ended; start it again"
                        )
                    self._persist(job, "give", number, key, offers[key]())
                if state["reason"] is not None:
                    return self._end(job, number, state)
                if (view := eyes.moved()) is not None:
                    self._persist(job, "look", number, view)
                if not state["wants"]:
                    self._rest(job)
        except ServerAway:
            raise  # it goes on there, and the note of it stays
        except JobCancelled:
            if not (self._leaving and note is not None and stays):
                self._forget(number, note)
            raise
        except BaseException:
            self._forget(number, note)
            raise

    def _end(self, job: Job[Any], number: str, state: Mapping[str, Any]) -> Any:
        if state["reason"] is FinishReason.DONE:
            return unpack(self._persist(job, "take", number))
        if state["reason"] is FinishReason.CANCELLED:
            raise ValueError(
                f"the server {self._connection.computer} ended the job; start it again"
            )
        raise ValueError(state["error"])

    def _adopt(self, store: ModelStore, note: Pending, learnt: Learnt) -> Improvement:
        """Add a version that a server brought; then the server may forget it."""
        done = learnt.done

        def write(path: Path) -> None:
            with replacing(path) as part:
                part.write_bytes(learnt.content)

        added = store.add(note.name, write, activate=done.verdict.accepted)
        parent = store.find(note.parent) if note.parent else None
        slips = tuple((note.indices[number], place) for (number,), place in done.slips)
        self._forget(note.number, note)
        compute = self._place(done.compute)
        return replace(done, model=added, parent=parent, slips=slips, compute=compute)

    def _forget(self, number: str, note: Pending | None) -> None:
        if note is not None:
            self._pending.remove(note)
        # Nobody waits for the answer.
        self._connection.post("cancel", number)

    def _persist(self, job: Job[Any], question: str, *args: Any) -> Any:
        """Ask, and ask again for a while where the connection breaks."""
        began = time.monotonic()
        while True:
            try:
                return self._connection.ask(job.check, question, *args)
            except ServerAway:
                if time.monotonic() - began > _PERSIST_S:
                    raise
                job.report(0.0, f"{self._connection.computer} does not answer; trying again")
                self._rest(job, 1.0)

    def _rest(self, job: Job[Any], seconds: float = _ASK_S) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            job.check()
            time.sleep(0.02)

    def _place(self, compute: str) -> str:
        return f"{self._connection.computer}: {compute}"


class _Eyes:
    """What the user looks at, on its way there, and what the model makes of it, on its way back."""

    def __init__(self, watch: Callable[[], View | None]) -> None:
        self._watch = watch
        self._sent: View | None = None
        self.since = 0

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

    def tell(self, job: Job[Any], progress: Progress) -> None:
        """Report as if it had happened here."""
        shown = progress.preview
        if isinstance(shown, ViewLabels):
            shown = self._here(shown)
        job.report(progress.fraction, progress.message, progress.loss, shown)

    def _here(self, shown: ViewLabels) -> ViewLabels | None:
        if self._sent is None:
            return None
        return replace(shown, view=replace(self._sent, box=shown.view.box))


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
