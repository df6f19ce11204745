"""`agent-sessions import` and `copy`: what goes wrong changes nothing, and stops nothing else."""

import json
import os
import re
import reprlib
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sessions
from sessions import Backend, Record
from sessions._command.context import Context
from sessions._command.main import main
from sessions._command.moving import copy
from sessions._command.terminal import Stream
from sessions._parts import Part
from sessions._stores.sql import SQLStore
from support.samples import items, refuse_poisoned_rows, texts
from support.servers import execute_sql

COMMAND = [sys.executable, "-m", "sessions"]
HEAD = '{"agent_sessions_export": 1}'
TEXT = json.dumps({"role": "user", "content": "new"})


def end(lines: Any) -> str:
    return json.dumps({"agent_sessions_export_end": 1, "lines": lines})


def head(session_id: Any, **more: Any) -> str:
    return json.dumps({"session_id": session_id, "created_at": None, "updated_at": None} | more)


def record(session_id: Any, text: Any = TEXT, **more: Any) -> str:
    return json.dumps({"session_id": session_id, "id": 1, "created_at": None, "text": text} | more)


Import = Callable[..., tuple[int, str]]


@pytest.fixture
def import_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Import:
    """A function that imports lines into a database, in place of what is there; the exit code and what is said."""

    def run(url: str, *lines: str, how: str = "replace") -> tuple[int, str]:
        file = tmp_path / "export.jsonl"
        file.write_text("".join(line + "\n" for line in lines), encoding="utf-8", errors="surrogatepass")
        capsys.readouterr()
        status = main(["import", str(file), "--on-existing", how, "--yes", "--url", url])
        return status, capsys.readouterr().err

    return run


def all_of(backend: Backend) -> dict[str, list[str]]:
    infos = backend.list_sessions(order="id")
    return {info.session_id: [row.text for row in backend.session(info.session_id).records()] for info in infos}


@pytest.fixture
def precious(sql_url: str) -> Iterator[Backend]:
    with sessions.connect(sql_url) as backend:
        backend.session("keep").add_items(items("precious"))
        yield backend


BAD = {
    "surrogate": ([record("keep"), record("keep", '{"a": "\ud800"}')], "lone surrogate"),
    "twice-apart": ([record("keep"), head("other"), head("keep"), record("keep")], "'keep' comes a second time"),
    "interleaved": ([record("keep"), head("other"), record("other"), record("keep")], "'keep' has a record apart"),
}


@pytest.mark.parametrize("how", ["fail", "skip", "append", "replace"])
@pytest.mark.parametrize("kind", BAD)
def test_a_file_with_what_cannot_be_imported_changes_nothing(
    precious: Backend, sql_url: str, import_lines: Import, kind: str, how: str
) -> None:
    before, (lines, said) = all_of(precious), BAD[kind]
    lines = [head("first"), record("first"), head("keep"), *lines]
    status, err = import_lines(sql_url, HEAD, *lines, end(len(lines)), how=how)
    assert (status, said in err, err.count("\n")) == (1, True, 1)
    assert err.startswith("agent-sessions: line ")
    assert all_of(precious) == before


@pytest.mark.parametrize("how", ["append", "replace"])
def test_what_the_database_refuses_is_named_and_leaves_the_conversation_that_is_there(
    precious: Backend, sql_url: str, import_lines: Import, how: str
) -> None:
    before = all_of(precious)
    refuse_poisoned_rows(sql_url)
    lines = [head("keep"), *[record("keep")] * 600, record("keep", '{"a": "poison"}')]
    status, err = import_lines(sql_url, HEAD, *lines, end(len(lines)), how=how)
    assert (status, err.count("session 'keep': ")) == (1, 1)
    assert all_of(precious) == before


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["mysql", "mariadb"])
def test_an_item_above_the_servers_limit_leaves_the_conversation_that_is_there(
    make_url: Callable[[str], str], import_lines: Import, dialect: str
) -> None:
    url = make_url(dialect)
    [(limit,)] = execute_sql(url, "SELECT @@max_allowed_packet")
    lines = [head("keep"), record("keep"), record("keep", json.dumps({"a": "A" * int(limit)}))]
    with sessions.connect(url) as backend:
        backend.session("keep").add_items(items("precious"))
        status, err = import_lines(url, HEAD, *lines, end(len(lines)))
        assert (status, "session 'keep': " in err) == (1, True)
        assert texts(backend.session("keep").get_items()) == ["precious"]


