"""Progress, notes and wrong calls on standard error; standard output is for results."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO, TypeVar, cast

from napari_unet.jobs import Job, Progress

T = TypeVar("T")


class WrongCall(ValueError):
    """Raised for a wrong call: its sentence goes to standard error, and the exit status is 2."""


class _Unread:
    """A stream that swallows what is written after its reader has gone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except BrokenPipeError:
            self._let_go()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._let_go()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def _let_go(self) -> None:
        # What is in the buffer goes there as well, now or when Python ends.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def quiet_without_reader() -> Iterator[None]:
    """Let a command do its work to the end where nobody reads what it prints, as after `| head`."""
    streams = [cast(TextIO, _Unread(stream)) for stream in (sys.stdout, sys.stderr)]
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        try:
            yield
        finally:
            # Here, because Python complains where it cannot do that at its end.
            for stream in streams:
                stream.flush()


# Seconds between two lines of progress if standard error is not a terminal, for example a log file.
_LOG_EVERY_S = 30.0


def follow(job: Job[T], more: Callable[[float], str] | None = None) -> T:
    """Wait for a job and show its progress: live on a terminal, else one line every 30 s.

    If a training has too few seconds for enough steps, a warning is printed once.

    Parameters
    ----------
    job
        The job to wait for.
    more
        Returns the command-line option that gives a training so many seconds, for the warning. None
        prints no warning.

    Returns
    -------
    The result of the job.
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
        return job.wait()  # the interrupt cancelled the job, so it ends soon
    finally:
        show_line()


class Notes:
    """Prints notes about images on standard error, each sentence once, for the first image."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, note: str) -> None:
        """Print `FILE: SENTENCE`, unless the sentence was printed for another file."""
        said = note.partition(": ")[2]
        if said not in self._told:
            self._told.add(said)
            show_line()
            print(f"napari-unet: {note}", file=sys.stderr, flush=True)


def show_count(done: int, total: int) -> None:
    """Show how many images are done."""
    show_line(f"{done} of {total} images" if done < total else "")


def show_line(text: str = "") -> None:
    """Replace the current line on the terminal by a text; does nothing without a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
