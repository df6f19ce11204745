"""Clause 6: what comes back equals a JSON round trip of what was given."""

import json
from collections import OrderedDict, defaultdict
from enum import IntEnum
from typing import Any

import pytest

import sessions
from support.claims import by_json, exactly
from support.samples import stored_texts


class Level(IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


ITEMS: dict[str, Any] = {
    "empty": {},
    "unicode": {"role": "user", "content": "Grüße, 世界, 👋🏽"},
    "quotes-and-controls": {"content": "a\nb\r\tc\"d\\e/f'g`h"},
    "placeholders": {"content": "%s %(name)s :name ? $1 {} {0}"},
    "backslashes": {"content": "\\u0041 \\n \\"},
    "injection": {"content": "'); DROP TABLE agent_messages; --"},
    "NUL": {"content": "\0"},
    "NUL-in-a-key": {"\0": "\0a\0"},
    "odd-characters": {"content": "\x01\x1f\x7f\x80\x9f\u2028\u2029\ufeff\uffff"},
    "not-normalised": {"content": "a\u0301 \u00e1"},
    "key-order": {"z": 1, "a": 2, "m": {"y": 1, "b": 2}},
    "empty-keys": {"": {"": {"": None}}},
    "ints": {"n": [0, -1, 2**31, 2**63, -(2**63), 2**200, 10**4000]},
    "floats": {"n": [0.0, -0.0, 1.0, 0.1, 1e308, 5e-324, 1e-7, 123456789.123456789]},
    "bools-are-no-ints": {"n": [True, False, None, 1, 1.0]},
    "tuples-become-lists": {"n": (1, (2, 3))},
    "keys-become-strings": {2: "int", 1.5: "float", True: "bool", None: "null"},
    "keys-that-become-one": {1: "a", "1": "b"},
    "our-names": {"id": "msg_1", "session_id": "x", "created_at": 1, "message_data": "{}"},
    "json-in-json": {"type": "function_call", "arguments": '{"city": "Köln"}'},
    "private-keys-of-the-sdk": {"__encrypted__": 1, "payload": "gAAAAA=="},
    "longer-than-64-KiB": {"content": "x" * 70_000},
    "longer-than-1-MiB": {"content": "ü" * 600_000},
    "wide": {"n": list(range(5000)), "m": {str(n): n for n in range(500)}},
    "OrderedDict": OrderedDict(b=1, a=OrderedDict(b=(1, 2))),
    "defaultdict": defaultdict(int, a=1),
    "subclasses": {"level": Level.HIGH, "text": Text("a"), Text("key"): True},
}


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize("ensure_ascii", [True, False], ids=["ascii", "unicode"])
@pytest.mark.parametrize("item", ITEMS.values(), ids=ITEMS)
def test_an_item_comes_back_as_json_gives_it(url: str, item: Any, ensure_ascii: bool) -> None:
    with sessions.Session.from_url("chat_1", url, ensure_ascii=ensure_ascii) as session:
        session.add_items([item, {"next": 1}])
        assert exactly(session.get_items()) == exactly([by_json(item), {"next": 1}])
        session.pop_item()
        popped = session.pop_item()
        assert type(popped) is dict
        assert exactly(popped) == exactly(by_json(item))


@pytest.mark.parametrize("text", ["\ud800", "\udfff\ud800", "a\udc80b"], ids=ascii)
def test_a_lone_surrogate_survives_as_an_escape(session: sessions.Session, text: str) -> None:
    session.add_items([{"content": text, text: 1}])
    assert session.get_items() == [{"content": text, text: 1}]


def test_stored_json_is_ascii_unless_asked_otherwise_and_both_forms_are_read(sql_url: str) -> None:
    for ensure_ascii in (True, False):
        with sessions.Session.from_url("chat_1", sql_url, ensure_ascii=ensure_ascii) as session:
            session.add_items([{"content": "Köln 👋"}])
            assert {entry["content"] for entry in session.get_items()} == {"Köln 👋"}
    ascii_text, readable = stored_texts(sql_url)
    assert ascii_text.isascii()
    assert json.loads(ascii_text) == {"content": "Köln 👋"}
    assert "Köln 👋" in readable


def test_a_part_that_two_items_share_is_not_circular_however_deep_the_caller_is(session: sessions.Session) -> None:
    shared: dict[str, Any] = {}
    end = shared
    for _ in range(400):
        end["a"] = end = {}

    def write(depth: int) -> None:
        if depth:
            write(depth - 1)
        else:
            session.add_items([{"s": shared}, {"s": shared}])

    for depth in range(400, 900, 50):
        write(depth)
    assert len(session.get_items()) == 20
