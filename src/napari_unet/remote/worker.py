"""The job queue in the server's worker process.

A client calls methods of `JobQueue` through `call`, which Dask runs in the worker (`Client.run`).
Every call may be repeated, so a client whose connection broke calls once more. The jobs run one
after the other in one thread, whichever client sent them, and do not need a connection.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import platform
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from napari_unet.backends.local import LocalBackend
from napari_unet.config import Device
from napari_unet.core.arrays import Pixels
from napari_unet.io.atomic import replacing
from napari_unet.jobs import FinishReason, Job, JobRunner, Progress
from napari_unet.learning.live_view import View, ViewLabels

if TYPE_CHECKING:
    from distributed import Worker

# Client and server must have the same release: the form of what they exchange may change with it.
RELEASE = version("napari-unet")
# A job that waits for data of its client fails after this many seconds without a call from it:
# other jobs wait behind it.
SILENT_S = 300.0
# Jobs and results are deleted after this many seconds without a call from their client.
FORGOTTEN_S = 24 * 3600.0
# Largest number of progress reports that are kept for a client that does not call.
_NEWS = 2000
# Largest number of keys that a job waits for at once.
_AT_ONCE = 8
# Files that were sent (models and corrections) are deleted, the oldest first, where all of them
# together have more bytes than this.
_KEPT_BYTES = 8 << 30

# Stands for the image in what is sent without it.
NO_IMAGE: Pixels = np.zeros((0, 0))


@dataclass
class QueuedJob:
    """A job on the server, and what is exchanged with its client.

    Attributes
    ----------
    job
        Runs in the queue's thread.
    news
        Its progress reports, numbered from 1; the oldest are dropped.
    wants
        Keys of the data that it waits for.
    given
        Data that was sent, by key.
    arrived
        Is notified when data arrives; guards `wants` and `given`.
    view
        What the user looks at.
    asked
        Time of the client's last call, in seconds of the monotonic clock.
    """

    job: Job[bytes] = field(init=False)
    news: deque[tuple[int, Progress]] = field(default_factory=lambda: deque(maxlen=_NEWS))
    wants: tuple[str, ...] = ()
    given: dict[str, bytes] = field(default_factory=dict)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    view: View | None = None
    asked: float = field(default_factory=time.monotonic)


class TaskInputs:
    """What a task can use in the worker: data from its client, and the local backend.

    Parameters
    ----------
    job, queued
        The job of the task.
    folder
        Folder of the files that were sent; each has its SHA-256 as name.
    backend
        Does the work on this computer.
    device
        Where networks run if the client leaves the choice.
    """

    def __init__(
        self,
        job: Job[object],
        queued: QueuedJob,
        folder: Path,
        backend: LocalBackend,
        device: Device,
    ) -> None:
        self._job, self._queued, self._folder = job, queued, folder
        self.backend, self.device = backend, device

    def fetch(self, *keys: str, ahead: Sequence[str] = ()) -> list[bytes]:
        """Wait until the client has sent the data of some keys, and return it.

        Parameters
        ----------
        keys
            Names of the data, as the client's `RemoteBackend` knows them.
        ahead
            Keys that the client sends as well, and for which a later call waits.

        Raises
        ------
        ValueError
            If the client does not call for `SILENT_S`.
        """
        queued = self._queued
        with queued.arrived:
            queued.wants = (*keys, *ahead)
            while not queued.given.keys() >= set(keys):
                queued.arrived.wait(0.1)
                self._job.check()
                if time.monotonic() - queued.asked > SILENT_S:
                    raise ValueError(
                        "the connection ended before all was sent, so the server gave up; "
                        "start this again"
                    )
            queued.wants = tuple(ahead)
            return [queued.given.pop(key) for key in keys]

    def fetch_many(self, keys: Iterable[str]) -> Iterator[bytes]:
        """Fetch the data of many keys, a few at a time."""
        rest = list(keys)
        while rest:
            yield from self.fetch(*rest[:_AT_ONCE])
            rest = rest[_AT_ONCE:]

    def files(self, hashes: Sequence[str]) -> list[Path]:
        """Return the paths of files, given their SHA-256; only files not yet here are fetched."""
        missing = [h for h in dict.fromkeys(hashes) if not (self._folder / h).exists()]
        for expected, content in zip(missing, self.fetch_many(missing), strict=True):
            if hashlib.sha256(content).hexdigest() != expected:
                raise ValueError("a file changed while it was sent; start this again")
            with replacing(self._folder / expected) as part:
                part.write_bytes(content)
        return [self._folder / h for h in hashes]

    def view(self) -> View | None:
        """Return what the user looks at, or None."""
        return self._queued.view


# Runs in the worker, in the job's thread; its result is pickled.
Task = Callable[[Job[object], TaskInputs], object]


@dataclass(frozen=True)
class PackedTask:
    """A task as bytes (see `pack`): it is unpickled in the thread of its job.

    Attributes
    ----------
    content
        The packed task.
    """

    content: bytes

    def __call__(self, job: Job[object], inputs: TaskInputs) -> object:
        """Unpack the task and run it."""
        return unpack(self.content)(job, inputs)


class JobStatus(TypedDict):
    """The state of a job, as its client gets it.

    Attributes
    ----------
    news, since
        Later progress reports, and the number of the last one.
    wants
        Keys of data to send.
    waiting
        Number of jobs before this one.
    reason, error
        Why it ended, or None; and the sentence of its error.
    """

    news: list[Progress]
    since: int
    wants: list[str]
    waiting: int
    reason: FinishReason | None
    error: str


class JobQueue:
    """The jobs of a server, by the ids that their clients gave them.

    Parameters
    ----------
    folder
        For files that were sent.
    device
        Where networks run if a client leaves the choice.
    """

    def __init__(self, folder: Path, device: Device = "auto") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._device = folder, device
        self._backend, self._runner = LocalBackend(), JobRunner()
        self._jobs: dict[str, QueuedJob] = {}

    def hello(self) -> tuple[str, str]:
        """Return the release of this program, and the computer's name."""
        return RELEASE, platform.node()

    def start(self, number: str, task: Task) -> None:
        """Add a job to the queue, unless there is one with this id."""
        self._tidy()
        if number in self._jobs:
            return

        queued = self._jobs[number] = QueuedJob()

        def work(job: Job[bytes]) -> bytes:
            inputs = TaskInputs(job, queued, self._folder, self._backend, self._device)
            return pack(task(job, inputs))

        queued.job = self._runner.submit("task", work)
        queued.job.progressed.connect(lambda progress: _add_news(queued, progress))

    def status(
        self, number: str, since: int, finish: bool, extended_s: float | None = None
    ) -> JobStatus | None:
        """Return the state of a job, and pass on what the user asked for.

        Parameters
        ----------
        number
            The job's id.
        since
            Number of the last progress report that the client has.
        finish
            Whether the job is to end early and keep what was learnt.
        extended_s
            New length of the training in seconds; None changes nothing.

        Returns
        -------
        None if there is no such job, or no longer.
        """
        queued = self._jobs.get(number)
        if queued is None:
            return None
        queued.asked = time.monotonic()
        if finish:
            queued.job.finish()
        if extended_s is not None:
            queued.job.extend(extended_s)
        news = [(n, progress) for n, progress in tuple(queued.news) if n > since]
        # Previews are large and replace each other: only the newest one is sent.
        shown = [n for n, progress in news if progress.preview is not None][-1:]
        told = [progress if n in shown else replace(progress, preview=None) for n, progress in news]
        before = list(self._jobs.values())[: list(self._jobs).index(number)]
        return {
            "news": told,
            "since": news[-1][0] if news else since,
            "wants": [key for key in queued.wants if key not in queued.given],
            "waiting": sum(other.job.reason is None for other in before),
            "reason": queued.job.reason,
            "error": queued.job.error,
        }

    def give(self, number: str, key: str, content: bytes) -> None:
        """Store data that a job waits for."""
        queued = self._jobs.get(number)
        if queued is not None:
            with queued.arrived:
                queued.asked = time.monotonic()
                queued.given[key] = content
                queued.arrived.notify_all()

    def set_view(self, number: str, view: View) -> None:
        """Store what the user looks at; its image is one plane (C, Y, X).

        `NO_IMAGE` stands for the plane of the view before.
        """
        queued = self._jobs.get(number)
        if queued is not None:
            if not view.image.shape[-1] and queued.view is not None:
                view = replace(view, image=queued.view.image)
            queued.view = view

    def cancel(self, number: str) -> None:
        """Cancel a job and delete it with its result."""
        queued = self._jobs.pop(number, None)
        if queued is not None:
            queued.job.cancel()

    def result(self, number: str) -> bytes | None:
        """Return the packed result of a job; it stays here until `cancel`."""
        queued = self._jobs.get(number)
        return queued.job.result if queued is not None else None

    def _tidy(self) -> None:
        """Delete jobs that no client calls for, and files where there are too many."""
        now = time.monotonic()
        for number, queued in list(self._jobs.items()):
            if now - queued.asked > FORGOTTEN_S:
                self.cancel(number)
        files = sorted(self._folder.iterdir(), key=lambda path: -path.stat().st_mtime)
        total = 0
        for path in files:
            total += path.stat().st_size
            if total > _KEPT_BYTES and not any(q.job.reason is None for q in self._jobs.values()):
                path.unlink()


