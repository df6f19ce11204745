"""bind() on a sqlite3 connection, however the application has set it up."""

import gc
import sqlite3
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

import sessions
from embedding.application import orders, place_order, prepare, run, use_everything
from support.samples import in_threads, items, stored_texts, texts

needs_autocommit = pytest.mark.skipif(sys.version_info < (3, 12), reason="sqlite3 has no autocommit before Python 3.12")

# Every way to set up transactions: what isolation_level was in its two meanings, and the attribute that replaces it.
MODES = [
    pytest.param({"isolation_level": ""}, id="default"),
    pytest.param({"isolation_level": "DEFERRED"}, id="deferred"),
    pytest.param({"isolation_level": "IMMEDIATE"}, id="immediate"),
    pytest.param({"isolation_level": "EXCLUSIVE"}, id="exclusive"),
    pytest.param({"isolation_level": None}, id="by-hand"),
    pytest.param({"autocommit": True}, id="autocommit", marks=needs_autocommit),
    pytest.param({"autocommit": False}, id="no-autocommit", marks=needs_autocommit),
    pytest.param(
        {"autocommit": False, "isolation_level": None}, id="no-autocommit-and-no-level", marks=needs_autocommit
    ),
]


Open = Callable[..., sqlite3.Connection]


@pytest.fixture
def path(sqlite_url: str) -> str:
    prepare(sqlite_url)
    return sqlite_url.removeprefix("sqlite:///")


@pytest.fixture
def open_file(path: str) -> Iterator[Open]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(closing(sqlite3.connect(path, timeout=5, **options)))


def is_by_hand(mode: dict[str, Any]) -> bool:
    return bool(mode.get("autocommit", mode.get("isolation_level", "") is None))


def settings(connection: sqlite3.Connection) -> tuple[Any, ...]:
    autocommit = getattr(connection, "autocommit", None)
    return connection.isolation_level, connection.row_factory, connection.text_factory, autocommit


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_the_transaction_is_the_callers_in_every_mode(
    sqlite_url: str, open_file: Open, mode: dict[str, Any], end: str
) -> None:
    connection = open_file(**mode)
    before = settings(connection)
    session = sessions.bind(connection).session("chat_1")
    for number, order_first in enumerate((True, False)):
        if is_by_hand(mode):
            run(connection, "BEGIN")
        if order_first:
            place_order(connection, number)
        session.add_items(items("a", "b"))
        session.pop_item()
        if not order_first:
            place_order(connection, number)
        assert orders(sqlite_url) == ([] if end == "rollback" else list(range(number)))
        run(connection, end) if is_by_hand(mode) else getattr(connection, end)()
    assert orders(sqlite_url) == ([0, 1] if end == "commit" else [])
    assert len(stored_texts(sqlite_url)) == (2 if end == "commit" else 0)
    assert settings(connection) == before


@pytest.mark.parametrize("mode", MODES)
def test_outside_a_transaction_the_mode_says_who_commits(
    sqlite_url: str, open_file: Open, mode: dict[str, Any]
) -> None:
    connection = open_file(**mode)
    sessions.bind(connection).session("chat_1").add_items(items("a"))
    assert len(stored_texts(sqlite_url)) == int(is_by_hand(mode))
    connection.commit()
    assert len(stored_texts(sqlite_url)) == 1


@pytest.mark.parametrize("mode", MODES)
def test_reading_begins_no_transaction(open_file: Open, mode: dict[str, Any]) -> None:
    connection = open_file(**mode)
    before = connection.in_transaction  # always so with autocommit=False
    session = sessions.bind(connection).session("chat_1")
    session.get_items()
    session.position()
    assert connection.in_transaction == before


