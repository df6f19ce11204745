"""How values get into statements and out of answers, without what an application has told sqlite3 to make of them."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable
from typing import Any

from sessions._dialects.driver import Parameters
from sessions._reentry import suppress_own
from sessions.errors import noncharacter_error

# Where an adapter for a type of our parameters would be.
_ADAPTED = tuple((kind, sqlite3.PrepareProtocol) for kind in (str, int, float, bool, type(None)))


class _Plain:
    """A value in a type that nobody has an adapter for: sqlite3 then asks the value itself what to bind."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        # None would mean that it does not know; SQLite takes NaN for NULL.
        self.value = math.nan if value is None else value

    def __conform__(self, protocol: object) -> Any:
        return self.value


def unadapted(rows: Iterable[Parameters]) -> Iterable[Parameters]:
    """Return parameters in a form that no adapter is asked about."""
    if sqlite3.adapters.keys().isdisjoint(_ADAPTED):
        return rows
    return ({name: _Plain(value) for name, value in row.items()} for row in rows)


def run(
    connection: sqlite3.Connection, statement: str, each: Iterable[Parameters] = ({},)
) -> tuple[list[Any], int, int | None]:
    """Execute a statement with each of these parameters; return the last rows, how many it changed, and the newest id.

    Every statement goes through here: with our own kind of cursor, whatever factories an application's connection has,
    and none that outlives an error.
    """
    # By the method: the connection lets go of its cursors that are gone where it makes one, and there alone.
    cursor = sqlite3.Connection.cursor(connection, sqlite3.Cursor)
    cursor.row_factory = None
    rows: list[Any] = []
    changed = 0
    try:
        # executemany() tells no id, and with PRAGMA count_changes not how many rows.
        for parameters in each:
            if parameters and not _is_ascii(parameters):
                refuse_noncharacters(connection, parameters.values())
            rows = cursor.execute(statement, parameters).fetchall()
            changed += cursor.rowcount
    except BaseException:
        # The error keeps its frames, and they the cursor. As long as a cursor has a statement (Python 3.11) close()
        # leaves the file open, and whoever forgets the error copies an old log into whatever has its name by then.
        with suppress_own(sqlite3.Error):
            cursor.close()
        raise
    return rows, changed, cursor.lastrowid


def _is_ascii(parameters: Parameters) -> bool:
    try:
        return bool(parameters.get("session_id", "").isascii() and parameters.get("message_data", "").isascii())
    except AttributeError:
        return False  # they are in a type of ours


def refuse_noncharacters(connection: sqlite3.Connection, texts: Iterable[Any]) -> None:
    """Raise DatabaseError where a file in UTF-16 would keep, or find, U+FFFD in place of U+FFFE and U+FFFF."""
    values = (text.value if isinstance(text, _Plain) else text for text in texts)
    if not any(isinstance(text, str) and ("\ufffe" in text or "\uffff" in text) for text in values):
        return
    [(encoding,)] = run(connection, "PRAGMA encoding")[0]
    if encoding not in ("UTF-8", b"UTF-8"):
        raise noncharacter_error()


def fetch(
    connection: sqlite3.Connection, statement: str, each: Iterable[Parameters], text: Callable[[bytes], str | bytes]
) -> list[Any]:
    """Execute a statement and return its rows, with our own kind of text."""
    factory = connection.text_factory
    if factory is text or factory is bytes:
        # Left alone: another thread of the application may be reading.
        rows = run(connection, statement, each)[0]
        return rows if factory is text else [tuple(map(_decoded, row)) for row in rows]
    connection.text_factory = text
    try:
        return run(connection, statement, each)[0]
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
