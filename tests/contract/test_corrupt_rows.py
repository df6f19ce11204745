"""Clause 2: rows that hold no item are skipped, logged and never counted.

Not on the two backends in memory: nobody else can write into them.
"""

import logging
from collections.abc import Iterator

import pytest

import sessions
from support.claims import SECRET, Operation
from support.samples import item, items, plant, stored_texts, texts
from support.servers import execute_sql

CORRUPT = {
    "cut-off": "{",
    "empty": "",
    "plain-text": SECRET,
    "text-after-the-object": '{"a": 1} x',
    "python-not-json": "{'a': 1}",
    "NaN": '{"a": NaN}',
    "array": '[{"role": "user"}]',
    "number": "17",
    "null": "null",
    "bool": "true",
    "string": '"text"',
    "nested-too-deeply": '{"a": ' + "[" * 100_000,
    "more-digits-than-python-reads": '{"a": ' + "9" * 5000 + "}",
}


@pytest.fixture
def session(sql_url: str) -> Iterator[sessions.Session]:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("v0", "v1", "v2"))
        yield session


each_kind = pytest.mark.parametrize("corrupt", CORRUPT.values(), ids=CORRUPT)


@each_kind
def test_a_corrupt_row_is_skipped_and_not_counted(session: sessions.Session, sql_url: str, corrupt: str) -> None:
    plant(sql_url, "chat_1", corrupt)
    assert texts(session.get_items()) == ["v0", "v1", "v2"]
    assert texts(session.get_items(limit=2)) == ["v1", "v2"]


def test_the_limit_reaches_over_many_corrupt_rows(session: sessions.Session, sql_url: str) -> None:
    plant(sql_url, "chat_1", *["{"] * 25)
    session.add_items(items("v3"))
    plant(sql_url, "chat_1", "[]", "{")
    assert texts(session.get_items(limit=2)) == ["v2", "v3"]
    assert texts(session.get_items(limit=10)) == ["v0", "v1", "v2", "v3"]
    assert session.get_items(limit=0) == []


def test_a_session_of_corrupt_rows_is_empty_and_popping_removes_them(session: sessions.Session, sql_url: str) -> None:
    execute_sql(sql_url, "UPDATE agent_messages SET message_data = '{'")
    assert session.get_items() == []
    assert session.get_items(limit=3) == []
    assert session.pop_item() is None
    assert stored_texts(sql_url) == []


@pytest.mark.parametrize(
    "read",
    [lambda s: s.get_items(), lambda s: s.get_items(limit=2), lambda s: s.get_items(limit=3), lambda s: s.pop_item()],
    ids=["all", "2", "3", "pop"],
)
def test_a_corrupt_row_is_logged_once_with_its_id_and_without_its_content(
    session: sessions.Session, sql_url: str, read: Operation, caplog: pytest.LogCaptureFixture
) -> None:
    corrupt = plant(sql_url, "chat_1", SECRET, f'["{SECRET}"]', f'{{"{SECRET}"')
    with caplog.at_level(logging.DEBUG, "sessions"):
        read(session)
    said = [record for record in caplog.records if record.name.startswith("sessions")]
    assert len(said) == len(corrupt)
    for row_id in corrupt:
        assert sum(str(row_id) in record.getMessage() for record in said) == 1
    assert SECRET not in caplog.text


def test_a_corrupt_row_older_than_the_limit_reaches_is_not_spoken_of(
    session: sessions.Session, sql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    plant(sql_url, "chat_1", SECRET)
    session.add_items(items("v3", "v4"))
    with caplog.at_level(logging.DEBUG, "sessions"):
        assert texts(session.get_items(limit=2)) == ["v3", "v4"]
    assert not caplog.records


@each_kind
def test_pop_removes_a_corrupt_newest_row_on_the_way(session: sessions.Session, sql_url: str, corrupt: str) -> None:
    plant(sql_url, "chat_1", corrupt)
    assert session.pop_item() == item("v2")
    assert len(stored_texts(sql_url)) == 2


def test_pop_removes_many_corrupt_newest_rows(session: sessions.Session, sql_url: str) -> None:
    plant(sql_url, "chat_1", *["{"] * 25)
    assert session.pop_item() == item("v2")
    assert len(stored_texts(sql_url)) == 2


def test_pop_leaves_an_older_corrupt_row(session: sessions.Session, sql_url: str) -> None:
    plant(sql_url, "chat_1", "{")
    session.add_items(items("v3"))
    assert session.pop_item() == item("v3")
    assert stored_texts(sql_url)[-1] == "{"


@pytest.mark.parametrize(
    ("stored", "expected"),
    [
        pytest.param("{}", {}, id="empty-object"),
        pytest.param(' {"a" : 1}\n', {"a": 1}, id="spaces-around"),
        pytest.param('{"a": 1, "a": 2}', {"a": 2}, id="a-key-twice"),
        pytest.param('{"a": "\\u0000\\ud800"}', {"a": "\0\ud800"}, id="escaped-NUL-and-surrogate"),
    ],
)
def test_unusual_objects_are_readable(session: sessions.Session, sql_url: str, stored: str, expected: object) -> None:
    plant(sql_url, "chat_1", stored)
    assert session.get_items(limit=1) == [expected]


@pytest.mark.parametrize("value", ["x'ff'", "x'00'", "3.5"])
def test_a_value_that_is_no_text_is_corrupt(sqlite_url: str, value: str) -> None:
    # Only SQLite lets a column hold what its type does not say.
    with sessions.Session.from_url("chat_1", sqlite_url) as session:
        session.add_items(items("v0", "v1"))
        execute_sql(sqlite_url, f"UPDATE agent_messages SET message_data = {value} WHERE id = 2")
        assert texts(session.get_items()) == ["v0"]
        assert texts(session.get_items(limit=1)) == ["v0"]
        assert session.pop_item() == item("v0")
