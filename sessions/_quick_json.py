"""Read JSON with msgspec, where it is installed and the quicker one: in half of the json module's time.

What it reads it reads as the json module does. What it refuses may be JSON all the same: infinite
numbers, lone surrogates, and whatever lies deeper than items do, so that no stack is too short for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeGuard

from ._reentry import raised_by_a_handler

# Below an item. Each one doubles the time that it takes to make the reader.
_LEVELS = 8

# What another version, or another module of that name, could read otherwise.
_PROOF = (
    '{"b": [18446744073709551616, -9223372036854775809, -0, -0.0, 1E2, 0.1, 5e-324, 9007199254740993.0], "a": '
    '{"": "\\ud83d\\ude00\\u0000\\/\u00fc\u6c34\U0001f600", "\\u0061": [[], {}, true, false, null]}, "b": [[[1]]]}'
)


# Escapes are slow to read by msgspec: in a longer text a hundred characters are looked at, which hold 16 at most.
_LONG = 2000
_MANY = 10


def suits(text: object) -> TypeGuard[str]:
    """Tell whether msgspec is the quicker one for a text; other letters than ASCII it has to convert first."""
    return isinstance(text, str) and text.isascii() and (len(text) < _LONG or text.count("\\u", 1000, 1100) < _MANY)


def quick_reader() -> Callable[[Any], dict[str, Any]] | None:
    """Return what reads an object, or raises ValueError, TypeError or RecursionError; None where it cannot be had."""
    try:
        from msgspec import DecodeError
        from msgspec.json import Decoder

        value: Any = None | bool | int | float | str
        for _ in range(_LEVELS):
            value = None | bool | int | float | str | list[value] | dict[str, value]
        read = Decoder(dict[str, value]).decode
        # Before 0.21 the error was another one.
        is_exact = issubclass(DecodeError, ValueError) and repr(read(_PROOF)) == repr(json.loads(_PROOF))
        return read if is_exact else None
    except Exception as exc:  # whatever is wrong with it, histories are read without it
        if raised_by_a_handler(exc):
            raise
        return None
