"""Ids that begin anew, as after TRUNCATE or a restored backup: a warning, and nothing is lost or doubled."""

import contextlib
import threading
from typing import Any

import pytest

import sessions
from support.proxy import Proxy
from support.samples import items, texts
from support.servers import connect_raw, dialect_of, execute_sql

_MESSAGE = "ids have begun anew"


def warnings(caplog: pytest.LogCaptureFixture) -> int:
    return sum(_MESSAGE in record.getMessage() for record in caplog.records)


def begin_anew(url: str) -> None:
    statements = {
        "sqlite": ("DELETE FROM agent_messages", "DELETE FROM sqlite_sequence"),
        "postgresql": ("TRUNCATE agent_messages RESTART IDENTITY",),
    }.get(dialect_of(url), ("TRUNCATE agent_messages",))
    for statement in statements:
        execute_sql(url, statement)


@pytest.mark.parametrize("write", ["add_items", "replace_items"])
def test_ids_that_begin_anew_are_a_warning_once(sql_url: str, write: str, caplog: pytest.LogCaptureFixture) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items(*map(str, range(20))))
        assert warnings(caplog) == 0
        begin_anew(sql_url)
        getattr(session, write)(items("a"))
        assert warnings(caplog) == 1
        session.add_items(items("b"), if_position=session.position())
        session.add_items(items("c", "d"))
        assert session.pop_item() == items("d")[0]
        assert texts(session.get_items()) == ["a", "b", "c"]
        assert warnings(caplog) == 1


@pytest.mark.parametrize("undo", ["ROLLBACK", "ROLLBACK TO inner"])
def test_a_rollback_of_the_application_is_among_the_causes(
    sqlite_url: str, undo: str, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(connect_raw(sqlite_url)) as connection:
        sessions.connect(sqlite_url).session("chat_1").add_items(items("a"))
        session = sessions.bind(connection).session("chat_1")
        connection.execute("BEGIN")
        session.add_items(items("b"))
        connection.execute("SAVEPOINT inner")
        session.add_items(items("c"))
        connection.execute(undo)
        session.add_items(items("d"))
    assert warnings(caplog) == 1
    assert "on SQLite a rollback of yours" in caplog.text


def test_a_write_cut_off_after_ids_have_begun_anew_is_there_once(server_url: str) -> None:
    with Proxy(server_url) as proxy, sessions.Session.from_url("chat_1", proxy.url, retry_delay=0.001) as session:
        session.add_items(items(*map(str, range(20))))
        begin_anew(server_url)
        session.add_items(items("a"))
        for when in ("before", "after"):
            proxy.cut(when=when)
            session.add_items(items(when))
            assert proxy.was_cut
        assert texts(session.get_items()) == ["a", "before", "after"]


def test_two_threads_that_are_answered_in_another_order_are_no_warning(
    backend: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    session, written, overtaken = backend.session("chat_1"), threading.Event(), threading.Event()
    store = session._history.store
    append = store.append

    def held(*arguments: Any, **named: Any) -> Any:
        newest = append(*arguments, **named)
        if not written.is_set():
            written.set()
            assert overtaken.wait(60)
        return newest

    monkeypatch.setattr(store, "append", held)
    first = threading.Thread(target=session.add_items, args=(items("a"),))
    first.start()
    assert written.wait(60)
    session.add_items(items("b"))
    overtaken.set()
    first.join()
    session.add_items(items("c"))
    assert texts(session.get_items()) == ["a", "b", "c"]
    assert warnings(caplog) == 0
