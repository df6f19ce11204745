"""Connections to a SQLite file, or to SQLite's memory."""

from __future__ import annotations

import errno
import gc
import logging
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from time import monotonic, sleep

from sessions._dialects.failures import NO_DESCRIPTOR, NO_DESCRIPTORS, AttemptFailed, Failure
from sessions._reentry import own, suppress_own
from sessions._settings.options import Options
from sessions.errors import ConfigurationError, ConnectionFailedError

from .connection import FileConnection, agrees, connect, forget, leave, note, roll_back, uri_of
from .errors import DIRECTORY, INHERITED, LINKED, MOUNTED, MOVED, STALE_LOG, UNNAMEABLE, failure_of, is_damage
from .files import Files, Identity, files_at, is_empty, is_mounted
from .holds import NOTHING, Hold, close_unused, hold, make_private, part_from_log, stand_in
from .values import run
from .writers import Writers

logger = logging.getLogger("sessions")

# What was in use when the process was forked. The connections are kept from being closed, which would roll back the
# parent's transaction and may destroy its file. SQLite believes to hold their locks, which are the parent's alone: no
# other connection to these files is safe in this process.
_inherited: list[sqlite3.Connection] = []
_unsafe_files: list[os.stat_result] = []
# Whether an opening was interrupted: between two steps it may have dropped a connection, which only the collector
# closes, and with which no forked child gets the file.
_interrupted: list[bool] = []

_FORKED = Failure(ConnectionFailedError, "fork while no operation is in progress, or start the process by spawn")

