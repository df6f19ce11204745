"""What the errors of psycopg and of the server mean, as data."""

from __future__ import annotations

import re
from collections.abc import Mapping

import psycopg

from ._retry import Failure
from .errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    DatabaseError,
    SchemaError,
    TLSError,
)

_UNREACHABLE = Failure(ConnectionFailedError, "check host, port and firewall, and that the server runs", transient=True)
_BUSY = Failure(ConnectionFailedError, "lower pool_size, or raise the server's max_connections", transient=True)
_NO_USER = Failure(AuthenticationError, "check the user and the password, and pg_hba.conf on the server")
_BAD_CERTIFICATE = Failure(TLSError, "give the root that signed the server's certificate as ssl={'ca': ...}")

# libpq gives no SQLSTATE while it connects, only texts; the first that fits counts.
_CONNECT_FAILURES: Mapping[str, Failure] = {
    "no encryption": Failure(TLSError, "the server wants TLS: pass ssl=True, or better ssl={'ca': ...}"),
    "SSL encryption": Failure(TLSError, "pg_hba.conf on the server admits no such TLS connection"),
    "valid client certificate": Failure(
        AuthenticationError, "pass your client certificate as ssl={'cert': ..., 'key': ...}"
    ),
    "unknown ca": Failure(TLSError, "give a client certificate that an authority known to the server has signed"),
    "does not match host name": Failure(TLSError, "connect by a name in the server's certificate"),
    "server does not support SSL": Failure(TLSError, "switch TLS on at the server, or pass ssl=False"),
    "SSL SYSCALL": _UNREACHABLE,
    "unexpected eof": _UNREACHABLE,
    "certificate": _BAD_CERTIFICATE,
    "SSL error": _BAD_CERTIFICATE,
    "SSL": _BAD_CERTIFICATE,
    "password": _NO_USER,
    "authentication": _NO_USER,
    "pg_hba.conf": _NO_USER,
    'role "': _NO_USER,
    'database "': Failure(ConnectionFailedError, "create the database, or correct the URL"),
    "invalid connection option": Failure(ConfigurationError, "drop the parameter, or install a newer libpq"),
    "resolve host": Failure(ConnectionFailedError, "check the host's name"),
    "too many": _BUSY,
    "remaining connection slots": _BUSY,
    "starting up": _UNREACHABLE,
    "shutting down": _UNREACHABLE,
    "recovery": _UNREACHABLE,
    "not yet accepting": _UNREACHABLE,
    "read-only": _UNREACHABLE,
    "refused": _UNREACHABLE,
    "timeout": _UNREACHABLE,
    "timed out": _UNREACHABLE,
    "reset": _UNREACHABLE,
    "closed": _UNREACHABLE,
    "unreachable": _UNREACHABLE,
    "No route": _UNREACHABLE,
    "Temporary failure": _UNREACHABLE,
    "No such file": Failure(ConnectionFailedError, "check the socket's directory, and that the server runs"),
}

_TRY_AGAIN = Failure(DatabaseError, "it kept colliding with other transactions; try again", transient=True)
_GONE = Failure(ConnectionFailedError, "check that the server runs", transient=True)
_LOST = Failure(ConnectionFailedError, "check that the server runs", transient=True, in_doubt=True)
_UNPREPARED = Failure(
    DatabaseError, "a pooler stands between that keeps no prepared statements: drop prepared_statements"
)
_OTHER_TABLES = Failure(SchemaError, "give other table names, or add what is missing")

# PostgreSQL manual, appendix A: SQLSTATE, or its class.
_FAILURES: Mapping[str, Failure] = {
    "26000": _UNPREPARED,
    "42P05": _UNPREPARED,
    "25P02": Failure(DatabaseError, "an earlier statement of your transaction failed; roll it back first"),
    "40": _TRY_AGAIN,
    "55P03": Failure(DatabaseError, "another transaction held a lock for too long; end it", transient=True),
    "23503": _TRY_AGAIN,  # the session was cleared by another one at this moment
    "25006": Failure(DatabaseError, "connect to the primary server", transient=True),
    "57P": _GONE,
    "08": _LOST,
    "25P03": _GONE,
    "53300": _BUSY,
    "53": Failure(DatabaseError, "free resources on the server; nothing was written"),
    "57014": Failure(DatabaseError, "a lock was held for longer than statement_timeout, or someone cancelled it"),
    "42P01": Failure(SchemaError, "create the tables by connecting once with create_tables=True", missing_tables=True),
    "3F000": Failure(SchemaError, "create the schema, or give another one"),
    "42703": _OTHER_TABLES,
    "42P10": _OTHER_TABLES,
    "42501": Failure(DatabaseError, "grant SELECT, INSERT, UPDATE and DELETE on both tables, and USAGE on a sequence"),
    "22": Failure(DatabaseError, "use a UTF-8 database and columns wide enough; see the cause"),
}
# A new connection may lead to the server that is now the primary, and has nothing prepared.
LEAVE = ("0A000", "25006", "25P03", "26000", "42P05", "57P")


def statement_failure(exc: Exception) -> Failure:
    """Say what an exception of a statement means."""
    sqlstate = getattr(exc, "sqlstate", None)
    if isinstance(exc, psycopg.errors.FeatureNotSupported) and exc.diag.source_function == "RevalidateCachedQuery":
        return Failure(DatabaseError, "a column has got another type; try again", transient=True)
    if sqlstate is None:
        if not isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError)):
            return Failure(DatabaseError)
        # psycopg's words for a loss that it knew of before it sent anything.
        return _GONE if str(exc) in ("the connection is closed", "the connection is lost") else _LOST
    for length in (5, 3, 2):
        if (failure := _FAILURES.get(sqlstate[:length])) is not None:
            return failure
    return Failure(DatabaseError)


def connect_failure(exc: Exception) -> Failure:
    """Say what an exception of connecting means."""
    # Names that the user chose stand in quotes, and may be any word.
    text = re.sub(r'"[^"]*"', '""', str(exc))
    return next(
        (failure for fragment, failure in _CONNECT_FAILURES.items() if fragment in text),
        Failure(ConnectionFailedError, "see the server's words"),
    )


def describe(exc: BaseException) -> str:
    """Repeat the server's words in one line."""
    primary = exc.diag.message_primary if isinstance(exc, psycopg.Error) else None
    return " ".join((primary or str(exc)).split())
