"""How values get into statements and out of answers, without what an application has told sqlite3 to make of them."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

from sessions._dialects.dialect import Parameters

# Where an adapter for a type of our parameters would be.
_ADAPTED = tuple((kind, sqlite3.PrepareProtocol) for kind in (str, int, float, bool, type(None)))


class _Plain:
    """A value in a type that nobody has an adapter for: sqlite3 then asks the value itself what to bind."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        # None would mean that it does not know; SQLite takes NaN for NULL.
        self._value = math.nan if value is None else value

    def __conform__(self, protocol: object) -> Any:
        return self._value


def unadapted(rows: Iterable[Parameters]) -> Iterable[Parameters]:
    """Return parameters in a form that no adapter is asked about."""
    if sqlite3.adapters.keys().isdisjoint(_ADAPTED):
        return rows
    return ({name: _Plain(value) for name, value in row.items()} for row in rows)


def fetch(
    connection: sqlite3.Connection, statement: str, parameters: Parameters, text: Callable[[bytes], str | bytes]
) -> list[Any]:
    """Execute with our own kind of cursor and of text, whatever factories an application's connection has."""
    cursor = sqlite3.Cursor(connection)
    factory = connection.text_factory
    if factory is text or factory is bytes:
        # Left alone: another thread of the application may be reading.
        rows = cursor.execute(statement, parameters).fetchall()
        return rows if factory is text else [tuple(map(_decoded, row)) for row in rows]
    connection.text_factory = text
    try:
        return cursor.execute(statement, parameters).fetchall()
    finally:
        connection.text_factory = factory


def decode(stored: bytes) -> str | bytes:
    """Decode a text; what is not UTF-8 stays as it is."""
    try:
        return stored.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return stored


def _decoded(value: Any) -> Any:
    # What reads JSON knows a BLOB in UTF-16 or UTF-32 by its NULs.
    return decode(value) if isinstance(value, bytes) and b"\0" not in value[:2] else value
