"""Requests to a server, with bounds on what comes back."""

from __future__ import annotations

import hashlib
import json
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

from napari_unet.serving.credentials import Credentials
from napari_unet.serving.jsons import Unfit, from_json, parse, to_json
from napari_unet.serving.messages import RELEASE, Hello

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
# A server that does not answer for so many seconds counts as away.
PATIENCE_S = 10.0
# Longest wait, in seconds, for an answer that is not needed.
_MOMENT_S = 2.0
# Seconds between two checks whether the job was cancelled.
_CHECK_S = 0.02
# A blob is sent in parts of so many bytes, so that little is sent again after a cut.
PART_BYTES = 4 << 20
# Longest answer that is no file, in bytes.
_ANSWER_BYTES = 64 << 20
# Longest sentence of a server that is shown, in characters.
_SENTENCE = 500


class ServerAway(ValueError):
    """The server cannot be reached at the moment; a later call may succeed."""


class NotThere(ValueError):
    """The server does not have what was asked for."""


class Connection:
    """Makes requests to a server; each one may be repeated, so a broken one is made again.

    Parameters
    ----------
    credentials
        Address and token.
    """

    def __init__(self, credentials: Credentials) -> None:
        self.credentials = credentials
        self._client: httpx.Client | None = None
        # Requests that are on their way, per client.
        self._n_requests: Counter[httpx.Client] = Counter()
        self._lock = threading.Lock()

    @property
    def computer(self) -> str:
        """The server's name, for people."""
        return self.credentials.computer

    def hello(self) -> Hello:
        """Check that the server can be reached, and has the same release.

        Raises
        ------
        ServerAway
            If it cannot be reached.
        ValueError
            If it refuses the token, or has another release.
        """
        found = self.ask(Hello, "GET", "/v1/hello")
        if found.release != RELEASE:
            raise ValueError(
                f"{self.computer} has napari-unet {clean(found.release)} and this computer "
                f"{RELEASE}; install the same release on both"
            )
        return found

    def ask(self, kind: type[T], method: str, path: str, content: object = None) -> T:
        """Make a request, and return its answer.

        Parameters
        ----------
        kind
            Data class of the answer.
        method, path
            Of the request.
        content
            What is sent as JSON; None for nothing.

        Raises
        ------
        ServerAway
            If no answer comes; the request may be repeated.
        NotThere
            If the server has no such thing.
        ValueError
            If the server refuses, with its sentence, or its answer is not what it should be.
        """
        answer = self._request(method, path, content)
        try:
            return from_json(kind, parse(answer, finite=False), "the answer")
        except Unfit as error:
            raise ValueError(f"{self.computer} answered nonsense: {clean(str(error))}") from error

    def send(self, method: str, path: str, content: object = None) -> None:
        """Make a request whose answer says nothing; raises as `ask`."""
        self._request(method, path, content)

    def upload(self, content: bytes, check: Callable[[], None]) -> str:
        """Send a blob, or what is missing of it there, and return its SHA-256; raises as `ask`.

        Parameters
        ----------
        content
            The blob.
        check
            Called before each part; may raise to end it.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        path = f"/v1/blobs/{sha256}"
        first, total = self._offset(path, len(content)), len(content)
        while first < total:
            check()
            last = min(first + PART_BYTES, total) - 1
            headers = {"content-range": f"bytes {first}-{last}/{total}"}
            status, found, answer = self._exchange(
                "PUT", path, headers, content[first : last + 1], _ANSWER_BYTES
            )
            if status not in (200, 409):
                self._raise(status, answer)
            # What is there already need not be sent; after a cut it may be more or less.
            following = _number(found.get("upload-offset", str(total)))
            if status == 409 and following == first:
                raise ServerAway(f"{self.computer} cannot take the data at the moment")
            first = following
        return sha256

    def download(self, path: str, largest: int, check: Callable[[], None]) -> bytes:
        """Return a file of the server; after a cut only the rest is asked for; raises as `ask`.

        Parameters
        ----------
        path
            Of the request.
        largest
            Most bytes that are taken.
        check
            Called before each part; may raise to end it.
        """
        content = bytearray()
        while True:
            check()
            headers = {"range": f"bytes={len(content)}-{len(content) + PART_BYTES - 1}"}
            status, found, part = self._exchange("GET", path, headers, b"", PART_BYTES)
            if status not in (200, 206):
                self._raise(status, part)
            content += part
            total = _number(found.get("content-range", "").rpartition("/")[2])
            if status == 200 or len(content) >= total:
                return bytes(content)
            if total > largest or not part:
                raise ValueError(
                    f"{self.computer} sent more than {largest} bytes, or nothing; "
                    "tell whoever runs it"
                )

    def notify(self, method: str, path: str) -> None:
        """Make a request, wait for a moment only, and ignore errors."""
        with suppress(Exception):
            begin(lambda: self.send(method, path)).result(_MOMENT_S)

    def close(self) -> None:
        """Close the connection after requests on their way; a later request connects again."""
        with self._lock:
            client, self._client = self._client, None
            is_used = client is not None and client in self._n_requests
        # Closed under a thread that reads from it, the number of its socket would be given to the
        # next connection, from which that thread would then read.
        if client is not None and not is_used:
            client.close()

    def _offset(self, path: str, total: int) -> int:
        """Return how many bytes of a blob are there."""
        status, headers, answer = self._exchange("HEAD", path, {}, b"", _ANSWER_BYTES)
        if status == 200:
            return total
        if status != 404:
            self._raise(status, answer)
        return min(_number(headers.get("upload-offset", "0")), total)

    def _request(self, method: str, path: str, content: object) -> bytes:
        body = b"" if content is None else json.dumps(to_json(content)).encode()
        status, _, answer = self._exchange(method, path, {}, body, _ANSWER_BYTES)
        if not 200 <= status < 300:
            self._raise(status, answer)
        return answer

    def _exchange(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes, largest: int
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Make one request; return status, headers and body of the answer."""
        import httpx

        try:
            with (
                self._connected() as client,
                client.stream(method, path, headers=headers, content=body) as answer,
            ):
                content = bytearray()
                for part in answer.iter_raw():
                    content += part
                    if len(content) > largest:
                        raise ValueError(
                            f"{self.computer} answered with more than {largest} bytes; "
                            "tell whoever runs it"
                        )
                return answer.status_code, answer.headers, bytes(content)
        except httpx.TransportError as error:
            if isinstance(error, httpx.ConnectError) and _is_stranger(error):
                raise ValueError(
                    f"the server at {self.credentials.address} is not the one of these "
                    f"credentials, or its certificate has ended; ask whoever runs {self.computer} "
                    "for a new file"
                ) from error
            raise ServerAway(
                f"the server {self.computer} at {self.credentials.address} cannot be reached; "
                "see that napari-unet serve runs there, and that this computer can reach it"
            ) from error
        except httpx.HTTPError as error:
            raise ValueError(f"{self.computer} could not answer ({clean(str(error))})") from error

    def _raise(self, status: int, answer: bytes) -> None:
        """Raise the error that an answer stands for."""
        said = ""
        with suppress(Unfit, KeyError, TypeError):
            said = clean(str(parse(answer)["error"]))
        if status == 401:
            raise ValueError(
                f"{self.computer} refused these credentials; ask whoever runs it for a new file"
            )
        if status == 404:
            raise NotThere(said or "it is not there")
        if status in (408, 409, 429, 500, 502, 503, 504):
            raise ServerAway(f"{self.computer}: {said or f'status {status}'}")
        raise ValueError(said or f"{self.computer} answered with status {status}")

    @contextmanager
    def _connected(self) -> Iterator[httpx.Client]:
        """Give the client for one request; the last one after `close` closes it."""
        import httpx

        with self._lock:
            if self._client is None:
                self._client = httpx.Client(
                    base_url=self.credentials.address,
                    verify=self.credentials.context(),
                    headers={
                        "authorization": f"Bearer {self.credentials.token}",
                        # Packed data come as they are: nothing is unpacked without a bound.
                        "accept-encoding": "identity",
                    },
                    # An answer may take as long as the server waits for news, and a hash.
                    timeout=httpx.Timeout(60.0, connect=PATIENCE_S),
                    follow_redirects=False,
                    trust_env=False,
                )
            client = self._client
            self._n_requests[client] += 1
        try:
            yield client
        finally:
            with self._lock:
                self._n_requests[client] -= 1
                is_last = not self._n_requests[client]
                if is_last:
                    del self._n_requests[client]
                is_left = is_last and client is not self._client
            if is_left:
                client.close()


