"""No operation waits for ever: a hang or a foreign lock ends in the named error.

The bound for one attempt is statement_timeout, or connection_timeout while connecting; what is
asserted here is the error, within a time of another order of magnitude than the options.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sessions
from faults.writers import at_first_retry
from sessions import ConnectionFailedError, DatabaseError, OutcomeUnknownError, Session, SessionsError
from sessions._dialects.postgresql import connector
from support import claims
from support.claims import READS, assert_helpful
from support.proxy import Proxy
from support.rivals import connection_of, eventually, lender_of, locked_session, open_transactions, waiting
from support.samples import in_threads, items, texts
from support.servers import connect_raw, dialect_of, execute_sql, with_parts
from support.traced import Traced

HASTY: dict[str, Any] = {"statement_timeout": 0.3, "connection_timeout": 0.3, "max_retries": 1, "retry_delay": 0.01}
_ORDER_OF_MAGNITUDE = 60.0

OPERATIONS = claims.OPERATIONS | {
    "add_items(if_position)": lambda session: session.add_items(items("b"), if_position=1),
}
# One of each kind; the others take the same ways, and are for the long run.
KINDS = ["get_items", "add_items", "pop_item", "clear_session"]
NAMES = list(OPERATIONS) if "SESSIONS_TEST_FAULTS" in os.environ else KINDS
# A clear that is done once more does no harm, so it is never of unknown outcome.
DOUBTFUL = ("add_items", "add_items(if_position)", "pop_item", "clear_session", "replace_items")


def error_in_time(operation: Callable[[], Any]) -> BaseException | None:
    """What the operation raises; it fails the test to wait much longer than the options say."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            operation()
        except BaseException as exc:
            raised.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_ORDER_OF_MAGNITUDE)
    assert not thread.is_alive(), "the operation hangs"
    return raised[0] if raised else None


def test_a_longer_timeout_than_sqlite_can_count_is_its_longest(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url, statement_timeout=3e6) as backend, connection_of(backend) as connection:
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (2_147_483_000,)


@pytest.mark.parametrize("name", NAMES)
def test_a_server_that_hangs_is_an_error_in_time(name: str, server_url: str) -> None:
    with Proxy(server_url) as proxy, Session.from_url("chat_1", proxy.url, **HASTY) as session:
        session.add_items(items("a"))
        proxy.pause()
        proxy.refusing = True
        error = error_in_time(lambda: OPERATIONS[name](session))
        assert type(error) is (OutcomeUnknownError if name in DOUBTFUL else ConnectionFailedError)
        assert_helpful(error)
        proxy.drop()
        proxy.resume()
        proxy.refusing = False
        assert eventually(lambda: open_transactions(server_url) == 0)
        session.add_items(items("c"))
        assert texts(session.get_items())[-1] == "c"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
@pytest.mark.parametrize("name", KINDS)
def test_a_server_that_hangs_is_an_error_in_time_also_beside_an_interval_timer(name: str, server_url: str) -> None:
    """Where signals come faster than any wait looks at the clock, as those of a profiler do."""
    with Proxy(server_url) as proxy, Session.from_url("chat_1", proxy.url, **HASTY) as session:
        session.add_items(items("a"))
        proxy.pause()
        proxy.refusing = True
        rescue = threading.Timer(_ORDER_OF_MAGNITUDE / 4, proxy.drop)
        before = signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        try:
            rescue.start()
            # In this thread, which has the signals.
            with claims.refused(OutcomeUnknownError if name in DOUBTFUL else ConnectionFailedError):
                OPERATIONS[name](session)
            assert not rescue.finished.is_set(), "the operation hangs"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            rescue.cancel()
        proxy.drop()
        proxy.resume()


def test_what_answers_late_is_not_ended_for_those_who_have_its_connection_next(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        Proxy(postgresql_url) as proxy,
        sessions.connect(proxy.url, **HASTY) as backend,
        contextlib.ExitStack() as another,
    ):
        session = backend.session("chat_1")
        session.add_items(items("a"))
        with connection_of(backend) as used:
            pass

        def cancel_too_late(_: object) -> bool:
            proxy.resume()
            return True

        monkeypatch.setattr(connector, "cancel_statement", cancel_too_late)
        proxy.pause()
        with at_first_retry(lambda: another.enter_context(connection_of(backend))):
            session.add_items(items("b"))
        assert texts(session.get_items()) == ["a", "b"]
        assert used.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.skipif(not hasattr(socket, "TCP_INFO"), reason="this system does not tell the state of a connection")
@pytest.mark.parametrize("writes", [1, 2, 3])  # which PostgreSQL gets in packets of other forms
def test_what_was_sent_before_giving_up_is_not_delivered_later(server_url: str, writes: int) -> None:
    """The kernel would go on sending it for minutes; a reset makes it forget."""
    with Proxy(server_url) as proxy, Session.from_url("chat_1", proxy.url, **HASTY) as session:
        for _ in range(writes):
            session.add_items(items("a"))
        [link] = [link for link in proxy._links if not link.closed]
        proxy.pause()
        proxy.refusing = True
        with pytest.raises(OutcomeUnknownError):
            session.add_items(items("b"))
        closed = 7  # TCP_CLOSE; an orderly end would leave TCP_CLOSE_WAIT
        assert eventually(lambda: link._client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == closed, 5)
        proxy.drop()
        proxy.resume()


