"""What the worker of a server keeps: jobs that were posted from elsewhere, and what they need.

A client asks with `answer`, which Dask runs in the worker (`Client.run`). Every question may be
asked again, so a client whose connection broke asks once more. The jobs run one after the other in
one thread, whoever posted them, and do not depend on a connection.
"""

from __future__ import annotations

import hashlib
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.backends.local import LocalBackend
from napari_unet.config import Device
from napari_unet.io.atomic import replacing
from napari_unet.jobs import Job, JobRunner, Progress
from napari_unet.learning.live_view import View, ViewLabels

if TYPE_CHECKING:
    from distributed import Worker

# Client and server must have the same, for what they exchange is not described anywhere else.
RELEASE = version("napari-unet")
# A job that waits for what its client has yet to send gives up after this many seconds without a
# word from it: the others wait behind it.
SILENT_S = 300.0
# What nobody asks for any more is dropped: a job that runs, a result.
FORGOTTEN_S = 24 * 3600.0
# Steps that are told together if a client was away.
_NEWS = 2000
# Things that are sent together.
_AT_ONCE = 8
# Of files that were sent, models and corrections, this much is kept on the disk.
_KEPT_BYTES = 8 << 30


@dataclass
class Posted:
    """A job, and what is exchanged about it.

    Attributes
    ----------
    job
        Runs in the worker's thread of jobs.
    news
        What it told, numbered from 1; the oldest are dropped.
    wants
        Keys of what it waits for.
    given
        What was sent, by key.
    view
        What its user looks at.
    asked
        When the client last asked, in monotonic seconds.
    """

    job: Job[bytes] = field(init=False)
    news: deque[tuple[int, Progress]] = field(default_factory=lambda: deque(maxlen=_NEWS))
    wants: tuple[str, ...] = ()
    given: dict[str, bytes] = field(default_factory=dict)
    arrived: threading.Condition = field(default_factory=threading.Condition)
    view: View | None = None
    asked: float = field(default_factory=time.monotonic)


class Supply:
    """What an errand can ask for.

    Parameters
    ----------
    job, posted
        What runs.
    folder
        Where files are kept, by their hash.
    backend, device
        What works on this computer, and the device for those who leave the choice.
    """

    def __init__(
        self,
        job: Job[Any],
        posted: Posted,
        folder: Path,
        backend: LocalBackend,
        device: Device,
    ) -> None:
        self._job, self._posted, self._folder = job, posted, folder
        self.backend, self.device = backend, device

    def fetch(self, *keys: str, ahead: Sequence[str] = ()) -> list[bytes]:
        """Have the client send what these keys stand for; see `remote`.

        Parameters
        ----------
        keys
            What is waited for; the client's backend knows them.
        ahead
            What is asked for as well, and waited for by a later call.

        Raises
        ------
        ValueError
            If the client falls silent.
        """
        posted = self._posted
        with posted.arrived:
            posted.wants = (*keys, *ahead)
            while not posted.given.keys() >= set(keys):
                posted.arrived.wait(0.1)
                self._job.check()
                if time.monotonic() - posted.asked > SILENT_S:
                    raise ValueError(
                        "the connection ended before all was sent, so the server gave up; "
                        "start this again"
                    )
            posted.wants = tuple(ahead)
            return [posted.given.pop(key) for key in keys]

    def fetch_many(self, keys: Iterable[str]) -> Iterator[bytes]:
        """The same for many keys, a few at a time."""
        rest = list(keys)
        while rest:
            yield from self.fetch(*rest[:_AT_ONCE])
            rest = rest[_AT_ONCE:]

    def files(self, hashes: Sequence[str]) -> list[Path]:
        """Files with these hashes (SHA-256), sent only if they were not sent before."""
        missing = [h for h in dict.fromkeys(hashes) if not (self._folder / h).exists()]
        for expected, content in zip(missing, self.fetch_many(missing), strict=True):
            if hashlib.sha256(content).hexdigest() != expected:
                raise ValueError("a file changed while it was sent; start this again")
            with replacing(self._folder / expected) as part:
                part.write_bytes(content)
        return [self._folder / h for h in hashes]

    def view(self) -> View | None:
        """What the user looks at."""
        return self._posted.view


# Done in the worker, in the job's thread; what it returns is pickled.
Errand = Callable[[Job[Any], Supply], Any]


