"""Runs one job at a time and reports on it; all signals come in the main thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from psygnal import Signal

from napari_unet.jobs import FinishReason, Job, Progress, log_failure, sentence
from napari_unet.plugin.viewer.main_thread import MainThread

T = TypeVar("T")


class Follower:
    """Begins, follows and ends one job at a time.

    Parameters
    ----------
    on_progress
        Called with a job's progress, before `progressed` is emitted.
    on_end
        Called when a job has ended, before `ended` is emitted.

    Attributes
    ----------
    is_busy
        Whether something runs, or is about to.
    is_finishing
        Whether the job was asked to end and to keep what it has done so far.
    was_cancelled
        Whether `cancel` was called before there was a job: `begin` was called, `follow` not yet.
    is_closed
        Whether nothing is reported any more.

    Signals
    -------
    started
        The name of the work that begins, in a word or two.
    progressed
        `Progress` of the job.
    ended
        A sentence for the user, and whether it is good news.
    """

    started = Signal(str)
    progressed = Signal(object)
    ended = Signal(str, bool)

    def __init__(self, on_progress: Callable[[Progress], None], on_end: Callable[[], None]) -> None:
        self._before_progress, self._before_end = on_progress, on_end
        self.is_busy = self.is_finishing = self.was_cancelled = self.is_closed = False
        self._main = MainThread()
        self._job: Job[Any] | None = None
        self._can_finish = False
        self._stopped: Callable[[], str] = _nothing

    def cancel(self) -> None:
        """Ask the job to end.

        A job that can keep what it has done so far does so at the first call, and stops at once
        at the second.
        """
        if self._job is None:
            self.was_cancelled = True
        elif self._can_finish and not self.is_finishing:
            self.is_finishing = True
            self._job.finish()
        else:
            self._job.cancel()

    def extend(self, seconds: float) -> None:
        """Have the training that runs take so many seconds in all."""
        if self._job is not None:
            self._job.extend(seconds)

    def run(
        self,
        what: str,
        start: Callable[[], Job[T]],
        show: Callable[[T], tuple[str, bool]],
        stopped: Callable[[], str] | None = None,
    ) -> None:
        """Start a job and follow it to its end.

        Parameters
        ----------
        what
            The name of the work, in a word or two.
        start
            Starts the job.
        show
            Called with the result; returns a sentence for the user, and whether it is good news.
        stopped
            Returns what is said if the work is cancelled; by default that nothing was changed.

        Raises
        ------
        ValueError
            If something runs already, or from `start`.
        """
        self.check_idle()
        job = start()
        self.begin(what)
        self._stopped = stopped or _nothing

        def finish(job: Job[T]) -> None:
            message, well = show(job.result)  # type: ignore[arg-type]
            self.finish(message, well)

        self.follow(job, finish)

    def check_idle(self) -> None:
        """See that nothing runs.

        Raises
        ------
        ValueError
            If something does.
        """
        if self.is_busy:
            raise ValueError("something is running still; wait for its end, or click Cancel")

    def begin(self, what: str, *, can_finish: bool = False) -> None:
        """Say that something begins; `follow`, `finish` or `finish_cancelled` comes later.

        Parameters
        ----------
        what
            The name of the work, in a word or two.
        can_finish
            Whether the job can end early and keep what it has done so far.
        """
        self.is_busy, self.was_cancelled, self._can_finish = True, False, can_finish
        self._stopped = _nothing
        self.started.emit(what)

    def finish(self, message: str, well: bool) -> None:
        """Say that the work has ended, with a sentence and whether that is good news."""
        self.is_busy, self.is_finishing, self._job = False, False, None
        self._before_end()
        self.ended.emit(message, well)

    def finish_cancelled(self) -> None:
        """Say that the work was cancelled."""
        self.finish(self._stopped(), True)

    def follow(self, job: Job[T], show: Callable[[Job[T]], None]) -> None:
        """Report a job's progress; `show` is called with it when it is done, and finishes."""
        self._job = job
        job.progressed.connect(partial(self._main.do, self._on_progress))
        job.ended.connect(partial(self._main.do, self._on_end, show))
        # The job may have ended before these slots were connected.
        if job.reason is not None:
            self._on_end(show, job)

    def showing(self, show: Callable[[T], str]) -> Callable[[Job[T]], None]:
        """Return what `follow` needs for a result that is shown at once.

        `show` is called with the result, and returns the sentence to end with.
        """

        def finish(job: Job[T]) -> None:
            self.finish(show(job.result), True)  # type: ignore[arg-type]

        return finish

    def guarded(self, action: Callable[[], None]) -> None:
        """Do something; an error is logged, and ends the work with a sentence for the user."""
        try:
            action()
        except Exception as error:
            log_failure("the work in the viewer", error)
            self.finish(sentence(error), False)

    def _on_progress(self, progress: Progress) -> None:
        if self.is_busy and not self.is_closed:
            self._before_progress(progress)
            self.progressed.emit(progress)

    def _on_end(self, show: Callable[[Job[Any]], None], job: Job[Any]) -> None:
        if self.is_closed or job is not self._job:
            return
        if job.reason is FinishReason.CANCELLED:
            self.finish_cancelled()
        elif job.reason is FinishReason.FAILED:
            self.finish(job.error, False)
        else:
            self.guarded(lambda: show(job))


def _nothing() -> str:
    return "Cancelled; nothing was changed"
