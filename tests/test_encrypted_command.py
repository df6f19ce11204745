"""The command `agent-sessions` on an encrypted database: with the key as ever, else one line and nothing of a row."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import sessions
from sessions._command.main import main
from support.command import Result, Run, run_command
from support.samples import item, items, plant, stored_texts, texts
from support.servers import execute_sql

KEY = "a key of many random characters, the first"
OTHER = "a key of many random characters, the second"
SECRET = "the lid is cracked"


@pytest.fixture
def key_file(tmp_path: Path) -> Callable[..., str]:
    """A function that writes keys to a file, and returns its path."""

    def write(*keys: str) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.keys"
        path.write_text("\r\n\n".join(keys) + "\n\n", encoding="utf-8", newline="")
        return str(path)

    return write


@pytest.fixture
def run(sql_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that runs a command on a database in which two conversations are encrypted."""
    monkeypatch.setenv("SESSIONS_URL", sql_url)
    with sessions.connect(sql_url, encryption_key=KEY) as backend:
        backend.session("chat_1").add_items([*items(SECRET), {"role": "assistant", "content": "a new one"}])
        backend.session("chat_2").add_items(items("hello"))

    def run(*arguments: str) -> Result:
        result = run_command(capsys, arguments)
        assert KEY not in result.out + result.err
        assert OTHER not in result.out + result.err
        return result

    return run


READERS: dict[str, list[str]] = {
    "show": ["show", "chat_1"],
    "show --json": ["show", "chat_1", "--json"],
    "show --raw": ["show", "chat_1", "--raw"],
    "grep": ["grep", "cracked"],
    "grep --json": ["grep", "cracked", "--json"],
    "ls --first": ["ls", "--first"],
    "ls --first --json": ["ls", "--first", "--json"],
    "export": ["export"],
    "export of one": ["export", "chat_1"],
}
each_reader = pytest.mark.parametrize("arguments", READERS.values(), ids=READERS)


@each_reader
@pytest.mark.parametrize("given", ["file", "environment"])
def test_with_the_key_what_was_said_is_shown(
    run: Run, key_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], given: str
) -> None:
    if given == "environment":
        monkeypatch.setenv("SESSIONS_ENCRYPTION_KEY", KEY)
        result = run(*arguments)
    else:
        result = run(*arguments, "--encryption-key-file", key_file(OTHER, KEY))
    assert (result.status, result.err) == (0, "")
    assert SECRET in result.out
    assert "__enc__" not in result.out


@each_reader
def test_what_cannot_be_read_is_one_line_and_is_not_printed(
    run: Run, key_file: Callable[..., str], arguments: list[str]
) -> None:
    result = run(*arguments, "--encryption-key-file", key_file(OTHER))
    assert result.status == 1
    [line] = result.err.splitlines()
    assert line.startswith("agent-sessions: row ")
    assert line.endswith("; pass that one too by --encryption-key-file: another process may have a newer one")
    assert "gAAAA" not in result.out + result.err
    assert SECRET not in result.out


@each_reader
def test_a_plain_row_is_one_line_and_is_not_printed(
    run: Run, sql_url: str, key_file: Callable[..., str], arguments: list[str]
) -> None:
    execute_sql(sql_url, "DELETE FROM agent_messages")
    [planted] = plant(sql_url, "chat_1", json.dumps(item("planted, and cracked")))
    result = run(*arguments, "--encryption-key-file", key_file(KEY))
    assert result.status == 1
    [line] = result.err.splitlines()
    assert line.startswith(f"agent-sessions: row {planted} of session 'chat_1' is not encrypted; ")
    assert "agent-sessions rekey --adopt" in line
    assert "planted" not in result.out + result.err


