"""One thread beside the viewer's, for what takes longer than the viewer may wait."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from napari_unet.plugin.viewer.main_thread import MainThread

T = TypeVar("T")


class Background:
    """Does one piece of work after the other; answers come in the main thread."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="napari-unet-edits")
        self._main = MainThread()
        self._closed = False

    def run(self, work: Callable[[], T], then: Callable[[Future[T]], None]) -> bool:
        """Queue work, and what is to follow it; False if it is too late for that."""
        if self._closed:
            return False
        try:
            future = self._pool.submit(work)
        except RuntimeError:  # Python is ending, and starts no more work in threads.
            work()
            return False
        future.add_done_callback(partial(self._main.do, self._deliver, then))
        return True

    def close(self) -> None:
        """Take no more; what is queued is done still, but nobody is told."""
        self._closed = True
        self._pool.shutdown(wait=False)

    def _deliver(self, then: Callable[[Future[T]], None], future: Future[T]) -> None:
        if not (self._closed or future.cancelled()):
            then(future)
