"""The flow that SQLite, PostgreSQL and MySQL share: borrow a connection, run an operation, repeat it if that is safe.

A dialect provides how statements are executed and what its driver's errors mean. The
operations here need several round trips; a server's dialect replaces the common ones
by one.
"""

from __future__ import annotations

import logging
import time
import weakref
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from ._options import Options
from ._retry import AttemptFailed, Failure, Rival, delays
from ._sql import load_statements
from .backend import MAX_ID, Backend, Row
from .errors import DatabaseError, OutcomeUnknownError, SchemaError, SessionsError, conflict_error

if TYPE_CHECKING:
    from ._records import RecordRow

C = TypeVar("C")
C_co = TypeVar("C_co", covariant=True)
T = TypeVar("T")
Parameters = Mapping[str, Any]

# How long a server session may stay idle after its connection was lost before it is
# taken for one that nobody has told of the loss.
_IDLE_RIVAL_SECONDS = 5.0
_RIVAL_POLL_SECONDS = 0.02

logger = logging.getLogger("sessions")


class Lender(Protocol[C_co]):
    """Where a backend's connections come from: a pool of ours or the application's, or one connection of its own."""

    def connection(self, *, writes: bool) -> AbstractContextManager[C_co]:
        """Lend a connection for one operation; writes: it is to change something."""

    def close(self) -> None:
        """Close what is ours; may be called twice."""


