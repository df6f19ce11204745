"""Sessions in a SQLite file, or in SQLite's memory.

One transaction and one fsync a write. Writers of this process queue on a lock of ours,
which is fairer and quicker than SQLite's busy loop; those of other processes on SQLite's.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

from ._dbapi import DBAPIBackend, Lender, Parameters
from ._options import Options
from ._pool import Connector, Pool
from ._retry import AttemptFailed, Failure
from ._url import Address
from .backend import MAX_ID, Row
from .errors import ConfigurationError, ConnectionFailedError, DatabaseError, SchemaError

logger = logging.getLogger("sessions")

# SQLite's own texts (sqlite3ErrStr), which are stable and never translated; result codes
# are visible from Python 3.11 only.
_FAILURES: Mapping[str, Failure] = {
    "is locked": Failure(
        remedy="another connection kept the file locked for longer than statement_timeout", transient=True
    ),
    "no such table": Failure(
        SchemaError, "create the tables by connecting once with create_tables=True", missing_tables=True
    ),
    "no such column": Failure(SchemaError, "give other table names, or add what is missing"),
    "has no column": Failure(SchemaError, "give other table names, or add what is missing"),
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

# Connections inherited through fork(), kept from being closed: to close them would let go
# of the parent's locks and, in a transaction, destroy its file.
_inherited: list[sqlite3.Connection] = []


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

    def abandon(self, connection: FileConnection) -> None:
        _inherited.append(connection)
        self._writers.restart()

    def release(self) -> None:
        pass


class MemoryConnector:
    """One connection that is the database; a forked child goes on with a copy of its own."""

    quiesce_at_fork = True
    close_at_fork = False

    def __init__(self, writers: Writers) -> None:
        self._writers = writers
        self._kept: sqlite3.Connection | None = None

    def open(self) -> sqlite3.Connection:
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

    def abandon(self, connection: sqlite3.Connection) -> None:
        self._kept = connection
        self._writers.restart()

    def release(self) -> None:
        if self._kept is not None:
            self._kept.close()


def _connect(path: str, timeout: float) -> FileConnection:
    return sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False, factory=FileConnection)


def _rows(
    connection: sqlite3.Connection, statement: str, parameters: Parameters, text: Callable[[bytes], str]
) -> list[Any]:
    """Execute with our own kind of cursor and of text, whatever factories an application's connection has."""
    factory = connection.text_factory
    connection.text_factory = text
    try:
        return sqlite3.Cursor(connection).execute(statement, parameters).fetchall()
    finally:
        connection.text_factory = factory


def _text(stored: bytes) -> str:
    """Decode a text; what is not UTF-8 is no JSON either, and the empty text stands for it."""
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return ""


def _roll_back(connection: sqlite3.Connection) -> bool:
    with suppress(sqlite3.Error):
        connection.rollback()
    return not connection.in_transaction


def _autocommits(connection: sqlite3.Connection) -> bool:
    """Tell whether the attribute of Python 3.12 is set to True; isolation_level has no meaning then."""
    return getattr(connection, "autocommit", None) is True


def _journal_mode(connection: sqlite3.Connection, statement: str) -> str:
    return str(connection.execute(statement).fetchone()[0])


class SQLiteBackend(DBAPIBackend[sqlite3.Connection]):
    """Sessions in one SQLite database."""

    dialect = "sqlite"
    identifier_quote = '"'
    driver_error = sqlite3.Error

    def __init__(
        self, where: str, options: Options, lender: Lender[sqlite3.Connection], writers: Writers | None = None
    ) -> None:
        _check_options(options)
        self._writers = writers or Writers()
        super().__init__(where, options, lender)

    @classmethod
    def from_address(cls, address: Address, options: Options) -> SQLiteBackend:
        """Make a backend with a pool of its own; sessions.connect() does this."""
        _check_options(options)
        writers = Writers()
        connector: Connector[Any]
        if address.database is None:
            # More connections would be more databases.
            connector, size = MemoryConnector(writers), 1
        else:
            statements = cls.load_statements(options)
            connector = FileConnector(address.database, options.statement_timeout, statements, writers)
            size = options.pool_size
        pool: Pool[Any] = Pool(connector, size=size, timeout=options.connection_timeout)
        return cls(str(address), options, pool, writers)

    def fetch(self, connection: sqlite3.Connection, name: str, parameters: Parameters) -> list[Any]:
        statement = self._statements[name]
        try:
            if isinstance(connection, FileConnection):
                return connection.execute(statement, parameters).fetchall()
            return _rows(connection, statement, parameters, str)
        except sqlite3.OperationalError as exc:
            if "Could not decode" not in str(exc):
                raise
        return _rows(connection, statement, parameters, _text)

    @contextmanager
    def transaction(self, connection: sqlite3.Connection) -> Iterator[None]:
        if connection.in_transaction:
            yield
            return
        deadline = monotonic() + self._options.statement_timeout
        # Not acquire(timeout=...): a Ctrl-C just behind it would leave the lock held.
        with self._writers.lock:
            if monotonic() > deadline:
                raise sqlite3.OperationalError("database is locked")
            self.fetch(connection, "begin", {})
            try:
                yield
                self.fetch(connection, "commit", {})
            except BaseException:
                with suppress(sqlite3.Error):
                    self.fetch(connection, "rollback", {})
                raise

    def in_transaction(self, connection: sqlite3.Connection) -> bool:
        return connection.in_transaction

    def join_transaction(self, connection: sqlite3.Connection, *, writes: bool) -> bool:
        implicit = connection.isolation_level is not None and not _autocommits(connection)
        if writes and implicit and not connection.in_transaction:
            self.fetch(connection, "begin", {})
        return connection.in_transaction

    def insert(self, connection: sqlite3.Connection, session_id: str, texts: Sequence[str]) -> int:
        statement = self._statements["insert_item"]
        cursor = sqlite3.Cursor(connection)
        cursor.executemany(statement, ({"session_id": session_id, "message_data": text} for text in texts[:-1]))
        # executemany() tells no id.
        cursor.execute(statement, {"session_id": session_id, "message_data": texts[-1]})
        return cursor.lastrowid or 0

    def pop(self, connection: sqlite3.Connection, session_id: str) -> Row | None:
        with self.transaction(connection):
            rows = self.fetch(connection, "newest_items", {"session_id": session_id, "count": 1, "before": MAX_ID})
            if not rows:
                return None
            self.fetch(connection, "delete_item", {"session_id": session_id, "id": rows[0][0]})
            return rows[0]  # type: ignore[no-any-return]

    def delete(self, connection: sqlite3.Connection, session_id: str) -> None:
        with self.transaction(connection):
            self.fetch(connection, "delete_items", {"session_id": session_id})
            self.fetch(connection, "delete_session", {"session_id": session_id})

    def failure(self, exc: Exception) -> Failure:
        return failure_of(exc)

    def describe(self, exc: BaseException) -> str:
        return str(exc)


def failure_of(exc: BaseException) -> Failure:
    """Say what an exception of sqlite3 means."""
    text = str(exc)
    return next((failure for fragment, failure in _FAILURES.items() if fragment in text), Failure(DatabaseError))


def _check_options(options: Options) -> None:
    for name in ("ssl", "password"):
        if getattr(options, name) is not None:
            raise ConfigurationError(f"{name} is given, but SQLite knows none; drop it")
    for table in (options.sessions_table, options.messages_table):
        if "." in table or table.lower().startswith("sqlite_"):
            raise ConfigurationError(
                f"table name {table!r} cannot be used with SQLite; give a name without schema and 'sqlite_'"
            )
