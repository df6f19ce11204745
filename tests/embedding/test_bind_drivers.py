"""bind() on connections of psycopg and PyMySQL, however the application has set them up; and on wrong ones."""

import asyncio
import gc
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from types import SimpleNamespace
from typing import Any

import psycopg
import psycopg.rows
import pymysql
import pymysql.cursors
import pytest
from psycopg.pq import TransactionStatus

import sessions
from embedding.application import (
    connected,
    end_connections,
    orders,
    place_order,
    prepare,
    run,
    someone_waits_for_a_lock,
    use_everything,
    wait_until,
)
from support.samples import in_threads, items, stored_texts, texts
from support.servers import connect_raw, dialect_of, execute_sql, with_parts

# --- PostgreSQL


@pytest.fixture
def pg_url(postgresql_url: str) -> str:
    prepare(postgresql_url)
    return postgresql_url


@pytest.fixture
def pg(pg_url: str) -> Iterator[psycopg.Connection[Any]]:
    with connected(pg_url) as connection:
        yield connection


FACTORIES: dict[str, tuple[str, Any]] = {
    "dict": ("row_factory", psycopg.rows.dict_row),
    "namedtuple": ("row_factory", psycopg.rows.namedtuple_row),
    "scalar": ("row_factory", psycopg.rows.scalar_row),
    "client": ("cursor_factory", psycopg.ClientCursor),
    "raw": ("cursor_factory", psycopg.RawCursor),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_a_factory_of_the_callers_is_left_alone(pg: psycopg.Connection[Any], name: str) -> None:
    attribute, factory = FACTORIES[name]
    setattr(pg, attribute, factory)
    use_everything(sessions.bind(pg).session("chät_1"))
    assert getattr(pg, attribute) is factory


def test_nothing_is_prepared_on_the_callers_connection(pg: psycopg.Connection[Any]) -> None:
    pg.prepare_threshold = 0
    use_everything(sessions.bind(pg).session("chat_1"))
    with psycopg.ClientCursor(pg) as cursor:
        assert cursor.execute("SELECT name FROM pg_prepared_statements").fetchall() == []
    assert pg.prepare_threshold == 0


def test_the_callers_isolation_level_holds(pg_url: str, pg: psycopg.Connection[Any]) -> None:
    pg.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    session = sessions.bind(pg).session("chat_1")
    assert session.get_items() == []
    with sessions.connect(pg_url) as other:
        other.session("chat_1").add_items(items("other"))
    assert session.get_items() == []  # the snapshot's
    with pytest.raises(sessions.DatabaseError, match="could not serialize"):
        session.add_items(items("a"))
    assert pg.info.transaction_status == TransactionStatus.INTRANS
    pg.rollback()
    session.add_items(items("a"))
    assert texts(session.get_items()) == ["other", "a"]
    assert pg.isolation_level is psycopg.IsolationLevel.REPEATABLE_READ


def test_a_transaction_block_is_joined_at_any_depth(pg_url: str, pg: psycopg.Connection[Any]) -> None:
    session = sessions.bind(pg).session("chat_1")
    with pg.transaction():
        session.add_items(items("kept"))
        with pg.transaction(force_rollback=True):
            session.add_items(items("undone"))
            place_order(pg, 1)
        with pg.transaction():
            session.add_items(items("kept too"))
    assert pg.info.transaction_status == TransactionStatus.IDLE
    assert (len(stored_texts(pg_url)), orders(pg_url)) == (2, [])


def test_a_failed_transaction_is_refused_and_remains_the_callers(pg: psycopg.Connection[Any]) -> None:
    session = sessions.bind(pg).session("chat_1")
    place_order(pg, 1)
    with pytest.raises(psycopg.errors.DivisionByZero):
        run(pg, "SELECT 1 / 0")
    for operation in (session.get_items, lambda: session.add_items(items("a"))):
        with pytest.raises(sessions.DatabaseError, match=r"roll.*back"):
            operation()
    assert pg.info.transaction_status == TransactionStatus.INERROR
    pg.rollback()
    session.add_items(items("a"))


def test_a_pipeline_is_refused_before_anything_is_sent(pg_url: str) -> None:
    with connected(pg_url, autocommit=True) as pg:
        session = sessions.bind(pg).session("chat_1")
        with pg.pipeline():
            for operation in (session.get_items, lambda: session.add_items(items("a"))):
                with pytest.raises(sessions.SessionsError, match="pipeline"):
                    operation()
            place_order(pg, 1)
        session.add_items(items("a"))
    assert (orders(pg_url), len(stored_texts(pg_url))) == ([1], 1)


def test_a_cursor_of_the_callers_can_be_read_on(pg: psycopg.Connection[Any]) -> None:
    session = sessions.bind(pg).session("chat_1")
    with pg.cursor("numbers") as cursor:
        cursor.execute("SELECT generate_series(1, 300)")
        assert cursor.fetchone() == (1,)
        session.add_items(items("a"))
        assert session.get_items()
        assert [row[0] for row in cursor.fetchall()] == list(range(2, 301))


def test_threads_share_a_connection_of_psycopg(pg: psycopg.Connection[Any]) -> None:
    session = sessions.bind(pg).session("chat_1")

    def work(number: int) -> None:
        for _ in range(5):
            session.add_items(items("a", "b"))

    in_threads(4, work)
    assert texts(session.get_items()) == ["a", "b"] * 20


# --- MySQL and MariaDB


MYSQL = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("mysql", "mariadb")]


