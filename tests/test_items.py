"""The text of an item: what is written, what is refused, what is read."""

import json
import math
import subprocess
import sys
import typing
from collections import OrderedDict, UserDict, defaultdict
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import sessions
from sessions._items import decode_item, encode_items

any_text = st.text(st.characters(exclude_categories=()), max_size=30)


class Level(IntEnum):
    HIGH = 3


class Text(str):
    __slots__ = ()


def encoded(item: Any, *, ensure_ascii: bool = True) -> str:
    (text,) = encode_items([item], ensure_ascii=ensure_ascii)
    return text


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(OrderedDict(b=1, a=2), id="OrderedDict"),
        pytest.param(defaultdict(int, a=1), id="defaultdict"),
        pytest.param({"level": Level.HIGH, "text": Text("a"), Text("key"): True}, id="subclasses"),
        pytest.param({"a": OrderedDict(b=(1, 2))}, id="inside"),
        pytest.param({1: 1, 2.5: 2, None: 3, False: 4}, id="keys-that-json-takes"),
    ],
)
def test_what_json_takes_for_an_object_is_an_item(item: Any) -> None:
    assert decode_item(encoded(item)) == json.loads(json.dumps(item))


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(UserDict(a=1), id="a-mapping-that-json-does-not-take"),
        pytest.param([("a", 1)], id="pairs"),
        pytest.param({"a": UserDict()}, id="a-mapping-inside"),
        pytest.param({"a": range(3)}, id="range-inside"),
        pytest.param({"a": {1: math.nan}}, id="NaN-inside"),
    ],
)
def test_what_json_does_not_take_is_refused(item: Any) -> None:
    with pytest.raises(sessions.InvalidItemError, match=r"\b0\b"):
        encode_items([item], ensure_ascii=True)


@pytest.mark.parametrize("position", [0, 1, 7])
def test_the_first_bad_item_is_named_by_its_index(position: int) -> None:
    batch: list[Any] = [{"n": n} for n in range(9)]
    batch[position] = {"n": math.nan}
    batch[8] = object()
    with pytest.raises(sessions.InvalidItemError, match=rf"\b{position}\b"):
        encode_items(batch, ensure_ascii=True)


@given(any_text)
def test_ascii_text_holds_any_character(text: str) -> None:
    stored = encoded({"content": text})
    assert stored.isascii()
    assert "\0" not in stored
    assert "\n" not in stored
    assert decode_item(stored) == {"content": text}


@given(any_text)
def test_readable_text_holds_any_character_that_utf_8_holds(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        with pytest.raises(sessions.InvalidItemError):
            encoded({"content": text}, ensure_ascii=False)
    else:
        stored = encoded({"content": text}, ensure_ascii=False)
        assert "\0" not in stored
        assert decode_item(stored) == {"content": text}


@given(any_text | st.binary() | st.none() | st.integers() | st.floats())
def test_anything_found_in_a_row_is_an_item_or_corrupt(found: Any) -> None:
    item = decode_item(found)
    assert item is None or isinstance(item, dict)


@given(st.text(st.sampled_from('{}[]",:0123456789.eE+-truefalsn \\u'), max_size=40))
def test_what_is_nearly_json_is_an_item_or_corrupt(found: str) -> None:
    try:
        expected = json.loads(found)
    except ValueError:
        expected = None
    assert decode_item(found) == (expected if isinstance(expected, dict) else None)


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_a_constant_that_is_no_json_is_corrupt(constant: str) -> None:
    assert decode_item(f'{{"n": {constant}}}') is None


def test_a_circular_item_is_refused_however_small_the_stack_is() -> None:
    # In a process of its own: what exhausts the C stack ends it.
    program = (
        "import sys, threading, sessions\n"
        "sys.setrecursionlimit(100_000)\n"
        "item = {}\n"
        "item['self'] = [item]\n"
        "def add():\n"
        "    try:\n"
        "        sessions.InMemorySession('chat_1').add_items([item])\n"
        "    except sessions.InvalidItemError as error:\n"
        "        print(error)\n"
        "threading.stack_size(256 * 1024)\n"
        "thread = threading.Thread(target=add)\n"
        "thread.start()\n"
        "thread.join()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "Circular reference" in done.stdout


@pytest.mark.parametrize("name", ["get_items", "add_items", "pop_item", "replace_items", "records", "position"])
def test_the_types_of_a_method_can_be_asked_for(name: str) -> None:
    # Frameworks that make a tool of a function do.
    assert "return" in typing.get_type_hints(getattr(sessions.Session, name))
