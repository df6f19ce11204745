"""Clause 3: a batch is stored whole, in one piece and in order, or not at all."""

import math
import re
from collections import UserDict
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

import sessions
from support.claims import SECRET, assert_helpful, refused
from support.samples import (
    assert_contiguous_and_ordered,
    batch,
    in_threads,
    item,
    items,
    stored_sessions,
    texts,
)
from support.servers import execute_sql
from support.workers import add_batches, in_processes


def deeply_nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


def circular() -> dict[str, Any]:
    value: dict[str, Any] = {"content": SECRET}
    value["self"] = value
    return value


BAD_ITEMS = {
    "NaN": {"content": SECRET, "n": math.nan},
    "inf": {"content": SECRET, "n": [math.inf]},
    "minus-inf": {"content": SECRET, "n": {"x": -math.inf}},
    "NaN-as-a-key": {"content": SECRET, math.nan: 1},
    "object": {"content": SECRET, "n": object()},
    "set": {"content": {SECRET}},
    "bytes": {"content": SECRET.encode()},
    "Decimal": {"content": SECRET, "n": Decimal(1)},
    "complex": {"content": SECRET, "n": 1j},
    "range": {"content": SECRET, "n": range(3)},
    "tuple-as-a-key": {(SECRET,): 1},
    "circular": circular(),
    "nested-too-deeply-to-write": {"content": SECRET, "n": deeply_nested(100_000)},
    "more-digits-than-python-reads": {SECRET: 10**5000},
    "a-mapping-that-json-does-not-take": UserDict(a=SECRET),
    "a-mapping-inside": {"content": SECRET, "a": UserDict()},
    "list": [["content", SECRET]],
    "str": SECRET,
    "bytes-item": SECRET.encode(),
    "None": None,
    "int": 17,
    "bool": True,
}
NO_BATCHES = {
    "str": SECRET,
    "bytes": SECRET.encode(),
    "dict": {"content": SECRET},
    "empty-dict": {},
    "empty-str": "",
    "None": None,
    "int": 5,
}


@pytest.mark.parametrize("container", [tuple, iter, lambda batch: (entry for entry in batch)])
def test_any_iterable_of_items_is_a_batch(session: sessions.Session, container: Callable[[Any], Any]) -> None:
    session.add_items(container(items("a", "b")))
    assert texts(session.get_items()) == ["a", "b"]


@pytest.mark.parametrize("empty", [list, tuple, lambda: iter(())], ids=["list", "tuple", "iterator"])
def test_an_empty_batch_writes_nothing(sql_url: str, empty: Callable[[], Any]) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("chat_2").add_items(items("a"))
        backend.session("chat_1").add_items(empty())
        assert stored_sessions(sql_url) == ["chat_2"]
        assert execute_sql(sql_url, "SELECT COUNT(*) FROM agent_messages") == [(1,)]


def test_an_item_changed_after_the_add_is_stored_as_it_was(session: sessions.Session) -> None:
    entry = {"content": "a", "parts": [1]}
    session.add_items([entry])
    entry["content"] = "b"
    entry["parts"].append(2)  # type: ignore[attr-defined]
    assert session.get_items() == [{"content": "a", "parts": [1]}]


@pytest.mark.parametrize("bad", BAD_ITEMS.values(), ids=BAD_ITEMS)
def test_a_bad_item_in_the_middle_is_refused_and_nothing_is_written(session: sessions.Session, bad: Any) -> None:
    session.add_items(items("a"))
    with refused(sessions.InvalidItemError, match=r"\b2\b"):
        session.add_items([item("b"), item("c"), bad, item("d")])
    assert texts(session.get_items()) == ["a"]


@pytest.mark.parametrize("bad", NO_BATCHES.values(), ids=NO_BATCHES)
def test_what_is_no_batch_is_refused(session: sessions.Session, bad: Any) -> None:
    with refused(sessions.InvalidItemError):
        session.add_items(bad)
    assert session.get_items() == []


def test_a_generator_that_fails_halfway_writes_nothing(session: sessions.Session) -> None:
    def halfway() -> Iterator[dict[str, Any]]:
        yield item("a")
        raise KeyError("of the caller")

    with pytest.raises(KeyError, match="of the caller"):
        session.add_items(halfway())
    assert session.get_items() == []


