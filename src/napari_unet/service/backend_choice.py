"""The choice where jobs run: on this computer, or on a server."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.backends.base import Backend
from napari_unet.backends.local import LocalBackend
from napari_unet.jobs import Job, JobRunner
from napari_unet.learning.finetune import Improvement
from napari_unet.models.store import ModelStore
from napari_unet.serving.client.known import KnownServers
from napari_unet.serving.client.unfinished import UnfinishedJob, UnfinishedJobs

if TYPE_CHECKING:
    from napari_unet.serving.client.backend import HttpBackend


class Servers:
    """The choice between this computer and a server, and the unfinished jobs on servers.

    Parameters
    ----------
    store
        The store to which the versions that servers return are added.
    runner
        Runs the jobs.

    Attributes
    ----------
    local
        The backend of this computer.
    chosen
        The backend of jobs that start from now on.
    known
        The servers that the user has named.
    """

    def __init__(self, store: ModelStore, runner: JobRunner) -> None:
        self._store, self._runner = store, runner
        self.local = LocalBackend()
        self.chosen: Backend = self.local
        self._server: HttpBackend | None = None
        self.known = KnownServers(store.root.parent / "servers")
        self._unfinished = UnfinishedJobs(store.root.parent / "on-servers")

    def use(self, server: Path | None) -> str:
        """Choose a server, or this computer, for later jobs; returns the server's name, or "".

        Parameters
        ----------
        server
            A file of credentials, such as `known.find` returns; None for this computer.

        Raises
        ------
        ValueError
            If the file cannot be used, or httpx is not installed; the choice is unchanged then.
        """
        if server is None:
            self._choose(self.local)
            return ""
        if self._server is None or not self._server.is_for(server):
            backend = self._remote(server)
            self._choose(backend)
            self._server = backend
        return self._server.computer

    def pending(self) -> list[UnfinishedJob]:
        """Return the unfinished jobs on servers, the oldest first."""
        return self._unfinished.all()

    def resume(self, unfinished: UnfinishedJob) -> Job[Improvement]:
        """Start to follow an unfinished job again; its new version is added to the store.

        Raises
        ------
        ValueError
            As for `use`.
        """
        self.use(Path(unfinished.server))
        backend = self._server
        assert backend is not None
        return self._runner.submit(
            f"reconnect to {unfinished.computer}",
            lambda job: backend.resume(job, self._store, unfinished),
        )

    def drop(self, unfinished: UnfinishedJob) -> None:
        """Cancel an unfinished job, if its server can be reached, and forget it."""
        self._unfinished.remove(unfinished)
        with suppress(ValueError):
            server = self._remote(Path(unfinished.server))
            self._runner.submit("drop", lambda job: server.drop(job, unfinished))
            self._runner.submit("let go", lambda job: server.close())

    def _choose(self, backend: Backend) -> None:
        before, self.chosen, self._server = self.chosen, backend, None
        if before is not backend:
            # Closed after the jobs that wait: they may use it.
            self._runner.submit("let go", lambda job: before.close())

    def _remote(self, server: Path) -> HttpBackend:
        from napari_unet.serving.client.backend import HttpBackend

        return HttpBackend(server, self._unfinished)
