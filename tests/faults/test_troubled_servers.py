"""Servers that terminate, refuse, pause, or give way to somebody else's lock."""

import contextlib
import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sessions
from faults.oracle import Figures
from faults.writers import Writers, at_first_retry
from sessions import ConnectionFailedError, DatabaseError, OutcomeUnknownError, Session
from support.claims import OPERATIONS, WRITES, refused
from support.proxy import Proxy
from support.rivals import eventually, locked_session, lose_a_deadlock, open_transactions, others, terminate
from support.samples import in_threads, items, texts
from support.servers import Server, connect_raw, dialect_of, execute_sql, with_parts

QUICK: dict[str, Any] = {"retry_delay": 0.01}


@pytest.fixture
def database(own_server: Server) -> Iterator[str]:
    """The URL of a database of that server, in which chat_1 holds "a"."""
    with own_server.database() as url:
        with Session.from_url("chat_1", url) as session:
            session.add_items(items("a"))
        yield url


# --- terminated from outside


def test_writers_outlive_terminated_connections(
    server_url: str, rng: random.Random, scaled: Callable[[int, int], int], figures: Figures
) -> None:
    """KILL QUERY too, which may fall between two statements of a packet; the server then never answers."""
    count = scaled(8, 5)
    with sessions.connect(server_url, max_retries=20, statement_timeout=1.0, **QUICK) as backend:
        # The tables are there before anybody cancels their making.
        backend.session("chat_1").position()
        writers = Writers(backend, "chat_1", rng)
        with writers.working():
            for _ in range(count):
                writers.wait_for(rng.randint(0, 2))
                numbers = others(server_url)
                if numbers:
                    terminate(server_url, rng.choice(numbers), query_only=rng.random() < 0.4)
            writers.wait_for(2)
        figures.add(dialect_of(server_url), connections_terminated=count)
        writers.judge(backend, figures, dialect_of(server_url), "terminations")
    # A cancelled statement is refused for certain; nothing else comes to the caller.
    assert all(isinstance(error, DatabaseError) for error in writers.errors), writers.errors


def test_a_connection_terminated_while_idle_is_not_noticed(server_url: str) -> None:
    with Session.from_url("chat_1", server_url, **QUICK) as session, at_first_retry() as retries:
        session.add_items(items("a", "b"))
        for number in others(server_url):
            terminate(server_url, number)
        assert eventually(lambda: not others(server_url))
        assert texts([session.pop_item() or {}]) == ["b"]
        assert retries.count == 0


@pytest.mark.postgresql
def test_writers_outlive_the_crash_of_another_backend(
    own_servers: Callable[[str], Server], rng: random.Random, figures: Figures
) -> None:
    """PostgreSQL alone has processes, and ends them all when one crashes."""
    server = own_servers("postgresql")
    with server.database() as url, sessions.connect(url, max_retries=20, **QUICK) as backend:
        writers = Writers(backend, "chat_1", rng)
        with writers.working():
            writers.wait_for(3)
            server.run("sh", "-c", f"kill -9 {rng.choice(others(url))}")
            writers.wait_for(3)
        figures.add("postgresql", backends_crashed=1)
        writers.judge(backend, figures, "postgresql", "crashes")
        assert writers.errors == []


# --- deadlocks and serialization failures


def test_the_victim_of_a_deadlock_tries_again(server_url: str) -> None:
    with Session.from_url("chat_1", server_url, **QUICK) as session:
        session.add_items(items("a", "b"))
        with at_first_retry() as retries:
            lose_a_deadlock(server_url, lambda: session.replace_items(items("c", "d")))
        assert retries.count >= 1
        assert texts(session.get_items()) == ["c", "d"]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_stricter_default_isolation_loses_nothing(level: str, postgresql_url: str, rng: random.Random) -> None:
    """PostgreSQL's serialization failures; on MySQL the isolation is set at connect."""
    execute_sql(
        postgresql_url,
        f"ALTER DATABASE {postgresql_url.rpartition('/')[2]} SET default_transaction_isolation = '{level}'",
    )
    with sessions.connect(postgresql_url, max_retries=10, **QUICK) as backend:
        backend.session("chat_1").position()
        writers = Writers(backend, "chat_1", rng, ways=["kept"] * 6)
        with writers.working():
            writers.wait_for(5)
        assert writers.ledger.verdict(backend.session("chat_1").get_items())
        assert writers.errors == []


