"""What the errors of sqlite3 mean, as data."""

from __future__ import annotations

from collections.abc import Mapping

from sessions._dialects import failures
from sessions._dialects.failures import Failure
from sessions.errors import ConnectionFailedError, DatabaseError, OutcomeUnknownError, SchemaError

# Our own texts.
MOVED = "the file or its write-ahead log was replaced or removed"
MOVED_DURING_COMMIT = f"{MOVED} during a commit"

# SQLite's own texts (sqlite3ErrStr), which are stable and never translated; result codes
# are visible from Python 3.11 only.
_FAILURES: Mapping[str, Failure] = {
    MOVED_DURING_COMMIT: Failure(OutcomeUnknownError, "compare get_items() with what you expect"),
    MOVED: Failure(
        ConnectionFailedError,
        "use or close what else this process has on that file; restore a backup while nobody has it open",
        transient=True,
    ),
    "is locked": Failure(
        remedy="another connection kept the file locked for longer than statement_timeout", transient=True
    ),
    "no such table": failures.NO_TABLES,
    "no such column": failures.OTHER_TABLES,
    "has no column": failures.OTHER_TABLES,
    "does not match any PRIMARY KEY": Failure(SchemaError, "make session_id the primary key of the sessions table"),
    "readonly": Failure(remedy="give this process the right to write the file and its directory"),
    "unable to open": Failure(
        ConnectionFailedError, "check the path and the rights; on a read-only disk only journal_mode=DELETE can be read"
    ),
    "disk is full": Failure(remedy="free some space; nothing was written"),
    "disk I/O error": Failure(remedy="check the disk and the file's directory; nothing was acknowledged"),
    "not a database": Failure(remedy="give the path of a SQLite file; nothing was overwritten"),
    "malformed": Failure(remedy="restore the file from a backup; nothing was overwritten"),
    "closed database": Failure(ConnectionFailedError, "open a connection and bind it"),
    "created in a thread": Failure(remedy="use it in its own thread, or open it with check_same_thread=False"),
    "too big": Failure(remedy="make the item smaller; SQLite holds at most 1 GB in a row"),
}


def failure_of(exc: BaseException) -> Failure:
    """Say what an exception of sqlite3 means."""
    text = str(exc)
    return next((failure for fragment, failure in _FAILURES.items() if fragment in text), Failure(DatabaseError))
