"""Clause 2: rows that hold no item are skipped, logged and never counted.

Not on the two backends in memory: nobody else can write into them.
"""

import contextlib
import logging
import sqlite3
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import sessions
from support.claims import SECRET, Operation, refused
from support.samples import item, items, make_tables_without_foreign_key, plant, stored_texts, texts
from support.servers import connect_raw, dialect_of, execute_sql

CORRUPT = {
    "cut-off": "{",
    "empty": "",
    "plain-text": SECRET,
    "text-after-the-object": '{"a": 1} x',
    "python-not-json": "{'a': 1}",
    "array": '[{"role": "user"}]',
    "number": "17",
    "null": "null",
    "bool": "true",
    "string": '"text"',
    "nested-too-deeply": '{"a": ' + "[" * 100_000,
}


@pytest.fixture
def session(sql_url: str) -> Iterator[sessions.Session]:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("v0", "v1", "v2"))
        yield session


each_kind = pytest.mark.parametrize("corrupt", CORRUPT.values(), ids=CORRUPT)


@pytest.mark.usefixtures("reader")
@each_kind
def test_a_corrupt_row_is_skipped_and_not_counted(session: sessions.Session, sql_url: str, corrupt: str) -> None:
    plant(sql_url, "chat_1", corrupt)
    assert texts(session.get_items()) == ["v0", "v1", "v2"]
    assert texts(session.get_items(limit=2)) == ["v1", "v2"]


# What json.loads() refuses, or cannot take, and others read.
ODD = {
    "NaN": '{"a":NaN}',
    "Infinity": '{"a":[Infinity,-Infinity]}',
    "more-digits-than-python-converts": '{"a":-' + "7" * 9000 + "}",
    "byte-order-mark": '\ufeff{"a":1}',
    "line-end-in-a-string": '{"a":"b\n\tc"}',
    "deeper-than-the-stack": '{"a":' + "[" * 20_000 + "]" * 20_000 + "}",
    "white-space": ' \t{ "a" :\r\n1 }\n',
}


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_what_some_reader_reads_is_an_item(session: sessions.Session, sql_url: str, odd: str) -> None:
    plant(sql_url, "chat_1", odd)
    [item] = session.get_items(limit=1)
    assert list(item) == ["a"]
    assert list(session.pop_item() or {}) == ["a"]
    assert texts(session.get_items()) == ["v0", "v1", "v2"]


@pytest.mark.usefixtures("reader")
def test_a_number_of_any_length_is_read_exactly(session: sessions.Session, sql_url: str) -> None:
    numbers = [10**4000 - 1, 10**4000, 10**12_345 + 7, -(3**20_000)]
    for number in numbers:
        digits, rest = "", abs(number)
        while rest:  # str() refuses more than 4300 digits at once
            rest, part = divmod(rest, 10**1000)
            digits = f"{part:01000d}{digits}" if rest else f"{part}{digits}"
        plant(sql_url, "chat_1", f'{{"n":{"-" if number < 0 else ""}{digits}}}')
    assert [each["n"] for each in session.get_items(limit=len(numbers))] == numbers


