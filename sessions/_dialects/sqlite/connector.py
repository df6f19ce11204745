"""Connections to a SQLite file, or to SQLite's memory."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import sleep
from urllib.parse import quote
from weakref import WeakValueDictionary

from sessions._dialects.failures import AttemptFailed, Failure
from sessions._reentry import own, suppress_own
from sessions._settings.options import Options
from sessions.errors import ConfigurationError, ConnectionFailedError

from .errors import DIRECTORY, LINKED, MOUNTED, MOVED, UNNAMEABLE, failure_of
from .files import Files, Identity, files_at, is_mounted, make_private
from .holds import NOTHING, Hold, close_unused, hold
from .values import run
from .writers import Writers

logger = logging.getLogger("sessions")

# What was in use when the process was forked. The connections are kept from being closed, which would roll back the
# parent's transaction and may destroy its file. SQLite believes to hold their locks, which are the parent's alone: no
# other connection to these files is safe in this process.
_inherited: list[sqlite3.Connection] = []
_unsafe_files: list[os.stat_result] = []

_FORKED = Failure(ConnectionFailedError, "fork while no operation is in progress, or start the process by spawn")

# After how many seconds a file is opened again that is replaced, or closed by another thread, at just that moment.
_PAUSES = (0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
# In seconds. SQLite has milliseconds in 31 bits, and with a number beyond them does not wait at all.
_LONGEST_WAIT = 2_147_483.0
# Without the GIL a statement belongs to the thread that has made it: one that is kept keeps the file open until that
# thread goes on, whoever closes the connection.
_KEPT_STATEMENTS = 0 if "free-threading" in sys.version else 128


class FileConnection(sqlite3.Connection):
    """A connection that knows which files it opened."""

    path = target = ""
    files: Files | None = None  # None: SQLite's memory
    held = NOTHING

    def is_in_place(self) -> bool:
        """Tell whether these are still the files of their names."""
        return self.files is None or self.files.are_at(self.path, self.target)

    def __del__(self) -> None:
        """Say nothing: the pool closes it, or it is another process's."""


# The connections to files in this process.
_opened: WeakValueDictionary[int, FileConnection] = WeakValueDictionary()


