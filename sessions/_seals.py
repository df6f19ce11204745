"""Seals: a keyed MAC of each row and one of each conversation's end, and what a history is by them.

HMAC-SHA-256 (RFC 2104, FIPS 198-1), cut to 128 bits as in RFC 4868. A row's seal is of its conversation, of the seal of
the sealed row before it, of its time and of its text, so each one stands for all that is before it. It is written in
128 spaces and tabs before the closing brace, white space in JSON (RFC 8259, section 2). The end seal stands in a table
of its own: it says which row is the newest, and how many there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hmac import compare_digest, digest
from time import time_ns
from typing import NamedTuple

from ._items import RecordRow, read_time, stored_text
from .errors import SealBrokenError

_BYTES = 16
UNSEALED = "it was written without the key"
OTHER_HISTORY = "it does not go on from that seal: it is an earlier history, or was changed since"
EARLIER_HISTORY = "it is an earlier history than the one that was being read"
NOT_OURS = "its end seal was not made with this key"
OTHER_KEY = "that seal is none of it with the keys that were given"

# What stands before the first row.
GENESIS = bytes(_BYTES)

_ROW = b"agent-sql-sessions row seal 1\0"
_END = b"agent-sql-sessions end seal 1\0"
_VERSION = "1"

_WHITE = str.maketrans("01", " \t")
_BITS = str.maketrans(" \t", "01")
_SEAL_CHARACTERS = 8 * _BYTES

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  (UTC, without saying so, as databases keep it)
_LATEST = datetime(9999, 12, 31)  # noqa: DTZ001
_NO_TIME = -(2**63)


class End(NamedTuple):
    """The end of a conversation: how often it was written, how many sealed rows it has, and the newest one's seal."""

    generation: int
    rows: int
    seal: bytes
    text: str  # as it is stored


class Sealed(NamedTuple):
    """A row as it was read: its text without the seal, and the seal, if it has one."""

    id: int
    created_at: object
    text: str
    seal: bytes | None
    stored: object


def without_seal(row: RecordRow) -> Sealed:
    """Take the seal off a row."""
    row_id, created_at, stored = row
    text, seal = split(stored)
    return Sealed(row_id, created_at, text, seal, stored)


def split(stored: object) -> tuple[str, bytes | None]:
    """Return a text without its seal, and the seal, None where it has none."""
    text = stored_text(stored)
    end = len(text) - text.endswith("}")
    start = end - _SEAL_CHARACTERS
    white = text[max(start, 0) : end]
    if len(white) < _SEAL_CHARACTERS or white.strip(" \t"):
        return text, None
    return text[:start] + text[end:], int(white.translate(_BITS), 2).to_bytes(_BYTES, "big")


