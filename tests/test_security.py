"""Nothing that comes from outside becomes a statement, a line of the log, or a file that others can read."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest

import sessions
from support.injections import INJECTIONS, put_everywhere
from support.samples import plant


def test_an_id_or_an_item_is_never_a_statement(backend: sessions.Backend) -> None:
    other = backend.session("other")
    other.add_items([{"kept": True}])
    for text in INJECTIONS.values():
        session = backend.session(text)
        put_everywhere(session, text)
        session.clear_session()
        assert (session.get_items(), other.get_items()) == ([], [{"kept": True}])


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
        plant(sql_url, session_id, "no\njson")
        session.get_items()
    assert [record.getMessage().isprintable() for record in caplog.records] == [True]


def test_a_new_sqlite_file_and_its_companions_are_the_owners_alone(tmp_path: Path) -> None:
    with sessions.Session.from_url("chat", f"sqlite:{tmp_path}/chat.db") as session:
        session.add_items([{"a": 1}])
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys(("chat.db", "chat.db-wal", "chat.db-shm"), 0o600)