class FileConnector:
    """Opens a file. A file that does not exist is made, readable for its owner alone."""

    max_connections: int | None = None
    quiesce_at_fork = True
    # SQLite knows an inherited connection of the process as its own, but not its locks: the parent would
    # remove the write-ahead log under its child.
    close_at_fork = True

    def __init__(self, path: str, options: Options, statements: Mapping[str, str], writers: Writers) -> None:
        # A later chdir() must not lead to another file.
        try:
            self._path = os.path.abspath(path)
        except own(OSError) as exc:
            raise ConfigurationError(
                f"the path {path!r} begins at the current directory, which cannot be told "
                f"({exc.strerror or type(exc).__name__}); write sqlite:////{path} for an absolute path"
            ) from None
        self._remedy = "create the directory, or give this process access to it"
        if self._path != path and not Path(path).is_absolute():
            self._remedy += f" ({path!r} begins at the current directory; write sqlite:////{path} for an absolute path)"
        self._timeout = min(options.statement_timeout, _LONGEST_WAIT)
        # A file in which we are to make nothing may be another application's: its journal mode stays.
        self._may_change = options.create_tables
        self._statements = statements
        self._writers = writers
        # What was looked up in a list that can be long: what is mounted over it later is another file.
        self._unmounted: Identity = None

    def open(self) -> FileConnection:
        try:
            _refuse_unsafe(self._path)
            for pause in _PAUSES:
                if pause:
                    sleep(pause)
                connection = self._open_once()
                if connection is not None:
                    return connection
        except own(OSError) as exc:
            raise AttemptFailed(Failure(ConnectionFailedError, self._remedy), exc) from None
        except own(UnicodeEncodeError) as exc:
            raise AttemptFailed(UNNAMEABLE, exc) from None
        except own(sqlite3.Error) as exc:
            raise AttemptFailed(failure_of(exc), exc) from None
        moved = sqlite3.OperationalError(MOVED)
        raise AttemptFailed(failure_of(moved), moved)

    def _open_once(self) -> FileConnection | None:
        """Open what is there; None when that was replaced meanwhile, or is open here as it was before."""
        target = os.path.realpath(self._path)
        make_private(target)
        if Path(target).is_dir():
            raise AttemptFailed(DIRECTORY, sqlite3.OperationalError("the path is that of a directory"))
        before = files_at(self._path, target)
        if before.names and before.names > 1:
            raise AttemptFailed(LINKED, sqlite3.OperationalError(f"the file has {before.names} names (hard links)"))
        if before.database != self._unmounted and is_mounted(target):
            raise AttemptFailed(MOUNTED, sqlite3.OperationalError("the file is mounted without its directory"))
        if not _agrees(before):
            return None
        held = hold(target)
        try:
            return self._open_held(target, before, held)
        except BaseException:
            held.end()
            close_unused()
            raise

    def _open_held(self, target: str, before: Files, held: Hold) -> FileConnection | None:
        connection = _connect(f"{_uri_of(target)}?mode=rw", self._timeout)
        try:
            connection.held = held
            has_log = self._prepare(connection)
            # Before it is noted which files there are: from here on they stay.
            is_held = not has_log or held.lock()
            connection.path, connection.target = self._path, target
            connection.files = files = files_at(self._path, target)
            # With a log and no index it was given that of another connection, which is no longer in place. Without a
            # log, somebody has removed that since.
            is_whole = not has_log or (files.wal and files.shm)
            is_known = is_whole and before.may_have_become(files) and held.is_on(files.database)
            if is_held and is_known and _agrees(files):
                _opened[id(connection)] = connection
                self._unmounted = files.database
                return connection
        except BaseException:
            held.end()
            connection.close()
            raise
        self._close_aside(connection)
        return None

    def _prepare(self, connection: FileConnection) -> bool:
        """Tell whether it has a write-ahead log."""
        run(connection, self._statements["use_extra_sync"])
        if _journal_mode(connection, self._statements["journal_mode"]) == "wal":
            return True
        if not self._may_change:
            return False
        try:
            mode = _journal_mode(connection, self._statements["use_wal"])
            # Now, before it is noted which files there are.
            run(connection, self._statements["open_log"])
        except own(sqlite3.OperationalError):
            return False  # read-only, or another process is switching it at this moment
        if mode != "wal":
            logger.warning("%r: this file system has no write-ahead log; using journal mode %s", self._path, mode)
        return mode == "wal"

    def close(self, connection: FileConnection) -> None:
        self._writers.end(connection)  # where restore() was interrupted
        with suppress_own(sqlite3.Error):
            if connection.is_in_place():
                connection.held.end()  # first: who closes the file last is to have it alone
                connection.close()
            else:
                self._close_aside(connection)
        _opened.pop(id(connection), None)
        close_unused()

    def _close_aside(self, connection: FileConnection) -> None:
        """Close, and copy nothing from the log into a file that has come into the place of its own."""
        was, now = connection.files, files_at(connection.path, connection.target)
        if was and was.wal and was.wal == now.wal and was.database != now.database:
            # The log was left behind, and would be taken for the new file's.
            with suppress_own(sqlite3.Error):
                run(connection, self._statements["empty_log"])
        _leave(connection, connection.held)
        close_unused()

    def is_alive(self, connection: FileConnection) -> bool:
        # A file that was removed or replaced would take what we write with it.
        return connection.is_in_place()

    def restore(self, connection: FileConnection, exc: BaseException) -> bool:
        try:
            return _roll_back(connection)
        finally:
            self._writers.end(connection)

    def inherit(self, idle: Sequence[FileConnection], busy: Sequence[FileConnection | None]) -> None:
        self._writers.restart()
        for inherited in (*idle, *busy):
            _opened.pop(id(inherited), None)
        if busy:
            _inherited.extend(connection for connection in (*idle, *busy) if connection is not None)
            with suppress(OSError):
                _unsafe_files.append(os.stat(self._path))
            return
        for connection in idle:
            held = NOTHING
            with suppress_own(OSError):
                held = hold(connection.target)
            # The parent may have ended long ago, and the write-ahead log be another process's.
            with suppress_own(sqlite3.Error):
                _leave(connection, held)
        close_unused()

    def release(self) -> None:
        close_unused()


