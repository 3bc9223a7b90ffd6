"""`napari-unet serve`: a Dask scheduler and one worker, which other computers may use.

The scheduler runs in this process. The worker is a process of its own, and is started again if it
dies. Both accept TLS connections only, from those who have the certificate of the credentials.
"""

from __future__ import annotations

import logging
import platform
import signal
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from napari_unet.config import Device
from napari_unet.remote.credentials import (
    Credentials,
    make_credentials,
    read_credentials,
    require_cluster,
    write_credentials,
)

if TYPE_CHECKING:
    from distributed import SpecCluster

LOOPBACK = "127.0.0.1"
PORT = 8786
_EVERYWHERE = ("0.0.0.0", "::", "")


def serve(
    path: Path,
    host: str = LOOPBACK,
    port: int = PORT,
    device: Device = "auto",
    ready: Callable[[Credentials], None] = lambda credentials: None,
) -> None:
    """Run the server until SIGINT or SIGTERM; to be called in the main thread.

    Parameters
    ----------
    path
        File of the credentials; made if it is missing. The address of this call is written into it.
    host, port
        Where to listen; port 0 takes a free one.
    device
        Where networks run if a client leaves the choice.
    ready
        Called once the server can be used.

    Raises
    ------
    ValueError
        If Dask is not installed, the port is taken, or the file cannot be used.
    """
    require_cluster()
    import dask

    # This import adds the default settings of distributed to those of Dask.
    import distributed  # noqa: F401

    with TemporaryDirectory(prefix="napari-unet-") as folder, dask.config.set(_settings(device)):
        port = _free(host, port)
        credentials = _credentials(path, host, port)
        stop = threading.Event()
        before = {
            which: signal.signal(which, lambda *_: stop.set())
            for which in (signal.SIGINT, signal.SIGTERM)
        }
        cluster = _start(credentials, host, port, folder)
        try:
            ready(credentials)
            # On some systems a wait without a timeout is not interrupted by a signal.
            while not stop.wait(0.5):
                pass
        finally:
            with suppress(TimeoutError):
                cluster.close(timeout=10)
            for which, handler in before.items():
                signal.signal(which, handler)


def default_credentials() -> Path:
    """Return the path of the credentials that is used if none is given."""
    import platformdirs

    return platformdirs.user_data_path("napari-unet", appauthor=False) / "server.json"


def _settings(device: Device) -> dict[str, object]:
    return {
        "napari-unet.device": device,
        # By default Dask limits the numeric libraries of a worker to one thread.
        "distributed.nanny.pre-spawn-environ": {},
        # Web pages of Dask would be open to those without a certificate: none is served.
        "distributed.scheduler.http.routes": [],
        "distributed.worker.http.routes": [],
    }


def _credentials(path: Path, host: str, port: int) -> Credentials:
    """Return the credentials of the file with the address of this call, or new ones."""
    name = socket.getfqdn() if host in _EVERYWHERE else host
    address = f"tls://[{name}]:{port}" if ":" in name else f"tls://{name}:{port}"
    if path.exists():
        credentials = read_credentials(path)
        if credentials.address == address:
            return credentials
        credentials = replace(credentials, address=address)
    else:
        credentials = make_credentials(address, platform.node())
    write_credentials(path, credentials)
    return credentials


def _free(host: str, port: int) -> int:
    """Return a port that is free: the given one, or any if that is 0."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        if hasattr(socket, "SO_REUSEADDR") and platform.system() != "Windows":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            found: int = probe.getsockname()[1]
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(
                f"this computer cannot listen on {host}, port {port} ({reason}); is another "
                "napari-unet serve running? Give another --port, or another --host"
            ) from error
    return found


def _start(credentials: Credentials, host: str, port: int, folder: str) -> SpecCluster:
    from distributed import Nanny, Scheduler, SpecCluster

    security = credentials.security()
    common: dict[str, object] = {
        "security": security,
        "protocol": "tls://",
        "dashboard": False,
        "dashboard_address": f"{LOOPBACK}:0",
    }
    # Clients connect to the scheduler only: the worker listens on this computer alone.
    worker: dict[str, object] = common | {
        "host": LOOPBACK,
        "nthreads": 1,
        "memory_limit": 0,
        "local_directory": folder,
        # Ctrl-C in a terminal is sent to the worker as well, but its nanny has to end it.
        "preload": ["import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"],
        # Dask logs each call, and warns of lost connections at the end.
        "silence_logs": logging.CRITICAL,
    }
    try:
        return SpecCluster(
            scheduler={"cls": Scheduler, "options": common | {"host": host, "port": port}},
            workers={0: {"cls": Nanny, "options": worker}},
            security=security,
            silence_logs=logging.CRITICAL,
            name="napari-unet",
        )
    except (RuntimeError, OSError) as error:
        raise ValueError(f"the server could not be started: {error}") from error


def port_of(credentials: Credentials) -> int:
    """Return the port of the server's address."""
    return urlsplit(credentials.address).port or PORT
