"""Turn items into the text that is stored, and stored rows into items and records.

A text that is no JSON object is corrupt: it decodes to None, never to an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from json.encoder import c_make_encoder, encode_basestring, encode_basestring_ascii  # type: ignore[attr-defined]
from json.scanner import make_scanner
from typing import Any, NamedTuple

from ._odd_json import decode_odd, depth_of, on_a_fresh_stack
from ._quick_json import quick_reader, suits
from .errors import InvalidItemError

Item = dict[str, Any]

# A row's id and its text.
Row = tuple[int, str]
# Shown the newest rows, says whether they are those.
RowsCheck = Callable[[list[Row]], bool]
# The same with created_at between them, as text or, where it is stored so, as a number.
RecordRow = tuple[int, Any, str]

# A row of any session, with the session's id before it; no text where that is not asked for.
SearchRow = tuple[str, int, Any, str | None]

# Larger than any id: read from the newest row on.
MAX_ID = 2**63 - 1
# Below any id: read from the oldest row on. A row of another program's may have an id below 1, which none of ours gets.
BEFORE_ALL = -(2**63)


class _Expired(str):
    __slots__ = ()


# The very text of a row that is too old to be given: it is there, and has its id, and is not corrupt either.
EXPIRED = _Expired()

# The days of SQLite's times (sqlite.org/lang_datefunc.html): that of EPOCH, and those of the years 0 and 9999.
_EPOCH_DAY, _FIRST_DAY, _LAST_DAY = 2440587.5, 1721059.5, 5373484.5
EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (UTC, without saying so, as databases keep it)

# The greatest depth of an item: that of what Python 3.11 reads at the top of a program.
MAX_DEPTH = 900
# Below this many brackets no text comes near it.
_FLAT = 200

_decoder = json.JSONDecoder()
# The decoder without its search for white space around a value, which our own texts do not have.
_scan = make_scanner(_decoder)  # type: ignore[arg-type]  # any object with the decoder's attributes will do

_slow_encoders = {
    ensure_ascii: json.JSONEncoder(ensure_ascii=ensure_ascii, allow_nan=False, separators=(",", ":"))
    for ensure_ascii in (True, False)
}


def _make_encoder(*, ensure_ascii: bool) -> Callable[[Any], str]:
    """Return what JSONEncoder.encode does; that makes the C encoder anew for each item, this once for a batch."""
    slow = _slow_encoders[ensure_ascii]
    if c_make_encoder is None:  # not CPython
        return slow.encode
    escape = encode_basestring_ascii if ensure_ascii else encode_basestring
    # The dict notes what is being encoded: without it a circular item could exhaust the C stack.
    chunks = c_make_encoder({}, slow.default, escape, None, ":", ",", False, False, False)
    return lambda item: "".join(chunks(item, 0))


def encode_items(items: Iterable[Mapping[str, Any]], *, ensure_ascii: bool) -> list[str]:
    """Serialise every item, or raise InvalidItemError that names the first bad one."""
    if isinstance(items, (str, bytes, bytearray, Mapping)) or not isinstance(items, Iterable):
        raise InvalidItemError(
            f"items must be an iterable of dicts, not {type(items).__name__}; wrap a single item in a list"
        )
    encode = _make_encoder(ensure_ascii=ensure_ascii)
    texts = []
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise InvalidItemError(f"item {index} is a {type(item).__name__}, not a JSON object; pass a dict")
        try:
            try:
                text = encode(item)
            except RecursionError:
                # The caller's own depth must not decide what can be stored.
                text = on_a_fresh_stack(_make_encoder(ensure_ascii=ensure_ascii), item)
                # The one that was interrupted takes what it has noted for circular.
                encode = _make_encoder(ensure_ascii=ensure_ascii)
            if not ensure_ascii:
                text.encode()
        except (TypeError, ValueError, RecursionError) as exc:
            raise InvalidItemError(
                f"item {index} is not JSON ({_reason(exc)}); pass only what the json module can write"
            ) from None
        if text.count("{") + text.count("[") > _FLAT and depth_of(text) > MAX_DEPTH:
            raise InvalidItemError(f"item {index} is nested deeper than {MAX_DEPTH} levels; flatten it")
        texts.append(text)
    return texts


def _reason(exc: Exception) -> str:
    """Say why in words that quote nothing of the item."""
    if isinstance(exc, UnicodeEncodeError):
        return "a lone surrogate cannot be stored with ensure_ascii=False"
    if isinstance(exc, RecursionError):
        return "nested too deeply"
    # json's messages name types; only the one on floats ends with the value.
    return str(exc).partition(": ")[0] or type(exc).__name__


def decode_item(text: object) -> Item | None:
    """Return the JSON object that text holds; None when it is corrupt."""
    if _read_quickly is not None and suits(text):
        try:
            return _read_quickly(text)
        except (TypeError, ValueError, RecursionError):
            pass
    try:
        item, end = _scan(text, 0)  # type: ignore[arg-type]
        if end != len(text):  # type: ignore[arg-type]
            item = decode_odd(text)
    except (StopIteration, TypeError, ValueError, RecursionError):
        item = decode_odd(text)
    return item if isinstance(item, dict) else None


_read_quickly: Callable[[str], Item | None] | None = None


@cache
def find_quick_reader() -> None:
    """Look for the quick reader once, before anything is read.

    A child of a process that forks while another thread imports something waits for that without end.
    """
    global _read_quickly  # noqa: PLW0603  (there is one interpreter)
    _read_quickly = quick_reader()


class MarkedText(str):
    """A row's text, and what its seal says: "sealed", "unsealed", or "broken"."""

    __slots__ = ("seal",)

    seal: str

    @classmethod
    def of(cls, text: str, seal: str) -> MarkedText:
        marked = cls(text)
        marked.seal = seal
        return marked


