"""Ctrl-C in the middle of an operation: no transaction stays open, and the session goes on."""

import codecs
import contextlib
import dis
import functools
import gc
import itertools
import os
import random
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import CodeType, FrameType, SimpleNamespace
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import psycopg
import pymysql
import pytest

import sessions
from faults.oracle import Figures, Ledger
from sessions import Session, _exclusive, _reentry
from sessions._dialects.mysql import packets
from sessions._dialects.postgresql import prepared
from sessions._dialects.sockets import TimedReader
from sessions._dialects.sqlite import connector as sqlite_connector
from sessions._reentry import Lock
from sessions._stores.attempts import Attempts
from support.children import Child
from support.claims import OPERATIONS, each_mysql, refused
from support.proxy import Proxy
from support.rivals import connection_of, eventually, lender_of, locked_session, open_transactions, others, waiting
from support.samples import items, texts
from support.servers import connect_raw, dialect_of, execute_sql, mysql_processes
from support.traced import Traced

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")


@pytest.fixture
def ctrl_c_as_usual() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c_as_usual")
@pytest.mark.parametrize("name", ["add_items", "clear_session", "replace_items"])
def test_ctrl_c_while_waiting_for_a_lock(name: str, sql_url: str) -> None:
    sqlite = dialect_of(sql_url) == "sqlite"
    # SQLite's own wait sees a signal only when it ends.
    with sessions.connect(sql_url, pool_size=1, statement_timeout=1.0 if sqlite else 30.0) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        with locked_session(sql_url):
            interrupter = threading.Thread(target=_interrupt_when, args=(lambda: _waits_for_a_lock(backend, sql_url),))
            interrupter.start()
            with pytest.raises(KeyboardInterrupt):
                OPERATIONS[name](session)
            interrupter.join()
        if not sqlite:
            assert eventually(lambda: open_transactions(sql_url) == 0)
        history = texts(session.get_items())
        assert history in (["a"], ["a", *"ab"], [*"abc"], [])
        session.add_items(items("d"))
        assert texts(session.get_items()) == [*history, "d"]
        if sqlite:
            execute_sql(sql_url, "BEGIN EXCLUSIVE")  # no reader and no writer is left


class _TimeIsUpError(Exception):
    """What an application's own signal handler raises."""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, _TimeIsUpError, TimeoutError])
@pytest.mark.parametrize("lender", ["own", "pool", "bind", "bind in autocommit", "bind in a proxy"])
@pytest.mark.parametrize("name", ["add_items", "pop_item"])
def test_an_interrupted_write_that_waited_is_not_done_later(
    name: str, lender: str, kind: type[BaseException], server_url: str
) -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise kind

    before = signal.signal(signal.SIGINT, interrupt)
    with Session.from_url("chat_1", server_url) as witness:
        witness.add_items(items("a"))
        with locked_session(server_url):
            before_it, waiters = set(others(server_url)), set[int]()

            def waits() -> bool:
                if waiting(server_url):
                    waiters.update(set(others(server_url)) - before_it)
                return bool(waiters)

            interrupter = threading.Thread(target=_interrupt_when, args=(waits,))
            with _lent(lender, server_url) as session:
                interrupter.start()
                try:
                    with pytest.raises(kind):
                        OPERATIONS[name](session)
                finally:
                    interrupter.join()
                    signal.signal(signal.SIGINT, before)
                # Its end on the server has been awaited. PostgreSQL's session may go on.
                assert not waiting(server_url) or dialect_of(server_url) != "postgresql"
                assert not waiters & set(others(server_url)) or dialect_of(server_url) == "postgresql"
            assert texts(witness.get_items()) == ["a"]
        assert eventually(lambda: open_transactions(server_url) == 0)
        assert texts(witness.get_items()) == ["a"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, _TimeIsUpError])
@pytest.mark.parametrize("name", ["add_items", "pop_item"])
def test_an_interrupted_write_of_a_kind_that_was_done_before_is_not_done_later(
    name: str, kind: type[BaseException], server_url: str
) -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise kind

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with Session.from_url("chat_1", server_url) as witness, Session.from_url("chat_1", server_url) as session:
            witness.add_items(items("a"))
            OPERATIONS[name](session)
            session.replace_items(items("a"))
            with locked_session(server_url):
                interrupter = threading.Thread(target=_interrupt_when, args=(lambda: bool(waiting(server_url)),))
                interrupter.start()
                with pytest.raises(kind):
                    OPERATIONS[name](session)
                interrupter.join()
                assert eventually(lambda: not waiting(server_url))
                assert texts(witness.get_items()) == ["a"]
            session.add_items(items("b"))
            assert texts(witness.get_items()) == ["a", "b"]
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, _TimeIsUpError, TimeoutError])
@pytest.mark.parametrize("name", ["add_items", "pop_item", "clear_session"])
def test_an_interrupted_write_under_a_lease_is_not_done_later(
    name: str, kind: type[BaseException], server_url: str
) -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise kind

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with Session.from_url("chat_1", server_url) as witness, Session.from_url("chat_1", server_url) as session:
            witness.add_items(items("a"))
            session.get_items()
            with session.exclusive():
                with locked_session(server_url):
                    interrupter = threading.Thread(target=_interrupt_when, args=(lambda: bool(waiting(server_url)),))
                    interrupter.start()
                    with pytest.raises(kind):
                        OPERATIONS[name](session)
                    interrupter.join()
                    assert eventually(lambda: not waiting(server_url))
                    assert texts(witness.get_items()) == ["a"]
                session.add_items(items("b"))
            assert texts(witness.get_items()) == ["a", "b"]
    finally:
        signal.signal(signal.SIGINT, before)


