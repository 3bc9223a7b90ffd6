"""`napari-unet serve`: one process that answers requests, and a worker for each device."""

from __future__ import annotations

import asyncio
import getpass
import json
import logging
import logging.handlers
import os
import platform
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import get_args

from napari_unet.config import Device
from napari_unet.io.atomic import replacing
from napari_unet.serving.credentials import (
    Credentials,
    CredentialsError,
    is_loopback,
    is_ours,
    read_credentials,
    write_credentials,
)
from napari_unet.serving.messages import Right
from napari_unet.serving.server.certificate import fingerprint, own_certificate
from napari_unet.serving.server.limits import Door, Limits
from napari_unet.serving.server.people import People

LOOPBACK = "127.0.0.1"
PORT = 8786
_EVERYWHERE = ("0.0.0.0", "::", "")
_NEEDED = ("cryptography", "starlette", "torch", "uvicorn")
# Longest header of a request, in bytes.
_HEADER_BYTES = 16_384
# Of each answer, for browsers.
_HEADERS = [
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'"),
]
# Most connections at a time.
_CONNECTIONS = 1000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server runs.

    Attributes
    ----------
    folder
        Everything that the server keeps.
    host, port
        Where to listen; port 0 takes a free one.
    address
        As clients reach it; None for `host` and `port`.
    certificate, key
        Files of the site's own certificate and its key; None for one that the server makes.
    tls
        False where a proxy on this computer speaks TLS to the clients.
    device
        Where networks run if a client leaves the choice.
    workers
        How many jobs run at once; None for one on each GPU, and at least one.
    as_root
        Whether it may run with all rights on this computer.
    limits
        What it takes.
    """

    folder: Path
    host: str = LOOPBACK
    port: int = PORT
    address: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    tls: bool = True
    device: Device = "auto"
    workers: int | None = None
    as_root: bool = False
    limits: Limits = field(default_factory=Limits)

    @property
    def people(self) -> People:
        """The people who may use the server."""
        return People(self.folder / "people.json")


def default_folder() -> Path:
    """Return the folder of a server that is used if none is given."""
    import platformdirs

    return platformdirs.user_data_path("napari-unet", appauthor=False) / "server"


def serve(settings: Settings, ready: Callable[[str, str], None]) -> None:
    """Run the server until SIGINT or SIGTERM; to be called in the main thread.

    Parameters
    ----------
    settings
        How it runs.
    ready
        Called once clients can connect, with the address, and the fingerprint of the server's own
        certificate, which is empty where it has none.

    Raises
    ------
    ValueError
        If a package is missing, the port is taken, the settings do not fit, or the folder is used
        by another server.
    """
    _check(settings)
    settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.umask(0o077)
    with _alone(settings.folder), Door.open(settings.host, settings.port, settings.limits) as door:
        _raise_open_files()
        certificate, key = _certificate(settings)
        address = settings.address or _address(settings, door)
        public = certificate.read_text() if certificate and not settings.certificate else ""
        _remember(settings.folder, address, public)
        with _logging(settings.folder):
            digest = fingerprint(public) if public else ""
            _run(settings, door, certificate, key, lambda: ready(address, digest))


def add_person(
    settings: Settings, name: str, rights: tuple[str, ...], days: int, path: Path
) -> None:
    """Add a person, or give one a new token, and write the file of credentials.

    Parameters
    ----------
    settings
        Of the server, which may be running; its `address` is used if it is given.
    name, rights, days
        See `People.add`.
    path
        The file to write.

    Raises
    ------
    ValueError
        If the name or a right cannot be one, or it is not known how to reach the server.
    """
    try:
        known = json.loads((settings.folder / "server.json").read_text())
    except FileNotFoundError:
        raise ValueError(
            f"no server has run with the folder {settings.folder} yet; start napari-unet serve "
            "first, or give its --folder"
        ) from None
    person, token = settings.people.add(name, rights, days)
    write_credentials(
        path,
        Credentials(
            settings.address or known["address"],
            known["computer"],
            person.name,
            token,
            known["certificate"],
            person.expires,
        ),
    )


def default_credentials() -> Path:
    """Return the path of the first person's credentials that is used if none is given."""
    import platformdirs

    return platformdirs.user_data_path("napari-unet", appauthor=False) / "server.json"


