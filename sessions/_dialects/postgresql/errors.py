"""What the errors of psycopg and of the server mean, as data."""

from __future__ import annotations

import re
from collections.abc import Mapping

import psycopg

from sessions._dialects import failures
from sessions._dialects.failures import Failure
from sessions.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    DatabaseError,
    SchemaError,
    TLSError,
)

_NO_USER = Failure(AuthenticationError, "check the user and the password, and pg_hba.conf on the server")

# libpq gives no SQLSTATE while it connects, only texts; the first that fits counts.
_CONNECT_FAILURES: Mapping[str, Failure] = {
    "no encryption": failures.TLS_WANTED,
    "SSL encryption": Failure(TLSError, "pg_hba.conf on the server admits no such TLS connection"),
    "valid client certificate": Failure(
        AuthenticationError, "pass your client certificate as ssl={'cert': ..., 'key': ...}"
    ),
    "unknown ca": Failure(TLSError, "give a client certificate that an authority known to the server has signed"),
    "does not match host name": failures.WRONG_NAME,
    "server does not support SSL": failures.NO_TLS,
    "SSL SYSCALL": failures.UNREACHABLE,
    "unexpected eof": failures.UNREACHABLE,
    "certificate": failures.UNKNOWN_ROOT,
    "SSL error": failures.UNKNOWN_ROOT,
    "SSL": failures.UNKNOWN_ROOT,
    "password": _NO_USER,
    "authentication": _NO_USER,
    "pg_hba.conf": _NO_USER,
    'role "': _NO_USER,
    'database "': Failure(ConnectionFailedError, "create the database, or correct the URL"),
    "invalid connection option": Failure(ConfigurationError, "drop the parameter, or install a newer libpq"),
    "resolve host": failures.UNKNOWN_HOST,
    "too many": failures.BUSY,
    "remaining connection slots": failures.BUSY,
    "starting up": failures.UNREACHABLE,
    "shutting down": failures.UNREACHABLE,
    "recovery": failures.UNREACHABLE,
    "not yet accepting": failures.UNREACHABLE,
    "read-only": failures.UNREACHABLE,
    "refused": failures.UNREACHABLE,
    "timeout": failures.UNREACHABLE,
    "timed out": failures.UNREACHABLE,
    "reset": failures.UNREACHABLE,
    "closed": failures.UNREACHABLE,
    "unreachable": failures.UNREACHABLE,
    "No route": failures.UNREACHABLE,
    "Temporary failure": failures.UNREACHABLE,
    "No such file": Failure(ConnectionFailedError, "check the socket's directory, and that the server runs"),
}

_UNPREPARED = Failure(
    DatabaseError, "a pooler stands between that keeps no prepared statements: drop prepared_statements"
)

# PostgreSQL manual, appendix A: SQLSTATE, or its class.
_FAILURES: Mapping[str, Failure] = {
    "26000": _UNPREPARED,
    "42P05": _UNPREPARED,
    "25P02": Failure(DatabaseError, "an earlier statement of your transaction failed; roll it back first"),
    "40": failures.TRY_AGAIN,
    "55P03": failures.LOCKED,
    "23503": failures.TRY_AGAIN,  # the session was cleared by another one at this moment
    "25006": failures.READ_ONLY,
    "57P": failures.GONE,
    "08": failures.LOST,
    "25P03": failures.GONE,
    "53300": failures.BUSY,
    "53": Failure(DatabaseError, "free resources on the server; nothing was written"),
    "57014": Failure(DatabaseError, "a lock was held for longer than statement_timeout, or someone cancelled it"),
    "42P01": failures.NO_TABLES,
    "3F000": Failure(SchemaError, "create the schema, or give another one"),
    "42703": failures.OTHER_TABLES,
    "42P10": failures.OTHER_TABLES,
    "42501": Failure(DatabaseError, "grant SELECT, INSERT, UPDATE and DELETE on both tables, and USAGE on a sequence"),
    "22012": Failure(
        DatabaseError,
        "not every row was written or removed as asked, and nothing was changed: look for a trigger, a rule or a "
        "policy on the two tables that suppresses rows",
    ),
    "42804": Failure(SchemaError, "give message_data the type TEXT, and the times TIMESTAMP"),
    "22": Failure(DatabaseError, "use a UTF-8 database and columns wide enough; see the cause"),
}
# After these a new connection is better: it may lead to the server that is now the primary, and has nothing prepared.
CONNECT_ANEW_AFTER = ("0A000", "25006", "25P03", "26000", "42P05", "57P")


def statement_failure(exc: Exception) -> Failure:
    """Say what an exception of a statement means."""
    sqlstate = getattr(exc, "sqlstate", None)
    if isinstance(exc, psycopg.errors.FeatureNotSupported) and exc.diag.source_function == "RevalidateCachedQuery":
        return Failure(DatabaseError, "a column has got another type; try again", transient=True)
    if sqlstate is None:
        if not isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError)):
            return Failure(DatabaseError)
        # psycopg's words for a loss that it knew of before it sent anything.
        return failures.GONE if str(exc) in ("the connection is closed", "the connection is lost") else failures.LOST
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
        failures.REFUSED,
    )


def describe(exc: BaseException) -> str:
    """Repeat the server's words in one line."""
    primary = exc.diag.message_primary if isinstance(exc, psycopg.Error) else None
    return " ".join((primary or str(exc)).split())
