"""Jobs: work in a background thread, with progress and cancel, that ends in every case."""

from __future__ import annotations

import errno
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

from psygnal import Signal, SignalInstance

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
logger = logging.getLogger(__name__)

# How messages name the computer on which this program runs.
THIS_COMPUTER = "this computer"
# A fine-tune of fewer steps than this, on tiles of 236 px, has hardly changed the network; see
# `FinetuneConfig.scaled_steps` for other tiles.
ENOUGH_STEPS = 40


@dataclass(frozen=True)
class TooShort:
    """The fact that the time asked for is too short for a fine-tune; `str` gives it as a sentence.

    Attributes
    ----------
    asked_s
        The time asked for, in seconds.
    steps
        Number of steps that fit into it.
    enough_s
        Time that is long enough, in seconds.
    computer
        The name of the computer in the sentence.
    needed
        Number of steps that a fine-tune needs at least.
    """

    asked_s: float
    steps: int
    enough_s: float
    computer: str = THIS_COMPUTER
    needed: int = ENOUGH_STEPS

    def __str__(self) -> str:
        return (
            f"{duration(self.asked_s)} is enough for {self.steps} "
            f"step{'' if self.steps == 1 else 's'} on {self.computer}; a fine-tune needs about "
            f"{self.needed}: {duration(self.enough_s)}"
        )


def duration(seconds: float) -> str:
    """Return a time in words, such as "30 s", "1 minute" or "1.5 minutes"."""
    if seconds < 60:
        return f"{seconds:g} s"
    return "1 minute" if seconds == 60 else f"{seconds / 60:.3g} minutes"


