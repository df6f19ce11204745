"""connect(pool=): through a pool that belongs to the application."""

import asyncio
import gc
import json
import signal
import socket
import sqlite3
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from types import FrameType, SimpleNamespace
from typing import Any

import psycopg
import psycopg.rows
import psycopg_pool
import pymysql
import pytest
from dbutils.persistent_db import PersistentDB
from dbutils.pooled_db import PooledDB
from sqlalchemy import create_engine
from sqlalchemy.pool import QueuePool

import sessions
from embedding.application import connect_as, end_connections, orders, place_order, prepare, use_everything
from sessions._connections.sharing import turns_on
from support.children import Child
from support.claims import refused
from support.proxy import Proxy
from support.samples import (
    assert_contiguous_and_ordered,
    batch,
    in_threads,
    items,
    refuse_poisoned_rows,
    stored_texts,
    texts,
)
from support.servers import dialect_of, with_parts

SIZE = 3


def opener(url: str, autocommit: bool) -> Callable[[], Any]:
    options = {"check_same_thread": False} if dialect_of(url) == "sqlite" else {}
    return lambda: connect_as(url, autocommit=autocommit, **options)


@contextmanager
def psycopg_pool_of(url: str, *, autocommit: bool = False) -> Iterator[Any]:
    options = {"autocommit": autocommit, "row_factory": psycopg.rows.dict_row}
    with psycopg_pool.ConnectionPool(url, kwargs=options, min_size=0, max_size=SIZE, timeout=10) as pool:
        yield pool


@contextmanager
def dbutils_pool_of(url: str, *, autocommit: bool = False) -> Iterator[Any]:
    module: Any = sqlite3 if dialect_of(url) == "sqlite" else pymysql
    creator = SimpleNamespace(
        connect=opener(url, autocommit),
        threadsafety=1,
        **{name: getattr(module, name) for name in ("OperationalError", "InterfaceError", "InternalError")},
    )
    pool = PooledDB(creator, maxconnections=SIZE, blocking=True)
    yield pool
    pool.close()


@contextmanager
def sqlalchemy_pool_of(url: str, *, autocommit: bool = False) -> Iterator[Any]:
    pool = QueuePool(opener(url, autocommit), pool_size=SIZE, max_overflow=0)
    yield SimpleNamespace(connection=lambda: closing(pool.connect()))
    pool.dispose()


KINDS: list[Any] = [
    pytest.param((open_pool, dialect), id=f"{name}-{dialect}", marks=getattr(pytest.mark, dialect))
    for name, open_pool, dialects in (
        ("psycopg_pool", psycopg_pool_of, ("postgresql",)),
        ("dbutils", dbutils_pool_of, ("sqlite", "mysql", "mariadb")),
        ("sqlalchemy", sqlalchemy_pool_of, ("sqlite", "postgresql", "mysql", "mariadb")),
    )
    for dialect in dialects
]


@pytest.fixture(params=KINDS)
def open_pool(request: pytest.FixtureRequest, make_url: Callable[[str], str]) -> Iterator[Callable[..., Any]]:
    """A function that makes a pool of each kind in turn, to a database which is its `url`."""
    kind, dialect = request.param
    with ExitStack() as stack:

        def make(*, autocommit: bool = False) -> Any:
            url = make_url(dialect)
            pool = stack.enter_context(kind(url, autocommit=autocommit))
            return SimpleNamespace(connection=pool.connection, url=url)

        yield make


@pytest.fixture
def pool(open_pool: Callable[..., Any]) -> Any:
    """The application's pool, to a database with its table and ours."""
    pool = open_pool()
    prepare(pool.url)
    return pool


@pytest.fixture
def backend(pool: Any) -> Iterator[sessions.Backend]:
    with sessions.connect(pool=pool, retry_delay=0.01) as backend:
        yield backend


