"""Tells napari what runs, so that it asks before its window is closed."""

from __future__ import annotations

from dataclasses import dataclass

from napari.qt.threading import FunctionWorker, create_worker


class Announcement:
    """One entry in the list of running tasks that napari shows before it closes.

    napari lists only workers that its own `create_worker` made, so one is made for each job. It is
    never started: the job has a thread of its own, and the worker's signals say that it runs.
    """

    def __init__(self) -> None:
        self._worker: FunctionWorker[None] | None = None

    def begin(self, what: str) -> None:
        """Something runs from now on, in a word or two."""
        self.end()
        self._worker = create_worker(_Work(what))
        self._worker.started.emit()

    def end(self, *_: object) -> None:
        """Nothing runs any more; safe to call twice."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.finished.emit()


@dataclass(frozen=True)
class _Work:
    """What napari prints as "Executing ..."."""

    what: str

    def __call__(self) -> None:
        """Do nothing: the work is done elsewhere."""

    def __str__(self) -> str:
        return f"{self.what} (napari-unet)"