# After how many seconds a file is opened again that is replaced, or closed by another thread, at just that moment.
_PAUSES = (0.0, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
# Of how many files is known that none is mounted over them.
_MANY_FILES = 1000
# How often is asked whether who closes a file has done it.
_LOOK_SECONDS = 0.002
# In seconds. SQLite has milliseconds in 31 bits, and with a number beyond them does not wait at all.
_LONGEST_WAIT = 2_147_483.0


class FileConnector:
    """Opens a file. A file that does not exist is made, readable for its owner alone."""

    max_connections: int | None = None
    quiesce_at_fork = True

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
        if path.startswith("~"):
            self._remedy += " (nothing expands a '~' here: write the directory out, as os.path.expanduser() does)"
        elif self._path != path and not Path(path).is_absolute():
            self._remedy += f" ({path!r} begins at the current directory; write sqlite:////{path} for an absolute path)"
        self._timeout = min(options.statement_timeout, _LONGEST_WAIT)
        # A file in which we are to make nothing may be another application's: its journal mode stays.
        self._may_change = options.create_tables
        self._statements = statements
        self._writers = writers
        self._standing_in = NOTHING  # for the connections that were closed for a fork

    def open(self) -> FileConnection:
        try:
            connection = self._open()
            self._end_standing_in()
            return connection
        except AttemptFailed:
            raise
        except BaseException:
            _interrupted.append(True)
            raise

    def _open(self) -> FileConnection:
        try:
            _refuse_unsafe(self._path)
            for pause in _PAUSES:
                if pause:
                    sleep(pause)
                connection = self._open_once()
                if connection is not None:
                    return connection
        except own(OSError) as exc:
            is_long = exc.errno == errno.ENAMETOOLONG
            unreadable = Failure(ConnectionFailedError, "give a shorter path" if is_long else self._remedy)
            raise AttemptFailed(NO_DESCRIPTORS if exc.errno in NO_DESCRIPTOR else unreadable, exc) from None
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
        held = hold(target)
        connection = None
        try:
            connection = self._open_held(target, held)
        finally:
            if connection is None:
                held.end()
                close_unused()
        return connection

    def _open_held(self, target: str, held: Hold) -> FileConnection | None:
        had_log = self._lock(held)
        # Behind it: from here on a log stays.
        before = files_at(self._path, target)
        if before.names and before.names > 1:
            raise AttemptFailed(LINKED, sqlite3.OperationalError(f"the file has {before.names} names (hard links)"))
        _refuse_mounted(target, before.database)
        if not agrees(before):
            return None
        if not had_log and not is_empty(f"{target}-wal"):
            if self._lock(held):
                return None  # somebody has just given it one
            stale = sqlite3.OperationalError("a write-ahead log stands beside a file that has none")
            raise AttemptFailed(STALE_LOG, stale)
        if held.is_inherited():
            raise AttemptFailed(INHERITED, sqlite3.OperationalError("a connection to the file was open at the fork"))
        try:
            return self._connect(target, held, before, had_log=had_log)
        except own(sqlite3.Error):
            # SQLite opens the file, its log and the index one after the other, by their names.
            if before.may_have_become(files_at(self._path, target)):
                raise
        return None

    def _connect(self, target: str, held: Hold, before: Files, *, had_log: bool) -> FileConnection | None:
        connection = connect(f"{uri_of(target)}?mode=rw", self._timeout)
        try:
            connection.held = held
            has_log = self._prepare(connection)
            connection.path, connection.target = self._path, target
            connection.files = files = files_at(self._path, target)
            # With a log and no index it was given that of another connection, which is no longer in place. One that has
            # a log only now opens it the next time, when it is held.
            is_whole = not has_log or (had_log and files.wal and files.shm and held.has_index(files.shm))
            is_known = is_whole and before.may_have_become(files) and held.is_on(files.database)
            if is_known and agrees(files):
                note(connection)
                return connection
        except BaseException:
            leave(connection, held)
            raise
        self._close_aside(connection)
        return None

    def _lock(self, held: Hold) -> bool:
        """Hold the log, if there is one, before it is opened; wait for somebody who is just closing the file."""
        latest = monotonic() + self._timeout
        while (has_log := held.lock()) is None:
            if monotonic() > latest:
                raise sqlite3.OperationalError("database is locked")
            sleep(_LOOK_SECONDS)
        return has_log

    def _prepare(self, connection: FileConnection) -> bool:
        """Tell whether it has a write-ahead log, or will have one when it is opened again."""
        run(connection, self._statements["use_extra_sync"])
        if _journal_mode(connection, self._statements["journal_mode"]) == "wal":
            return True
        if not self._may_change:
            return False
        try:
            mode = _journal_mode(connection, self._statements["use_wal"])
        except own(sqlite3.OperationalError):
            return False  # read-only, or another process is switching it at this moment
        if mode != "wal":
            logger.warning("%r: this file system has no write-ahead log; using journal mode %s", self._path, mode)
        return mode == "wal"

    def close(self, connection: FileConnection) -> None:
        self._writers.end(connection)  # where restore() was interrupted
        with suppress_own(sqlite3.Error):
            if connection.is_damaged:
                leave(connection, connection.held)
            elif connection.is_in_place():
                self._empty_log(connection)
                connection.close()
                connection.held.end()
            else:
                self._close_aside(connection)
        forget(connection)
        close_unused()

    def _empty_log(self, connection: FileConnection) -> None:
        """Do what SQLite does at the last close, which it does not see under the hold; wait for nobody."""
        if connection.held.is_last() and not is_empty(f"{connection.target}-wal"):
            with suppress_own(sqlite3.Error):
                connection.rollback()
                run(connection, self._statements["wait_for_nobody"])
                run(connection, self._statements["empty_log"])

    def _close_aside(self, connection: FileConnection) -> None:
        """Close, and copy nothing from the log into a file that has come into the place of its own."""
        was, now = connection.files, files_at(connection.path, connection.target)
        if was and was.wal and was.wal == now.wal and was.database != now.database:
            # The log was left behind, and would be taken for the new file's; unless that is what it is by now.
            with suppress_own(sqlite3.Error, OSError):
                part_from_log(connection.target, lambda: run(connection, self._statements["empty_log"]))
        leave(connection, connection.held)
        close_unused()

    def is_alive(self, connection: FileConnection) -> bool:
        # A file that was removed or replaced would take what we write with it.
        return connection.is_in_place()

    def restore(self, connection: FileConnection, exc: BaseException) -> bool:
        connection.is_damaged = is_damage(exc)
        try:
            return roll_back(connection) and not connection.is_damaged
        finally:
            self._writers.end(connection)

    def before_fork(self, idle: Iterator[FileConnection]) -> None:
        # SQLite knows an inherited connection of the process as its own, but not its locks: the parent would
        # remove the write-ahead log under its child. The file stays held: an application that has it open may read it
        # before anything is opened in here again, in another thread even while this one forks.
        for connection in idle:
            if self._standing_in is NOTHING:
                with suppress_own(OSError):
                    self._standing_in = stand_in(connection.target)
            self.close(connection)
        if not self._standing_in.is_of_use():
            self._end_standing_in()

    def _end_standing_in(self) -> None:
        if self._standing_in is not NOTHING:
            ended, self._standing_in = self._standing_in, NOTHING
            ended.end()
            close_unused()

    def inherit(self, idle: Sequence[FileConnection], busy: Sequence[FileConnection | None]) -> None:
        self._writers.restart()
        self._standing_in = NOTHING  # the parent's
        for inherited in (*idle, *busy):
            forget(inherited)
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
                leave(connection, held)
        close_unused()

    def release(self) -> None:
        if self._standing_in.has_log():
            # Who has written since has left its log to us.
            with suppress_own(AttemptFailed, sqlite3.Error, OSError):
                self.close(self.open())
        self._end_standing_in()
        close_unused()


class MemoryConnector:
    """One connection that is the database; a forked child goes on with a copy of its own."""

    max_connections: int | None = 1  # more would be more databases
    quiesce_at_fork = True

    def __init__(self, writers: Writers) -> None:
        self._writers = writers
        self._kept: sqlite3.Connection | None = None
        self._lost = False

    def open(self) -> sqlite3.Connection:
        if self._lost:
            raise AttemptFailed(_FORKED, sqlite3.OperationalError("the database was in use when its process forked"))
        # Kept here as well: Ctrl-C may make the pool forget it, and with it the database.
        if self._kept is None:
            self._kept = connect("file::memory:", 0)
        roll_back(self._kept)
        return self._kept

    def close(self, connection: sqlite3.Connection) -> None:
        """Keep it: whatever was interrupted, the next operation begins with a rollback."""
        self._writers.end(connection)  # where restore() was interrupted

    def is_alive(self, connection: sqlite3.Connection) -> bool:
        return True

    def restore(self, connection: sqlite3.Connection, exc: BaseException) -> bool:
        try:
            return roll_back(connection)
        finally:
            self._writers.end(connection)

    def before_fork(self, idle: Iterator[sqlite3.Connection]) -> None:
        pass

    def inherit(self, idle: Sequence[sqlite3.Connection], busy: Sequence[sqlite3.Connection | None]) -> None:
        self._writers.restart()
        if busy and self._kept is not None:
            # A lock inside it may be held for ever.
            _inherited.append(self._kept)
            self._kept, self._lost = None, True

    def release(self) -> None:
        if self._kept is not None:
            self._kept.close()


def _close_dropped() -> None:
    if _interrupted:
        _interrupted.clear()
        gc.collect()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_close_dropped)


@lru_cache(maxsize=_MANY_FILES)
def _refuse_mounted(target: str, _database: Identity) -> None:
    """Asked once: what is mounted over a file later is another file."""
    if is_mounted(target):
        raise AttemptFailed(MOUNTED, sqlite3.OperationalError("the file is mounted without its directory"))


def _refuse_unsafe(path: str) -> None:
    if not _unsafe_files:
        return
    with suppress(FileNotFoundError):
        file = os.stat(path)
        if any(os.path.samestat(file, unsafe) for unsafe in _unsafe_files):
            raise AttemptFailed(_FORKED, sqlite3.OperationalError("the file was in use when its process forked"))


def _journal_mode(connection: sqlite3.Connection, statement: str) -> str:
    return str(run(connection, statement)[0][0][0])
