"""Lay JSON out anew with its values as they are written: no number is rounded, no doubled key lost."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from sessions._odd_json import encode_odd

_WORD = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')

# Deeper values are not indented further: the blanks of a deep item would be more than its text.
_DEEPEST = 40


def indented(text: str) -> str:
    """Write a value a line; raise ValueError where a text is no JSON."""
    return "".join(_indented(_words(text)))


def json_of(value: object, *, readable: bool = False) -> str:
    """Write a value as JSON in a line; a readable one in Unicode, and a value a line where the stack is deep enough."""
    try:
        return json.dumps(value, ensure_ascii=not readable, indent=2 if readable else None)
    except (ValueError, RecursionError):
        return encode_odd(value, ensure_ascii=not readable)


def arguments(text: str) -> str:
    """Write an object as `key="value", key=2`; raise ValueError where a text is none."""
    words = _words(text)
    if words[:1] != ["{"]:
        raise ValueError("no JSON object")
    return "".join(_arguments(words[1:-1]))


def _words(text: str) -> list[str]:
    try:
        # As text: Python refuses integers of many digits.
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        raise ValueError("no JSON, or nested too deeply") from None
    return [_readable(word) for word in _WORD.findall(text)]


def _readable(word: str) -> str:
    return json.dumps(json.loads(word), ensure_ascii=False) if word.startswith('"') and "\\" in word else word


def _indented(words: list[str]) -> Iterator[str]:
    depth = 0
    before = ""
    for word in words:
        opened = before in ("{", "[")
        if word in ("}", "]"):
            depth -= 1
            if not opened:
                yield _new_line(depth)
        elif opened or before == ",":
            yield _new_line(depth)
        if word in ("{", "["):
            depth += 1
        yield ": " if word == ":" else word
        before = word


def _new_line(depth: int) -> str:
    return "\n" + "  " * min(depth, _DEEPEST)


def _arguments(words: list[str]) -> Iterator[str]:
    depth = 0
    before = ","
    for word in words:
        is_key = depth == 0 and before == "," and word.startswith('"')
        depth += (word in ("{", "[")) - (word in ("}", "]"))
        if is_key:
            yield str(json.loads(word))
        elif word == ",":
            yield ", "
        elif word == ":":
            yield ": " if depth else "="
        else:
            yield word
        before = word
