"""Jobs: work in a background thread, with progress, cancel and an end that always comes."""

from __future__ import annotations

import errno
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, Protocol, TypeVar

from psygnal import Signal, SignalInstance

T = TypeVar("T")
logger = logging.getLogger(__name__)

THIS_COMPUTER = "this computer"
# With fewer steps than this a fine-tune has hardly begun to learn.
ENOUGH_STEPS = 40


@dataclass(frozen=True)
class TooShort:
    """The time that was asked for holds too few steps.

    Attributes
    ----------
    asked_s
        That time, in seconds.
    steps
        Steps that it holds.
    enough_s
        Seconds that hold enough of them.
    computer
        Where, in words.
    """

    asked_s: float
    steps: int
    enough_s: float
    computer: str = THIS_COMPUTER

    def __str__(self) -> str:
        return (
            f"{duration(self.asked_s)} is enough for {self.steps} "
            f"step{'' if self.steps == 1 else 's'} on {self.computer}; a fine-tune needs about "
            f"{ENOUGH_STEPS}: {duration(self.enough_s)}"
        )


def duration(seconds: float) -> str:
    """A time in words: 30 s, 1 minute, 1.5 minutes."""
    if seconds < 60:
        return f"{seconds:g} s"
    return "1 minute" if seconds == 60 else f"{seconds / 60:.3g} minutes"


class JobState(Enum):
    """Where a job is; it only moves forward."""

    QUEUED = "queued"
    RUNNING = "running"
    ENDED = "ended"


class FinishReason(Enum):
    """Why a job ended."""

    DONE = "done"
    CANCELLED = "cancelled"
    FAILED = "failed"


class JobCancelled(Exception):
    """Raised inside a job at its next check, once somebody has cancelled it."""


class JobFailed(Exception):
    """What `Job.wait` raises for a failed job: one sentence; the cause is chained."""


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes
    ----------
    fraction
        In [0, 1].
    message
        What it is doing, in a few words.
    loss
        Training loss of the latest step, None outside training.
    preview
        What the work would give if it ended now, or None.
    held_out
        Score on held-out cells, in [0, 1]; None if none is known.
    too_short
        That the time for training holds too few steps, and how much would do; else None.
    """

    fraction: float
    message: str
    loss: float | None = None
    preview: Any = None
    held_out: float | None = None
    too_short: TooShort | None = None


class Job(Generic[T]):
    """One piece of work. Signals are emitted from the job's own thread.

    Attributes
    ----------
    name
        What it does, in a few words.
    state
        See `JobState`.
    reason
        See `FinishReason`; None until the end.
    result
        What the work returned, if it is done.
    error
        One sentence for the user, if it failed.
    extended_s
        Seconds that somebody asked the training to take, in all; None if nobody did.
    """

    progressed = Signal(Progress)
    ended = Signal(object)

    def __init__(self, name: str, work: Callable[[Job[T]], T]) -> None:
        self.name = name
        self.state = JobState.QUEUED
        self.reason: FinishReason | None = None
        self.result: T | None = None
        self.error = ""
        self.cause: BaseException | None = None
        self.seconds = 0.0
        self._work = work
        self._cancel, self._end = threading.Event(), threading.Event()
        self._enough = threading.Event()
        self.extended_s: float | None = None
        # Taken once, by whoever starts the job or cancels it before its start.
        self._claim = threading.Lock()

    def cancel(self) -> None:
        """Ask the job to end: at once if it is queued, else within one tile or training step."""
        self._cancel.set()
        if self._claim.acquire(blocking=False):
            self._finish(FinishReason.CANCELLED)

    def finish(self) -> None:
        """Ask the work to come to an end soon, and to keep what it has got."""
        self._enough.set()

    def extend(self, seconds: float) -> None:
        """Ask the work to train for so many seconds in all, if it had fewer."""
        self.extended_s = max(seconds, self.extended_s or 0.0)

    @property
    def is_finishing(self) -> bool:
        """Whether somebody asked for an end; for the work itself to look at."""
        return self._enough.is_set()

    def check(self) -> None:
        """Raise `JobCancelled` if the job was cancelled; for the work itself to call."""
        if self._cancel.is_set():
            raise JobCancelled(self.name)

    def report(
        self,
        fraction: float,
        message: str,
        loss: float | None = None,
        preview: Any = None,
        held_out: float | None = None,
        too_short: TooShort | None = None,
    ) -> None:
        """Tell how far the work is, and end here if it was cancelled; for the work to call."""
        self.check()
        told = Progress(fraction, message, loss, preview, held_out, too_short)
        self._tell(self.progressed, told)

    def wait(self, timeout_s: float | None = None) -> T:
        """Block until the end and return the result; an interrupt (Ctrl-C) cancels the job.

        Raises
        ------
        TimeoutError
            If it has not ended by then.
        JobCancelled, JobFailed
            If it did not finish.
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
        """Do the work in this thread, unless it was cancelled before; never raises."""
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
            # The work is worth more than a listener of it.
            logger.exception("a listener to %s failed", self.name)


class Reporter(Protocol):
    """What work tells of itself: a job, or a part of one."""

    def check(self) -> None:
        """As `Job.check`."""

    def report(self, fraction: float, message: str, *, preview: Any = None) -> None:
        """As `Job.report`."""


@dataclass(frozen=True)
class Part:
    """One of several equal parts of a job.

    Attributes
    ----------
    whole
        Told how far it is.
    number, count
        Which part, from 0, and of how many.
    name
        What it is about.
    """

    whole: Reporter
    number: int
    count: int
    name: str

    def check(self) -> None:
        """Raise `JobCancelled` if the job was cancelled."""
        self.whole.check()

    def report(self, fraction: float, message: str, *, preview: Any = None) -> None:
        """Tell how far the part is; what it would give is not shown."""
        where = f"{self.name} ({self.number + 1} of {self.count}): " if self.count > 1 else ""
        self.whole.report((self.number + fraction) / self.count, where + message)


class JobRunner:
    """Runs jobs one after the other in a thread that starts with the first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._open: set[Job[Any]] = set()

    def submit(self, name: str, work: Callable[[Job[T]], T]) -> Job[T]:
        """Queue a job whose `work` gets the job itself, to report progress and notice a cancel."""
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
        """Cancel all jobs and let the thread end; a later `submit` starts another.

        Returns the thread if it has not ended within the time.
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

    def _loop(self, jobs: queue.SimpleQueue[Job[Any] | None]) -> None:
        while (job := jobs.get()) is not None:
            job.run()
            self._open.discard(job)


def log_failure(what: str, error: BaseException) -> None:
    """Log a failure; a traceback in the terminal is for faults of the program only.

    Parameters
    ----------
    what
        What failed, in a few words.
    error
        Why. What a user can mend (`ValueError`, `OSError`, ...) is told elsewhere, as a `sentence`.
    """
    mendable = ValueError | FloatingPointError | OSError | MemoryError | JobFailed
    expected = isinstance(error, mendable)
    level = logging.INFO if expected else logging.ERROR
    logger.log(level, "%s failed", what, exc_info=error)


_ROOM = "make room on that disk, or write to another one"
_RIGHT = "see that you may read and write there, or choose another place"
# What to do about errors of the file system.
_ADVICE = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EACCES: _RIGHT,
    errno.EPERM: _RIGHT,
    errno.EROFS: _RIGHT,
}


def sentence(error: BaseException) -> str:
    """An exception as one sentence; errors made for users speak for themselves."""
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
