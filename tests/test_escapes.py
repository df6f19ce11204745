"""What `agent-sessions` prints: nothing stored acts on a terminal, hides, forges a line, or looks like another id."""

import io
import os
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sessions
from sessions._command.escapes import harmless, id_from, written_id
from sessions._command.main import main
from sessions._command.terminal import Stream
from support.samples import items
from support.servers import execute_sql

# Default_Ignorable_Code_Point of Unicode 15.1, DerivedCoreProperties.txt.
IGNORABLE = [
    *(0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFEFF, 0xFFA0),
    *range(0x180B, 0x1810),
    *range(0x200B, 0x2010),
    *range(0x202A, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xFE00, 0xFE10),
    *range(0xFFF0, 0xFFF9),
    *range(0x1BCA0, 0x1BCA4),
    *range(0x1D173, 0x1D17B),
    *range(0xE0000, 0xE1000),
]
CONTROLS = [
    code
    for code in range(sys.maxunicode + 1)
    if unicodedata.category(chr(code)) in ("Cc", "Cs", "Zl", "Zp") and chr(code) not in "\t\n"
]
ANNOTATIONS = [0xFFF9, 0xFFFA, 0xFFFB]
UNSAFE = {*IGNORABLE, *CONTROLS, *ANNOTATIONS}


def test_what_cannot_be_seen_is_written_out() -> None:
    for code in UNSAFE:
        for around in ("ab", "äb", "1b", "©b", "\u202eb"):
            shown = harmless(around[0] + chr(code) + around[1])
            assert not {ord(character) for character in shown} & UNSAFE or (around, code) in KEPT, hex(code)


# What chooses the look of a sign that is also an emoji.
KEPT = {("©b", 0xFE0E), ("©b", 0xFE0F)}


@pytest.mark.parametrize("text", ["❤️", "👩🏽‍⚕️ 👨‍👩‍👧", "1️⃣", "❤️‍🔥", "☎︎", "می‌خواهم", "ක්‍ෂ", "日本 ä e\u0301 Ж"])
def test_emoji_and_scripts_stay_readable(text: str) -> None:
    assert harmless(text) == text


LETTERS = "ab\\nxu0041U -.\n\t\r\x1b\x7f\x85\xa0\xadé水😀"
MARKS = "\u0301\u0327\u200b\u200d\u2003\u2028\u2800\u3164\ufe0f\U000e0100"
some_ids = st.text(st.sampled_from(LETTERS + MARKS) | st.characters(codec="utf-8"), min_size=1, max_size=9)
cases = settings(max_examples=int(os.environ.get("SESSIONS_TEST_FUZZ") or 300))


@cases
@given(some_ids)
def test_an_id_is_one_line_of_visible_characters_and_is_read_back(session_id: str) -> None:
    shown = written_id(session_id)
    assert id_from(shown) == session_id
    assert shown.isprintable()
    assert not {ord(character) for character in shown} & UNSAFE
    # Blanks and marks are where they can be seen, and each character is written in the one way.
    assert (shown.strip(), "  " in shown) == (shown, False)
    assert not shown.startswith("-")
    assert unicodedata.is_normalized("NFC", shown)


LOOK_ALIKE = [
    *("alice", "alice ", " alice", "al\xadice", "alice\u3164", "alice\ufe0f", "\x1b[31malice", "alice\u2800"),
    *("alice\n", "alice\\n", "alice\\\\n", "é", "e\u0301"),
    *("--dry-run", "a b", "a\xa0b", "a\u2003b", "a  b", "a\tb", "a\\tb", "a\\x20b"),
]


@pytest.fixture
def alike(sqlite_url: str) -> str:
    with sessions.connect(sqlite_url) as backend:
        for name in LOOK_ALIKE:
            backend.session(name).add_items(items(f"of {name}"))
    return sqlite_url


LISTS = (["ls"], ["rm", "--dry-run", "--", *LOOK_ALIKE], ["grep", "of "], ["stats", "--biggest", "50"])


@pytest.mark.parametrize("command", LISTS, ids=["ls", "rm", "grep", "stats"])
def test_a_list_has_a_line_of_its_own_for_each_id(
    alike: str, command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command[0], "--url", alike, *command[1:]]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    if command[0] == "stats":
        rows = [row[1:] for row in rows if row[0] == "session"]
    assert sorted(id_from(row[0]) for row in rows) == sorted(LOOK_ALIKE)


@pytest.mark.parametrize("name", LOOK_ALIKE)
def test_an_id_as_it_is_listed_deletes_that_conversation_alone(
    alike: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rm", "--yes", "--escaped", written_id(name), "--url", alike]) == 0
    with sessions.connect(alike) as backend:
        assert {info.session_id for info in backend.list_sessions()} == {*LOOK_ALIKE} - {name}
    assert main(["show", written_id("alice\n"), "--url", alike]) == (1 if name == "alice\\n" else 0)
    capsys.readouterr()


def test_an_id_as_it_is_listed_is_answered_with_the_option_it_needs(
    sqlite_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("mallory-1\nalice").add_items(items("x"))
        backend.session("alice").add_items(items("x"))
    assert main(["rm", "--yes", "mallory-1\\nalice", "--url", sqlite_url]) == 1
    assert "pass --escaped" in capsys.readouterr().err
    for command in (["show"], ["export"], ["fork", "--upto", "1"]):
        more = ["new"] if command[0] == "fork" else []
        assert main([*command, "--escaped", "mallory-1\\nalice", *more, "--url", sqlite_url]) == 0


def test_a_time_that_is_none_is_a_question_mark_in_a_pipe(sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    with sessions.connect(sqlite_url) as backend:
        backend.session("chat_1").add_items(items("x"))
    execute_sql(sqlite_url, "UPDATE agent_messages SET created_at = %s", ("\x1b]0;\t\nday",))
    assert main(["stats", "--url", sqlite_url]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "day\t?\t1\t29"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("colour", ["always", "never"])
@pytest.mark.parametrize("make", [io.StringIO, Terminal])
def test_whatever_is_written_passes_the_escapes(make: Callable[[], io.StringIO], colour: str) -> None:
    file = make()
    out = Stream(file, colour=colour)
    out.line(f"{out.painted('a', 'bold')} \x1b]0;b\x07\u202e")
    out.row(["\x1b[2Ja", "b\tc\nd\r"])
    painted = "\x1b[1ma\x1b[0m" if colour == "always" else "a"
    assert file.getvalue() == f"{painted} \\x1b]0;b\\x07\\u202e\n\\x1b[2Ja\tb\\tc\\nd\\x0d\n"


def test_pages_tell_ids_apart(alike: str, tmp_path: Path) -> None:
    assert main(["export", "--html", str(tmp_path / "pages"), "--url", alike]) == 0
    index = (tmp_path / "pages" / "index.html").read_text(encoding="utf-8")
    for name in LOOK_ALIKE:
        assert f'<b dir="auto">{written_id(name)}</b>' in index
