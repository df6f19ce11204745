"""bind() on connections of psycopg and PyMySQL, however the application has set them up; and on wrong ones."""

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from pathlib import Path
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
from sessions._dialects.sockets import is_readable
from support.claims import refused
from support.proxy import Proxy
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
    bound = sessions.bind(connection).session("chat_1")
    for use in (bound.get_items, lambda: sessions.connect(pool=pool)):
        with pytest.raises(sessions.ConfigurationError, match=r"defer_connect=True.*connect\(\) first"):
            use()
    connection.connect()
    for session in (bound, sessions.connect(pool=pool).session("chat_2")):
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


@pytest.mark.parametrize("charset", ["ucs2", "utf16", "utf32"])
def test_an_error_whose_words_cannot_be_read_names_its_number(
    my_url: str, my_connect: Callable[..., Any], charset: str
) -> None:
    execute_sql(my_url, "DROP TABLE agent_messages")
    connection = my_connect(init_command=f"SET character_set_results = {charset}")
    session = sessions.bind(connection, create_tables=False).session("chat_1")
    with refused(sessions.SchemaError, match="server error 1146"):
        session.get_items()


def test_a_time_limit_that_another_sets_on_a_socket_without_one_is_raised_as_it_is(
    my_url: str, my_connect: Callable[..., Any]
) -> None:
    # As gevent.Timeout does in the greenlet that waits.
    connection = my_connect(autocommit=True)
    session = sessions.bind(connection).session("chat_1")
    session.add_items(items("a"))
    limit = TimeoutError("too long")

    def raise_limit(size: int) -> bytes:
        raise limit

    connection._rfile = SimpleNamespace(read=raise_limit, close=lambda: None)
    with pytest.raises(TimeoutError) as caught:
        session.add_items(items("b"))
    assert caught.value is limit
    assert not connection.open


# --- a module in the place of sqlite3

_STUB = """
import sqlite3, sys, types
stub = types.ModuleType("sqlite3")
kinds = ("SQLITE_BUSY_", "SQLITE_READONLY_", "SQLITE_CONSTRAINT_")
extended = [name for name in vars(sqlite3) if name.startswith(kinds)]
vars(stub).update({name: value for name, value in vars(sqlite3).items() if name not in extended})
sys.modules["sqlite3"] = stub
import sessions
with sessions.Session.from_url("chat_1", sys.argv[1]) as session:
    session.add_items([{"n": 1}])
    print(session.get_items())
"""


def test_a_module_without_the_newer_names_takes_the_place_of_sqlite3(tmp_path: Path) -> None:
    """As pysqlite3 does, by sys.modules, for whom the system's SQLite is too old."""
    command = [sys.executable, "-P", "-c", _STUB, f"sqlite:///{tmp_path}/chat.db"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[{'n': 1}]\n", "")


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


@pytest.mark.parametrize("operation", ["get_items", "add_items", "pop_item", "clear_session"])
def test_what_was_closed_while_it_was_idle_has_written_nothing_and_says_so(app_url: str, operation: str) -> None:
    with Proxy(app_url) as proxy, connected(proxy.url, autocommit=True) as connection:
        session = sessions.bind(connection).session("chat_1")
        session.add_items(items("a"))
        proxy.drop()
        said = r"bind that[^;]*;[^;]*$" if operation == "get_items" else r"bind that.*; nothing was written$"
        with pytest.raises(sessions.ConnectionFailedError, match=said):
            getattr(session, operation)(*([items("b")] if operation == "add_items" else []))
    assert len(stored_texts(app_url)) == 1


@pytest.mark.parametrize("kind", ["postgresql", "mysql"])  # MariaDB says nothing
def test_the_servers_last_words_to_an_idle_connection_are_repeated(make_url: Callable[[str], str], kind: str) -> None:
    url = make_url(kind)
    prepare(url)
    limit, words = {
        "postgresql": ("SET idle_session_timeout = 50", "idle-session timeout.*raise idle_session_timeout"),
        "mysql": ("SET SESSION wait_timeout = 1", "inactivity"),
    }[kind]
    with connected(url, autocommit=True) as connection:
        session = sessions.bind(connection).session("chat_1")
        run(connection, limit)
        socket = connection if kind == "postgresql" else connection._sock
        wait_until(lambda: is_readable(socket.fileno()))
        with pytest.raises(sessions.ConnectionFailedError, match=f"{words}.*; nothing was written"):
            session.pop_item()


def test_what_the_server_tells_an_idle_connection_reaches_its_listener(pg_url: str) -> None:
    with connected(pg_url, autocommit=True) as connection:
        heard: list[Any] = []
        connection.add_notify_handler(heard.append)
        run(connection, "LISTEN told")
        execute_sql(pg_url, "NOTIFY told, 'a'")
        wait_until(lambda: is_readable(connection.fileno()))
        session = sessions.bind(connection).session("chat_1")
        session.add_items(items("a"))
        assert texts(session.get_items()) == ["a"]
        assert [notify.payload for notify in heard] == ["a"]


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
