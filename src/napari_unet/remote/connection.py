"""RPC client with timeouts and reconnection: calls methods of the job queue on a server."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from napari_unet.remote.credentials import Credentials
from napari_unet.remote.worker import RELEASE, call

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")
# A server that does not answer for so many seconds counts as away.
PATIENCE_S = 10.0
# Longest wait, in seconds, for an answer that is not needed.
_MOMENT_S = 2.0
# Seconds between two checks whether the job was cancelled.
_CHECK_S = 0.02


class ServerAway(ValueError):
    """The server, or its worker, cannot be reached at the moment; a later call may succeed."""


class Connection:
    """A connection to a server: made by the first call, and made again if it broke.

    Parameters
    ----------
    credentials
        Address and key of the server.
    """

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self._client: Client | None = None
        # One call at a time: the first one connects.
        self._lock = threading.Lock()

    @property
    def computer(self) -> str:
        """The server's name, for people."""
        return self.credentials.computer

    def call(self, check: Callable[[], None], method: str, *args: object) -> Any:
        """Call a method of the worker's `JobQueue`, and return its result.

        Parameters
        ----------
        check
            Called again and again during the wait; may raise to end it.
        method, args
            Name of a method of `worker.JobQueue`, and its arguments.

        Raises
        ------
        ServerAway
            If no answer comes; the call may be repeated.
        ValueError
            If the server refuses the credentials, or the call fails there.
        """
        answered = self._begin(lambda: self._call(method, args))
        while True:
            try:
                return answered.result(_CHECK_S)
            except TimeoutError:
                check()

    def notify(self, method: str, *args: object) -> None:
        """Call a method, wait for a moment only, and ignore errors."""
        with suppress(Exception):
            self._begin(lambda: self._call(method, args)).result(_MOMENT_S)

    def hello(self, check: Callable[[], None]) -> None:
        """Check that the server can be reached and has the same release; raises as `call`."""
        release, _ = self.call(check, "hello")
        if release != RELEASE:
            raise ValueError(
                f"{self.computer} has napari-unet {release} and this computer {RELEASE}; "
                "install the same release on both"
            )

    def close(self) -> None:
        """Close the connection; a later call connects again."""
        with suppress(Exception):
            self._begin(self._disconnect).result(_MOMENT_S)

    def _begin(self, work: Callable[[], T]) -> Future[T]:
        """Run a call in a thread of its own: calls of Dask may take long and cannot be ended."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                with self._lock:
                    done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        threading.Thread(target=run, name="napari-unet-server", daemon=True).start()
        return done

    def _call(self, method: str, args: tuple[object, ...]) -> Any:
        try:
            answers = self._connected().run(call, method, *args)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, ValueError) and not isinstance(error, ssl.SSLError):
                raise
            lost = self._client is None or self._client.status != "running"
            self._disconnect()
            if _refused(error):
                raise ValueError(
                    f"{self.computer} refused these credentials; copy the file anew from the "
                    "computer where napari-unet serve runs"
                ) from error
            if lost or isinstance(error, OSError):
                raise ServerAway(
                    f"the server {self.computer} at {self.credentials.address} cannot be reached; "
                    "see that napari-unet serve runs there, and that this computer can reach it"
                ) from error
            raise ValueError(
                f"{self.computer} could not answer ({type(error).__name__}: {error}); see that "
                "the same release of napari-unet is on both computers"
            ) from error
        if not answers:
            raise ServerAway(
                f"the worker of {self.computer} is not there; it is started again by itself, or "
                "start napari-unet serve again"
            )
        return next(iter(answers.values()))

    def _connected(self) -> Client:
        if self._client is not None and self._client.status == "running":
            return self._client
        from distributed import Client

        self._disconnect()
        security = self.credentials.security()
        self._knock(security.get_connection_args("client")["ssl_context"])
        self._client = Client(
            self.credentials.address,
            security=security,
            timeout=PATIENCE_S,
            set_as_default=False,
            direct_to_workers=False,
            name="napari-unet",
        )
        return self._client

    def _knock(self, context: ssl.SSLContext) -> None:
        """Make a TLS connection, to fail at once if a certificate is refused: Dask retries."""
        place = urlsplit(self.credentials.address)
        address = (place.hostname or "", place.port or 0)
        with socket.create_connection(address, PATIENCE_S) as raw, context.wrap_socket(raw):
            pass

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(Exception):
                client.close(timeout=_MOMENT_S)


def _refused(error: BaseException) -> bool:
    return any(
        isinstance(each, ssl.SSLError) or "ssl" in str(each).lower() for each in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
