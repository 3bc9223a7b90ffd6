"""What a terminal shows while a job runs; on standard error, for results go to standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from napari_unet.jobs import Job, Progress

T = TypeVar("T")

# Between lines of progress, where nobody looks on.
_LOG_EVERY_S = 30.0


def follow(job: Job[T], more: Callable[[float], str] | None = None) -> T:
    """Wait for a job, showing its progress: live on a terminal, else a line now and then.

    Where it trains for too short a time, one line says so.

    Parameters
    ----------
    job
        What to wait for.
    more
        The option that gives a training so many seconds.
    """
    shown = time.monotonic()
    warned = more is None

    def show(progress: Progress) -> None:
        nonlocal shown, warned
        if progress.too_short is not None and more is not None and not warned:
            warned = True
            show_line()
            option = more(progress.too_short.enough_s)
            print(
                f"napari-unet: warning: {progress.too_short}; give {option}",
                file=sys.stderr,
                flush=True,
            )
        loss = "" if progress.loss is None else f", loss {progress.loss:.3f}"
        text = f"{100 * progress.fraction:3.0f} % {progress.message}{loss}"
        if sys.stderr.isatty():
            show_line(text)
        elif time.monotonic() - shown > _LOG_EVERY_S:
            shown = time.monotonic()
            print(text, file=sys.stderr, flush=True)

    job.progressed.connect(show)
    try:
        return job.wait()
    except KeyboardInterrupt:
        return job.wait()  # it was cancelled, and ends soon
    finally:
        show_line()


class Notes:
    """Prints what was assumed of images on standard error; the same is told once, of the first."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, note: str) -> None:
        """Tell `FILE: SENTENCE`, unless the sentence was told of another file."""
        said = note.partition(": ")[2]
        if said not in self._told:
            self._told.add(said)
            show_line()
            print(f"napari-unet: {note}", file=sys.stderr, flush=True)


def show_count(done: int, total: int) -> None:
    """Tell how many images are done."""
    show_line(f"{done} of {total} images" if done < total else "")


def show_line(text: str = "") -> None:
    """Put a text in place of the line on the terminal, if there is one."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
