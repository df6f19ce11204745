"""Choose the backend that a URL asks for, and import its driver only then."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._options import Keywords, Options, options_from_keywords
from ._url import Address, parse
from .errors import ConfigurationError, DriverNotInstalledError, InvalidURLError

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .backend import Backend


_BOUND_OPTIONS = ("create_tables", "sessions_table", "messages_table", "default_limit", "ensure_ascii")


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
        return _on_pool(url, pool, options)
    if url is None:
        raise InvalidURLError("neither a URL nor a pool is given; pass a URL such as 'sqlite:chat.db'")
    address = parse(url)
    settings = _with_url(address, options)
    if settings.prepared_statements and address.dialect != "postgresql":
        raise ConfigurationError(f"prepared_statements=True is for PostgreSQL; drop it for {address.dialect}")
    if not settings.multi_statements and address.dialect != "mysql":
        raise ConfigurationError(f"multi_statements=False is for MySQL and MariaDB; drop it for {address.dialect}")
    if address.dialect == "memory":
        from .memory import MemoryBackend

        if settings.ssl is not None or settings.password is not None:
            raise ConfigurationError("ssl and password are for servers; drop them for memory:")
        return MemoryBackend(settings)
    try:
        if address.dialect == "sqlite":
            from .sqlite import SQLiteBackend

            return SQLiteBackend.from_address(address, settings)
        if address.dialect == "postgresql":
            from .postgresql import PostgresBackend

            return PostgresBackend.from_address(address, settings)
        from .mysql import MySQLBackend

        return MySQLBackend.from_address(address, settings)
    except ImportError as exc:
        raise DriverNotInstalledError(
            f"{address.dialect} needs a driver that cannot be imported ({exc.name or exc}); "
            f"install it with: pip install 'agent-sql-sessions[{address.dialect}]'"
        ) from exc


def bind(connection: object, **options: Unpack[Keywords]) -> Backend:
    """Return a backend on the application's own sqlite3, psycopg or pymysql connection.

    Operations are a part of the connection's transaction: nothing is committed, and
    after an error nothing is undone beyond what the operation itself did. In autocommit
    each operation is a transaction. Nothing is retried, and tables are created only
    with create_tables=True (not on MySQL, where that would commit). Closing the backend
    leaves the connection open. Of the options only create_tables, sessions_table,
    messages_table, default_limit and ensure_ascii apply. Raises ConfigurationError for
    another kind of connection or option.
    """
    from ._bound import bind_to

    _check_applies(options, _BOUND_OPTIONS, "bind()")
    keywords: Keywords = {"create_tables": False, **options}
    return bind_to(connection, options_from_keywords(keywords))


def _on_pool(url: str | None, pool: object, options: Keywords) -> Backend:
    from ._bound import pooled

    _check_applies(options, (*_BOUND_OPTIONS, "max_retries", "retry_delay"), "a pool")
    backend = pooled(pool, options_from_keywords(options))
    if url is not None and (dialect := parse(url).dialect) != backend.dialect:
        raise ConfigurationError(f"the URL is for {dialect}, the pool for {backend.dialect}; drop the URL")
    return backend


def _check_applies(options: Keywords, known: tuple[str, ...], where: str) -> None:
    for name in options:
        if name not in known:
            raise ConfigurationError(f"option {name!r} does not apply to {where}; use one of {', '.join(known)}")


def _with_url(address: Address, options: Keywords) -> Options:
    """Add what the URL says about an option; raise ConfigurationError where the two differ."""
    keywords: Keywords = {**options}
    if address.password is not None:
        if keywords.get("password") not in (None, address.password):
            raise ConfigurationError("the URL and password= give different passwords; keep one")
        keywords["password"] = address.password
    if (text := address.parameters.get("connect_timeout")) is not None:
        if not text.isdecimal() or not int(text):
            raise InvalidURLError("connect_timeout in the URL is no whole number of seconds above 0; correct it")
        if keywords.get("connection_timeout", int(text)) != int(text):
            raise ConfigurationError("the URL's connect_timeout and connection_timeout= differ; keep one")
        keywords["connection_timeout"] = float(text)
    return options_from_keywords(keywords)
