"""SQLite's own connections: how one is made, which files it opened, and the ways in which it ends."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path
from urllib.parse import quote
from weakref import WeakValueDictionary

from sessions._reentry import suppress_own

from .files import Files, directory_at
from .holds import NOTHING, Hold

# Without the GIL a statement belongs to the thread that has made it: one that is kept keeps the file open until that
# thread goes on, whoever closes the connection.
_KEPT_STATEMENTS = 0 if "free-threading" in sys.version else 128


class FileConnection(sqlite3.Connection):
    """A connection that knows which files it opened."""

    path = target = ""  # what its name leads to, if that is a link: the log stands beside it
    files: Files | None = None  # None: SQLite's memory
    directory: tuple[int, int, int] | None = None  # as it was before they were last seen there
    held = NOTHING
    process = 0  # whose it is
    is_damaged = False  # the file, or its log: nothing of the one is to get into the other

    def is_in_place(self) -> bool:
        """Tell whether these are still the files of their names; asked three times for a write.

        By the directory and the database, where nothing has changed in there: who looks at the log lets the next write
        to it cost half as much again, as since Linux 6.13 a time that was looked at has to be another one then
        (kernel.org, filesystems/multigrain-ts).
        """
        if self.files is None:
            return True
        directory = directory_at(self.target.rpartition("/")[0] or "/")
        if directory is not None and directory == self.directory and self.files.have_name(self.path):
            return True
        is_in_place = self.files.are_at(self.path, self.target)
        self.directory = directory if is_in_place else None
        return is_in_place

    def __del__(self) -> None:
        """Close what an interrupt has made its pool forget, and say nothing; since Python 3.12 nobody else does.

        One that is another process's stays open: to close it may destroy its file.
        """
        if self.process in (0, os.getpid()):
            with suppress_own(sqlite3.Error):
                self.close()


# The connections to files in this process.
_opened: WeakValueDictionary[int, FileConnection] = WeakValueDictionary()


def note(connection: FileConnection) -> None:
    """Have it among the connections to files of this process."""
    _opened[id(connection)] = connection


def forget(connection: FileConnection | None) -> None:
    _opened.pop(id(connection), None)


def connect(uri: str, timeout: float) -> FileConnection:
    # Not sqlite3.connect(), which may be a tracing tool's by now, whose proxies no cursor takes.
    connection = FileConnection(
        uri,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_KEPT_STATEMENTS,
        uri=True,
    )
    try:
        connection.process = os.getpid()
    except BaseException:
        connection.close()
        raise
    return connection


def uri_of(path: str) -> str:
    """Return what Path.as_uri() does, for which Python 3.14 imports all of urllib.request."""
    return Path(path).as_uri() if os.name == "nt" else f"file://{quote(os.fsencode(path))}"


def leave(connection: FileConnection, held: Hold) -> None:
    """Close, and neither copy the log into the file nor remove what has its name."""
    if sys.version_info >= (3, 12) and hasattr(connection, "setconfig"):  # pysqlite3 has none
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)
    else:
        held.lock()  # SQLite does either only where it has the file alone
        connection.interrupt()  # without such locks: it gives the copying up
    connection.close()
    held.end()


def agrees(files: Files) -> bool:
    """Tell whether no connection of this process has some of these files together with others."""
    others = [other.files for reference in _opened.valuerefs() if (other := reference()) is not None]
    return all(
        other == files
        for other in others
        if other and other.shm and (other.database == files.database or other.shm == files.shm)
    )


def roll_back(connection: sqlite3.Connection) -> bool:
    with suppress_own(sqlite3.Error):
        connection.rollback()
    return not connection.in_transaction
