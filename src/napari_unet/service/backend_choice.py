"""Where jobs are done: on this computer, or on a server that the user chose."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.backends.base import Backend
from napari_unet.backends.local import LocalBackend
from napari_unet.jobs import Job, JobRunner
from napari_unet.learning.finetune import Improvement
from napari_unet.models.store import ModelStore
from napari_unet.remote.unfinished import Pending, PendingJobs

if TYPE_CHECKING:
    from napari_unet.remote.backend import RemoteBackend


class Servers:
    """The choice between this computer and a server.

    Parameters
    ----------
    store
        Gets the versions that come back from servers.
    runner
        Does the work.

    Attributes
    ----------
    local
        This computer.
    chosen
        What does the jobs that begin now.
    """

    def __init__(self, store: ModelStore, runner: JobRunner) -> None:
        self._store, self._runner = store, runner
        self.local = LocalBackend()
        self.chosen: Backend = self.local
        self._server: RemoteBackend | None = None
        self._pending = PendingJobs(store.root.parent / "on-servers")

    def use(self, server: Path | None) -> str:
        """Have later jobs done on a server, or here again; returns the computer's name, or "".

        Parameters
        ----------
        server
            The file that `napari-unet serve` wrote; None for this computer.

        Raises
        ------
        ValueError
            If the file cannot be used, or Dask is not installed; all stays as it was.
        """
        if server is None:
            self._choose(self.local)
            return ""
        if self._server is None or not self._server.is_for(server):
            backend = self._remote(server)
            self._choose(backend)
            self._server = backend
        return self._server.computer

    def pending(self) -> list[Pending]:
        """Jobs on servers whose results did not come back, the oldest first."""
        return self._pending.all()

    def resume(self, note: Pending) -> Job[Improvement]:
        """Start to follow such a job again; its version is added as if nothing had happened.

        Raises
        ------
        ValueError
            As for `use`.
        """
        self.use(Path(note.server))
        backend = self._server
        assert backend is not None
        return self._runner.submit(
            f"reconnect to {note.computer}", lambda job: backend.resume(job, self._store, note)
        )

    def drop(self, note: Pending) -> None:
        """Cancel such a job, if its server can be reached, and forget it."""
        self._pending.remove(note)
        with suppress(ValueError):
            server = self._remote(Path(note.server))
            self._runner.submit("drop", lambda job: server.drop(job, note))
            self._runner.submit("let go", lambda job: server.close())

    def _choose(self, backend: Backend) -> None:
        before, self.chosen, self._server = self.chosen, backend, None
        if before is not backend:
            # In its turn: a job may use it.
            self._runner.submit("let go", lambda job: before.close())

    def _remote(self, server: Path) -> RemoteBackend:
        from napari_unet.remote.backend import RemoteBackend

        return RemoteBackend(server, self._pending)