class Desk:
    """Jobs by their ids.

    Parameters
    ----------
    folder
        For files that were sent.
    device
        Where networks run, if a client leaves the choice.
    """

    def __init__(self, folder: Path, device: Device = "auto") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._device = folder, device
        self._backend, self._runner = LocalBackend(), JobRunner()
        self._jobs: dict[str, Posted] = {}

    def hello(self) -> tuple[str, str]:
        """Release of this program, and the computer's name."""
        return RELEASE, platform.node()

    def start(self, number: str, errand: Errand) -> None:
        """Post a job, unless it was posted before."""
        self._tidy()
        if number in self._jobs:
            return

        posted = self._jobs[number] = Posted()

        def work(job: Job[bytes]) -> bytes:
            return pack(errand(job, Supply(job, posted, self._folder, self._backend, self._device)))

        posted.job = self._runner.submit("errand", work)
        posted.job.progressed.connect(lambda progress: _note(posted, progress))

    def status(
        self, number: str, since: int, finish: bool, extended_s: float | None = None
    ) -> dict[str, Any] | None:
        """How far a job is, from news `since` on; None if it is not here (any more)."""
        posted = self._jobs.get(number)
        if posted is None:
            return None
        posted.asked = time.monotonic()
        if finish:
            posted.job.finish()
        if extended_s is not None:
            posted.job.extend(extended_s)
        news = [(n, progress) for n, progress in tuple(posted.news) if n > since]
        # Only the newest preview is worth its way.
        shown = [n for n, progress in news if progress.preview is not None][-1:]
        told = [progress if n in shown else replace(progress, preview=None) for n, progress in news]
        before = list(self._jobs.values())[: list(self._jobs).index(number)]
        return {
            "news": told,
            "since": news[-1][0] if news else since,
            "wants": [key for key in posted.wants if key not in posted.given],
            "waiting": sum(p.job.reason is None for p in before),
            "reason": posted.job.reason,
            "error": posted.job.error,
        }

    def give(self, number: str, key: str, content: bytes) -> None:
        """Bring what a job wants."""
        posted = self._jobs.get(number)
        if posted is not None:
            with posted.arrived:
                posted.asked = time.monotonic()
                posted.given[key] = content
                posted.arrived.notify_all()

    def look(self, number: str, view: View) -> None:
        """Tell what the user looks at."""
        posted = self._jobs.get(number)
        if posted is not None:
            posted.view = view

    def cancel(self, number: str) -> None:
        """Cancel a job and forget it."""
        posted = self._jobs.pop(number, None)
        if posted is not None:
            posted.job.cancel()

    def take(self, number: str) -> bytes | None:
        """The packed result; it stays until `cancel`."""
        posted = self._jobs.get(number)
        return posted.job.result if posted is not None else None

    def _tidy(self) -> None:
        now = time.monotonic()
        for number, posted in list(self._jobs.items()):
            if now - posted.asked > FORGOTTEN_S:
                self.cancel(number)
        files = sorted(self._folder.iterdir(), key=lambda path: -path.stat().st_mtime)
        total = 0
        for path in files:
            total += path.stat().st_size
            if total > _KEPT_BYTES and not any(p.job.reason is None for p in self._jobs.values()):
                path.unlink()


def answer(question: str, *args: Any, dask_worker: Worker) -> Any:
    """Answer a client's question, in the worker: the name of a method of `Desk`, its arguments."""
    import dask

    device = dask.config.get("napari-unet.device", "auto")
    return getattr(_desk(dask_worker.local_directory, device), question)(*args)


@lru_cache(maxsize=1)
def _desk(folder: str, device: Device) -> Desk:
    return Desk(Path(folder) / "sent", device)


def pack(thing: Any) -> bytes:
    """A thing as bytes, for its way."""
    return zlib.compress(pickle.dumps(thing, pickle.HIGHEST_PROTOCOL), 1)


def unpack(content: bytes) -> Any:
    """What was packed. Only from who has the credentials: this can run any code."""
    return pickle.loads(zlib.decompress(content))


def _note(posted: Posted, progress: Progress) -> None:
    number = posted.news[-1][0] + 1 if posted.news else 1
    if isinstance(progress.preview, ViewLabels):
        # The client has the image.
        view = replace(progress.preview.view, image=None)
        progress = replace(progress, preview=replace(progress.preview, view=view))
    posted.news.append((number, progress))
    if time.monotonic() - posted.asked > FORGOTTEN_S:
        posted.job.cancel()