class MemoryConnector:
    """One connection that is the database; a forked child goes on with a copy of its own."""

    max_connections: int | None = 1  # more would be more databases
    quiesce_at_fork = True
    close_at_fork = False

    def __init__(self, writers: Writers) -> None:
        self._writers = writers
        self._kept: sqlite3.Connection | None = None
        self._lost = False

    def open(self) -> sqlite3.Connection:
        if self._lost:
            raise AttemptFailed(_FORKED, sqlite3.OperationalError("the database was in use when its process forked"))
        # Kept here as well: Ctrl-C may make the pool forget it, and with it the database.
        if self._kept is None:
            self._kept = _connect("file::memory:", 0)
        _roll_back(self._kept)
        return self._kept

    def close(self, connection: sqlite3.Connection) -> None:
        """Keep it: whatever was interrupted, the next operation begins with a rollback."""
        self._writers.end(connection)  # where restore() was interrupted

    def is_alive(self, connection: sqlite3.Connection) -> bool:
        return True

    def restore(self, connection: sqlite3.Connection, exc: BaseException) -> bool:
        try:
            return _roll_back(connection)
        finally:
            self._writers.end(connection)

    def inherit(self, idle: Sequence[sqlite3.Connection], busy: Sequence[sqlite3.Connection | None]) -> None:
        self._writers.restart()
        if busy and self._kept is not None:
            # A lock inside it may be held for ever.
            _inherited.append(self._kept)
            self._kept, self._lost = None, True

    def release(self) -> None:
        if self._kept is not None:
            self._kept.close()


def _uri_of(path: str) -> str:
    """Return what Path.as_uri() does, for which Python 3.14 imports all of urllib.request."""
    return Path(path).as_uri() if os.name == "nt" else f"file://{quote(os.fsencode(path))}"


def _connect(uri: str, timeout: float) -> FileConnection:
    # Not sqlite3.connect(), which may be a tracing tool's by now, whose proxies no cursor takes.
    return FileConnection(
        uri,
        timeout=timeout,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_KEPT_STATEMENTS,
        uri=True,
    )


def _leave(connection: FileConnection, held: Hold) -> None:
    """Close, and neither copy the log into the file nor remove what has its name."""
    if sys.version_info >= (3, 12):
        connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)
    else:
        held.lock()  # SQLite does either only where it has the file alone
        connection.interrupt()  # without such locks: it gives the copying up
    connection.close()
    held.end()


def _agrees(files: Files) -> bool:
    """Tell whether no connection of this process has some of these files together with others."""
    others = [other.files for reference in _opened.valuerefs() if (other := reference()) is not None]
    return all(
        other == files
        for other in others
        if other and other.shm and (other.database == files.database or other.shm == files.shm)
    )


def _refuse_unsafe(path: str) -> None:
    if not _unsafe_files:
        return
    with suppress(FileNotFoundError):
        file = os.stat(path)
        if any(os.path.samestat(file, unsafe) for unsafe in _unsafe_files):
            raise AttemptFailed(_FORKED, sqlite3.OperationalError("the file was in use when its process forked"))


def _roll_back(connection: sqlite3.Connection) -> bool:
    with suppress_own(sqlite3.Error):
        connection.rollback()
    return not connection.in_transaction


def _journal_mode(connection: sqlite3.Connection, statement: str) -> str:
    return str(run(connection, statement)[0][0][0])
