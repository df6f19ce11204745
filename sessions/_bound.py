"""Work on connections that belong to the application: one of its own, or those of its pool.

The rule: what the application began, only the application ends. On its connection we
undo nothing beyond a savepoint of ours.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

from ._dbapi import DBAPIBackend
from ._options import Options
from .errors import ConfigurationError, closed_error

# Where wrappers of pools keep the driver's connection: SQLAlchemy, then DBUtils.
_WRAPPED_AS = ("driver_connection", "_con")


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
    lender.backend = backend
    return backend


def pooled(pool: Any, options: Options) -> DBAPIBackend[Any]:
    """Make a backend on a pool of the application."""
    if not callable(getattr(pool, "connection", None)):
        raise ConfigurationError(
            f"pool is a {type(pool).__name__} without connection(); pass a pool whose connection() is a context manager"
        )
    with pool.connection() as lent:
        backend_class = _class_for(unwrap(lent))
    lender = ApplicationPool(pool)
    backend = backend_class(f"{backend_class.dialect}: ({type(pool).__name__})", options, lender)
    lender.backend = backend
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
        # Threads that share the handle take turns; whether they may share the connection its driver says.
        self._lock = threading.RLock()
        self._closed = False

    @contextmanager
    def connection(self, *, writes: bool) -> Iterator[Any]:
        """Lend it; an error takes back what the operation did and leaves the rest of the transaction."""
        if self._closed:
            raise closed_error()
        join = self.backend.join_transaction if writes else self.backend.in_transaction
        with self._lock:
            if not join(self._connection):
                # In autocommit an operation is a transaction of its own.
                yield self._connection
                return
            self._execute("savepoint")
            try:
                yield self._connection
            except BaseException:
                # A deadlock has rolled back the whole transaction, savepoints and all.
                with suppress(self.backend.driver_error):
                    self._execute("rollback_to_savepoint")
                    self._execute("release_savepoint")
                raise
            self._execute("release_savepoint")

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
        with self._pool.connection() as lent:
            connection = unwrap(lent)
            try:
                yield connection
                if self.backend.in_transaction(connection):
                    connection.commit()
            except BaseException:
                with suppress(self.backend.driver_error):
                    if self.backend.in_transaction(connection):
                        connection.rollback()
                raise

    def close(self) -> None:
        """Let go of the pool; whoever made it closes it."""
        self._closed = True
