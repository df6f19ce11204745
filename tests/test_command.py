"""The command `agent-sessions`: what it writes, and what it says when it cannot."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import sessions
from sessions._command import commands
from sessions._command.main import main
from support.rivals import eventually, set_updated_at
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


class Result(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


Run = Callable[..., Result]


@pytest.fixture
def run(sql_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A function that runs a command on a database in which three conversations are."""
    monkeypatch.setenv("SESSIONS_URL", sql_url)
    with sessions.connect(sql_url) as backend:
        for number, name in enumerate(("chat_1", "chat_2", "other")):
            backend.session(name).add_items(items("Hello, the lamp", "Good day", name))
            set_updated_at(backend, name, time.time() - 86_400 * (number + 1))

    def run(*arguments: str) -> Result:
        try:
            status = main(arguments)
        except SystemExit as exc:
            status = int(exc.code or 0)
        return Result(status, *capsys.readouterr())

    return run


@pytest.fixture
def sqlite_run(make_url: Callable[[str], str], capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """A function that runs a command on a SQLite file with the conversation."""
    url = make_url("sqlite")
    with sessions.connect(url) as backend:
        backend.session("chat_1").add_items(CONVERSATION)

        def run(*arguments: str) -> Result:
            return Result(main([*arguments, "--url", url]), *capsys.readouterr())

        yield run


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
    assert sorted(first) == ["created_at", "first", "items", "session_id", "updated_at"]
    assert (first["session_id"], first["items"], first["first"]) == ("chat_1", 3, "Hello, the lamp")
    assert run("ls", "--first").lines[0].endswith("\tHello, the lamp")


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
    assert (header, end) == ({"agent_sessions_export": 1}, {"agent_sessions_export_end": 1})
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
        assert run("import", str(file), "--url", target, "--on-existing", "replace").status == 0
        assert shape(run("export", "--url", target)) == shape(run("export"))
        run("import", str(file), "--url", target, "--on-existing", "append")
        assert len(backend.session("chat_1").get_items()) == 6


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


def test_fork_copies(run: Run, sql_url: str) -> None:
    assert run("fork", "chat_1", "chat_9") == (0, "", "")
    with sessions.connect(sql_url) as backend:
        assert texts(backend.session("chat_9").get_items()) == ["Hello, the lamp", "Good day", "chat_1"]
    result = run("fork", "chat_1", "chat_2")
    assert result.status == 1
    assert "'chat_2' is there already" in result.err


def test_rm_deletes_when_it_may(run: Run) -> None:
    refused = run("rm", "chat_1")
    assert (refused.status, refused.err) == (2, "agent-sessions: --yes required when not running interactively\n")
    dry = run("rm", "chat_1", "--dry-run")
    assert (dry.status, dry.out, dry.err) == (0, "chat_1\n", "would delete 1 session, 3 items\n")
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
    assert printed.out.split("\t")[1] == "1000+"
    assert printed.err == "would delete 1 session, 1,002 items\n"


def test_prune_deletes_nothing_that_was_young_when_it_counted(sqlite_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def think(context: commands.Context, *_: object) -> None:
        old_enough = int(time.time()) - 60 + 1
        set_updated_at(context.backend, "young", old_enough)
        assert eventually(lambda: time.time() - 60 > old_enough)

    monkeypatch.setattr(commands, "_confirm", think)
    with sessions.connect(sqlite_url) as backend:
        for name, age in (("young", 0), ("old", 86_400)):
            backend.session(name).add_items(items("Hello"))
            set_updated_at(backend, name, time.time() - age)
        execute_sql(sqlite_url, "UPDATE agent_messages SET created_at = '2020-01-01 00:00:00'")
        assert main(["prune", "--older-than", "1m", "--url", sqlite_url]) == 0
        assert [info.session_id for info in backend.list_sessions()] == ["young"]


def test_rm_of_one_that_is_not_there_deletes_none(run: Run) -> None:
    result = run("rm", "chat_1", "chat_7", "--yes")
    assert result.status == 1
    assert "no session 'chat_7'" in result.err
    assert len(run("ls").lines) == 3


def test_prune_deletes_what_is_idle(run: Run) -> None:
    assert run("prune", "--older-than", "36h", "--keep-prefix", "other", "--dry-run").err.startswith("would delete 1 ")
    assert run("prune", "--older-than", "36h").status == 2
    # The rows themselves are new: another program may have added them without noting the time.
    assert run("prune", "--older-than", "36h", "--yes").err == "deleted 0 sessions, 0 items\n"
    assert run("prune", "--older-than", "9d", "--yes") == (0, "", "nothing to delete\n")


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
    assert "usage:" in capsys.readouterr().err


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
    result = main(["ls", "--url", with_parts(postgresql_url, user="nobody", password=""), "--password-file", str(file)])
    printed = capsys.readouterr()
    assert result == 1
    assert "wrong p@ss" not in printed.out + printed.err


def test_an_error_has_a_traceback_only_when_it_is_asked_for(run: Run) -> None:
    with pytest.raises(sessions.InvalidURLError):
        run("ls", "--url", "nonsense:x", "--debug")
    result = run("ls", "--url", "nonsense:x")
    assert result.status == 1
    assert result.err.count("\n") == 1


# --- as a process


def process(*arguments: str, **settings: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sessions", *arguments],
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


def test_follow_shows_what_is_added_until_ctrl_c(sqlite_url: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("first"))
        with process("show", "chat_1", "--follow", "--raw", "--url", sqlite_url) as command:
            assert command.stdout is not None
            assert command.stderr is not None
            assert '"first"' in command.stdout.readline()
            backend.session("chat_1").add_items(items("second"))
            assert '"second"' in command.stdout.readline()
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


@pytest.mark.parametrize("closed", [">&-", "2>&-", "2>/dev/full", "2>&1 | true; exit ${PIPESTATUS[0]}"])
def test_what_nobody_can_read_changes_no_exit_code(sqlite_url: str, closed: str) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("Hello"))
    for arguments, status in (("rm chat_2 --yes", 1), ("rm chat_1 --yes", 0)):
        script = f"{sys.executable} -m sessions {arguments} --url '{sqlite_url}' {closed}"
        result = subprocess.run(["bash", "-c", script], stderr=subprocess.PIPE, check=False, text=True)
        assert result.returncode == status
        assert "Traceback" not in result.stderr


def output_of(*arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sessions", *arguments]
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
        assert ("3h" in lines[1]) == (columns == 80)


def on_terminal(arguments: list[str], columns: int) -> str:
    """Run the command with a terminal for its output; return what it has written there."""
    import pty

    ours, theirs = pty.openpty()
    environment = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-m", "sessions", *arguments], stdout=theirs, stderr=subprocess.DEVNULL, env=environment
    ) as command:
        os.close(theirs)
        written = b""
        try:
            while part := os.read(ours, 4096):
                written += part
        except OSError:  # the other end is closed
            pass
        assert command.wait() == 0
    os.close(ours)
    assert eventually(lambda: command.returncode is not None)
    return written.decode()