@pytest.mark.parametrize("autocommit", [False, True])
def test_each_operation_is_committed_whatever_the_pools_connections_do(
    open_pool: Callable[..., Any], autocommit: bool
) -> None:
    pool = open_pool(autocommit=autocommit)
    with sessions.connect(pool=pool) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a", "b", "c"))
        assert len(stored_texts(pool.url)) == 3
        session.pop_item()
        assert len(stored_texts(pool.url)) == 2
        session.replace_items(items("d"))
        assert len(stored_texts(pool.url)) == 1
        session.clear_session()
        assert stored_texts(pool.url) == []
        use_everything(session)
    assert len(stored_texts(pool.url)) == 1


def test_a_failed_operation_gives_back_a_clean_connection(pool: Any, backend: sessions.Backend) -> None:
    refuse_poisoned_rows(pool.url)
    for _ in range(SIZE + 2):
        with pytest.raises(sessions.DatabaseError, match=r"trigger|P0001"):
            backend.session("chat_1").add_items(items("fine", "poison"))
    with pool.connection() as lent:
        place_order(lent, 1)
        lent.commit()
    assert orders(pool.url) == [1]
    assert backend.session("chat_1").get_items() == []


def test_many_threads_share_the_pools_few_connections(backend: sessions.Backend) -> None:
    session = backend.session("chat_1")

    def work(number: int) -> None:
        for count in range(3):
            session.add_items(batch(f"w{number}", count, 2))
            assert session.get_items(limit=1)

    in_threads(2 * SIZE, work)
    assert_contiguous_and_ordered(session.get_items(), [f"w{n}" for n in range(2 * SIZE)], batches=3, size=2)


def test_closing_the_backend_leaves_the_pool_open(pool: Any, backend: sessions.Backend) -> None:
    session = backend.session("chat_1")
    session.add_items(items("a"))
    backend.close()
    with pytest.raises(sessions.ClosedError):
        session.get_items()
    with sessions.connect(pool=pool) as again:
        assert texts(again.session("chat_1").get_items()) == ["a"]


def test_the_order_and_the_history_share_a_connection_of_the_pool(pool: Any) -> None:
    with pool.connection() as lent:
        session = sessions.bind(lent).session("chat_1")
        place_order(lent, 1)
        session.add_items(items("placed"))
        lent.rollback()
        assert (orders(pool.url), stored_texts(pool.url)) == ([], [])
        place_order(lent, 2)
        session.add_items(items("placed"))
        lent.commit()
    assert (orders(pool.url), len(stored_texts(pool.url))) == ([2], 1)


@pytest.mark.parametrize("open_pool", [kind for kind in KINDS if kind.values[0][1] != "sqlite"], indirect=True)
def test_connections_that_the_server_has_ended_are_survived(pool: Any, backend: sessions.Backend) -> None:
    session = backend.session("chat_1")
    in_threads(SIZE, lambda number: session.add_items(items("a")))
    for operation in (session.get_items, lambda: session.add_items(items("b")), session.clear_session):
        end_connections(pool.url)
        operation()
    assert session.get_items() == []


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("operation", ["pop_item", "fork", "get_items"])
def test_a_pool_is_asked_again_for_a_connection_that_was_closed_while_it_was_idle(
    server_url: str, operation: str, autocommit: bool
) -> None:
    """Nothing can have been executed on it: the outcome is known."""
    prepare(server_url)
    kept: list[Any] = []

    @contextmanager
    def connection() -> Iterator[Any]:
        lent = kept.pop() if kept else connect_as(proxy.url, autocommit=autocommit)
        try:
            yield lent
        finally:
            if lent.open if hasattr(lent, "open") else not lent.closed:
                kept.append(lent)

    with Proxy(server_url) as proxy:
        session = sessions.connect(pool=SimpleNamespace(connection=connection)).session("chat_1")
        session.add_items(items("a"))
        proxy.drop()
        getattr(session, operation)(*(["chat_2"] if operation == "fork" else []))
        assert texts(session.get_items()) == ([] if operation == "pop_item" else ["a"])
        proxy.drop()
        again = sessions.connect(pool=SimpleNamespace(connection=connection))
        assert again.session("chat_1").get_items() == session.get_items()
        for lent in kept:
            lent.close()