@pytest.fixture(params=MYSQL)
def my_url(request: pytest.FixtureRequest, make_url: Callable[[str], str]) -> str:
    url = make_url(request.param)
    prepare(url)
    return url


@pytest.fixture
def my_connect(my_url: str) -> Iterator[Callable[..., Any]]:
    """A function that opens connections with options of PyMySQL."""
    with closing(connect_raw(my_url)) as plain:
        known = {"host": plain.host, "port": plain.port, "user": plain.user.decode(), "password": plain.password}
        known |= {"database": plain.db.decode(), "charset": "utf8mb4", "ssl_disabled": True}
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(closing(pymysql.connect(**{**known, **options})))


@pytest.mark.parametrize("name", ["DictCursor", "SSCursor", "SSDictCursor"])
def test_a_cursor_class_of_pymysql_is_left_alone(my_connect: Callable[..., Any], name: str) -> None:
    cursor_class = getattr(pymysql.cursors, name)
    connection = my_connect(cursorclass=cursor_class)
    use_everything(sessions.bind(connection).session("chät_1"))
    assert connection.cursorclass is cursor_class


def test_a_connection_of_pymysql_that_was_never_opened_is_refused_until_it_is(my_connect: Callable[..., Any]) -> None:
    connection = my_connect(defer_connect=True)
    pool = SimpleNamespace(connection=lambda: nullcontext(connection))
    both = [sessions.bind(connection).session("chat_1"), sessions.connect(pool=pool).session("chat_2")]
    for session in both:
        with pytest.raises(sessions.ConfigurationError, match=r"defer_connect=True.*connect\(\) first"):
            session.get_items()
    connection.connect()
    for session in both:
        use_everything(session)
        connection.commit()


