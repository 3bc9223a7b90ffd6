"""One thread beside the viewer's, for what takes longer than the viewer may wait."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Event
from typing import TypeVar

from napari_unet.plugin.viewer.main_thread import MainThread

T = TypeVar("T")


class Background:
    """Does one piece of work after the other; answers come in the main thread, in this order."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="napari-unet-edits")
        self._main = MainThread()
        self._closed = False

    def run(self, work: Callable[[], T], then: Callable[[Future[T]], None]) -> bool:
        """Queue work, and what is to follow it; False if it is too late for that."""
        if self._closed:
            return False
        may_begin = Event()

        def begin() -> T:
            # What has ended before its callback is known would be answered at once, and so before
            # the work in front of it.
            may_begin.wait()
            return work()

        try:
            future = self._pool.submit(begin)
        except RuntimeError:  # Python is ending, and starts no more work in threads.
            work()
            return False
        future.add_done_callback(partial(self._main.do, self._deliver, then))
        may_begin.set()
        return True

    @property
    def is_closed(self) -> bool:
        """Whether it takes no more."""
        return self._closed

    def close(self) -> None:
        """Take no more; what is queued is done still, but nobody is told."""
        self._closed = True
        self._pool.shutdown(wait=False)

    def _deliver(self, then: Callable[[Future[T]], None], future: Future[T]) -> None:
        if not (self._closed or future.cancelled()):
            then(future)