# Each means of a statement that it is worth another attempt, or that a write may have happened.
_OF_CHECK_IN = [
    RuntimeError("x"),
    TimeoutError("x"),
    sqlite3.OperationalError("database is locked"),
    psycopg.OperationalError("x"),
    psycopg.errors.SerializationFailure("x"),
    pymysql.OperationalError(1053, "x"),
    pymysql.OperationalError(2013, "x"),
]


@pytest.mark.parametrize("error", _OF_CHECK_IN, ids=repr)
def test_what_a_pool_raises_when_a_connection_comes_back_changes_nothing(
    error: Exception, sql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def connection() -> Iterator[Any]:
        with closing(opener(sql_url, False)()) as lent:
            yield lent
            if armed:
                armed.clear()
                raise error

    armed: list[bool] = []
    with sessions.connect(pool=SimpleNamespace(connection=connection)) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        armed.append(True)
        session.add_items(items("b"))
        assert not armed
        assert texts(session.get_items()) == ["a", "b"]
        armed.append(True)
        assert texts([session.pop_item() or {}]) == ["b"]
        assert not armed
        assert texts(session.get_items()) == ["a"]
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2


def test_what_a_pool_raises_behind_a_failure_does_not_hide_it(sqlite_url: str) -> None:
    @contextmanager
    def connection() -> Iterator[Any]:
        with closing(opener(sqlite_url, False)()) as lent:
            try:
                yield lent
            except Exception as exc:
                raise RuntimeError("the pool's own") from exc

    with sessions.connect(pool=SimpleNamespace(connection=connection)) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        with pytest.raises(sessions.ConflictError):
            session.add_items(items("b"), if_position=99)


def test_a_pool_that_lends_nothing_is_an_error_of_ours(postgresql_url: str) -> None:
    prepare(postgresql_url)
    with (
        psycopg_pool.ConnectionPool(postgresql_url, min_size=0, max_size=1, timeout=0.5) as pool,
        sessions.connect(pool=pool, retry_delay=0.01) as backend,
    ):
        session = backend.session("chat_1")
        with pool.connection():
            for operation in (session.get_items, session.pop_item, lambda: session.add_items(items("a"))):
                with pytest.raises(sessions.ConnectionFailedError, match=r"0\.50 sec"):
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


@pytest.mark.parametrize("server_url", ["postgresql", "mysql"], indirect=True)
def test_a_server_that_is_away_for_a_moment_is_waited_for_through_a_pool(server_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    urls: list[str] = []

    def connect() -> Any:
        return opener(urls.pop() if urls else server_url, False)()

    pool = QueuePool(connect, pool_size=1)
    lender = SimpleNamespace(connection=lambda: closing(pool.connect()))
    with sessions.connect(pool=lender, retry_delay=0.01) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        pool.dispose()
        urls += [with_parts(server_url, host="127.0.0.1", port=port)] * 2
        session.add_items(items("b"))
        assert urls == []
        assert texts(session.get_items()) == ["a", "b"]
        pool.dispose()


@pytest.mark.parametrize("server_url", ["postgresql", "mysql", "mariadb"], indirect=True)
@pytest.mark.parametrize("autocommit", [True, False])
def test_a_dead_connection_that_a_pool_lends_again_is_passed_over(server_url: str, autocommit: bool) -> None:
    """As DBUtils does, whose reconnecting has failed: the driver says for ever that a transaction is open on it."""
    prepare(server_url)
    with Proxy(server_url) as proxy:
        dead = connect_as(proxy.url, autocommit=autocommit)
        good = connect_as(server_url, autocommit=autocommit)
        lent = [good]
        pool = SimpleNamespace(connection=lambda: nullcontext(lent.pop(0)))
        backend = sessions.connect(pool=pool, retry_delay=0.01)
        cursor = dead.cursor()
        cursor.execute("BEGIN")
        proxy.drop()
        with suppress(psycopg.Error, pymysql.Error):
            cursor.execute("SELECT 1")
        lent += [dead, dead, good, good, good]
        session = backend.session("chat_1")
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]
        for connection in (good, dead):
            with suppress(pymysql.Error):
                connection.close()


@pytest.mark.parametrize("server_url", ["postgresql", "mysql", "mariadb"], indirect=True)
def test_dead_connections_of_a_pool_are_passed_over_without_a_pause(server_url: str) -> None:
    """As after a restart of the server, of a pool that does not ask whether they are alive."""
    prepare(server_url)
    with Proxy(server_url) as proxy:
        idle = [connect_as(proxy.url, autocommit=True) for _ in range(12)]
        proxy.drop()
        idle.append(connect_as(server_url, autocommit=True))
        pool = SimpleNamespace(connection=lambda: nullcontext(idle[0] if len(idle) == 1 else idle.pop(0)))
        session = sessions.connect(pool=pool, max_retries=0).session("chat_1")
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]
        idle[0].close()