def marked_as(stored: str, text: str) -> str:
    """Return what a stored text holds with what is said of its seal, if anything is."""
    return MarkedText.of(text, stored.seal) if isinstance(stored, MarkedText) and text is not EXPIRED else text


class Record(NamedTuple):
    """One row of a conversation.

    created_at is the database's own time, without a time zone (UTC on SQLite, in memory
    and where the time was stored with a zone, elsewhere that of the server's session),
    and None when it cannot be read or is none that Python has, such as infinity.
    item is None when the row is corrupt: text, which is what the row holds, is then no
    JSON object.
    """

    id: int
    created_at: datetime | None
    item: Item | None
    text: str

    @property
    def seal(self) -> str | None:
        """What the row's seal says, with an integrity_key: "sealed", "unsealed", or "broken" where that is reported."""
        return self.text.seal if isinstance(self.text, MarkedText) else None


def make_record(row: RecordRow) -> Record:
    """Decode a row; nothing that it holds is an error."""
    row_id, created_at, stored = row
    text = stored if type(stored) is str else stored_text(stored)
    # Record(..) takes twice as long.
    return tuple.__new__(Record, (row_id, read_time(created_at), decode_item(stored), text))


def stored_text(stored: object) -> str:
    """Return what a row holds as text: a column of bytes as what reads JSON takes them for, and no text as escapes."""
    if not isinstance(stored, bytes):
        return stored if isinstance(stored, MarkedText) else str(stored)
    try:
        return stored.decode(json.detect_encoding(stored), "surrogatepass")
    except UnicodeDecodeError:
        return stored.decode("utf-8", "backslashreplace")


def read_time(stored: object) -> datetime | None:
    """Read a time in ISO 8601, in Unix seconds as the npm package writes it, or as SQLite's number of days."""
    text = str(stored)
    try:
        # Most are a date, which is told by its first hyphen.
        if text[4:5] != "-" and text.removeprefix("-").replace(".", "", 1).isdigit():
            number = float(text)
            if "." in text and _FIRST_DAY <= number < _LAST_DAY:
                return EPOCH + timedelta(days=number - _EPOCH_DAY)
            return EPOCH + timedelta(seconds=number)
        time = datetime.fromisoformat(text)
        return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None


def iso_text(stored: object) -> str:
    """Write a time as it is stored in ISO 8601, as load() takes it; with its zone, where it has one; none as ''."""
    text = "" if stored is None else str(stored)
    if not text.removeprefix("-").replace(".", "", 1).isdigit():
        return text
    moment = read_time(text)
    return "" if moment is None else moment.isoformat(sep=" ")
