"""connect(pool=): through a pool that belongs to the application."""

import gc
import sqlite3
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from types import SimpleNamespace
from typing import Any

import psycopg
import psycopg.rows
import psycopg_pool
import pymysql
import pytest
from dbutils.pooled_db import PooledDB
from sqlalchemy.pool import QueuePool

import sessions
from embedding.application import connect_as, orders, place_order, prepare, wait_until
from support.samples import (
    assert_contiguous_and_ordered,
    batch,
    in_threads,
    items,
    refuse_poisoned_rows,
    stored_texts,
    texts,
)
from support.servers import dialect_of, execute_sql

SIZE = 3


@contextmanager
def psycopg_pool_of(url: str, *, autocommit: bool = False) -> Iterator[Any]:
    options = {"autocommit": autocommit, "row_factory": psycopg.rows.dict_row}
    with psycopg_pool.ConnectionPool(url, kwargs=options, min_size=0, max_size=SIZE, timeout=10) as pool:
        yield pool


@contextmanager
def dbutils_pool_of(url: str, *, autocommit: bool = False) -> Iterator[Any]:
    module: Any = sqlite3 if dialect_of(url) == "sqlite" else pymysql
    options = {"check_same_thread": False} if dialect_of(url) == "sqlite" else {}
    creator = SimpleNamespace(
        connect=lambda: connect_as(url, autocommit=autocommit, **options),
        threadsafety=1,
        **{name: getattr(module, name) for name in ("OperationalError", "InterfaceError", "InternalError")},
    )
    pool = PooledDB(creator, maxconnections=SIZE, blocking=True)
    yield pool
    pool.close()


@contextmanager
def sqlalchemy_pool_of(url: str, *, autocommit: bool = False) -> Iterator[Any]:
    options = {"check_same_thread": False} if dialect_of(url) == "sqlite" else {}
    pool = QueuePool(lambda: connect_as(url, autocommit=autocommit, **options), pool_size=SIZE, max_overflow=0)
    yield SimpleNamespace(connection=lambda: closing(pool.connect()), checkedout=pool.checkedout)
    pool.dispose()


KINDS: dict[str, tuple[Callable[..., Any], str]] = {
    "psycopg_pool-postgresql": (psycopg_pool_of, "postgresql"),
    "dbutils-sqlite": (dbutils_pool_of, "sqlite"),
    "dbutils-mysql": (dbutils_pool_of, "mysql"),
    "dbutils-mariadb": (dbutils_pool_of, "mariadb"),
    "sqlalchemy-sqlite": (sqlalchemy_pool_of, "sqlite"),
    "sqlalchemy-postgresql": (sqlalchemy_pool_of, "postgresql"),
    "sqlalchemy-mysql": (sqlalchemy_pool_of, "mysql"),
    "sqlalchemy-mariadb": (sqlalchemy_pool_of, "mariadb"),
}


def _parameters(*wanted: str) -> list[Any]:
    return [
        pytest.param((open_pool, dialect), id=name, marks=getattr(pytest.mark, dialect))
        for name, (open_pool, dialect) in KINDS.items()
        if dialect in wanted
    ]


ALL = _parameters("sqlite", "postgresql", "mysql", "mariadb")
SERVERS = _parameters("postgresql", "mysql", "mariadb")


class Application:
    """A database, the application's pool to it, and our backend on that pool."""

    def __init__(self, url: str, pool: Any, backend: sessions.Backend) -> None:
        self.url = url
        self.pool = pool
        self.backend = backend


@pytest.fixture
def application(request: pytest.FixtureRequest, make_url: Callable[[str], str]) -> Iterator[Callable[..., Application]]:
    with ExitStack() as stack:

        def make(kind: tuple[Callable[..., Any], str], *, autocommit: bool = False, **options: Any) -> Application:
            open_pool, dialect = kind
            url = make_url(dialect)
            prepare(url)
            pool = stack.enter_context(open_pool(url, autocommit=autocommit))
            backend = stack.enter_context(sessions.connect(pool=pool, **options))
            return Application(url, pool, backend)

        yield make


Make = Callable[..., Application]


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("kind", ALL)
def test_each_operation_is_committed_whatever_the_pools_connections_do(
    application: Make, kind: Any, autocommit: bool
) -> None:
    app = application(kind, autocommit=autocommit)
    session = app.backend.session("chät_1")
    session.add_items(items("a", "b"))
    session.add_items(items("c"), if_position=session.position())
    assert len(stored_texts(app.url, "chät_1")) == 3
    assert texts(session.get_items()) == ["a", "b", "c"]
    assert session.pop_item() == items("c")[0]
    assert len(stored_texts(app.url, "chät_1")) == 2
    with pytest.raises(sessions.ConflictError):
        session.replace_items([], if_position=0)
    session.replace_items(items("d"))
    assert len(stored_texts(app.url, "chät_1")) == 1
    session.clear_session()
    assert stored_texts(app.url, "chät_1") == []


@pytest.mark.parametrize("kind", ALL)
def test_a_failed_operation_gives_back_a_clean_connection(application: Make, kind: Any) -> None:
    app = application(kind)
    refuse_poisoned_rows(app.url)
    for _ in range(SIZE + 2):
        with pytest.raises(sessions.DatabaseError, match="refused by trigger"):
            app.backend.session("chat_1").add_items(items("fine", "poison"))
    with app.pool.connection() as lent:
        place_order(lent, 1)
        lent.commit()
    assert orders(app.url) == [1]
    assert app.backend.session("chat_1").get_items() == []