class _NoneLeftError(Exception):
    """As a pool's own time limit is, which is no error of its driver."""


@pytest.mark.parametrize("server_url", ["postgresql", "mysql", "mariadb"], indirect=True)
def test_a_lost_write_is_looked_for_also_where_the_pool_lends_nothing_for_a_while(server_url: str) -> None:
    prepare(server_url)
    refusals: list[Exception] = []

    @contextmanager
    def connection() -> Iterator[Any]:
        if refusals:
            raise refusals.pop()
        with closing(connect_as(proxy.url, autocommit=True)) as lent:
            if proxy_cuts:
                proxy.cut(packet=proxy_cuts.pop(), when="after")
                refusals.extend(_NoneLeftError("nothing left") for _ in range(2))
            yield lent

    proxy_cuts: list[int] = []
    with Proxy(server_url) as proxy:
        backend = sessions.connect(pool=SimpleNamespace(connection=connection), retry_delay=0.01)
        session = backend.session("chat_1")
        session.add_items(items("a"))
        proxy_cuts.append(1)
        session.add_items(items("b"))
        assert proxy.was_cut
        assert refusals == []
        assert texts(session.get_items()) == ["a", "b"]


SECRET = "hunter2"


def _refused(url: str) -> Any:
    return psycopg.connect(with_parts(url, password=SECRET))


def _in_other_words(url: str) -> Any:
    try:
        return _refused(url)
    except psycopg.Error as exc:
        raise RuntimeError("no database") from exc


CONNECTS_WITH_A_SECRET: dict[str, Callable[[str], Any]] = {
    "a URL that cannot be read": lambda _: psycopg.connect(f"postgresql://app:{SECRET}%zz@127.0.0.1/db"),
    "a string that cannot be read": lambda _: psycopg.connect(f"host=127.0.0.1 password=my {SECRET}"),
    "an at sign in the password": lambda _: psycopg.connect(f"postgresql://app:my@{SECRET}@127.0.0.1/db"),
    "a refused login": _refused,
    "an engine of SQLAlchemy": lambda url: create_engine(
        "postgresql+psycopg://", creator=lambda: _refused(url)
    ).connect(),
    "an application's own error": _in_other_words,
}


@pytest.mark.parametrize("connect", CONNECTS_WITH_A_SECRET.values(), ids=CONNECTS_WITH_A_SECRET)
def test_no_error_of_a_pool_shows_a_password(postgresql_url: str, connect: Callable[[str], Any]) -> None:
    opens: list[Callable[[str], Any]] = [connect]
    pool = SimpleNamespace(connection=lambda: closing(opens[-1](postgresql_url)))
    with pytest.raises(sessions.ConnectionFailedError) as caught:
        sessions.connect(pool=pool)
    assert SECRET not in seen(caught.value)
    opens.append(psycopg.connect)
    with sessions.connect(pool=pool, max_retries=0) as backend:
        opens.append(connect)
        with pytest.raises(sessions.ConnectionFailedError) as caught:
            backend.session("chat_1").get_items()
    assert SECRET not in seen(caught.value)


def seen(error: BaseException) -> str:
    """All that can be seen of an error: its words, its causes, what hangs on them, and their frames' variables."""
    found, following = [str(error)], error.__cause__ or error.__context__
    while following is not None:
        found += [str(following), repr(vars(following)), repr(getattr(following, "pgconn", None))]
        found += [repr(frame.f_locals) for frame, _ in traceback.walk_tb(following.__traceback__)]
        following = following.__cause__ or following.__context__
    return "\n".join(found)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
