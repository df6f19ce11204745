"""Read, and write again, what is JSON to some reader, though json.loads() refuses it or the stack is too short for it.

What another writer stored and its own reader reads is not ours to call corrupt: NaN and
Infinity, a byte order mark, control characters in strings, other encodings of Unicode,
numbers of any length, any depth.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from json.decoder import JSONDecodeError, scanstring  # type: ignore[attr-defined]
from typing import Any, TypeVar

T = TypeVar("T")

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"(-?(?:0|[1-9]\d*))(\.\d+)?([eE][-+]?\d+)?")
_CONSTANTS = {
    "null": None,
    "true": True,
    "false": False,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
}
_CONSTANT = re.compile("|".join(_CONSTANTS))
# A string, or a bracket outside of strings.
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
# Python may be told to convert no longer texts at once (sys.set_int_max_str_digits), but these it always does.
_DIGITS = sys.int_info.str_digits_check_threshold


def decode_odd(text: object) -> object:
    """Return the value that a text, or bytes, hold; None when no reader could read them."""
    if isinstance(text, (bytes, bytearray)):
        try:
            text = text.decode(json.detect_encoding(text), "surrogatepass")
        except UnicodeDecodeError:
            return None
    if not isinstance(text, str):
        return None
    if text.startswith("\\x"):
        return _decode_hexadecimal(text[2:])
    try:
        return _read(text.removeprefix("\ufeff"))
    except (ValueError, IndexError):
        return None


def _decode_hexadecimal(digits: str) -> object:
    """Read what PostgreSQL makes of a column of bytes that is asked for as text."""
    try:
        return decode_odd(bytes.fromhex(digits))
    except ValueError:
        return None


def _read(text: str) -> object:
    """Read a value with a stack of our own, so that no depth is too great."""
    # Each container that is open, with the key that waits for its value.
    open_containers: list[tuple[dict[str, Any] | list[Any], str | None]] = []
    position = _skip(text, 0)
    while True:
        value, position = _begin(text, position)
        if isinstance(value, (dict, list)):
            closing = "}" if isinstance(value, dict) else "]"
            position = _skip(text, position)
            if text[position] != closing:
                key, position = _key(text, position) if isinstance(value, dict) else (None, position)
                open_containers.append((value, key))
                continue
            position += 1
        # The value is complete; with it perhaps the containers around it.
        while open_containers:
            container, key = open_containers.pop()
            if isinstance(container, dict):
                container[str(key)] = value
            else:
                container.append(value)
            position = _skip(text, position)
            if text[position] == ",":
                position = _skip(text, position + 1)
                key, position = _key(text, position) if isinstance(container, dict) else (None, position)
                open_containers.append((container, key))
                break
            if text[position] != ("}" if isinstance(container, dict) else "]"):
                raise JSONDecodeError("expected a comma or the end of a container", text, position)
            value, position = container, position + 1
        else:
            if _skip(text, position) != len(text):
                raise JSONDecodeError("extra data", text, position)
            return value


def _begin(text: str, position: int) -> tuple[Any, int]:
    """Read a simple value whole, or the opening bracket of a container."""
    character = text[position]
    if character == "{":
        return {}, position + 1
    if character == "[":
        return [], position + 1
    if character == '"':
        string, end = scanstring(text, position + 1, False)
        return string, end
    if (constant := _CONSTANT.match(text, position)) is not None:
        return _CONSTANTS[constant[0]], constant.end()
    if (number := _NUMBER.match(text, position)) is None:
        raise JSONDecodeError("expected a value", text, position)
    whole, fraction, exponent = number.groups()
    if fraction is None and exponent is None:
        return _integer(whole), number.end()
    return float(number[0]), number.end()


def _key(text: str, position: int) -> tuple[str, int]:
    """Read a key and its colon; return where the value begins."""
    if text[position] != '"':
        raise JSONDecodeError("expected a key", text, position)
    key, position = scanstring(text, position + 1, False)
    position = _skip(text, position)
    if text[position] != ":":
        raise JSONDecodeError("expected a colon", text, position)
    return key, _skip(text, position + 1)


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _integer(text: str) -> int:
    if len(text) <= _DIGITS:
        return int(text)
    sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text)
    return sign * _natural(digits)


def _natural(digits: str) -> int:
    if len(digits) <= _DIGITS:
        return int(digits)
    low = len(digits) // 2
    shift: int = 10**low
    return _natural(digits[:-low]) * shift + _natural(digits[-low:])


def encode_odd(value: object, *, ensure_ascii: bool = True) -> str:
    """Write what decode_odd() reads: the stack is never too short for it, nor a number too long."""
    return "".join(_written(value, ensure_ascii=ensure_ascii))


def text_of(value: object) -> str:
    """Return a text as it is, and another value as JSON."""
    return value if isinstance(value, str) else encode_odd(value)


class _Word(str):
    """What is written as it is."""

    __slots__ = ()


def _written(value: object, *, ensure_ascii: bool) -> Iterator[str]:
    # What is still to be written, the next one last.
    left = [value]
    while left:
        found = left.pop()
        if isinstance(found, _Word):
            yield found
        elif isinstance(found, (dict, list)):
            members: list[object] = [_Word("{" if isinstance(found, dict) else "[")]
            for number, member in enumerate(found):
                members.append(_Word(", " if number else ""))
                if isinstance(found, dict):
                    members += [str(member), _Word(": "), found[member]]
                else:
                    members.append(member)
            left += [_Word("}" if isinstance(found, dict) else "]"), *reversed(members)]
        elif isinstance(found, int) and not isinstance(found, bool):
            yield _digits_of(found)
        else:
            yield json.dumps(found, ensure_ascii=ensure_ascii)


def _digits_of(number: int) -> str:
    if number < 0:
        return f"-{_digits_of(-number)}"
    # Three bits are less than a digit.
    if number.bit_length() < 3 * _DIGITS:
        return str(number)
    half = number.bit_length() * 3 // 20
    high, low = divmod(number, 10**half)
    return _digits_of(high) + _digits_of(low).rjust(half, "0")


def depth_of(text: str) -> int:
    """Return how many brackets are open at once in a JSON text, at most."""
    depth = deepest = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        if match[0] in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif match[0] in "]}":
            depth -= 1
    return deepest


def on_a_fresh_stack(work: Callable[[Any], T], argument: Any) -> T:
    """Call a function with all of the recursion limit to itself, wherever the caller is."""
    answers: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(work(argument))
        except Exception as exc:  # noqa: BLE001  (raised again, where it is asked for)
            errors.append(exc)

    from threading import Thread

    thread = Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return answers[0]