_COMMITTING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
# As a commit that waits for the disk, it is done all the same, a moment later.
_DEAF_COMMIT = """
CREATE FUNCTION be_deaf() RETURNS TRIGGER LANGUAGE plpgsql AS $$ BEGIN
    PERFORM pg_sleep(60); RETURN NULL;
EXCEPTION WHEN query_canceled THEN
    PERFORM pg_sleep(0.5); RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER be_deaf AFTER INSERT ON agent_messages DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION be_deaf();
"""


@pytest.mark.parametrize("kind", [KeyboardInterrupt, _TimeIsUpError, TimeoutError])
@pytest.mark.parametrize("lender", ["own", "pool", "bind in autocommit"])
def test_a_commit_that_cannot_be_cancelled_is_seen_by_all_behind_the_interruption(
    lender: str, kind: type[BaseException], postgresql_url: str
) -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise kind

    def is_committing() -> bool:
        return bool(execute_sql(postgresql_url, _COMMITTING))

    before = signal.signal(signal.SIGINT, interrupt)
    with Session.from_url("chat_1", postgresql_url) as witness, _lent(lender, postgresql_url) as session:
        witness.add_items(items("a"))
        execute_sql(postgresql_url, _DEAF_COMMIT)
        interrupter = threading.Thread(target=_interrupt_when, args=(is_committing,))
        interrupter.start()
        try:
            with pytest.raises(kind):
                session.add_items(items("b"))
        finally:
            interrupter.join()
            signal.signal(signal.SIGINT, before)
        # It is there, unless a second question to give it up was heard.
        history = texts(witness.get_items())
        assert eventually(lambda: open_transactions(postgresql_url) == 0)
        assert texts(witness.get_items()) == history


@each_mysql
@pytest.mark.usefixtures("ctrl_c_as_usual")
def test_what_is_read_after_an_interruption_stays_so(server_url: str) -> None:
    with Session.from_url("chat_1", server_url) as witness:
        witness.add_items(items("a"))
        # While its body is executed nothing says which tables the statement is for, as in a COMMIT.
        execute_sql(server_url, "CREATE TRIGGER slowly AFTER INSERT ON agent_messages FOR EACH ROW DO SLEEP(0.5)")
        [[database]] = execute_sql(server_url, "SELECT DATABASE()")

        def sleeps() -> bool:
            return any(process[6] == "User sleep" for process in mysql_processes(server_url, database))

        interrupter = threading.Thread(target=_interrupt_when, args=(sleeps,))
        with Session.from_url("chat_1", server_url) as session:
            interrupter.start()
            with pytest.raises(KeyboardInterrupt):
                session.add_items(items("b"))
            interrupter.join()
        history = texts(witness.get_items())
        assert eventually(lambda: open_transactions(server_url) == 0)
        assert texts(witness.get_items()) == history