def test_nul_on_postgresql_leaves_the_conversation_that_is_there(postgresql_url: str, import_lines: Import) -> None:
    with sessions.connect(postgresql_url) as backend:
        backend.session("keep").add_items(items("precious"))
        lines = [head("keep"), record("keep", '{"a":"\0"}')]
        status, err = import_lines(postgresql_url, HEAD, *lines, end(2))
        assert (status, "without NUL" in err) == (1, True)
        assert texts(backend.session("keep").get_items()) == ["precious"]


# --- hostile files

HOSTILE = {
    "deep": "[" * 200_000,
    "deep-id": '{"session_id": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "long-number": '{"session_id": ' + "9" * 5000 + "}",
    "null-id": head(None),
    "number-id": head(123),
    "list-id": head(["a"]),
    "object-id": head({"a": 1}),
    "empty-id": head(""),
    "long-id": head("x" * 256),
    "surrogate-id": head("\ud800"),
    "NUL-id": head("a\0b"),
    "time-before-the-first": head("t", created_at="0001-01-01T00:00:00+14:00"),
    "time-behind-the-last": head("t", updated_at="9999-12-31T23:59:59-14:00"),
    "number-as-time": head("t", created_at=5),
    "list-as-time": head("t", updated_at=[]),
    "number-as-text": record("first", 5),
    "null-as-text": record("first", None),
    "no-end": "",
    "raw-surrogate": '{"session_id": "\ud800"}',
}


@pytest.fixture
def kept(sqlite_url: str) -> Iterator[Backend]:
    with sessions.connect(sqlite_url) as backend:
        backend.session("keep").add_items(items("precious"))
        yield backend


def check_refused(found: tuple[int, str], number: int) -> None:
    status, err = found
    assert status == 1
    assert err.count("\n") == 1
    assert len(err) < 500
    assert err.startswith(f"agent-sessions: line {number}: ")
    assert "; " in err


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_line_is_named_by_its_number(kept: Backend, sqlite_url: str, import_lines: Import, kind: str) -> None:
    lines = [head("first"), record("first"), HOSTILE[kind]]
    check_refused(import_lines(sqlite_url, HEAD, *lines, end(len(lines))), 4)
    assert list(all_of(kept)) == ["keep"]


@pytest.mark.parametrize("count", [None, {}, [], "5", 1.0, True, -1, 10**4000], ids=reprlib.repr)
def test_an_end_that_counts_nothing_is_refused(
    kept: Backend, sqlite_url: str, import_lines: Import, count: Any
) -> None:
    check_refused(import_lines(sqlite_url, HEAD, head("first"), end(count)), 3)
    assert list(all_of(kept)) == ["keep"]


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(10**4200)
    | st.floats()
    | st.text(st.characters(exclude_categories=()), max_size=9)
    | st.sampled_from(["keep", "first", TEXT, "2026-01-01", "0001-01-01T00:00:00+14:00", "\ud800"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
names = st.sampled_from(
    ["session_id", "created_at", "updated_at", "id", "text", "lines", "agent_sessions_export_end"],
)
# A line that an export has, one of whose fields may be anything, or something else altogether.
lines_of_a_file = st.one_of(
    st.sampled_from([HEAD, head("first"), record("first"), head("keep"), record("keep"), end(2), end(4)]),
    st.builds(
        lambda line, fields: json.dumps(json.loads(line) | fields),
        st.sampled_from([head("a"), record("first")]),
        st.dictionaries(names, anything, min_size=1, max_size=3),
    ),
    anything.map(json.dumps),
    st.text(st.characters(exclude_categories=()), max_size=9),
    st.sampled_from(list(HOSTILE.values())),
)


@settings(max_examples=int(os.environ.get("SESSIONS_TEST_FUZZ") or 150))
@given(st.lists(lines_of_a_file, max_size=6), st.booleans(), st.sampled_from(["fail", "skip", "append", "replace"]))
def test_any_file_is_imported_or_refused_in_one_line(
    kept: Backend, sqlite_url: str, import_lines: Import, lines: list[str], begins: bool, how: str
) -> None:
    before = all_of(kept)
    status, err = import_lines(sqlite_url, *[HEAD] * begins, *lines, *[end(len(lines))] * begins, how=how)
    assert (status in (0, 1), err.count("\n")) == (True, 1)
    if err.startswith("agent-sessions: line "):
        assert all_of(kept) == before
    else:
        assert status == 0 or "is there already" in err


def test_an_export_that_an_editor_began_with_a_byte_order_mark_is_imported(
    sqlite_url: str, import_lines: Import
) -> None:
    lines = ["\ufeff" + HEAD, head("chat_1"), record("chat_1"), end(2)]
    assert import_lines(sqlite_url, *lines) == (0, "imported 1 session, 1 items\n")
    assert "line 3: " in import_lines(sqlite_url, HEAD, lines[1], "\ufeff" + lines[2], end(2))[1]


def test_a_pipe_is_looked_at_before_anything_is_changed(kept: Backend, sqlite_url: str) -> None:
    for lines, status in (([head("keep"), record("keep"), "["], 1), ([head("keep"), record("keep")], 0)):
        written = "\n".join([HEAD, *lines, end(len(lines))])
        command = [*COMMAND, "import", "-", "--on-existing", "replace", "--yes", "--url", sqlite_url]
        run = subprocess.run(command, input=written, text=True, capture_output=True, check=False)
        assert run.returncode == status
        assert texts(kept.session("keep").get_items()) == (["precious"] if status else ["new"])


# --- what would be there twice when the file is imported again

THREE = [head("chat_1"), record("chat_1"), head("chat_2"), *[record("chat_2")] * 600, head("chat_3"), record("chat_3")]


@pytest.fixture
def append(sql_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """A function that appends a file of three conversations; the exit code and what is said."""
    file = tmp_path / "export.jsonl"
    file.write_text("\n".join([HEAD, *THREE, end(len(THREE))]))

    def run(*more: str) -> tuple[int, str]:
        capsys.readouterr()
        status = main(["import", str(file), *more, "--on-existing", "append", "--url", sql_url])
        return status, capsys.readouterr().err

    return run


COUNTS = {"chat_1": 1, "chat_2": 600, "chat_3": 1}


def counts(backend: Backend) -> dict[str, int]:
    return {name: len(rows) for name, rows in all_of(backend).items() if name in COUNTS}


def test_what_others_write_to_all_the_time_is_named_and_can_be_appended_alone(
    precious: Backend, append: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = SQLStore.load

    def overtaken(store: Any, session_id: str, part: Part) -> int:
        if session_id == "chat_2":
            precious.session("chat_2").add_items(items("theirs"))
        return load(store, session_id, part)

    with monkeypatch.context() as patch:
        patch.setattr(SQLStore, "load", overtaken)
        status, err = append()
    assert (status, "session 'chat_2': another program writes to it at this moment\n" in err) == (1, True)
    assert "by their ids behind the file" in err
    theirs = len(all_of(precious)["chat_2"])
    assert counts(precious) == COUNTS | {"chat_2": theirs}
    assert append("chat_2")[0] == 0
    assert counts(precious) == COUNTS | {"chat_2": theirs + 600}


@pytest.mark.parametrize("is_there", [False, True])
def test_an_append_that_is_interrupted_says_how_it_goes_on_and_doubles_nothing(
    precious: Backend, append: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, *, is_there: bool
) -> None:
    load = SQLStore.load

    def interrupted(store: Any, session_id: str, part: Part) -> int:
        if session_id == "chat_2" and not is_there:
            raise KeyboardInterrupt
        newest = load(store, session_id, part)
        if session_id == "chat_2":
            raise KeyboardInterrupt
        return newest

    with monkeypatch.context() as patch:
        patch.setattr(SQLStore, "load", interrupted)
        status, err = append()
    assert (status, "interrupted" in err, "goes on from there" in err) == (1, True, False)
    done = re.search(r"go on with --done (\d), .* of 'chat_2', go on with --done (\d)", err)
    assert done is not None
    assert append("--done", done[2 if "chat_2" in all_of(precious) else 1])[0] == 0
    assert counts(precious) == COUNTS


def test_an_append_that_fails_is_named_and_can_be_appended_alone(
    precious: Backend, sql_url: str, import_lines: Import
) -> None:
    refuse_poisoned_rows(sql_url)
    lines = [head("chat_1"), record("chat_1"), head("chat_2"), *[record("chat_2")] * 600]
    lines.append(record("chat_2", '{"a": "poison"}'))
    status, err = import_lines(sql_url, HEAD, *lines, end(len(lines)), how="append")
    assert (status, err.count("session 'chat_2': "), "by their ids behind the file" in err) == (1, 1, True)
    assert counts(precious) == {"chat_1": 1}


def test_an_import_of_some_ids_leaves_the_others_out(precious: Backend, append: Callable[..., tuple[int, str]]) -> None:
    assert append("chat_3", "chat_1")[1] == "imported 2 sessions, 2 items\n"
    assert counts(precious) == {"chat_1": 1, "chat_3": 1}
    status, err = append("chat_2", "chat_4")
    assert (status, err.startswith("agent-sessions: no session 'chat_4' in ")) == (1, True)
    assert counts(precious) == {"chat_1": 1, "chat_3": 1}


# --- copies


class Two:
    """A database with three conversations, and one to copy them to."""

    def __init__(self, source: Backend, target: Backend, target_url: str) -> None:
        self.source = source
        self.target_url = target_url
        self.target = target
        for name in ("chat_1", "chat_2", "chat_3"):
            source.session(name).add_items(items(*(f"{name} {number}" for number in range(1203))))

    def copy(self, target: Backend) -> int:
        arguments = Namespace(session_ids=[], quiet=False, url=None, color="auto", escaped=False)
        return copy(Context(self.source, "", arguments, Stream(sys.stdout), Stream(sys.stderr)), target)


@pytest.fixture
def two(make_url: Callable[[str], str], sql_url: str) -> Iterator[Two]:
    with sessions.connect(make_url("sqlite")) as source, sessions.connect(sql_url) as target:
        yield Two(source, target, sql_url)


def overtaken(two: Two, rows: Callable[[], list[Record]]) -> Backend:
    """A backend on the target; when it has written the first part of chat_2 another program goes on with these rows."""
    there = two.target
    told: list[sessions.Operation] = []

    def tell(operation: sessions.Operation) -> None:
        if operation.name == "load" and operation.rows and operation.session_id == "chat_2" and not told:
            told.append(operation)
            there.load("chat_2", rows()[operation.rows :], on_existing="append")

    return sessions.connect(two.target_url, on_operation=tell, operation_ids=True)


def test_a_copy_that_another_one_overtakes_goes_on_and_compares(two: Two, capsys: pytest.CaptureFixture[str]) -> None:
    with overtaken(two, lambda: list(two.source.session("chat_2").records())) as target:
        assert two.copy(target) == 0
    assert capsys.readouterr().err.endswith("checksums equal\n")
    assert [info.items for info in two.target.list_sessions(count_limit=None)] == [1203] * 3


def test_a_copy_tells_of_a_conversation_that_another_program_writes_and_copies_the_others(
    two: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = [Record(1, None, None, "{}")] * 501
    with overtaken(two, lambda: theirs) as target:
        assert two.copy(target) == 1
    err = capsys.readouterr().err
    assert "session 'chat_2': another program writes to it there at this moment; copy it again then\n" in err
    assert "copied 3 sessions" in err
    assert {info.session_id: info.items for info in two.target.list_sessions(count_limit=None)} == {
        "chat_1": 1203,
        "chat_2": 501,
        "chat_3": 1203,
    }


def test_a_copy_tells_of_what_is_another_conversation_there_and_copies_the_others(
    two: Two, capsys: pytest.CaptureFixture[str]
) -> None:
    two.target.session("chat_2").add_items(items("theirs"))
    assert two.copy(two.target) == 1
    err = capsys.readouterr().err
    assert "session 'chat_2': is there already, and its row 1 is another one; remove it there, or " in err
    assert texts(two.target.session("chat_2").get_items()) == ["theirs"]
    assert len(two.target.session("chat_3").get_items()) == 1203