class JobState(Enum):
    """The state of a job; it only moves forward."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"


class FinishReason(Enum):
    """Why a job ended."""

    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class JobCancelled(Exception):
    """The job was cancelled. It is raised inside the job, at its next check, and by `Job.wait`."""


class JobFailed(Exception):
    """The job failed. `Job.wait` raises it with one sentence for the user; the cause is chained."""


@dataclass(frozen=True)
class Progress:
    """The progress of a job.

    Attributes
    ----------
    fraction
        Fraction of the work that is done, in [0, 1].
    message
        What the job is doing, in a few words.
    loss
        Training loss of the latest step; None outside training.
    preview
        The result that the work would have if it ended now, or None.
    held_out
        Score on held-out cells, in [0, 1]; None if none is known.
    too_short
        Set if the time for training is too short, else None.
    """

    fraction: float
    message: str
    loss: float | None = None
    preview: object = None
    held_out: float | None = None
    too_short: TooShort | None = None


class Reporter(Protocol):
    """Receives progress and cancellation checks from running work: a job, or a part of one."""

    def check(self) -> None:
        """Raise `JobCancelled` if the job was cancelled."""

    def report(self, fraction: float, message: str, *, preview: object = None) -> None:
        """Report the progress of the work, as `Job.report` does."""

    def part(self, number: int, count: int, name: str) -> Part:
        """Return one of `count` equal parts, from 0; its messages end with its name and number."""
        after = f", {name} {number + 1} of {count}" if count > 1 else ""
        return Part(self, number, count, after=after)


@dataclass(frozen=True)
class Part(Reporter):
    """One of several equal parts of a job.

    Attributes
    ----------
    whole
        The job, which gets the progress.
    number
        Which part this is, from 0.
    count
        Number of parts.
    before, after
        Texts that are put before and after its messages.
    """

    whole: Reporter
    number: int
    count: int
    before: str = ""
    after: str = ""

    def check(self) -> None:
        """Raise `JobCancelled` if the job was cancelled."""
        self.whole.check()

    def report(self, fraction: float, message: str, *, preview: object = None) -> None:
        """Report the progress of this part to the job; the preview is dropped."""
        message = f"{self.before}{message}{self.after}"
        self.whole.report((self.number + fraction) / self.count, message)


class Job(Reporter, Generic[T_co]):
    """One piece of work that runs in a thread; signals are emitted from that thread.

    Attributes
    ----------
    name
        What the job does, in a few words.
    state
        Whether it waits, runs or has ended.
    reason
        Why it ended; None before.
    result
        What the work returned, if it is done.
    error
        One sentence for the user, if it failed; else empty.
    cause
        The exception, if it failed.
    seconds
        Time that the work took, in seconds.
    extended_s
        Seconds that the user wants the training to take, in all; None if nobody asked.
    """

    progressed = Signal(Progress)
    ended = Signal(object)

    def __init__(self, name: str, work: Callable[[Job[T_co]], T_co]) -> None:
        self.name = name
        self.state = JobState.QUEUED
        self.reason: FinishReason | None = None
        self.result: T_co | None = None
        self.error = ""
        self.cause: BaseException | None = None
        self.seconds = 0.0
        self._work = work
        self._cancel, self._end = threading.Event(), threading.Event()
        self._enough = threading.Event()
        self.extended_s: float | None = None
        # Whoever starts the job, or cancels it before its start, takes this lock and keeps it.
        self._claim = threading.Lock()

    def cancel(self) -> None:
        """Cancel the job: at once if it is queued, else within one tile or training step."""
        self._cancel.set()
        if self._claim.acquire(blocking=False):
            self._finish(FinishReason.CANCELLED)

    def finish(self) -> None:
        """Ask the work to end soon, and to keep the result that it has so far."""
        self._enough.set()

    def extend(self, seconds: float) -> None:
        """Ask the training to take this many seconds in all, if it has fewer."""
        self.extended_s = max(seconds, self.extended_s or 0.0)

    @property
    def is_finishing(self) -> bool:
        """Whether somebody called `finish`; the work itself reads this."""
        return self._enough.is_set()

    def check(self) -> None:
        """Raise `JobCancelled` if the job was cancelled; the work itself calls this."""
        if self._cancel.is_set():
            raise JobCancelled(self.name)

    def report(
        self,
        fraction: float,
        message: str,
        loss: float | None = None,
        preview: object = None,
        held_out: float | None = None,
        too_short: TooShort | None = None,
    ) -> None:
        """Report the progress of the work; the work itself calls this.

        For the parameters see `Progress`.

        Raises
        ------
        JobCancelled
            If the job was cancelled.
        """
        self.check()
        told = Progress(fraction, message, loss, preview, held_out, too_short)
        self._tell(self.progressed, told)

    def wait(self, timeout_s: float | None = None) -> T_co:
        """Wait for the end and return the result; an interrupt (Ctrl-C) cancels the job.

        Raises
        ------
        TimeoutError
            If the job has not ended after `timeout_s` seconds.
        JobCancelled
            If it was cancelled.
        JobFailed
            If it failed.
        """
        try:
            ended = self._end.wait(timeout_s)
        except KeyboardInterrupt:
            self.cancel()
            raise
        if not ended:
            raise TimeoutError(f"{self.name} has not ended after {timeout_s} s")
        if self.reason is FinishReason.CANCELLED:
            raise JobCancelled(self.name)
        if self.reason is FinishReason.FAILED:
            raise JobFailed(self.error) from self.cause
        return self.result  # type: ignore[return-value]

    def run(self) -> None:
        """Do the work in this thread, unless it was cancelled before; never raise an exception."""
        if not self._claim.acquire(blocking=False):
            return
        start = time.perf_counter()
        self.state = JobState.RUNNING
        try:
            self.result = self._work(self)
            reason = FinishReason.DONE
        except JobCancelled:
            reason = FinishReason.CANCELLED
        except BaseException as error:
            reason = FinishReason.FAILED
            self.cause, self.error = error, sentence(error)
            log_failure(self.name, error)
        self.seconds = time.perf_counter() - start
        self._finish(reason)

    def _finish(self, reason: FinishReason) -> None:
        self.reason = reason
        self.state = JobState.ENDED
        self._end.set()
        self._tell(self.ended, self)

    def _tell(self, signal: SignalInstance, content: object) -> None:
        try:
            signal.emit(content)
        except BaseException:
            # An error of a listener must not end the work.
            logger.exception("a listener to %s failed", self.name)


class JobRunner:
    """Runs jobs one after the other in one thread, which starts with the first job."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._jobs: queue.SimpleQueue[Job[object] | None] = queue.SimpleQueue()
        self._open: set[Job[object]] = set()

    def submit(self, name: str, work: Callable[[Job[T]], T]) -> Job[T]:
        """Queue a job; `work` is called with the job, to report progress and to see a cancel."""
        job = Job(name, work)
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                self._jobs = queue.SimpleQueue()
                self._thread = threading.Thread(
                    target=self._loop, args=(self._jobs,), name="napari-unet", daemon=True
                )
                self._thread.start()
            self._open.add(job)
            self._jobs.put(job)
        return job

    def close(self, timeout_s: float = 5.0) -> threading.Thread | None:
        """Cancel all jobs and let the thread end; a later `submit` starts a new one.

        Returns the thread if it has not ended after `timeout_s` seconds, else None.
        """
        with self._lock:
            thread, self._thread = self._thread, None
            jobs = tuple(self._open)
            self._jobs.put(None)
        for job in jobs:
            job.cancel()
        if thread is not None:
            thread.join(timeout_s)
        return thread if thread is not None and thread.is_alive() else None

    def _loop(self, jobs: queue.SimpleQueue[Job[object] | None]) -> None:
        while (job := jobs.get()) is not None:
            job.run()
            self._open.discard(job)


def log_failure(what: str, error: BaseException) -> None:
    """Log a failure: as an error if it is a fault of the program, else at level INFO.

    Parameters
    ----------
    what
        What failed, in a few words.
    error
        The exception. Those that a user can correct (`ValueError`, `OSError`, ...) are logged at
        level INFO, because the user sees them as a `sentence`.
    """
    mendable = ValueError | FloatingPointError | OSError | MemoryError | JobFailed
    expected = isinstance(error, mendable)
    level = logging.INFO if expected else logging.ERROR
    logger.log(level, "%s failed", what, exc_info=error)


_ROOM = "make room on that disk, or write to another one"
_RIGHT = "see that you may read and write there, or choose another place"
# What the user can do about errors of the file system.
_ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EACCES: _RIGHT,
    errno.EPERM: _RIGHT,
    errno.EROFS: _RIGHT,
}


def sentence(error: BaseException) -> str:
    """Return an exception as one sentence for the user."""
    text = " ".join(str(error).split())
    if isinstance(error, ValueError | FloatingPointError | JobFailed) and text:
        return text
    if isinstance(error, MemoryError):
        return "there is not enough memory; close other programs or take a smaller image"
    if isinstance(error, OSError) and error.strerror:
        place = f" ({error.filename})" if error.filename else ""
        advice = _ADVICE.get(error.errno or 0, "check the disk and the folder")
        return f"the file system says: {error.strerror}{place}; {advice}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
