"""The choice of the backend that runs the jobs: this computer, or a server."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.backends.local import Backend, LocalBackend
from napari_unet.jobs import Job, JobRunner
from napari_unet.learning.finetune import Improvement
from napari_unet.models.store import ModelStore
from napari_unet.remote.unfinished import Pending, PendingJobs

if TYPE_CHECKING:
    from napari_unet.remote.backend import RemoteBackend


class Servers:
    """The choice between this computer and a server, and the unfinished jobs on servers.

    Parameters
    ----------
    store
        The store to which the versions that servers return are added.
    runner
        Runs the jobs of reconnecting to a server and of closing a connection.

    Attributes
    ----------
    local
        The backend of this computer.
    chosen
        The backend that runs the jobs that begin now.
    """

    def __init__(self, store: ModelStore, runner: JobRunner) -> None:
        self._store, self._runner = store, runner
        self.local = LocalBackend()
        self.chosen: Backend = self.local
        self._server: RemoteBackend | None = None
        self._pending = PendingJobs(store.root.parent / "on-servers")

    def use(self, server: Path | None) -> str:
        """Run later jobs on a server, or on this computer again.

        Returns the name of the server's computer, or "" for this computer.

        Parameters
        ----------
        server
            The file that `napari-unet serve` wrote; None for this computer.

        Raises
        ------
        ValueError
            If the file cannot be used, or Dask is not installed; the choice is not changed.
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
        """Return the jobs on servers whose results were not received yet, oldest first."""
        return self._pending.all()

    def resume(self, note: Pending) -> Job[Improvement]:
        """Reconnect to an unfinished job on a server; its version is added to the store.

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
        """Forget an unfinished job, and cancel it if its server can be reached."""
        self._pending.remove(note)
        with suppress(ValueError):
            server = self._remote(Path(note.server))
            self._runner.submit("drop", lambda job: server.drop(job, note))
            self._runner.submit("let go", lambda job: server.close())

    def _choose(self, backend: Backend) -> None:
        before, self.chosen, self._server = self.chosen, backend, None
        if before is not backend:
            # The backend is closed by a job in the queue, because an earlier job may still use it.
            self._runner.submit("let go", lambda job: before.close())

    def _remote(self, server: Path) -> RemoteBackend:
        from napari_unet.remote.backend import RemoteBackend

        return RemoteBackend(server, self._pending)
