"""Turn TLS settings into one neutral value, and that into an SSLContext.

Both servers get the same meaning, and nothing falls back to plain text unless the URL
or the driver's default says so. Certificates and keys are read once, here.
"""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sessions.errors import ConfigurationError, InvalidURLError, TLSError

from .certificates import validity_of
from .key_files import KeyFiles
from .options import SSLOption
from .url import TLS_ALIASES, TLS_PARAMETERS

_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_MYSQL_MODES = {
    "disabled": "disable",
    "preferred": "prefer",
    "required": "require",
    "verify_ca": "verify-ca",
    "verify_identity": "verify-full",
}
_KEYS = ("verify", "check_hostname", "ca", "cert", "key", "key_password")
_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)


@dataclass(frozen=True)
class TLS:
    """What is asked of TLS; mode is one of libpq's sslmode words. Certificates and keys are PEM."""

    mode: str
    ca: bytes | None = field(default=None, repr=False)  # None with a verify mode: the system's roots
    cert: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    key_password: str | None = field(default=None, repr=False)
    context: ssl.SSLContext | None = field(default=None, repr=False)

    @property
    def required(self) -> bool:
        return self.mode not in ("disable", "prefer")

    @property
    def verified(self) -> bool:
        return self.mode.startswith("verify")


def read_tls(option: SSLOption, parameters: Mapping[str, str]) -> TLS | None:
    """Return what the ssl option or the URL's parameters ask for; None: the driver's default.

    Raises ConfigurationError for settings that are wrong in form or contradict each
    other, TLSError for certificates and keys that cannot be used.
    """
    from_url = _from_parameters(parameters)
    if option is None:
        return from_url
    from_option = _from_option(option)
    if from_url is not None and from_url != from_option:
        raise ConfigurationError("ssl= and the URL's TLS parameters differ; keep one of them")
    return from_option


def _from_option(option: object) -> TLS:
    if isinstance(option, bool):
        return TLS("require" if option else "disable")
    if isinstance(option, ssl.SSLContext):
        if option.verify_mode is ssl.CERT_NONE:
            return TLS("require", context=option)
        return TLS("verify-full" if option.check_hostname else "verify-ca", context=option)
    if not isinstance(option, Mapping):
        raise ConfigurationError(f"ssl is a {type(option).__name__}; pass True, False, a mapping or an ssl.SSLContext")
    for key in option:
        if key not in _KEYS:
            raise ConfigurationError(f"unknown ssl key {key!r}; use one of {', '.join(_KEYS)}")
    verify, check_hostname = option.get("verify", True), option.get("check_hostname")
    if not isinstance(verify, bool):
        raise ConfigurationError(f"ssl 'verify' is a {type(verify).__name__}; pass True or False")
    if check_hostname is not None and not isinstance(check_hostname, bool):
        raise ConfigurationError(f"ssl 'check_hostname' is a {type(check_hostname).__name__}; pass True or False")
    if not verify and (check_hostname or option.get("ca") is not None):
        raise ConfigurationError("ssl has verify=False beside check_hostname or ca; drop what contradicts")
    mode = "require" if not verify else "verify-ca" if check_hostname is False else "verify-full"
    return _with_material(mode, option.get("ca"), option.get("cert"), option.get("key"), option.get("key_password"))


def _from_parameters(parameters: Mapping[str, str]) -> TLS | None:
    named: dict[str, str] = {}
    for spelling, value in parameters.items():
        name = TLS_ALIASES.get(spelling, spelling)
        if name in named:
            raise InvalidURLError(f"the URL gives both {name} and {spelling}, which mean the same; keep one")
        if name in TLS_PARAMETERS:
            named[name] = value
    if not named:
        return None
    root = named.get("sslrootcert")
    ca = None if root == "system" else root
    mode = _mode_of(named.get("sslmode", "verify-full" if root else "require"))
    if root and mode == "require":
        mode = "verify-ca"  # as libpq has it
    if root and not mode.startswith("verify"):
        raise InvalidURLError(f"the URL gives a root certificate, but sslmode {mode!r} does not verify; drop one")
    return _with_material(mode, ca, named.get("sslcert"), named.get("sslkey"), named.get("sslpassword"))


