"""What a server says of an item is in no message and no record of the log; nor is what would steer a terminal."""

import logging
from typing import Any

import pytest

import sessions
from support.claims import SECRET, each_mysql
from support.samples import items
from support.servers import execute_sql

CONTENT = "(message_data::jsonb->>'content')"
FUNCTION = "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {} END $$"
TRIGGER = "CREATE TRIGGER t BEFORE INSERT ON agent_messages FOR EACH ROW"
POSTGRESQL = {
    "an index": [f"CREATE INDEX i ON agent_messages (({CONTENT}::int))"],
    "a computed column": [f"ALTER TABLE agent_messages ADD n int GENERATED ALWAYS AS ({CONTENT}::int) STORED"],
    "a trigger's words": [FUNCTION.format("RAISE EXCEPTION 'refused: %', new.message_data;")],
    "with a code of the server's": [
        FUNCTION.format("RAISE EXCEPTION 'refused: %', new.message_data USING ERRCODE = '40001';")
    ],
    "a trigger's cast": [FUNCTION.format(f"PERFORM {CONTENT.replace('message', 'new.message')}::uuid; RETURN new;")],
    "a trigger's statement": [FUNCTION.format("EXECUTE 'SELECT ' || quote_ident(new.message_data); RETURN new;")],
}
JSON = "JSON_UNQUOTE(JSON_EXTRACT({}message_data, '$.content'))"
MYSQL = {
    "a trigger's words": f"{TRIGGER} BEGIN DECLARE m TEXT; SET m = CONCAT('refused ', new.message_data); "
    "SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = m; END",
    "a computed number": f"ALTER TABLE agent_messages ADD n INT GENERATED ALWAYS AS ({JSON.format('')}) STORED",
    "a computed day": f"ALTER TABLE agent_messages ADD n DATE GENERATED ALWAYS AS ({JSON.format('')}) STORED",
    "a trigger's number": f"{TRIGGER} BEGIN DECLARE d DECIMAL(5, 2); SET d = {JSON.format('new.')}; END",
    "a key": f"ALTER TABLE agent_messages ADD n VARCHAR(99) GENERATED ALWAYS AS ({JSON.format('')}) STORED UNIQUE",
}
SQLITE = {
    "a path": f"{TRIGGER} BEGIN SELECT json_extract('{{}}', json_extract(new.message_data, '$.content')); END",
}


def assert_says_nothing(url: str, caplog: pytest.LogCaptureFixture) -> None:
    options: dict[str, Any] = {"max_retries": 1, "retry_delay": 0.01, "retry_timeout": 0.1}
    with caplog.at_level(logging.DEBUG), sessions.connect(url, **options) as backend:
        with pytest.raises(sessions.SessionsError) as caught:
            backend.session("chat_1").add_items(items(SECRET, SECRET))
        assert SECRET not in str(caught.value)
        assert SECRET not in caplog.text
        assert backend.session("chat_1").get_items() == []


def made(url: str, *statements: str) -> str:
    with sessions.connect(url) as backend:
        backend.session("first").get_items()
    for statement in statements:
        execute_sql(url, statement)
    return url


@pytest.mark.parametrize("statements", POSTGRESQL.values(), ids=POSTGRESQL)
def test_postgresql_repeats_no_item(
    statements: list[str], postgresql_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    calls = [f"{TRIGGER} EXECUTE FUNCTION f()"] if "FUNCTION" in statements[0] else []
    assert_says_nothing(made(postgresql_url, *statements, *calls), caplog)


@each_mysql
@pytest.mark.parametrize("statement", MYSQL.values(), ids=MYSQL)
def test_mysql_repeats_no_item(statement: str, server_url: str, caplog: pytest.LogCaptureFixture) -> None:
    assert_says_nothing(made(server_url, statement), caplog)


@pytest.mark.parametrize("statement", SQLITE.values(), ids=SQLITE)
def test_sqlite_repeats_no_item(statement: str, sqlite_url: str, caplog: pytest.LogCaptureFixture) -> None:
    assert_says_nothing(made(sqlite_url, statement), caplog)


def test_what_steers_a_terminal_is_written_as_escapes(postgresql_url: str, caplog: pytest.LogCaptureFixture) -> None:
    name = "c\x1b[2J\u202e\x07"
    made(postgresql_url, f"ALTER TABLE agent_messages ADD CONSTRAINT \"{name}\" CHECK (message_data LIKE '%no%')")
    with sessions.connect(postgresql_url) as backend, pytest.raises(sessions.DatabaseError) as caught:
        backend.session("chat_1").add_items(items("x"))
    assert str(caught.value).isprintable()
    assert r"c\x1b[2J\u202e\x07" in str(caught.value)
