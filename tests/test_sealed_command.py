"""The command `agent-sessions` on sealed conversations: of a broken one it says one line, and nothing of a row."""

import json
from pathlib import Path

import pytest

import sessions
from sessions._command.database import read_password
from support.command import Result, Run, run_command
from support.samples import items, plant, stored_texts
from support.servers import execute_sql

KEY = "a key of many random characters, the first"
OTHER = "a key of many random characters, the second"


@pytest.fixture
def run(sqlite_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that runs a command, with the key, on a database in which two conversations are sealed."""
    monkeypatch.setenv("SESSIONS_URL", sqlite_url)
    (tmp_path / "keys").write_text(f"{KEY}\n", encoding="utf-8")
    with sessions.connect(sqlite_url, integrity_key=KEY) as backend:
        backend.session("chat_1").add_items(items("hello", "cracked lid"))
        backend.session("chat_2").add_items(items("other"))

    def run(*arguments: str, keys: str | None = "keys") -> Result:
        named = [] if keys is None else ["--integrity-key-file", str(tmp_path / keys)]
        result = run_command(capsys, [*arguments, *named])
        assert KEY not in result.out + result.err
        return result

    return run


def _edit(url: str) -> None:
    text = stored_texts(url)[0].replace("hello", "harm!")
    execute_sql(url, "UPDATE agent_messages SET message_data = %s WHERE id = 1", (text,))


def test_what_is_whole_is_said_to_be(run: Run) -> None:
    found = run("verify")
    assert (found.status, found.out) == (0, "")
    assert "2 sessions, 3 items as they were written; 0 broken" in found.err


def test_what_is_broken_is_named(run: Run, sqlite_url: str) -> None:
    _edit(sqlite_url)
    found = run("verify")
    assert found.status == 1
    assert found.out.startswith("BROKEN  chat_1  session 'chat_1', record 1: ")
    assert "harm" not in found.out + found.err
    assert run("verify", "chat_2").status == 0


def test_what_is_not_there_is_not_whole(run: Run) -> None:
    found = run("verify", "chat_11")
    assert found.status == 1
    assert "no session 'chat_11' in " in found.err
    assert "close: 'chat_1'" in found.err


@pytest.mark.parametrize(
    "command", ["show chat_1", "show chat_1 --raw", "export", "export chat_1", "grep lid", "fork chat_1 new"]
)
def test_no_command_hands_out_what_is_broken(run: Run, sqlite_url: str, command: str) -> None:
    _edit(sqlite_url)
    found = run(*command.split())
    assert found.status == 1
    assert "harm" not in found.out
    assert "lid" not in found.out
    assert "record 1" in found.err
    assert len(found.err.splitlines()) == 1


def test_a_page_is_not_written_of_what_is_broken(run: Run, sqlite_url: str, tmp_path: Path) -> None:
    _edit(sqlite_url)
    assert run("export", "--html", str(tmp_path / "pages")).status == 1
    assert not any("harm" in path.read_text(encoding="utf-8") for path in tmp_path.rglob("*.html"))


def test_kept_seals_tell_what_went_back(run: Run, sqlite_url: str, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text(run("verify", "--json").out, encoding="utf-8")
    with sessions.connect(sqlite_url, integrity_key=KEY) as backend:
        backend.session("chat_1").add_items(items("more"))
    assert run("verify", "--since", str(kept)).status == 0
    for table in ("agent_messages", "agent_sessions", "agent_session_seals"):
        execute_sql(sqlite_url, f"DELETE FROM {table} WHERE session_id = 'chat_2'")
    assert run("verify").status == 0
    found = run("verify", "--since", str(kept), "--json")
    assert found.status == 1
    broken = [json.loads(line) for line in found.out.splitlines() if "broken" in json.loads(line)]
    assert [entry["session_id"] for entry in broken] == ["chat_2"]


def test_files_may_begin_with_a_byte_order_mark(run: Run, tmp_path: Path) -> None:
    (tmp_path / "marked").write_text(KEY, encoding="utf-8-sig")
    (tmp_path / "kept").write_text(run("verify", "--json", keys="marked").out, encoding="utf-8-sig")
    (tmp_path / "password").write_text("secret\n", encoding="utf-8-sig")
    found = run("verify", "--since", str(tmp_path / "kept"), keys="marked")
    assert (found.status, found.out) == (0, "")
    assert read_password(str(tmp_path / "password")) == "secret"


@pytest.mark.parametrize("text", ["no JSON", "[]", '{"seal": "x"}'])
def test_what_holds_no_seals_is_refused(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "kept").write_text(text, encoding="utf-8")
    found = run("verify", "--since", str(tmp_path / "kept"))
    assert found.status == 1
    assert "line 1 of" in found.err
    assert "verify --json" in found.err


def test_rows_of_others_are_adopted_when_that_is_asked_for(run: Run, sqlite_url: str) -> None:
    plant(sqlite_url, "chat_1", json.dumps(items("theirs")[0]))
    found = run("show", "chat_1")
    assert found.status == 1
    assert "--accept-unsealed reads it, and `rekey --adopt` seals it" in found.err
    assert "theirs" in run("show", "chat_1", "--accept-unsealed").out
    assert run("rekey").status == 1
    assert run("rekey", "--adopt").status == 0
    assert "theirs" in run("show", "chat_1").out


def test_keys_are_changed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "both").write_text(f"{OTHER}\n{KEY}\n", encoding="utf-8")
    (tmp_path / "new").write_text(OTHER, encoding="utf-8")
    assert "not made with this key; check the key;" in run("verify", keys="new").out
    assert "2 sessions under the newest key, 3 items changed" in run("rekey", keys="both").err
    assert run("verify", keys="new").status == 0
    assert run("verify").status == 1


def test_without_a_key_there_is_nothing_to_look_at(run: Run) -> None:
    found = run("verify", keys=None)
    assert found.status != 0
    assert "pass --integrity-key-file" in found.err


def test_a_copy_is_sealed_there(run: Run, tmp_path: Path) -> None:
    target = f"sqlite:///{tmp_path}/copy.db"
    (tmp_path / "theirs").write_text(OTHER, encoding="utf-8")
    found = run("copy", target, "--target-integrity-key-file", str(tmp_path / "theirs"))
    assert found.status == 0, found.err
    with sessions.connect(target, integrity_key=OTHER) as backend:
        assert backend.session("chat_1").verify().sealed == 2
    assert "checksums equal" in found.err
