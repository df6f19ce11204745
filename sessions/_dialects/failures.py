"""What a driver's exception means: the error to raise, the remedy, and whether to try again.

Each dialect says it as data, by the codes that its protocol has, and by words only where it has none. What is
permanent is named; a refusal to connect that nobody has named may pass, and is tried again.
"""

from __future__ import annotations

import errno
import os
import re
import time
from dataclasses import dataclass, replace
from typing import NamedTuple

from sessions._reentry import own
from sessions._reentry import raised_by_a_handler as raised_by_a_handler  # noqa: PLC0414  (all about failures is here)
from sessions.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    DatabaseError,
    SchemaError,
    SessionsError,
    TLSError,
)

# How a remedy ends where it is certain, and worth saying.
UNWRITTEN = "; nothing was written"


@dataclass(frozen=True)
class Failure:
    """What a driver's exception means: the error to raise, and what may be done about it."""

    error: type[SessionsError] = DatabaseError
    remedy: str = "see the cause"
    transient: bool = False  # the same statement may succeed later
    in_doubt: bool = False  # a write may have been committed
    missing_tables: bool = False
    is_away: bool = False  # nobody takes what is sent, and somebody may at any moment
    # With another transaction, which belongs to the work of several writers: it passes soon, and nobody need be told.
    is_collision: bool = False
    is_of_a_row: bool = False  # which may be refused where others are not
    to_create: str = ""  # the remedy when it keeps the missing tables from being made; none: it is of the moment


# What more than one dialect can run into.
UNREACHABLE = Failure(
    ConnectionFailedError, "check host, port and firewall, and that the server runs", transient=True, is_away=True
)
BUSY = Failure(
    ConnectionFailedError,
    "lower pool_size, or raise the limit: max_connections, or that of the user, the database or the pooler",
    transient=True,
)
GONE = Failure(ConnectionFailedError, "check that the server runs", transient=True, is_away=True)
LOST = replace(GONE, in_doubt=True)
NO_ANSWER = replace(
    LOST,
    remedy="if the statement needs longer, look at its plan and raise statement_timeout; else look whether the server "
    "hangs",
)
TRY_AGAIN = Failure(
    DatabaseError,
    "it kept colliding with other transactions; try again",
    transient=True,
    is_collision=True,
)
REFERRED_TO = Failure(
    DatabaseError,
    "another table refers to what is deleted by a foreign key: delete there first, or give that key ON DELETE CASCADE",
)
MISSING_ROW = Failure(DatabaseError, "the row that this foreign key of yours refers to is missing: write it first")
LOCKED = Failure(DatabaseError, "another transaction held a lock for too long; end it", transient=True)
TOO_SLOW = replace(
    LOCKED,
    remedy="if another transaction held a lock, end it; if the statement needs longer, look at its plan and raise "
    "statement_timeout",
)
READ_ONLY = Failure(DatabaseError, "connect to the primary server", transient=True, is_away=True)
READ_ONLY_TRANSACTION = replace(
    READ_ONLY,
    remedy="the transaction is read-only: begin one that may write or, if this server takes no writes, connect to the "
    "primary server",
)
ENDED = Failure(
    remedy="another thread has ended the transaction meanwhile: while one has a transaction open on a connection, no "
    "other may use it",
    in_doubt=True,
)
# Of any table: what an operation makes where it may is not all of them.
NO_TABLES = Failure(
    SchemaError,
    "create the tables by check(fix=True) of a backend of connect() with the same table names and keys",
    missing_tables=True,
)
OTHER_TABLES = Failure(SchemaError, "give other table names, or add what is missing")
UNKNOWN_HOST = Failure(ConnectionFailedError, "check the host's name")
NO_USER_NAME = Failure(ConfigurationError, "name the user in the URL; this process has no account to take one from")
NO_DATABASE = Failure(ConnectionFailedError, "create the database, or correct the URL")
TLS_WANTED = Failure(TLSError, "the server wants TLS: pass ssl=True, or better ssl={'ca': ...}")
NO_TLS = Failure(TLSError, "switch TLS on at the server, or pass ssl=False")
UNKNOWN_ROOT = Failure(TLSError, "give the root that signed the server's certificate as ssl={'ca': ...}")
NO_COMMON_TLS = Failure(
    TLSError,
    "the two have no version of TLS in common: look at ssl_min_protocol_version and ssl_max_protocol_version here, at "
    "the versions that the server allows, and at OpenSSL's configuration on both sides",
)
CLIENT_CERTIFICATE = Failure(
    TLSError, "pass a client certificate that the server accepts as ssl={'cert': ..., 'key': ...}"
)
NO_AGREEMENT = Failure(
    TLSError,
    "the server takes none of the ciphers or versions of TLS offered here, or no client without a certificate: look at "
    "both sides' ciphers and versions, or pass a client certificate as ssl={'cert': ..., 'key': ...}",
)
WRONG_NAME = Failure(
    TLSError,
    "connect by a name in the server's certificate; where it has none, as one that MySQL makes for itself, "
    "ssl={'ca': ..., 'check_hostname': False} verifies all else",
)
LOCKED_OUT = Failure(AuthenticationError, "let an administrator unlock the user, or connect as another one")
NO_DESCRIPTORS = Failure(
    ConnectionFailedError,
    "this process, or the system, can open no more files: raise `ulimit -n` (or fs.file-max), or close what is open",
    transient=True,
)
# The process, or the system, can open nothing more at this moment.
NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)
# What is open at once while a connection is opened: a file, its log and the index of that, or a socket, what waits for
# it and a file of certificates. It is closed again by the time that we hear of a failure.
_DESCRIPTORS = 4
# Named by nobody.
REFUSED = Failure(ConnectionFailedError, "see the server's words", transient=True)
FAILED = Failure(to_create="see the cause, or create the tables by other means")

