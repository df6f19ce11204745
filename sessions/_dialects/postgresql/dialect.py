"""The operations in PostgreSQL, through psycopg 3.

One autocommitted statement, and so one round trip, for each common operation: writes
use data-modifying CTEs. Nothing relies on the state of a server session, so a pooler
in transaction mode may stand between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from time import monotonic, sleep
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from sessions._checks import Check
from sessions._dialects.dialect import Columns, Dialect, Parameters, may_be_cut, position_of, whole
from sessions._dialects.failures import Failure, Opened, is_of_an_answer
from sessions._dialects.sockets import is_readable
from sessions._items import Row
from sessions._leases import Lease
from sessions._reentry import is_own, own, suppress_own
from sessions._sealing import SealedWrite, moved_error
from sessions.errors import (
    ConfigurationError,
    changed_error,
    kept_error,
    numberless_error,
    temporary_error,
    unlockable_error,
)

from .arrays import TextArray, array_of, is_large, parts_of
from .checks import TEMPORARY, column_checks, own_checks
from .connector import CANCEL_SECONDS, TimedConnection, check_engine
from .errors import describe, is_goodbye, statement_failure
from .prepared import PREPARED
from .sealed import steps_of
from .together import together
from .values import PlainCursor, check_encoding

PGConnection = psycopg.Connection[Any]
T = TypeVar("T")

# The statements that lock rows of the messages, where the others lock sessions.
_LOCK_ITEMS = ("lock_newest_items", "find_item")

_POLL_SECONDS = 0.01
# How long another thread may use a connection of the application's before we give up waiting for it.
_SHARED_SECONDS = 60.0


def _reading(execute: Callable[..., T]) -> Callable[..., T]:
    """Let a dialect's method raise for an answer that psycopg cannot read what it raises for a lost connection."""

    @wraps(execute)
    def reading(dialect: PostgresDialect, connection: PGConnection, *arguments: Any) -> T:
        try:
            return execute(dialect, connection, *arguments)
        except Exception as exc:
            # psycopg's own words for an encoding that it does not know have no SQLSTATE.
            is_unknown = is_own(exc, psycopg.NotSupportedError) and exc.sqlstate is None
            if not is_unknown and not is_of_an_answer(exc):
                raise
            connection.close()
            raise psycopg.OperationalError("the server's answer cannot be read") from exc

    return reading