@pytest.mark.parametrize("dialect", ["postgresql", "mysql"])
def test_items_are_checked_before_the_database_is_asked(dialect: str) -> None:
    nobody_listens = f"{dialect}://app@127.0.0.1:1/chat"
    with sessions.Session.from_url("chat_1", nobody_listens) as session, pytest.raises(sessions.InvalidItemError):
        session.add_items([{"n": math.nan}])


def test_a_lone_surrogate_is_refused_where_it_cannot_be_stored(url: str) -> None:
    with sessions.Session.from_url("chat_1", url, ensure_ascii=False) as session:
        with refused(sessions.InvalidItemError, match=r"\b1\b"):
            session.add_items([item("a"), item("\ud800")])
        assert session.get_items() == []


def test_what_is_written_can_be_read_at_any_depth(session: sessions.Session) -> None:
    for depth in (100, 400, 700, 900, 1000, 2000, 5000):
        session.clear_session()
        written = 1
        try:
            session.add_items([{"n": deeply_nested(depth)}])
        except sessions.InvalidItemError as error:
            assert_helpful(error)
            written = 0
        assert len(session.get_items()) == written


def test_the_greatest_depth_of_an_item_is_900(session: sessions.Session) -> None:
    deepest = [{"n": deeply_nested(899)}]
    session.add_items(deepest)
    with refused(sessions.InvalidItemError, match="900"):
        session.add_items([item("a"), {"n": deeply_nested(900)}])
    assert session.get_items() == deepest


# --- concurrent writers


def test_batches_of_concurrent_threads_stay_in_one_piece(backend: sessions.Backend) -> None:
    def write(number: int) -> None:
        session = backend.session("chat_1")
        for count in range(8):
            session.add_items(batch(f"w{number}", count, 4))

    in_threads(6, write)
    assert_contiguous_and_ordered(backend.session("chat_1").get_items(), [f"w{n}" for n in range(6)], batches=8, size=4)


def test_a_reader_never_sees_part_of_a_batch(backend: sessions.Backend) -> None:
    def work(number: int) -> list[int]:
        session = backend.session("chat_1")
        if number:
            for count in range(10):
                session.add_items(batch(f"w{number}", count, 5))
            return []
        return [len(session.get_items()) for _ in range(20)]

    lengths = in_threads(4, work)[0]
    assert [length % 5 for length in lengths] == [0] * len(lengths)
    assert lengths == sorted(lengths)


def test_batches_of_concurrent_backends_stay_in_one_piece(sql_url: str) -> None:
    def write(number: int) -> None:
        with sessions.connect(sql_url) as backend:
            session = backend.session("chat_1")
            for count in range(6):
                session.add_items(batch(f"w{number}", count, 4))

    in_threads(5, write)
    with sessions.Session.from_url("chat_1", sql_url) as session:
        assert_contiguous_and_ordered(session.get_items(), [f"w{n}" for n in range(5)], batches=6, size=4)


@pytest.mark.slow
def test_batches_of_concurrent_processes_stay_in_one_piece(sql_url: str) -> None:
    writers = ["w0", "w1", "w2"]
    in_processes(add_batches, [(sql_url, "chat_1", writer, 10, 3) for writer in writers])
    with sessions.Session.from_url("chat_1", sql_url) as session:
        assert_contiguous_and_ordered(session.get_items(), writers, batches=10, size=3)


def test_the_first_writers_of_a_new_session_do_not_disturb_each_other(
    backend: sessions.Backend,
) -> None:
    def write(number: int) -> None:
        for count in range(5):
            backend.session(f"chat_{count}").add_items(batch(f"w{number}", 0, 3))

    in_threads(4, write)
    for count in range(5):
        history = backend.session(f"chat_{count}").get_items()
        assert_contiguous_and_ordered(history, [f"w{n}" for n in range(4)], batches=1, size=3)


def test_the_mark_of_a_batch_is_48_characters_and_only_servers_have_it(backend: sessions.Backend) -> None:
    session = backend.session("chat_1")
    session.add_items([{"n": 1}, {"n": 2}])
    session.replace_items([*session.get_items(), {"n": 3}])
    first, *others = (record.text for record in session.records())
    assert others == ['{"n":2}', '{"n":3}']
    assert re.fullmatch(r'\{"n":1[ \t]*\}', first)
    on_server = isinstance(backend, (sessions.PostgresBackend, sessions.MySQLBackend))
    assert len(first) == len('{"n":1}') + 48 * on_server