def _mode_of(text: str) -> str:
    mode = _MYSQL_MODES.get(text.lower(), text.lower())
    if mode not in _MODES:
        shown = f" {text!r}" if re.fullmatch(r"[\w-]{1,20}", text) else ""
        raise InvalidURLError(f"unknown sslmode{shown}; use one of {', '.join(_MODES)}")
    return "prefer" if mode == "allow" else mode


def _with_material(mode: str, ca: object, cert: object, key: object, password: object) -> TLS:
    if mode in ("disable", "prefer") and (cert is not None or key is not None):
        raise ConfigurationError(f"a client certificate is given, but mode {mode!r} does not require TLS; drop one")
    if password is not None and not isinstance(password, str):
        raise ConfigurationError(f"ssl 'key_password' is a {type(password).__name__}; pass a str")
    cert_pem = None if cert is None else _read("cert", cert)
    if key is not None and cert_pem is None:
        raise ConfigurationError("ssl has a key without a cert; give both")
    tls = TLS(
        mode,
        ca=None if ca is None else _read("ca", ca),
        cert=cert_pem,
        # One PEM may hold both.
        key=cert_pem if key is None else _read("key", key),
        key_password=password,
    )
    _check_dates(tls)
    return tls


def _read(name: str, value: object) -> bytes:
    """Return PEM from a path, PEM text or bytes; only its blocks, without what stands between them."""
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
    what = "private key" if name == "key" else "certificate"
    wanted = b"PRIVATE KEY-----" if name == "key" else b"-----BEGIN CERTIFICATE-----"
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


def _check_dates(tls: TLS) -> None:
    now = time.time()
    if tls.cert is not None:
        since, until = validity_of(_certificates(tls.cert)[0])
        if not since <= now <= until:
            raise TLSError("the client certificate is not in date; renew it, or check the clock of this machine")
    if tls.ca is not None and all(validity_of(der)[1] < now for der in _certificates(tls.ca)):
        raise TLSError("the root certificates have all expired; get the current ones")


def _certificates(pem: bytes) -> list[bytes]:
    try:
        return [
            ssl.PEM_cert_to_DER_cert(match[0].decode("ascii"))
            for match in _PEM.finditer(pem)
            if match[1] == b"CERTIFICATE"
        ]
    except ValueError:
        raise TLSError("a certificate cannot be decoded; give it in PEM form (-----BEGIN ...)") from None


def make_context(tls: TLS) -> ssl.SSLContext:
    """Build the context; raise TLSError when certificate, key and password do not fit together."""
    if tls.context is not None:
        return tls.context
    try:
        if tls.verified:
            context = ssl.create_default_context(cadata=tls.ca.decode("ascii") if tls.ca else None)
            # Python 3.13 is stricter than libpq: it refuses the certificates that MySQL makes
            # for itself, and takes an intermediate for a root.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            context.verify_flags &= ~getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0)
            context.check_hostname = tls.mode == "verify-full"
        else:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            # In this order: ssl refuses CERT_NONE while the host name is still checked.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        # Said here, since the system's configuration may say less.
        context.minimum_version = ssl.TLSVersion.TLSv1_2
    except (ssl.SSLError, ValueError) as exc:
        raise TLSError(f"the root certificates cannot be used ({_reason(exc)}); give them in PEM form") from None
    if tls.cert is not None and tls.key is not None:
        _load_client_certificate(context, tls.cert, tls.key, tls.key_password)
    return context


def _load_client_certificate(context: ssl.SSLContext, cert: bytes, key: bytes, password: str | None) -> None:
    files = KeyFiles()
    try:
        # An empty password instead of none: OpenSSL would ask on the terminal.
        context.load_cert_chain(files.add(cert), files.add(key), password or "")
    except (ssl.SSLError, ValueError) as exc:
        if "KEY_VALUES_MISMATCH" in str(exc):
            message = "the client's key does not belong to its certificate; give the matching pair"
        elif b"ENCRYPTED" in key:
            message = "the client's key cannot be decrypted; give the right key_password"
        else:
            message = f"the client certificate or key cannot be used ({_reason(exc)}); give both in PEM form"
        raise TLSError(message) from None
    finally:
        files.close()


def _reason(exc: Exception) -> str:
    return getattr(exc, "reason", None) or type(exc).__name__
