"""How values get into a statement and out of an answer, without the driver's conversions.

The rule: on a connection of the application a text travels in ASCII letters and digits. Neither
the character sets of its two ends nor its sql_mode, by which they read backslash and quote, then
matters, and no converter of its own is asked.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

from pymysql.constants import FIELD_TYPE

# Writes a text as SQL.
Quote = Callable[[str], str]


def literal(value: object, quote: Quote) -> str:
    """Write a value as SQL."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, int):
        return f"{value:d}"
    if isinstance(value, list):
        return f"({','.join(literal(part, quote) for part in value)})"
    return "NULL" if value is None else repr(value)


def quote_plain(text: str) -> str:
    """Write a text as it is, where a backslash begins an escape and the connection is in UTF-8: on our own connections.

    What PyMySQL escapes beyond these two is for the eyes; its table is asked for each character.
    """
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def quote_short(text: str) -> str:
    """Write a text as a constant, for which an index can be used."""
    return f"_utf8mb4 X'{text.encode().hex()}'"


def quote_long(text: str) -> str:
    """Write a text in a third more bytes, where quote_short() would take twice as many."""
    return f"CONVERT(FROM_BASE64(_ascii'{b64encode(text.encode()).decode('ascii')}') USING utf8mb4)"


def integer(data: Any) -> int:
    """Read a whole number."""
    try:
        return int(data)
    except ValueError:
        # MariaDB sends numbers, too, in the character set of the results: in ucs2 digits have NULs between them.
        return int(data.replace(b"\0", b""))


def _text(data: bytes) -> str | bytes:
    # A BLOB may hold a text in UTF-16 or UTF-32: what reads JSON knows it by its NULs.
    if b"\0" in data[:2]:
        return data
    try:
        # MariaDB keeps lone surrogates, and a history with one is to be read.
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data


def _digits(data: bytes) -> str | bytes:
    # As integer(). Times not as a datetime: PyMySQL's regular expression takes many times as long as
    # datetime.fromisoformat().
    return _text(data.replace(b"\0", b""))


def _decimal(data: bytes) -> int | str | bytes:
    # MariaDB makes one of an unsigned id that stands in a UNION.
    digits = data.replace(b"\0", b"")
    return int(digits) if digits.isdigit() else _text(digits)


DECODERS: Mapping[int, Callable[[bytes], Any]] = {
    **dict.fromkeys(range(256), _text),
    **dict.fromkeys((FIELD_TYPE.TIMESTAMP, FIELD_TYPE.DATETIME, FIELD_TYPE.DATE), _digits),
    **dict.fromkeys((FIELD_TYPE.NEWDECIMAL, FIELD_TYPE.DECIMAL), _decimal),
    **dict.fromkeys((FIELD_TYPE.DOUBLE, FIELD_TYPE.FLOAT), _digits),
    **dict.fromkeys(
        (FIELD_TYPE.TINY, FIELD_TYPE.SHORT, FIELD_TYPE.INT24, FIELD_TYPE.LONG, FIELD_TYPE.LONGLONG), integer
    ),
}