def test_the_file_wins_over_the_environment(
    run: Run, key_file: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSIONS_ENCRYPTION_KEY", OTHER)
    assert run("show", "chat_1").status == 1
    assert run("show", "chat_1", "--encryption-key-file", key_file(KEY)).status == 0
    monkeypatch.setenv("SESSIONS_ENCRYPTION_KEY", f"{OTHER}\n{KEY}\n")
    assert run("show", "chat_1").status == 0


def test_pages_show_what_was_said(run: Run, key_file: Callable[..., str], tmp_path: Path) -> None:
    assert run("export", "--html", str(tmp_path / "pages"), "--encryption-key-file", key_file(KEY)).status == 0
    written = "".join(page.read_text(encoding="utf-8") for page in (tmp_path / "pages").rglob("*.html"))
    assert SECRET in written
    wrong = run("export", "--html", str(tmp_path / "none"), "--encryption-key-file", key_file(OTHER))
    assert wrong.status == 1
    assert len(wrong.err.splitlines()) == 1
    assert "gAAAA" not in "".join(page.read_text(encoding="utf-8") for page in (tmp_path / "none").rglob("*.html"))


def test_lists_sizes_and_deletions_need_no_key(run: Run, key_file: Callable[..., str]) -> None:
    wrong = ("--encryption-key-file", key_file(OTHER))
    plain, keyed = run("stats", "--json"), run("stats", "--json", *wrong)
    assert (plain.out, plain.status) == (keyed.out, keyed.status)
    listed = sorted(line.split("\t")[:2] for line in run("ls", *wrong).lines)
    assert listed == [["chat_1", "2"], ["chat_2", "1"]]
    assert run("rm", "chat_2", "--yes", *wrong).status == 0


def test_an_export_is_imported_under_another_key(
    run: Run, make_url: Callable[[str], str], key_file: Callable[..., str], tmp_path: Path
) -> None:
    exported = tmp_path / "export.jsonl"
    exported.write_text(run("export", "--encryption-key-file", key_file(KEY)).out, encoding="utf-8")
    url = make_url("sqlite")
    options = ("--url", url, "--encryption-key-file", key_file(OTHER))
    assert run("import", str(exported), *options).status == 0
    assert "cracked" not in repr(stored_texts(url))
    with sessions.connect(url, encryption_key=OTHER) as backend:
        assert texts(backend.session("chat_1").get_items()) == [SECRET, "a new one"]


@pytest.mark.parametrize(("kept", "there"), [(True, OTHER), (False, None)], ids=["under its key", "plain"])
def test_a_copy_is_under_the_targets_key(
    run: Run, make_url: Callable[[str], str], key_file: Callable[..., str], kept: bool, there: str | None
) -> None:
    url = make_url("sqlite")
    with sessions.connect(url) as backend:
        backend.session("made").clear_session()
    options = ["--encryption-key-file", key_file(KEY)]
    options += ["--target-encryption-key-file", key_file(OTHER)] if kept else []
    result = run("copy", url, *options)
    assert (result.status, "checksums equal" in result.err) == (0, True)
    assert ("cracked" in repr(stored_texts(url))) is not kept
    with sessions.connect(url, encryption_key=there) as backend:
        assert texts(backend.session("chat_1").get_items()) == [SECRET, "a new one"]


def test_a_copy_without_a_key_moves_envelopes_as_they_are(
    run: Run, sql_url: str, make_url: Callable[[str], str]
) -> None:
    url = make_url("sqlite")
    with sessions.connect(url) as backend:
        backend.session("made").clear_session()
    assert run("copy", url).status == 0
    assert stored_texts(url) == stored_texts(sql_url)
    with sessions.connect(url, encryption_key=KEY) as backend:
        assert texts(backend.session("chat_1").get_items()) == [SECRET, "a new one"]


def test_a_copy_of_what_does_not_open_ends(
    run: Run, make_url: Callable[[str], str], key_file: Callable[..., str]
) -> None:
    url = make_url("sqlite")
    with sessions.connect(url) as backend:
        backend.session("made").clear_session()
    result = run("copy", url, "--encryption-key-file", key_file(OTHER))
    assert (result.status, len(result.err.splitlines())) == (1, 1)
    assert stored_texts(url) == []


def test_what_the_targets_keys_do_not_open_is_told_of_the_target(
    run: Run, make_url: Callable[[str], str], key_file: Callable[..., str]
) -> None:
    url = make_url("sqlite")
    with sessions.connect(url, encryption_key=KEY) as backend:
        backend.session("chat_1").add_items(items(SECRET))
    options = ("--encryption-key-file", key_file(KEY), "--target-encryption-key-file", key_file(OTHER))
    result = run("copy", url, "chat_1", *options)
    assert result.status == 1
    assert "in the target, " in result.err
    assert "pass that one too by --target-encryption-key-file" in result.err
    with sessions.connect(url, encryption_key=KEY) as backend:
        assert texts(backend.session("chat_1").get_items()) == [SECRET]


def test_a_fork_opens(run: Run, sql_url: str, key_file: Callable[..., str]) -> None:
    assert run("fork", "chat_1", "chat_3", "--encryption-key-file", key_file(KEY)).status == 0
    with sessions.connect(sql_url, encryption_key=KEY) as backend:
        assert texts(backend.session("chat_3").get_items()) == [SECRET, "a new one"]
    assert run("fork", "chat_1", "chat_4", "--encryption-key-file", key_file(OTHER)).status == 1
    assert stored_texts(sql_url, "chat_4") == []


# --- rekey


def test_rekey_brings_all_under_the_first_key(run: Run, sql_url: str, key_file: Callable[..., str]) -> None:
    options = ("--encryption-key-file", key_file(OTHER, KEY))
    assert run("rekey", "chat_2", *options) == (0, "", "1 session under the newest key, 1 items changed\n")
    assert run("rekey", *options) == (0, "", "2 sessions under the newest key, 2 items changed\n")
    assert run("rekey", *options, "--quiet") == (0, "", "")
    with sessions.connect(sql_url, encryption_key=OTHER) as backend:
        assert texts(backend.session("chat_1").get_items()) == [SECRET, "a new one"]


def test_rekey_goes_on_behind_what_does_not_open(run: Run, sql_url: str, key_file: Callable[..., str]) -> None:
    [planted] = plant(sql_url, "chat_1", json.dumps(item("planted")))
    options = ("--encryption-key-file", key_file(OTHER, KEY))
    result = run("rekey", *options)
    assert (result.status, result.out) == (1, "")
    first, last = result.err.splitlines()
    assert first.startswith(f"agent-sessions: row {planted} of session 'chat_1' is not encrypted; ")
    assert last == "1 session under the newest key, 1 items changed; 1 refused, as said above, and left as they are"
    assert run("rekey", "--adopt", *options).status == 0
    with sessions.connect(sql_url, encryption_key=OTHER) as backend:
        assert texts(backend.session("chat_1").get_items()) == [SECRET, "a new one", "planted"]


def test_rekey_without_a_key_says_how_to_give_one(run: Run) -> None:
    result = run("rekey")
    assert (result.status, result.out) == (2, "")
    assert "--encryption-key-file" in result.err


# --- keys


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xff\xfe secret"], ids=["empty", "blank", "no text"])
def test_a_file_without_a_key_is_named_and_not_printed(run: Run, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.keys"
    path.write_bytes(content)
    result = run("show", "chat_1", "--encryption-key-file", str(path))
    assert (result.status, result.out) == (2, "")
    assert str(path) in result.err
    assert "secret" not in result.err
    assert len(result.err.splitlines()) == 1


def test_a_file_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    result = run("show", "chat_1", "--encryption-key-file", str(tmp_path / "none"))
    assert (result.status, str(tmp_path / "none") in result.err) == (1, True)


def test_a_traceback_has_no_key(sqlite_url: str, key_file: Callable[..., str]) -> None:
    with sessions.connect(sqlite_url, encryption_key=KEY) as backend:
        backend.session("chat_1").add_items(items(SECRET))
    command = [sys.executable, "-m", "sessions", "show", "chat_1", "--debug", "--url", sqlite_url]
    command += ["--encryption-key-file", key_file(OTHER)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert "Traceback" in done.stderr
    assert "DecryptionError" in done.stderr
    assert OTHER not in done.stderr


def test_check_says_whether_the_key_opens(run: Run, key_file: Callable[..., str]) -> None:
    def verdict(*keys: str) -> list[str]:
        return [line.split("\t")[1] for line in run("check", "--encryption-key-file", key_file(*keys)).lines][-1:]

    assert verdict(KEY) == ["ok"]
    assert verdict(OTHER, KEY) == ["warning"]
    assert verdict(OTHER) == ["error"]


@pytest.mark.slow
def test_selftest_holds_with_a_key(
    sqlite_url: str, key_file: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("made").clear_session()
    assert main(["selftest", sqlite_url, "--encryption-key-file", key_file(KEY)]) == 0
    assert "\terror\t" not in capsys.readouterr().out
