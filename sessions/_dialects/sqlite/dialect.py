"""The operations in SQLite, through sqlite3.

One transaction and one fsync a write. Writers of this process queue on a lock of ours,
which is fairer and quicker than SQLite's busy loop; those of other processes on SQLite's.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any

from sessions._checks import Check, times_check
from sessions._cursors import REST, YEAR
from sessions._dialects.dialect import Dialect
from sessions._dialects.driver import Parameters
from sessions._dialects.failures import Failure
from sessions._items import MAX_ID
from sessions._reentry import own, suppress_own
from sessions._settings.options import Options
from sessions.errors import ConfigurationError, hiding_error, kept_error, low_id_error, numberless_error, used_up_error

from .checks import autoincrement_check, journal_check
from .connection import FileConnection
from .errors import DURING_COMMIT, MOVED, MOVED_DURING_COMMIT, describe, failure_of
from .values import decode, fetch, refuse_noncharacters, run, unadapted
from .writers import Writers


class SQLiteDialect(Dialect[sqlite3.Connection]):
    """The words of SQLite."""

    name = "sqlite"
    identifier_quote = '"'
    driver_error = sqlite3.Error
    lock_newest_statement = "newest_items"  # within a transaction that has the write lock
    listed_times = rf"{YEAR}{REST}|~"
    settles = False  # there is no network between
    indexes_hold_the_key = True

    def __init__(self, options: Options) -> None:
        for table in (options.sessions_table, options.messages_table):
            if "." in table or table.lower().startswith("sqlite_"):
                raise ConfigurationError(
                    f"table name {table!r} cannot be used with SQLite; give a name without schema and 'sqlite_'"
                )
        super().__init__(options)
        self.writers = Writers()
        self._statement_timeout = options.statement_timeout

    def execute(self, connection: sqlite3.Connection, name: str, parameters: Parameters) -> list[Any]:
        statement = self.statements[name]
        each = list(unadapted([parameters]))
        try:
            return fetch(connection, statement, each, str)
        except own(sqlite3.OperationalError) as exc:
            if "Could not decode" not in str(exc):
                raise
        return fetch(connection, statement, each, decode)

    def change(self, connection: sqlite3.Connection, name: str, parameters: Parameters) -> int:
        statement = self.statements[name]
        rows, changed, _ = run(connection, statement, unadapted([parameters]))
        # A query has no rowcount. With PRAGMA count_changes other statements have a row, which tells theirs.
        return len(rows) if statement.startswith("SELECT") else changed

    def change_alone(self, connection: sqlite3.Connection, name: str, parameters: Parameters) -> int:
        with self.transaction(connection):
            return self.change(connection, name, parameters)

    def list_parameter(self, connection: sqlite3.Connection, texts: Sequence[str]) -> object:
        refuse_noncharacters(connection, texts)  # in JSON they are escaped
        return json.dumps(list(texts))

    def orders_by_code_points(self, connection: sqlite3.Connection) -> bool:
        # In UTF-16 by its bytes.
        return bool(self.execute(connection, "encoding", {}) == [("UTF-8",)])

    def begin(self, connection: sqlite3.Connection) -> None:
        deadline = monotonic() + self._statement_timeout
        self.writers.take(connection)
        if monotonic() > deadline:
            raise sqlite3.OperationalError("database is locked")
        run(connection, self.statements["begin"])

    def finish(self, connection: sqlite3.Connection) -> None:
        _check_place(connection, MOVED)
        _commit(run, connection, self.statements["commit"])
        self.writers.end(connection)
        _check_place(connection, MOVED_DURING_COMMIT)

    def undo(self, connection: sqlite3.Connection, exc: BaseException) -> None:
        try:
            if connection.in_transaction:
                with suppress_own(sqlite3.Error):
                    run(connection, self.statements["rollback"])
        finally:
            self.writers.end(connection)

    def commit(self, connection: sqlite3.Connection) -> None:
        _commit(self._end, connection, "commit")

    def roll_back(self, connection: sqlite3.Connection) -> None:
        self._end(connection, "rollback")

    def _end(self, connection: sqlite3.Connection, name: str) -> None:
        # Where autocommit is True the methods do nothing; where it is False they also begin the next transaction.
        if _autocommit(connection) is not True:
            getattr(connection, name)()
        elif connection.in_transaction:
            run(connection, self.statements[name])

    def end_turn(self, connection: sqlite3.Connection) -> None:
        self.writers.end(connection)

    def check_lent(self, connection: sqlite3.Connection) -> None:
        # What is written to it would be gone with the connection, and what is there is hidden by it.
        hidden: set[str] = set()
        with suppress_own(sqlite3.DatabaseError):  # of an authorizer, or what the operation itself will meet
            hidden = {str(name).lower() for (name,) in self.execute(connection, "temporary_tables", {})}
        for table in self.tables:
            if table.lower() in hidden:
                raise hiding_error(table)

    def lacks_savepoint(self, exc: BaseException) -> bool:
        return "no such savepoint" in str(exc)  # SQLite has no code for it, and never translates

    def in_transaction(self, connection: sqlite3.Connection) -> bool:
        return connection.in_transaction

    def was_begun(self, connection: sqlite3.Connection) -> bool:
        if _autocommit(connection) is False:
            raise ConfigurationError(
                "the pool lends connections with autocommit=False, on which sqlite3 keeps a transaction open, so that "
                "nobody can tell whether something was done in it; open them with autocommit=True, or without"
            )
        return connection.in_transaction

    def join_transaction(self, connection: sqlite3.Connection, *, writes: bool) -> bool:
        if writes and _begins_implicitly(connection) and not connection.in_transaction:
            self.execute(connection, "begin", {})
        return connection.in_transaction

    def insert(self, connection: sqlite3.Connection, session_id: str, texts: Sequence[str]) -> int:
        rows = ({"session_id": session_id, "message_data": text} for text in texts)
        return self._insert(connection, "insert_item", rows, len(texts), session_id)

    def load(self, connection: sqlite3.Connection, session_id: str, texts: Sequence[str], times: Sequence[str]) -> int:
        rows = (
            {"session_id": session_id, "message_data": text, "created_at": time}
            for text, time in zip(texts, times, strict=True)
        )
        return self._insert(connection, "load_item", rows, len(texts), session_id)

    def _insert(
        self, connection: sqlite3.Connection, name: str, rows: Iterable[Parameters], count: int, session_id: str
    ) -> int:
        _, written, newest = run(connection, self.statements[name], unadapted(rows))
        if written != count:
            raise kept_error(session_id)
        newest = newest or 0
        # SQLite numbers the row; only an INTEGER PRIMARY KEY is that number, and another column is left NULL.
        [(is_there, highest)] = self.execute(connection, "find_written", {"session_id": session_id, "id": newest})
        if count and not is_there:
            raise numberless_error()
        # They ascend: where the newest is not as high as there are rows, the first is below 1.
        if newest < count:
            raise low_id_error(newest - count + 1)
        # Behind the last id of all it gives any that is free, unless the table has AUTOINCREMENT.
        if count and newest < highest == MAX_ID:
            raise used_up_error()
        return newest

    def mend(self, connection: sqlite3.Connection, statement: str) -> None:
        if statement == self.statements["use_wal"]:  # not possible in a transaction
            run(connection, statement)
            return
        with self.transaction(connection):
            run(connection, statement)

    def own_checks(self, connection: sqlite3.Connection) -> list[Check]:
        messages = self.tables[1]
        [(count,)] = self.execute(connection, "autoincrement", self.named(messages))
        rows = self.execute(connection, "newest_times", {})
        strange = [
            f"{name} is {stored}"
            for updated, is_known, created, is_known_too in rows
            for name, stored, known in (
                ("updated_at", updated, is_known),
                ("created_at of messages", created, is_known_too),
            )
            if not known
        ]
        return [
            times_check(strange),
            autoincrement_check(messages, found=bool(count)),
            journal_check(self.execute(connection, "journal_mode", {})[0][0], self.statements["use_wal"]),
        ]

    def failure(self, exc: Exception) -> Failure:
        return failure_of(exc)

    def words_of(self, exc: BaseException) -> str:
        return describe(exc)


def _check_place(connection: sqlite3.Connection, failure: str) -> None:
    """Raise what failure says when what is written is in files that nobody else will read."""
    if isinstance(connection, FileConnection) and not connection.is_in_place():
        raise sqlite3.OperationalError(failure)


def _commit(
    commit: Callable[[sqlite3.Connection, str], object], connection: sqlite3.Connection, statement: str
) -> None:
    """Commit, and say so where the disk fails in it: the log may hold the whole transaction by then."""
    try:
        commit(connection, statement)
    except own(sqlite3.Error) as exc:
        if getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF != sqlite3.SQLITE_IOERR:
            raise
        raise sqlite3.OperationalError(f"{exc} {DURING_COMMIT}") from exc


def _begins_implicitly(connection: sqlite3.Connection) -> bool:
    """Tell whether a write belongs to a transaction that the application ends."""
    autocommit = _autocommit(connection)
    return autocommit is False or (autocommit is not True and connection.isolation_level is not None)


def _autocommit(connection: sqlite3.Connection) -> object:
    """Return the attribute of Python 3.12; set to True or False it leaves isolation_level without a meaning."""
    return getattr(connection, "autocommit", None)
