"""One connection of the application, used by several at once: threads, and calls that interrupt one of their own."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext, suppress
from types import SimpleNamespace
from typing import Any

import psycopg
import pymysql
import pytest
from dbutils.pooled_db import PooledDB
from sqlalchemy.pool import QueuePool

import sessions
from embedding.application import connect_as, connected, orders, place_order, run
from sessions._dialects.postgresql import driver as postgresql
from sessions._dialects.sqlite import dialect as sqlite
from sessions._dialects.sqlite.values import run as run_statement
from support.claims import each_mysql, refused
from support.rivals import connection_of
from support.samples import in_threads, items, texts
from support.servers import dialect_of

Connect = Callable[..., Any]

WRITES = 40


def shared(connect: Connect, url: str, *, autocommit: bool = True) -> Any:
    options = {"check_same_thread": False} if dialect_of(url) == "sqlite" else {}
    return connect(autocommit=autocommit, **options)


def write_beside_conflicts(backends: list[sessions.Backend]) -> list[str]:
    """Write on one of two backends while the other is refused; what was acknowledged."""

    def work(number: int) -> list[str]:
        session = backends[number].session(f"chat_{number}")
        acknowledged: list[str] = []
        for turn in range(WRITES):
            if number == 0:
                session.add_items(items(str(turn)))
                acknowledged.append(str(turn))
            else:
                with refused(sessions.ConflictError):
                    session.add_items(items("z"), if_position=10**9)
        return acknowledged

    acknowledged: list[str] = in_threads(2, work)[0]
    return acknowledged


@pytest.mark.parametrize("autocommit", [True, False], ids=["in autocommit", "without autocommit"])
def test_two_bindings_of_one_connection_take_turns(app_url: str, connect: Connect, autocommit: bool) -> None:
    connection = shared(connect, app_url, autocommit=autocommit)
    acknowledged = write_beside_conflicts([sessions.bind(connection), sessions.bind(connection)])
    if not autocommit:
        connection.commit()
    with sessions.Session.from_url("chat_0", app_url) as witness:
        assert texts(witness.get_items()) == acknowledged


def test_a_pool_that_lends_one_connection_to_all_loses_nothing(app_url: str, connect: Connect) -> None:
    connection = shared(connect, app_url)
    pool = SimpleNamespace(connection=lambda: nullcontext(connection))
    acknowledged = write_beside_conflicts([sessions.connect(pool=pool), sessions.connect(pool=pool)])
    with sessions.Session.from_url("chat_0", app_url) as witness:
        assert texts(witness.get_items()) == acknowledged


# --- a call within another one


class _CallingBack(pymysql.connections.Connection):
    """Calls somebody while it waits for an answer, as a signal handler or a collected object may."""

    call: Callable[[], None] = staticmethod(lambda: None)

    def _read_packet(self, *kind: Any) -> Any:
        self.call()
        return super()._read_packet(*kind)  # type: ignore[no-untyped-call]


def call_within_statements(connection: Any, call: Callable[[], None]) -> None:
    """Let a connection call somebody in the middle of its statements, by what its driver offers for that."""
    if isinstance(connection, sqlite3.Connection):
        connection.set_trace_callback(lambda _: call())
    elif isinstance(connection, psycopg.Connection):
        body = "BEGIN RAISE NOTICE 'here'; RETURN NEW; END"
        run(connection, f"CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $${body}$$")
        run(connection, "CREATE TRIGGER tell BEFORE INSERT ON agent_messages FOR EACH ROW EXECUTE FUNCTION tell()")
        connection.add_notice_handler(lambda _: call())
    else:
        connection.__class__ = _CallingBack
        connection.call = call


@pytest.mark.parametrize("lender", ["bind", "pool"])
def test_a_call_that_interrupts_another_one_on_its_connection_is_refused(
    app_url: str, connect: Connect, lender: str
) -> None:
    connection = connect(autocommit=True)
    pool = SimpleNamespace(connection=lambda: nullcontext(connection))
    backend = sessions.bind(connection) if lender == "bind" else sessions.connect(pool=pool)
    backend.session("alice").add_items(items("alice's"))
    refusals: list[sessions.SessionsError] = []
    seen: list[list[Any]] = []

    def call() -> None:
        try:
            seen.append(backend.session("bob").get_items())
        except sessions.ConnectionFailedError as exc:
            refusals.append(exc)

    call_within_statements(connection, call)
    backend.session("alice").add_items(items("more"))
    assert texts(backend.session("alice").get_items()) == ["alice's", "more"]
    assert seen == []
    assert all("interrupted" in str(exc) for exc in refusals)
    assert refusals


def test_a_call_that_interrupts_another_one_in_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with sessions.connect("memory:") as backend:
        session = backend.session("alice")
        session.add_items(items("a"))
        store: Any = backend._store
        number = store._number

        def interrupted(texts: Any) -> Any:
            backend.session("bob").add_items(items("b"))
            return number(texts)

        monkeypatch.setattr(store, "_number", interrupted)
        with refused(sessions.ConnectionFailedError, match="interrupted"):
            session.add_items(items("c"))
        monkeypatch.undo()
        assert backend.session("bob").get_items() == []


def test_a_write_to_sqlite_that_interrupts_another_one_is_refused(sqlite_url: str) -> None:
    refusals: list[str] = []
    with sessions.connect(sqlite_url) as backend:
        session = backend.session("alice")
        session.add_items(items("a"))

        def call(_: str) -> None:
            try:
                backend.session("bob").add_items(items("b"))
            except sessions.ConnectionFailedError as exc:
                refusals.append(str(exc))

        with traced(backend, call):
            session.add_items(items("c"))
        assert texts(session.get_items()) == ["a", "c"]
        assert backend.session("bob").get_items() == []
    assert any("interrupted" in refusal for refusal in refusals)


@contextmanager
def traced(backend: sessions.Backend, call: Callable[[str], object]) -> Iterator[None]:
    with connection_of(backend) as connection:
        connection.set_trace_callback(call)
    yield
    with connection_of(backend) as connection:
        connection.set_trace_callback(None)


@pytest.mark.postgresql
def test_a_stream_of_psycopgs_is_not_waited_for_without_end(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "_SHARED_SECONDS", 0.05)
    with connected(postgresql_url) as connection, closing(connection.cursor()) as cursor:
        stream = cursor.stream("SELECT generate_series(1, 3)")
        next(stream)
        with refused(sessions.ConfigurationError, match="leave stream"):
            sessions.bind(connection).session("chat_1").get_items()
        assert list(stream) == [(2,), (3,)]


class _InterruptedLock:
    """psycopg's lock of a connection; a signal falls behind whoever acquires it without `with`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.locked, self.release = self._lock.locked, self._lock.release

    def __enter__(self) -> bool:
        return self._lock.__enter__()

    def __exit__(self, *exception: Any) -> None:
        self._lock.__exit__(*exception)

    def acquire(self, *args: Any, **options: Any) -> bool:
        self._lock.acquire(*args, **options)
        raise KeyboardInterrupt