@pytest.mark.parametrize("kind", [TimeoutError, RuntimeError, TypeError])
@pytest.mark.parametrize("when", ["at first", "later"])
def test_a_time_limit_that_ends_while_a_pool_lends_goes_on(sqlite_url: str, kind: type[Exception], when: str) -> None:
    def handle(number: int, frame: FrameType | None) -> None:
        raise kind

    def connect() -> Any:
        if armed[0]:
            signal.raise_signal(signal.SIGALRM)
        return closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:")))

    armed = [when == "at first"]
    before = signal.signal(signal.SIGALRM, handle)
    try:
        with ExitStack() as stack:
            if when == "later":
                backend = stack.enter_context(sessions.connect(pool=SimpleNamespace(connection=connect)))
                armed[0] = True
                stack.enter_context(pytest.raises(kind))
                backend.session("chat_1").get_items()
            else:
                stack.enter_context(pytest.raises(kind))
                sessions.connect(pool=SimpleNamespace(connection=connect))
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize(
    "wrong",
    [
        object(),
        "postgresql://app@db/app",
        SimpleNamespace(connection=None),
        SimpleNamespace(connection=lambda: None),
        SimpleNamespace(connection=lambda: closing(open(__file__))),  # noqa: PTH123, SIM115
    ],
    ids=["object", "url", "no-method", "no-context-manager", "no-connection"],
)
def test_what_is_no_pool_is_refused(wrong: Any) -> None:
    with pytest.raises(sessions.ConfigurationError):
        sessions.connect(pool=wrong)


@pytest.mark.parametrize("error", [TypeError, AttributeError])
def test_what_is_wrong_with_a_pools_connections_is_its_own_words(error: type[Exception]) -> None:
    def connect() -> Any:
        raise error("connect() got an unexpected keyword argument 'sslmood'")

    pool = QueuePool(connect)
    with refused(sessions.ConnectionFailedError, match="sslmood") as caught:
        sessions.connect(pool=SimpleNamespace(connection=lambda: closing(pool.connect())))
    assert isinstance(caught.value.__cause__, error)


def test_what_psycopg_says_of_a_transaction_is_not_taken_for_a_connection_string() -> None:
    said = psycopg.ProgrammingError("can't change 'autocommit' now: connection in transaction status INTRANS")

    def connection() -> Any:
        raise said

    with refused(sessions.ConnectionFailedError, match="can't change 'autocommit' now"):
        sessions.connect(pool=SimpleNamespace(connection=connection))


def test_an_asynchronous_pool_is_refused() -> None:
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
        for option in ("password", "ssl", "pool_size", "integrity_key"):
            options: Any = {option: 1}
            with pytest.raises(sessions.ConfigurationError, match=f"{option}.*only to connect\\(\\) with a URL"):
                sessions.connect(pool=pool, **options)


def test_missing_tables_are_created_through_the_pool_unless_forbidden(open_pool: Callable[..., Any]) -> None:
    pool = open_pool()
    with sessions.connect(pool=pool, create_tables=False) as backend, pytest.raises(sessions.SchemaError):
        backend.session("chat_1").get_items()
    with sessions.connect(pool=pool) as backend:
        assert backend.session("chat_1").get_items() == []
        backend.session("chat_1").add_items(items("a"))
    assert len(stored_texts(pool.url)) == 1


def test_a_connection_that_a_pool_lends_to_several_threads_is_given_back_in_turn(sql_url: str) -> None:
    with sessions.connect(sql_url) as own:
        own.session("chat_1").get_items()  # makes the tables
    are_in_turn = []
    with closing(opener(sql_url, autocommit=False)()) as connection:

        @contextmanager
        def shared() -> Iterator[Any]:
            try:
                yield connection
            finally:
                are_in_turn.append(turns_on(connection).lock.is_held())
                connection.rollback()  # as SQLAlchemy's pools do with what comes back

        backend = sessions.connect(pool=SimpleNamespace(connection=shared))

        def work(number: int) -> None:
            for each in range(20):
                backend.session("chat_1").add_items(batch(str(number), each, 2))
                backend.session("empty").get_items()

        in_threads(4, work)
    assert all(are_in_turn)
    with sessions.Session.from_url("chat_1", sql_url) as session:
        assert_contiguous_and_ordered(session.get_items(), "0123", batches=20, size=2)


