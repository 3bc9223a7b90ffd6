"""Who does the pieces of a large job: this process, or the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

# A network drive may fail once.
_RETRIES = 2


class Workers(Protocol):
    """Does independent pieces of work."""

    def run(self, work: Callable[..., object], pieces: Sequence[tuple[Any, ...]]) -> Iterator[int]:
        """Call `work(*piece)` for each piece, in any order; yields a number after each.

        A piece may be done more than once, if who did it is lost. Closing the iterator takes back
        what has not begun.

        Parameters
        ----------
        work
            A function of a module; its effect is in files, what it returns is dropped.
        pieces
            Arguments of each call.

        Raises
        ------
        Exception
            Whatever a piece raises.
        """
        ...


class LocalWorkers:
    """The thread that asks."""

    def run(self, work: Callable[..., object], pieces: Sequence[tuple[Any, ...]]) -> Iterator[int]:
        """One after the other; see `Workers`."""
        for done, piece in enumerate(pieces, start=1):
            work(*piece)
            yield done


class DaskWorkers:
    """Workers of a Dask cluster that see the same files.

    Parameters
    ----------
    scheduler
        Its address, for example tcp://10.0.0.5:8786.

    Raises
    ------
    ValueError
        If dask.distributed is not installed, or nobody answers.
    """

    def __init__(self, scheduler: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise ValueError(
                "Dask is not installed; run: pip install 'napari-unet[cluster]'"
            ) from error
        try:
            self._client = Client(scheduler, timeout="10s", set_as_default=False)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"there is no Dask scheduler at {scheduler} ({error}); start one, or give its "
                "address"
            ) from error

    def close(self) -> None:
        """Let go of the cluster; what it was given and has not begun is dropped."""
        self._client.close()

    def run(self, work: Callable[..., object], pieces: Sequence[tuple[Any, ...]]) -> Iterator[int]:
        """All at once; a piece whose worker is lost goes to another. See `Workers`."""
        from distributed import as_completed

        # A piece has effects: it is never taken for one that was done before.
        futures = [
            self._client.submit(work, *piece, pure=False, retries=_RETRIES) for piece in pieces
        ]
        try:
            for done, future in enumerate(as_completed(futures, loop=self._client.loop), start=1):
                future.result()
                yield done
        finally:
            self._client.cancel(futures)


@contextmanager
def workers_at(scheduler: str | None) -> Iterator[Workers]:
    """The workers of the Dask cluster at an address; without one, this thread."""
    if scheduler is None:
        yield LocalWorkers()
        return
    workers = DaskWorkers(scheduler)
    try:
        yield workers
    finally:
        workers.close()
