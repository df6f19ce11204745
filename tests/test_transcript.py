"""What a transcript shows of items, however it is shown."""

import base64
import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessions._command import reindent
from sessions._command.images import decoded
from sessions._command.transcript import Entry, entries
from sessions._items import Record, make_record
from support.conversations import CONVERSATION, HOSTILE, call, output, png, said


def records(items: Iterable[dict[str, Any]]) -> Iterator[Record]:
    for number, item in enumerate(items, 1):
        yield make_record((number, "2026-03-17 04:00:00", json.dumps(item)))


def transcript(*items: dict[str, Any]) -> list[Entry]:
    return list(entries(records(items)))


# --- calls and outputs


def test_an_output_goes_to_its_call_whatever_lies_between() -> None:
    first, between, second = transcript(call("a", "f"), said("hm"), output("a", "done"), call("b", "g"))
    assert (first.ids, first.output, first.notes) == ([1, 3], "done", [])
    assert between.text == "hm"
    assert (second.ids, second.output, second.notes) == ([4], None, ["no output"])


def test_calls_before_the_first_output_are_one_run() -> None:
    made = transcript(
        call("a", "f"),
        call("b", "g"),
        output("b", ""),
        call("c", "h"),
        output("a", ""),
        output("c", ""),
        call("d", "i"),
    )
    first, second, third, fourth = (entry.run for entry in made)
    assert first is second
    assert [run.calls for run in (first, third, fourth) if run] == [2, 1, 1]


def test_a_call_id_that_comes_again_is_another_call() -> None:
    first, second, lonely = transcript(call("a", "f"), call("a", "g"), output("a", "1"), output("a", "2"))
    assert (first.notes, second.output, lonely.notes) == (["no output"], "1", ["an output without its call"])


def test_a_conversation_is_read_as_it_is_shown() -> None:
    read: list[int] = []

    def counted() -> Iterator[Record]:
        for record in records(said("x") for _ in range(50)):
            read.append(record.id)
            yield record

    next(entries(counted()))
    assert read == [1]


@pytest.mark.parametrize(("count", "size"), [(3000, 1), (100, 100_000)], ids=["of many records", "of long texts"])
def test_a_call_that_is_never_answered_does_not_hold_the_conversation(count: int, size: int) -> None:
    read: list[int] = []

    def counted() -> Iterator[Record]:
        items = [call("lost", "f"), *(said("x" * size) for _ in range(count)), output("lost", "late")]
        for record in records(items):
            read.append(record.id)
            yield record

    shown = entries(counted())
    assert next(shown).notes == ["no output"]
    assert len(read) < count / 2
    assert [*shown][-1].notes == ["an output without its call"]


@pytest.mark.parametrize(
    "failure",
    [
        output("a", "An error occurred while running the tool. Please try again. Error: x"),
        output("a", "x", status="incomplete"),
        output("a", "x", status="failed"),
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "is_error": True, "content": "x"}]},
    ],
    ids=["the SDK's text", "incomplete", "failed", "is_error"],
)
def test_a_failed_output_is_one(failure: dict[str, Any]) -> None:
    assert [entry.failed for entry in transcript(call("a", "f"), failure, call("b", "g"), output("b", "x"))] == [
        True,
        False,
    ]


def test_a_handoff_is_one_and_keeps_its_arguments() -> None:
    [entry] = transcript(call("a", "transfer_to_billing", reason="VAT"), output("a", '{"assistant": "Billing"}'))
    assert (entry.kind, entry.title, entry.text, entry.ids) == ("handoff", "→ Billing", 'reason="VAT"', [1, 2])
    [no_handoff] = transcript(call("a", "find"), output("a", '{"assistant": "Billing"}'))
    assert no_handoff.kind == "tool"


