"""sizes(), first_messages() and stats(): how much conversations hold, and what they begin with."""

import contextlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

import sessions
from sessions import Backend
from sessions._command.main import main
from support.samples import item, items, texts
from support.servers import connect_raw, dialect_of


class Row(NamedTuple):
    created_at: datetime | None
    text: str


def stored_bytes(backend: Backend, session_id: str) -> int:
    return sum(len(record.text.encode()) for record in backend.session(session_id).records())


def test_sizes_are_those_of_what_is_stored(backend: Backend) -> None:
    backend.session("a").add_items(items("Grüße", "x" * 5000))
    backend.session("b").add_items(items("y"))
    found = backend.sizes(["a", "b", "nobody"])
    assert {name: (size.items, size.bytes) for name, size in found.items()} == {
        "a": (2, stored_bytes(backend, "a")),
        "b": (1, stored_bytes(backend, "b")),
    }
    assert backend.sizes([]) == {}


def test_bytes_are_counted_and_not_characters(backend: Backend) -> None:
    text = json.dumps({"role": "user", "content": "日本"}, ensure_ascii=False)
    backend.load("a", [Row(None, text)])
    assert backend.sizes(["a"])["a"].bytes == len(text.encode())


def test_stats_add_up_by_day(backend: Backend) -> None:
    began = datetime(2026, 3, 14, 23, 30)  # noqa: DTZ001  (as databases keep it)
    for name in ("a", "b"):
        rows = [Row(began + timedelta(hours=number), json.dumps(item("x" * 100))) for number in range(3)]
        backend.load(name, rows)
    backend.session("c").add_items(items("y"))
    found = backend.stats(biggest=2)
    assert (found.sessions, found.items) == (3, 7)
    assert found.bytes == sum(stored_bytes(backend, name) for name in ("a", "b", "c"))
    assert [(day.day, day.items) for day in found.days[:2]] == [("2026-03-14", 2), ("2026-03-15", 4)]
    assert sum(day.items for day in found.days) == found.items
    assert sum(day.bytes for day in found.days) == found.bytes
    assert {size.session_id for size in found.biggest} == {"a", "b"}
    assert backend.stats(prefix="c").items == 1
    assert backend.stats(prefix="nobody") == (0, 0, 0, [], [])


def test_more_sessions_than_a_page_are_counted_once(backend: Backend) -> None:
    for number in range(501):
        backend.session(f"chat_{number}").add_items(items("x"))
    assert (backend.stats().sessions, backend.stats().items) == (501, 501)
    assert len(backend.first_messages(f"chat_{number}" for number in range(501))) == 501


@pytest.mark.parametrize(
    "content",
    [
        'Hello, "Åse"\n',
        [{"type": "input_text", "text": 'Hello, "Åse"\n'}],
        [{"type": "text", "text": 'Hello, "Åse"'}, {"type": "text", "text": ""}],
    ],
)
def test_the_first_message_is_the_first_text_of_a_user(backend: Backend, content: object) -> None:
    system, answer = {"role": "system", "content": "Be brief"}, {"role": "assistant", "content": "Good day"}
    backend.session("a").add_items([system, {"role": "user", "content": content}, answer, *items("second")])
    backend.session("b").add_items([answer])
    assert backend.first_messages(["a", "b", "nobody"]) == {"a": 'Hello, "Åse"\n'}


@pytest.mark.parametrize("separators", [(", ", ": "), (",", ":")])
@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_of_a_long_first_message_there_is_the_beginning(
    backend: Backend, separators: tuple[str, str], ensure_ascii: bool
) -> None:
    text = 'Ü\\"日\U0001f600' * 3000
    stored = json.dumps({"role": "user", "content": text}, ensure_ascii=ensure_ascii, separators=separators)
    backend.load("a", [Row(None, stored)])
    found = backend.first_messages(["a"])["a"]
    assert len(found) > 300
    assert text.startswith(found.rstrip("\ud83d"))
    found.rstrip("\ud83d").encode()


def test_a_corrupt_row_is_counted_and_is_no_first_message(backend: Backend) -> None:
    backend.load("a", [Row(None, text) for text in ('{"role": "user"', json.dumps(item("Hello")))])
    assert backend.sizes(["a"])["a"].items == 2
    assert backend.first_messages(["a"]) == {}  # of the one that says it is a user's