@pytest.mark.parametrize("name", ["get_items", "pop_item"])
def test_a_server_that_hangs_at_connect_is_a_connection_error_in_time(name: str, server_url: str) -> None:
    """Nothing was sent, so nothing is in doubt."""
    with Proxy(server_url) as proxy, Session.from_url("chat_1", proxy.url, **(HASTY | {"max_retries": 0})) as session:
        proxy.pause()
        assert type(error_in_time(lambda: OPERATIONS[name](session))) is ConnectionFailedError
        proxy.drop()
        proxy.resume()
        assert session.get_items() == []


# In plain text: Python's own TLS has a deadline for all that a call waits for.
@contextlib.contextmanager
def silent_address(port: int) -> Iterator[None]:
    """Leave who asks for ::1 without an answer: the kernel has no room for one more in the queue."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_INET6))
        listener.bind(("::1", port))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket(socket.AF_INET6))
            waiting.setblocking(False)
            waiting.connect_ex(("::1", port))
        yield


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a full queue refuses")
def test_behind_an_address_that_is_silent_the_next_one_has_its_time(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than what is on its way already: each answer takes longer than that here."""
    look_up = socket.getaddrinfo

    def two_addresses(host: Any, *args: Any, **options: Any) -> Any:
        names = ("::1", "127.0.0.1") if host == "db.test" else (host,)
        return [found for name in names for found in look_up(name, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", two_addresses)
    with Proxy(server_url, delay_to_client=0.2) as proxy, silent_address(proxy.port):
        url = with_parts(proxy.url, host="db.test", port=proxy.port)
        with Session.from_url("chat_1", url, connection_timeout=2.0, max_retries=0) as session:
            session.add_items(items("a"))
            assert texts(session.get_items()) == ["a"]


DRIPPED: dict[str, Any] = {"connection_timeout": 2.0, "statement_timeout": 2.0, "max_retries": 0, "ssl": False}


@pytest.mark.parametrize("interval", [1.0, 0.02], ids=["slowly", "quickly"])
@pytest.mark.parametrize("while_", ["connecting", "answering"])
def test_a_server_that_drips_is_a_connection_error_in_time(while_: str, interval: float, server_url: str) -> None:
    """The timeout of a socket begins anew with each byte."""
    text = [{"text": "x" * 1000}]
    with Session.from_url("chat_1", server_url) as session:
        session.add_items(text)
    with Proxy(server_url) as proxy, Session.from_url("chat_1", proxy.url, **DRIPPED) as session:
        if while_ == "answering":
            assert session.get_items() == text
        proxy.drip_seconds = interval
        proxy.dripping = True
        assert type(error_in_time(session.get_items)) is ConnectionFailedError
        proxy.dripping = False
        assert session.get_items() == text


@pytest.mark.slow
def test_an_answer_that_flows_is_read_to_its_end(server_url: str) -> None:
    large = [{"text": "x" * 4_000_000}]
    with Session.from_url("chat_1", server_url) as session:
        session.add_items(large)
    with Proxy(server_url) as proxy, Session.from_url("chat_1", proxy.url, **HASTY) as session:
        assert session.position()
        proxy.pace = 0.03
        assert session.get_items() == large


@pytest.mark.slow
def test_notices_are_no_answer(postgresql_url: str) -> None:
    """Other servers send none."""
    with Session.from_url("chat_1", postgresql_url, **(HASTY | {"max_retries": 0})) as session:
        session.add_items(items("a"))
        execute_sql(
            postgresql_url,
            """
            CREATE FUNCTION talk() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
                FOR number IN 1..800 LOOP
                    RAISE NOTICE '%', repeat('still at it', 1000);
                    PERFORM pg_sleep(0.01);
                END LOOP;
                RETURN NEW;
            END $$;
            CREATE TRIGGER talk BEFORE INSERT ON agent_messages FOR EACH ROW EXECUTE FUNCTION talk();
            """,
        )
        with pytest.raises(DatabaseError, match="no answer within"):
            session.add_items(items("b"))
        assert texts(session.get_items()) == ["a"]


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_lock_on_the_session_is_a_database_error_in_time(name: str, sql_url: str) -> None:
    """Certainly not written: the server itself gives up, or tells that it was cancelled."""
    # MySQL counts in seconds, and is given two less than we are.
    options = HASTY | {"max_retries": 0} | ({"statement_timeout": 3.0} if "m" in dialect_of(sql_url)[0] else {})
    with Session.from_url("chat_1", sql_url, **options) as session:
        session.add_items(items("a"))
        with locked_session(sql_url):
            error = error_in_time(lambda: OPERATIONS[name](session))
        if name in READS:
            assert error is None
            return
        assert type(error) is DatabaseError
        assert_helpful(error)
        if dialect_of(sql_url) != "sqlite":
            assert eventually(lambda: open_transactions(sql_url) == 0)
        assert texts(session.get_items()) == ["a"]
        session.add_items(items("c"))
        assert texts(session.get_items()) == ["a", "c"]


def test_an_answer_that_came_while_the_process_was_stopped_is_taken(postgresql_url: str) -> None:
    """A signal handler that sleeps past the bound is to its thread what SIGSTOP is to a process."""
    caller = threading.get_ident()
    with Session.from_url("chat_1", postgresql_url, statement_timeout=2) as session:
        session.add_items(items("a", "b"))
        with locked_session(postgresql_url) as locked:

            def stop(*_: object) -> None:
                locked.rollback()
                time.sleep(2.5)

            def stop_the_caller() -> None:
                if eventually(lambda: waiting(postgresql_url) > 0):
                    signal.pthread_kill(caller, signal.SIGUSR1)

            before = signal.signal(signal.SIGUSR1, stop)
            watcher = threading.Thread(target=stop_the_caller)
            watcher.start()
            try:
                assert texts([session.pop_item() or {}]) == ["b"]
            finally:
                watcher.join()
                signal.signal(signal.SIGUSR1, before)
        assert texts(session.get_items()) == ["a"]


def slow_view(url: str) -> None:
    """Let whoever reads messages wait for longer than anybody has patience."""
    sleeps = "pg_sleep(100) IS NOT NULL" if dialect_of(url) == "postgresql" else "SLEEP(100) = 0"
    with Session.from_url("chat_1", url) as session:
        session.add_items(items("a"))
    execute_sql(url, "ALTER TABLE agent_messages RENAME TO stored_messages")
    execute_sql(url, f"CREATE VIEW agent_messages AS SELECT * FROM stored_messages WHERE {sleeps}")


@pytest.mark.parametrize("lender", ["own", "bound", "bound in a proxy"])
def test_a_read_that_takes_too_long_is_ended_on_the_server(server_url: str, lender: str) -> None:
    if dialect_of(server_url) == "postgresql" and lender != "own":
        pytest.skip("psycopg has no time-out of its own for an application's connection")
    slow_view(server_url)
    with contextlib.ExitStack() as stack:
        if lender == "own":
            backend = stack.enter_context(sessions.connect(server_url, **(HASTY | {"max_retries": 0})))
        else:
            connection = stack.enter_context(connect_raw(server_url))
            connection._read_timeout = 0.3
            backend = sessions.bind(connection if lender == "bound" else Traced(connection))
        with pytest.raises(SessionsError, match=r"no answer within .*raise statement_timeout"):
            backend.session("chat_1").get_items()
        assert eventually(lambda: not executing(server_url))


def executing(url: str) -> list[Any]:
    """What the others execute in this database."""
    if dialect_of(url) == "postgresql":
        return execute_sql(
            url,
            "SELECT query FROM pg_stat_activity WHERE state = 'active' AND datname = current_database() "
            "AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
        )
    return execute_sql(
        url,
        "SELECT info FROM information_schema.processlist WHERE db = DATABASE() AND command = 'Query' "
        "AND id <> CONNECTION_ID()",
    )


def test_a_pool_that_is_used_up_is_a_connection_error_in_time(server_url: str) -> None:
    options = HASTY | {"statement_timeout": 3.0, "max_retries": 0}
    with Proxy(server_url) as proxy, sessions.connect(proxy.url, pool_size=1, **options) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        proxy.pause()
        first = threading.Thread(target=error_in_time, args=(session.get_items,))
        with proxy.counting() as count:
            first.start()
            assert eventually(lambda: not _idle(backend))
            error = error_in_time(backend.session("chat_2").get_items)
        assert isinstance(error, ConnectionFailedError)
        assert "pool_size" in str(error)
        assert count.connections == 0
        proxy.resume()
        first.join(60)
        assert texts(session.get_items()) == ["a"]


def _idle(backend: Any) -> list[Any]:
    idle: list[Any] = lender_of(backend)._idle
    return idle


def test_a_file_locked_by_another_process_is_an_error_in_time(sqlite_url: str) -> None:
    """Also for a reader, where the other one keeps the file to itself."""
    with Session.from_url("chat_1", sqlite_url, **HASTY) as session:
        session.add_items(items("a"))
    with contextlib.closing(connect_raw(sqlite_url)) as connection:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("BEGIN EXCLUSIVE")
        with Session.from_url("chat_1", sqlite_url, **HASTY) as session:
            error = error_in_time(session.get_items)
            assert isinstance(error, SessionsError)
            assert "locked" in str(error)
            assert_helpful(error)
            connection.close()
            assert texts(session.get_items()) == ["a"]


def test_a_lock_held_by_a_thread_of_this_process_is_waited_for(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url, **(HASTY | {"max_retries": 0})) as backend:
        backend.session("chat_1").add_items(items("a"))
        with locked_session(sqlite_url) as lock:
            errors = in_threads(3, lambda _: error_in_time(backend.session("chat_1").pop_item))
            lock.rollback()
        assert [type(error) for error in errors] == [DatabaseError] * 3
        assert texts(backend.session("chat_1").get_items()) == ["a"]