SETTINGS: dict[str, Any] = {
    "latin1": {"charset": "latin1"},
    "ansi-quotes": {"sql_mode": "ANSI_QUOTES"},
    "no-backslash-escapes": {"sql_mode": "NO_BACKSLASH_ESCAPES"},
    "not-strict": {"sql_mode": ""},
    "read-committed": {"init_command": "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"},
    "serializable": {"init_command": "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"},
    "multi-statements": {"client_flag": pymysql.constants.CLIENT.MULTI_STATEMENTS},
    "found-rows": {"client_flag": pymysql.constants.CLIENT.FOUND_ROWS},
    "zone": {"init_command": "SET time_zone = '+09:00'"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_of_the_callers_session_do_no_harm(my_connect: Callable[..., Any], name: str) -> None:
    look = "SELECT @@sql_mode, @@transaction_isolation, @@autocommit, @@character_set_client"
    connection = my_connect(**SETTINGS[name])
    before = run(connection, look)
    session = sessions.bind(connection).session("chät_1")
    use_everything(session)
    tricky = {"quotes": "'\"`", "backslash": "a\\'b\\", "percent": "%s %(x)s %%", "other": "ä 😀 \0"}
    session.replace_items([tricky])
    assert session.get_items() == [tricky]
    assert before == run(connection, look)


def test_outside_strict_mode_nothing_is_cut_without_an_error(my_url: str, my_connect: Callable[..., Any]) -> None:
    # The OpenAI Agents SDK's own tables on MySQL have TEXT, which ends at 64 KiB.
    execute_sql(my_url, "ALTER TABLE agent_messages MODIFY message_data TEXT NOT NULL")
    connection = my_connect(sql_mode="")
    session = sessions.bind(connection).session("chat_1")
    place_order(connection, 1)
    session.add_items(items("small"))
    with pytest.raises(sessions.DatabaseError, match="LONGTEXT"):
        session.add_items(items("fits", "x" * 70_000))
    connection.commit()
    assert orders(my_url) == [1]
    assert len(stored_texts(my_url)) == 1


def test_what_a_connections_charset_cannot_hold_is_kept(my_url: str, my_connect: Callable[..., Any]) -> None:
    connection = my_connect(charset="latin1")
    session = sessions.bind(connection, ensure_ascii=False).session("😀")
    session.add_items(items("😀"))
    assert session.get_items() == items("😀")
    connection.commit()
    assert "😀" in stored_texts(my_url, "😀")[0]


# --- any server: the connection lost, a deadlock


@pytest.fixture
def app_url(server_url: str) -> str:
    prepare(server_url)
    return server_url


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("operation", ["get_items", "add_items", "pop_item", "clear_session"])
def test_a_lost_connection_has_committed_nothing_and_says_so(app_url: str, operation: str, autocommit: bool) -> None:
    with connected(app_url, autocommit=autocommit) as connection:
        session = sessions.bind(connection).session("chat_1")
        if not autocommit:
            place_order(connection, 1)
            session.add_items(items("a"))
        end_connections(app_url)
        arguments = [items("b")] if operation == "add_items" else []
        # In autocommit it may have happened, for all that the first answer tells.
        with pytest.raises(sessions.SessionsError if autocommit else sessions.ConnectionFailedError):
            getattr(session, operation)(*arguments)
        with pytest.raises(sessions.ConnectionFailedError):
            getattr(session, operation)(*arguments)
    assert (orders(app_url), stored_texts(app_url)) == ([], [])


def begin_a_deadlock(url: str, connection: Any, rival: Any) -> threading.Thread:
    """Let the rival wait for an order of the connection's, and hold the session chat_1."""
    run(connection, "UPDATE orders SET state = 'ours' WHERE id = 0")
    # More work than ours: InnoDB gives up the smaller transaction.
    sessions.bind(rival).session("chat_1").add_items(items(*"abcdefghij"))
    thread = threading.Thread(target=run, args=(rival, "UPDATE orders SET state = 'theirs' WHERE id = 0"))
    thread.start()
    wait_until(lambda: someone_waits_for_a_lock(url))
    return thread


def test_a_deadlock_is_reported_and_the_connection_works_on(app_url: str) -> None:
    with connected(app_url) as connection, connected(app_url) as rival:
        for number in range(2):
            place_order(connection, number)
        connection.commit()
        if dialect_of(app_url) == "postgresql":
            run(connection, "SET deadlock_timeout = '50ms'")
            connection.commit()
        session = sessions.bind(connection).session("chat_1")

        thread = begin_a_deadlock(app_url, connection, rival)
        with pytest.raises(sessions.DatabaseError, match=r"(?i)deadlock") as caught:
            session.add_items(items("ours"))
        if dialect_of(app_url) == "postgresql":
            # Only the savepoint was undone: what the caller did before is still to be committed or not.
            assert connection.info.transaction_status == TransactionStatus.INTRANS
            assert run(connection, "SELECT state FROM orders WHERE id = 0") == [("ours",)]
        else:
            assert "whole transaction" in str(caught.value)
        connection.rollback()
        thread.join()
        rival.commit()
        session.add_items(items("ours"))
        connection.commit()
        assert texts(session.get_items()) == [*"abcdefghij", "ours"]
        assert run(connection, "SELECT state FROM orders WHERE id = 0") == [("theirs",)]


def test_after_a_deadlock_an_operation_without_rollback_is_not_half_done(my_url: str) -> None:
    # InnoDB has rolled back all; PyMySQL still believes in the transaction until the next answer.
    with connected(my_url, autocommit=True) as connection, connected(my_url) as rival:
        place_order(connection, 0)
        session = sessions.bind(connection).session("chat_1")
        run(connection, "BEGIN")
        thread = begin_a_deadlock(my_url, connection, rival)
        with pytest.raises(sessions.DatabaseError):
            session.add_items(items("ours"))
        thread.join()
        rival.rollback()
        session.add_items(items("ours"))  # in autocommit: there is no transaction any more
        assert texts(session.get_items()) == ["ours"]
    assert len(stored_texts(my_url)) == 1


def test_ctrl_c_in_the_middle_of_a_wait_takes_back_the_operation_alone(app_url: str) -> None:
    with connected(app_url) as connection, connected(app_url) as blocker:
        sessions.bind(blocker).session("chat_1").add_items(items("first"))
        session = sessions.bind(connection).session("chat_1")
        place_order(connection, 1)

        def press() -> None:
            wait_until(lambda: someone_waits_for_a_lock(app_url))
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=press)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            session.add_items(items("interrupted"))
        thread.join()
        blocker.rollback()
        if dialect_of(app_url) == "postgresql":
            session.add_items(items("second"))
            connection.commit()
        else:  # PyMySQL closes a connection whose answer nobody has read, and with it the transaction
            with pytest.raises(sessions.ConnectionFailedError):
                session.add_items(items("second"))
    kept = dialect_of(app_url) == "postgresql"
    assert orders(app_url) == ([1] if kept else [])
    assert len(stored_texts(app_url)) == int(kept)


def test_a_handle_that_is_dropped_keeps_no_connection(app_url: str) -> None:
    with connected(app_url) as connection:
        gone = weakref.ref(connection)
        sessions.bind(connection).session("chat_1").get_items()
    del connection
    gc.collect()
    assert gone() is None


# --- what cannot be bound


@pytest.mark.parametrize(
    "connection",
    [None, "postgresql://db/app", 1, object(), psycopg, pymysql.connections, pymysql.connections.Connection],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "url",
)
def test_what_is_no_connection_is_refused(connection: object) -> None:
    with pytest.raises(sessions.ConfigurationError, match="sqlite3, psycopg 3 or pymysql"):
        sessions.bind(connection)


def test_an_asynchronous_connection_is_refused(postgresql_url: str) -> None:
    async def work() -> None:
        async with await psycopg.AsyncConnection.connect(postgresql_url) as connection:
            with pytest.raises(sessions.ConfigurationError, match="AsyncConnection"):
                sessions.bind(connection)

    asyncio.run(work())


def test_a_cursor_is_refused(app_url: str) -> None:
    with (
        connected(app_url) as connection,
        connection.cursor() as cursor,
        pytest.raises(sessions.ConfigurationError),
    ):
        sessions.bind(cursor)


def test_a_backend_binds_connections_of_its_own_driver_alone(app_url: str, sqlite_url: str) -> None:
    for ours, theirs in ((app_url, sqlite_url), (sqlite_url, app_url)):
        with (
            sessions.connect(ours) as backend,
            connected(theirs) as connection,
            pytest.raises(sessions.ConfigurationError, match="same driver"),
        ):
            backend.bind(connection)


@pytest.mark.parametrize("option", ["password", "ssl", "pool_size", "max_retries", "connection_timeout", "nonsense"])
def test_an_option_of_a_connection_is_refused(sqlite_url: str, option: str) -> None:
    options: Any = {option: 1}
    with connected(sqlite_url) as connection, pytest.raises(sessions.ConfigurationError, match=option):
        sessions.bind(connection, **options)


def test_a_connection_that_is_closed_is_an_error_of_ours(sql_url: str) -> None:
    prepare(sql_url)
    with connected(sql_url) as connection:
        session = sessions.bind(connection).session("chat_1")
    for operation in (session.get_items, session.pop_item, lambda: session.add_items(items("a"))):
        with pytest.raises(sessions.ConnectionFailedError):
            operation()


def test_no_password_is_in_what_a_bound_backend_says(server_url: str) -> None:
    url = with_parts(server_url)
    with connected(url) as connection:
        backend = sessions.bind(connection)
        with pytest.raises(sessions.SchemaError) as caught:
            backend.session("chat_1").get_items()
        for text in (repr(backend), repr(backend.session("chat_1")), str(caught.value)):
            assert "w:rd" not in text
