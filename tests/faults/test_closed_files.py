"""SQLite: what close() closes, whatever had failed before: no log is copied into a file that was restored since."""

import ast
import contextlib
import gc
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import sessions
from faults.test_replaced_files import another_process_reads, shell
from faults.writers import at_first_retry
from sessions import Session
from sessions._dialects.sqlite.connection import FileConnection
from support.samples import items, refuse_poisoned_rows
from support.servers import connect_raw, execute_sql


@pytest.fixture(autouse=True)
def nothing_is_collected() -> Iterator[None]:
    """What an error keeps is kept as long as the test goes on."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@contextlib.contextmanager
def locked(url: str) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(connect_raw(url)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def _refused_by_a_trigger(url: str, session: Session) -> None:
    refuse_poisoned_rows(url)
    session.add_items(items("a", "poison"))


def _pop_refused_by_a_trigger(url: str, session: Session) -> None:
    refuse_poisoned_rows(url)
    session.add_items(items("precious"))
    session.pop_item()


def _locked(url: str, session: Session) -> None:
    with locked(url):
        session.add_items(items("a"))


def _locked_for_a_while(url: str, session: Session) -> None:
    with locked(url) as other, at_first_retry(lambda: other.execute("ROLLBACK")):
        session.add_items(items("a"))


def _without_tables(url: str, session: Session) -> None:
    for table in ("agent_messages", "agent_sessions"):
        execute_sql(url, f"DROP TABLE {table}")
    session.add_items(items("a"))


def _with_other_tables(url: str, session: Session) -> None:
    execute_sql(url, "ALTER TABLE agent_messages RENAME COLUMN message_data TO text")
    session.get_items()


def _held_by_another(url: str, session: Session) -> None:
    other = sessions.Backend(session._history.store).session("chat_1")
    with other.exclusive(), session.exclusive(timeout=0):
        pass


def _interrupted_behind(method: str) -> Callable[[str, Session], None]:
    """A signal whose handler raises when one of the driver's methods has returned."""

    def interrupt(url: str, session: Session) -> None:
        def handle(number: int, frame: FrameType | None) -> None:
            sys.setprofile(None)
            raise KeyboardInterrupt

        def profile(frame: FrameType, event: str, function: Any) -> None:
            if event == "c_return" and function.__name__ == method:
                handle(0, frame)

        before = signal.signal(signal.SIGINT, handle)
        try:
            sys.setprofile(profile)
            session.get_items()
        finally:
            sys.setprofile(None)
            signal.signal(signal.SIGINT, before)

    return interrupt


FAILURES = {
    "refused by a trigger": _refused_by_a_trigger,
    "pop refused by a trigger": _pop_refused_by_a_trigger,
    "locked": _locked,
    "locked for a while": _locked_for_a_while,
    "without tables": _without_tables,
    "with other tables": _with_other_tables,
    "held by another": _held_by_another,
    "interrupted behind execute": _interrupted_behind("execute"),
    "interrupted behind fetchall": _interrupted_behind("fetchall"),
}
each_failure = pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)


def is_open(url: str) -> bool:
    """Whether somebody has the file open: who closes it last removes the log."""
    return Path(url.removeprefix("sqlite:///") + "-wal").exists()


@each_failure
def test_close_closes_the_file_after_any_failure(sqlite_url: str, failure: Callable[[str, Session], None]) -> None:
    with sessions.connect(sqlite_url, statement_timeout=0.05, max_retries=1, retry_delay=0.01) as backend:
        session = backend.session("chat_1")
        session.add_items(items("a"))
        kept = None
        try:
            failure(sqlite_url, session)
        except (sessions.SessionsError, KeyboardInterrupt) as exc:
            kept = exc
        assert is_open(sqlite_url)
    assert not is_open(sqlite_url), kept


def test_close_closes_the_file_of_a_thread_that_waits(sqlite_url: str) -> None:
    with ThreadPoolExecutor(1) as worker, sessions.connect(sqlite_url) as backend:
        worker.submit(lambda: backend.session("chat_1").add_items(items("a"))).result()
        assert is_open(sqlite_url)
        backend.close()
        assert not is_open(sqlite_url)


def test_a_file_is_opened_while_another_thread_closes_it(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its connection is still known."""
    closed, opened = threading.Event(), threading.Event()
    close = FileConnection.close

    def close_slowly(connection: FileConnection) -> None:
        close(connection)
        monkeypatch.undo()
        closed.set()
        opened.wait()

    backend = sessions.connect(sqlite_url)
    backend.session("chat_1").add_items(items("a"))
    monkeypatch.setattr(FileConnection, "close", close_slowly, raising=False)
    with ThreadPoolExecutor(1) as worker:
        closing = worker.submit(backend.close)
        closed.wait()
        try:
            with Session.from_url("chat_1", sqlite_url, max_retries=0) as session:
                session.add_items(items("b"))
        finally:
            opened.set()
        closing.result()
    assert another_process_reads(Path(sqlite_url.removeprefix("sqlite:///"))) == ["a", "b"]


@pytest.mark.parametrize("autocommit", [True, False])
@each_failure
def test_an_application_can_close_its_connection_after_any_failure(
    sqlite_url: str, failure: Callable[[str, Session], None], *, autocommit: bool
) -> None:
    with sessions.Session.from_url("chat_1", sqlite_url) as owner, owner.exclusive():
        owner.add_items(items("a"))
    connection = connect_raw(sqlite_url)
    connection.isolation_level = None if autocommit else "DEFERRED"
    connection.execute("PRAGMA busy_timeout=50")
    kept = None
    try:
        failure(sqlite_url, sessions.bind(connection).session("chat_1"))
    except (sessions.SessionsError, sqlite3.Error, KeyboardInterrupt) as exc:
        kept = exc
    connection.close()
    assert not is_open(sqlite_url), kept


def test_a_forgotten_error_undoes_no_restore(tmp_path: Path) -> None:
    path = tmp_path / "chat.db"
    url = f"sqlite:///{path}"
    with sessions.connect(url, statement_timeout=0.05, max_retries=0) as backend:
        session = backend.session("chat_1")
        session.add_items(items("kept"))
        execute_sql(url, f"VACUUM INTO '{path.with_name('backup')}'")
        session.add_items(items(*(f"gone {number}" for number in range(500))))
        with locked(url), pytest.raises(sessions.DatabaseError):
            session.add_items(items("a"))
    shell("rm -f chat.db-wal chat.db-shm; cp backup chat.db", path)
    with sessions.Session.from_url("chat_1", url) as other:
        other.add_items(items("new"))
    gc.collect()
    assert another_process_reads(path) == ["kept", "new"]


def test_each_statement_goes_through_the_function_that_closes_its_cursor() -> None:
    found = {
        (path.name, ast.unparse(node))
        for path in (Path(sessions.__file__).parent / "_dialects" / "sqlite").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in ("Cursor", "cursor", "execute", "executemany", "executescript")
    }
    assert found == {
        ("values.py", "sqlite3.Connection.cursor"),
        ("values.py", "sqlite3.Cursor"),
        ("values.py", "cursor.execute"),
        ("dialect.py", "self.execute"),
    }
