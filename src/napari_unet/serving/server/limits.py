"""What a server takes: bounds on sizes, rates, connections and time."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import time
from dataclasses import dataclass

# After so many connections that were shut, what they left in memory is freed.
_COLLECT = 100


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of a server; a request that is beyond one is refused before it is read.

    Attributes
    ----------
    blob_bytes
        Largest blob, and largest array in memory.
    part_bytes
        Largest body of a request that sends a part of a blob.
    json_bytes
        Largest body of any other request.
    person_bytes
        Most that is kept of one person.
    free_bytes
        So much is left free on the disk.
    jobs
        Most jobs of one person that wait or run.
    calls_per_s, calls_at_once
        Requests of one person; and of one address without a token, a tenth of them.
    body_s
        Longest wait for the next piece of a body.
    silent_s
        A connection that has shown no token is closed after this time.
    silent
        Most connections that have shown none: the oldest is closed for a new one.
    quiet_s
        A job that waits for its client fails after this time without a call.
    keep_s
        What nobody asked about for this time is deleted: jobs, results and blobs.
    job_s
        A job that runs for longer is ended.
    """

    blob_bytes: int = 4 << 30
    part_bytes: int = 16 << 20
    json_bytes: int = 8 << 20
    person_bytes: int = 32 << 30
    free_bytes: int = 1 << 30
    jobs: int = 50
    calls_per_s: float = 100.0
    calls_at_once: int = 400
    body_s: float = 30.0
    silent_s: float = 15.0
    silent: int = 100
    quiet_s: float = 300.0
    keep_s: float = 24 * 3600.0
    job_s: float = 24 * 3600.0


class Rate:
    """So many calls in a second, and so many at once, by a name: a bucket that fills again.

    Parameters
    ----------
    per_s, at_once
        The limits.
    """

    # Most names that are remembered; the ones that called last.
    _NAMES = 10_000

    def __init__(self, per_s: float, at_once: float) -> None:
        self._per_s, self._at_once = per_s, at_once
        self._left: dict[str, tuple[float, float]] = {}

    def takes(self, name: str) -> bool:
        """Count a call, and return whether it is within the limits."""
        now = time.monotonic()
        left, then = self._left.pop(name, (self._at_once, now))
        left = min(self._at_once, left + (now - then) * self._per_s)
        self._left[name] = (left - 1 if left >= 1 else left), now
        if len(self._left) > self._NAMES:
            del self._left[next(iter(self._left))]
        return left >= 1


class Door(socket.socket):
    """A listening socket that closes connections which show no token.

    Each connection is silent until `let_in` is called for it. A flood of silent ones can neither
    use up the places nor keep others out: the oldest makes room for the newest.
    """

    _silent: dict[tuple[str, int], tuple[float, socket.socket]]
    _limits: Limits
    _n_shut: int

    @classmethod
    def open(cls, host: str, port: int, limits: Limits) -> Door:
        """Return a socket that listens.

        Raises
        ------
        ValueError
            If it cannot.
        """
        try:
            family, *_, address = socket.getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            door = cls(family, socket.SOCK_STREAM)
            try:
                if os.name == "posix":
                    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                door.bind(address)
                door.listen(512)
            except BaseException:
                door.close()
                raise
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(
                f"this computer cannot listen on {host}, port {port} ({reason}); is another "
                "napari-unet serve running? Give another --port, or another --host"
            ) from error
        door.setblocking(False)
        door._silent, door._limits, door._n_shut = {}, limits, 0
        return door

    def accept(self) -> tuple[socket.socket, tuple[str, int]]:
        """Take a connection; the event loop calls this."""
        connection, address = super().accept()
        self.close_silent()
        while len(self._silent) >= self._limits.silent:
            self._shut(next(iter(self._silent)))
        self._silent[address[:2]] = time.monotonic(), connection
        return connection, address

    def let_in(self, address: tuple[str, int]) -> None:
        """Note that a connection has shown a token."""
        self._silent.pop(address, None)

    def close_silent(self) -> None:
        """Close connections that were silent for too long; to be called now and then."""
        end = time.monotonic() - self._limits.silent_s
        for address, (then, connection) in list(self._silent.items()):
            if connection.fileno() < 0:
                del self._silent[address]
            elif then < end:
                self._shut(address)

    def _shut(self, address: tuple[str, int]) -> None:
        self._n_shut += 1
        if self._n_shut % _COLLECT == 0:
            # TLS keeps 256 kB for each in cycles of references, which would pile up in a flood.
            gc.collect()
        # The event loop sees the end of it, and closes it.
        with contextlib.suppress(OSError):
            self._silent.pop(address)[1].shutdown(socket.SHUT_RDWR)