class PostgresDialect(Dialect[PGConnection]):
    """The words of PostgreSQL."""

    name = "postgresql"
    identifier_quote = '"'
    driver_error = psycopg.Error

    @_reading
    def execute(self, connection: PGConnection, name: str, parameters: Parameters) -> list[Any]:
        if name in PREPARED and isinstance(connection, TimedConnection) and connection.prepared is not None:
            with connection.lock:
                statement = self.statements[name]
                rows = connection.prepared.execute(connection.pgconn, connection.wait, statement, parameters)
            if rows is not None:
                return rows
        cursor = self._cursor(connection, name, parameters)
        # What cursor.description says too, which would make an object of each column.
        return cursor.fetchall() if cursor.pgresult is not None and cursor.pgresult.nfields else []

    @_reading
    def change(self, connection: PGConnection, name: str, parameters: Parameters) -> int:
        return self._cursor(connection, name, parameters).rowcount

    def _cursor(self, connection: PGConnection, name: str, parameters: Parameters) -> psycopg.Cursor[Any]:
        statement, cursor = self.statements[name], PlainCursor(connection)
        if isinstance(connection, TimedConnection):
            return cursor.execute(statement, parameters or None)
        try:
            # Not prepared, as an application's connection may do, which a pooler in transaction mode breaks.
            return cursor.execute(statement, parameters or None, prepare=False)
        except BaseException as exc:
            self.close_if_interrupted(connection, exc)
            raise

    def locked(self, connection: PGConnection, name: str, parameters: Parameters) -> list[Any]:
        """Raise an error where a policy lets rows be seen that FOR UPDATE passes over, as if they were not there."""
        rows = super().locked(connection, name, parameters)
        if len(rows) >= _expected(parameters):
            return rows
        seen = self._seen(connection, name, parameters)
        if seen <= {row[0] for row in rows}:
            return rows
        # They may have come meanwhile.
        rows = super().locked(connection, name, parameters)
        if seen & self._seen(connection, name, parameters) - {row[0] for row in rows}:
            raise unlockable_error(self.tables[name in _LOCK_ITEMS])
        return rows

    def _seen(self, connection: PGConnection, name: str, parameters: Parameters) -> set[object]:
        """Return the ids that a statement would lock."""
        statement = self.statements[name].replace("FOR UPDATE", "")
        return {row[0] for row in PlainCursor(connection).execute(statement, parameters, prepare=False).fetchall()}

    def check_lent(self, connection: PGConnection) -> None:
        # psycopg waits for it without end, also where a stream() of this thread holds it. Only looked at: behind an
        # acquire() with a bound a signal's exception would leave it held.
        deadline = monotonic() + _SHARED_SECONDS
        while connection.lock.locked():
            if monotonic() > deadline:
                raise ConfigurationError(
                    f"the connection has been in use for {_SHARED_SECONDS:g} s; leave stream() or copy() first, "
                    "or use another connection"
                )
            sleep(_POLL_SECONDS)
        if connection.pgconn.pipeline_status:
            raise ConfigurationError("the connection is in pipeline mode; leave the pipeline first")
        check_encoding(connection)
        check_engine(connection, self.engine)

    def close_if_interrupted(self, connection: PGConnection, exc: BaseException) -> None:
        if connection.pgconn.transaction_status != TransactionStatus.ACTIVE or is_own(exc, psycopg.Error):
            return
        # psycopg cancels after KeyboardInterrupt alone; a write that waits would be done later.
        with suppress_own(psycopg.Error):
            connection.cancel_safe(timeout=CANCEL_SECONDS)
        deadline = monotonic() + CANCEL_SECONDS
        while not is_readable(connection.fileno()) and monotonic() < deadline:
            sleep(_POLL_SECONDS)
        connection.close()

    def list_parameter(self, connection: PGConnection, texts: Sequence[str]) -> object:
        return array_of(connection, texts)

    def orders_by_code_points(self, connection: PGConnection) -> bool:
        # Otherwise by their bytes in the database's encoding, which also may lack the character above a prefix.
        return connection.pgconn.parameter_status(b"server_encoding") == b"UTF8"

    def joins(self, connection: PGConnection) -> bool:
        # Without autocommit psycopg begins by itself; whoever lent the connection ends it.
        return self.in_transaction(connection) or not connection.autocommit

    def in_transaction(self, connection: PGConnection) -> bool:
        return connection.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    def join_transaction(self, connection: PGConnection, *, writes: bool) -> bool:
        # Without autocommit psycopg begins by itself.
        return self.in_transaction(connection) or not connection.autocommit

    def or_else(self, connection: PGConnection, ask: Callable[[], T], otherwise: Callable[[], T]) -> T:
        joined = self.in_transaction(connection)
        if joined:
            self.execute(connection, "savepoint", {})
        try:
            answer = ask()
        except BaseException as exc:
            with suppress_own(psycopg.Error):
                if joined:
                    self.execute(connection, "rollback_to_savepoint", {})
                    self.execute(connection, "release_savepoint", {})
                elif self.in_transaction(connection):
                    self.roll_back(connection)  # psycopg began it with the question
            if not is_own(exc, psycopg.errors.FeatureNotSupported):
                raise
            return otherwise()
        if joined:
            self.execute(connection, "release_savepoint", {})
        return answer

    def page_of_sessions(self, connection: PGConnection, name: str, parameters: Parameters) -> list[Any]:
        def ask() -> list[Any]:
            return self.execute(connection, name, parameters)

        def ask_shards() -> list[Any]:
            rows = self.execute(connection, "sessions_of_shards", parameters)
            ids = {"ids": self.list_parameter(connection, [row[0] for row in rows])}
            counts = dict(self.execute(connection, "count_items_of", ids))
            return [(*row, min(counts.get(row[0], 0), parameters["count_limit"] + 1)) for row in rows]

        return self.or_else(connection, ask, ask_shards)

    def touch(self, connection: PGConnection, session_id: str) -> None:
        rows = self.execute(connection, "touch_session", {"session_id": session_id})
        if rows and rows[0][0] != session_id:
            raise changed_error(session_id, rows[0][0])
        # Where a trigger suppresses the update, the row can be locked all the same.
        if not rows and not self.lock(connection, session_id):
            raise kept_error(session_id)

    def insert(self, connection: PGConnection, session_id: str, texts: Sequence[str]) -> int:
        newest = 0
        for part in parts_of(texts):
            parameters = {"session_id": session_id, "items": array_of(connection, part)}
            newest = self._newest_of(self.execute(connection, "insert_items", parameters), len(part), session_id)
        return newest

    def load(self, connection: PGConnection, session_id: str, texts: Sequence[str], times: Sequence[str]) -> int:
        if self.seals:
            self.execute(connection, "use_utc", {})
        newest = start = 0
        for part in parts_of(texts):
            parameters = {
                "session_id": session_id,
                "items": array_of(connection, part),
                "times": array_of(connection, times[start : start + len(part)]),
            }
            newest = self._newest_of(self.execute(connection, "load_items", parameters), len(part), session_id)
            start += len(part)
        return newest

    def _newest_of(self, rows: Sequence[Any], count: int, session_id: str) -> int:
        if others := [other for _, other in rows if other is not None]:
            raise changed_error(session_id, others[0])
        if len(rows) != count:
            raise kept_error(session_id)
        if rows[-1][0] is None:
            raise numberless_error()
        position_of(rows[0][0])
        return whole(rows[-1][0])

    def append(
        self,
        connection: PGConnection,
        session_id: str,
        texts: Sequence[str],
        if_position: int | None,
        lease: Lease | None,
    ) -> int:
        if not is_large(texts) and not may_be_cut(session_id):
            name = "append_items" if if_position is None else "append_items_at"
            parameters = {"session_id": session_id, "items": array_of(connection, texts), "position": if_position}
            match self._execute_checked(connection, name, parameters, lease):
                case [(newest, _)] if newest:
                    return whole(newest)
        # Nothing was written: a conflict, a writer that came and went, or something that suppresses rows; this tells.
        return super().append(connection, session_id, texts, if_position, lease)

    def replace(
        self,
        connection: PGConnection,
        session_id: str,
        texts: Sequence[str],
        if_position: int | None,
        lease: Lease | None,
    ) -> int:
        if not is_large(texts) and not may_be_cut(session_id) and self._is_alone(connection):
            parameters = {"session_id": session_id, "items": array_of(connection, texts), "position": if_position}
            match self._execute_checked(connection, "replace_items", parameters, lease):
                case [(newest, 1, _)]:
                    return whole(newest or 0)
        return super().replace(connection, session_id, texts, if_position, lease)

    def pop(self, connection: PGConnection, session_id: str, lease: Lease | None) -> tuple[Row | None, int]:
        if self._is_alone(connection):
            match self._execute_checked(connection, "pop_item", {"session_id": session_id}, lease):
                case [(None, _, None, True, _)]:
                    return None, 0
                case [(row_id, text, newest, _, _)] if row_id is not None:
                    return (whole(row_id), text), whole(newest or 0)
        # In a transaction of others, where nothing can be undone alone; or nothing was removed: a writer came and went,
        # or something suppresses rows.
        return super().pop(connection, session_id, lease)

    def clear(self, connection: PGConnection, session_id: str, lease: Lease | None) -> None:
        if not self._is_alone(connection) or not self._execute_checked(
            connection, "clear_session", {"session_id": session_id}, lease
        ):
            super().clear(connection, session_id, lease)

    def is_executing(self, connection: PGConnection, number: int, *, age: float, waiting: float) -> bool | None:
        if not self._is_alone(connection):
            self.execute(connection, "look_anew", {})
        return super().is_executing(connection, number, age=age, waiting=waiting)

    def _is_alone(self, connection: PGConnection) -> bool:
        """Tell whether a statement is a transaction, which it can undo without harm to another one."""
        return connection.autocommit and not self.in_transaction(connection)

    def _execute_checked(
        self, connection: PGConnection, name: str, parameters: Parameters, lease: Lease | None
    ) -> list[Any]:
        """Execute a statement that divides by zero when it is not done as asked; no row says that it was undone.

        With a lease one that is not held is not done either, which is told so too.
        """
        try:
            if lease is None:
                return self.execute(connection, name, parameters)
            return self._execute_under(connection, name, parameters, lease) if _takes_pipelines(connection) else []
        except own(psycopg.errors.DivisionByZero):
            if self.in_transaction(connection):
                raise
            return []

    def _execute_under(self, connection: PGConnection, name: str, parameters: Parameters, lease: Lease) -> list[Any]:
        """Execute a statement in one transaction with what it presupposes, all of it sent at once."""
        return self._execute_steps(connection, [*_guards(lease), (name, parameters)])

    def _execute_steps(self, connection: PGConnection, named: Sequence[tuple[str, Parameters]]) -> list[Any]:
        """Execute statements in one transaction, all of them sent at once; return the rows of the last one."""
        framed = [("begin", {}), *named, ("commit", {})]
        steps = [(self.statements[step], values) for step, values in framed]
        try:
            with connection.lock:
                *_, rows, _ = connection.wait(together(connection.pgconn, steps))
        except own(psycopg.Error) as exc:
            if is_goodbye(exc):
                # Which may come behind the commit: the server reads on until what was sent at once has ended.
                raise psycopg.OperationalError(describe(exc)) from exc
            # What fails keeps the rest, and so the end of the transaction, from being executed.
            with suppress_own(psycopg.Error):
                if self.in_transaction(connection):
                    self.roll_back(connection)
            raise
        return rows

    def write_sealed(
        self, connection: PGConnection, session_id: str, write: SealedWrite, lease: Lease | None
    ) -> int | None:
        if not write.is_common or is_large(write.texts):
            return None
        if not self._is_alone(connection) or not _takes_pipelines(connection):
            return None
        items, times = array_of(connection, write.texts), array_of(connection, write.times)
        steps = steps_of(session_id, write, items, times)
        try:
            rows = self._execute_steps(connection, [*_guards(lease), *steps])
        except own(psycopg.errors.DivisionByZero):
            if write.is_guess:
                raise moved_error(session_id, None) from None
            return None
        return int(rows[0][0] or 0) if write.texts else 0

    def renew_lease(self, connection: PGConnection, lease: Lease) -> bool:
        return super().renew_lease(connection, lease) or self._is_lost(connection, lease)

    def release_lease(self, connection: PGConnection, lease: Lease) -> bool:
        return super().release_lease(connection, lease) or self._is_lost(connection, lease)

    def _is_lost(self, connection: PGConnection, lease: Lease) -> bool:
        """Return False; raise an error where the lease is there, and a policy keeps it from being changed."""
        if self.execute(connection, "find_lease", lease._asdict()):
            raise kept_error(lease.session_id)
        return False

    def create_leases(self, connection: PGConnection) -> None:
        with self.transaction(connection):
            self.execute(connection, "lock_schema", {})
            super().create_leases(connection)
            self._check_lasts(connection, self.leases_table)

    def create_seals(self, connection: PGConnection) -> None:
        with self.transaction(connection):
            self.execute(connection, "lock_schema", {})
            super().create_seals(connection)
            self._check_lasts(connection, self.seals_table)

    def create_tables(self, connection: PGConnection) -> None:
        with self.transaction(connection):
            self.execute(connection, "lock_schema", {})
            super().create_tables(connection)
            self._check_lasts(connection, *self.tables)

    def _check_lasts(self, connection: PGConnection, *tables: str) -> None:
        for table in tables:
            if self._persistence(connection, table) == TEMPORARY:
                raise temporary_error(table)

    def _persistence(self, connection: PGConnection, table: str) -> str:
        return str(self.execute(connection, "persistence", self.named(table))[0][0])

    def server_session(self, connection: PGConnection) -> int | None:
        return connection.pgconn.backend_pid

    def opened(self, connection: PGConnection) -> Opened | None:
        return connection.opened if isinstance(connection, TimedConnection) else None

    def column_checks(self, sessions: Columns, messages: Columns) -> list[Check]:
        return column_checks(sessions, messages, self.statements)

    def mend(self, connection: PGConnection, statement: str) -> None:
        PlainCursor(connection).execute(statement)

    def own_checks(self, connection: PGConnection) -> list[Check]:
        def ask(name: str, table: str = "") -> list[Any]:
            return self.execute(connection, name, self.named(table) if table else {})

        encoding = (connection.pgconn.parameter_status(b"server_encoding") or b"").decode()
        return own_checks(ask, self.tables, connection.pgconn.backend_pid, encoding)

    def failure(self, exc: Exception) -> Failure:
        return statement_failure(exc)

    def words_of(self, exc: BaseException) -> str:
        return describe(exc)


def _takes_pipelines(connection: PGConnection) -> bool:
    """Tell whether a transaction can be sent at once: on a connection of ours, with libpq 14 or newer."""
    return isinstance(connection, TimedConnection) and psycopg.Pipeline.is_supported()


def _guards(lease: Lease | None) -> list[tuple[str, Parameters]]:
    """Return what keeps the statements behind it from being executed unless the lease is held."""
    return [] if lease is None else [(name, lease._asdict()) for name in ("renew_lease", "check_lease")]


def _expected(parameters: Parameters) -> int:
    """Return how many rows a statement locks at most, but for the one behind the newest, which it does not lock."""
    ids = parameters.get("ids")
    return ids.length if isinstance(ids, TextArray) else 1
