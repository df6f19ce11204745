"""What the errors of PyMySQL and of the two servers mean, as data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import pymysql

from sessions._dialects import failures
from sessions._dialects.failures import Failure
from sessions.errors import (
    AuthenticationError,
    ConnectionFailedError,
    DatabaseError,
    InvalidItemError,
    SchemaError,
)

_NO_USER = Failure(
    AuthenticationError,
    "check user and password; a user that needs TLS or a client certificate, or comes from another host, gets the same",
)
_NO_PASSWORD = Failure(
    AuthenticationError, "the server takes this user by another way, perhaps on its Unix socket alone (unix_socket=...)"
)
_HOST = Failure(AuthenticationError, "create the user for this client's host too, as 'user'@'%'")
_HOST_BLOCKED = Failure(
    AuthenticationError, "let an administrator run FLUSH HOSTS, and look for what broke connections off"
)
_EXPIRED = Failure(
    AuthenticationError, "set a new password by another client: ALTER USER <user> IDENTIFIED BY <password>"
)
_PLUGIN = Failure(
    AuthenticationError,
    "let an administrator give the user an authentication plugin that the server and PyMySQL have, such as "
    "caching_sha2_password on MySQL, mysql_native_password or ed25519 on MariaDB",
)
_NO_DATABASE = replace(
    failures.NO_DATABASE, remedy="create the database and grant the user rights on it, or correct the URL"
)
_NO_RIGHT = Failure(
    DatabaseError,
    "GRANT SELECT, INSERT, UPDATE, DELETE ON <database>.* TO <user>",
    to_create="GRANT CREATE, REFERENCES ON <database>.* TO <user> for a first use, or let another user make the tables",
)
_TOO_LONG = Failure(DatabaseError, "widen the column, or see the cause")
_USED_UP = Failure(
    SchemaError,
    "the ids of the messages table are used up: make id a BIGINT or, where it is one, number the rows anew from 1, in "
    "their order, and set AUTO_INCREMENT behind them",
)
# MariaDB says so of the loser of a deadlock for the lock of AUTO_INCREMENT too.
_USED_UP_OR_DEADLOCK = replace(_USED_UP, transient=True)
_CHARACTERS = Failure(DatabaseError, "give the column the character set utf8mb4, or use ensure_ascii=True")
_ID_CHARACTERS = Failure(
    DatabaseError, "give session_id in both tables the character set utf8mb4 and one collation, or use another id"
)
_TIMES = Failure(SchemaError, "give the columns created_at and updated_at the type TIMESTAMP or DATETIME")
_NO_SUCH_TIME = Failure(
    InvalidItemError,
    "the server's time zone leaves this time out, or a TIMESTAMP does not reach it: make the column DATETIME(6), or "
    "give the server the time zone +00:00",
)
_OWN_COLUMN = Failure(DatabaseError, "a column that the table computes, or a trigger, refuses a value; see the cause")
_JSON = Failure(DatabaseError, "message_data is JSON, which does not take every item: make it LONGTEXT")
_CONSTRAINT = Failure(
    DatabaseError,
    "a CHECK of the tables refuses it: drop that, and where it is JSON_VALID, by a column JSON of MariaDB's, make the "
    "column LONGTEXT",
)
_OPTION = Failure(DatabaseError, "let an administrator change the option that the server names")
_UNIQUE = Failure(
    DatabaseError, "a unique index of yours on one of the two tables refuses it: drop it, or put id into it"
)
_FULL = Failure(DatabaseError, "free some space on the server; nothing was written")
_MEMORY = Failure(DatabaseError, "the server is short of memory or threads; try again", transient=True)
_CANCELLED = Failure(DatabaseError, "someone cancelled it, or a time limit of the server did; nothing was written")
_LIMIT = (
    "it took longer than {}: if another transaction held a lock, end that; else look at the statement's plan, or raise "
    "the limit"
)
_READ_LIMIT = Failure(DatabaseError, _LIMIT.format("max_execution_time of the server or the session"))
_STATEMENT_LIMIT = Failure(
    DatabaseError,
    f"{_LIMIT.format('max_statement_time of the server, the user or the session')}; nothing was written",
)
_CUT_COMMIT = Failure(
    DatabaseError, "someone cancelled it, or a time limit of the server did: see its max_statement_time", in_doubt=True
)
_DUPLICATE = Failure(
    DatabaseError,
    "ids are given that exist: set the table's AUTO_INCREMENT anew, or make id a BIGINT if it has reached its end",
)
_KEY = Failure(
    DatabaseError,
    "give both tables a primary key and InnoDB, as group replication asks for; while it chooses a primary it passes",
    transient=True,
)
NO_CASCADE = Failure(
    DatabaseError,
    "with several primaries group replication takes no foreign key with ON DELETE CASCADE: replace that of the "
    "messages' table by one without",
)
WRONG_SERVER = Failure(
    ConnectionFailedError,
    "wait until it is ready, or name another member or proxy in the URL",
    transient=True,
    is_away=True,
)
_LEFT_GROUP = Failure(
    DatabaseError,
    "the member left its group, or the group has no majority: look at the group",
    transient=True,
    is_away=True,
)
_TABLES_LOCKED = Failure(
    DatabaseError,
    "the connection has LOCK TABLES without ours: UNLOCK TABLES before, or lock both of them for writing too",
)
_XA = Failure(
    DatabaseError,
    "your XA transaction is at a point where nothing else can be done: XA COMMIT or XA ROLLBACK it first, and work "
    "between XA START and XA END",
)
# As a collision, but of a kind that does not pass within milliseconds.
_TRY_LATER = replace(failures.TRY_AGAIN, is_collision=False)

DUPLICATE_INDEX = 1061
DUPLICATE_KEY = 1062
NO_SUCH_INDEX = 1176
INIT_CONNECT = 1184
# MySQL's list of processes is in utf8mb3, and cannot show a statement that somebody is executing at that moment. And,
# with MariaDB's number behind it, a column cannot be compared with a character that its set lacks.
CANNOT_CONVERT = 3854
MIXED_COLLATIONS = (1267, 1270, 1271)  # of two, three or more values
# By KILL QUERY, by a time limit of MariaDB's.
INTERRUPTED = (1317, 1969)
NULL_VALUE, WRONG_NUMBER, CUT, WRONG_TIME, WRONG_VALUE, TOO_LONG = 1048, 1264, 1265, 1292, 1366, 1406

# An option of the server's, whose name stands in the words as it is written on a command line.
OPTION_REFUSES = 1290
_READ_ONLY_OPTION = re.compile(r"--(super[-_])?read[-_]only\b")

_TOO_LONG_FOR: Mapping[str, Failure] = {
    "message_data": Failure(DatabaseError, "widen the column message_data to LONGTEXT"),
    "session_id": Failure(DatabaseError, "shorten the session_id, or widen the columns session_id to 255 characters"),
    "token": Failure(DatabaseError, "widen the column token of the table of leases to VARCHAR(32)"),
}
# What an error means for a column, or for an index, that the server's words end with.
_FAILURES_OF: Mapping[int, Mapping[str, Failure]] = {
    TOO_LONG: _TOO_LONG_FOR,
    CUT: _TOO_LONG_FOR,
    WRONG_VALUE: {"message_data": _CHARACTERS, "session_id": _ID_CHARACTERS},
    WRONG_NUMBER: {"id": _USED_UP, "created_at": _TIMES, "updated_at": _TIMES},
    WRONG_TIME: {"created_at": _TIMES, "updated_at": _TIMES},
    DUPLICATE_KEY: {"PRIMARY": _DUPLICATE, "id": _DUPLICATE},
}
_LAST_NAME = re.compile(r"(?:^|[.'`])([^.'`]+)['`][^'`]*$")
_TIME = re.compile(r"'[0-9]{4}-[0-9]{2}-[0-9]{2}[ T]?[0-9:.]*' .*['`](created_at|updated_at)['`]")

# "Server Error Message Reference" of the MySQL manual, "Error Codes" of MariaDB's.
FAILURES: Mapping[int, Failure] = {
    0: failures.GONE,  # PyMySQL: the connection was closed before
    3: _FULL,  # EE_WRITE of MariaDB's mysys: a file such as the binary log
    1020: failures.TRY_AGAIN,
    1021: _FULL,
    1037: _MEMORY,
    1040: failures.BUSY,
    1041: _MEMORY,
    1044: _NO_DATABASE,
    1045: _NO_USER,
    1047: failures.GONE,  # a Galera node that is not in the cluster
    1049: _NO_DATABASE,
    1053: failures.GONE,
    1054: failures.OTHER_TABLES,
    DUPLICATE_KEY: _UNIQUE,
    1099: _TABLES_LOCKED,
    1100: _TABLES_LOCKED,
    1114: _FULL,
    1129: _HOST_BLOCKED,
    1130: _HOST,
    1135: _MEMORY,
    1142: _NO_RIGHT,
    1143: _NO_RIGHT,
    1146: failures.NO_TABLES,
    1153: Failure(DatabaseError, "raise the server's max_allowed_packet"),
    1180: failures.TRY_AGAIN,  # during COMMIT: a deadlock in a group; Galera torn apart
    INIT_CONNECT: Failure(
        ConnectionFailedError,
        "let an administrator correct the server's init_connect, or grant this user what it needs",
    ),
    1203: failures.BUSY,
    1205: failures.LOCKED,
    1206: _TRY_LATER,
    1213: failures.TRY_AGAIN,
    1226: failures.BUSY,
    1251: _PLUGIN,
    WRONG_NUMBER: _OWN_COLUMN,
    CUT: _TOO_LONG,
    1275: _PLUGIN,
    OPTION_REFUSES: _OPTION,
    1317: _CANCELLED,
    1364: failures.OTHER_TABLES,
    WRONG_VALUE: _OWN_COLUMN,
    TOO_LONG: _TOO_LONG,
    1399: _XA,
    1451: failures.REFERRED_TO,
    1452: failures.MISSING_ROW,
    1412: failures.TRY_AGAIN,
    167: _USED_UP,  # MariaDB
    1467: _USED_UP_OR_DEADLOCK,
    1524: _PLUGIN,
    1637: _TRY_LATER,
    1698: _NO_PASSWORD,
    1792: failures.READ_ONLY_TRANSACTION,
    1820: _EXPIRED,
    1836: failures.READ_ONLY,
    1862: _EXPIRED,
    1874: failures.READ_ONLY,
    1927: failures.LOST,
    1969: _STATEMENT_LIMIT,
    2003: failures.UNREACHABLE,
    2006: failures.GONE,  # the packet was not sent completely
    2013: failures.LOST,
    2026: failures.NO_TLS,
    2059: _PLUGIN,
    2061: _PLUGIN,
    3024: _READ_LIMIT,
    3032: failures.GONE,
    3098: _KEY,
    3100: _LEFT_GROUP,
    3101: failures.TRY_AGAIN,  # group replication: another member was first
    3118: failures.LOCKED_OUT,
    3140: _JSON,
    3157: _JSON,
    3159: failures.TLS_WANTED,
    3572: failures.TRY_AGAIN,
    3675: _FULL,
    3819: _CONSTRAINT,
    **dict.fromkeys((*MIXED_COLLATIONS, CANNOT_CONVERT), _ID_CHARACTERS),
    3955: failures.LOCKED_OUT,
    4025: _CONSTRAINT,
    4031: failures.GONE,
    4150: failures.LOCKED_OUT,
    4151: failures.LOCKED_OUT,
}
# Errors whose text repeats no value: those above but for some, and what has names alone in it.
_QUOTING_A_VALUE = {DUPLICATE_KEY, WRONG_NUMBER, CUT, WRONG_VALUE, TOO_LONG, CANNOT_CONVERT, 3140}
_QUOTING_NOTHING = (frozenset(FAILURES) - _QUOTING_A_VALUE).union(
    (
        1015,
        1030,
        1036,
        1038,
        NULL_VALUE,
        1093,
        1094,
        1104,
        1118,
        1136,
        1158,
        1159,
        1160,
        1161,
        1194,
        1195,
        1227,
        1242,
    ),
    (1273, 1305, 1356, 1364, 1370, 1419, 1436, 1442, 1449, 1452, 1456, 1785, 1786, 3944, 9001),
)
# What a trigger raises says what it wants.
_SIGNALLED = "45000"
# How check_position and the other checks fail.
OUT_OF_RANGE = 1690
NO_SUCH_VALUE = 1525  # for what it is compared with
NO_SUCH_THREAD, NO_SAVEPOINT = 1094, 1305
# A value was stored truncated or changed, or another one in place of NULL; a warning where the mode is not strict.
TRUNCATED = (NULL_VALUE, WRONG_NUMBER, CUT, WRONG_TIME, WRONG_VALUE, TOO_LONG)
# After these a new connection is better: it may lead to the server that is now the primary, and has rights that
# were granted meanwhile.
CONNECT_ANEW_AFTER = (1047, 1142, 1143, OPTION_REFUSES, 1792, 1836, 3098, 3100)
NO_RIGHT = 1142
NOT_FOR_TABLE = 3098


class NoAnswerError(pymysql.OperationalError):
    """A statement that the server has not answered in time, and may still be executing."""


class CutCommitError(pymysql.OperationalError):
    """An interrupted statement that held the commit: MariaDB says so also where that was done."""


def errno_of(exc: BaseException) -> int:
    """Return the error's number; -1 when it has none."""
    return exc.args[0] if exc.args and isinstance(exc.args[0], int) else -1