@pytest.mark.parametrize("sql_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("kind", ["json", "jsonb"])
def test_a_row_of_a_json_column_is_an_item(session: sessions.Session, sql_url: str, kind: str) -> None:
    # PostgreSQL's driver would make objects of what MySQL's gives as text.
    execute_sql(sql_url, f"ALTER TABLE agent_messages ALTER message_data TYPE {kind} USING message_data::{kind}")
    assert texts(session.get_items()) == ["v0", "v1", "v2"]
    assert texts(session.get_items(limit=2)) == ["v1", "v2"]
    assert [record.item for record in session.records()] == items("v0", "v1", "v2")
    assert session.pop_item() == item("v2")
    assert len(stored_texts(sql_url)) == 2


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("sql_url", ["postgresql"], indirect=True)
def test_a_row_of_a_column_of_bytes_is_an_item(session: sessions.Session, sql_url: str) -> None:
    execute_sql(
        sql_url, "ALTER TABLE agent_messages ALTER message_data TYPE bytea USING convert_to(message_data, 'UTF8')"
    )
    assert texts(session.get_items()) == ["v0", "v1", "v2"]
    assert session.pop_item() == item("v2")
    assert texts(session.get_items()) == ["v0", "v1"]


@pytest.mark.usefixtures("reader")
def test_a_number_is_read_whatever_limit_the_interpreter_has(session: sessions.Session, sql_url: str) -> None:
    plant(sql_url, "chat_1", f'{{"n":{"7" * 3000}}}')
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        [found] = session.get_items(limit=1)
        popped = session.pop_item()
    finally:
        sys.set_int_max_str_digits(before)
    assert found == popped == {"n": int("7" * 3000)}


@pytest.mark.usefixtures("reader")
def test_how_deep_the_caller_stands_decides_nothing(session: sessions.Session) -> None:
    deep: dict[str, Any] = {"content": "deep"}
    inner = deep
    for _ in range(880):
        inner["n"] = inner = {}

    def at(depth: int, work: Callable[[], Any]) -> Any:
        return work() if depth == 0 else at(depth - 1, work)

    at(400, lambda: session.add_items([deep]))
    assert at(400, session.get_items)[-1]["content"] == "deep"
    assert at(400, session.pop_item)["content"] == "deep"
    assert texts(session.get_items()) == ["v0", "v1", "v2"]


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
    with caplog.at_level(logging.INFO, "sessions"):
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
    with caplog.at_level(logging.INFO, "sessions"):
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


# --- a text that nobody was shown


@pytest.fixture
def hiding_url(sql_url: str) -> str:
    """A database whose messages are a view that hides the newest text, as masks of columns do."""
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("v0", "v1"))
    execute_sql(sql_url, "ALTER TABLE agent_messages RENAME TO kept")
    execute_sql(
        sql_url,
        "CREATE VIEW agent_messages AS SELECT id, session_id, "
        "CASE WHEN message_data LIKE '%v0%' THEN message_data END AS message_data, created_at FROM kept",
    )
    if dialect_of(sql_url) == "sqlite":  # a view of which cannot be deleted otherwise
        body = "BEGIN DELETE FROM kept WHERE id = OLD.id; END"
        execute_sql(sql_url, f"CREATE TRIGGER t INSTEAD OF DELETE ON agent_messages {body}")
    return sql_url


@pytest.mark.parametrize("lender", ["own", "bound"])
def test_pop_leaves_a_row_whose_text_is_hidden(hiding_url: str, lender: str) -> None:
    with contextlib.closing(connect_raw(hiding_url)) as connection:
        backend = sessions.connect(hiding_url) if lender == "own" else sessions.bind(connection)
        with backend, refused(sessions.DatabaseError, match="is NULL"):
            backend.session("chat_1").pop_item()
    assert execute_sql(hiding_url, "SELECT count(*) FROM kept") == [(2,)]


def test_pop_does_not_go_on_behind_a_row_without_a_text(sql_url: str) -> None:
    make_tables_without_foreign_key(sql_url, nullable=True)
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items(items("v0", "v1"))
        execute_sql(sql_url, "UPDATE agent_messages SET message_data = NULL WHERE id = 2")
        assert texts(session.get_items()) == ["v0"]
        with refused(sessions.DatabaseError, match="delete_record"):
            session.pop_item()
        assert session.delete_record(2)
        assert session.pop_item() == item("v0")


@pytest.mark.parametrize("sql_url", ["sqlite"], indirect=True)
def test_pop_leaves_a_row_whose_text_an_authorizer_hides(session: sessions.Session, sql_url: str) -> None:
    def hide(action: int, _: str | None, column: str | None, *__: str | None) -> int:
        return sqlite3.SQLITE_IGNORE if (action, column) == (sqlite3.SQLITE_READ, "message_data") else sqlite3.SQLITE_OK

    with contextlib.closing(connect_raw(sql_url)) as connection:
        connection.set_authorizer(hide)
        with refused(sessions.DatabaseError, match="authorizer"):
            sessions.bind(connection).session("chat_1").pop_item()
    assert texts(session.get_items()) == ["v0", "v1", "v2"]