# How a text of ours begins, plain or in hexadecimal.
_A_TEXT = re.compile(r"\{|(?:\b[xX]'|\b0x|\\x)7[bB]")
# What a socket raises, and what looks up a host's name, and where the classes of that are.
_SYSTEMS = (OSError, RuntimeError, ValueError)
_OF_THE_SYSTEM = ("builtins", "socket", "ssl", "io")


class Opened(NamedTuple):
    """When a connection was opened, by two clocks: one may stand still while the machine sleeps, the other be set."""

    monotonic: float
    time: float

    @classmethod
    def now(cls) -> Opened:
        return cls(time.monotonic(), time.time())

    def ages(self) -> tuple[float, float]:
        """Return the seconds since then, by each clock."""
        return time.monotonic() - self.monotonic, time.time() - self.time


class Orphan(NamedTuple):
    """The server session of a lost connection, which may still be executing what was sent."""

    number: int
    seen: float  # a time.monotonic() at which it was open: after a restart the number may be another's
    server: str = ""  # that it belongs to; on another one the number is a stranger's
    opened: Opened | None = None  # its connection; None where that is not known


class AttemptFailed(Exception):  # noqa: N818  (never leaves the library)
    """One attempt failed: what that means, the driver's exception, and the server session that may go on.

    Unless something was sent, nothing is in doubt, whatever the exception means elsewhere.
    """

    def __init__(self, failure: Failure, cause: Exception, *, sent: bool = False, orphan: Orphan | None = None) -> None:
        super().__init__(failure, cause)
        self.failure = failure if sent else replace(failure, in_doubt=False)
        self.cause = cause
        self.orphan = orphan


def unless_descriptors_lack(failure: Failure) -> Failure:
    """Return what a failure means; of one to connect, another one where there are too few descriptors to do that.

    No library that connects tells that in a form of its own: they say what they could not do then.
    """
    if failure.error is not ConnectionFailedError or failure.in_doubt:
        return failure
    opened: list[int] = []
    try:
        while len(opened) < _DESCRIPTORS:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except own(OSError) as exc:
        return NO_DESCRIPTORS if exc.errno in NO_DESCRIPTOR else failure
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return failure


def is_of_an_answer(exc: Exception) -> bool:
    """Tell whether Python itself has raised it while a driver read an answer, which was cut or mixed up on the way.

    What an application lets be raised in the middle of a call has a class of its own, or comes from a handler.
    """
    if isinstance(exc, (UnicodeEncodeError, MemoryError, RecursionError, OSError)) or raised_by_a_handler(exc):
        return False
    return type(exc).__module__ in ("builtins", "struct")


def without_values(exc: BaseException) -> BaseException:
    """Return a copy of a driver's exception without its frames, and with its words up to where a row is quoted.

    PostgreSQL does so in what stands behind its first words; a text of ours begins with a brace, also in hexadecimal.
    """
    *number, said = exc.args or ("",)
    words = getattr(getattr(exc, "diag", None), "message_primary", None) or str(said)
    if (quoted := _A_TEXT.search(words)) is not None:
        words = words[: quoted.start()] + "..."
    try:
        copy = type(exc)(*number, words)
    except TypeError:
        return exc
    for name in ("sqlstate", "sqlite_errorcode", "sqlite_errorname"):
        if (value := getattr(exc, name, None)) is not None:
            setattr(copy, name, value)
    return copy


def printable(words: str) -> str:
    """Return a server's words in one line, with escapes for what would steer a terminal or forge a line of a log."""
    line = " ".join(words.split()).removesuffix(".")
    if line.isprintable():
        return line
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in line
    )


def is_an_applications(exc: BaseException) -> bool:
    """Tell whether an application has let an exception be raised in the middle of a call, by whatever means.

    A handler's, or one of a kind that Python and the system raise, but with a class of its own. An OSError without a
    word, as PyThreadState_SetAsyncExc raises a bare TimeoutError, is not the system's either: its own say what failed.
    """
    if raised_by_a_handler(exc):
        return True
    if not isinstance(exc, _SYSTEMS):
        return False
    return type(exc).__module__ not in _OF_THE_SYSTEM or (isinstance(exc, OSError) and not exc.args)


def raise_a_handlers(exc: BaseException, handled: BaseException | None) -> None:
    """Raise what an application let be raised, if a driver or a codec took it for an error of its own.

    handled was raised before, and is being handled by the application.
    """
    cause = exc.__cause__ or exc.__context__
    while cause is not None and cause is not handled:
        if is_an_applications(cause):
            raise cause from None
        cause = cause.__cause__ or cause.__context__
