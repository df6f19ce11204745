"""What the errors of PyMySQL and of the two servers mean, as data."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pymysql

from ._retry import Failure
from .errors import (
    AuthenticationError,
    ConnectionFailedError,
    DatabaseError,
    DriverNotInstalledError,
    SchemaError,
    SessionsError,
    TLSError,
)

_UNREACHABLE = Failure(ConnectionFailedError, "check host, port and firewall, and that the server runs", transient=True)
_NO_SERVER = Failure(ConnectionFailedError, "check that a MySQL or MariaDB server listens there")
_UNKNOWN_HOST = Failure(ConnectionFailedError, "check the host's name")
_BUSY = Failure(ConnectionFailedError, "lower pool_size, or raise the server's max_connections", transient=True)
_NO_USER = Failure(AuthenticationError, "check user and password; a user that needs a client certificate gets the same")
_NO_DATABASE = Failure(ConnectionFailedError, "create the database and grant the user rights on it, or correct the URL")
_CERTIFICATE = Failure(TLSError, "give the root that signed the server's certificate as ssl={'ca': ...}")
_CLIENT_CERTIFICATE = Failure(
    TLSError, "pass a client certificate that the server accepts as ssl={'cert': ..., 'key': ...}"
)
_NAME = Failure(TLSError, "connect by a name in the server's certificate")
_TRY_AGAIN = Failure(DatabaseError, "it kept colliding with other transactions; try again", transient=True)
_READ_ONLY = Failure(DatabaseError, "connect to the primary server", transient=True)
_GONE = Failure(ConnectionFailedError, "check that the server runs", transient=True)
_LOST = Failure(ConnectionFailedError, "check that the server runs", transient=True, in_doubt=True)
_NO_RIGHT = Failure(DatabaseError, "grant SELECT, INSERT, UPDATE and DELETE on both tables")
_OTHER_TABLES = Failure(SchemaError, "give other table names, or add what is missing")
_TOO_LONG = Failure(DatabaseError, "widen the column message_data to LONGTEXT")
_FULL = Failure(DatabaseError, "free some space on the server; nothing was written")

# "Server Error Message Reference" of the MySQL manual, "Error Codes" of MariaDB's.
_FAILURES: Mapping[int, Failure] = {
    0: _GONE,  # PyMySQL: the connection was closed before
    1020: _TRY_AGAIN,
    1021: _FULL,
    1040: _BUSY,
    1044: _NO_DATABASE,
    1045: _NO_USER,
    1047: _GONE,  # a Galera node that is not in the cluster
    1049: _NO_DATABASE,
    1053: _GONE,
    1054: _OTHER_TABLES,
    1114: _FULL,
    1130: _NO_USER,
    1142: _NO_RIGHT,
    1143: _NO_RIGHT,
    1146: Failure(SchemaError, "create the tables by connecting once with create_tables=True", missing_tables=True),
    1153: Failure(DatabaseError, "raise the server's max_allowed_packet"),
    1180: _TRY_AGAIN,
    1203: _BUSY,
    1205: Failure(DatabaseError, "another transaction held a lock for too long; end it", transient=True),
    1213: _TRY_AGAIN,
    1226: _BUSY,
    1265: _TOO_LONG,
    1290: _READ_ONLY,
    1364: _OTHER_TABLES,
    1366: Failure(DatabaseError, "give the column the character set utf8mb4, or use ensure_ascii=True"),
    1406: _TOO_LONG,
    1698: _NO_USER,
    1792: _READ_ONLY,
    1836: _READ_ONLY,
    1927: _LOST,
    2003: _UNREACHABLE,
    2006: _GONE,  # the packet was not sent completely
    2013: _LOST,
    2026: Failure(TLSError, "switch TLS on at the server, or pass ssl=False"),
    2059: Failure(AuthenticationError, "give the user an authentication plugin that PyMySQL knows"),
    3032: _GONE,
    3159: Failure(TLSError, "the server wants TLS: pass ssl=True, or better ssl={'ca': ...}"),
    3572: _TRY_AGAIN,
    4031: _GONE,
}
# What Python says of a connection that failed below MySQL's protocol; the first that fits counts.
_HANDSHAKE_FAILURES: Mapping[str, Failure] = {
    "EOF occurred": _UNREACHABLE,
    "ismatch, certificate": _NAME,
    "_ALERT_": _CLIENT_CERTIFICATE,
    "SSL": _CERTIFICATE,
    "not known": _UNKNOWN_HOST,
    "No address": _UNKNOWN_HOST,
}
# What PyMySQL raises when it reads an answer that was cut or mixed up on the way.
UNREADABLE = (struct.error, IndexError, AssertionError, UnicodeDecodeError)
# After these no answer of the server is left unread.
FROM_WITHIN = (pymysql.Error, SessionsError, UnicodeEncodeError)
# By name, or a signal handler's exception in the middle of connecting would be taken for one of them.
CONNECT_ERRORS = (pymysql.Error, OSError, RuntimeError, ValueError, TypeError, AttributeError, NameError, *UNREADABLE)
# Errors whose text repeats a value of the statement.
_QUOTING = (1062, 1064, 1264, 1265, 1292, 1366, 1406)
MORE_THAN_ONE_ROW = 1242
CUTS = (1265, 1366, 1406)
# A new connection may lead to the server that is now the primary.
LEAVE = (1290, 1792, 1836)


def errno_of(exc: BaseException) -> int:
    """Return the error's number; -1 when it has none."""
    return exc.args[0] if exc.args and isinstance(exc.args[0], int) else -1


def statement_failure(exc: Exception) -> Failure:
    """Say what an exception of a statement means."""
    return _FAILURES.get(errno_of(exc), Failure(DatabaseError))


def connect_failure(exc: Exception) -> Failure:
    """Say what an exception of connecting means."""
    if isinstance(exc, RuntimeError):  # PyMySQL: an optional package is missing
        return Failure(DriverNotInstalledError, "install it with pip install 'agent-sql-sessions[mysql]', or use TLS")
    if not isinstance(exc, (pymysql.Error, OSError)):
        return _NO_SERVER
    failure = _FAILURES.get(errno_of(exc), Failure(ConnectionFailedError, "see the server's words"))
    if not isinstance(exc, OSError) and failure not in (_UNREACHABLE, _LOST):
        return failure
    # The network's and OpenSSL's words stand in brackets, behind the host's name, which may be any word.
    text = str(exc) if isinstance(exc, OSError) else str(exc.args[-1]).partition("(")[2]
    return next((found for fragment, found in _HANDSHAKE_FAILURES.items() if fragment in text), _UNREACHABLE)


def describe(exc: BaseException) -> str:
    """Repeat the server's words, unless they repeat a value."""
    errno = errno_of(exc)
    if isinstance(exc, pymysql.Error) and errno in _QUOTING:
        return f"server error {errno}"
    return str(exc.args[-1]) if exc.args and exc.args[-1] else "the connection is closed"
