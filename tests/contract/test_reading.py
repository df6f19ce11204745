"""Clause 1: what get_items returns, and what its limit means."""

import sys
from typing import Any

import pytest

import sessions
from support.samples import item, items, make_tables_without_foreign_key, stored_sessions, texts
from support.servers import execute_sql


def test_a_new_session_is_empty(session: sessions.Session) -> None:
    assert session.get_items() == []


def test_items_come_oldest_first(session: sessions.Session) -> None:
    session.add_items(items("a", "b"))
    session.add_items(items("c"))
    assert texts(session.get_items()) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        pytest.param(None, "abcd", id="None-is-all"),
        pytest.param(0, "", id="0-is-none"),
        pytest.param(1, "d", id="1"),
        pytest.param(3, "bcd", id="3"),
        pytest.param(4, "abcd", id="all"),
        pytest.param(5, "abcd", id="more-than-all"),
        pytest.param(2147483647, "abcd", id="largest-32-bit"),
        pytest.param(2**63, "abcd", id="more-than-64-bit"),
    ],
)
def test_limit_gives_the_newest_oldest_first(session: sessions.Session, limit: int | None, expected: str) -> None:
    session.add_items(items(*"abcd"))
    assert texts(session.get_items(limit=limit)) == list(expected)


def test_limit_may_be_positional(session: sessions.Session) -> None:
    session.add_items(items("a", "b"))
    assert texts(session.get_items(1)) == ["b"]


@pytest.mark.parametrize(
    ("limit", "error"),
    [
        pytest.param(-1, ValueError, id="negative"),
        pytest.param(-sys.maxsize - 2, ValueError, id="very-negative"),
        pytest.param(True, TypeError, id="bool"),
        pytest.param("2", TypeError, id="str"),
        pytest.param(2.0, TypeError, id="float"),
    ],
)
def test_a_limit_that_is_no_count_is_refused(session: sessions.Session, limit: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        session.get_items(limit=limit)


@pytest.mark.parametrize(("default", "expected"), [(None, "abc"), (0, ""), (2, "bc"), (2147483647, "abc")])
def test_default_limit_is_what_no_limit_means(url: str, default: int | None, expected: str) -> None:
    with sessions.connect(url, default_limit=default) as backend:
        session = backend.session("chat_1")
        session.add_items(items(*"abc"))
        assert texts(session.get_items()) == list(expected)
        assert texts(session.get_items(limit=None)) == list(expected)


def test_a_given_limit_beats_the_default_limit(url: str) -> None:
    with sessions.connect(url, default_limit=1) as backend:
        session = backend.session("chat_1")
        session.add_items(items(*"abc"))
        assert texts(session.get_items(limit=3)) == ["a", "b", "c"]
        assert session.get_items(limit=0) == []


def test_one_session_does_not_see_another(backend: sessions.Backend) -> None:
    backend.session("chat_1").add_items(items("a"))
    backend.session("chat_2").add_items(items("b"))
    assert texts(backend.session("chat_1").get_items()) == ["a"]


def test_two_handles_of_one_id_are_one_conversation(backend: sessions.Backend) -> None:
    backend.session("chat_1").add_items(items("a"))
    backend.session("chat_1").add_items(items("b"))
    assert texts(backend.session("chat_1").get_items()) == ["a", "b"]


def test_what_get_items_returned_is_the_callers_own(session: sessions.Session) -> None:
    session.add_items([{"role": "user", "content": "a", "parts": [{"n": 1}]}])
    history = session.get_items()
    history[0]["parts"][0]["n"] = 2
    history.append(item("b"))
    assert session.get_items() == [{"role": "user", "content": "a", "parts": [{"n": 1}]}]


def test_reading_makes_no_session_row(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.get_items()
        session.pop_item()
        session.clear_session()
        session.add_items([])
        backend_of_another = sessions.connect(sql_url)
        backend_of_another.session("chat_2").add_items(items("a"))  # makes the tables, if nobody did
        backend_of_another.close()
    assert stored_sessions(sql_url) == ["chat_2"]


def test_order_is_by_id_and_not_by_a_clock(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        for text in "abc":
            session.add_items(items(text))
        for year, text in ((2003, "a"), (2002, "b"), (2001, "c")):
            execute_sql(
                sql_url,
                "UPDATE agent_messages SET created_at = %s WHERE message_data LIKE %s",
                (f"{year}-01-01 00:00:00", f'%"{text}"%'),
            )
        assert texts(session.get_items()) == ["a", "b", "c"]
        assert texts(session.get_items(limit=2)) == ["b", "c"]
        assert session.pop_item() == item("c")


def test_tables_of_another_store_are_read_as_they_are(sql_url: str) -> None:
    make_tables_without_foreign_key(sql_url)
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("a", "b"))
        assert texts(session.get_items(limit=1)) == ["b"]


def test_integer_timestamps_are_left_alone(sqlite_url: str) -> None:
    # SQLite alone lets a store write them; the npm package does.
    make_tables_without_foreign_key(sqlite_url)
    execute_sql(sqlite_url, "INSERT INTO agent_sessions VALUES ('chat_1', 1700000000, 1700000000)")
    execute_sql(
        sqlite_url,
        "INSERT INTO agent_messages (session_id, message_data, created_at) "
        "VALUES ('chat_1', '{\"content\": \"a\"}', 1900000000)",
    )
    with sessions.Session.from_url("chat_1", sqlite_url) as session:
        session.add_items(items("b"))
        assert texts(session.get_items()) == ["a", "b"]


def test_many_items_come_back_in_order(session: sessions.Session) -> None:
    numbers = [str(number) for number in range(2000)]
    session.add_items(items(*numbers))
    assert texts(session.get_items()) == numbers
    assert texts(session.get_items(limit=1500)) == numbers[500:]