@pytest.mark.parametrize("kind", ALL)
def test_many_threads_share_the_pools_few_connections(application: Make, kind: Any) -> None:
    app = application(kind)
    session = app.backend.session("chat_1")

    def work(number: int) -> None:
        for count in range(3):
            session.add_items(batch(f"w{number}", count, 2))
            assert session.get_items(limit=1)

    in_threads(2 * SIZE, work)
    assert_contiguous_and_ordered(session.get_items(), [f"w{n}" for n in range(2 * SIZE)], batches=3, size=2)


@pytest.mark.parametrize("kind", ALL)
def test_closing_the_backend_leaves_the_pool_open(application: Make, kind: Any) -> None:
    app = application(kind)
    session = app.backend.session("chat_1")
    session.add_items(items("a"))
    app.backend.close()
    with pytest.raises(sessions.ClosedError):
        session.get_items()
    with sessions.connect(pool=app.pool) as again:
        assert texts(again.session("chat_1").get_items()) == ["a"]


@pytest.mark.parametrize("kind", ALL)
def test_the_order_and_the_history_share_a_connection_of_the_pool(application: Make, kind: Any) -> None:
    app = application(kind)
    with app.pool.connection() as lent:
        session = sessions.bind(lent).session("chat_1")
        place_order(lent, 1)
        session.add_items(items("placed"))
        lent.rollback()
        assert (orders(app.url), stored_texts(app.url)) == ([], [])
        place_order(lent, 2)
        session.add_items(items("placed"))
        lent.commit()
    assert (orders(app.url), len(stored_texts(app.url))) == ([2], 1)


@pytest.mark.parametrize("kind", SERVERS)
def test_connections_that_the_server_has_ended_are_survived(application: Make, kind: Any) -> None:
    app = application(kind, retry_delay=0.01)
    session = app.backend.session("chat_1")
    in_threads(SIZE, lambda number: session.add_items(items("a")))
    for operation in (session.get_items, lambda: session.add_items(items("b")), session.clear_session):
        end_all_connections(app.url)
        operation()
    assert session.get_items() == []


def end_all_connections(url: str) -> None:
    if dialect_of(url) == "postgresql":
        statement = (
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        execute_sql(url, statement)
        return
    statement = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    for (number,) in execute_sql(url, statement):
        execute_sql(url, f"KILL {number}")
    wait_until(lambda: not execute_sql(url, statement))


def test_a_pool_that_lends_nothing_is_an_error_of_ours(postgresql_url: str) -> None:
    prepare(postgresql_url)
    with (
        psycopg_pool.ConnectionPool(postgresql_url, min_size=0, max_size=1, timeout=0.05) as pool,
        sessions.connect(pool=pool, retry_delay=0.01) as backend,
    ):
        session = backend.session("chat_1")
        with pool.connection():
            for operation in (session.get_items, session.pop_item, lambda: session.add_items(items("a"))):
                with pytest.raises(sessions.ConnectionFailedError, match=r"0\.05 sec"):
                    operation()
            with pytest.raises(sessions.ConnectionFailedError):
                sessions.connect(pool=pool)
    with pytest.raises(sessions.ConnectionFailedError):
        sessions.connect(pool=pool)


def test_a_pool_whose_server_is_away_is_an_error_of_ours() -> None:
    def refuse() -> Any:
        raise psycopg.OperationalError("connection refused")

    pool = SimpleNamespace(connection=lambda: closing(QueuePool(refuse).connect()))
    with pytest.raises(sessions.ConnectionFailedError, match="refused"):
        sessions.connect(pool=pool)


@pytest.mark.parametrize(
    "pool",
    [
        object(),
        "postgresql://app@db/app",
        SimpleNamespace(connection=None),
        SimpleNamespace(connection=lambda: None),
        SimpleNamespace(connection=lambda: closing(open(__file__))),  # noqa: PTH123, SIM115
    ],
    ids=["object", "url", "no-method", "no-context-manager", "no-connection"],
)
def test_what_is_no_pool_is_refused(pool: Any) -> None:
    with pytest.raises(sessions.ConfigurationError):
        sessions.connect(pool=pool)


def test_an_asynchronous_pool_is_refused() -> None:
    import asyncio

    async def work() -> None:
        pool = psycopg_pool.AsyncConnectionPool("", open=False)
        with pytest.raises(sessions.ConfigurationError, match="synchronous"):
            sessions.connect(pool=pool)

    asyncio.run(work())


def test_a_url_beside_the_pool_may_only_agree(sqlite_url: str) -> None:
    with dbutils_pool_of(sqlite_url) as pool:
        with sessions.connect(sqlite_url, pool=pool, create_tables=True) as backend:
            backend.session("chat_1").add_items(items("a"))
        with pytest.raises(sessions.ConfigurationError, match="URL"):
            sessions.connect("postgresql://db/app", pool=pool)
        for option in ("password", "ssl", "pool_size"):
            options: Any = {option: 1}
            with pytest.raises(sessions.ConfigurationError, match=option):
                sessions.connect(pool=pool, **options)


@pytest.mark.parametrize("kind", ALL)
def test_missing_tables_are_created_through_the_pool_unless_forbidden(
    make_url: Callable[[str], str], kind: Any
) -> None:
    open_pool, dialect = kind
    url = make_url(dialect)
    with open_pool(url) as pool:
        with sessions.connect(pool=pool, create_tables=False) as backend, pytest.raises(sessions.SchemaError):
            backend.session("chat_1").get_items()
        with sessions.connect(pool=pool) as backend:
            assert backend.session("chat_1").get_items() == []
            backend.session("chat_1").add_items(items("a"))
    assert len(stored_texts(url)) == 1


def test_a_backend_that_is_dropped_keeps_no_pool(sqlite_url: str) -> None:
    with dbutils_pool_of(sqlite_url) as pool:
        sessions.connect(pool=pool).session("chat_1").get_items()
        gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None