def check_installed() -> None:
    """Raise ValueError unless the package that a client needs is installed."""
    # It is searched for, not imported: an import would block the viewer for too long.
    if find_spec("httpx") is None:
        raise ValueError(
            "work on a server needs httpx, which is not installed; type: "
            "pip install 'napari-unet[client]'"
        )


def begin(work: Callable[[], T]) -> Future[T]:
    """Run a request in a thread of its own, so that its wait can be ended."""
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    threading.Thread(target=run, name="napari-unet-server", daemon=True).start()
    return done


def wait(done: Future[T], check: Callable[[], None]) -> T:
    """Return the result of `begin`; `check` is called again and again, and may raise to end it."""
    while True:
        try:
            return done.result(_CHECK_S)
        except TimeoutError:
            if done.done():
                raise
            check()


def _is_stranger(error: BaseException) -> bool:
    """Whether a greeting failed since another server answered, not since it ended too early."""
    wrong = [each for each in _causes(error) if isinstance(each, ssl.SSLError)]
    early = (ssl.SSLEOFError, ssl.SSLZeroReturnError)
    return any(not isinstance(each, early) for each in wrong)


def clean(text: str) -> str:
    """Return a text of a server as plain words: no control characters, no markup, not long."""
    plain = "".join(c if c.isprintable() else " " for c in text[:_SENTENCE])
    # A text with a tag would be shown as HTML.
    return plain.replace("<", "(").replace(">", ")")


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else 0


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
