"""The command `agent-sessions`: what it writes, and what it says when it cannot."""

import contextlib
import io
import json
import os
import re
import shlex
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import sessions
from sessions._command.arguments import make_parser, rotated
from sessions._command.main import main
from sessions._command.progress import Progress
from sessions._command.terminal import Stream
from sessions._history import History
from support.claims import each_mysql
from support.command import Result, Run, run_command
from support.rivals import set_updated_at
from support.samples import item, items, plant, texts
from support.servers import execute_sql, with_parts

HOSTILE = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \u202egnp.exe \u200b \x9b1m \U000e0041 <script>alert(1)</script>"

IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}
SUMMARY = [{"type": "summary_text", "text": "Look into the stock"}]
CHAT_CALL = {"id": "t1", "type": "function", "function": {"name": "chat_tool", "arguments": '{"a": 1}'}}
CONVERSATION: list[dict[str, Any]] = [
    {"role": "user", "content": [{"type": "input_text", "text": "The lid is cracked"}, IMAGE]},
    {"type": "reasoning", "summary": SUMMARY, "encrypted_content": "gAAAA"},
    {"type": "function_call", "call_id": "c1", "name": "get_order", "arguments": '{"order_id":"4711"}'},
    {"type": "function_call", "call_id": "c2", "name": "get_stock", "arguments": '{"sku":"TK-2"}'},
    {"type": "function_call_output", "call_id": "c2", "output": "nothing"},
    {"type": "function_call_output", "call_id": "c1", "output": "An error occurred while running the tool."},
    {"type": "function_call", "call_id": "c3", "name": "lost", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c9", "output": "whose is it"},
    {"type": "message", "role": "assistant", "content": [{"type": "refusal", "refusal": "I cannot"}]},
    {"role": "assistant", "content": None, "tool_calls": [CHAT_CALL]},
    {"role": "tool", "tool_call_id": "t1", "content": "chat output"},
    {"type": "shop_audit_note", "score": 0.82},
]


NOT_ASKED = "agent-sessions: --yes required when not running interactively\n"


@pytest.fixture
def run(sql_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that runs a command on a database in which three conversations are."""
    monkeypatch.setenv("SESSIONS_URL", sql_url)
    with sessions.connect(sql_url) as backend:
        for number, name in enumerate(("chat_1", "chat_2", "other")):
            backend.session(name).add_items(items("Hello, the lamp", "Good day", name))
            set_updated_at(backend, name, time.time() - 86_400 * (number + 1))

    return lambda *arguments: run_command(capsys, arguments)


@pytest.fixture
def sqlite_run(make_url: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """A function that runs a command on a SQLite file with the conversation."""
    url = make_url("sqlite")
    with sessions.connect(url) as backend:
        backend.session("chat_1").add_items(CONVERSATION)

        yield lambda *arguments: run_command(capsys, [*arguments, "--url", url])


# --- ls, show, grep


def test_ls_lists_the_newest_first(run: Run) -> None:
    result = run("ls")
    assert result.status == 0
    assert [line.split("\t")[:2] for line in result.lines] == [["chat_1", "3"], ["chat_2", "3"], ["other", "3"]]
    assert result.err == ""
    assert [line.split("\t")[0] for line in run("ls", "--prefix", "chat_").lines] == ["chat_1", "chat_2"]
    assert len(run("ls", "--limit", "1").lines) == 1
    assert len(run("ls", "--limit", "1", "--all").lines) == 3


def test_ls_as_objects_and_with_the_first_question(run: Run) -> None:
    [first, *_] = run("ls", "--json", "--first").objects
    assert sorted(first) == ["bytes", "created_at", "first", "items", "session_id", "updated_at"]
    assert (first["session_id"], first["items"], first["first"]) == ("chat_1", 3, "Hello, the lamp")
    assert first["bytes"] is None
    assert run("ls", "--first").lines[0].endswith("\tHello, the lamp")


def test_ls_with_sizes(run: Run, sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        stored = sum(len(record.text) for record in backend.session("chat_1").records())
    assert run("ls", "--size", "--json").objects[0]["bytes"] == stored
    assert run("ls", "--size").lines[0].split("\t")[2] == str(stored)


def test_times_say_that_they_are_of_utc_where_they_are(run: Run, sql_url: str) -> None:
    times = [run("ls").lines[0].split("\t")[2], run("ls", "--json").objects[0]["updated_at"]]
    assert {time.endswith("Z") for time in times} == {sql_url.startswith("sqlite")}


def test_an_empty_list_is_no_failure(run: Run) -> None:
    assert run("ls", "--prefix", "nobody") == (0, "", "")


def test_show_is_a_transcript(run: Run) -> None:
    result = run("show", "chat_2")
    assert result.status == 0
    assert result.lines[0].startswith("user  #")
    assert result.lines[1] == "  Hello, the lamp"
    assert "  chat_2" in result.lines


def test_show_as_objects_as_stored_and_limited(run: Run, sql_url: str) -> None:
    objects = run("show", "chat_2", "--json").objects
    assert [found["item"] for found in objects] == items("Hello, the lamp", "Good day", "chat_2")
    with sessions.connect(sql_url) as backend:
        stored = [record.text for record in backend.session("chat_2").records()]
    assert run("show", "chat_2", "--raw").lines == stored
    assert len(run("show", "chat_2", "--raw", "--limit", "2").lines) == 2


def test_a_call_stands_with_its_output(sqlite_run: Run) -> None:
    out = sqlite_run("show", "chat_1").out
    entries = [entry.splitlines() for entry in out.strip().split("\n\n")]
    heads = {entry[0].rsplit("  ", 1)[0]: entry[1:] for entry in entries}
    assert heads["user  #1"] == ["  The lid is cracked", "  [image: PNG, 3 B]"]
    assert heads["reasoning  encrypted  #2"] == ["  Look into the stock"]
    assert heads['tool  get_order(order_id="4711")  FAILED  #3→#6'] == ["  | An error occurred while running the tool."]
    assert heads['tool  get_stock(sku="TK-2")  #4→#5'] == ["  | nothing"]
    assert "tool  lost()  no output  #7" in heads
    assert heads["tool  an output without its call  #8"] == ["  | whose is it"]
    assert heads["assistant  refused  #9"] == ["  I cannot"]
    assert heads["tool  chat_tool(a=1)  #10→#11"] == ["  | chat output"]
    assert "shop_audit_note  shown as stored  #12" in heads
    assert "gAAAA" not in out
    assert "reasoning" not in sqlite_run("show", "chat_1", "--no-reasoning").out


def test_every_item_is_in_the_transcript(sqlite_run: Run) -> None:
    out = sqlite_run("show", "chat_1").out
    assert all(f"#{number}" in out for number in range(1, len(CONVERSATION) + 1))


def test_a_corrupt_row_is_shown(run: Run, sql_url: str) -> None:
    plant(sql_url, "chat_1", "{not JSON")
    assert "  {not JSON" in run("show", "chat_1").lines
    assert run("show", "chat_1", "--json").objects[-1]["item"] is None


def test_grep_finds_what_was_said(run: Run) -> None:
    result = run("grep", "lamp", "--prefix", "chat_")
    assert result.status == 0
    assert [line.split("\t")[0] for line in result.lines] == ["chat_1", "chat_2"]
    assert result.lines[0].split("\t")[3] == "user"
    assert len(run("grep", "LAMP", "-i").lines) == 3
    assert len(run("grep", "lamp", "--limit", "1").lines) == 1
    assert run("grep", "lamp", "--json").objects[2]["item"] == item("Hello, the lamp")


def test_grep_that_finds_nothing_answers_1_and_says_nothing(run: Run) -> None:
    assert run("grep", "zeppelin") == (1, "", "")


def test_nothing_stored_reaches_the_terminal_as_it_is(run: Run, sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session(f"evil{HOSTILE}").add_items([item(HOSTILE), {"role": HOSTILE}, {"type": HOSTILE, HOSTILE: 1}])
    for command in (
        ["ls", "--first"],
        ["show", f"evil{HOSTILE}"],
        ["grep", "alert"],
        ["show", "evil"],
        ["ls", "--json"],
    ):
        result = run(*command)
        written = result.out + result.err
        assert written
        assert not [c for c in written if c in "\x1b\x07\u202e\u200b\x9b\U000e0041"], command


# --- export, fork, rm, prune, schema


def test_an_export_has_every_text_as_it_is_stored(run: Run, sql_url: str) -> None:
    header, *lines, end = run("export").objects
    assert (header, end) == ({"agent_sessions_export": 1}, {"agent_sessions_export_end": 1, "lines": len(lines)})
    with sessions.connect(sql_url) as backend:
        stored = {
            (name, record.id): record.text
            for name in ("chat_1", "chat_2", "other")
            for record in backend.session(name).records()
        }
    assert {(line["session_id"], line["id"]): line["text"] for line in lines if "text" in line} == stored
    assert [line["session_id"] for line in lines if "text" not in line] == ["chat_1", "chat_2", "other"]
    assert {line["session_id"] for line in run("export", "chat_2").objects[1:-1]} == {"chat_2"}


def test_an_export_is_imported_exactly_and_once(run: Run, make_url: Callable[[str], str], tmp_path: Path) -> None:
    file = tmp_path / "export.jsonl"
    file.write_text(run("export").out, encoding="utf-8")
    target = make_url("sqlite")
    assert run("import", str(file), "--url", target).err == "imported 3 sessions, 9 items\n"
    assert run("import", str(file), "--url", target).err == "imported 3 sessions, 0 items\n"
    assert shape(run("export", "--url", target)) == shape(run("export"))
    with sessions.connect(target) as backend:
        backend.session("chat_1").add_items(items("more"))
        refused = run("import", str(file), "--url", target)
        assert (refused.status, "'chat_1' is there already" in refused.err) == (1, True)
        assert (
            run("import", str(file), "--url", target, "--on-existing", "skip").err == "imported 0 sessions, 0 items\n"
        )
        refused = run("import", str(file), "--url", target, "--on-existing", "replace")
        assert (refused.status, refused.err) == (2, NOT_ASKED)
        assert len(backend.session("chat_1").get_items()) == 4
        assert run("import", str(file), "--url", target, "--on-existing", "replace", "--yes").status == 0
        assert shape(run("export", "--url", target)) == shape(run("export"))
        run("import", str(file), "--url", target, "--on-existing", "append")
        assert len(backend.session("chat_1").get_items()) == 6


@pytest.mark.parametrize("dialect", ["mysql", "mariadb"])
def test_a_conversation_is_found_where_another_id_sorts_before_its_beginning(
    dialect: str, make_url: Callable[[str], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    url = make_url(dialect)
    with sessions.connect(url) as backend:
        backend.session("chat").add_items(items("a"))
        for table in ("agent_messages DROP FOREIGN KEY agent_messages_ibfk_1", "agent_sessions", "agent_messages"):
            change = "" if "DROP" in table else " MODIFY session_id VARCHAR(255) COLLATE utf8mb4_bin NOT NULL"
            execute_sql(url, f"ALTER TABLE {table}{change}")
        for control in "\t\n":
            backend.session(f"chat{control}").add_items(items("b", "c"))
        assert main(["rm", "chat", "--dry-run", "--url", url]) == 0
        assert "1 session, 1 items, " in capsys.readouterr().err
        assert main(["export", "chat", "--url", url]) == 0
        file = tmp_path / "export.jsonl"
        file.write_text(capsys.readouterr().out, encoding="utf-8")
        assert main(["import", str(file), "--on-existing", "replace", "--url", url]) == 2
        assert capsys.readouterr().err == NOT_ASKED


def test_a_copy_without_a_target_asks_for_that_alone(run: Run) -> None:
    refused = run("copy")
    assert refused.status == 2
    assert "required: TARGET_URL (" in refused.err


def shape(export: Result) -> list[dict[str, Any]]:
    return [
        {name: (value or "")[:19] if name.endswith("_at") else value for name, value in line.items() if name != "id"}
        for line in export.objects
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}\n",
        "x\n",
        '{"agent_sessions_export": 2}\n',
        '{"agent_sessions_export": 1}\n7\n',
        '{"agent_sessions_export": 1}\n{"session_id": "new", "text": "{}"}\n{"agent_sessions_export_end": 1}\n',
        '{"agent_sessions_export": 1}\n{"agent_sessions_export_end": 1}\n{"session_id": "new"}\n',
        '{"agent_sessions_export": 1}\n{"session_id": "new", "created_at": "soon"}\n{"agent_sessions_export_end": 1}\n',
    ],
)
def test_what_is_no_export_is_not_imported(run: Run, tmp_path: Path, text: str) -> None:
    file = tmp_path / "export.jsonl"
    file.write_text(text)
    result = run("import", str(file))
    assert result.status == 1
    assert result.err.count("\n") == 1
    assert len(run("ls").lines) == 3


HEAD = '{"agent_sessions_export": 1}\n'
END = '{"agent_sessions_export_end": 1}\n'


def test_records_without_the_line_before_them_are_refused(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "export.jsonl"
    file.write_text(HEAD + "\n".join(run("export", "chat_1").lines[2:]).replace("chat_1", "chat_9"), encoding="utf-8")
    result = run("import", str(file))
    assert (result.status, "'chat_9' begins with a record" in result.err) == (1, True)
    assert run("show", "chat_9").status == 1


def test_standard_input_is_utf_8_in_every_locale(sqlite_url: str) -> None:
    written = HEAD + '{"session_id": "chat_1"}\n{"session_id": "chat_1", "text": "{\\"content\\":\\"日本\\"}"}\n' + END
    environment = os.environ | {"PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"}
    with process("import", "-", "--url", sqlite_url, env=environment, stdin=subprocess.PIPE) as command:
        command.communicate(written)
    with sessions.connect(sqlite_url) as backend:
        assert texts(backend.session("chat_1").get_items()) == ["日本"]


def test_a_closed_standard_input_is_told(sqlite_url: str) -> None:
    command = f"exec {shlex.quote(sys.executable)} -P -m sessions import - --url {shlex.quote(sqlite_url)} <&-"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "standard input is closed" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_conversation_that_is_named_twice_is_one(run: Run, make_url: Callable[[str], str], tmp_path: Path) -> None:
    file = tmp_path / "export.jsonl"
    file.write_text(run("export", "chat_1", "chat_1").out, encoding="utf-8")
    assert run("import", str(file), "--url", make_url("sqlite")).err == "imported 1 session, 3 items\n"
    assert run("rm", "chat_1", "chat_1", "--dry-run").err.startswith("would delete 1 session, 3 items, ")


def test_a_row_of_bytes_is_exported_and_copied(
    sqlite_url: str, make_url: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    target = make_url("sqlite")
    stored = ['{"a":1}', "\\xff{", '{"\\xff":1}']
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").replace_items([])
        for row in ("x'7b2261223a317d'", "x'ff7b'", "CAST(x'7b22ff223a317d' AS TEXT)"):
            execute_sql(sqlite_url, f"INSERT INTO agent_messages (session_id, message_data) VALUES ('chat_1', {row})")
        assert [record.text for record in backend.session("chat_1").records()] == stored
        assert backend.session("chat_1").get_items() == [{"a": 1}]
    for _ in range(2):
        assert main(["copy", target, "--url", sqlite_url]) == 0
    assert main(["export", "--url", sqlite_url]) == main(["show", "chat_1", "--raw", "--url", target]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["text"] for line in lines[2:5]] == lines[6:] == stored


@pytest.fixture
def exported(run: Run, tmp_path: Path) -> Callable[..., str]:
    """A function that writes an export's lines, all or so many, into a file."""

    def export(lines: int | None = None, *, without_end_of_line: bool = False) -> str:
        text = "".join(run("export").out.splitlines(keepends=True)[:lines])
        file = tmp_path / "export.jsonl"
        file.write_text(text[:-9] if without_end_of_line else text, encoding="utf-8")
        return str(file)

    return export


@pytest.mark.parametrize("within_a_line", [False, True])
def test_an_export_that_was_cut_is_not_taken_for_a_whole_one(
    run: Run, make_url: Callable[[str], str], exported: Callable[..., str], within_a_line: bool
) -> None:
    result = run("import", exported(4, without_end_of_line=within_a_line), "--url", make_url("sqlite"))
    assert result.status == 1
    assert "export once more" in result.err


def test_an_export_that_lacks_a_line_is_not_taken_for_a_whole_one(run: Run, make_url: Any, tmp_path: Path) -> None:
    lines = run("export").out.splitlines(keepends=True)
    file = tmp_path / "export.jsonl"
    file.write_text("".join(lines[:4] + lines[5:]), encoding="utf-8")
    result = run("import", str(file), "--url", make_url("sqlite"))
    assert (result.status, "has 11 lines of 12" in result.err) == (1, True)


@pytest.mark.parametrize("choice", ["append", "replace"])
def test_a_file_that_was_cut_changes_no_conversation_that_is_there(
    run: Run, exported: Callable[..., str], choice: str
) -> None:
    before = shape(run("export"))
    assert run("import", exported(4), "--on-existing", choice).status == 1
    assert shape(run("export")) == before


def test_skip_completes_what_an_interrupted_import_began(
    run: Run, sql_url: str, make_url: Callable[[str], str], exported: Callable[..., str]
) -> None:
    target = make_url("sqlite")
    with sessions.connect(sql_url) as backend, sessions.connect(target) as begun:
        begun.load("chat_1", list(backend.session("chat_1").records())[:2])
    result = run("import", exported(), "--url", target, "--on-existing", "skip")
    assert result.err == "imported 3 sessions, 7 items\n"
    assert shape(run("export", "--url", target)) == shape(run("export"))


def test_a_conversation_to_which_an_old_one_was_appended_is_not_idle(run: Run, exported: Callable[..., str]) -> None:
    assert run("import", exported(), "--on-existing", "append").status == 0
    assert run("prune", "--older-than", "12h", "--dry-run").err == "nothing to delete\n"


def test_times_with_a_zone_are_imported_as_utc(make_url: Callable[[str], str], tmp_path: Path) -> None:
    url, file = make_url("sqlite"), tmp_path / "export.jsonl"
    head = '{"session_id": "new", "updated_at": "2026-03-14T09:26:04+02:00"}'
    file.write_text(f'{{"agent_sessions_export": 1}}\n{head}\n{{"agent_sessions_export_end": 1}}\n')
    assert main(["import", str(file), "--url", url]) == 0
    with sessions.connect(url) as backend:
        assert str(backend.list_sessions()[0].updated_at) == "2026-03-14 07:26:04"


def test_a_copy_is_the_same_and_can_be_repeated(run: Run, make_url: Callable[[str], str]) -> None:
    target = make_url("sqlite")
    first = run("copy", target)
    assert first.status == 0
    assert first.err.startswith("copied 3 sessions, 9 items in ")
    assert first.err.endswith("checksums equal\n")
    assert shape(run("export", "--url", target)) == shape(run("export"))
    assert run("copy", target, "chat_1").err.startswith("copied 1 session, 0 items in ")


@each_mysql
@pytest.mark.parametrize("command", ["copy", "import"])
def test_what_the_target_does_not_take_is_named_and_the_others_are_there(
    command: str, server_url: str, make_url: Callable[[str], str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = make_url("sqlite")
    with sessions.connect(source) as backend:
        for name in ("a", "m", "z"):
            backend.session(name).add_items(items("x" * 70_000 if name == "m" else name))
    with sessions.connect(server_url) as backend:
        backend.session("made").clear_session()
    execute_sql(server_url, "ALTER TABLE agent_messages MODIFY message_data TEXT NOT NULL")
    if command == "copy":
        result = run_command(capsys, ("copy", server_url, "--url", source))
    else:
        file = tmp_path / "export.jsonl"
        file.write_text(run_command(capsys, ("export", "--url", source)).out, encoding="utf-8")
        result = run_command(capsys, ("import", str(file), "--url", server_url))
    assert result.status == 1
    assert "session 'm': " in result.err
    assert "LONGTEXT" in result.err
    with sessions.connect(server_url) as backend:
        assert [texts(backend.session(name).get_items()) for name in ("a", "m", "z")] == [["a"], [], ["z"]]


def test_a_time_that_cannot_be_read_is_no_difference(
    make_url: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = make_url("sqlite"), make_url("sqlite")
    with sessions.connect(source) as backend:
        backend.session("chat_1").add_items(items("a", "b"))
    execute_sql(source, "UPDATE agent_messages SET created_at = 1767225600000 WHERE id = 1")
    for _ in range(2):
        copied = run_command(capsys, ("copy", target, "--url", source))
        assert (copied.status, copied.err.endswith("checksums equal\n")) == (0, True), copied.err


def test_a_copy_to_another_time_zone_says_so(
    postgresql_url: str, make_url: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    execute_sql(postgresql_url, f"ALTER DATABASE {postgresql_url.rpartition('/')[2]} SET timezone = 'Etc/GMT+8'")
    with sessions.connect(postgresql_url) as backend:
        backend.session("chat_1").add_items(items("a"))
    assert main(["copy", make_url("sqlite"), "--url", postgresql_url]) == 0
    assert "8 h older than it is" in capsys.readouterr().err


@pytest.mark.parametrize(("zone", "said"), [("Etc/GMT-9", "9 h older than it is"), ("UTC", "")])
def test_an_import_into_another_time_zone_says_so(
    zone: str,
    said: str,
    postgresql_url: str,
    make_url: Callable[[str], str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    execute_sql(postgresql_url, f"ALTER DATABASE {postgresql_url.rpartition('/')[2]} SET timezone = '{zone}'")
    source = make_url("sqlite")
    with sessions.connect(source) as backend:
        backend.session("chat_1").add_items(items("a"))
    assert main(["export", "--url", source]) == 0
    file = tmp_path / "export.jsonl"
    file.write_text(capsys.readouterr().out)
    assert main(["import", str(file), "--url", postgresql_url]) == 0
    first, *rest = capsys.readouterr().err.splitlines()
    assert (said in first, rest) == (True, ["imported 1 session, 1 items"] if said else [])


def test_fork_copies(run: Run, sql_url: str) -> None:
    assert run("fork", "chat_1", "chat_9") == (0, "", "'chat_1' was copied to 'chat_9'\n")
    with sessions.connect(sql_url) as backend:
        assert texts(backend.session("chat_9").get_items()) == ["Hello, the lamp", "Good day", "chat_1"]
        [first, second, _] = [record.id for record in backend.session("chat_1").records()]
    assert run("fork", "chat_1", "chat_8", "--upto", f"#{second}").status == 0
    assert len(run("show", "chat_8", "--raw").lines) == 2
    result = run("fork", "chat_1", "chat_2")
    assert (result.status, "'chat_2' is there already" in result.err) == (1, True)
    result = run("fork", "chat_2", "chat_7", "--upto", str(first))
    assert (result.status, f"has no record {first}" in result.err) == (1, True)
    assert run("show", "chat_7").status == 1


def test_rm_deletes_when_it_may(run: Run) -> None:
    refused = run("rm", "chat_1")
    assert (refused.status, refused.err) == (2, NOT_ASKED)
    dry = run("rm", "chat_1", "--dry-run")
    assert (dry.status, dry.out) == (0, "chat_1\n")
    assert re.fullmatch(r"would delete 1 session, 3 items, \d+ B, newest 20\d\d-\d\d-\d\d\n", dry.err)
    assert len(run("ls").lines) == 3
    assert run("rm", "chat_1", "chat_2", "--yes") == (0, "", "deleted 2 sessions\n")
    assert len(run("ls").lines) == 1


@pytest.mark.parametrize("command", ["show", "export", "rm"])
def test_a_conversation_without_its_row_is_found_by_its_id(
    sqlite_url: str, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("Hello", "Good day"))
        execute_sql(sqlite_url, "DELETE FROM agent_sessions")
        assert main([command, "chat_1", "--url", sqlite_url, *(["--yes"] if command == "rm" else [])]) == 0
        printed = capsys.readouterr()
        assert printed.err == ("deleted 1 session\n" if command == "rm" else "")
        assert ("Hello" in printed.out) == (command != "rm")
        assert bool(backend.session("chat_1").get_items()) == (command != "rm")


def test_what_is_long_is_counted_before_it_is_deleted(sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items([item("x")] * 1002)
    main(["ls", "--url", sqlite_url])
    main(["rm", "chat_1", "chat_1", "--dry-run", "--url", sqlite_url])
    printed = capsys.readouterr()
    assert printed.out.split("\t")[1] == "1002"
    assert printed.err.startswith("would delete 1 session, 1,002 items, ")


def test_rm_of_one_that_is_not_there_deletes_none(run: Run) -> None:
    result = run("rm", "chat_1", "chat_7", "--yes")
    assert result.status == 1
    assert "no session 'chat_7'" in result.err
    assert len(run("ls").lines) == 3


def test_prune_deletes_what_is_idle(run: Run) -> None:
    dry = run("prune", "--older-than", "36h", "--keep-prefix", "other", "--dry-run")
    assert (dry.out, dry.err.startswith("would delete 1 session, 3 items, ")) == ("chat_2\n", True)
    assert run("prune", "--older-than", "36h").status == 2
    # The rows themselves are new: another program may have added them without noting the time.
    assert run("prune", "--older-than", "36h", "--yes").err == "deleted 0 sessions, 0 items\n"
    assert run("prune", "--older-than", "9d") == (0, "", "nothing to delete\n")


def test_prune_deletes_what_was_idle_when_it_was_counted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = []
    prune, list_sessions = sessions.Backend.prune, sessions.Backend.list_sessions

    def note_prune(backend: sessions.Backend, older_than: Any, **options: Any) -> Any:
        moments.append(older_than)
        return prune(backend, older_than, **options)

    def note_list(backend: sessions.Backend, **options: Any) -> Any:
        moments.append(options["idle_since"])
        return list_sessions(backend, **options)

    monkeypatch.setattr(sessions.Backend, "prune", note_prune)
    monkeypatch.setattr(sessions.Backend, "list_sessions", note_list)
    monkeypatch.setattr("sessions._command.deleting.confirm", lambda _, infos, *__, **___: len(list(infos)))
    assert run("prune", "--older-than", "36h").status == 0
    assert len(moments) >= 2
    assert len(set(moments)) == 1
    assert isinstance(moments[0], datetime)


@pytest.mark.parametrize("dialect", ["sqlite", "postgresql", "mysql"])
def test_schema_prints_the_statements_with_the_chosen_names(
    dialect: str, make_url: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema", dialect, "--sessions-table", "talks"]) == 0
    printed = capsys.readouterr().out
    assert "CREATE TABLE IF NOT EXISTS" in printed
    assert "talks" in printed
    assert "agent_sessions" not in printed
    if dialect == "sqlite":
        url = make_url("sqlite")
        for statement in printed.split(";\n"):
            execute_sql(url, statement)
        with sessions.connect(url, create_tables=False, sessions_table="talks") as backend:
            backend.session("chat_1").add_items(items("a"))


def test_check_says_what_it_finds(run: Run, sql_url: str) -> None:
    result = run("check")
    assert result.status == 0
    assert {line.split("\t")[1] for line in result.lines} == {"ok"}
    [found] = run("check", "--json").objects
    assert found["schema_version"] == 1
    assert {"name", "verdict", "found", "remedy"} == set(found["checks"][0])
    execute_sql(sql_url, "DROP TABLE agent_messages")
    assert run("check").status == 1
    assert run("check", "--fix").status == 0
    assert run("check").status == 0


def test_stats_count_and_name_the_biggest(run: Run, sql_url: str) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("big").add_items(items("x" * 1000, "y"))
        stored = {
            name: sum(len(record.text) for record in backend.session(name).records())
            for name in ("chat_1", "chat_2", "other", "big")
        }
    lines = [line.split("\t") for line in run("stats").lines]
    assert lines[0] == ["all", "4", "11", str(sum(stored.values()))]
    assert sum(int(line[2]) for line in lines if line[0] == "day") == 11
    assert next(line[1:] for line in lines if line[0] == "session") == ["big", "2", str(stored["big"])]
    [found] = run("stats", "--json", "--prefix", "chat_", "--biggest", "1").objects
    assert (found["schema_version"], found["sessions"], found["items"]) == (1, 2, 6)
    assert found["bytes"] == stored["chat_1"] + stored["chat_2"]
    assert len(found["biggest"]) == 1


def test_the_demo_is_a_file_that_the_commands_it_names_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a demo.db"
    assert main(["demo", str(file)]) == 0
    export, *commands = capsys.readouterr().out.splitlines()
    name, _, url = shlex.split(export)[1].partition("=")
    monkeypatch.setenv(name, url)
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0
        assert capsys.readouterr().out
    assert main(["demo", str(file)]) == 1
    assert "is there already" in capsys.readouterr().err


# --- what goes wrong


@pytest.mark.parametrize("command", ["show", "export", "rm"])
def test_an_id_that_is_not_there_is_named_with_what_is_like_it(run: Run, command: str) -> None:
    result = run(command, "chat_11")
    assert result.status == 1
    assert "no session 'chat_11' in " in result.err
    assert "'chat_1'" in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize(
    "wrong",
    [[], ["lsx"], ["show"], ["ls", "--limit", "0"], ["ls", "--limit", "x"], ["prune"], ["prune", "--older-than", "3"]],
    ids=" ".join,
)
def test_wrong_usage_is_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(wrong)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "--help` says more" in err


def test_without_a_url_it_says_what_to_pass(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SESSIONS_URL", raising=False)
    assert main(["ls"]) == 2
    assert "--url" in capsys.readouterr().err


def test_a_look_makes_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--url", f"sqlite:///{tmp_path}/none.db"]) == 1
    assert "none.db" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_password_from_a_file_is_used_and_not_printed(
    run: Run, postgresql_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "password"
    file.write_text("wrong p@ss\n")
    url = with_parts(postgresql_url, user="nobody", password="").replace("nobody:@", "nobody@")
    result = main(["ls", "--url", url, "--password-file", str(file)])
    printed = capsys.readouterr()
    assert result == 1
    assert "wrong p@ss" not in printed.out + printed.err


def test_an_error_has_a_traceback_only_when_it_is_asked_for(run: Run) -> None:
    with pytest.raises(sessions.InvalidURLError):
        run("ls", "--url", "nonsense:x", "--debug")
    result = run("ls", "--url", "nonsense:x")
    assert result.status == 2
    assert result.err.count("\n") == 1


def test_options_may_stand_before_the_command(sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("x"))
    assert main(["--url", sqlite_url, "--quiet", "ls", "--json"]) == 0
    assert '"chat_1"' in capsys.readouterr().out


def test_every_common_option_may_stand_before_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--url=x", "--engine", "tidb", "--color", "never", "--tls-ca", "ls", "--debug")
    assert rotated([*options, "show", "chat_1"]) == ["show", *options, "chat_1"]
    assert rotated(["a=b", "ls"]) == ["a=b", "ls"]


def test_a_file_that_is_no_text_is_a_failure_and_no_wrong_usage(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "export.jsonl"
    file.write_bytes(b"\xe4\xff\n")
    result = run("import", str(file))
    assert (result.status, "no text in UTF-8" in result.err) == (1, True)


def test_missing_tables_are_answered_with_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "empty.db"
    file.touch()
    assert main(["ls", "--url", f"sqlite:{file}"]) == 1
    err = capsys.readouterr().err
    assert "`check --fix` with them makes the tables" in err
    assert "create_tables" not in err


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:hunter2@127.0.0.1/x",
        "postgresql://127.0.0.1/x?user=app&password=hunter2",
        "postgresql://app:a/hunter2@127.0.0.1/x",
        "postgresql://app:a hunter2@127.0.0.1/x",
        "postgresql://app:a@hunter2@127.0.0.1/x",
        "postgresql://app:a: hunter2\n'\"@127.0.0.1/x",
        "hunter2 postgresql://app@127.0.0.1/x",
    ],
)
@pytest.mark.parametrize(
    "wrong",
    [
        *("--url {} lsx", "{} ls", "ls {}", "--color {} ls", "--color={} ls", "ls --limit {}", "ls --limit={}"),
        *("ls --all={}", "ls --nothing={}", "ls --tls={}", "prune --older-than {}", "schema {}", "ls {} {}"),
        *("show chat_1 {}", "fork a b --upto {}", "import f --on-existing {}", "{}"),
    ],
)
def test_no_wrong_usage_repeats_a_password(wrong: str, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([word.format(url) for word in wrong.split()])
    printed = capsys.readouterr()
    assert printed.err
    assert "hunter2" not in printed.out + printed.err


@pytest.mark.parametrize("wrong", ["show {}", "rm {} --yes", "import {}", "export {}", "ls --password-file {}"])
def test_no_failure_repeats_the_password_of_a_url_in_the_place_of_something_else(wrong: str, run: Run) -> None:
    for url in ("postgresql://app@h/x?password=hunter2", "mysql://app:hunter2 '\n@h/x"):
        result = run(*(word.format(url) for word in wrong.split()))
        assert result.status
        assert result.err
        assert "hunter2" not in result.out + result.err


@pytest.mark.parametrize(
    "command", ["ls", "show x", "grep x", "stats", "check", "export", "prune --older-than 9d --dry-run"]
)
def test_a_file_of_another_application_stays_as_it_is(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE agent_sessions (sid, title)")
        connection.commit()
    before = file.read_bytes()
    assert main([*command.split(), "--url", f"sqlite:{file}"]) == 1
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["other.db"]


def test_a_fix_makes_nothing_beside_a_table_of_another_application(
    sql_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    execute_sql(sql_url, "CREATE TABLE agent_sessions (sid INTEGER)")
    for fix in ([], ["--fix"]):
        assert main(["check", *fix, "--url", sql_url]) == 1
        out = capsys.readouterr().out
        assert "agent_sessions has no column session_id" in out
        assert "another application" in out
    with pytest.raises(Exception, match="agent_messages"):
        execute_sql(sql_url, "SELECT * FROM agent_messages")


def test_a_copy_onto_itself_is_refused(run: Run, sql_url: str) -> None:
    result = run("copy", sql_url)
    assert (result.status, "one database" in result.err) == (2, True)


def test_schemas_of_one_database_are_two_places(postgresql_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (with_parts(postgresql_url, query=f"options=-csearch_path%3D{name}") for name in ("one", "other"))
    for url, name in ((one, "one"), (other, "other")):
        execute_sql(postgresql_url, f"CREATE SCHEMA {name}")
        with sessions.connect(url) as backend:
            backend.session(name).add_items(items("x"))
    copied = run_command(capsys, ["copy", "--url", one, other])
    assert (copied.status, "1 items" in copied.err) == (0, True), copied.err
    with sessions.connect(other) as backend:
        assert sorted(info.session_id for info in backend.list_sessions()) == ["one", "other"]
    assert run_command(capsys, ["copy", "--url", one, one]).status == 2


def test_a_file_without_a_scheme_is_answered_with_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--url", "chat.db"]) == 2
    assert "write 'sqlite:chat.db'" in capsys.readouterr().err


def test_a_directory_is_named_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--url", f"sqlite:{tmp_path}"]) == 1
    assert "is a directory; name the file in it" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["3m", "0d", "999999999999w", "d", "9", "-1d"])
def test_a_time_that_could_be_misread_is_refused(run: Run, text: str) -> None:
    assert run("prune", "--older-than", text, "--yes").status == 2
    assert len(run("ls").lines) == 3


def test_a_hit_is_marked_where_it_is(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("Großer Straßenlärm, a CRACKED lid, Öl"))
    for wanted in (["cracked lid", "-i"], ["CRACKED lid"], ["strassenlärm", "-i"]):
        out = on_terminal(["grep", *wanted, "--url", sqlite_url], 80)
        hit = re.findall(r"\x1b\[1m(.*?)\x1b\[0m", out)
        assert [found.casefold() for found in hit] == [wanted[0].casefold()]


def test_grep_finds_what_was_said_and_not_what_the_api_calls_it(sqlite_run: Run) -> None:
    for word in ("function_call", "output_text", "user"):
        assert sqlite_run("grep", word).status == 1
    assert [line.split("\t")[-1] for line in sqlite_run("grep", "the stock").lines] == ["Look into the stock"]


def test_a_shell_is_told_how_far_all_ids_are_alike(sqlite_url: str) -> None:
    from sessions._command.completion import _session_ids

    with sessions.connect(sqlite_url) as backend:
        for number in range(300):
            backend.session(f"chat_{number:03}").add_items(items("x"))
    parsed = make_parser().parse_args(["show", "c", "--url", sqlite_url])
    assert {found[5] for found in _session_ids("c", parsed)} == {"0", "2"}


# --- as a process


def process(*arguments: str, **settings: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "sessions", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        **settings,
    )


def test_a_reader_that_goes_away_is_no_failure(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items([item("x" * 1000)] * 2000)
    with process("show", "chat_1", "--all", "--url", sqlite_url) as command:
        assert command.stdout is not None
        assert command.stderr is not None
        command.stdout.readline()
        command.stdout.close()
        assert command.stderr.read() == ""
    assert command.returncode == 0


def test_a_verdict_that_nobody_reads_to_its_end_is_none(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("a"))
    script = f"{sys.executable} -P -m sessions check --url '{sqlite_url}' | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", script], stderr=subprocess.PIPE, check=False, text=True)
    assert (result.returncode, "output was closed" in result.stderr) == (1, True)


def test_follow_shows_what_is_added_until_ctrl_c(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("first"))
        with process("show", "chat_1", "--follow", "--raw", "--url", sqlite_url) as command:
            assert command.stdout is not None
            assert command.stderr is not None
            assert '"first"' in command.stdout.readline()
            backend.session("chat_1").add_items(items("second"))
            assert '"second"' in command.stdout.readline()
            # More at once than a page holds.
            backend.session("chat_1").add_items(items(*map(str, range(700))))
            for number in range(700):
                assert f'"{number}"' in command.stdout.readline()
            command.send_signal(signal.SIGINT)
            assert "interrupted" in command.stderr.read()
        assert command.returncode == 1


def test_follow_shows_all_of_a_large_addition(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("first"))
        with process("show", "chat_1", "--follow", "--raw", "--url", sqlite_url) as command:
            assert command.stdout is not None
            command.stdout.readline()
            backend.session("chat_1").add_items([item(str(number)) for number in range(1200)])
            added = [""]
            while added[-1] != "1199":
                added.append(json.loads(command.stdout.readline())["content"])
            command.send_signal(signal.SIGINT)
    assert added[1:] == [str(number) for number in range(1200)]


@pytest.mark.parametrize("command", ["ls", "schema sqlite", "show chat_1 --all"])
def test_an_output_that_is_full_is_a_failure_in_one_line(sqlite_url: str, command: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items([item("x" * 1000)] * 20)
    with Path("/dev/full").open("w") as full:
        result = output_of(*command.split(), "--url", sqlite_url, stdout=full, stderr=subprocess.PIPE)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert "No space left" in result.stderr


def test_pages_that_fill_the_disk_are_a_failure_in_one_line_with_file_and_remedy(
    sqlite_url: str, tmp_path: Path
) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items([item("x" * 10_000)] * 50)
    # To the process its largest file is what the disk is to everybody.
    script = f"ulimit -f 200; exec {sys.executable} -P -m sessions export --full --html pages --url {sqlite_url}"
    result = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False, text=True
    )
    assert result.returncode == 1
    name = r"pages/chat_1-\w+\.html"
    assert re.fullmatch(
        rf"agent-sessions: '{name}': file too large; make room for it, and give the command again\n", result.stderr
    )
    assert list((tmp_path / "pages").iterdir()) == []


def test_a_help_that_nobody_reads_to_its_end_is_no_failure() -> None:
    script = f"{sys.executable} -P -m sessions --help | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", script], stderr=subprocess.PIPE, check=False, text=True)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "2>/dev/full", "2>&1 | true; exit ${PIPESTATUS[0]}"])
def test_what_nobody_can_read_changes_no_exit_code(sqlite_url: str, closed: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("Hello"))
    for arguments, status in (("rm chat_2 --yes", 1), ("rm chat_1 --yes", 0)):
        script = f"{sys.executable} -P -m sessions {arguments} --url '{sqlite_url}' {closed}"
        result = subprocess.run(["bash", "-c", script], stderr=subprocess.PIPE, check=False, text=True)
        assert result.returncode == status
        assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        *(
            "export",
            "ls",
            "ls --json",
            "show chat_1",
            "show chat_1 --raw",
            "grep Hello",
            "stats",
            "check",
            "schema sqlite",
        ),
        "rm chat_1 --dry-run",
    ],
)
def test_an_output_that_is_closed_is_a_failure_in_one_line(sqlite_url: str, command: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("Hello"))
    script = f"exec {sys.executable} -P -m sessions {command} --url '{sqlite_url}' >&-"
    result = subprocess.run(["bash", "-c", script], stderr=subprocess.PIPE, check=False, text=True)
    said = "agent-sessions: standard output is closed; send it to a file, or to /dev/null\n"
    assert (result.returncode, result.stderr) == (1, said)


@pytest.mark.parametrize(("command", "status"), [("--help", 0), ("--version", 0), ("nothing", 2)])
def test_what_is_said_without_a_database_needs_no_output(command: str, status: int) -> None:
    script = f"exec {sys.executable} -P -m sessions {command} >&-"
    result = subprocess.run(["bash", "-c", script], stderr=subprocess.PIPE, check=False, text=True)
    assert (result.returncode, "Traceback" in result.stderr) == (status, False)


def output_of(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "sessions", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(command, text=True, check=False, env=environment, **settings)


def test_an_encoding_without_the_characters_is_no_failure(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("日本"))
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    with process("show", "chat_1", "--url", sqlite_url, env=environment) as command:
        out, err = command.communicate()
    assert (command.returncode, err) == (0, "")
    assert "\\u65e5" in out


def test_on_a_terminal_ls_is_a_table_that_fits(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_with_a_long_name").add_items(items("Hello"))
        set_updated_at(backend, "chat_with_a_long_name", time.time() - timedelta(hours=3).total_seconds())
    for columns, expected in ((80, 2), (46, 2)):
        out = on_terminal(["ls", "--url", sqlite_url, "--color", "never"], columns)
        lines = [line for line in out.replace("\r", "").splitlines() if line]
        assert lines[0].split()[:2] == ["SESSION", "ITEMS"]
        assert lines[1].startswith("chat_with_a_long_name")
        assert all(len(line) <= columns for line in lines[:expected])
        assert "3h" in lines[1]
        assert ("UPDATED" in lines[0]) == (columns == 80)


def test_markdown_is_drawn_on_a_terminal_and_hides_nothing(sqlite_url: str) -> None:
    answer = (
        "**Bold** and `code`\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n<b>tag</b>\n\n<div>\nblock\n</div>\n\n\x1b]0;t\x07"
    )
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items([{"role": "assistant", "content": answer}])
    out = on_terminal(["show", "chat_1", "--url", sqlite_url, "--color", "never"], 80)
    assert "**" not in out
    assert "Bold and code" in out
    assert "|---" not in out
    assert all(text in out for text in ("<b>tag</b>", "<div>", "block", "\\x1b]0;t\\x07"))
    assert "\x1b]" not in out


@pytest.mark.parametrize(
    "answer",
    [
        "turned &#x202e;txt.exe shown",
        "| a |\n|---|\n| 1 | shown |",
        "> " * 60 + "shown",
        "[a]: https://example.org 'shown'",
    ],
    ids=["a reference to a character", "a cell without a column", "deeper than Markdown goes", "a definition"],
)
def test_markdown_loses_and_turns_no_text(sqlite_url: str, answer: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items([{"role": "assistant", "content": answer}])
    out = on_terminal(["show", "chat_1", "--url", sqlite_url, "--color", "never"], 80)
    assert "shown" in out
    assert "\u202e" not in out


def test_long_lines_are_cut_on_a_terminal_alone(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("x" * 10_000))
    assert "more characters (--full)" in on_terminal(["show", "chat_1", "--url", sqlite_url], 80)
    whole = on_terminal(["show", "chat_1", "--url", sqlite_url, "--full"], 80)
    assert whole.count("x") == 10_000
    assert all(len(line) <= 80 for line in whole.splitlines() if "x" in line)


def test_the_heading_of_a_long_conversation_counts_all_of_it(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items([item("x")] * 1500)
    assert "200 of 1,500 items" in on_terminal(["show", "chat_1", "--url", sqlite_url], 100)


def test_a_shell_completes_commands_and_ids(sqlite_url: str, tmp_path: Path) -> None:
    with sessions.connect(sqlite_url) as backend:
        for name in ("chat_1", "chat_2", "other"):
            backend.session(name).add_items(items("x"))

    def completed(line: str) -> list[str]:
        answer = tmp_path / "answer"
        environment = os.environ | {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
            "COMP_TYPE": "9",
        }
        command = [str(Path(sys.executable).with_name("agent-sessions"))]
        done = subprocess.run(command, env=environment | {"SESSIONS_URL": sqlite_url}, capture_output=True, check=False)
        assert (done.stdout, done.stderr) == (b"", b"")
        return answer.read_text(encoding="utf-8").split()

    assert completed("agent-sessions gre") == ["grep"]
    assert completed("agent-sessions show chat_") == ["chat_1", "chat_2"]
    empty = tmp_path / "empty.db"
    empty.touch()
    assert completed(f"agent-sessions rekey --url sqlite:///{empty} chat_") == []
    assert empty.stat().st_size == 0


def test_what_was_asked_for_is_not_left_out_of_a_table(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("support:anna:1008.0").add_items(items("Where is my parcel? " * 10))
    for columns in (50, 60, 80, 120):
        heading, row, *_ = on_terminal(["ls", "--first", "--url", sqlite_url, "--color", "never"], columns).splitlines()
        assert heading.split()[-1] == "FIRST"
        assert "Where is" in row
        assert len(row) <= columns


def test_on_a_terminal_rm_says_what_and_asks(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("x", "y"))
        asked = on_terminal(["rm", "chat_1", "--url", sqlite_url], 80, answer="n", status=1)
        assert re.search(r"1 session, 2 items, \d+ B, newest 20\d\d-\d\d-\d\d\. Delete\? \[y/N\]", asked)
        assert "nothing was deleted" in asked
        assert len(backend.list_sessions()) == 1
        assert "deleted 1 session" in on_terminal(["rm", "chat_1", "--url", sqlite_url], 80, answer="y")
        assert backend.list_sessions() == []


def test_on_a_terminal_the_number_of_many_is_to_be_typed(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        for number in range(1001):
            backend.session(f"chat_{number}").add_items(items("x"))
    execute_sql(sqlite_url, "UPDATE agent_sessions SET updated_at = '2020-01-01 00:00:00'")
    execute_sql(sqlite_url, "UPDATE agent_messages SET created_at = '2020-01-01 00:00:00'")
    prune = ["prune", "--older-than", "9d", "--url", sqlite_url]
    assert "type the number of sessions" in on_terminal(prune, 80, answer="y", status=1)
    assert "deleted 1,001 sessions, 1,001 items" in on_terminal(prune, 80, answer="1,001")


def test_on_a_terminal_an_import_asks_before_it_replaces(sqlite_url: str, tmp_path: Path) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("x"))
        file = tmp_path / "export.jsonl"
        file.write_text(on_terminal(["export", "--url", sqlite_url], 80).replace("\r", ""), encoding="utf-8")
        backend.session("chat_1").add_items(items("y"))
        replace = ["import", str(file), "--on-existing", "replace", "--url", sqlite_url]
        assert "1 session, 2 items, " in on_terminal(replace, 80, answer="n", status=1)
        assert len(backend.session("chat_1").get_items()) == 2
        on_terminal(replace, 80, answer="y")
        assert len(backend.session("chat_1").get_items()) == 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("total", [None, 20])
def test_progress_says_how_far_it_is_on_a_terminal(total: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sessions._command.progress._QUIET", 0.0)
    monkeypatch.setattr("sessions._command.progress._EVERY", 0.0)
    terminal = Terminal()
    progress = Progress(Stream(terminal), "copy", total=total, quiet=False)
    for _ in range(10):
        progress.add(1)
    line = terminal.getvalue().rpartition("\r\x1b[K")[2]
    expected = r"copy  10 items  [\d,]+/s" if total is None else r"copy  10 / 20 items  50%  [\d,]+/s  0:00 left"
    assert re.fullmatch(expected, line)
    progress.end()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_progress_is_whole_lines_where_there_is_no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    progress = Progress(Stream(file), "copy", total=20, quiet=False)
    progress.add(1)
    assert file.getvalue() == ""
    monkeypatch.setattr(progress, "_every", 0.0)
    progress.add(1)
    progress.end()
    assert re.fullmatch(r"copy  2 / 20 items  10%  [\d,]+/s  0:00 left\n", file.getvalue())


def on_terminal(arguments: list[str], columns: int, *, answer: str = "", status: int = 0) -> str:
    """Run the command on a terminal, with what is typed there; return what it has written."""
    import pty

    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "sessions", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    ) as command:
        os.close(theirs)
        if answer:
            os.write(ours, f"{answer}\n".encode())
        written = b""
        try:
            while part := os.read(ours, 4096):
                written += part
        except OSError:  # the other end is closed
            pass
        assert command.wait() == status, written
    os.close(ours)
    return written.decode()


def test_what_is_rewritten_while_it_is_exported_is_read_again(
    run: Run, sql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with sessions.connect(sql_url) as backend:
        session = backend.session("chat_1")
        session.add_items(items(*[f"old {number}" for number in range(60)]))
        read = History.records
        rewritten: list[bool] = []

        def records(history: History, limit: int | None = None) -> Iterator[sessions.Record]:
            for record in read(history, limit):
                yield record
                if not rewritten:
                    rewritten.append(True)
                    session.replace_items([*session.get_items()[1:], item("new")])

        monkeypatch.setattr(History, "records", records)
        exported = [json.loads(line) for line in run("export", "chat_1").out.splitlines()]
        monkeypatch.undo()
        assert rewritten
        assert [row["id"] for row in exported if "id" in row] == [record.id for record in session.records()]