@pytest.mark.usefixtures("each_fork")
def test_a_backend_on_a_pool_refuses_to_work_in_a_forked_child(sqlite_url: str) -> None:
    def work() -> None:
        for use in (session.get_items, session.pop_item, lambda: session.add_items(items("b"))):
            with pytest.raises(sessions.ClosedError, match="make one in each process"):
                use()

    with dbutils_pool_of(sqlite_url) as pool:
        session = sessions.connect(pool=pool).session("chat_1")
        session.add_items(items("a"))
        Child(work).result()
        assert texts(session.get_items()) == ["a"]


def test_a_backend_that_is_dropped_keeps_no_pool(sqlite_url: str) -> None:
    with dbutils_pool_of(sqlite_url) as pool:
        sessions.connect(pool=pool).session("chat_1").get_items()
        gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda session: session.get_items(), id="get_items"),
        pytest.param(lambda session: session.add_items(items("a")), id="add_items"),
        pytest.param(lambda session: session.add_items(items("a"), if_position=7), id="a conflict"),
    ],
)
def test_a_connection_that_a_pool_lends_in_a_transaction_is_refused(
    call: Callable[[sessions.Session], object], sql_url: str
) -> None:
    """As DBUtils' PersistentDB lends a thread its own, again and again."""
    prepare(sql_url)
    with closing(connect_as(sql_url, autocommit=False)) as connection:
        pool = SimpleNamespace(connection=lambda: nullcontext(connection))
        with sessions.connect(pool=pool) as backend:
            session = backend.session("chat")
            place_order(connection, 1)
            with pytest.raises(sessions.ConfigurationError, match=r"bind\(\)"):
                call(session)
            place_order(connection, 2)
            connection.commit()
            assert orders(sql_url) == [1, 2]
            session.add_items(items("a"))
            assert texts(session.get_items()) == ["a"]


def persistent_db_of(url: str) -> Any:
    """DBUtils' pool whose block, a connection's own, commits or rolls back, and gives nothing back."""
    kind = dialect_of(url)
    module: Any = sqlite3 if kind == "sqlite" else psycopg if kind == "postgresql" else pymysql
    names = ("OperationalError", "InterfaceError", "InternalError")
    creator = SimpleNamespace(
        connect=opener(url, False), threadsafety=1, **{name: getattr(module, name) for name in names}
    )
    return PersistentDB(creator)


@pytest.mark.parametrize("use", ["connect", "get_items", "add_items"])
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_refused_transaction_of_a_threads_own_connection_stays_open(sql_url: str, use: str, end: str) -> None:
    prepare(sql_url)
    pool = persistent_db_of(sql_url)
    session = sessions.connect(pool=pool).session("chat")
    session.add_items(items("a"))
    uses: dict[str, Callable[[], object]] = {
        "connect": lambda: sessions.connect(pool=pool),
        "get_items": session.get_items,
        "add_items": lambda: session.add_items(items("b")),
    }
    connection = pool.connection()
    place_order(connection, 1)
    with pytest.raises(sessions.ConfigurationError, match=r"use bind\(\)$"):
        uses[use]()
    place_order(connection, 2)
    getattr(connection, end)()
    assert orders(sql_url) == ([1, 2] if end == "commit" else [])
    assert texts(session.get_items()) == ["a"]