@pytest.mark.parametrize("mode", MODES)
def test_a_failed_write_takes_back_itself_alone_in_every_mode(
    sqlite_url: str, open_file: Open, mode: dict[str, Any]
) -> None:
    connection = open_file(**mode)
    session = sessions.bind(connection).session("chat_1")
    if is_by_hand(mode):
        run(connection, "BEGIN")
    place_order(connection, 1)
    session.add_items(items("a"))
    run(connection, "CREATE TRIGGER refuse BEFORE INSERT ON agent_messages BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(sessions.DatabaseError):
        session.add_items(items("b"))
    run(connection, "DROP TRIGGER refuse")
    session.add_items(items("c"))
    connection.execute("COMMIT")
    assert orders(sqlite_url) == [1]
    assert texts(session.get_items()) == ["a", "c"]


@pytest.mark.parametrize("mode", MODES)
def test_a_write_behind_a_transaction_that_a_trigger_ended_is_the_modes_to_commit(
    sqlite_url: str, open_file: Open, mode: dict[str, Any]
) -> None:
    connection = open_file(**mode)
    refuse = "WHEN instr(NEW.message_data, 'bad') BEGIN SELECT RAISE(ROLLBACK, 'no'); END"
    run(connection, f"CREATE TRIGGER refuse BEFORE INSERT ON agent_messages {refuse}")
    connection.commit()
    session = sessions.bind(connection).session("chat_1")
    with pytest.raises(sessions.DatabaseError):
        session.add_items(items("bad"))
    session.add_items(items("a"))
    assert len(stored_texts(sqlite_url)) == int(is_by_hand(mode))
    connection.commit()
    assert len(stored_texts(sqlite_url)) == 1


def test_a_write_waits_for_the_lock_instead_of_failing_later(open_file: Open) -> None:
    # A transaction that begins by reading cannot write once another connection has written.
    connection, other = open_file(isolation_level="IMMEDIATE"), open_file(isolation_level=None)
    session = sessions.bind(connection).session("chat_1")
    session.add_items(items("a", "b"))
    connection.commit()
    session.pop_item()
    other.execute("PRAGMA busy_timeout = 0")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("BEGIN IMMEDIATE")
    connection.commit()
    assert texts(session.get_items()) == ["a"]


# --- factories: neither relied on nor changed


class Shouting(sqlite3.Cursor):
    def fetchall(self) -> list[Any]:
        return ["A ROW"] * len(super().fetchall())


class OwnConnection(sqlite3.Connection):
    def cursor(self) -> Shouting:  # type: ignore[override]
        return super().cursor(Shouting)


FACTORIES: dict[str, tuple[str, Any]] = {
    "row": ("row_factory", sqlite3.Row),
    "dict": ("row_factory", lambda cursor, row: {column[0]: row[n] for n, column in enumerate(cursor.description)}),
    "first": ("row_factory", lambda cursor, row: row[0]),
    "none": ("row_factory", lambda cursor, row: None),
    "bytes": ("text_factory", bytes),
    "latin-1": ("text_factory", lambda raw: raw.decode("latin-1")),
    "bytearray": ("text_factory", bytearray),
    "length": ("text_factory", len),
}


@pytest.mark.parametrize("ensure_ascii", [True, False])
@pytest.mark.parametrize("name", FACTORIES)
def test_a_factory_of_the_callers_is_left_alone(open_file: Open, name: str, ensure_ascii: bool) -> None:
    connection = open_file()
    attribute, factory = FACTORIES[name]
    setattr(connection, attribute, factory)
    use_everything(sessions.bind(connection, ensure_ascii=ensure_ascii).session("chät_1"))
    assert getattr(connection, attribute) is factory


@pytest.mark.parametrize("factory", [str, bytes])
def test_a_usual_text_factory_is_not_exchanged_for_a_moment(open_file: Open, factory: Any) -> None:
    # Another thread of the application would read texts of another type.
    connection = open_file()
    connection.text_factory = factory
    seen: set[Any] = set()
    connection.set_trace_callback(lambda _: seen.add(connection.text_factory))
    use_everything(sessions.bind(connection).session("chät_1"))
    assert seen == {factory}


def test_a_text_factory_is_left_alone_after_an_error(open_file: Open) -> None:
    connection = open_file()
    connection.text_factory = bytes
    with pytest.raises(sessions.SchemaError):
        sessions.bind(connection, sessions_table="no_table").session("chat_1").add_items(items("a"))
    with pytest.raises(sessions.SchemaError):
        sessions.bind(connection, messages_table="no_table").session("chat_1").get_items()
    assert connection.text_factory is bytes


def test_a_cursor_class_of_the_callers_is_not_used(open_file: Open) -> None:
    connection = open_file(factory=OwnConnection)
    use_everything(sessions.bind(connection).session("chat_1"))
    assert connection.cursor().execute("SELECT 1").fetchall() == ["A ROW"]


def test_other_hooks_of_the_callers_do_no_harm(open_file: Open) -> None:
    connection = open_file(cached_statements=0)
    seen: list[str] = []
    connection.set_trace_callback(seen.append)
    connection.set_progress_handler(lambda: 0, 1)
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA recursive_triggers = ON")
    use_everything(sessions.bind(connection).session("chat_1"))
    assert seen


# --- the connection's own rules


def test_another_thread_is_refused_as_sqlite3_refuses_it(open_file: Open) -> None:
    connection = open_file()
    session = sessions.bind(connection).session("chat_1")

    def work(_: int) -> None:
        for operation in (session.get_items, lambda: session.add_items(items("a"))):
            with pytest.raises(sessions.SessionsError, match="thread") as caught:
                operation()
            assert isinstance(caught.value.__cause__, sqlite3.ProgrammingError)

    in_threads(1, work)
    session.add_items(items("in its own thread"))
    connection.rollback()


def test_a_connection_for_all_threads_serves_them_in_turn(open_file: Open) -> None:
    connection = open_file(check_same_thread=False)
    session = sessions.bind(connection).session("chat_1")

    def work(number: int) -> None:
        for _ in range(10):
            session.add_items(items("a", "b"))

    in_threads(4, work)
    assert texts(session.get_items()) == ["a", "b"] * 40
    connection.rollback()
    assert session.get_items() == []


def test_a_connection_in_memory_can_be_bound() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        use_everything(sessions.bind(connection, create_tables=True).session("chat_1"))


def test_a_stale_snapshot_is_an_error_and_not_the_end_of_the_transaction(sqlite_url: str, open_file: Open) -> None:
    # WAL: who has read before another one wrote can no longer write, and is told at once.
    connection, other = open_file(isolation_level=None), open_file(isolation_level=None)
    session = sessions.bind(connection).session("chat_1")
    connection.execute("BEGIN")
    assert session.get_items() == []
    place_order(other, 1)
    with pytest.raises(sessions.DatabaseError, match="locked"):
        session.add_items(items("a"))
    assert connection.in_transaction
    connection.execute("ROLLBACK")
    session.add_items(items("a"))
    assert orders(sqlite_url) == [1]


def test_a_handle_that_is_dropped_keeps_no_connection(open_file: Open, path: str) -> None:
    connection = sqlite3.connect(path, factory=OwnConnection)
    gone = weakref.ref(connection)
    sessions.bind(connection).session("chat_1").get_items()
    connection.close()
    del connection
    gc.collect()
    assert gone() is None


def test_binding_touches_neither_journal_nor_sync_mode(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "own.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        sessions.bind(connection, create_tables=True).session("chat_1").add_items(items("a"))
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (0,)


@pytest.mark.parametrize("kind", ["TABLE agent_messages (id INTEGER PRIMARY KEY)", "VIEW Agent_Sessions AS SELECT 1"])
def test_what_a_connection_alone_has_in_the_place_of_a_table_is_refused(path: str, kind: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"CREATE TEMPORARY {kind}")
        session = sessions.bind(connection).session("chat_1")
        for operation in (lambda: session.add_items(items("a")), session.get_items):
            with pytest.raises(sessions.SchemaError, match="is a temporary table of this connection"):
                operation()
        connection.execute(f"DROP {' '.join(kind.split()[:2])}")
        session.add_items(items("a"))
        assert texts(session.get_items())[-1:] == ["a"]
