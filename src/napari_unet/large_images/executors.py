"""Executors that run the tasks of a large job: this thread, or the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

# How often a cluster tries a failed task again, because a network drive may fail for a moment.
_RETRIES = 2


class Workers(Protocol):
    """Runs independent tasks."""

    def run(
        self, work: Callable[..., object], pieces: Sequence[tuple[object, ...]]
    ) -> Iterator[int]:
        """Call `work(*piece)` for each piece, in any order; yield the number of pieces done.

        A piece may run more than once, if the process that ran it is lost. Closing the iterator
        cancels pieces that have not begun.

        Parameters
        ----------
        work
            A function of a module. It writes files; what it returns is not used.
        pieces
            The arguments of each call.

        Raises
        ------
        Exception
            Any exception that a piece raises.
        """
        ...


class LocalWorkers:
    """Runs all tasks in the calling thread."""

    def run(
        self, work: Callable[..., object], pieces: Sequence[tuple[object, ...]]
    ) -> Iterator[int]:
        """Run the pieces one after the other; see `Workers.run`."""
        for done, piece in enumerate(pieces, start=1):
            work(*piece)
            yield done


class DaskWorkers:
    """Runs tasks on the workers of a Dask cluster, which must see the same files.

    Parameters
    ----------
    scheduler
        Address of the scheduler, for example tcp://10.0.0.5:8786.

    Raises
    ------
    ValueError
        If dask.distributed is not installed, or the scheduler does not answer.
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
        """Close the connection to the cluster; tasks that have not begun are dropped."""
        self._client.close()

    def run(
        self, work: Callable[..., object], pieces: Sequence[tuple[object, ...]]
    ) -> Iterator[int]:
        """Submit all pieces at once; if a worker is lost, another one runs its pieces.

        For parameters see `Workers.run`.
        """
        from distributed import as_completed

        # pure=False: a piece writes files, so Dask must run it even if it ran the same one before.
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
    """Yield the workers of the Dask cluster at an address, or of this thread if it is None."""
    if scheduler is None:
        yield LocalWorkers()
        return
    workers = DaskWorkers(scheduler)
    try:
        yield workers
    finally:
        workers.close()