def first_credentials(settings: Settings, path: Path) -> bool:
    """Write the credentials of the first person, who started the server, if there is nobody yet.

    Where they are there already, the address and the certificate in them are those of now.

    Returns whether the file has credentials for this server.

    Raises
    ------
    ValueError
        If the file is there, and is not of this program.
    """
    if not settings.people.all():
        if path.exists() and not is_ours(path):
            raise ValueError(f"{path} is there already, and has no credentials; give another file")
        name = re.sub("[^a-z0-9_-]", "", getpass.getuser().lower()).lstrip("_-")[:32] or "me"
        add_person(settings, name, get_args(Right), 365, path)
        return True
    try:
        known = read_credentials(path)
    except CredentialsError:
        return False
    if settings.people.find(known.token) is None:
        return False
    now = json.loads((settings.folder / "server.json").read_text())
    fresh = replace(known, address=now["address"], certificate=now["certificate"])
    if fresh != known:
        write_credentials(path, fresh)
    return True


def check_installed() -> None:
    """Raise ValueError unless the packages that a server needs are installed."""
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise ValueError(
            f"a server needs {' and '.join(missing)}, which this computer lacks; type: "
            "pip install 'napari-unet[server]'"
        )


def _check(settings: Settings) -> None:
    check_installed()
    if hasattr(os, "geteuid") and os.geteuid() == 0 and not settings.as_root:
        raise ValueError(
            "the server does not run as root, who may do anything on this computer; start it as "
            "another user, or give --as-root, in a container for example"
        )
    if not settings.tls and not is_loopback(settings.host):
        raise ValueError(
            f"without TLS, all that is sent to {settings.host} could be read on the way; leave out "
            "--no-tls, or listen on 127.0.0.1, for a proxy on this computer"
        )
    if (settings.certificate is None) != (settings.key is None):
        raise ValueError("--certificate and --key go together; give both, or none")
    if settings.certificate and not settings.tls:
        raise ValueError("--no-tls needs no certificate; leave one of them out")


def _certificate(settings: Settings) -> tuple[Path | None, Path | None]:
    if not settings.tls:
        return None, None
    if settings.certificate and settings.key:
        for path in (settings.certificate, settings.key):
            if not path.is_file():
                raise ValueError(f"there is no file {path}; give a file in PEM format")
        return settings.certificate, settings.key
    return own_certificate(settings.folder)


def _address(settings: Settings, door: socket.socket) -> str:
    host = socket.getfqdn() if settings.host in _EVERYWHERE else settings.host
    host = f"[{host}]" if ":" in host else host
    return f"http{'s' if settings.tls else ''}://{host}:{door.getsockname()[1]}"


def _remember(folder: Path, address: str, certificate: str) -> None:
    """Write what `add_person` needs to know."""
    known = {"address": address, "computer": platform.node(), "certificate": certificate}
    with replacing(folder / "server.json") as part:
        part.write_text(json.dumps(known, indent=2) + "\n")


def _run(
    settings: Settings,
    door: Door,
    certificate: Path | None,
    key: Path | None,
    ready: Callable[[], None],
) -> None:
    import uvicorn

    from napari_unet.serving.server.app import Answers, make_app
    from napari_unet.serving.server.blobs import Blobs
    from napari_unet.serving.server.guard import Guard
    from napari_unet.serving.server.jobs import JobQueue

    people, limits = settings.people, settings.limits
    blobs = Blobs(settings.folder / "blobs", limits)
    queue = JobQueue(
        settings.folder / "jobs", blobs, people, limits, settings.device, settings.workers
    )
    answers = Answers(platform.node(), queue, blobs, limits)
    try:
        config = uvicorn.Config(
            Guard(make_app(answers, queue, door), people, limits, door),
            lifespan="on",
            http="h11",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            headers=_HEADERS,
            proxy_headers=False,
            timeout_keep_alive=60,
            timeout_graceful_shutdown=3,
            limit_concurrency=_CONNECTIONS,
            # So many connections are taken at a time, before others are answered or closed.
            backlog=100,
            h11_max_incomplete_event_size=_HEADER_BYTES,
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
        config.load()
    except OSError as error:
        raise ValueError(
            f"the certificate cannot be used: {error}; give files in PEM format"
        ) from error

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    # uvicorn sends itself a signal again at the end, which has been answered by then.
    stops = (signal.SIGINT, signal.SIGTERM)
    before = {which: signal.signal(which, lambda *_: None) for which in stops}
    try:
        # The event loop that is usual on Windows does not call `Door.accept`.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(Server(config).serve([door]))
    finally:
        for which, handler in before.items():
            signal.signal(which, handler)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other servers from using this folder."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / "lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"another napari-unet serve uses {folder}; end it, or give another --folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _logging(folder: Path) -> Iterator[None]:
    """Log to the standard output, and to files that do not grow without end."""
    log = logging.getLogger("napari_unet.serving")
    kept = logging.handlers.RotatingFileHandler(
        folder / "log.txt", maxBytes=5_000_000, backupCount=5, encoding="utf-8"
    )
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout), kept]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    try:
        yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()


def _raise_open_files() -> None:
    """Allow as many open files as the system lets this process have."""
    if os.name == "posix":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 65_536), most))