class DBAPIBackend(Backend, Generic[C]):
    """A database behind a DB-API driver."""

    dialect: str
    identifier_quote: str
    driver_error: type[Exception]
    # Reads the newest row as it is now, also where the transaction's snapshot is older.
    position_statement = "newest_items"

    def __init__(self, where: str, options: Options, lender: Lender[C]) -> None:
        self.default_limit = options.default_limit
        self.ensure_ascii = options.ensure_ascii
        self._where = where
        self._options = options
        self._statements = self.load_statements(options)
        self._lender = lender
        # Also closes the connections of a backend that is dropped, and at exit.
        self._close = weakref.finalize(self, lender.close)

    @classmethod
    def load_statements(cls, options: Options) -> Mapping[str, str]:
        """Return the dialect's statements for the tables of the options."""
        return load_statements(cls.dialect, options.sessions_table, options.messages_table, quote=cls.identifier_quote)

    def bind(self, connection: object) -> DBAPIBackend[C]:
        from ._bound import bind_to

        return bind_to(connection, replace(self._options, create_tables=False), kind=type(self))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._where}>"

    @property
    def closed(self) -> bool:
        return not self._close.alive

    def close(self) -> None:
        self._close()

    # What a dialect provides

    @abstractmethod
    def fetch(self, connection: C, name: str, parameters: Parameters) -> list[Any]:
        """Execute a statement by name and return its rows, if any, as tuples."""

    @abstractmethod
    def transaction(self, connection: C) -> AbstractContextManager[object]:
        """Make the block one transaction that may write, or a part of the one that is open."""

    @abstractmethod
    def in_transaction(self, connection: C) -> bool:
        """Tell whether a transaction is open."""

    @abstractmethod
    def join_transaction(self, connection: C, *, writes: bool) -> bool:
        """Begin a transaction where the connection's driver would do so now; tell whether one is open then."""

    @abstractmethod
    def insert(self, connection: C, session_id: str, texts: Sequence[str]) -> int:
        """Insert the texts in order, in the open transaction; return the newest id."""

    @abstractmethod
    def pop(self, connection: C, session_id: str) -> Row | None:
        """Remove the newest row and return it."""

    @abstractmethod
    def delete(self, connection: C, session_id: str) -> None:
        """Delete the rows and then the session row, whether or not the tables cascade."""

    def server_session(self, connection: C) -> int | None:
        """Return the server's number for a connection; None without a server."""
        return None

    def close_if_interrupted(self, connection: C, exc: BaseException) -> None:
        """After a signal handler's exception close a connection that cannot tell which answer comes next."""

    def rival_state(self, connection: C, number: int, age: float) -> bool | None:
        """Tell whether a server session older than age seconds is executing something; None when it has ended."""
        rows = self.fetch(connection, "rival_is_busy", {"id": number, "age": age})
        return bool(rows[0][0]) if rows else None

    @abstractmethod
    def failure(self, exc: Exception) -> Failure:
        """Say what an exception of the driver means."""

    @abstractmethod
    def describe(self, exc: BaseException) -> str:
        """Say in the database's words what failed, without any value of a statement."""

    # The operations

    def newest_rows(self, session_id: str, *, count: int = MAX_ID, before: int = MAX_ID) -> list[Row]:
        name = "all_items" if count == before == MAX_ID else "newest_items"
        parameters = {"session_id": session_id, "count": count, "before": before}

        def read(connection: C) -> list[Row]:
            return self.fetch(connection, name, parameters)

        return self._run(read, settle=read, writes=False)

    def record_rows(self, session_id: str, *, after: int, upto: int, count: int) -> list[RecordRow]:
        parameters = {"session_id": session_id, "after": after, "upto": upto, "count": count}

        def read(connection: C) -> list[RecordRow]:
            return self.fetch(connection, "records", parameters)

        return self._run(read, settle=read, writes=False)

    def newest_range(self, session_id: str, count: int) -> tuple[int, int]:
        def read(connection: C) -> list[tuple[int | None, int | None]]:
            return self.fetch(connection, "newest_range", {"session_id": session_id, "count": count})

        [(oldest, newest)] = self._run(read, settle=read, writes=False)
        return oldest or 0, newest or 0

    def append_rows(self, session_id: str, texts: Sequence[str], *, seen: int | None, if_position: int | None) -> int:
        if if_position is not None:
            seen = if_position
        return self._run(
            lambda connection: self.append(connection, session_id, texts, if_position),
            settle=lambda connection: self._append_settled(connection, session_id, texts, seen, if_position),
        )

    def pop_row(self, session_id: str) -> Row | None:
        return self._run(lambda connection: self.pop(connection, session_id), settle=None)

    def replace_rows(self, session_id: str, texts: Sequence[str], *, seen: int | None, if_position: int | None) -> int:
        if if_position is not None:
            seen = if_position
        return self._run(
            lambda connection: self.replace(connection, session_id, texts, if_position),
            settle=lambda connection: self._replace_settled(connection, session_id, texts, seen, if_position),
        )

    def delete_session(self, session_id: str) -> None:
        def delete(connection: C) -> None:
            self.delete(connection, session_id)

        self._run(delete, settle=delete)

    # One attempt of each, on a connection

    def append(self, connection: C, session_id: str, texts: Sequence[str], if_position: int | None) -> int:
        """Write the batch under the session row's lock."""
        with self.transaction(connection):
            self.fetch(connection, "touch_session", {"session_id": session_id})
            self._check_position(connection, session_id, if_position)
            return self.insert(connection, session_id, texts)

    def replace(self, connection: C, session_id: str, texts: Sequence[str], if_position: int | None) -> int:
        """Put the texts in place of all rows."""
        with self.transaction(connection):
            self.fetch(connection, "touch_session", {"session_id": session_id})
            self._check_position(connection, session_id, if_position)
            self.fetch(connection, "delete_items", {"session_id": session_id})
            return self.insert(connection, session_id, texts) if texts else 0

    def create_tables(self, connection: C) -> None:
        """Create the tables that are missing."""
        with self.transaction(connection):
            for name in ("create_sessions", "create_messages"):
                self.fetch(connection, name, {})

    def _check_position(self, connection: C, session_id: str, expected: int | None) -> None:
        if expected is None:
            return
        parameters = {"session_id": session_id, "count": 1, "before": MAX_ID}
        rows = self.fetch(connection, self.position_statement, parameters)
        position = rows[0][0] if rows else 0
        if position != expected:
            raise conflict_error(session_id, expected=expected, position=position)

    def _append_settled(
        self, connection: C, session_id: str, texts: Sequence[str], seen: int | None, if_position: int | None
    ) -> int:
        """Look whether a batch whose acknowledgement was lost is there; write it if it is not.

        The session row's lock keeps every other writer out between the look and the write.
        """
        with self.transaction(connection):
            self.fetch(connection, "touch_session", {"session_id": session_id})
            rows = self.fetch(connection, "newer_items", {"session_id": session_id, "after": seen or 0})
            newest = _find_batch(rows, texts)
            if newest is None:
                self._check_position(connection, session_id, if_position)
                return self.insert(connection, session_id, texts)
            if seen is None:
                raise OutcomeUnknownError(
                    f"the connection was lost while items were added to session {session_id!r}, and equal items "
                    "are there that may be older; compare get_items() with what you meant to add"
                )
            return newest

    def _replace_settled(
        self, connection: C, session_id: str, texts: Sequence[str], seen: int | None, if_position: int | None
    ) -> int:
        """Look whether the history begins with the texts, in rows newer than seen; replace it if it does not.

        Other writers may have appended to the new history by now, and must not lose what they wrote.
        """
        with self.transaction(connection):
            self.fetch(connection, "touch_session", {"session_id": session_id})
            rows: list[Row] = self.fetch(connection, "newer_items", {"session_id": session_id, "after": 0})
        if [text for _, text in rows] == list(texts):
            return rows[-1][0] if rows else 0
        if not texts or _find_batch(rows[: len(texts)], texts) is None or rows[0][0] <= (seen or 0):
            return self.replace(connection, session_id, texts, if_position)
        if seen is None:
            raise OutcomeUnknownError(
                f"the connection was lost while the items of session {session_id!r} were replaced, and its history "
                "begins with equal items that may be older; compare get_items() with what you meant it to be"
            )
        return rows[len(texts) - 1][0]

    # Repetition

    def _run(
        self,
        operation: Callable[[C], T],
        *,
        settle: Callable[[C], T] | None,
        writes: bool = True,
        may_create: bool = True,
    ) -> T:
        """Run operation on a connection, again after transient failures.

        settle takes operation's place once it may have been committed; None: nothing
        can find that out, so OutcomeUnknownError is raised.
        """
        waits = delays(self._options.max_retries, self._options.retry_delay)
        may_create = may_create and self._options.create_tables
        attempt, unsettled, rival = operation, False, None
        while True:
            try:
                return self._attempt(attempt, writes=writes, rival=rival)
            except AttemptFailed as exc:
                failure, cause, rival = exc.failure, exc.cause, exc.rival
            if failure.missing_tables and may_create:
                may_create = False
                self._create_missing_tables()
                continue
            if failure.in_doubt and settle is not operation:
                unsettled = True
                attempt = settle or attempt
            # An attempt to settle that the server refused, or somebody cancelled, is worth another one.
            may_pass = failure.transient or (unsettled and failure.error is DatabaseError)
            wait = next(waits, None) if may_pass and not (unsettled and settle is None) else None
            if wait is None:
                raise self._error(failure, cause, unsettled=unsettled) from cause
            logger.warning("%s: %s; trying again in %.2f s", self._where, self.describe(cause), wait)
            time.sleep(wait)

    def _attempt(self, operation: Callable[[C], T], *, writes: bool, rival: Rival | None) -> T:
        """Run operation once, after a rival has ended; raise AttemptFailed for what the driver raises."""
        session: Rival | None = None
        try:
            with self._lender.connection(writes=writes) as connection:
                if rival is not None:
                    self._wait_for_end(connection, rival)
                    rival = None
                if writes and (number := self.server_session(connection)) is not None:
                    session = Rival(number, time.monotonic())
                return operation(connection)
        except AttemptFailed as exc:
            exc.rival = rival
            raise
        except UnicodeEncodeError as exc:
            raise DatabaseError(
                f"{self._where}: the connection's character set lacks a character; "
                "connect with utf8mb4 (MySQL) or utf8 (PostgreSQL), or use ensure_ascii=True"
            ) from exc
        except self.driver_error as exc:
            failure = self.failure(exc)
            raise AttemptFailed(
                failure, exc, sent=True, rival=rival or (session if failure.in_doubt else None)
            ) from None

    def _wait_for_end(self, connection: C, rival: Rival) -> None:
        """Wait until the server session whose connection was lost can write no more.

        What was sent on it may still be waiting for a lock, or to be read at all. Its end
        is seen at once where the server learns of the loss; an idle one that stays, for
        instance behind a cut cable, has nothing left to do after a few seconds.
        """
        now = time.monotonic()
        patience, idle_patience = now + self._options.statement_timeout, now + _IDLE_RIVAL_SECONDS
        while (busy := self.rival_state(connection, rival.number, time.monotonic() - rival.seen)) is not None:
            if time.monotonic() > (patience if busy else idle_patience):
                break
            time.sleep(_RIVAL_POLL_SECONDS)
        if busy:
            raise OutcomeUnknownError(
                f"{self._where}: the connection was lost during a write that the server is still executing; "
                "compare get_items() with what you expect once it has ended"
            )

    def _create_missing_tables(self) -> None:
        try:
            self._run(self.create_tables, settle=self.create_tables, may_create=False)
        except DatabaseError as exc:
            raise SchemaError(
                f"the tables are missing and cannot be created ({exc}); grant the right to create them, or let their "
                "owner create them"
            ) from exc.__cause__

    def _error(self, failure: Failure, cause: BaseException, *, unsettled: bool) -> SessionsError:
        what = f"{self._where}: {self.describe(cause)}"
        if unsettled:
            return OutcomeUnknownError(
                f"{what}; the connection was lost during a write, which may or may not have happened: "
                "compare get_items() with what you expect"
            )
        return failure.error(f"{what}; {failure.remedy}")


def _find_batch(rows: Sequence[Row], texts: Sequence[str]) -> int | None:
    """Return the id of the last row of a contiguous run equal to texts; rows are oldest first."""
    stored = [text for _, text in rows]
    for start in range(len(stored) - len(texts) + 1):
        if stored[start : start + len(texts)] == list(texts):
            return rows[start + len(texts) - 1][0]
    return None
