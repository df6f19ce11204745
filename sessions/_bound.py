"""Work on connections that belong to the application: one of its own, or those of its pool.

The rule: what the application began, only the application ends. On its connection we
undo nothing beyond a savepoint of ours.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from typing import Any

from ._dbapi import DBAPIBackend
from ._options import Options
from ._retry import AttemptFailed, Failure
from .errors import ClosedError, ConfigurationError, ConnectionFailedError, closed_error

# Where wrappers of pools keep the driver's connection: SQLAlchemy, then DBUtils.
_WRAPPED_AS = ("driver_connection", "_con")

_ALL_GONE = "your whole transaction is gone with it; run it again from its start"


def bind_to(connection: object, options: Options, *, kind: type[DBAPIBackend[Any]] | None = None) -> DBAPIBackend[Any]:
    """Make a backend on one connection of the application; nothing is retried behind its back."""
    options = replace(options, max_retries=0)
    driver_connection = unwrap(connection)
    backend_class = _class_for(driver_connection)
    if kind is not None and backend_class is not kind:
        raise ConfigurationError(
            f"bind() of a {kind.__name__} got a connection of {type(driver_connection).__module__}; "
            "bind a connection of the same driver, or use sessions.bind()"
        )
    if options.create_tables and backend_class.dialect == "mysql":
        raise ConfigurationError(
            "create_tables=True on a bound connection: MySQL would commit your transaction; create the tables before"
        )
    lender = BoundConnection(driver_connection)
    backend = backend_class(f"{backend_class.dialect}: (bound connection)", options, lender)
    # Weak: the backend owns the lender, and must not outlive its sessions because of it.
    lender.backend = weakref.proxy(backend)
    return backend


def pooled(pool: Any, options: Options) -> DBAPIBackend[Any]:
    """Make a backend on a pool of the application."""
    if not callable(getattr(pool, "connection", None)):
        raise ConfigurationError(
            f"pool is a {type(pool).__name__} without connection(); pass a pool whose connection() is a context manager"
        )
    try:
        with pool.connection() as lent:
            connection = unwrap(lent)
    except (TypeError, AttributeError):
        raise ConfigurationError(
            f"connection() of the {type(pool).__name__} is no context manager; pass a synchronous pool"
        ) from None
    except Exception as exc:
        raise ConnectionFailedError(f"the pool lends no connection ({exc}); see the cause") from exc
    backend_class = _class_for(connection)
    lender = ApplicationPool(pool)
    backend = backend_class(f"{backend_class.dialect}: ({type(pool).__name__})", options, lender)
    # Weak: the backend owns the lender, and must not outlive its sessions because of it.
    lender.backend = weakref.proxy(backend)
    return backend


def unwrap(connection: Any) -> Any:
    """Return the driver's connection from inside a pool's wrapper."""
    for name in _WRAPPED_AS * 2:
        connection = getattr(connection, name, None) or connection
    return connection


def _class_for(connection: object) -> type[DBAPIBackend[Any]]:
    # A connection's driver is imported already: nothing is loaded to find out.
    for driver, name in (("sqlite3", "SQLiteBackend"), ("psycopg", "PostgresBackend"), ("pymysql", "MySQLBackend")):
        module = sys.modules.get(driver)
        if module is not None and isinstance(connection, _connection_class(module)):
            import sessions

            backend_class: type[DBAPIBackend[Any]] = getattr(sessions, name)
            return backend_class
    raise ConfigurationError(
        f"a {type(connection).__module__}.{type(connection).__qualname__} cannot be used; "
        "pass a connection of sqlite3, psycopg 3 or pymysql"
    )


def _connection_class(driver: Any) -> type:
    found: type = driver.connections.Connection if driver.__name__ == "pymysql" else driver.Connection
    return found


class BoundConnection:
    """Lends the application's connection, each time within its transaction and a savepoint of ours."""

    backend: DBAPIBackend[Any]

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._process = os.getpid()
        # Threads that share the handle take turns; whether they may share the connection its driver says.
        self._lock = threading.RLock()
        self._closed = False

    @contextmanager
    def connection(self, *, writes: bool) -> Iterator[Any]:
        """Lend it; an error takes back what the operation did and leaves the rest of the transaction."""
        if self._closed:
            raise closed_error()
        if self._process != os.getpid():
            raise ClosedError("the bound connection belongs to the process that forked; bind one of this process")
        with self._lock, self._joined(writes=writes):
            yield self._connection

    def _joined(self, *, writes: bool) -> AbstractContextManager[None]:
        """Become a part of the application's transaction, or of the one that its driver would begin now."""
        connection = self._connection
        try:
            if self.backend.in_transaction(connection):
                self._execute("savepoint")
                # Only from that answer PyMySQL learns that a deadlock has ended the transaction.
                if self.backend.in_transaction(connection):
                    return self._savepoint()
            if self.backend.join_transaction(connection, writes=writes):
                return self._begun_transaction()
        except self.backend.driver_error as exc:
            raise AttemptFailed(self.backend.failure(exc), exc) from None
        except BaseException as exc:
            self.backend.close_if_interrupted(connection, exc)
            raise
        # In autocommit an operation is a transaction of its own.
        return nullcontext()

    @contextmanager
    def _savepoint(self) -> Iterator[None]:
        try:
            yield
            self._execute("release_savepoint")
        except BaseException as exc:
            self.backend.close_if_interrupted(self._connection, exc)
            try:
                self._execute("rollback_to_savepoint")
                self._execute("release_savepoint")
            except self.backend.driver_error:
                # The connection was lost, or a deadlock took the transaction, savepoints and all.
                if isinstance(exc, self.backend.driver_error):
                    failure = self.backend.failure(exc)
                    raise AttemptFailed(replace(failure, remedy=_ALL_GONE), exc) from None
            raise

    @contextmanager
    def _begun_transaction(self) -> Iterator[None]:
        """Leave the transaction open for the application to end, unless nothing of it happened."""
        try:
            yield
        except BaseException as exc:
            self.backend.close_if_interrupted(self._connection, exc)
            with suppress(self.backend.driver_error):
                self._connection.rollback()
            if isinstance(exc, self.backend.driver_error):
                raise AttemptFailed(self.backend.failure(exc), exc) from None
            raise

    def _execute(self, name: str) -> None:
        self.backend.fetch(self._connection, name, {})

    def close(self) -> None:
        """Let go of the connection, which stays open."""
        self._closed = True


class ApplicationPool:
    """Lends connections of the application's pool, and gives each back without an open transaction."""

    backend: DBAPIBackend[Any]

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._closed = False

    @contextmanager
    def connection(self, *, writes: bool) -> Iterator[Any]:
        """Lend a connection for one operation, which is committed or rolled back."""
        if self._closed:
            raise closed_error()
        with ExitStack() as stack:
            try:
                connection = unwrap(stack.enter_context(self._pool.connection()))
            except self.backend.driver_error as exc:
                raise AttemptFailed(Failure(ConnectionFailedError, "see the pool's words"), exc) from None
            try:
                yield connection
                if self.backend.in_transaction(connection):
                    connection.commit()
            except BaseException as exc:
                self.backend.close_if_interrupted(connection, exc)
                with suppress(self.backend.driver_error):
                    if self.backend.in_transaction(connection):
                        connection.rollback()
                raise

    def close(self) -> None:
        """Let go of the pool; whoever made it closes it."""
        self._closed = True
