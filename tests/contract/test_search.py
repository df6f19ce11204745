"""search(): the records that contain a text, whatever JSON makes of it."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

import sessions
from sessions import Backend, Match
from support.samples import item, plant
from support.servers import execute_sql


def found(backend: Backend, text: str, **query: Any) -> list[Any]:
    return [match.record.item["content"] if match.record.item else None for match in backend.search(text, **query)]


@pytest.mark.parametrize(
    "text", ["Straße", "ä", "日本", "😀", 'say "hi"', "a\\b", "line\nbreak", "/", "%", "_", "'", "\x7f", " ", "é"]
)
@pytest.mark.parametrize("ensure_ascii", [True, False], ids=["ascii", "unicode"])
def test_a_text_is_found_however_it_is_stored(url: str, text: str, ensure_ascii: bool) -> None:
    with sessions.connect(url, ensure_ascii=ensure_ascii) as backend:
        backend.session("chat_1").add_items([item("nothing"), item(f"x{text}y"), item("nothing")])
        assert found(backend, text) == [f"x{text}y"]
        assert found(backend, f"x{text}y") == [f"x{text}y"]


def test_matches_come_from_all_conversations_in_the_order_of_their_making(backend: Backend) -> None:
    for number in range(4):
        backend.session(f"chat_{number % 2}").add_items([item(f"lamp {number}"), item("other")])
    matches = list(backend.search("lamp"))
    assert all(type(match) is Match for match in matches)
    assert [(match.session_id, match.record.item) for match in matches] == [
        (f"chat_{number % 2}", item(f"lamp {number}")) for number in range(4)
    ]
    assert matches[0].record == next(iter(backend.session("chat_0").records()))


def test_case_counts_unless_it_is_ignored(backend: Backend) -> None:
    backend.session("chat_1").add_items([item("Lamp"), item("lamp"), item("GROẞE LAMPE")])
    assert found(backend, "lamp") == ["lamp"]
    assert found(backend, "LAMP", ignore_case=True) == ["Lamp", "lamp", "GROẞE LAMPE"]
    assert found(backend, "grosse", ignore_case=True) == ["GROẞE LAMPE"]


def test_a_prefix_chooses_conversations_exactly(backend: Backend) -> None:
    for name in ("a_1", "A_1", "ab1", "a%1"):
        backend.session(name).add_items([item("lamp")])
    assert [match.session_id for match in backend.search("lamp", prefix="a_")] == ["a_1"]


def test_texts_are_searched_at_any_depth_and_keys_are_not(backend: Backend) -> None:
    deep: dict[str, Any] = {"content": "x", "list": [1, None, {"y": ["needle in a stack"]}], "needle key": 2}
    backend.session("chat_1").add_items([deep, {"content": "z", "needle": "key"}])
    assert found(backend, "needle") == ["x"]
    assert found(backend, '"}') == []


def test_an_escape_that_need_not_be_is_seen_through(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("chat_1").add_items([item("first")])
        plant(sql_url, "chat_1", '{"content": "\\u006camp"}', "CORRUPT lamp")
        assert found(backend, "lamp") == ["lamp", None]


def test_rows_are_looked_at_in_pages_and_little_memory(backend: Backend) -> None:
    filler = "x" * 1000
    for _ in range(5):
        backend.session("chat_1").add_items([{"content": filler}] * 1000)
    backend.session("chat_2").add_items([item("needle")])
    list(backend.search("warm up"))
    tracemalloc.start()
    matches = list(backend.search("needle"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [match.session_id for match in matches] == ["chat_2"]
    assert peak < 3_500_000


def test_nothing_is_found_where_nothing_is(backend: Backend) -> None:
    assert found(backend, "x") == []
    backend.session("chat_1").add_items([item("y")])
    assert found(backend, "x") == []


@pytest.mark.parametrize(("wrong", "error"), [({"text": ""}, ValueError), ({"text": 7}, TypeError)], ids=str)
def test_what_is_no_text_is_an_error_at_once(backend: Backend, wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="text"):
        backend.search(**wrong)
    with pytest.raises(TypeError, match="prefix"):
        backend.search("x", prefix=7)  # type: ignore[arg-type]


def test_a_row_that_is_not_asked_for_stays_on_the_server(sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("chat_1").add_items([item("a" * 100), item("lamp")])
        rows = backend._store.search("lamp", after=0, prefix="", count=10)
        assert [row[3] is None for row in rows] == [True, False]
        assert execute_sql(sql_url, "SELECT COUNT(*) FROM agent_messages") == [(2,)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql", "mariadb"])
def test_a_text_is_found_in_a_column_of_bytes(dialect: str, encoding: str, make_url: Callable[[str], str]) -> None:
    url = make_url(dialect)
    with sessions.connect(url) as backend:
        backend.session("chat_1").add_items([item("nothing")])
        if dialect == "postgresql":
            text = "convert_to(message_data, 'UTF8')"
            execute_sql(url, f"ALTER TABLE agent_messages ALTER message_data TYPE bytea USING {text}")
        elif dialect != "sqlite":
            execute_sql(url, "ALTER TABLE agent_messages MODIFY message_data LONGBLOB NOT NULL")
        stored = '{"role": "user", "content": "a cracked lid"}'.encode(encoding)
        execute_sql(url, "INSERT INTO agent_messages (session_id, message_data) VALUES ('chat_1', %s)", (stored,))
        assert found(backend, "cracked") == ["a cracked lid"]
        assert found(backend, "Cracked", ignore_case=True) == ["a cracked lid"]
        assert found(backend, "crooked") == []
