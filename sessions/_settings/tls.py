"""Turn TLS settings into one neutral value, and that into an SSLContext.

Both servers get the same meaning, and nothing falls back to plain text unless the URL
or the driver's default says so. Certificates and keys are read once, here.
"""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sessions._plain import plain
from sessions.errors import ConfigurationError, InvalidURLError, TLSError

from .certificates import validity_of
from .key_files import KeyFiles
from .material import certificates_in, read_pem
from .options import SSLOption

_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_MYSQL_MODES = {
    "disabled": "disable",
    "preferred": "prefer",
    "required": "require",
    "verify_ca": "verify-ca",
    "verify_identity": "verify-full",
}
_VERSIONS = {"tlsv1.2": ssl.TLSVersion.TLSv1_2, "tlsv1.3": ssl.TLSVersion.TLSv1_3}
_IN_URL = ("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword")
_KEYS = ("verify", "check_hostname", "ca", "cert", "key", "key_password")


@dataclass(frozen=True)
class TLS:
    """What is asked of TLS; mode is one of libpq's sslmode words. Certificates and keys are PEM."""

    mode: str
    ca: bytes | None = field(default=None, repr=False)  # None with a verify mode: the system's roots
    cert: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    key_password: str | None = field(default=None, repr=False)
    crl: bytes | None = field(default=None, repr=False)
    minimum: ssl.TLSVersion | None = None
    maximum: ssl.TLSVersion | None = None
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
    tls = _from_parameters(parameters)
    if option is not None:
        from_option = _from_option(option)
        if tls is not None and tls != from_option:
            raise ConfigurationError("ssl= and the URL's TLS parameters differ; keep one of them")
        tls = from_option
    return _with_limits(tls, parameters)


def _with_limits(tls: TLS | None, parameters: Mapping[str, str]) -> TLS | None:
    """Add what the URL alone can say: revoked certificates, and the versions of the protocol."""
    crl = parameters.get("sslcrl")
    minimum, maximum = (_version(parameters, f"ssl_{end}_protocol_version") for end in ("min", "max"))
    if crl is None and minimum is None and maximum is None:
        return tls
    tls = tls or TLS("require" if crl is None else "verify-full")
    if not tls.required:
        raise InvalidURLError(f"the URL limits TLS, but mode {tls.mode!r} does not require it; drop one")
    if crl is not None and not tls.verified:
        raise InvalidURLError(f"the URL gives sslcrl, but mode {tls.mode!r} verifies nothing; say sslmode=verify-full")
    if minimum is not None and maximum is not None and minimum > maximum:
        raise InvalidURLError("ssl_min_protocol_version in the URL is above ssl_max_protocol_version; exchange them")
    if tls.context is not None and (minimum or maximum):
        raise ConfigurationError("an SSLContext says which versions are allowed, and so does the URL; keep one")
    return replace(tls, crl=None if crl is None else read_pem("crl", crl), minimum=minimum, maximum=maximum)


def _version(parameters: Mapping[str, str], name: str) -> ssl.TLSVersion | None:
    if name in parameters and parameters[name].lower() not in _VERSIONS:
        raise InvalidURLError(f"{name} in the URL is no version that is allowed; use TLSv1.2 or TLSv1.3")
    return _VERSIONS.get(parameters.get(name, "").lower())


def _from_option(option: object) -> TLS:
    if isinstance(option, bool):
        return TLS("require" if option else "disable")
    if isinstance(option, ssl.SSLContext):
        if option.protocol is ssl.PROTOCOL_TLS_SERVER:
            raise ConfigurationError("the SSLContext is a server's; make one with ssl.create_default_context()")
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
    named = {name: parameters[name] for name in _IN_URL if name in parameters}
    if not named:
        return None
    root = named.get("sslrootcert")
    ca = None if root == "system" else root
    mode = _mode_of(named.get("sslmode", "verify-full" if root else "require"))
    if root and root != "system" and mode == "require":
        mode = "verify-ca"  # as libpq has it
    if root == "system" and mode != "verify-full":
        raise InvalidURLError("sslrootcert=system is for sslmode=verify-full alone, as libpq has it; correct the URL")
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
    password = plain(password)
    if password is not None and not isinstance(password, str):
        raise ConfigurationError(f"ssl 'key_password' is a {type(password).__name__}; pass a str")
    cert_pem = None if cert is None else read_pem("cert", cert)
    if key is not None and cert_pem is None:
        raise ConfigurationError("ssl has a key without a cert; give both")
    tls = TLS(
        mode,
        ca=None if ca is None else read_pem("ca", ca),
        cert=cert_pem,
        # One PEM may hold both.
        key=cert_pem if key is None else read_pem("key", key),
        key_password=password,
    )
    _check_dates(tls)
    return tls


def _check_dates(tls: TLS) -> None:
    now = time.time()
    if tls.cert is not None:
        since, until = validity_of(certificates_in(tls.cert)[0])
        if not since <= now <= until:
            raise TLSError("the client certificate is not in date; renew it, or check the clock of this machine")
    if tls.ca is not None and all(validity_of(der)[1] < now for der in certificates_in(tls.ca)):
        raise TLSError("the root certificates have all expired; get the current ones")


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
        # Said here, since the system's configuration may say less; and it may say more.
        floor = tls.minimum or ssl.TLSVersion.TLSv1_2
        context.minimum_version = max(context.minimum_version, floor)
        context.maximum_version = tls.maximum or context.maximum_version
    except (ssl.SSLError, ValueError) as exc:
        raise TLSError(f"the root certificates cannot be used ({_reason(exc)}); give them in PEM form") from None
    if tls.crl is not None:
        _load_revocations(context, tls.crl)
    if tls.cert is not None and tls.key is not None:
        _load_client_certificate(context, tls.cert, tls.key, tls.key_password)
    return context


def _load_revocations(context: ssl.SSLContext, crl: bytes) -> None:
    files = KeyFiles()
    try:
        context.load_verify_locations(files.add(crl))
    except ssl.SSLError as exc:
        raise TLSError(f"the revocation list cannot be used ({_reason(exc)}); give it in PEM form") from None
    finally:
        files.close()
    # Of the whole chain, as libpq does.
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


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