def statement_failure(exc: Exception) -> Failure:
    """Say what an exception of a statement means."""
    if isinstance(exc, NoAnswerError):
        return failures.NO_ANSWER
    if isinstance(exc, CutCommitError):
        return _CUT_COMMIT
    errno = errno_of(exc)
    if errno == WRONG_TIME and _TIME.search(str(exc.args[-1])):
        return _NO_SUCH_TIME
    if errno == OPTION_REFUSES and _READ_ONLY_OPTION.search(str(exc.args[-1])):
        return failures.READ_ONLY
    name = _LAST_NAME.search(str(exc.args[-1])) if errno in _FAILURES_OF else None
    if name and (failure := _FAILURES_OF[errno].get(name[1])) is not None:
        return failure
    # Of what is computed with updated_at the server names no column, but the number that stood there.
    if name and errno == WRONG_TIME and name[1].isdecimal():
        return _TIMES
    return FAILURES.get(errno, failures.FAILED)


def describe(exc: BaseException) -> str:
    """Repeat the server's words where they are known to quote nothing but a time of ours."""
    errno = errno_of(exc)
    # Where the results are in UCS-2, UTF-16 or UTF-32 PyMySQL cannot read the server's.
    words = str(exc.args[-1]) if exc.args and exc.args[-1] else ""
    # PyMySQL's own have no number, or one from 2000 on.
    is_the_servers = isinstance(exc, pymysql.Error) and errno > 0 and not 2000 <= errno < 3000
    if getattr(exc, "sqlstate", None) == _SIGNALLED:
        return f"server error {errno}, of a trigger"
    if not is_the_servers:
        return words or "the connection is closed"
    if words and (errno in _QUOTING_NOTHING or (errno == WRONG_TIME and _TIME.search(words))):
        return words
    return f"server error {errno}"
