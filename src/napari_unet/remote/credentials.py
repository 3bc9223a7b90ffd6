"""The credentials of a server, in a file: its address, a certificate, and the certificate's key.

Server and clients show the same certificate and trust no other. A client without the key is refused
in the TLS handshake, before the server reads anything else from it.
"""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.io.atomic import replacing

if TYPE_CHECKING:
    from distributed.security import Security

FORMAT = "napari-unet server 1"
# Days until new credentials expire; those that Dask makes itself last as long.
_DAYS = 365
_NAME = "napari-unet server"
_MISSING = (
    "work on a server needs Dask, which is not installed; type: pip install 'napari-unet[cluster]'"
)


class CredentialsError(ValueError):
    """A file of credentials is missing, broken, expired, or can be read by others."""


@dataclass(frozen=True, repr=False)
class Credentials:
    """What a computer needs to use a server.

    Attributes
    ----------
    address
        tls://HOST:PORT, as the client reaches it.
    computer
        The server's name, for people.
    certificate, key
        In PEM format; the key is secret.
    expires
        Date and time, ISO 8601, UTC.
    """

    address: str
    computer: str
    certificate: str
    key: str
    expires: str

    def security(self) -> Security:
        """Return Dask's settings of TLS; both sides have to show the certificate."""
        require_cluster()
        from distributed.security import Security

        pair = {
            f"tls_{role}_{what}": value
            for role in ("client", "scheduler", "worker")
            for what, value in (("cert", self.certificate), ("key", self.key))
        }
        return Security(require_encryption=True, tls_ca_file=self.certificate, **pair)


def make_credentials(address: str, computer: str) -> Credentials:
    """Return credentials with a new key, which are valid for a year."""
    require_cluster()
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _NAME)])
    now = datetime.now(UTC).replace(microsecond=0)
    ends = now + timedelta(days=_DAYS)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
         "crl_sign", "encipher_only", "decipher_only"), False,
    )  # fmt: skip
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # The clock of another computer may be behind.
        .not_valid_before(now - timedelta(hours=24))
        .not_valid_after(ends)
        # Strict checks of a self-signed certificate require these extensions.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage), critical=True
        )
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    return Credentials(address, computer, public.decode(), secret.decode(), ends.isoformat())


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
        if content.pop("format") != FORMAT:
            raise ValueError("another format")
        found = Credentials(**{name: str(value) for name, value in content.items()})
        ends = datetime.fromisoformat(found.expires)
        if "BEGIN CERTIFICATE" not in found.certificate or "PRIVATE KEY" not in found.key:
            raise ValueError("no certificate")
        expired = ends < datetime.now(UTC)
    except CredentialsError:
        raise
    except FileNotFoundError:
        raise CredentialsError(
            f"there is no file {path}; copy it from the computer where napari-unet serve runs"
        ) from None
    except OSError as error:
        raise CredentialsError(f"{path} cannot be read: {error.strerror}; choose a file") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CredentialsError(
            f"{path} does not say how to reach a server; copy the file that napari-unet serve wrote"
        ) from error
    if expired:
        raise CredentialsError(
            f"the credentials in {path} ended on {ends:%Y-%m-%d}; delete the file where "
            "napari-unet serve runs, start that again, and copy the new file"
        )
    return found


def require_cluster() -> None:
    """Raise ValueError unless the packages that work on a server needs are installed."""
    # They are searched for, not imported: an import would block the viewer for too long.
    if find_spec("cryptography") is None or find_spec("distributed") is None:
        raise ValueError(_MISSING)