def call(method: str, *args: object, dask_worker: Worker) -> object:
    """Call a method of the worker's `JobQueue`, by its name, and return its result."""
    import dask

    device = dask.config.get("napari-unet.device", "auto")
    return getattr(_queue(dask_worker.local_directory, device), method)(*args)


@lru_cache(maxsize=1)
def _queue(folder: str, device: Device) -> JobQueue:
    return JobQueue(Path(folder) / "sent", device)


def pack(thing: object) -> bytes:
    """Pickle and compress an object, so that a computer with another system can unpack it."""
    content = io.BytesIO()
    _Pickler(content, pickle.HIGHEST_PROTOCOL).dump(thing)
    return zlib.compress(content.getvalue(), 1)


def unpack(content: bytes) -> Any:
    """Return the object that was packed.

    Only for bytes from those who have the credentials: unpickling can run any code.
    """
    return pickle.loads(zlib.decompress(content))


class _Pickler(pickle.Pickler):
    """Pickles a path by its parts: a `PosixPath` cannot be made on Windows, nor the reverse."""

    def reducer_override(self, thing: object) -> Any:
        """Return how to make a path again; `NotImplemented` for all other objects."""
        return (_path, thing.parts) if isinstance(thing, PurePath) else NotImplemented


def _path(*parts: str) -> Path:
    return Path(*parts)


def _add_news(queued: QueuedJob, progress: Progress) -> None:
    """Store a progress report; cancel the job if no client has called for long."""
    number = queued.news[-1][0] + 1 if queued.news else 1
    if isinstance(progress.preview, ViewLabels):
        # The client has the image already.
        view = replace(progress.preview.view, image=NO_IMAGE)
        progress = replace(progress, preview=replace(progress.preview, view=view))
    queued.news.append((number, progress))
    if time.monotonic() - queued.asked > FORGOTTEN_S:
        queued.job.cancel()
