"""Nothing that comes from outside becomes a statement, a line of the log, or a file that others can read."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest

import sessions
from support.servers import execute_sql

HOSTILE = [
    "'; DROP TABLE agent_messages; --",
    '"; DROP TABLE agent_messages; --',
    "\\'; DROP TABLE agent_messages; -- ",
    "x' OR '1'='1",
    "%(session_id)s %s {0} :session_id $1 ?",
    "`; DROP TABLE agent_sessions; #",
    "chat\\",
    "/*!50000 DROP TABLE agent_messages */",
]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_an_id_or_an_item_is_never_a_statement(backend: sessions.Backend, hostile: str) -> None:
    other = backend.session("other")
    other.add_items([{"kept": True}])
    session = backend.session(hostile)
    session.add_items([{hostile: hostile}, {"second": hostile}])
    session.add_items([{"third": hostile}], if_position=session.position())
    assert session.get_items(3) == [{hostile: hostile}, {"second": hostile}, {"third": hostile}]
    assert session.pop_item() == {"third": hostile}
    session.replace_items([{hostile: 1}])
    assert session.get_items() == [{hostile: 1}]
    session.clear_session()
    assert (session.get_items(), other.get_items()) == ([], [{"kept": True}])


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize("option", ["sessions_table", "messages_table"])
def test_a_table_name_is_never_a_statement(sql_url: str, option: str, hostile: str) -> None:
    with pytest.raises(sessions.ConfigurationError):
        sessions.connect(sql_url, **{option: hostile})  # type: ignore[arg-type]


@pytest.mark.parametrize("part", ["a%0Ab%1B[31m", "a%E2%80%A8b"])
def test_control_characters_of_a_url_reach_no_message(part: str) -> None:
    for url in (f"sqlite:/nowhere/{part}.db", f"mysql://localhost:1/{part}", f"postgresql://localhost:1/{part}"):
        backend = sessions.connect(url, max_retries=0)
        with pytest.raises(sessions.SessionsError) as caught:
            backend.session("chat").get_items()
        assert str(caught.value).isprintable()
        assert repr(backend).isprintable()
        backend.close()


def test_control_characters_of_an_id_reach_no_log_line(sql_url: str, caplog: pytest.LogCaptureFixture) -> None:
    session_id = "chat\nERROR all is lost\x1b[31m"
    with sessions.Session.from_url(session_id, sql_url) as session, caplog.at_level(logging.WARNING, "sessions"):
        session.add_items([{"a": 1}])
        statement = "INSERT INTO agent_messages (session_id, message_data) VALUES (%s, %s)"
        execute_sql(sql_url, statement, (session_id, "no\njson"))
        session.get_items()
    assert [record.getMessage().isprintable() for record in caplog.records] == [True]


def test_a_new_sqlite_file_and_its_companions_are_the_owners_alone(tmp_path: Path) -> None:
    with sessions.Session.from_url("chat", f"sqlite:{tmp_path}/chat.db") as session:
        session.add_items([{"a": 1}])
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("chat.db", "chat.db-wal", "chat.db-shm"), 0o600)
