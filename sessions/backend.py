"""One database that holds many conversations, and how to reach it."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self, Unpack, overload

from ._settings.options import BoundKeywords, Keywords, PoolKeywords
from ._stores.opening import open_beside, open_connection, open_pool, open_url
from ._stores.store import Store
from .errors import InvalidURLError, closed_error, kind_of
from .session import Session


@overload
def connect(url: str, **options: Unpack[Keywords]) -> Backend: ...


@overload
def connect(url: str | None = None, *, pool: Any, **options: Unpack[PoolKeywords]) -> Backend: ...


def connect(url: str | None = None, *, pool: Any = None, **options: Unpack[Keywords]) -> Backend:
    """Make the backend for a URL; connections are opened when they are needed.

    With pool=, an object whose connection() is a context manager, such as
    psycopg_pool.ConnectionPool, connections are borrowed from there: each operation
    is committed, and whoever made the pool closes it. A URL then only names the database.

    Raises InvalidURLError, ConfigurationError (an option, a certificate or a key
    that cannot be used) or DriverNotInstalledError at once. What only the server
    can tell, such as a wrong password, comes with the first operation.
    """
    if pool is not None:
        return _backend_on(open_pool(pool, url, options))
    if url is None:
        raise InvalidURLError("neither a URL nor a pool is given; pass a URL such as 'sqlite:chat.db'")
    return _backend_on(open_url(url, options))


def bind(connection: object, **options: Unpack[BoundKeywords]) -> Backend:
    """Return a backend on the application's own sqlite3, psycopg or pymysql connection.

    Operations are a part of the connection's transaction: nothing is committed, and
    after an error nothing is undone beyond what the operation itself did. In autocommit
    each operation is a transaction. Nothing is retried, and tables are created only
    with create_tables=True (not on MySQL, where that would commit). Closing the backend
    leaves the connection open. Of the options only create_tables, sessions_table,
    messages_table, default_limit and ensure_ascii apply. Raises ConfigurationError for
    another kind of connection or option.
    """
    return _backend_on(open_connection(connection, options))


class Backend:
    """One database. May be used from many threads; made by sessions.connect()."""

    def __init__(self, store: Store) -> None:
        if not isinstance(store, Store):
            raise TypeError(f"store is a {kind_of(store)}; write sessions.connect(url), or sessions.bind(connection)")
        self._store = store

    def session(self, session_id: str) -> Session:
        """Make a handle for one conversation, without a round trip; closing it leaves the backend open."""
        if self.closed:
            raise closed_error()
        return Session(session_id, self._store)

    def bind(self, connection: object) -> Backend:
        """Return a backend with these tables and limits on a connection of the application; see sessions.bind()."""
        return _backend_on(open_beside(self._store, connection))

    @property
    def closed(self) -> bool:
        """True once close() was called."""
        return self._store.closed

    def close(self) -> None:
        """Close all connections; what is in use is closed when its operation ends. May be called twice."""
        self._store.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._store.where}>"

    def __reduce__(self) -> str:
        raise TypeError("a backend cannot be pickled; send its URL and make a new one there")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class MemoryBackend(Backend):
    """Conversations in the memory of this process."""


class SQLiteBackend(Backend):
    """Conversations in one SQLite database."""


class PostgresBackend(Backend):
    """Conversations in one PostgreSQL database."""


class MySQLBackend(Backend):
    """Conversations in one MySQL or MariaDB database."""


_BACKENDS: dict[str, type[Backend]] = {
    "memory": MemoryBackend,
    "sqlite": SQLiteBackend,
    "postgresql": PostgresBackend,
    "mysql": MySQLBackend,
}


def _backend_on(store: Store) -> Backend:
    return _BACKENDS[store.dialect_name](store)