def test_what_runs_beside_the_model_has_its_output_with_it() -> None:
    item = {"type": "mcp_call", "id": "m", "name": "f", "arguments": "{}", "output": "found", "error": None}
    [entry] = transcript(item)
    assert (entry.title, entry.output, entry.notes, entry.failed) == ("f()", "found", [], False)
    [entry] = transcript({"type": "image_generation_call", "result": base64.b64encode(png()).decode()})
    assert entry.output == "[image: PNG, 320 × 132, 622 B]"  # noqa: RUF001


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        ({"type": "computer_call", "call_id": "a", "actions": [{"type": "wait"}]}, 'actions=[{"type": "wait"}]'),
        ({"role": "assistant", "content": None, "function_call": {"name": "old"}}, '"name": "old"'),
        ({"role": "assistant", "content": None, "audio": {"id": "a", "transcript": "Hi\nthere"}}, "[audio: Hi there]"),
        ({"role": "user", "content": [{"type": "input_file", "file_id": "f1"}]}, "[file: f1]"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f1"}]}, "[image: f1]"),
        ({"role": "user", "content": ["a", 7, None]}, "a\n7"),
        ({"role": "assistant", "content": None, "refusal": "no"}, "no"),
        ({"type": "custom_tool_call_output", "call_id": "a", "output": {"odd": 1}}, '"odd": 1'),
    ],
)
def test_what_is_unusual_is_shown(item: dict[str, Any], shown: str) -> None:
    [entry] = transcript(item)
    assert shown in f"{entry.title} {entry.text} {entry.output}"


# --- nothing is left out, but what is secret


def test_every_record_is_in_the_transcript_once() -> None:
    for conversation in (CONVERSATION, HOSTILE):
        ids = [number for entry in transcript(*conversation) for number in entry.ids]
        assert sorted(set(ids)) == list(range(1, len(conversation) + 1))


def test_places_are_unique() -> None:
    made = transcript(*HOSTILE)
    places = [place for entry in made for place in (entry.place, entry.output_place) if place]
    assert len({(place.record_id, place.number) for place in places}) == len(places)


def test_encrypted_content_and_signatures_are_not_shown() -> None:
    assert "secret" in json.dumps(HOSTILE)
    for entry in transcript(*CONVERSATION, *HOSTILE):
        assert "secret" not in entry.text + (entry.output or "") + entry.title


# --- JSON as it is written

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES, st.booleans(), st.sampled_from([None, 3]))
def test_indented_json_is_the_same_json(value: Any, ensure_ascii: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)
    assert json.loads(reindent.indented(text)) == value
    assert reindent.indented(text) == json.dumps(value, ensure_ascii=False, indent=2)


def test_numbers_and_doubled_keys_stay_as_they_are_written() -> None:
    text = f'{{"a":1.50,"a":1e400,"b":{"9" * 5000}}}'
    assert reindent.indented(text) == f'{{\n  "a": 1.50,\n  "a": 1e400,\n  "b": {"9" * 5000}\n}}'
    assert reindent.arguments('{"a":1.50,"a":{"b":[1,2e0]},"c":"x, \\u00e9"}') == 'a=1.50, a={"b": [1, 2e0]}, c="x, é"'
    assert reindent.arguments("{}") == ""


@pytest.mark.parametrize("text", ["", "{", "[1,]", "x", "{} {}", '{"a"}', "[" * 100_000])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no JSON"):
        reindent.indented(text)


def test_a_deep_value_is_not_blown_up() -> None:
    text = "[" * 800 + "1," * 10_000 + "1" + "]" * 800
    assert len(reindent.indented(text)) < 100 * len(text)


# --- images by their bytes

JPEG = b"\xff\xd8\xff\xe0\x00\x10" + b"JFIF".ljust(14, b"\0") + b"\xff\xc2\x00\x11\x08" + struct.pack(">HH", 220, 360)
IMAGES = {
    "png": png(360, 220),
    "gif": b"GIF89a" + struct.pack("<HH", 360, 220),
    "jpeg": JPEG,
    "webp": b"RIFF\0\0\0\0WEBPVP8 \0\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 360, 220),
    "webp, lossless": b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + struct.pack("<I", 359 | 219 << 14),
    "webp, extended": b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0\0\0\0\0"
    + (359).to_bytes(3, "little")
    + (219).to_bytes(3, "little"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_is_known_by_its_bytes(name: str) -> None:
    image = decoded(base64.b64encode(IMAGES[name]).decode())
    assert image is not None
    assert (image.kind, image.width, image.height) == (name.partition(",")[0], 360, 220)
    assert base64.b64decode(image.url.partition(",")[2]) == IMAGES[name]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7",
        b"BM" + b"\0" * 60,
        *(data[:9] for data in IMAGES.values()),
        struct.pack(">8s4x4sII", png()[:8], b"IHDR", 60_000, 60_000),
        struct.pack(">8s4x4sII", png()[:8], b"IHDR", 0, 10),
        b"\xff\xd8\xff\xe0\x00\x00" * 10,
    ],
)
def test_anything_else_is_no_image(data: bytes) -> None:
    assert decoded(base64.b64encode(data).decode()) is None
    assert decoded("no base64 é") is None