def test_idle_is_the_time_since_the_last_write_by_the_databases_clock(backend: Backend) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    backend.session("a").add_items(items("x"))
    [info] = backend.list_sessions()
    assert info.idle is not None
    assert -2 <= info.idle <= 30
    backend.load("b", [Row(now, "{}")], updated_at=now - timedelta(days=3))
    [_, info] = backend.list_sessions()
    assert info.idle is not None
    assert abs(info.idle - 3 * 86_400) < 86_400 * 0.6  # the server's zone may be another one


def test_arguments_that_mean_nothing_are_refused(backend: Backend) -> None:
    with pytest.raises(TypeError, match="pass a list of ids"):
        backend.sizes("abc")
    with pytest.raises(TypeError, match="pass a list of ids"):
        backend.first_messages("abc")
    with pytest.raises(ValueError, match="biggest is 0"):
        backend.stats(biggest=0)
    backend.close()
    for call in (lambda: backend.sizes(["a"]), lambda: backend.first_messages(["a"]), backend.stats):
        with pytest.raises(sessions.ClosedError):
            call()


def test_what_is_in_no_listing_is_found(sql_url: str) -> None:
    longest = "\U0001f600" * 254 + "x"
    with sessions.connect(sql_url) as backend:
        for name in ("a", "b", longest):
            backend.session(name).add_items(items(name))
        assert list(backend.unlisted_sessions()) == []
        remove_session_rows(sql_url, "a", longest)
        assert [info.session_id for info in backend.list_sessions()] == ["b"]
        assert list(backend.unlisted_sessions()) == ["a", longest]
        assert texts(backend.session("a").get_items()) == ["a"]
        backend.delete_sessions(backend.unlisted_sessions())
        assert list(backend.unlisted_sessions()) == []
        assert backend.session("a").get_items() == []


def test_what_is_in_no_listing_is_exported_and_copied(
    sql_url: str, make_url: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    target = make_url("sqlite")
    with sessions.connect(sql_url) as backend:
        for name in ("a", "b"):
            backend.session(name).add_items(items(name))
    remove_session_rows(sql_url, "a")
    assert main(["copy", target, "--url", sql_url]) == 0
    assert main(["export", "--url", sql_url]) == 0
    exported = {json.loads(line).get("session_id") for line in capsys.readouterr().out.splitlines()}
    assert exported >= {"a", "b"}
    with sessions.connect(target) as copied:
        assert sorted(info.session_id for info in copied.list_sessions()) == ["a", "b"]
        assert texts(copied.session("a").get_items()) == ["a"]


def test_an_import_asks_before_it_replaces_what_is_in_no_listing(
    sql_url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with sessions.connect(sql_url) as backend:
        backend.session("a").add_items(items("a"))
        assert main(["export", "--url", sql_url]) == 0
        file = tmp_path / "export.jsonl"
        file.write_text(capsys.readouterr().out, encoding="utf-8")
        backend.session("a").replace_items(items("b"))
        remove_session_rows(sql_url, "a")
        replacing = ["import", str(file), "--on-existing", "replace", "--url", sql_url]
        assert main(replacing) == 2
        assert "--yes required" in capsys.readouterr().err
        assert texts(backend.session("a").get_items()) == ["b"]
        assert main([*replacing, "--yes"]) == 0
        assert texts(backend.session("a").get_items()) == ["a"]


def remove_session_rows(url: str, *session_ids: str) -> None:
    """Remove rows of sessions alone, as a program does whose connection minds no foreign key."""
    without = {"postgresql": "SET session_replication_role = replica", "sqlite": "PRAGMA foreign_keys = OFF"}
    with contextlib.closing(connect_raw(url)) as connection:
        cursor = connection.cursor()
        cursor.execute(without.get(dialect_of(url), "SET foreign_key_checks = 0"))
        for session_id in session_ids:
            mark = "?" if dialect_of(url) == "sqlite" else "%s"
            cursor.execute(f"DELETE FROM agent_sessions WHERE session_id = {mark}", (session_id,))


@pytest.mark.parametrize("character", ["é", "\U0001f600"], ids=ascii)
def test_the_longest_ids_are_told_apart(backend: Backend, character: str) -> None:
    longest = [character * 254 + last for last in ("x", "y")]
    for session_id in longest:
        backend.session(session_id).add_items(items("a"))
    assert sorted(backend.sizes(longest)) == longest
    assert sorted(size.session_id for size in backend.stats().biggest) == longest
    assert backend.stats().items == 2