@each_mysql
@pytest.mark.parametrize(
    "how", ["the password is another one by now", "another server answers first", "the user is an@other"]
)
@pytest.mark.usefixtures("ctrl_c_as_usual")
def test_an_interrupted_write_is_ended_though(how: str, server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    passwords, user = ["first"], "an@other" if "an@other" in how else "rotated"
    execute_sql(server_url, f"CREATE USER `{user}` IDENTIFIED BY 'first'")
    try:
        execute_sql(server_url, f"GRANT ALL ON {server_url.rpartition('/')[2]}.* TO `{user}`")
        url = f"{dialect_of(server_url)}://{quote(user)}@{server_url.rpartition('@')[2]}"
        with (
            Session.from_url("chat_1", server_url) as witness,
            Session.from_url("chat_1", url, password=lambda: passwords[-1]) as session,
        ):
            witness.add_items(items("a"))
            session.get_items()
            if how.startswith("the password"):
                execute_sql(server_url, f"ALTER USER `{user}` IDENTIFIED BY 'second'")
                passwords.append("second")
            elif how.startswith("another server"):
                is_same, answers = packets._is_same_server, iter([False])
                monkeypatch.setattr(
                    packets, "_is_same_server", lambda *connections: is_same(*connections) and next(answers, True)
                )
            with locked_session(server_url):
                interrupter = threading.Thread(target=_interrupt_when, args=(lambda: bool(waiting(server_url)),))
                interrupter.start()
                with pytest.raises(KeyboardInterrupt):
                    session.add_items(items("b"))
                interrupter.join()
                assert not waiting(server_url)
            assert eventually(lambda: open_transactions(server_url) == 0)
            assert texts(witness.get_items()) == ["a"]
    finally:
        execute_sql(server_url, f"DROP USER `{user}`")


class _InterruptedReading:
    """A signal that falls just before or behind the reading of an answer, counted from the first."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, behind: bool) -> None:
        self.left = 0
        read: Any = pymysql.connections.Connection._read_packet

        def reading(connection: Any, *kind: Any) -> Any:
            self.left -= 1
            if self.left == 0 and not behind:
                signal.raise_signal(signal.SIGALRM)
            packet = read(connection, *kind)
            if self.left == 0:
                signal.raise_signal(signal.SIGALRM)
            return packet

        monkeypatch.setattr(pymysql.connections.Connection, "_read_packet", reading)


@each_mysql
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("lender", ["own", "bind in autocommit"])
def test_an_answer_to_what_was_interrupted_is_not_taken_for_the_next_ones(
    name: str, behind: bool, lender: str, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise error

    errors = itertools.cycle([pymysql.IntegrityError(1062, "x"), sessions.DatabaseError("x"), KeyboardInterrupt()])
    error: BaseException = next(errors)
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with Session.from_url("chat_1", server_url) as writer:
            writer.add_items(items("a"))
            writer.fork("chat_2").replace_items(items("b"))
        reading = _InterruptedReading(monkeypatch, behind=behind)
        for answer in range(1, 6):
            with contextlib.ExitStack() as stack:
                if lender == "own":
                    backend = stack.enter_context(sessions.connect(server_url, pool_size=1, connection_timeout=2.0))
                    backend.session("chat_1").position()
                else:
                    connection = connect_raw(server_url)
                    stack.callback(_close, connection)
                    backend = sessions.bind(connection)
                reading.left, error = answer, next(errors)
                try:
                    OPERATIONS[name](backend.session("chat_1"))
                except type(error) as exc:
                    assert exc is error  # noqa: PT017
                was_interrupted, reading.left = reading.left <= 0, 0
                try:
                    assert texts(backend.session("chat_2").get_items()) == ["b"]
                except sessions.ConnectionFailedError:
                    assert lender != "own"
                    connection.connect()  # it was closed, so that nobody takes it for a good one
                    assert texts(backend.session("chat_2").get_items()) == ["b"]
                assert eventually(lambda: open_transactions(server_url) == 0)
            if not was_interrupted:
                break
    finally:
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _raising(error: BaseException) -> Iterator[None]:
    """Let an application's signal handler raise this, as what it does itself on a connection of its own may fail."""

    def handle(number: int, frame: FrameType | None) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


# What means of a statement of ours that it is worth another attempt.
_PASSING = {
    "sqlite": sqlite3.OperationalError("database is locked"),
    "postgresql": psycopg.errors.AdminShutdown("x"),
    "mysql": pymysql.OperationalError(2006, "x"),
    "mariadb": pymysql.OperationalError(2006, "x"),
}


@pytest.mark.parametrize("lender", ["own", "pool", "bind", "bind in autocommit"])
def test_an_error_of_what_a_handler_does_itself_is_no_failure_of_the_write(
    lender: str, sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = _PASSING[dialect_of(sql_url)]
    with contextlib.ExitStack() as stack:
        witness = stack.enter_context(Session.from_url("chat_1", sql_url))
        witness.position()  # makes the tables
        session = stack.enter_context(_lent(lender, sql_url))
        session.add_items(items("a"))
        operation = Attempts._attempt

        def interrupted(*args: Any, **options: Any) -> Any:
            [operating, *_] = args[1:]

            def then_interrupted(connection: Any) -> Any:
                result = operating(connection)
                signal.raise_signal(signal.SIGALRM)
                return result

            monkeypatch.undo()
            return operation(args[0], then_interrupted, **options)

        monkeypatch.setattr(Attempts, "_attempt", interrupted)
        with _raising(error), pytest.raises(type(error)) as caught:
            session.add_items(items("b"))
        assert caught.value is error
        session.add_items(items("c"))
        assert texts(session.get_items()) in (["a", "b", "c"], ["a", "c"])
        assert lender == "bind" or texts(witness.get_items()) == texts(session.get_items())


def test_a_handlers_write_that_would_wait_for_what_it_has_interrupted_is_refused(
    server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sessions.connect(server_url) as backend:
        session, another = backend.session("chat_1"), backend.session("chat_2")
        session.add_items(items("a", "b"))
        dialect = backend._store._dialect  # type: ignore[attr-defined]
        delete_item = dialect.delete_item
        refusals = list[str]()

        def note(*_: object) -> None:
            another.add_items(items("n"))
            assert texts(session.get_items()) == ["a", "b"]
            with pytest.raises(sessions.ConnectionFailedError) as refused:
                session.add_items(items("c"))
            refusals.append(str(refused.value))

        def interrupted(*arguments: Any) -> Any:
            deleted = delete_item(*arguments)
            signal.raise_signal(signal.SIGALRM)
            return deleted

        monkeypatch.setattr(dialect, "delete_item", interrupted)
        before = signal.signal(signal.SIGALRM, note)
        try:
            assert session.delete_record(session.position())
        finally:
            signal.signal(signal.SIGALRM, before)
        [refusal] = refusals
        assert "session 'chat_1' is in the middle of an operation which this call has interrupted" in refusal
        session.add_items(items("c"))
        assert texts(session.get_items()) == ["a", "c"]
        assert texts(another.get_items()) == ["n"]


@pytest.mark.parametrize("size", [1, 2])
def test_a_handler_whose_thread_has_each_connection_is_refused_at_once(size: int, sql_url: str) -> None:
    with sessions.connect(sql_url, pool_size=size, connection_timeout=1000.0) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        with contextlib.ExitStack() as interrupted:
            for _ in range(size):
                interrupted.enter_context(connection_of(backend))
            with refused(sessions.ConnectionFailedError, match=r"connections? is in the middle of an operation"):
                session.get_items()
        assert texts(session.get_items()) == ["a"]


def test_a_handler_during_an_operation_on_sqlites_memory_is_refused_at_once() -> None:
    with sessions.connect("sqlite::memory:", connection_timeout=1000.0) as backend:
        session = backend.session("chat_1")
        with connection_of(backend), refused(sessions.ConnectionFailedError, match="the only connection is in the mid"):
            session.add_items(items("a"))
        session.add_items(items("b"))
        assert texts(session.get_items()) == ["b"]


def test_a_connection_in_the_middle_of_a_pipeline_is_not_used_again(
    postgresql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = prepared.answers_of_pipeline

    def interrupted(pgconn: Any) -> Any:
        monkeypatch.undo()
        signal.raise_signal(signal.SIGALRM)
        return answers(pgconn)

    error = psycopg.errors.UniqueViolation("x")
    with sessions.connect(postgresql_url, pool_size=1, statement_timeout=2.0, max_retries=0) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        monkeypatch.setattr(prepared, "answers_of_pipeline", interrupted)
        with _raising(error), pytest.raises(psycopg.errors.UniqueViolation):
            session.get_items()
        assert texts(session.get_items()) == ["a"]


@contextlib.contextmanager
def _lent(lender: str, url: str) -> Iterator[Session]:
    """A session on a connection of ours, or of the application's."""
    with contextlib.ExitStack() as stack:
        if lender == "own":
            yield stack.enter_context(Session.from_url("chat_1", url))
            return
        connection = connect_raw(url)
        stack.callback(_close, connection)
        if lender == "pool":
            pool = SimpleNamespace(connection=lambda: contextlib.nullcontext(connection))
            yield stack.enter_context(sessions.connect(pool=pool)).session("chat_1")
            return
        if lender == "bind":
            connection.cursor().execute("BEGIN")
        yield sessions.bind(Traced(connection) if lender == "bind in a proxy" else connection).session("chat_1")


def _close(connection: Any) -> None:
    with contextlib.suppress(pymysql.Error):  # it says when it is closed already
        connection.close()


def _waits_for_a_lock(backend: Any, url: str) -> bool:
    if dialect_of(url) == "sqlite":
        lock = backend._store._dialect.writers._lock
        if free := lock.acquire(blocking=False):
            lock.release()
        return not free
    return waiting(url) > 0


def _interrupt_when(condition: Callable[[], bool]) -> None:
    assert eventually(condition)
    os.kill(os.getpid(), signal.SIGINT)


class _Interrupts:
    """Ctrl-C at a time of chance; by the timer's signal, so that the timer can be taken back."""

    def __init__(self) -> None:
        self.armed = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        if self.armed:
            self.armed = False
            raise KeyboardInterrupt

    def run(self, seconds: float, operation: Callable[[], Any]) -> bool:
        """Tell whether the operation ended before it was interrupted."""
        try:
            self.armed = True
            signal.setitimer(signal.ITIMER_REAL, seconds)
            operation()
            self.armed = False
        except KeyboardInterrupt:
            return False
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        return True


@pytest.fixture
def interrupts() -> Iterator[_Interrupts]:
    interrupts = _Interrupts()
    before = signal.signal(signal.SIGALRM, interrupts.handle)
    yield interrupts
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif("COVERAGE_RUN" in os.environ, reason="interrupted in a lock of its own, coverage hangs")
# What the collector meets of an operation that was interrupted between two of Python's own steps.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_ctrl_c_at_any_time_leaves_a_usable_session(
    url: str, rng: random.Random, interrupts: _Interrupts, scaled: Callable[[int, int], int], figures: Figures
) -> None:
    count, done, number, ledger = scaled(40, 5), 0, 0, Ledger()
    # One connection and a short wait for it: one that is lost in an interrupt would be missed.
    with sessions.connect(url, pool_size=1, connection_timeout=2.0, statement_timeout=2.0) as backend:
        session = backend.session("chat_1")
        session.add_items(ledger.begin("w", 0, 1))
        ledger.acknowledge("w", 0)
        started = time.perf_counter()
        session.position()
        typical = 4 * (time.perf_counter() - started) + 0.0005
        while done < count:
            number += 1
            batch = ledger.begin("w", number, rng.randint(1, 4))
            if interrupts.run(rng.uniform(1e-6, typical), lambda batch=batch: session.add_items(batch)):  # type: ignore[misc]
                ledger.acknowledge("w", number)
            else:
                done += 1
                session.position()
        verdict = ledger.verdict(session.get_items())
        assert verdict, verdict
        session.clear_session()
        assert session.get_items() == []
    figures.add(_name(url), interrupts=done)
    if dialect_of(url) in {"postgresql", "mysql", "mariadb"}:
        assert eventually(lambda: open_transactions(url) == 0)


def test_no_signal_leaves_a_lock_held(rng: random.Random) -> None:
    lock = Lock()

    def hold(times: int) -> None:
        for _ in range(times):
            with lock:
                pass

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(500):
            with contextlib.suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, 2e-4))
                hold(10_000)
            assert not lock.is_held()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_lock_that_was_not_had_is_nobodys_to_release() -> None:
    lock = Lock()
    with ThreadPoolExecutor(1) as other:
        other.submit(lock.acquire).result()
        with _time_limit(KeyboardInterrupt), pytest.raises(KeyboardInterrupt), lock:
            pass
        assert not lock.is_held()
        other.submit(lock.release).result()
    with lock:
        assert lock.is_held()


@pytest.mark.parametrize("name", ["add_items", "pop_item", "replace_items", "clear_session"])
@pytest.mark.parametrize("lender", ["own", "bind in autocommit"])
@pytest.mark.parametrize("gap", [0.03, 0.06, 0.1])
def test_a_write_that_ctrl_c_interrupts_twice_is_not_done_later(
    gap: float, lender: str, name: str, server_url: str
) -> None:
    """The second one falls into what the first one is answered by, which takes some trips over the network."""
    left = 2

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal left
        if left:
            left -= 1
            signal.setitimer(signal.ITIMER_REAL, gap)
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    with Session.from_url("chat_1", server_url) as witness, contextlib.ExitStack() as stack:
        witness.add_items(items("a"))
        proxy = stack.enter_context(Proxy(server_url, delay_to_server=0.02, delay_to_client=0.02))
        with _lent(lender, proxy.url) as session, locked_session(server_url):
            assert session.position() > 0  # connected
            interrupter = threading.Thread(target=_alarm_when, args=(lambda: bool(waiting(server_url)),))
            interrupter.start()
            try:
                with pytest.raises(KeyboardInterrupt):
                    OPERATIONS[name](session)
                left = 0
            finally:
                interrupter.join()
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
            assert eventually(lambda: not waiting(server_url), seconds=5)
        assert eventually(lambda: open_transactions(server_url) == 0)
        assert texts(witness.get_items()) == ["a"]


def _alarm_when(condition: Callable[[], bool]) -> None:
    assert eventually(condition)
    signal.setitimer(signal.ITIMER_REAL, 0.001)


@pytest.mark.parametrize("place", ["Pool.restores", "Pool.give_back"])
def test_an_interrupt_behind_another_leaves_no_turn_taken(
    place: str, sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sessions._connections import pool

    kind, _, name = place.partition(".")
    there = getattr(pool, kind)
    original = getattr(there, name)

    def interrupted(*arguments: Any, **options: Any) -> Any:
        if not is_writing:
            return original(*arguments, **options)
        is_writing.pop()
        raise KeyboardInterrupt

    is_writing: list[bool] = []

    def fail(*_: object) -> None:
        is_writing.append(True)
        raise ZeroDivisionError

    with sessions.connect(sqlite_url, statement_timeout=1.0) as backend, ThreadPoolExecutor(1) as other:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        monkeypatch.setattr(there, name, interrupted)
        monkeypatch.setattr(backend._store._dialect, "touch", fail)  # type: ignore[attr-defined]
        with pytest.raises((KeyboardInterrupt, ZeroDivisionError)):
            session.add_items(items("b"))
        monkeypatch.undo()
        other.submit(session.add_items, items("c")).result(timeout=10)
        session.add_items(items("d"))
        assert texts(session.get_items()) == ["a", "c", "d"]


def test_a_time_limit_while_a_lease_gets_its_thread_is_not_swallowed(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thread.start() makes another exception of it: it lets go of a lock that it has not got again."""

    def start(thread: threading.Thread) -> None:
        try:
            signal.raise_signal(signal.SIGALRM)
        finally:
            raise RuntimeError("release unlocked lock")

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise _TimeIsUpError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with Session.from_url("chat_1", url) as session:
            monkeypatch.setattr(threading.Thread, "start", start)
            with pytest.raises(_TimeIsUpError), session.exclusive():
                pass
            monkeypatch.undo()
            with session.exclusive():
                session.add_items(items("a"))
    finally:
        signal.signal(signal.SIGALRM, before)


_CLOSE_TO_THE_LIMIT = """
import sys, sessions
_, url, name = sys.argv
limit = 400

def at(depth, call):
    return at(depth - 1, call) if depth else call()

with sessions.connect(url, max_retries=1, retry_delay=0.001) as backend:
    backend.session("chat_0").add_items([{"n": 0}])
    backend.session("chat_0").replace_items([{"n": 0}])
    backend.session("chat_0").pop_item()
    sys.setrecursionlimit(limit)
    raised = 0
    for depth in range(limit - 110, limit - 5):
        session = backend.session(f"chat_{depth}")
        session.add_items([{"n": 0}, {"n": 1}])
        before = session.get_items()
        write = getattr(session, name)
        try:
            at(depth, lambda: write([{"n": 2}]) if name in ("add_items", "replace_items") else write())
        except sessions.OutcomeUnknownError:
            raised += 1
        except RecursionError:
            raised += 1
            assert session.get_items() == before, depth
    assert raised > 5
"""


@pytest.mark.skipif("COVERAGE_RUN" in os.environ, reason="coverage uses the stack too")
@pytest.mark.parametrize("name", ["add_items", "pop_item", "replace_items", "clear_session"])
def test_a_write_that_meets_the_end_of_the_stack_has_not_happened_or_may_have(name: str, server_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _CLOSE_TO_THE_LIMIT, server_url, name],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def _bound(stack: contextlib.ExitStack, url: str, how: str) -> Session:
    connection = stack.enter_context(contextlib.closing(connect_raw(url)))
    if how == "bind with the attribute autocommit":
        connection.autocommit = True
    if how == "bind":
        connection.cursor().execute("BEGIN")
    return sessions.bind(connection).session("chat_1")


class _Keeping:
    """Keeps what is raised, with all that its frames hold."""

    def __init__(self, kept: list[BaseException]) -> None:
        self._kept = kept

    def __enter__(self) -> None:
        pass

    def __exit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        if exc is not None:
            self._kept.append(exc)


# Behind what instructions Python looks for signals.
_CHECKED = ("RESUME", "CALL", "CALL_FUNCTION_EX", "CALL_KW")


@functools.cache
def _checks(code: CodeType) -> frozenset[int]:
    """The places of a function at which a signal's handler can raise.

    It raises in the call before them, so only those are as good that the same clause is for.
    """
    entries = dis.Bytecode(code).exception_entries  # type: ignore[attr-defined]

    def clause(offset: int) -> object:
        return next((entry.target for entry in entries if entry.start <= offset < entry.end), None)

    steps = [step for step in dis.get_instructions(code) if step.opname != "CACHE"]
    return frozenset(
        later.offset
        for step, later in itertools.pairwise(steps)
        if step.opname in _CHECKED and clause(step.offset) == clause(later.offset)
    )


class _Interrupt:
    """Ctrl-C at one of the places in some modules at which it can fall, counted from the first."""

    def __init__(self, place: int, *modules: str) -> None:
        self.left = place
        self._modules = modules

    def __enter__(self) -> None:
        sys._getframe().f_trace_opcodes = True  # Python 3.12 looks for it in settrace() alone
        sys.settrace(self._trace)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _trace(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(self._modules):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in _checks(frame.f_code):
            self.left -= 1
            if not self.left:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._trace


@pytest.mark.slow
@pytest.mark.skipif("COVERAGE_RUN" in os.environ, reason="coverage traces too")
def test_ctrl_c_anywhere_into_or_out_of_a_block_leaves_it(url: str) -> None:
    with sessions.connect(url) as backend:
        session, other = backend.session("chat_1"), backend.session("chat_1")
        with session.exclusive():
            session.add_items(items("a"))
        for place in itertools.count(1):
            interrupt = _Interrupt(place, _exclusive.__file__)
            with contextlib.suppress(KeyboardInterrupt), interrupt, session.exclusive(lease=0.2):
                pass
            gc.collect()  # what an error keeps
            # Given back, or ended by itself.
            for handle in (session, other):
                with handle.exclusive(timeout=60):
                    pass
            if interrupt.left:
                break
        assert place > 20
        assert eventually(lambda: "sessions-lease" not in [thread.name for thread in threading.enumerate()])


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.skipif("COVERAGE_RUN" in os.environ, reason="coverage traces too")
def test_ctrl_c_anywhere_while_a_file_is_opened_keeps_it_from_no_forked_child(
    sqlite_url: str, request: pytest.FixtureRequest
) -> None:
    """A connection that is dropped between two steps stays open until a collection."""
    modules = str(Path(sqlite_connector.__file__).parent)
    with Session.from_url("chat_1", sqlite_url) as session:
        session.add_items(items("a"))
    # Or each collection, one before each fork and one in each child, looks at all that pytest has.
    request.addfinalizer(gc.unfreeze)
    gc.freeze()
    for place in itertools.count(1):
        interrupt = _Interrupt(place, modules)
        with Session.from_url("chat_1", sqlite_url) as session:
            with contextlib.suppress(KeyboardInterrupt), interrupt:
                session.get_items()
            assert Child(session.get_items).result() == items("a")
        if interrupt.left:
            break
    assert place > 50


@pytest.mark.skipif("COVERAGE_RUN" in os.environ, reason="coverage traces too")
def test_a_write_is_not_under_way_any_more_while_what_has_interrupted_its_end_is_kept() -> None:
    where = object()
    for place in itertools.count(1):
        kept: list[BaseException] = []
        interrupt = _Interrupt(place, _reentry.__file__)
        with contextlib.suppress(KeyboardInterrupt), _Keeping(kept), interrupt, _reentry.Write(where, "chat_1"):
            _reentry.note_held()
        with _reentry.Write(where, "chat_1"):
            pass
        if interrupt.left:
            break
    assert place > 5


@pytest.mark.slow
@pytest.mark.skipif("COVERAGE_RUN" in os.environ, reason="coverage traces too")
@pytest.mark.parametrize("how", ["own", "bind", "bind in autocommit", "bind with the attribute autocommit"])
def test_an_exception_anywhere_in_a_write_leaves_nothing_to_go_on_later(
    sql_url: str, how: str, rng: random.Random
) -> None:
    """It is kept, and forgotten by another thread, when the connection has something else to do."""
    if how == "bind with the attribute autocommit" and (dialect_of(sql_url) != "sqlite" or sys.version_info < (3, 12)):
        pytest.skip("it is sqlite3's, since Python 3.12")
    modules = str(Path(sessions.__file__).parent), contextlib.__file__
    with sessions.connect(sql_url, pool_size=1, statement_timeout=5.0) as backend, ThreadPoolExecutor(1) as other:
        acknowledged = ["first"]
        backend.session("chat_1").add_items(items("first"))
        # A server is connected to anew after each of them.
        step = 1 if dialect_of(sql_url) == "sqlite" else 7
        for place in itertools.count(rng.randint(1, step), step):
            with contextlib.ExitStack() as stack:
                session = backend.session("chat_1") if how == "own" else _bound(stack, sql_url, how)
                kept: list[BaseException] = []
                interrupt = _Interrupt(place, *modules)
                with contextlib.suppress(KeyboardInterrupt), _Keeping(kept), interrupt:
                    session.add_items(items(f"interrupted {place}"))
                text = f"after {place}"
                try:
                    session.add_items(items(text))
                except sessions.ConnectionFailedError:
                    assert how != "own"  # an application's connection that was closed is opened by the application
                    session = _bound(stack, sql_url, how)
                    session.add_items(items(text))
                other.submit(kept.clear).result(timeout=10)
                if how == "bind":
                    lender_of(session)._connection.commit()
                acknowledged.append(text)
            if how == "own":
                other.submit(backend.session("chat_2").add_items, items(text)).result(timeout=10)
            if interrupt.left:
                break
        found = [text for text in texts(backend.session("chat_1").get_items()) if not text.startswith("interrupted")]
        assert found == acknowledged
        assert place > 20


@pytest.mark.skipif("COVERAGE_RUN" in os.environ, reason="coverage traces too")
@pytest.mark.parametrize("name", ["add_items", "pop_item", "replace_items", "clear_session", "delete_sessions"])
def test_ctrl_c_anywhere_in_memory_breaks_no_seal(name: str) -> None:
    with sessions.connect("memory:", integrity_key="k" * 32) as backend:
        for place in itertools.count(1):
            session = backend.session(f"chat_{place}")
            session.add_items(items("a", "b"))
            interrupt = _Interrupt(place, str(Path(sessions.__file__).parent))
            with contextlib.suppress(KeyboardInterrupt), interrupt:
                if name == "delete_sessions":
                    backend.delete_sessions([session.session_id])
                else:
                    OPERATIONS[name](session)
            session.verify()
            assert len(session.get_items()) <= 4
            if interrupt.left:
                break
        assert place > 20


def test_ctrl_c_while_a_failure_is_cleaned_up_keeps_a_conversation_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from sessions._dialects.sqlite import connection, connector

    roll_back = connection.roll_back

    def interrupted(left: Any) -> bool:
        monkeypatch.undo()
        roll_back(left)
        raise KeyboardInterrupt

    with sessions.Session.from_url("chat_1", "sqlite::memory:") as session:
        session.add_items(items("a"))
        monkeypatch.setattr(connector, "roll_back", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.add_items(items("b"), if_position=99)
        assert texts(session.get_items()) == ["a"]


def _name(url: str) -> str:
    return "sqlite-memory" if url == "sqlite::memory:" else dialect_of(url)


@contextlib.contextmanager
def _time_limit(
    kind: type[BaseException], when: Callable[[], object] = lambda: True, *, every: float = 0.01
) -> Iterator[None]:
    """Let an application's signal handler raise this once it is time."""

    def handle(number: int, frame: FrameType | None) -> None:
        if when():
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise kind

    before = signal.signal(signal.SIGALRM, handle)
    # Again and again: who is about to wait would not notice a single one.
    signal.setitimer(signal.ITIMER_REAL, every, every)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", [TimeoutError, ConnectionResetError, RuntimeError, ValueError])
def test_a_time_limit_ends_while_connecting(kind: type[BaseException], server_url: str) -> None:
    with Proxy(server_url) as proxy, Session.from_url("chat_1", proxy.url, connection_timeout=50.0) as session:
        proxy.pause()
        with _time_limit(kind, when=lambda: proxy._links), pytest.raises(kind):
            session.get_items()


@pytest.mark.parametrize("name", ["add_items", "replace_items", "clear_session", "pop_item"])
def test_a_read_behind_an_interrupted_write_shows_what_stays(name: str, server_url: str) -> None:
    with Proxy(server_url) as proxy, Session.from_url("chat_1", proxy.url) as session:
        session.add_items(items("a", "b"))
        with locked_session(server_url) as holder:
            # A server that hangs: it hears of the write, and that nobody waits for it, when all is over here.
            proxy.hold()
            # psycopg does not notice what comes within 0.1 s each time.
            with _time_limit(RuntimeError, lambda: not proxy._holding, every=0.2), pytest.raises(RuntimeError):
                OPERATIONS[name](session)
            proxy.release()
            assert eventually(lambda: waiting(server_url) == 1)
            later = threading.Timer(0.3, holder.rollback)
            later.start()
            history = texts(session.get_items())
            later.join()
        assert eventually(lambda: open_transactions(server_url) == 0)
        assert texts(session.get_items()) == history


def test_a_time_limit_ends_while_a_lost_write_is_looked_for(server_url: str) -> None:
    with Proxy(server_url) as proxy:
        password = unquote(urlsplit(server_url).password or "")
        url = proxy.url.replace(f":{quote(password, safe='')}@", "@")

        def asked_for() -> str:
            if proxy.was_cut:
                asked.append(True)
                signal.raise_signal(signal.SIGALRM)
            return password

        asked: list[bool] = []

        with Session.from_url("chat_1", url, password=asked_for) as session:
            session.add_items(items("a"))
            proxy.cut(packet=1, when="after")
            with _time_limit(RuntimeError, when=lambda: asked), pytest.raises(RuntimeError):
                session.add_items(items("b"))


@each_mysql
def test_a_time_limit_that_is_over_is_not_raised_once_more(server_url: str) -> None:
    with Proxy(server_url) as proxy, Session.from_url("chat_1", proxy.url, retry_delay=0.01) as session:
        session.add_items(items("a"))
        try:
            with _time_limit(TimeoutError):
                time.sleep(60)
        except TimeoutError:
            proxy.cut(packet=1, when="after")
            session.add_items(items("b"))
        assert proxy.was_cut
        assert texts(session.get_items()) == ["a", "b"]


def test_a_time_limit_is_no_sign_of_a_missing_file(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stat = os.stat

    def interrupted(*args: Any, **options: Any) -> os.stat_result:
        monkeypatch.undo()
        signal.raise_signal(signal.SIGALRM)
        return stat(*args, **options)

    with Session.from_url("chat_1", sqlite_url) as session:
        session.add_items(items("a"))
        monkeypatch.setattr(os, "stat", interrupted)
        with _time_limit(TimeoutError, when=lambda: os.stat is stat), pytest.raises(TimeoutError):
            session.add_items(items("b"))
        assert texts(session.get_items()) == ["a"]


class _Codec(codecs.Codec):
    """One in which a signal falls: Python takes what its handler raises for an error of the codec's."""

    def encode(self, text: str, errors: str = "strict") -> tuple[bytes, int]:
        signal.raise_signal(signal.SIGALRM)
        return text.encode(), len(text)


@each_mysql
@pytest.mark.parametrize("kind", [TimeoutError, OSError, RuntimeError, UnicodeError])
def test_a_time_limit_is_no_sign_of_a_wrong_host_name(
    kind: type[BaseException], server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up, armed = socket.getaddrinfo, [False]

    def interrupted(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        armed[0] = True
        "host".encode("interrupted")
        return look_up(*args, **options)

    def find(name: str) -> codecs.CodecInfo | None:
        return codecs.CodecInfo(_Codec().encode, codecs.utf_8_decode) if name == "interrupted" else None

    codecs.register(find)
    try:
        with Session.from_url("chat_1", server_url, max_retries=0) as session:
            monkeypatch.setattr(socket, "getaddrinfo", interrupted)
            with _time_limit(kind, when=lambda: armed[0]), pytest.raises(kind) as caught:
                session.get_items()
        assert type(caught.value) is kind
    finally:
        codecs.unregister(find)


class _JobTimeoutError(TimeoutError):
    """A time limit of an application's own kind, which is an OSError to whoever sends and reads."""


def _asynchronously(kind: type[BaseException]) -> None:
    """Raise it as PyThreadState_SetAsyncExc does: the bare class, and nothing that raises it is given a frame."""
    raise kind


def _by_a_handler_that_forgets(kind: type[BaseException]) -> None:
    def handle(*arguments: object) -> None:
        del arguments
        raise kind("the time is up")

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)


def _interrupt_behind_sending(monkeypatch: pytest.MonkeyPatch, interrupt: Callable[[], None]) -> list[bool]:
    """Interrupt once, behind the next bytes that a socket has sent."""
    fallen: list[bool] = []
    for kind in (socket.socket, ssl.SSLSocket):
        send: Any = kind.sendall

        def sending(end: Any, data: bytes, *flags: int, send: Any = send) -> None:
            send(end, data, *flags)
            if not fallen:
                fallen.append(True)
                interrupt()

        monkeypatch.setattr(kind, "sendall", sending)
    return fallen


@each_mysql
@pytest.mark.parametrize("lender", ["own", "pool"])
@pytest.mark.parametrize(
    ("raise_it", "kind"),
    [
        pytest.param(_asynchronously, _JobTimeoutError, id="asynchronously"),
        pytest.param(_asynchronously, TimeoutError, id="asynchronously and bare"),
        pytest.param(_by_a_handler_that_forgets, _JobTimeoutError, id="by a handler that forgets its frame"),
    ],
)
def test_a_time_limit_behind_a_packet_that_was_sent_ends_the_write_and_does_not_repeat_it(
    raise_it: Callable[[Any], None], kind: Any, lender: str, server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _lent("own", server_url) as witness, _lent(lender, server_url) as session:
        witness.add_items(items("a"))
        session.get_items()
        fallen = _interrupt_behind_sending(monkeypatch, lambda: raise_it(kind))
        with pytest.raises(kind) as caught:
            session.add_items(items("b"))
        assert type(caught.value) is kind
        assert fallen
        assert texts(witness.get_items()) in (["a"], ["a", "b"])


@each_mysql
@pytest.mark.parametrize("kind", [ConnectionResetError, TimeoutError, OSError])
def test_a_handlers_error_that_looks_like_the_sockets_does_not_repeat_a_write(
    kind: type[OSError], server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _lent("own", server_url) as witness, _lent("own", server_url) as session:
        witness.add_items(items("a"))
        session.get_items()
        fallen = _interrupt_behind_sending(monkeypatch, lambda: _by_a_handler_that_forgets(kind))
        with contextlib.suppress(kind):
            session.add_items(items("b"))
        assert fallen
        assert texts(witness.get_items()) in (["a"], ["a", "b"])


@each_mysql
@pytest.mark.parametrize("kind", [_JobTimeoutError, TimeoutError])
def test_a_time_limit_amid_an_answer_is_not_taken_for_a_lost_connection(
    kind: type[BaseException], server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _lent("own", server_url) as session:
        session.add_items(items("a"))
        reading: Any = TimedReader.readinto

        def interrupted(reader: TimedReader, buffer: Any) -> Any:
            monkeypatch.undo()
            _asynchronously(kind)
            return reading(reader, buffer)

        monkeypatch.setattr(TimedReader, "readinto", interrupted)
        with pytest.raises(kind) as caught:
            session.get_items()
        assert type(caught.value) is kind
        assert texts(session.get_items()) == ["a"]


@each_mysql
def test_a_time_limit_while_connecting_is_no_missing_package(server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class JobTimeoutError(RuntimeError):
        pass

    look_up = socket.getaddrinfo

    def interrupted(*args: Any, **options: Any) -> Any:
        monkeypatch.undo()
        _asynchronously(JobTimeoutError)
        return look_up(*args, **options)

    with Session.from_url("chat_1", server_url, max_retries=0) as session:
        monkeypatch.setattr(socket, "getaddrinfo", interrupted)
        with pytest.raises(JobTimeoutError):
            session.get_items()