def _pop_five(session: Session, _: int) -> list[Any]:
    return [session.pop_item() for _ in range(5)]


def test_any_default_isolation_will_do_for_pops(own_server: Server) -> None:
    levels = ("READ COMMITTED", "SERIALIZABLE") if own_server.dialect != "postgresql" else ("serializable",)
    for level in levels:
        with own_server.database() as url:
            if own_server.dialect == "postgresql":
                name = url.rpartition("/")[2]
                execute_sql(url, f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
            else:
                execute_sql(own_server.url, f"SET GLOBAL TRANSACTION ISOLATION LEVEL {level}")
            try:
                with sessions.connect(url, max_retries=20, **QUICK) as backend:
                    session = backend.session("chat_1")
                    session.add_items(items(*map(str, range(40))))
                    popped = in_threads(8, functools.partial(_pop_five, session))
                    assert sorted(int(item["content"]) for some in popped for item in some) == list(range(40))
                    assert session.pop_item() is None
            finally:
                if own_server.dialect != "postgresql":
                    execute_sql(own_server.url, "SET GLOBAL TRANSACTION ISOLATION LEVEL REPEATABLE READ")


# --- lock timeouts


@contextlib.contextmanager
def short_lock_timeout(server: Server, url: str) -> Iterator[None]:
    if server.dialect == "postgresql":
        execute_sql(url, f"ALTER DATABASE {url.rpartition('/')[2]} SET lock_timeout = '100ms'")
        yield
    else:
        [(before,)] = execute_sql(server.url, "SELECT @@GLOBAL.innodb_lock_wait_timeout")
        execute_sql(server.url, "SET GLOBAL innodb_lock_wait_timeout = 1")
        try:
            yield
        finally:
            execute_sql(server.url, f"SET GLOBAL innodb_lock_wait_timeout = {before}")


def test_a_lock_timeout_is_tried_again(own_server: Server, database: str) -> None:
    with short_lock_timeout(own_server, database), Session.from_url("chat_1", database, **QUICK) as session:
        with locked_session(database) as lock, at_first_retry(lock.rollback) as retries:
            session.add_items(items("b"))
        assert retries.count >= 1
        assert texts(session.get_items()) == ["a", "b"]


def test_a_lock_that_stays_is_a_database_error_and_nothing_is_written(own_server: Server, database: str) -> None:
    options = QUICK | {"max_retries": 1}
    with short_lock_timeout(own_server, database), Session.from_url("chat_1", database, **options) as session:
        with locked_session(database):
            with refused(DatabaseError):
                session.add_items(items("b"))
            assert texts(session.get_items()) == ["a"]
        session.add_items(items("c"))
        assert texts(session.get_items()) == ["a", "c"]


# --- too many connections


@contextlib.contextmanager
def every_connection_taken(server: Server, url: str) -> Iterator[contextlib.ExitStack]:
    """Hold every connection that the server gives; the stack lets them go."""
    before = None
    if server.dialect != "postgresql":
        [(before,)] = execute_sql(server.url, "SELECT @@GLOBAL.max_connections")
        execute_sql(server.url, "SET GLOBAL max_connections = 12")
    try:
        with contextlib.ExitStack() as taken:
            with contextlib.suppress(Exception):
                while True:
                    taken.enter_context(contextlib.closing(connect_raw(url)))
            yield taken
    finally:
        if before is not None:
            assert eventually(lambda: _sets_max_connections(server, before))


def _sets_max_connections(server: Server, count: int) -> bool:
    try:
        execute_sql(server.url, f"SET GLOBAL max_connections = {count}")
    except Exception:
        return False
    return True


def test_too_many_connections_are_tried_again(own_server: Server, database: str) -> None:
    with (
        every_connection_taken(own_server, database) as taken,
        Session.from_url("chat_1", database, max_retries=10, retry_delay=0.05) as session,
        at_first_retry(taken.close) as retries,
    ):
        session.add_items(items("b"))
        assert retries.count >= 1
        assert texts(session.get_items()) == ["a", "b"]


def test_too_many_connections_for_too_long_is_a_connection_error(own_server: Server, database: str) -> None:
    with Session.from_url("chat_1", database, max_retries=1, **QUICK) as session:
        with every_connection_taken(own_server, database), refused(ConnectionFailedError, match="max_connections"):
            session.pop_item()
        assert eventually(lambda: texts(session.get_items()) == ["a"])


# --- read-only


@contextlib.contextmanager
def ordinary_user(server: Server, url: str) -> Iterator[str]:
    """MySQL and MariaDB let an administrator write all the same."""
    if server.dialect == "postgresql":
        yield url
        return
    database = url.rpartition("/")[2]
    execute_sql(server.url, "CREATE USER 'ordinary'@'%' IDENTIFIED BY 'ordinary'")
    try:
        execute_sql(server.url, f"GRANT ALL ON {database}.* TO 'ordinary'@'%'")
        yield with_parts(url, user="ordinary", password="ordinary")
    finally:
        execute_sql(server.url, "DROP USER 'ordinary'@'%'")


def set_read_only(server: Server, on: bool) -> None:
    if server.dialect != "postgresql":
        execute_sql(server.url, f"SET GLOBAL read_only = {int(on)}")
        return
    connection = connect_raw(server.url)
    try:
        connection.execute("SET default_transaction_read_only = off")
        connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {'on' if on else 'off'}")
        connection.execute("SELECT pg_reload_conf()")
    finally:
        connection.close()
    wanted = [("on" if on else "off",)]
    assert eventually(lambda: execute_sql(server.url, "SHOW default_transaction_read_only") == wanted)


@contextlib.contextmanager
def read_only(server: Server) -> Iterator[None]:
    set_read_only(server, True)
    try:
        yield
    finally:
        set_read_only(server, False)


def test_a_read_only_server_is_a_database_error_and_reads_work(own_server: Server, database: str) -> None:
    with (
        ordinary_user(own_server, database) as url,
        Session.from_url("chat_1", url, max_retries=1, **QUICK) as session,
    ):
        session.get_items()
        with read_only(own_server):
            for name in WRITES:
                with refused(DatabaseError, match="primary"):
                    OPERATIONS[name](session)
            assert texts(session.get_items()) == ["a"]
        session.add_items(items("b"))
        assert texts(session.get_items()) == ["a", "b"]


def test_a_server_that_can_be_written_again_is_tried_again(own_server: Server, database: str) -> None:
    with (
        ordinary_user(own_server, database) as url,
        Session.from_url("chat_1", url, max_retries=10, retry_delay=0.05) as session,
    ):
        session.get_items()
        with read_only(own_server), at_first_retry(lambda: set_read_only(own_server, False)) as retries:
            session.add_items(items("b"))
            assert texts([session.pop_item() or {}]) == ["b"]
        assert retries.count >= 1


# --- paused


def test_a_write_to_a_server_that_was_paused_for_a_while_is_there_once(own_server: Server, database: str) -> None:
    with Session.from_url("chat_1", database, statement_timeout=0.5, connection_timeout=5.0, **QUICK) as session:
        session.get_items()
        own_server.pause()
        with at_first_retry(own_server.unpause) as retries:
            session.add_items(items("b"))
        assert retries.count >= 1
        assert texts(session.get_items()) == ["a", "b"]
        assert eventually(lambda: open_transactions(database) == 0)


def test_a_paused_server_is_an_error_in_time_and_the_session_goes_on(own_server: Server, database: str) -> None:
    options = QUICK | {"max_retries": 0, "statement_timeout": 0.3, "connection_timeout": 0.3}
    with Session.from_url("chat_1", database, **options) as session:
        session.get_items()
        own_server.pause()
        try:
            with refused(OutcomeUnknownError):
                session.add_items(items("b"))
            with refused(ConnectionFailedError):
                session.get_items()
        finally:
            own_server.unpause()
        assert eventually(lambda: len(_answers(session)) > 0)
        session.add_items(items("c"))
        assert texts(session.get_items()) in (["a", "c"], ["a", "b", "c"])


def _answers(session: Session) -> list[Any]:
    with contextlib.suppress(ConnectionFailedError):
        return session.get_items()
    return []


def test_a_server_that_hangs_up_on_every_connection_is_a_connection_error(server_url: str) -> None:
    with Proxy(server_url) as proxy, Session.from_url("chat_1", proxy.url, max_retries=2, **QUICK) as session:
        session.add_items(items("a"))
        proxy.refusing = True
        proxy.drop()
        for operation in OPERATIONS.values():
            with refused(ConnectionFailedError):
                operation(session)
        proxy.refusing = False
        assert texts(session.get_items()) == ["a"]