class Seals:
    """What the keys of an application say of rows; the first key is the one that writes."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._keys = tuple(keys)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self._keys)} keys>"

    def of_the_first_key(self) -> Seals:
        """Return what the key that writes says alone."""
        return type(self)(self._keys[:1])

    def seal(self, session_id: str, before: bytes, created_at: object, text: str) -> bytes:
        """Return the seal of a row behind the one whose seal is before."""
        return digest(self._keys[0], _row(session_id, before, created_at, text), "sha256")[:_BYTES]

    def is_row(self, session_id: str, before: bytes, row: Sealed) -> bool:
        """Tell whether a row has been sealed by one of the keys, as it is and where it is."""
        return row.seal is not None and self._is(row.seal, _row(session_id, before, row.created_at, row.text))

    def chain(self, session_id: str, before: bytes, rows: Iterable[tuple[object, str]]) -> tuple[list[str], bytes]:
        """Seal texts with their times in order; return them with their seals, and the last seal."""
        texts = []
        for created_at, text in rows:
            before = self.seal(session_id, before, created_at, text)
            texts.append(_with_seal(text, before))
        return texts, before

    def new_end(self, session_id: str, old: End | None, count: int, seal: bytes) -> End:
        """Make the end seal that follows one."""
        # It begins with the moment, so that one that was cleared and made anew is later than what it was.
        generation = old.generation + 1 if old else time_ns() // 1000
        return self._made_end(session_id, generation, count, seal)

    def _made_end(self, session_id: str, generation: int, count: int, seal: bytes) -> End:
        parts = [_VERSION, str(generation), str(count), seal.hex(), os.urandom(8).hex()]
        mac = digest(self._keys[0], _end(session_id, parts), "sha256")[:_BYTES]
        return End(generation, count, seal, ".".join([*parts, mac.hex()]))

    def no_end(self, session_id: str) -> End:
        """Make what stands for a conversation without one: it was never written."""
        return self._made_end(session_id, 0, 0, GENESIS)

    def read_end(self, session_id: str, text: str) -> End | None:
        """Read an end seal; None when none of the keys has made it for this conversation."""
        parts = text.split(".")
        try:
            version, generation, count, seal, _, mac = parts
            end = End(int(generation), int(count), bytes.fromhex(seal), text)
            is_ours = self._is(bytes.fromhex(mac), _end(session_id, parts[:-1]))
        except ValueError:
            return None
        return end if is_ours and version == _VERSION and len(end.seal) == _BYTES else None

    def _is(self, seal: bytes, message: bytes) -> bool:
        return any(compare_digest(seal, digest(key, message, "sha256")[:_BYTES]) for key in self._keys)


def whole_second(created_at: object, least: datetime | None) -> str:
    """Write a time without its fraction, which not every column keeps, and not before another; now where it is none."""
    moment = (read_time(created_at) or datetime.now(UTC).replace(tzinfo=None)).replace(microsecond=0)
    if least is not None and moment < least < _LATEST:
        moment = least.replace(microsecond=0) + timedelta(seconds=bool(least.microsecond))
    return moment.isoformat(sep=" ")


_SINCE = (
    "where its keys were changed since, or items popped, replaced or cleared, look at it without since, and keep the "
    "seal that it has now; else compare it with a backup"
)
NO_END = "its end is missing"
_KEY_IS_RIGHT = "where the key is right, compare it with a backup, or"
_REMEDIES = {
    UNSEALED: "unsealed='accept' reads it, and `agent-sessions rekey --adopt` seals it",
    OTHER_HISTORY: _SINCE,
    OTHER_KEY: _SINCE,
    # Nor is it adopted as it is, or a mistyped key would be put in the place of the right one.
    NOT_OURS: f"check the key; another process may have a newer one; {_KEY_IS_RIGHT} give its seals up: "
    "delete its row of their table, then `agent-sessions rekey --adopt`",
}


def _remedy(why: str) -> str:
    remedy = f"check the key; {_KEY_IS_RIGHT} take it as it is now with `agent-sessions rekey --adopt`"
    if why == NO_END:
        remedy += "; where it was pruned without the key, clear_session() lets it begin anew"
    return _REMEDIES.get(why, remedy)


def broken_error(session_id: str, record_id: int | None, why: str) -> SealBrokenError:
    """Say where a history is not as it was sealed, and what can be done."""
    place = f"session {session_id!r}" if record_id is None else f"session {session_id!r}, record {record_id}"
    return SealBrokenError(f"{place}: {why}; {_remedy(why)}", session_id, record_id)


def _with_seal(text: str, seal: bytes) -> str:
    white = f"{int.from_bytes(seal, 'big'):0{_SEAL_CHARACTERS}b}".translate(_WHITE)
    end = len(text) - text.endswith("}")
    return text[:end] + white + text[end:]


def _row(session_id: str, before: bytes, created_at: object, text: str) -> bytes:
    """Write what a row is as bytes, no two as the same: all before the text has a length that is known."""
    return _place(session_id) + _time(created_at) + before + text.encode("utf-8", "surrogatepass")


@lru_cache(maxsize=100)
def _place(session_id: str) -> bytes:
    name = session_id.encode()
    return _ROW + len(name).to_bytes(2, "big") + name


# Those of a batch are one.
@lru_cache(maxsize=100)
def _time(created_at: object) -> bytes:
    moment = read_time(created_at)
    microseconds = _NO_TIME if moment is None else (moment - _EPOCH) // timedelta(microseconds=1)
    return microseconds.to_bytes(8, "big", signed=True)


def _end(session_id: str, parts: Sequence[str]) -> bytes:
    return _END + session_id.encode() + b"\0" + ".".join(parts).encode()