@pytest.mark.parametrize("use", ["connect", "get_items"])
def test_a_pool_whose_block_ends_a_transaction_is_named_in_the_refusal(sql_url: str, use: str) -> None:
    prepare(sql_url)
    with closing(connect_as(sql_url, autocommit=False)) as connection:

        @contextmanager
        def lend() -> Iterator[Any]:
            try:
                yield connection
            except BaseException:
                connection.rollback()
                raise

        pool = SimpleNamespace(connection=lend)
        session = sessions.connect(pool=pool).session("chat")
        place_order(connection, 1)
        with pytest.raises(sessions.ConfigurationError, match="may have rolled that back"):
            sessions.connect(pool=pool) if use == "connect" else session.get_items()
        connection.commit()
    assert orders(sql_url) == []


def test_a_refused_connection_of_a_pool_goes_back_to_it(sqlite_url: str) -> None:
    prepare(sqlite_url)
    pool = PooledDB(SimpleNamespace(connect=opener(sqlite_url, False), threadsafety=1), maxconnections=1, reset=False)
    session = sessions.connect(pool=pool).session("chat")
    with closing(pool.connection()) as lent:
        place_order(lent, 1)
    for _ in range(2):
        with pytest.raises(sessions.ConfigurationError, match="bind"):
            session.get_items()
    with closing(pool.connection()) as lent:
        lent.commit()
    assert session.get_items() == []
    assert orders(sqlite_url) == [1]


needs_autocommit = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="sqlite3's attribute autocommit is of Python 3.12"
)


@needs_autocommit
def test_connections_that_are_always_in_a_transaction_are_refused(sqlite_url: str) -> None:
    prepare(sqlite_url)
    options: dict[str, Any] = {"autocommit": False}
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), **options)) as connection:
        pool = SimpleNamespace(connection=lambda: nullcontext(connection))
        place_order(connection, 1)
        for use in (sessions.Session.get_items, lambda session: session.add_items(items("a"))):
            with pytest.raises(sessions.ConfigurationError, match="open them with autocommit=True"):
                use(sessions.connect(pool=pool).session("chat"))
        connection.rollback()
    assert orders(sqlite_url) == []


@needs_autocommit
def test_what_is_left_open_on_a_connection_with_the_attribute_autocommit_is_refused(sqlite_url: str) -> None:
    """Its commit() and rollback() do nothing, so that no pool ends what is left open."""
    prepare(sqlite_url)
    options: dict[str, Any] = {"autocommit": True}
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), **options)) as connection:
        pool = SimpleNamespace(connection=lambda: nullcontext(connection))
        with sessions.connect(pool=pool) as backend:
            backend.session("chat").add_items(items("a"))
            connection.execute("BEGIN")
            with pytest.raises(sessions.ConfigurationError, match="transaction"):
                backend.session("chat").add_items(items("b"))
            connection.execute("COMMIT")
            backend.session("chat").add_items(items("c"))
            assert not connection.in_transaction
    assert [json.loads(text)["content"] for text in stored_texts(sqlite_url, "chat")] == ["a", "c"]


# --- before the first operation


def _pool_that_begins_with(url: str, first: str) -> Any:
    """A pool whose first connection is to another address."""
    urls = [url, first]

    @contextmanager
    def connection() -> Iterator[Any]:
        with closing(connect_as(urls.pop() if len(urls) > 1 else url, autocommit=False)) as lent:
            yield lent

    return SimpleNamespace(connection=connection, urls=urls)


def test_a_server_that_is_away_when_a_backend_is_made_is_waited_for(server_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        away = with_parts(server_url, port=server.getsockname()[1])
    pool = _pool_that_begins_with(server_url, away)
    with sessions.connect(pool=pool, retry_delay=0.01) as backend:
        backend.session("chat_1").add_items(items("a"))
        assert texts(backend.session("chat_1").get_items()) == ["a"]
    assert pool.urls == [server_url]
    with refused(sessions.ConnectionFailedError, match=r"the pool lends no connection .*longer retry_timeout"):
        sessions.connect(pool=_pool_that_begins_with(away, away), retry_delay=0.01, retry_timeout=0.1)


def test_a_password_that_is_wrong_is_said_at_once(server_url: str) -> None:
    pool = _pool_that_begins_with(server_url, with_parts(server_url, password="wrong"))
    with refused(sessions.ConnectionFailedError, match=r"the pool lends no connection .*see the cause"):
        sessions.connect(pool=pool)
