"""How statements get to PostgreSQL through psycopg 3, and what they and their failures do to a connection."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from time import monotonic, sleep
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus

from sessions._dialects.driver import Driver, Parameters
from sessions._dialects.failures import Failure, Opened, is_of_an_answer
from sessions._dialects.statements import load_statements
from sessions._leases import Lease
from sessions._reentry import is_own, own, suppress_own
from sessions.errors import ConfigurationError, SchemaError, unlockable_error, unordered_error

from .arrays import TextArray, array_of
from .connector import Notices, TimedConnection, cancel_statement, check_engine, end_statement
from .errors import describe, is_goodbye, statement_failure
from .goodbyes import check_not_closed
from .prepared import PREPARED, Prepared
from .refusals import connect_failure
from .together import together
from .values import PlainCursor, check_encoding

PGConnection = psycopg.Connection[Any]
T = TypeVar("T")

# The statements that lock rows of the messages, where the others lock sessions.
_LOCK_ITEMS = ("lock_newest_items", "find_item")

_POLL_SECONDS = 0.01
# How often rows that can be seen are to be passed over by a lock before that is taken for a policy's doing.
_LOOKS = 10
# How long another thread may use a connection of the application's before we give up waiting for it.
_SHARED_SECONDS = 60.0


def _reading(execute: Callable[..., T]) -> Callable[..., T]:
    """Let a method raise for an answer that psycopg cannot read what it raises for a lost connection."""

    @wraps(execute)
    def reading(driver: PostgresDriver, connection: PGConnection, *arguments: Any) -> T:
        try:
            return execute(driver, connection, *arguments)
        except Exception as exc:
            # psycopg's own words for an encoding that it does not know have no SQLSTATE.
            is_unknown = is_own(exc, psycopg.NotSupportedError) and exc.sqlstate is None
            if not is_unknown and not is_of_an_answer(exc):
                raise
            connection.close()
            raise psycopg.OperationalError("the server's answer cannot be read") from exc

    return reading


# The schemas that a statement can name as it names a table's.
_NAMEABLE = re.compile(r'(?!pg_)[^."%]+')


class PostgresDriver(Driver[PGConnection]):
    """Statements on connections of psycopg."""

    name = "postgresql"
    identifier_quote = '"'
    driver_error = psycopg.Error

    def prepared(self) -> Prepared:
        """Return what a connection has prepared at first: nothing."""
        return Prepared(self.statements["schema_of_the_sessions"], self._to_be_prepared)

    def _to_be_prepared(self, schema: str) -> Mapping[str, str]:
        """Return statements that name the schema of their tables, if one is given.

        The guard goes ahead where they are prepared; in them it would take a tenth of their time.
        """
        named = any("." in table for table in self.tables)
        tables = [f"{schema}.{table}" if _NAMEABLE.fullmatch(schema) and not named else table for table in self.tables]
        return load_statements(self.name, *tables, quote=self.identifier_quote, guarded=False)

    @_reading
    def execute(self, connection: PGConnection, name: str, parameters: Parameters) -> list[Any]:
        if name in PREPARED and isinstance(connection, TimedConnection) and connection.prepared is not None:
            with connection.lock:
                rows = connection.prepared.execute(connection.pgconn, connection.wait, name, parameters)
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
        # In place of psycopg's own, which after one Ctrl-C the next one would interrupt.
        connection._try_cancel = lambda **_: cancel_statement(connection)  # type: ignore[method-assign, assignment]  # noqa: SLF001
        try:
            # Not prepared, as an application's connection may do, which a pooler in transaction mode breaks.
            return _listening(connection, lambda: cursor.execute(statement, parameters or None, prepare=False))
        except BaseException as exc:
            self.close_if_interrupted(connection, exc)
            raise
        finally:
            vars(connection).pop("_try_cancel", None)

    def locked(self, connection: PGConnection, name: str, parameters: Parameters) -> list[Any]:
        """Raise an error where a policy lets rows be seen that FOR UPDATE passes over, as if they were not there."""
        rows = super().locked(connection, name, parameters)
        if len(rows) >= _expected(parameters):
            return rows
        # They may have come meanwhile, or gone and come again.
        missing = self._seen(connection, name, parameters) - {row[0] for row in rows}
        for _ in range(_LOOKS):
            if not missing:
                return rows
            rows = super().locked(connection, name, parameters)
            missing &= self._seen(connection, name, parameters) - {row[0] for row in rows}
        table = self.tables[name in _LOCK_ITEMS]
        if missing and any(hides for (hides,) in self.execute(connection, "hides_rows", self.named(table))):
            raise unlockable_error(table)
        return rows

    def _seen(self, connection: PGConnection, name: str, parameters: Parameters) -> set[object]:
        """Return the ids that a statement would lock."""
        statement = self.statements[name].replace("FOR UPDATE", "")
        return {row[0] for row in PlainCursor(connection).execute(statement, parameters, prepare=False).fetchall()}

    def list_parameter(self, connection: PGConnection, texts: Sequence[str]) -> object:
        return array_of(connection, texts)

    def or_else(self, connection: PGConnection, ask: Callable[[], T], otherwise: Callable[[], T]) -> T:
        joined = self.in_transaction(connection)
        if joined:
            self.execute(connection, "savepoint", {})
        try:
            answer = ask()
        except BaseException as exc:
            with suppress_own(psycopg.Error):
                if joined:
                    self.end_savepoint(connection, undo=True)
                elif self.in_transaction(connection):
                    self.roll_back(connection)  # psycopg began it with the question
            if not is_own(exc, psycopg.errors.FeatureNotSupported):
                raise
            return otherwise()
        if joined:
            self.end_savepoint(connection)
        return answer

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
        check_not_closed(connection)

    def joins(self, connection: PGConnection) -> bool:
        # Without autocommit psycopg begins by itself; whoever lent the connection ends it.
        return self.in_transaction(connection) or not connection.autocommit

    def in_transaction(self, connection: PGConnection) -> bool:
        return connection.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR)

    def may_be_in_transaction(self, connection: PGConnection) -> bool:
        # Of one that somebody has closed meanwhile nothing is known: its commit says so.
        return connection.pgconn.transaction_status == TransactionStatus.UNKNOWN or self.in_transaction(connection)

    def join_transaction(self, connection: PGConnection, *, writes: bool) -> bool:
        # Without autocommit psycopg begins by itself.
        return self.in_transaction(connection) or not connection.autocommit

    def commit(self, connection: PGConnection) -> None:
        _listening(connection, lambda: super(PostgresDriver, self).commit(connection))

    def end_savepoint(self, connection: PGConnection, *, undo: bool = False) -> None:
        if connection.pgconn.transaction_status == TransactionStatus.IDLE:
            # psycopg would begin one for what is sent, which would fail and leave it aborted to whoever comes next.
            raise psycopg.errors.NoActiveSqlTransaction("the transaction is no longer open")
        super().end_savepoint(connection, undo=undo)

    def lacks_savepoint(self, exc: BaseException) -> bool:
        return isinstance(exc, (psycopg.errors.NoActiveSqlTransaction, psycopg.errors.InvalidSavepointSpecification))

    def close_if_interrupted(self, connection: PGConnection, exc: BaseException) -> None:
        if connection.pgconn.transaction_status != TransactionStatus.ACTIVE or is_own(exc, psycopg.Error):
            return
        # psycopg cancels after KeyboardInterrupt alone; a write that waits would be done later.
        try:
            end_statement(connection)
        finally:
            connection.close()

    def is_alone(self, connection: PGConnection) -> bool:
        """Tell whether a statement is a transaction, which it can undo without harm to another one."""
        return connection.autocommit and not self.in_transaction(connection)

    def execute_checked(
        self, connection: PGConnection, name: str, parameters: Parameters, lease: Lease | None
    ) -> list[Any]:
        """Execute a statement that divides by zero when it is not done as asked; no row says that it was undone.

        Raises SchemaError where it takes the square root of -1, for rows that would not stand behind those before.
        With a lease one that is not held is not done either, which is told so too.
        """
        try:
            if lease is None:
                return self.execute(connection, name, parameters)
            return self._execute_under(connection, name, parameters, lease) if takes_pipelines(connection) else []
        except own(psycopg.errors.InvalidArgumentForPowerFunction):
            raise self.unordered_error() from None
        except own(psycopg.errors.DivisionByZero):
            if self.in_transaction(connection):
                raise
            return []

    def unordered_error(self) -> SchemaError:
        """Say that rows would not stand behind those before, and what lets them."""
        statement = self.statements["advance_sequence"]
        return unordered_error(
            "let the sequence count up, keep none ahead (CACHE 1), and go on behind all ids that are there, as "
            f"`agent-sessions check --fix` does: {statement}"
        )

    def _execute_under(self, connection: PGConnection, name: str, parameters: Parameters, lease: Lease) -> list[Any]:
        """Execute a statement in one transaction with what it presupposes, all of it sent at once."""
        return self.execute_steps(connection, [*guards(lease), (name, parameters)])

    def execute_steps(self, connection: PGConnection, named: Sequence[tuple[str, Parameters]]) -> list[Any]:
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

    def was_closed(self, connection: PGConnection) -> bool:
        return connection.closed

    def server_session(self, connection: PGConnection) -> int | None:
        return connection.pgconn.backend_pid

    def is_executing(self, connection: PGConnection, number: int, *, age: float, waiting: float) -> bool | None:
        if not self.is_alone(connection):
            self.execute(connection, "look_anew", {})
        return super().is_executing(connection, number, age=age, waiting=waiting)

    def opened(self, connection: PGConnection) -> Opened | None:
        return connection.opened if isinstance(connection, TimedConnection) else None

    def failure(self, exc: Exception) -> Failure:
        return statement_failure(exc, self.tables)

    def connect_failure(self, exc: Exception) -> Failure:
        return connect_failure(exc)

    def words_of(self, exc: BaseException) -> str:
        return describe(exc)


def _listening(connection: PGConnection, send: Callable[[], T]) -> T:
    """Send what may commit, also on a connection of the application, and raise where the server warns beside it."""
    notices = Notices()
    connection.add_notice_handler(notices.read)
    try:
        answer = send()
    finally:
        connection.remove_notice_handler(notices.read)
    notices.check()
    return answer


def execute_alone(connection: PGConnection, statement: str) -> None:
    """Execute what PostgreSQL refuses in a transaction, also where psycopg begins one for each statement."""
    if connection.autocommit:
        PlainCursor(connection).execute(statement)
        return
    connection.autocommit = True
    try:
        PlainCursor(connection).execute(statement)
    finally:
        with suppress_own(psycopg.Error):  # of a connection that was lost
            connection.autocommit = False


def takes_pipelines(connection: PGConnection) -> bool:
    """Tell whether a transaction can be sent at once: on a connection of ours, with libpq 14 or newer."""
    return isinstance(connection, TimedConnection) and psycopg.Pipeline.is_supported()


def guards(lease: Lease | None) -> list[tuple[str, Parameters]]:
    """Return what keeps the statements behind it from being executed unless the lease is held."""
    return [] if lease is None else [(name, lease._asdict()) for name in ("renew_lease", "check_lease")]


def _expected(parameters: Parameters) -> int:
    """Return how many rows a statement locks at most, but for the one behind the newest, which it does not lock."""
    ids = parameters.get("ids")
    return ids.length if isinstance(ids, TextArray) else 1
