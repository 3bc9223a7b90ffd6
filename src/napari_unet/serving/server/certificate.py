"""The server's own certificate, made at its first start."""

from __future__ import annotations

import hashlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from napari_unet.io.atomic import replacing

# Clients have this certificate in their credentials, so a new one means new files for all of them.
_DAYS = 10 * 365
_NAME = "napari-unet server"


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """Return the files of the certificate and of its key, which are made if they are missing."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    if not (certificate.exists() and key.exists()):
        public, secret = _make()
        with replacing(key) as part:
            part.touch(mode=0o600, exist_ok=False)
            part.write_bytes(secret)
        with replacing(certificate) as part:
            part.write_bytes(public)
    return certificate, key


def fingerprint(certificate: str) -> str:
    """Return the SHA-256 of a certificate in PEM format, as browsers and OpenSSL show it."""
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest().upper()
    return ":".join(digest[n : n + 2] for n in range(0, len(digest), 2))


def _make() -> tuple[bytes, bytes]:
    """Return a new certificate and its key, in PEM format."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, _NAME)])
    now = datetime.now(UTC).replace(microsecond=0)
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
        .not_valid_after(now + timedelta(days=_DAYS))
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
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )
