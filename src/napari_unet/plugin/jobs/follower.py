"""One job at a time, told to whoever shows it; everything happens in the main thread."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from psygnal import Signal

from napari_unet.jobs import FinishReason, Job, Progress, log_failure, sentence
from napari_unet.plugin.viewer.main_thread import MainThread

T = TypeVar("T")


class Follower:
    """Begins, follows and ends what runs.

    Attributes
    ----------
    is_busy
        Whether something runs, or is about to.
    is_finishing
        Whether it was asked to end and to keep what it has got.

    Signals
    -------
    started
        What begins, in a word or two.
    progressed
        `Progress` of the job.
    ended
        A sentence for the user, and whether it is good news.
    """

    started = Signal(str)
    progressed = Signal(object)
    ended = Signal(str, bool)

    def __init__(self) -> None:
        self.is_busy = self.is_finishing = False
        self._main = MainThread()
        self._job: Job[Any] | None = None
        self._can_finish = self._cancelled = self._closed = False

    def cancel(self) -> None:
        """Ask what runs to end; work that can keep what it has got does so, when asked once."""
        if self._job is None:
            self._cancelled = True
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
        self, what: str, start: Callable[[], Job[T]], show: Callable[[T], tuple[str, bool]]
    ) -> None:
        """Start a job and follow it to its end.

        Parameters
        ----------
        what
            What begins, in a word or two.
        start
            Starts it.
        show
            Gets its result; gives a sentence for the user, and whether it is good news.

        Raises
        ------
        ValueError
            If something runs already, or from `start`.
        """
        self._check_idle()
        job = start()
        self._begin(what)

        def finish(job: Job[T]) -> None:
            message, well = show(job.result)  # type: ignore[arg-type]
            self._finish(f"{message} ({job.seconds:.1f} s)", well)

        self._follow(job, finish)

    def _check_idle(self) -> None:
        if self.is_busy:
            raise ValueError("something is running still; wait for its end, or click Cancel")

    def _begin(self, what: str, *, can_finish: bool = False) -> None:
        self.is_busy, self._cancelled, self._can_finish = True, False, can_finish
        self.started.emit(what)

    def _finish(self, message: str, well: bool) -> None:
        self.is_busy, self.is_finishing, self._job = False, False, None
        self._after_all()
        self.ended.emit(message, well)

    def _finish_cancelled(self) -> None:
        self._finish("Cancelled; nothing was changed", True)

    def _while_running(self, progress: Progress) -> None:
        """To be overridden: what else is to be done with progress."""

    def _after_all(self) -> None:
        """To be overridden: what else is to be done at an end."""

    def _follow(self, job: Job[T], show: Callable[[Job[T]], None]) -> None:
        """Tell of a job's progress; `show` gets it when it is done, and finishes."""
        self._job = job
        job.progressed.connect(partial(self._main.do, self._on_progress))
        job.ended.connect(partial(self._main.do, self._on_end, show))
        # It may have ended before anybody listened.
        if job.reason is not None:
            self._on_end(show, job)

    def _showing(self, show: Callable[[T], str]) -> Callable[[Job[T]], None]:
        """To follow a job whose result is shown at once, which gives the sentence to end with."""

        def finish(job: Job[T]) -> None:
            self._finish(f"{show(job.result)} ({job.seconds:.1f} s)", True)  # type: ignore[arg-type]

        return finish

    def _guarded(self, action: Callable[[], None]) -> None:
        """Whatever goes wrong here, the user is told, and the dock works on."""
        try:
            action()
        except Exception as error:
            log_failure("the work in the viewer", error)
            self._finish(sentence(error), False)

    def _on_progress(self, progress: Progress) -> None:
        if self.is_busy and not self._closed:
            self._while_running(progress)
            self.progressed.emit(progress)

    def _on_end(self, show: Callable[[Job[Any]], None], job: Job[Any]) -> None:
        if self._closed or job is not self._job:
            return
        if job.reason is FinishReason.CANCELLED:
            self._finish_cancelled()
        elif job.reason is FinishReason.FAILED:
            self._finish(job.error, False)
        else:
            self._guarded(lambda: show(job))
