"""Clause 5: clear_session removes the conversation from both tables."""

import pytest

import sessions
from support.samples import in_threads, items, make_tables_without_foreign_key, plant, stored_sessions, texts
from support.servers import execute_sql


def test_a_cleared_session_is_empty_and_can_be_used_again(session: sessions.Session) -> None:
    session.add_items(items("a", "b"))
    session.clear_session()
    assert session.get_items() == []
    assert session.pop_item() is None
    session.clear_session()
    session.add_items(items("c"))
    assert texts(session.get_items()) == ["c"]


@pytest.mark.parametrize("used", [True, False], ids=["used", "unused"])
def test_clearing_leaves_other_sessions(backend: sessions.Backend, *, used: bool) -> None:
    if used:
        backend.session("chat_1").add_items(items("a"))
    backend.session("chat_2").add_items(items("b"))
    backend.session("chat_1").clear_session()
    assert texts(backend.session("chat_2").get_items()) == ["b"]


def test_clearing_removes_the_rows_of_both_tables(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        for name in ("chat_1", "chat_2"):
            backend.session(name).add_items(items("a", "b"))
        backend.session("chat_1").clear_session()
    assert stored_sessions(sql_url) == ["chat_2"]
    rows = execute_sql(sql_url, "SELECT session_id FROM agent_messages ORDER BY id")
    assert rows == [("chat_2",), ("chat_2",)]


def test_clearing_does_not_rely_on_cascades(sql_url: str) -> None:
    make_tables_without_foreign_key(sql_url)
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("a", "b"))
        session.clear_session()
    assert stored_sessions(sql_url) == []
    assert execute_sql(sql_url, "SELECT id FROM agent_messages") == []


def test_messages_without_a_parent_row_are_read_popped_and_cleared(sql_url: str) -> None:
    make_tables_without_foreign_key(sql_url)
    plant(sql_url, "chat_1", '{"content": "a"}', '{"content": "b"}')
    with sessions.Session.from_url("chat_1", sql_url) as session:
        assert texts(session.get_items()) == ["a", "b"]
        assert session.pop_item() == {"content": "b"}
        session.clear_session()
    assert execute_sql(sql_url, "SELECT id FROM agent_messages") == []


def test_clearing_beside_writers_leaves_whole_batches(backend: sessions.Backend) -> None:
    def work(number: int) -> None:
        session = backend.session("chat_1")
        for count in range(8):
            if number:
                session.add_items([{"batch": (number, count)}] * 3)
            else:
                session.clear_session()

    in_threads(4, work)
    left = [tuple(entry["batch"]) for entry in backend.session("chat_1").get_items()]
    assert all(len(set(left[n : n + 3])) == 1 for n in range(0, len(left), 3))
    assert len(left) % 3 == 0
