"""`agent-sessions selftest`: what it writes, and its exit code."""

import json
from pathlib import Path
from typing import Any

import pytest

from sessions._command.main import main
from sessions._selftest.claims import CLAIMS
from sessions._selftest.place import Place, refuted


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Place, "seconds", 0.1)
    monkeypatch.setattr(Place, "idle_seconds", 0.0)
    monkeypatch.delenv("SESSIONS_URL", raising=False)


def refute(_: Place) -> str:
    raise refuted("two of them", "look elsewhere")


def test_promises_that_hold_are_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["selftest", "sqlite::memory:"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {line[1] for line in lines} == {"ok", "skipped"}
    assert set(CLAIMS) <= {line[0] for line in lines}


def test_a_promise_that_does_not_hold_is_1_and_the_others_are_tried(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CLAIMS, "order", refute)
    assert main(["selftest", "sqlite::memory:"]) == 1
    out = capsys.readouterr().out
    assert "order\terror\ttwo of them\tlook elsewhere\n" in out
    assert "idle connection\tok" in out


def test_json_is_one_object_of_checks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLAIMS, "order", refute)
    assert main(["selftest", "--json", "--url", "memory:"]) == 1
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert list(found) == ["schema_version", "checks"]
    assert found["schema_version"] == 1
    assert {tuple(check) for check in found["checks"]} == {("name", "verdict", "found", "remedy")}
    [order] = [check for check in found["checks"] if check["name"] == "order"]
    assert order == {"name": "order", "verdict": "error", "found": "two of them", "remedy": "look elsewhere"}


def test_the_environment_names_the_database(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSIONS_URL", "memory:")
    assert main(["selftest"]) == 0
    assert "exact ids\tok" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "no database; pass --url"),
        (["memory:", "--url", "memory:"], 2, "named twice; drop --url"),
        (["nosql:x"], 2, "unknown URL scheme"),
        (["sqlite:nowhere.db"], 1, "there is no file 'nowhere.db'"),
        (["memory:", "--engine", "tidb"], 2, "engine is given, but memory has no such option"),
    ],
)
def test_what_cannot_be_tried_is_said_in_a_line(
    arguments: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["selftest", *arguments]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_a_file_is_as_it_was(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import sqlite3

    import sessions

    url = f"sqlite:{tmp_path}/chat.db"
    with sessions.connect(url) as backend:
        backend.session("chat_1").add_items([{"role": "user"}])
    assert main(["selftest", url]) == 0
    capsys.readouterr()
    with sqlite3.connect(tmp_path / "chat.db") as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert names == {"agent_sessions", "agent_messages", "sqlite_sequence"}
    with sessions.connect(url) as backend:
        assert [info.session_id for info in backend.list_sessions()] == ["chat_1"]
