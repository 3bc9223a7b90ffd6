"""The credentials of a person for a server, in a file: address, token, and the certificate."""

from __future__ import annotations

import json
import os
import ssl
import stat
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from napari_unet.io.atomic import replacing

FORMAT = "napari-unet server 2"
_OLD = "napari-unet server 1"


class CredentialsError(ValueError):
    """A file of credentials is missing, broken, expired, or can be read by others."""


@dataclass(frozen=True, repr=False)
class Credentials:
    """What a computer needs to use a server.

    Attributes
    ----------
    address
        https://HOST:PORT, as the client reaches it; http:// only on this computer.
    computer
        The server's name, for people.
    person
        Who it is for.
    token
        Secret: who has it is that person.
    certificate
        The server's own certificate, in PEM format; no other is trusted then. Empty where the
        server has one of an authority that this computer trusts.
    expires
        Date and time, ISO 8601, UTC; empty for never.
    """

    address: str
    computer: str
    person: str
    token: str
    certificate: str = ""
    expires: str = ""

    def context(self) -> ssl.SSLContext:
        """Return the settings of TLS."""
        if not self.certificate:
            return ssl.create_default_context()
        context = ssl.create_default_context(cadata=self.certificate)
        # It is the only certificate that is trusted, under whatever name the server is reached.
        context.check_hostname = False
        return context


def write_credentials(path: Path, credentials: Credentials) -> None:
    """Write a file of credentials that other users of this computer cannot read."""
    with replacing(path) as part:
        part.touch(mode=0o600, exist_ok=False)
        part.write_text(json.dumps({"format": FORMAT} | asdict(credentials), indent=2) + "\n")


def read_credentials(path: Path) -> Credentials:
    """Read a file of credentials.

    Raises
    ------
    CredentialsError
        If it is missing, not a file of credentials, expired, or can be read by other users.
    """
    try:
        with path.open(encoding="utf-8") as file:
            if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise CredentialsError(
                    f"{path} can be read by others, and who has read it can use the server; "
                    f"type: chmod 600 {path}"
                )
            content: dict[str, object] = json.loads(file.read(1_000_000))
        form = content.pop("format")
        if form == _OLD:
            raise CredentialsError(
                f"{path} is for the server of an earlier release, which this one cannot use; "
                "ask whoever runs the server for a new file (napari-unet serve add-user NAME)"
            )
        if form != FORMAT:
            raise ValueError("another format")
        found = Credentials(**{name: str(value) for name, value in content.items()})
        place = urlsplit(found.address)
        if place.scheme not in ("http", "https") or not place.hostname or not found.token.isascii():
            raise ValueError("no address")
        if found.certificate:
            found.context()
        expires = datetime.fromisoformat(found.expires) if found.expires else None
        expired = expires is not None and expires < datetime.now(UTC)
    except CredentialsError:
        raise
    except FileNotFoundError:
        raise CredentialsError(
            f"there is no file {path}; copy it from the computer where napari-unet serve runs"
        ) from None
    except OSError as error:
        # An error of TLS is one of the system as well.
        if isinstance(error, ssl.SSLError):
            raise _no_credentials(path) from error
        raise CredentialsError(f"{path} cannot be read: {error.strerror}; choose a file") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _no_credentials(path) from error
    if place.scheme == "http" and not is_loopback(place.hostname or ""):
        raise CredentialsError(
            f"{path} names {found.address}, where all that is sent could be read on the way; "
            "give an address with https://"
        )
    if expired:
        raise CredentialsError(
            f"the credentials in {path} ended on {found.expires[:10]}; ask whoever runs the server "
            "for a new file (napari-unet serve add-user NAME)"
        )
    return found


def is_ours(path: Path) -> bool:
    """Return whether a file has credentials of this program, of any release."""
    try:
        with path.open("rb") as file:
            form = json.loads(file.read(1_000_000))["format"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    return form in (_OLD, FORMAT)


def is_loopback(host: str) -> bool:
    """Return whether a host is this computer, so that nothing leaves it."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _no_credentials(path: Path) -> CredentialsError:
    return CredentialsError(
        f"{path} does not say how to reach a server; copy the file that napari-unet serve wrote"
    )
