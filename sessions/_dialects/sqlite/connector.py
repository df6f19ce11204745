"""Connections to a SQLite file, or to SQLite's memory."""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from sessions._dialects.failures import AttemptFailed, Failure
from sessions.errors import ConnectionFailedError

from .errors import failure_of

logger = logging.getLogger("sessions")

# What was in use when the process was forked. The connections are kept from being closed, which would roll back the
# parent's transaction and may destroy its file. SQLite believes to hold their locks, which are the parent's alone: no
# other connection to these files is safe in this process.
_inherited: list[sqlite3.Connection] = []
_unsafe_files: list[os.stat_result] = []

_FORKED = Failure(ConnectionFailedError, "fork while no operation is in progress, or start the process by spawn")


class Writers:
    """The queue of this process's writers to one database."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Begin anew in a forked child, where a thread that held the lock does not exist."""
        self.lock = threading.Lock()


class FileConnection(sqlite3.Connection):
    """A connection that knows which file it opened."""

    file: os.stat_result

    def __del__(self) -> None:
        """Say nothing: the pool closes it, or it is another process's."""


class FileConnector:
    """Opens a file. A file that does not exist is made, readable for its owner alone."""

    max_connections: int | None = None
    quiesce_at_fork = True
    # SQLite knows an inherited connection of the process as its own, but not its locks: the parent would
    # remove the write-ahead log under its child.
    close_at_fork = True

    def __init__(self, path: str, timeout: float, statements: Mapping[str, str], writers: Writers) -> None:
        # A later chdir() must not lead to another file.
        self._path = os.path.abspath(path)
        self._timeout = timeout
        self._statements = statements
        self._writers = writers

    def open(self) -> FileConnection:
        try:
            _refuse_unsafe(self._path)
            if not os.access(self._path, os.F_OK):
                with suppress(FileExistsError):
                    os.close(os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            connection = _connect(self._path, self._timeout)
        except OSError as exc:
            failure = Failure(ConnectionFailedError, "create the directory, or give this process access to it")
            raise AttemptFailed(failure, exc) from None
        except sqlite3.Error as exc:
            raise AttemptFailed(failure_of(exc), exc) from None
        try:
            self._prepare(connection)
            connection.file = os.stat(self._path)
        except BaseException as exc:
            connection.close()
            if isinstance(exc, sqlite3.Error):
                raise AttemptFailed(failure_of(exc), exc) from None
            if isinstance(exc, OSError):
                raise AttemptFailed(Failure(ConnectionFailedError, "the file was removed meanwhile"), exc) from None
            raise
        return connection

    def _prepare(self, connection: FileConnection) -> None:
        connection.execute(self._statements["use_full_sync"])
        if _journal_mode(connection, self._statements["journal_mode"]) == "wal":
            return
        try:
            mode = _journal_mode(connection, self._statements["use_wal"])
        except sqlite3.OperationalError:
            return  # read-only, or another process is switching it at this moment
        if mode != "wal":
            logger.warning("%r: this file system has no write-ahead log; using journal mode %s", self._path, mode)

    def close(self, connection: FileConnection) -> None:
        with suppress(sqlite3.Error):
            connection.close()

    def is_alive(self, connection: FileConnection) -> bool:
        # A file that was removed or replaced would take what we write with it.
        try:
            return os.path.samestat(os.stat(self._path), connection.file)
        except OSError:
            return False

    def restore(self, connection: FileConnection, exc: BaseException) -> bool:
        return _roll_back(connection)

    def inherit(self, idle: Sequence[FileConnection], busy: Sequence[FileConnection | None]) -> None:
        self._writers.restart()
        if busy:
            _inherited.extend(connection for connection in (*idle, *busy) if connection is not None)
            with suppress(OSError):
                _unsafe_files.append(os.stat(self._path))
            return
        for connection in idle:
            with suppress(sqlite3.Error):
                if sys.version_info >= (3, 12):
                    # The parent may have ended long ago, and the write-ahead log be another process's.
                    connection.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)
                connection.close()

    def release(self) -> None:
        pass


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
            self._kept = _connect(":memory:", 0)
        _roll_back(self._kept)
        return self._kept

    def close(self, connection: sqlite3.Connection) -> None:
        """Keep it: whatever was interrupted, the next operation begins with a rollback."""

    def is_alive(self, connection: sqlite3.Connection) -> bool:
        return True

    def restore(self, connection: sqlite3.Connection, exc: BaseException) -> bool:
        return _roll_back(connection)

    def inherit(self, idle: Sequence[sqlite3.Connection], busy: Sequence[sqlite3.Connection | None]) -> None:
        self._writers.restart()
        if busy and self._kept is not None:
            # A lock inside it may be held for ever.
            _inherited.append(self._kept)
            self._kept, self._lost = None, True

    def release(self) -> None:
        if self._kept is not None:
            self._kept.close()


def _connect(path: str, timeout: float) -> FileConnection:
    return sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False, factory=FileConnection)


def _refuse_unsafe(path: str) -> None:
    if not _unsafe_files:
        return
    with suppress(FileNotFoundError):
        file = os.stat(path)
        if any(os.path.samestat(file, unsafe) for unsafe in _unsafe_files):
            raise AttemptFailed(_FORKED, sqlite3.OperationalError("the file was in use when its process forked"))


def _roll_back(connection: sqlite3.Connection) -> bool:
    with suppress(sqlite3.Error):
        connection.rollback()
    return not connection.in_transaction


def _journal_mode(connection: sqlite3.Connection, statement: str) -> str:
    return str(connection.execute(statement).fetchone()[0])