@pytest.mark.postgresql
def test_an_interrupted_look_at_a_connection_leaves_it_unlocked(postgresql_url: str) -> None:
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
    with connected(postgresql_url) as connection:
        connection.lock = _InterruptedLock()
        with suppress(KeyboardInterrupt):
            assert texts(sessions.bind(connection).session("chat_1").get_items()) == ["a"]
        assert not connection.lock.locked()


# --- a thread with a transaction of its own on the connection


def behind_each_operation(monkeypatch: pytest.MonkeyPatch, session: sessions.Session, call: Callable[[], None]) -> None:
    """Let another thread call somebody when what an operation does is done, and it is about to end."""
    store: Any = session._history.store
    lender = store._attempts._lender
    lend = lender.lend

    def lend_and_call(use: Callable[[Any], Any], *, writes: bool) -> Any:
        def used(connection: Any) -> Any:
            result = use(connection)
            in_threads(1, lambda _: call())
            return result

        return lend(used, writes=writes)

    monkeypatch.setattr(lender, "lend", lend_and_call)


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_write_whose_transaction_another_thread_ends_may_have_happened(
    app_url: str, connect: Connect, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    connection = shared(connect, app_url, autocommit=False)
    place_order(connection, 1)
    session = sessions.bind(connection).session("chat_1")
    with monkeypatch.context() as patched:
        behind_each_operation(patched, session, getattr(connection, end))
        with refused(sessions.OutcomeUnknownError, match="no other may use it"):
            session.add_items(items("a"))
    # Nothing was sent that the next transaction would have had to bear.
    place_order(connection, 2)
    connection.commit()
    assert orders(app_url) == ([1, 2] if end == "commit" else [2])


@pytest.mark.postgresql
def test_a_write_is_in_doubt_also_where_another_transaction_has_begun_and_failed(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go_on(connection: Any) -> None:
        connection.commit()
        with suppress(psycopg.errors.DivisionByZero):
            run(connection, "SELECT 1 / 0")

    with sessions.connect(postgresql_url) as backend, connected(postgresql_url) as connection:
        backend.session("chat_1").add_items(items("a"))
        run(connection, "SELECT 1")
        session = sessions.bind(connection).session("chat_1")
        with monkeypatch.context() as patched:
            behind_each_operation(patched, session, lambda: go_on(connection))
            with refused(sessions.OutcomeUnknownError, match="no other may use it"):
                session.add_items(items("b"))
        assert texts(backend.session("chat_1").get_items()) == ["a", "b"]


@pytest.mark.sqlite
def test_a_write_in_autocommit_that_another_thread_rolls_back_may_have_happened(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").get_items()  # makes the tables

    def end_before_commit(connection: sqlite3.Connection, statement: str, *each: Any) -> Any:
        if statement.startswith("COMMIT"):
            in_threads(1, lambda _: connection.rollback())
        return run_statement(connection, statement, *each)

    path = sqlite_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        session = sessions.bind(connection).session("chat_1")
        session.add_items(items("a"))
        monkeypatch.setattr(sqlite, "run", end_before_commit)
        with refused(sessions.OutcomeUnknownError, match="no other may use it"):
            session.add_items(items("b"))


def test_a_write_is_not_acknowledged_whose_connection_another_thread_closes_before_its_commit(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sessions.Session.from_url("chat_1", server_url) as witness:
        witness.add_items(items("a"))
        lent: list[Any] = []

        def lend() -> Any:
            lent.append(connect_as(server_url, autocommit=False))
            return closing(lent[-1])

        def close_the_first() -> None:
            if len(lent) == 2:  # the one before was asked for its driver
                lent[1].close()

        session = sessions.connect(pool=SimpleNamespace(connection=lend), retry_delay=0.001).session("chat_1")
        with monkeypatch.context() as patched:
            behind_each_operation(patched, session, close_the_first)
            session.add_items(items("b"))
        assert texts(witness.get_items()) == ["a", "b"]


# --- what a pool raises itself


@each_mysql
def test_what_a_pool_raises_is_a_failure_to_connect(server_url: str) -> None:
    queue = QueuePool(lambda: connect_as(server_url, autocommit=False), pool_size=1, max_overflow=0, timeout=0.05)
    dbutils = PooledDB(
        SimpleNamespace(connect=lambda: connect_as(server_url, autocommit=False), threadsafety=1), maxconnections=1
    )
    for pool, lend in (
        (SimpleNamespace(connection=lambda: closing(queue.connect())), queue.connect),
        (dbutils, dbutils.connection),
    ):
        session = sessions.connect(pool=pool).session("chat_1")
        with closing(lend()), refused(sessions.ConnectionFailedError, match="see the pool's words"):
            session.get_items()
        assert session.get_items() == []
    queue.dispose()
    dbutils.close()


@pytest.mark.parametrize("other", [None, "other driver"])
def test_a_pool_that_lends_something_else_is_refused_by_name(sqlite_url: str, other: str | None) -> None:
    lent: list[Any] = [sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))]
    pool = SimpleNamespace(connection=lambda: nullcontext(lent[0]))
    session = sessions.connect(pool=pool).session("chat_1")
    session.get_items()
    lent[0].close()
    lent[0] = None if other is None else object()
    with refused(sessions.ConfigurationError, match="cannot be used"):
        session.get_items()
