"""Clause 6: what comes back equals a JSON round trip of what was given."""

import json
from typing import Any

import pytest

import sessions
from support.samples import stored_texts

ITEMS = [
    pytest.param({}, id="empty"),
    pytest.param({"role": "user", "content": "Grüße, 世界, 👋🏽"}, id="unicode"),
    pytest.param({"content": "a\nb\r\tc\"d\\e/f'g`h"}, id="quotes-and-controls"),
    pytest.param({"content": "%s %(name)s :name ? $1 {} {0}"}, id="placeholders"),
    pytest.param({"content": "\\u0041 \\n \\"}, id="backslashes"),
    pytest.param({"content": "'); DROP TABLE agent_messages; --"}, id="injection"),
    pytest.param({"content": "\0"}, id="NUL"),
    pytest.param({"\0": "\0a\0"}, id="NUL-in-a-key"),
    pytest.param({"content": "\x01\x1f\x7f\x80\x9f\u2028\u2029\ufeff\uffff"}, id="odd-characters"),
    pytest.param({"content": "a\u0301 \u00e1"}, id="not-normalised"),
    pytest.param({"z": 1, "a": 2, "m": {"y": 1, "b": 2}}, id="key-order"),
    pytest.param({"": {"": {"": None}}}, id="empty-keys"),
    pytest.param({"n": [0, -1, 2**31, 2**63, -(2**63), 2**200, 10**4000]}, id="ints"),
    pytest.param({"n": [0.0, -0.0, 1.0, 0.1, 1e308, 5e-324, 1e-7, 123456789.123456789]}, id="floats"),
    pytest.param({"n": [True, False, None, 1, 1.0]}, id="bools-are-no-ints"),
    pytest.param({"n": (1, (2, 3))}, id="tuples-become-lists"),
    pytest.param({2: "int", 1.5: "float", True: "bool", None: "null"}, id="keys-become-strings"),
    pytest.param({1: "a", "1": "b"}, id="keys-that-become-one"),
    pytest.param({"id": "msg_1", "session_id": "x", "created_at": 1, "message_data": "{}"}, id="our-names"),
    pytest.param({"type": "function_call", "arguments": '{"city": "Köln"}'}, id="json-in-json"),
    pytest.param({"__encrypted__": 1, "payload": "gAAAAA=="}, id="private-keys-of-the-sdk"),
    pytest.param({"content": "x" * 70_000}, id="longer-than-64-KiB"),
    pytest.param({"content": "ü" * 600_000}, id="longer-than-1-MiB"),
    pytest.param({"n": list(range(5000)), "m": {str(n): n for n in range(500)}}, id="wide"),
]


def by_json(item: Any) -> Any:
    return json.loads(json.dumps(item))


def exactly(item: Any) -> str:
    """A text that tells 1, 1.0 and True apart, and one key order from another."""
    return repr(item)


@pytest.mark.parametrize("ensure_ascii", [True, False], ids=["ascii", "unicode"])
@pytest.mark.parametrize("item", ITEMS)
def test_an_item_comes_back_as_json_gives_it(url: str, item: Any, ensure_ascii: bool) -> None:
    with sessions.Session.from_url("chat_1", url, ensure_ascii=ensure_ascii) as session:
        session.add_items([item, {"next": 1}])
        assert exactly(session.get_items()) == exactly([by_json(item), {"next": 1}])
        session.pop_item()
        assert exactly(session.pop_item()) == exactly(by_json(item))


@pytest.mark.parametrize("text", ["\ud800", "\udfff\ud800", "a\udc80b"], ids=ascii)
def test_a_lone_surrogate_survives_as_an_escape(session: sessions.Session, text: str) -> None:
    session.add_items([{"content": text, text: 1}])
    assert session.get_items() == [{"content": text, text: 1}]


def test_a_subclass_of_dict_comes_back_as_a_dict(session: sessions.Session) -> None:
    class Message(dict[str, Any]):
        pass

    session.add_items([Message(content="a")])
    assert type(session.get_items()[0]) is dict
    assert session.get_items() == [{"content": "a"}]


def test_stored_json_is_ascii_unless_asked_otherwise(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url) as session:
        session.add_items([{"content": "Köln 👋"}])
    (stored,) = stored_texts(sql_url)
    assert stored.isascii()
    assert json.loads(stored) == {"content": "Köln 👋"}


def test_stored_json_is_readable_unicode_on_demand(sql_url: str) -> None:
    with sessions.Session.from_url("chat_1", sql_url, ensure_ascii=False) as session:
        session.add_items([{"content": "Köln 👋"}])
    (stored,) = stored_texts(sql_url)
    assert "Köln 👋" in stored


def test_both_stored_forms_are_read_whatever_the_option_says(sql_url: str) -> None:
    for ensure_ascii in (True, False):
        with sessions.Session.from_url("chat_1", sql_url, ensure_ascii=ensure_ascii) as session:
            session.add_items([{"content": "Köln 👋"}])
            assert {entry["content"] for entry in session.get_items()} == {"Köln 👋"}
