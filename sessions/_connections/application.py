"""Work on connections that belong to the application: one of its own, or those of its pool.

The rule: what the application began, only the application ends. On its connection we
undo nothing beyond a savepoint of ours.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import Any

from sessions._dialects.dialect import Dialect
from sessions._dialects.failures import AttemptFailed, Failure
from sessions.errors import ClosedError, ConfigurationError, ConnectionFailedError, closed_error

# Where wrappers of pools keep the driver's connection: SQLAlchemy, then DBUtils.
_WRAPPED_AS = ("driver_connection", "_con")

_ALL_GONE = "your whole transaction is gone with it; run it again from its start"


def connection_of(pool: Any) -> Any:
    """Borrow a connection to learn its kind; raise ConfigurationError for what is no synchronous pool."""
    if not callable(getattr(pool, "connection", None)):
        raise ConfigurationError(
            f"pool is a {type(pool).__name__} without connection(); pass a pool whose connection() is a context manager"
        )
    try:
        with pool.connection() as lent:
            return unwrap(lent)
    except (TypeError, AttributeError):
        raise ConfigurationError(
            f"connection() of the {type(pool).__name__} is no context manager; pass a synchronous pool"
        ) from None
    except Exception as exc:
        raise ConnectionFailedError(f"the pool lends no connection ({exc}); see the cause") from exc


def unwrap(connection: Any) -> Any:
    """Return the driver's connection from inside a pool's wrapper."""
    for name in _WRAPPED_AS * 2:
        connection = getattr(connection, name, None) or connection
    return connection


def _check_process(process: int, what: str, remedy: str) -> None:
    """Raise ClosedError in a forked child, where the parent's connection would give the parent's answers."""
    if process != os.getpid():
        raise ClosedError(f"the {what} belongs to the process that forked; {remedy}")


class BoundConnection:
    """Lends the application's connection, each time within its transaction and a savepoint of ours."""

    def __init__(self, connection: Any, dialect: Dialect[Any]) -> None:
        self._connection = connection
        self._dialect = dialect
        self._process = os.getpid()
        # Threads that share the handle take turns; whether they may share the connection its driver says.
        self._lock = threading.RLock()
        self._closed = False

    @contextmanager
    def connection(self, *, writes: bool) -> Iterator[Any]:
        """Lend it; an error takes back what the operation did and leaves the rest of the transaction."""
        if self._closed:
            raise closed_error()
        _check_process(self._process, "bound connection", "bind one of this process")
        with self._lock, self._joined(writes=writes):
            yield self._connection

    def _joined(self, *, writes: bool) -> AbstractContextManager[None]:
        """Become a part of the application's transaction, or of the one that its driver would begin now."""
        connection = self._connection
        try:
            self._dialect.check_lent(connection)
            if self._dialect.in_transaction(connection):
                self._execute("savepoint")
                # Only from that answer PyMySQL learns that a deadlock has ended the transaction.
                if self._dialect.in_transaction(connection):
                    return self._savepoint()
            if self._dialect.join_transaction(connection, writes=writes):
                return self._begun_transaction()
        except self._dialect.driver_error as exc:
            raise AttemptFailed(self._dialect.failure(exc), exc) from None
        except BaseException as exc:
            self._dialect.close_if_interrupted(connection, exc)
            raise
        return self._own_transaction()

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        try:
            yield
            self._execute("release_savepoint")
        except GeneratorExit:
            raise  # the collector's, of what a signal has interrupted: another operation may be going on by now
        except BaseException as exc:
            self._dialect.close_if_interrupted(self._connection, exc)
            try:
                self._execute("rollback_to_savepoint")
                self._execute("release_savepoint")
            except self._dialect.driver_error:
                # The connection was lost, or a deadlock took the transaction, savepoints and all.
                if isinstance(exc, self._dialect.driver_error):
                    failure = self._dialect.failure(exc)
                    raise AttemptFailed(replace(failure, remedy=_ALL_GONE), exc) from None
            raise

    @contextmanager
    def _begun_transaction(self) -> Iterator[None]:
        """Leave the transaction open for the application to end, unless nothing of it happened."""
        try:
            yield
        except GeneratorExit:
            raise  # as above
        except BaseException as exc:
            self._dialect.close_if_interrupted(self._connection, exc)
            with suppress(self._dialect.driver_error):
                self._dialect.roll_back(self._connection)
            if isinstance(exc, self._dialect.driver_error):
                raise AttemptFailed(self._dialect.failure(exc), exc) from None
            raise

    @contextmanager
    def _own_transaction(self) -> Iterator[None]:
        """In autocommit an operation is a transaction of its own: after an interruption too, none is left open."""
        try:
            yield
        except GeneratorExit:
            raise  # as above
        except BaseException as exc:
            # An answer that nobody has read would be taken for the next statement's.
            self._dialect.close_if_interrupted(self._connection, exc)
            with suppress(self._dialect.driver_error):
                if self._dialect.in_transaction(self._connection):
                    self._dialect.roll_back(self._connection)
            raise

    def _execute(self, name: str) -> None:
        self._dialect.execute(self._connection, name, {})

    def close(self) -> None:
        """Let go of the connection, which stays open."""
        self._closed = True


class ApplicationPool:
    """Lends connections of the application's pool, and gives each back without an open transaction."""

    def __init__(self, pool: Any, dialect: Dialect[Any]) -> None:
        self._pool = pool
        self._dialect = dialect
        self._process = os.getpid()
        self._closed = False

    @contextmanager
    def connection(self, *, writes: bool) -> Iterator[Any]:
        """Lend a connection for one operation, which is committed or rolled back."""
        if self._closed:
            raise closed_error()
        _check_process(self._process, "pool", "make one in each process")
        with ExitStack() as stack:
            try:
                connection = unwrap(stack.enter_context(self._pool.connection()))
                self._dialect.check_lent(connection)
            except self._dialect.driver_error as exc:
                raise AttemptFailed(Failure(ConnectionFailedError, "see the pool's words"), exc) from None
            try:
                yield connection
                if self._dialect.in_transaction(connection):
                    self._dialect.commit(connection)
            except BaseException as exc:
                self._dialect.close_if_interrupted(connection, exc)
                with suppress(self._dialect.driver_error):
                    if self._dialect.in_transaction(connection):
                        self._dialect.roll_back(connection)
                raise

    def close(self) -> None:
        """Let go of the pool; whoever made it closes it."""
        self._closed = True
