"""The wire to a server: questions go out, answers come back, and nobody waits for what is gone."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING, Any

from napari_unet import __version__
from napari_unet.service.credentials import Credentials, require_cluster
from napari_unet.service.desk import answer

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger(__name__)
# Until a server that does not answer counts as away, in seconds.
PATIENCE_S = 10.0
# Between two looks at whether the job was cancelled.
_LOOK_S = 0.02


class ServerAway(ValueError):
    """The server, or its worker, cannot be reached at the moment."""


class Connection:
    """A connection to a server, made when it is first needed, and made again if it broke.

    Parameters
    ----------
    credentials
        Which server.
    """

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self._client: Client | None = None
        # What Dask does may take long: it happens here, so that a job can be cancelled meanwhile.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="napari-unet-server")

    @property
    def computer(self) -> str:
        """The server's name, for people."""
        return self.credentials.computer

    def ask(self, check: Callable[[], None], question: str, *args: Any) -> Any:
        """What the worker's desk answers; see `desk.Desk`.

        Parameters
        ----------
        check
            Called while the answer is awaited; may raise to wait no longer.
        question, args
            Name of a method of `Desk`, and its arguments.

        Raises
        ------
        ServerAway
            If no answer comes; the question may be asked again.
        ValueError
            If the server refuses the credentials, or the question.
        """
        future = self._thread.submit(self._ask, question, args)
        while True:
            try:
                return future.result(_LOOK_S)
            except NotYet:
                if future.done():
                    raise  # a timeout of its own
                check()

    def hello(self, check: Callable[[], None]) -> None:
        """See that the server is there and speaks the same language; raises as `ask`."""
        release, _ = self.ask(check, "hello")
        if release != __version__:
            raise ValueError(
                f"{self.computer} has napari-unet {release} and this computer {__version__}; "
                "install the same release on both"
            )

    def post(self, question: str, *args: Any) -> None:
        """Ask without waiting for the answer, whatever it is."""
        self._thread.submit(self._ask, question, args)

    def close(self) -> None:
        """Let go of the server; later questions connect again."""
        self._thread.submit(self._disconnect)

    def _ask(self, question: str, args: tuple[Any, ...]) -> Any:
        try:
            client = self._connected()
            answers = client.run(answer, question, *args)
        except (OSError, TimeoutError) as error:
            self._disconnect()
            if _refused(error):
                raise ValueError(
                    f"{self.computer} refused these credentials; copy the file anew from the "
                    "computer where napari-unet serve runs"
                ) from error
            raise ServerAway(
                f"the server {self.computer} at {self.credentials.address} cannot be reached; see "
                "that napari-unet serve runs there, and that this computer can reach it"
            ) from error
        except ValueError:
            raise
        except Exception as error:
            self._disconnect()
            logger.exception("a server's answer")
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
        require_cluster()
        from distributed import Client

        self._disconnect()
        self._client = Client(
            self.credentials.address,
            security=self.credentials.security(),
            timeout=PATIENCE_S,
            set_as_default=False,
            direct_to_workers=False,
            name="napari-unet",
        )
        return self._client

    def _disconnect(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close(timeout=1)


def _refused(error: BaseException) -> bool:
    return any(
        isinstance(each, ssl.SSLError) or "ssl" in str(each).lower() for each in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
