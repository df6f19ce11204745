"""Read certificates, keys and revocation lists: PEM from a path, a text or bytes; and the roots of this machine."""

from __future__ import annotations

import os
import re
import ssl
from contextlib import suppress
from pathlib import Path

from sessions._plain import plain
from sessions.errors import ConfigurationError, TLSError

_WANTED = {"key": ("private key", b"PRIVATE KEY-----"), "crl": ("revocation list", b"-----BEGIN X509 CRL-----")}
# A certificate in a directory, by the hash of its subject (openssl-rehash(1)).
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+")
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


def read_pem(name: str, value: object) -> bytes:
    """Return PEM from a path, PEM text or bytes; only its blocks, without what stands between them."""
    value = plain(value)
    if isinstance(value, str) and "-----BEGIN" in value:
        data = value.encode()
    elif isinstance(value, (bytes, bytearray)):
        data = bytes(value)
    elif isinstance(value, (str, os.PathLike)) and os.fspath(value):
        data = _read_file(_shown(name, value), os.fspath(value))
    else:
        raise ConfigurationError(f"ssl {name!r} is empty or a {type(value).__name__}; pass a path, PEM text or bytes")
    if name == "ca" and data[:1] == b"\x30":
        data = ssl.DER_cert_to_PEM_cert(data).encode()
    blocks = [match[0] for match in _PEM.finditer(data)]
    what, wanted = _WANTED.get(name, ("certificate", b"-----BEGIN CERTIFICATE-----"))
    if not any(wanted in block for block in blocks):
        raise TLSError(f"{_shown(name, value)} holds no {what}; give it in PEM form (-----BEGIN ...)")
    return b"\n".join(blocks) + b"\n"


def _shown(name: str, value: object) -> str:
    """Name the setting and its path; never what may be a key that was taken for a path."""
    if name == "key" or isinstance(value, (bytes, bytearray)) or "-----BEGIN" in str(value):
        return f"ssl {name!r}"
    return f"ssl {name!r}: {str(value)!r}"


def _read_file(shown: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise TLSError(f"{shown} cannot be read ({reason}); check the path and its rights") from None


def certificates_in(pem: bytes) -> list[bytes]:
    try:
        return [
            ssl.PEM_cert_to_DER_cert(match[0].decode("ascii"))
            for match in _PEM.finditer(pem)
            if match[1] == b"CERTIFICATE"
        ]
    except ValueError:
        raise TLSError("a certificate cannot be decoded; give it in PEM form (-----BEGIN ...)") from None


def system_roots() -> bytes:
    """Return the roots of this machine, also those of directories, which OpenSSL only reads when it needs them."""
    paths = ssl.get_default_verify_paths()
    names = [Path(os.environ.get(paths.openssl_cafile_env, paths.openssl_cafile))]
    for folder in os.environ.get(paths.openssl_capath_env, paths.openssl_capath).split(os.pathsep):
        names += sorted(path for path in Path(folder).glob("*.*") if _HASHED.fullmatch(path.name))
    found = dict.fromkeys(ssl.create_default_context().get_ca_certs(binary_form=True))
    for name in names:
        with suppress(OSError, TLSError):
            found.update(dict.fromkeys(certificates_in(name.read_bytes())))
    if not found:
        raise TLSError("this machine has no root certificates; pass yours as ssl={'ca': ...}")
    return "".join(map(ssl.DER_cert_to_PEM_cert, found)).encode()
