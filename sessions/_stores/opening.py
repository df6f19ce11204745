"""Make the store that a URL, a pool or a connection asks for, and import its driver only then."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace
from time import sleep
from typing import Any

from sessions._connections.application import BoundConnection
from sessions._connections.application_pool import ApplicationPool, driver_of
from sessions._connections.pool import Pool
from sessions._dialects.connector import unwrap
from sessions._dialects.dialect import Dialect
from sessions._dialects.failures import AttemptFailed
from sessions._dialects.registry import DialectPackage, dialect_behind, dialect_of, parse
from sessions._settings.options import BoundKeywords, Keywords, Options, PoolKeywords, options_from
from sessions._settings.settings import settings_from
from sessions._settings.url import Address
from sessions.errors import ConfigurationError, ConnectionFailedError, DriverNotInstalledError

from .memory import MemoryStore
from .sql import SQLStore
from .store import SealableStore, Store
from .waits import Waits

logger = logging.getLogger("sessions")


def open_url(url: str, keywords: Keywords) -> Store:
    """Make the store of a URL, with a pool of its own."""
    return open_address(*parse(url), keywords)


def open_address(address: Address, package: DialectPackage | None, keywords: Keywords) -> Store:
    """Make the store of a URL that has been read, None for memory."""
    settings = settings_from(address, keywords, package.OWN_OPTIONS if package else ())
    options = settings.options
    if package is None:
        return keyed(MemoryStore(options))
    try:
        dialect, connector = package.dialect_and_connector(settings)
    except ImportError as exc:
        install = f"pip install 'agent-sql-sessions[{package.NAME}]'"
        if isinstance(exc, ModuleNotFoundError):
            what, remedy = exc.name, f"install it with: {install}"
        else:
            # It is there: a library of the system is missing, say, or this is a subinterpreter.
            what, remedy = " ".join(str(exc).split()), f"see its words; if it is not whole: {install}"
        raise DriverNotInstalledError(
            f"{package.NAME} needs a driver that cannot be imported ({what}); {remedy}"
        ) from exc
    pool: Pool[Any] = Pool(
        connector, size=options.pool_size, timeout=options.connection_timeout, max_idle=options.max_idle
    )
    return keyed(SQLStore(str(address), options, dialect, pool))


def open_pool(pool: object, url: str | None, keywords: PoolKeywords) -> Store:
    """Make a store on a pool of the application; the URL, if any, has to name the same kind of database."""
    _check_applies(keywords, PoolKeywords, "a pool")
    options = options_from(keywords)
    dialect = _dialect_of_pool(pool, options)
    if url is not None and (named := parse(url)[0].dialect) != dialect.name:
        raise ConfigurationError(f"the URL is for {named}, the pool for {dialect.name}; drop the URL")
    where = f"{dialect.name}: ({type(pool).__name__})"

    def check_kind(connection: object) -> None:
        if dialect.name != dialect_of(connection).NAME:
            raise ConfigurationError(f"the pool lends connections to {dialect.name} and others; make it lend one kind")

    return keyed(SQLStore(where, options, dialect, ApplicationPool(pool, dialect, check_kind)))


def _dialect_of_pool(pool: object, options: Options) -> Dialect[Any]:
    """Learn what a pool lends; wait for a server that is away as an operation does."""
    waits = Waits(options)
    while True:
        try:
            return driver_of(
                pool,
                lambda connection: dialect_of(connection).dialect_for(options),
                lambda exc: dialect_behind(exc, options),
            )
        except AttemptFailed as exc:
            failure, cause = exc.failure, exc.cause
        what = f"the pool lends no connection ({' '.join(str(cause).split())})"
        wait = waits.after(failure) if failure.transient else None
        if wait is None:
            remedy = "start the server, or give a longer retry_timeout" if failure.transient else "see the cause"
            raise ConnectionFailedError(f"{what}; {remedy}") from cause
        logger.warning("%s; trying again in %.2f s", what, wait)
        sleep(wait)


def open_connection(connection: object, keywords: BoundKeywords) -> Store:
    """Make a store on one connection of the application."""
    _check_applies(keywords, BoundKeywords, "bind()")
    create_tables: BoundKeywords = {"create_tables": False}
    return _on_connection(connection, options_from(create_tables | keywords))


def open_beside(store: Store, connection: object) -> Store:
    """Make a store with the same tables and limits on one connection of the application."""
    if store.options.integrity_key is not None:
        raise ConfigurationError(
            "a backend with an integrity_key does not bind connections, whose time zone may be another one; "
            "use its own sessions, or a backend without the key and unsealed='accept' for who reads"
        )
    if store.dialect_name == MemoryStore.dialect_name:
        raise ConfigurationError("memory: has no connections to bind; use sessions.bind()")
    driver_connection = unwrap(connection)
    if store.dialect_name != dialect_of(driver_connection).NAME:
        raise ConfigurationError(
            f"bind() of a {store.dialect_name} backend got a connection of {type(driver_connection).__module__}; "
            "bind a connection of the same driver, or use sessions.bind()"
        )
    return _on_connection(connection, replace(store.options, create_tables=False))


def _on_connection(connection: object, options: Options) -> Store:
    driver_connection = unwrap(connection)
    package = dialect_of(driver_connection)
    if options.create_tables and package.DDL_COMMITS:
        raise ConfigurationError(
            "create_tables=True on a bound connection: MySQL would commit your transaction; create the tables before"
        )
    dialect = package.dialect_for(options)
    # Only the application can repeat its transaction.
    options = replace(options, max_retries=0, retry_timeout=0.0)
    where = f"{package.NAME}: (bound connection)"
    store = SQLStore(where, options, dialect, BoundConnection(driver_connection, dialect))
    store.bound = True
    return keyed(store)


def keyed(store: SealableStore) -> Store:
    """Put what the options give keys for before a store, the encryption outermost: what is sealed is what is stored."""
    options = store.options
    kept: Store = store
    if options.integrity_key is not None:
        from .sealed import SealedStore

        kept = SealedStore(store)
    if options.encryption_key is not None:
        from .encrypted import EncryptedStore

        kept = EncryptedStore(kept)
    return kept


def _check_applies(options: Collection[str], applying: type, where: str) -> None:
    known = applying.__annotations__
    for name in options:
        if name not in known:
            place = f"{where}, only to connect() with a URL" if name in Keywords.__annotations__ else where
            raise ConfigurationError(f"option {name!r} does not apply to {place}; use one of {', '.join(known)}")
