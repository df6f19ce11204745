"""What the errors of sqlite3 mean, as data: by SQLite's result codes, and by words where they say too little."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping

from sessions._dialects import failures
from sessions._dialects.failures import Failure
from sessions._items import MAX_ID
from sessions.errors import ConnectionFailedError, OutcomeUnknownError, SchemaError

# Our own texts.
MOVED = "the file or its write-ahead log was replaced or removed"
DURING_COMMIT = "during a commit"
MOVED_DURING_COMMIT = f"{MOVED} {DURING_COMMIT}"

# What the log holds is committed by whoever repairs the file after a crash, unless another write has come in its place.
_COMMIT_CUT_OFF = Failure(
    OutcomeUnknownError,
    "check the disk; the write may or may not have happened, and until another one succeeds a crash may bring it back: "
    "compare get_items() with what you expect then",
)
_LOCKED = Failure(
    remedy="another connection kept the file locked for longer than statement_timeout; end it", transient=True
)
_NO_WRITING = Failure(
    remedy="give this process the right to write the file and its directory; a connection of yours may have "
    "PRAGMA query_only",
    to_create="give this process the right to write the file and its directory",
)
_UNREADABLE = Failure(
    ConnectionFailedError, "check the path and the rights; on a read-only disk only journal_mode=DELETE can be read"
)
_MOVED = Failure(
    ConnectionFailedError,
    "use or close what else this process has on that file; restore a backup while nobody has it open",
    transient=True,
)

# SQLite takes the parent's locks for the child's: who opens the file next takes it for one that nobody has.
INHERITED = Failure(
    ConnectionFailedError,
    "close your connections to the file before the fork, or start the process by spawn; under uWSGI, whose forks call "
    "no hooks without --py-call-uwsgi-fork-hooks, use the backend in a worker before you open the file there",
)

# Under each of its names a file has another log (sqlite.org/howtocorrupt.html, 2.4): what is written by one is lost to
# those who open the other.
LINKED = Failure(
    ConnectionFailedError, "remove the other names; for a copy use VACUUM INTO, for a second name a symbolic link"
)
DIRECTORY = Failure(ConnectionFailedError, "give the path of a file in it")
UNNAMEABLE = Failure(
    ConnectionFailedError, "the locale's encoding cannot write the path: set PYTHONUTF8=1, or a locale with UTF-8"
)
# What it holds would be taken for the file's, and copied into it.
STALE_LOG = Failure(
    ConnectionFailedError,
    "the log is that of another file, in whose place this one was put: remove it, and the one with -shm, while nobody "
    "has the file open",
    transient=True,
)
MOUNTED = Failure(
    ConnectionFailedError, "mount the directory that the file is in: its write-ahead log has to stand beside it"
)

# Not every module that takes the place of sqlite3, as pysqlite3 does, has names for these.
_BUSY_RECOVERY = sqlite3.SQLITE_BUSY | 1 << 8
_BUSY_SNAPSHOT = sqlite3.SQLITE_BUSY | 2 << 8
_READONLY_DBMOVED = sqlite3.SQLITE_READONLY | 4 << 8
_CONSTRAINT_FOREIGNKEY = sqlite3.SQLITE_CONSTRAINT | 3 << 8
_CONSTRAINT_FUNCTION = sqlite3.SQLITE_CONSTRAINT | 4 << 8
_CONSTRAINT_NOTNULL = sqlite3.SQLITE_CONSTRAINT | 5 << 8
_CONSTRAINT_TRIGGER = sqlite3.SQLITE_CONSTRAINT | 7 << 8
_CONSTRAINT_VTAB = sqlite3.SQLITE_CONSTRAINT | 9 << 8
_CONSTRAINT_DATATYPE = sqlite3.SQLITE_CONSTRAINT | 12 << 8  # a STRICT table's

# Extended result codes (sqlite.org/rescode.html), or the primary ones that they belong to.
_FAILURES: Mapping[int, Failure] = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    _BUSY_RECOVERY: Failure(remedy="another process is repairing the file after a crash; try again", transient=True),
    # Nobody holds a lock: the same statement fails for as long as its transaction lasts.
    _BUSY_SNAPSHOT: Failure(
        remedy="others have written since your transaction began to read: roll it back, and use BEGIN IMMEDIATE; or "
        "since a cursor of yours began: close it, or read it to its end"
    ),
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_SCHEMA: failures.TRY_AGAIN,
    sqlite3.SQLITE_READONLY: _NO_WRITING,
    _READONLY_DBMOVED: _MOVED,
    sqlite3.SQLITE_PERM: _NO_WRITING,
    sqlite3.SQLITE_CANTOPEN: _UNREADABLE,
    sqlite3.SQLITE_FULL: Failure(
        remedy=f"free some space; if there is some, ids have reached their end, {MAX_ID}: number the rows anew "
        "from 1, in their order, and set their seq in sqlite_sequence; nothing was written"
    ),
    sqlite3.SQLITE_IOERR: Failure(remedy="check the disk and the file's directory; nothing was acknowledged"),
    sqlite3.SQLITE_NOTADB: Failure(remedy="give the path of a SQLite file; nothing was overwritten"),
    sqlite3.SQLITE_CORRUPT: Failure(
        remedy="restore the file from a backup, and before that remove its log, of the same name with -wal and -shm: "
        "that of another file does damage; nothing was overwritten"
    ),
    sqlite3.SQLITE_TOOBIG: Failure(remedy="make the item smaller; SQLite holds at most 1 GB in a row"),
    sqlite3.SQLITE_INTERRUPT: Failure(
        remedy="someone called interrupt() on the connection, or a progress handler ended it; nothing was written"
    ),
    _CONSTRAINT_NOTNULL: failures.OTHER_TABLES,
    # It does not say which key, nor whether a row was written or deleted.
    _CONSTRAINT_FOREIGNKEY: Failure(remedy=f"{failures.MISSING_ROW.remedy}; or {failures.REFERRED_TO.remedy}"),
    sqlite3.SQLITE_MISMATCH: failures.OTHER_TABLES,
    _CONSTRAINT_DATATYPE: failures.OTHER_TABLES,
}
# Ours; SQLite's and sqlite3's own, which are never translated: SQLITE_ERROR is for everything, what sqlite3 itself
# refuses has no code.
_WORDS: Mapping[str, Failure] = {
    MOVED_DURING_COMMIT: Failure(OutcomeUnknownError, "compare get_items() with what you expect"),
    DURING_COMMIT: _COMMIT_CUT_OFF,
    "no transaction is active": failures.ENDED,
    MOVED: _MOVED,
    "no such table": failures.NO_TABLES,
    "no such column": failures.OTHER_TABLES,
    "has no column": failures.OTHER_TABLES,
    "does not match any PRIMARY KEY": Failure(SchemaError, "make session_id the primary key of the sessions table"),
    "closed database": Failure(ConnectionFailedError, "open a connection and bind it"),
    "created in a thread": Failure(remedy="use it in its own thread, or open it with check_same_thread=False"),
    "database is locked": _LOCKED,
    "too big": Failure(remedy="make the item smaller; SQLite holds at most 1 GB in a row"),
}


def failure_of(exc: BaseException) -> Failure:
    """Say what an exception of sqlite3 means."""
    code = getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    # The primary code is the last byte.
    if (failure := _FAILURES.get(code) or _FAILURES.get(code & 0xFF)) is not None:
        return failure
    return next((found for fragment, found in _WORDS.items() if fragment in str(exc)), failures.FAILED)


# Of everything that has no code of its own. What functions say quotes their arguments, as those of JSON do.
_SAYS_NO_VALUE = re.compile(
    r"no such |near \"|table .* has no column|cannot |unknown |too many |ambiguous |wrong number of arguments|"
    r"SQL logic error|foreign key mismatch|ON CONFLICT clause|database .* is locked|malformed JSON$"
)


def is_damage(exc: BaseException) -> bool:
    """Tell whether it says that the file, or its log, is not what it should be."""
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def describe(exc: BaseException) -> str:
    """Repeat SQLite's words where they are known to quote no value."""
    words = str(exc)
    code = getattr(exc, "sqlite_errorcode", None)
    if code is None:
        # sqlite3's own.
        return words.partition(" with text ")[0] if words.startswith("Could not decode") else words
    if code in (_CONSTRAINT_TRIGGER, _CONSTRAINT_FUNCTION, _CONSTRAINT_VTAB):
        return f"SQLite error {code}, of a trigger or a function"
    return words if code & 0xFF != sqlite3.SQLITE_ERROR or _SAYS_NO_VALUE.match(words) else f"SQLite error {code}"
