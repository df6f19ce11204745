"""What is said of a connection that could not be made, by the server, by Python or by PyMySQL, as data."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pymysql

from sessions._dialects import failures
from sessions._dialects.failures import AttemptFailed, Failure
from sessions.errors import ConnectionFailedError, DriverNotInstalledError, TLSError

from .errors import FAILURES, describe, errno_of

_UNREACHABLE = replace(
    failures.UNREACHABLE,
    remedy="check host, port and firewall, and that a MySQL or MariaDB server runs there: one of another kind may say "
    "nothing",
)
_OTHER_SERVER = Failure(
    ConnectionFailedError, "no MySQL or MariaDB server listens there: check host and port, and the URL's scheme"
)
# Python's words for a method of ssl.SSLContext that looks for that by its name.
_OTHER_SSL = "super(type, obj)"
_REPLACED_SSL = Failure(
    TLSError, "ssl was replaced after it had been imported, as by gevent: call monkey.patch_all() before all else"
)
_REVOKED = Failure(TLSError, "the server's certificate is revoked by sslcrl: give the server another one")
_LISTS = Failure(TLSError, "give in sslcrl a list that is in date of each authority in the server's chain")
_NOT_IN_DATE = Failure(TLSError, "the server's certificate is not in date: renew it, or check this machine's clock")

# What Python says of a connection that failed below MySQL's protocol; the first that fits counts.
_HANDSHAKE_FAILURES: Mapping[str, Failure] = {
    "EOF occurred": _UNREACHABLE,
    "WRONG_VERSION": _UNREACHABLE,  # in plain words, behind a greeting: what the server was sent has not arrived whole
    "RECORD_MAC": _UNREACHABLE,  # so of what the server sent
    "ismatch, certificate": failures.WRONG_NAME,
    "PROTOCOL_VERSION": failures.NO_COMMON_TLS,
    "NO_PROTOCOLS": failures.NO_COMMON_TLS,
    "UNSUPPORTED_PROTOCOL": failures.NO_COMMON_TLS,
    "_ALERT_CERTIFICATE": failures.CLIENT_CERTIFICATE,
    "_ALERT_BAD_CERTIFICATE": failures.CLIENT_CERTIFICATE,
    "_ALERT_NO_CERTIFICATE": failures.CLIENT_CERTIFICATE,
    "_ALERT_UNSUPPORTED_CERTIFICATE": failures.CLIENT_CERTIFICATE,
    "_ALERT_UNKNOWN_CA": failures.CLIENT_CERTIFICATE,
    "_ALERT_ACCESS_DENIED": failures.CLIENT_CERTIFICATE,
    "_ALERT_HANDSHAKE_FAILURE": failures.NO_AGREEMENT,
    "_ALERT_INSUFFICIENT_SECURITY": failures.NO_AGREEMENT,
    "_ALERT_": _UNREACHABLE,  # what was sent has not arrived as it was
    "certificate revoked": _REVOKED,
    " CRL": _LISTS,
    "has expired": _NOT_IN_DATE,
    "not yet valid": _NOT_IN_DATE,
    "SSL": failures.UNKNOWN_ROOT,
    "not known": failures.UNKNOWN_HOST,
    "No address": failures.UNKNOWN_HOST,
}
# What MySQL sends, rarely, instead of its greeting where the new session is killed.
_KILLED = "got 1 expected 0"
# What PyMySQL raises for what it cannot do alone, by the package that it names.
_PACKAGES: Mapping[str, Failure] = {
    "pynacl": Failure(DriverNotInstalledError, "this user's plugin is ed25519: pip install 'PyMySQL[ed25519]'"),
    "": Failure(DriverNotInstalledError, "install it with pip install 'agent-sql-sessions[mysql]', or use TLS"),
}
# By name, or a signal handler's exception in the middle of connecting would be taken for one of them.
CONNECT_ERRORS = (
    *(pymysql.Error, OSError, RuntimeError, ValueError, TypeError, AttributeError, NameError),
    *(struct.error, LookupError, AssertionError),
)


def connect_failure(exc: Exception, socket: str | None = None) -> Failure:
    """Say what an exception of connecting means; socket is the path of the server's Unix socket, where it has one."""
    failure = _connect_failure(exc)
    if socket is not None and failure is _UNREACHABLE:
        return replace(failure, remedy=f"check that the server runs and listens at {socket!r}, and the rights on that")
    return failure


def _connect_failure(exc: Exception) -> Failure:
    if isinstance(exc, RuntimeError):
        return next(failure for package, failure in _PACKAGES.items() if package in str(exc))
    if isinstance(exc, ValueError) and "username" in str(exc):
        return failures.NO_USER_NAME
    # PyMySQL has no number for a packet that is none.
    no_packet = isinstance(exc, pymysql.InternalError) and errno_of(exc) == -1
    if no_packet and _KILLED in str(exc):
        return replace(_OTHER_SERVER, transient=True)
    if no_packet or not isinstance(exc, (pymysql.Error, OSError)):
        return _REPLACED_SSL if _OTHER_SSL in str(exc) else _OTHER_SERVER
    failure = FAILURES.get(errno_of(exc), failures.REFUSED)
    if not isinstance(exc, OSError) and failure not in (failures.UNREACHABLE, failures.LOST):
        return failure
    # The network's and OpenSSL's words stand in brackets, behind the host's name, which may be any word.
    text = str(exc) if isinstance(exc, OSError) else str(exc.args[-1]).partition("(")[2]
    return next((found for fragment, found in _HANDSHAKE_FAILURES.items() if fragment in text), _UNREACHABLE)


def elsewhere(hosts: Sequence[tuple[str, int]], refused: Sequence[AttemptFailed]) -> AttemptFailed:
    """Say why none of several hosts will do; as soon as one does, it is to be found."""
    passing = [exc for exc in refused if exc.failure.transient]
    failure = (passing or refused)[0].failure
    words = dict.fromkeys(
        f"{host}:{port}: {describe(exc.cause)}" for (host, port), exc in zip(hosts, refused, strict=True)
    )
    return AttemptFailed(
        replace(failure, is_away=True),
        pymysql.OperationalError(errno_of((passing or refused)[0].cause), "; ".join(words)),
    )
