"""Ids that other programs have made and we would not: what can be read is, and none stops the others."""

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import sessions
from sessions._command.main import main
from support.samples import items, plant
from support.servers import execute_sql

QUESTION = '{"role": "user", "content": "odd"}'

# On SQLite any of them gets into a VARCHAR(255).
READABLE = {"300-characters": "L" * 300, "empty": ""}
UNREADABLE = {
    "not-UTF-8": "CAST(x'fffe41' AS TEXT)",
    "not-UTF-8-behind": "CAST(x'7aff' AS TEXT)",
    "NUL": "'a' || char(0) || 'b'",
    "bytes": "x'616263'",
    "surrogate": "CAST(x'61eda080' AS TEXT)",
}


@pytest.fixture
def planted(sqlite_url: str) -> Callable[..., str]:
    """A function that writes conversations of another program between two of ours; the database."""

    def write(*expressions: str) -> str:
        with sessions.connect(sqlite_url) as backend:
            for session_id in ("a1", "zz"):
                backend.session(session_id).add_items(items("one"))
        with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            for written in expressions:
                connection.execute(
                    f"INSERT INTO agent_sessions (session_id, updated_at) VALUES ({written}, '2001-01-01 00:00:00')"
                )
                connection.execute(
                    f"INSERT INTO agent_messages (session_id, message_data) VALUES ({written}, ?)", (QUESTION,)
                )
        return sqlite_url

    return write


def paged(backend: sessions.Backend, **query: Any) -> list[str]:
    found: list[str] = []
    after = None
    while page := backend.list_sessions(limit=1, after=after, **query):
        found += [info.session_id for info in page]
        after = page[-1]
        assert len(found) < 20
    return found


ORDERS: list[dict[str, Any]] = [{}, {"newest_first": False}, {"order": "id"}, {"order": "id", "newest_first": True}]


@pytest.fixture
def sql_backend(sql_url: str) -> Iterator[sessions.Backend]:
    with sessions.connect(sql_url) as backend:
        yield backend


def test_the_empty_id_is_listed_read_and_deleted(sql_backend: sessions.Backend, sql_url: str) -> None:
    sql_backend.session("a1").add_items(items("one"))
    execute_sql(sql_url, "INSERT INTO agent_sessions (session_id) VALUES (%s)", ("",))
    plant(sql_url, "", QUESTION)
    for query in ORDERS:
        assert sorted(paged(sql_backend, **query)) == ["", "a1"]
    assert sql_backend.sizes([""])[""].items == 1
    assert sql_backend.first_messages([""]) == {"": "odd"}
    assert sql_backend.stats().sessions == 2
    assert [match.session_id for match in sql_backend.search("odd")] == [""]
    assert sql_backend.delete_sessions([""]) == 1
    assert paged(sql_backend) == ["a1"]


def test_the_empty_id_without_a_row_of_its_own_is_found(sql_url: str) -> None:
    from support.samples import make_tables_without_foreign_key

    make_tables_without_foreign_key(sql_url)
    for session_id in ("", "a1"):
        plant(sql_url, session_id, QUESTION)
    with sessions.connect(sql_url) as backend:
        assert list(backend.unlisted_sessions()) == ["", "a1"]
        assert backend.delete_sessions([""]) == 0
        assert list(backend.unlisted_sessions()) == ["a1"]


@pytest.mark.parametrize("session_id", READABLE.values(), ids=READABLE)
def test_an_id_that_is_none_of_ours_goes_with_the_others(planted: Callable[..., str], session_id: str) -> None:
    with sessions.connect(planted(f"'{session_id}'")) as backend:
        for query in ORDERS:
            assert sorted(paged(backend, **query)) == sorted([session_id, "a1", "zz"])
        assert backend.sizes([session_id])[session_id].items == 1
        assert backend.first_messages([session_id]) == {session_id: "odd"}
        assert backend.prune(timedelta(days=90)).sessions == 0  # its row is new
        assert backend.delete_sessions([session_id]) == 1


@pytest.mark.parametrize("written", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("query", ORDERS, ids=str)
def test_a_listing_ends_and_leaves_out_only_what_is_no_text(
    planted: Callable[..., str], written: str, query: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with sessions.connect(planted(written)) as backend:
        assert sorted(paged(backend, **query)) == ["a1", "zz"]
        assert {info.session_id for info in backend.list_sessions(**query)} == {"a1", "zz"}
        named = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
        assert all("left out" in message for message in named)
        assert named or written == "x'616263'"  # which no listing has seen
        assert backend.prune(timedelta(days=90)).sessions == 0
        assert backend.stats().sessions == 2
        assert list(backend.search("odd")) == []
        assert list(backend.unlisted_sessions()) == []


def test_pages_of_nothing_but_what_is_left_out_hide_nothing_behind_them(planted: Callable[..., str]) -> None:
    many = [f"CAST(x'61{number:02x}ff' AS TEXT)" for number in range(32, 64)]
    with sessions.connect(planted(*many)) as backend:
        for query in ORDERS:
            assert sorted(paged(backend, **query)) == ["a1", "zz"]


@pytest.mark.parametrize("written", [*(f"'{i}'" for i in READABLE.values()), *UNREADABLE.values()])
def test_no_id_of_another_program_stops_a_command(
    planted: Callable[..., str], written: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url = planted(written)
    for command in (
        ["ls", "--first", "--size"],
        ["ls", "--json", "--first"],
        ["export"],
        ["export", "--html", str(tmp_path / "pages")],
        ["prune", "--older-than", "90d", "--dry-run"],
        ["stats"],
        ["check"],
    ):
        assert main([*command, "--url", url]) == 0, command
        out, err = capsys.readouterr()
        assert "agent-sessions:" not in err
        if command[0] in ("ls", "export") and "--html" not in command:
            assert "zz" in out
            assert ("odd" in out) == written.startswith("'") * ("char" not in written)


@pytest.mark.parametrize("session_id", READABLE.values(), ids=READABLE)
def test_a_copy_says_which_conversation_has_no_id_of_ours(
    planted: Callable[..., str], session_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = f"sqlite:///{tmp_path}/target.db"
    assert main(["copy", target, "--url", planted(f"'{session_id}'")]) == 1
    err = capsys.readouterr().err
    assert f"session {session_id!r}: it was not copied" in err
    assert "copied 2 sessions" in err
    assert "1 differ" in err
    with sessions.connect(target) as backend:
        assert sorted(paged(backend)) == ["a1", "zz"]


@pytest.mark.parametrize("session_id", READABLE.values(), ids=READABLE)
def test_adopting_encrypts_what_has_no_id_of_ours(planted: Callable[..., str], session_id: str, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    url = planted(f"'{session_id}'")
    (tmp_path / "key").write_text("k" * 40)
    assert main(["rekey", "--adopt", "--encryption-key-file", str(tmp_path / "key"), "--url", url]) == 0
    assert not any("content" in text for (text,) in execute_sql(url, "SELECT message_data FROM agent_messages"))
