"""Clause 1: what get_items returns, and what its limit means."""

import gc
import sys
import tracemalloc
from typing import Any

import pytest

import sessions
from support.claims import refused
from support.samples import item, items, make_tables_without_foreign_key, plant, stored_sessions, texts
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
        *((None, "abcd"), (0, ""), (1, "d"), (3, "bcd"), (4, "abcd"), (5, "abcd")),
        *(pytest.param(2**31 - 1, "abcd", id="largest-32-bit"), pytest.param(2**63, "abcd", id="more-than-64-bit")),
    ],
)
def test_limit_gives_the_newest_oldest_first(session: sessions.Session, limit: int | None, expected: str) -> None:
    session.add_items(items(*"abcd"))
    assert texts(session.get_items(limit=limit)) == texts(session.get_items(limit)) == list(expected)


@pytest.mark.parametrize("bad", [-1, -sys.maxsize - 2, True, False, "2", 2.0, [1]], ids=repr)
@pytest.mark.parametrize("name", ["get_items", "records"])
def test_a_limit_that_is_no_count_is_refused_at_once(session: sessions.Session, name: str, bad: Any) -> None:
    session.add_items(items("a"))
    with refused(ValueError if type(bad) is int else TypeError):
        getattr(session, name)(limit=bad)
    assert texts(session.get_items()) == ["a"]


@pytest.mark.parametrize(("default", "expected"), [(None, "abc"), (0, ""), (2, "bc"), (2147483647, "abc")])
def test_default_limit_is_what_no_limit_means_and_a_given_one_beats_it(
    url: str, default: int | None, expected: str
) -> None:
    with sessions.Session.from_url("chat_1", url, default_limit=default) as session:
        session.add_items(items(*"abc"))
        assert texts(session.get_items()) == texts(session.get_items(limit=None)) == list(expected)
        assert texts(session.get_items(limit=3)) == ["a", "b", "c"]
        assert session.get_items(limit=0) == []
        assert len(list(session.records())) == 3


def test_handles_of_one_id_are_one_conversation_and_see_no_other(backend: sessions.Backend) -> None:
    for session_id, text in (("chat_1", "a"), ("chat_2", "b"), ("chat_1", "c")):
        backend.session(session_id).add_items(items(text))
    assert texts(backend.session("chat_1").get_items()) == ["a", "c"]


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
        with sessions.Session.from_url("chat_2", sql_url) as another:
            another.add_items(items("a"))  # makes the tables, if nobody did
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


def test_integer_timestamps_are_left_alone(sqlite_url: str) -> None:
    # SQLite alone lets a store write them; the npm package does.
    make_tables_without_foreign_key(sqlite_url)
    execute_sql(sqlite_url, "INSERT INTO agent_sessions VALUES ('chat_1', 1700000000, 1700000000)")
    plant(sqlite_url, "chat_1", '{"content": "a"}')
    execute_sql(sqlite_url, "UPDATE agent_messages SET created_at = 1900000000")
    with sessions.Session.from_url("chat_1", sqlite_url) as session:
        session.add_items(items("b"))
        assert texts(session.get_items()) == ["a", "b"]


def test_many_items_come_back_in_order(session: sessions.Session) -> None:
    numbers = [str(number) for number in range(2000)]
    session.add_items(items(*numbers))
    assert texts(session.get_items()) == numbers
    assert texts(session.get_items(limit=1500)) == numbers[500:]


def test_operations_leave_nothing_behind_in_memory(session: sessions.Session) -> None:
    session.add_items(items("a"))

    def growth(times: int) -> int:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(times):
            session.get_items(limit=1)
            session.add_items(items("b"))
            session.pop_item()
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        growth(300)  # what is made once, or kept up to a number
        assert growth(600) < 600 * 50
    finally:
        tracemalloc.stop()
