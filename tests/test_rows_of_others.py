"""The command shows whatever another writer stored and its own reader reads: numbers of any length, any depth."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sessions
from sessions._command.main import main
from sessions._items import decode_item
from sessions._odd_json import decode_odd, encode_odd
from support.samples import items, plant

NUMBER = "9" * 5000
DEEP = "[" * 3_000 + "7" + "]" * 3_000
FIELDS = {
    "content": '{"role": "user", "content": %s}',
    "a-part": '{"role": "user", "content": [{"type": %s, "text": "hello"}, %s]}',
    "an-image": '{"role": "user", "content": [{"type": "input_image", "file_id": %s}]}',
    "a-source": '{"role": "user", "content": [{"type": "image", "source": {"media_type": %s, "data": %s}}]}',
    "sound": '{"role": "user", "content": [{"type": "audio", "id": %s, "format": %s, "transcript": %s}]}',
    "a-file": '{"role": "user", "content": [{"type": "file", "filename": %s}]}',
    "another-field": '{"role": "user", "content": "hello", "n": %s}',
    "role": '{"role": %s, "content": "hello"}',
    "type": '{"type": %s, "x": 1}',
    "a-call": '{"type": "function_call", "call_id": %s, "name": %s, "arguments": %s}',
    "an-output": '{"type": "function_call_output", "call_id": %s, "output": %s}',
    "a-chat-call": '{"role": "assistant", "tool_calls": [{"id": %s, "function": {"name": %s, "arguments": %s}}]}',
    "tool-use": '{"role": "assistant", "content": [{"type": "tool_use", "id": %s, "name": %s, "input": %s}]}',
    "tool-result": '{"role": "user", "content": [{"type": "tool_result", "tool_use_id": %s, "content": %s}]}',
    "a-hosted-call": '{"type": "web_search_call", "action": %s, "result": "AAAA", "output_format": %s, "output": %s}',
    "reasoning": '{"type": "reasoning", "summary": %s, "content": %s}',
    "approval": '{"type": "mcp_approval_response", "approval_request_id": %s}',
    "encrypted": '{"type": "x", "encrypted_content": "a", "n": %s}',
}


@pytest.fixture
def stored(sqlite_url: str, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """A function that puts a row of another writer in place of the history of chat_1; the database."""

    def store(row: str) -> str:
        with sessions.connect(sqlite_url) as backend:
            backend.session("chat_1").replace_items(items("hello"))
        plant(sqlite_url, "chat_1", row)
        capsys.readouterr()
        return sqlite_url

    return store


@pytest.mark.parametrize("value", [NUMBER, f"-{NUMBER}", DEEP], ids=["long", "negative", "deep"])
@pytest.mark.parametrize("field", FIELDS)
def test_no_value_in_any_field_stops_the_command(
    stored: Callable[[str], str], capsys: pytest.CaptureFixture[str], tmp_path: Path, field: str, value: str
) -> None:
    row = FIELDS[field].replace("%s", value)
    url = stored(row)
    check_shown(row, url, capsys, tmp_path)
    with sessions.connect(url) as backend:
        assert backend.session("chat_1").get_items(whole_turns=True)


def check_shown(row: str, url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for command in (
        ["show", "chat_1"],
        ["show", "chat_1", "--only-conversation"],
        ["grep", "hello"],
        ["ls", "--first"],
    ):
        assert main([*command, "--url", url]) == 0
    capsys.readouterr()
    assert main(["show", "--json", "chat_1", "--url", url]) == 0
    shown = decode_item(capsys.readouterr().out.splitlines()[-1])
    assert shown is not None
    assert (encode_odd(shown["item"]), shown["text"]) == (encode_odd(decode_item(row)), row)
    assert main(["grep", "--json", "hello", "--url", url]) == 0
    assert main(["export", "--html", str(tmp_path / "pages"), "--url", url]) == 0
    assert (tmp_path / "pages" / "index.html").exists()
    capsys.readouterr()


def test_a_long_number_is_shown_as_it_is_stored(
    stored: Callable[[str], str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = stored(FIELDS["content"] % NUMBER)
    assert main(["show", "chat_1", "--url", url]) == 0
    assert NUMBER in capsys.readouterr().out


# As JSON is spaced here: what is read and written again is the same.
values = st.recursive(
    st.sampled_from(["null", "true", "0", "NaN", NUMBER, "-1" + "0" * 6000]) | st.text(max_size=5).map(json.dumps),
    lambda inner: (
        st.builds("[{}]".format, st.lists(inner, max_size=3).map(", ".join))
        | st.builds('{{"a": {}, "b": {}}}'.format, inner, inner)
    ),
    max_leaves=5,
)


@settings(max_examples=int(os.environ.get("SESSIONS_TEST_FUZZ") or 20))
@given(st.sampled_from(list(FIELDS.values())), st.data())
def test_any_value_in_any_field_is_shown(
    stored: Callable[[str], str], capsys: pytest.CaptureFixture[str], tmp_path: Path, field: str, data: Any
) -> None:
    row = field
    while "%s" in row:
        row = row.replace("%s", data.draw(values), 1)
    check_shown(row, stored(row), capsys, tmp_path)


@given(values)
def test_what_is_read_and_written_again_is_the_same(text: str) -> None:
    assert encode_odd(decode_odd(text)) == text
